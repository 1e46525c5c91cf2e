"""A run belongs to the data that it was trained on, wherever these lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from maml_tf import application, experiment
from maml_tf.config import ConfigError
from maml_tf.errors import CheckpointError
from maml_tf.training import checkpoint_for_test, checkpoints, run_folder
from maml_tf.training.run_data import DATA_FILE, note_data, require_same_data


@pytest.fixture
def at(small_config):
  """A function: the configuration of a run on the data of a folder."""
  return lambda folder, **given: small_config('omniglot', data_dir=str(folder), **given)


@pytest.fixture
def sets(sample_data, tmp_path):
  """Folders: a prepared set, the same elsewhere, and one of which the test split alone is
  another."""
  first = Path(sample_data('omniglot'))
  moved = shutil.copytree(first, tmp_path / 'moved')
  other = shutil.copytree(first, tmp_path / 'other')
  manifest = json.loads((other / 'manifest.json').read_text())
  manifest['splits']['test']['sha256'] = 64 * 'a'
  (other / 'manifest.json').write_text(json.dumps(manifest))
  return first, moved, other


def begun(config) -> str:
  """A run that has a checkpoint, as far as its names tell."""
  folder = run_folder.prepare_folder(config)
  Path(folder, 'model-1.index').touch()
  return folder


def test_the_same_data_elsewhere_are_the_same(sets, at, capsys):
  first, moved, _ = sets
  folder = begun(at(first))
  assert set(json.loads(Path(folder, DATA_FILE).read_text())) == {'train', 'val', 'test'}
  assert run_folder.prepare_folder(at(moved)) == folder
  assert not capsys.readouterr().err


def test_other_data_are_refused_in_one_sentence(sets, at):
  """Where the test split alone differs, too: the weights may have seen its classes."""
  first, _, other = sets
  folder = begun(at(first))
  kept = Path(folder, DATA_FILE).read_text()
  with pytest.raises(ConfigError, match=r'other data .* \(SHA-256 of test \w{12} -> a{12}\)'
                     ) as error:
    run_folder.prepare_folder(at(other))
  for way_out in ('--data_dir', '--logdir', '--resume=False', DATA_FILE):
    assert way_out in str(error.value)
  assert Path(folder, DATA_FILE).read_text() == kept
  run_folder.prepare_folder(at(other, resume=False))


def test_a_test_on_other_data_is_refused(sets, at):
  first, moved, other = sets
  folder = run_folder.prepare_folder(at(first))
  model = experiment.build_model(at(first))
  checkpoints.Checkpoints(folder, parameters=model.meta_parameters).save(1)
  tested = dict(train=False, test_iter=1)
  assert application.load_for_test(at(moved, **tested), model, folder)[1] == 1
  with pytest.raises(ConfigError, match='holds a run on other data'):
    application.load_for_test(at(other, **tested), model, folder)


def test_of_a_run_of_an_earlier_version_it_is_said_that_nothing_is_known(sets, at, capsys):
  first, _, other = sets
  folder = begun(at(first))
  Path(folder, DATA_FILE).unlink()
  run_folder.prepare_folder(at(other))
  assert 'is not checked' in capsys.readouterr().err
  with pytest.raises(ConfigError, match='holds a run on other data'):   # from here on
    run_folder.prepare_folder(at(first))


def test_a_test_without_a_checkpoint_names_those_that_there_are(small_config):
  """One flag that differs is another folder (issue 57 of the TF1 code)."""
  begun(small_config(meta_batch_size=7))
  with pytest.raises(CheckpointError, match='no checkpoint to test .* beside it in cls_5.mbs_7'
                     ):
    checkpoint_for_test.restore_for_test(
        run_folder.experiment_folder(small_config()), small_config(train=False))


@pytest.mark.parametrize('given', [dict(), dict(test_iter=59000)])   # as TF1's commands do
def test_a_checkpoint_of_the_tf1_code_is_named(given, small_config):
  folder = run_folder.prepare_folder(small_config())
  for number in (9000, 59999):
    Path(folder, f'model{number}.index').touch()
  with pytest.raises(CheckpointError, match=r'TF1 code .*--legacy_checkpoint=.*/model59999'):
    checkpoint_for_test.restore_for_test(folder, small_config(train=False, **given))


def test_what_has_no_data_has_no_file(small_config, tmp_path):
  config = small_config()
  note_data(str(tmp_path), config)
  require_same_data(str(tmp_path), config)
  assert not (tmp_path / DATA_FILE).exists()


@pytest.mark.parametrize('content', ['[', '[]', '{"train": 1}'])
def test_a_damaged_file_is_named(content, sets, at, tmp_path):
  (tmp_path / DATA_FILE).write_text(content)
  with pytest.raises(CheckpointError, match=DATA_FILE):
    require_same_data(str(tmp_path), at(sets[0]))


def test_missing_data_are_for_others_to_report(at, tmp_path):
  config = at(tmp_path / 'nowhere')
  assert config.problem.data_hashes(config) == {}
  require_same_data(str(tmp_path), config)
