"""Golden files of MAML-TRPO: an independent implementation's float64 values.

The files' README defines every array.
"""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from rl_problems import golden_arrays

from maml_tf.legacy import compare as legacy_compare
from maml_tf.legacy import policies
from maml_tf.rl import golden

FOLDER = pathlib.Path(__file__).parents[2] / 'shared' / 'legacy' / 'rl_golden'
NAMES = ('point_1step', 'ant_ragged', 'steps3')


def failing(arrays, tasks_at_once=5):
  """(Names of the quantities that are not passed, all of them)."""
  quantities = policies.compare('', arrays, 'float64', tasks_at_once).quantities
  return [one.name for one in quantities if not one.passes(None)], quantities


def original(name):
  path = FOLDER / f'{name}.npz'
  if not path.exists():
    pytest.skip(f'{path.name} is not in ../shared/legacy/rl_golden')
  with np.load(path) as file:
    return {name: file[name] for name in file.files}


@pytest.mark.parametrize('name', NAMES)
def test_everything_in_an_original_file_is_reproduced(name):
  arrays = original(name)
  failed, compared = failing(arrays, tasks_at_once=4)
  assert failed == []
  stems = {golden.stem(name) for name in arrays}
  assert {quantity.name for quantity in compared} == stems - golden.INPUTS


@pytest.fixture(scope='module')
def small():
  """A small file of this form: what our own code computes, to be changed."""
  return golden_arrays()


def test_a_file_is_known_by_its_arrays(small):
  assert golden.is_golden(small) and not golden.is_golden({'flags', 'inputa'})


@pytest.mark.slow
def test_each_changed_array_is_found(small):
  whole = golden.computed(small)
  complete = {**small, **{name: np.asarray(value) for name, value in whole.items()}}
  assert failing(complete)[0] == []
  changed = {name: complete[name] + 1e-5 * np.ones_like(complete[name]) +
             (np.ones_like(complete[name]) if name in policies.COUNTS else 0)
             for name in whole}
  failed, compared = failing({**complete, **changed})
  assert failed == [quantity.name for quantity in compared]


def test_a_value_that_is_not_a_number_is_not_passed(small):
  assert failing({**small, 'meta_grad': np.full_like(small['theta'], np.nan)})[0]


def test_another_number_of_candidates_is_not_passed(small):
  failed, [compared] = failing({**small, 'tried_kl': np.zeros(9)})
  assert compared.error == np.inf and failed == ['tried_kl']


def test_a_surrogate_is_compared_without_those_of_its_tasks(small):
  failed, _ = failing({**small, 'surrogate_b': np.float64(9)})
  assert failed == ['surrogate_b']


@pytest.mark.parametrize('change, sentence', [
    ({'gamma': None}, 'it lacks gamma'),
    ({'alpha': np.zeros(2)}, r"\['alpha'\] must be single numbers"),
    ({'rewards_1': None}, 'rewards_1 must have the shape .*, and is missing'),
    ({'actions_0': np.zeros((2, 3))}, r'actions_0 must have the shape .*, and \[2, 3\]'),
    ({'tasks': np.float64(2)}, r"\['tasks'\] must be whole numbers"),
    ({'inner_steps': np.int64(0)}, r"\['inner_steps'\] must be whole numbers, 1"),
    ({'alpha': np.array('x')}, 'must be numbers'),
    ({'hidden': np.array([1 << 40, 1 << 40])}, 'theta must be [0-9,]{20,} numbers, as'),
    ({'hidden': np.array([0])}, 'hidden must be'),
    ({'theta_b': np.zeros(3)}, r'theta_b must be .* and is float64 \[3\]'),
    ({'lengths_0': 'too long'}, 'lengths_0 must be from 1 to horizon'),
    ({'rewards_0': 'text'}, 'rewards_0 must be numbers, and is <U')])
def test_a_file_that_cannot_be_used_is_named(small, change, sentence):
  made = {'too long': lambda lengths: lengths + 1000, 'text': lambda array: array.astype(str)}
  change = {name: made[value](small[name]) if isinstance(value, str) else value
            for name, value in change.items()}
  arrays = {name: value for name, value in {**small, **change}.items() if value is not None}
  with pytest.raises(golden.UnusableFile, match=sentence):
    golden.computed(arrays)


@pytest.mark.parametrize('name', NAMES)
def test_the_command_compares_them(name, capsys):
  """`python -m maml_tf.legacy.compare`, as with the TF1 code's files."""
  original(name)
  assert legacy_compare.main([str(FOLDER / f'{name}.npz')]) == legacy_compare.PASSED
  *table, line = capsys.readouterr().out.strip().splitlines()
  assert table[0].startswith(f'{FOLDER / name}.npz: MAML-TRPO, ')
  assert json.loads(line)['passed'] and 'not compared' not in '\n'.join(table)


def test_a_file_of_which_nothing_is_judged_is_not_passed(small, tmp_path, capsys):
  path = str(tmp_path / 'golden.npz')
  np.savez(path, **small, meta_grad=np.zeros_like(small['theta']))
  assert legacy_compare.main([path, '--dtype=float32']) == legacy_compare.UNUSABLE
  assert 'nothing to judge in float32, where returns, adv' in capsys.readouterr().err
  np.savez(path, **small)
  assert legacy_compare.main([path]) == legacy_compare.UNUSABLE
  out, error = capsys.readouterr()
  assert f'{path} is not a usable golden file: it has nothing to compare' in error
  assert out == '' and error.count('\n') == 1


@pytest.mark.slow
def test_the_command_names_what_fails(small, tmp_path, capsys):
  whole = {name: np.asarray(value) for name, value in golden.computed(small).items()}
  path = str(tmp_path / 'golden.npz')
  np.savez(path, **{**small, **whole, 'hvp': whole['hvp'] * (1 + 1e-6), 'more': np.zeros(2)})
  assert legacy_compare.main([path]) == legacy_compare.FAILED
  out = capsys.readouterr().out
  assert 'FAILED: largest error' in out and 'not compared, since unknown: more' in out
  assert legacy_compare.main([path, '--tolerance=1e-5']) == legacy_compare.PASSED
  assert legacy_compare.main([path, '--dtype=float32']) == legacy_compare.PASSED
  np.savez(path, **{name: value for name, value in small.items() if name != 'alpha'})
  assert legacy_compare.main([path]) == legacy_compare.UNUSABLE
  error = capsys.readouterr().err
  assert f'{path} is not a usable golden file: it lacks alpha.' in error
