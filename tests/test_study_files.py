"""The files of studies: what is there is not replaced by less."""

from __future__ import annotations

import json

import pytest

from maml_tf.errors import ConfigError
from maml_tf.verification import study_files

RESULT = {'name': 'ways', 'datasource': 'omniglot', 'length': '1,500 iterations per run',
          'seed': 0, 'runs': []}


@pytest.fixture
def results(tmp_path, capsys):
  study_files.write(RESULT, str(tmp_path))
  assert capsys.readouterr().out == f'Written: {study_files.path_of(RESULT, str(tmp_path))}\n'
  return str(tmp_path)


def test_what_is_written_is_read(results):
  assert study_files.read_all(results) == [RESULT]
  with open(study_files.path_of(RESULT, results), encoding='utf-8') as file:
    assert json.load(file) == RESULT


def test_a_damaged_file_is_one_sentence(results):
  with open(study_files.path_of(RESULT, results), 'w', encoding='utf-8') as file:
    file.write('{"name": ')
  with pytest.raises(ConfigError, match='omniglot_ways.json cannot be read as JSON'):
    study_files.read_all(results)


@pytest.mark.parametrize('length, seed', [(1500, 0), (60000, 0)])
def test_the_same_or_more_is_welcome(length, seed, results):
  study_files.require_not_less('ways', 'omniglot', length, seed, results)


@pytest.mark.parametrize('length, seed', [(20, 0), (1499.9, 0), (1500, 1), (60000, 1)])
def test_less_and_another_seed_are_refused(length, seed, results):
  with pytest.raises(ConfigError, match='is of 1,500 iterations per run and seed 0, and this'):
    study_files.require_not_less('ways', 'omniglot', length, seed, results)
  study_files.require_not_less('ways', 'sinusoid', length, seed, results)
  study_files.require_not_less('shots', 'omniglot', length, seed, results)
