"""The runs that partial results keep: whole at any moment, and read by this version."""

from __future__ import annotations

import glob
import json
import os
from pathlib import Path

import pytest
import tensorflow as tf

from maml_tf import experiment
from maml_tf.rl.errors import MissingLibrary
from maml_tf.training import phases
from maml_tf.training.checkpoint_files import CheckpointFiles
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.run_folder import stored_config
from maml_tf.verification import kept_runs, runs, spans

ROOT = Path(__file__).resolve().parent.parent
class Killed(BaseException):
  """Where the process would have been killed."""


@pytest.fixture
def partial(tmp_path):
  """(A function that keeps the run after so many iterations, where it is kept)."""
  kept = tmp_path / 'seed0.run'

  def keep(iteration):
    folder = tmp_path / f'run{iteration}'
    CheckpointFiles(str(folder), 1).write(tf.train.Checkpoint(value=tf.Variable(1.0)),
                                          iteration)
    kept_runs.keep(str(folder), str(kept))
  return keep, kept


def test_a_kill_while_a_kept_run_is_replaced_loses_neither(partial, monkeypatch):
  keep, kept = partial
  keep(100)
  original, calls = kept_runs.os.replace, []

  def replace(source, target):
    calls.append(target)
    if target == str(kept):
      raise Killed
    original(source, target)
  with monkeypatch.context() as patch:
    patch.setattr(kept_runs.os, 'replace', replace)
    with pytest.raises(Killed):
      keep(200)
  kept_runs.recover(str(kept))
  assert CheckpointFiles(str(kept), 1).last_written == str(kept / 'model-100')
  keep(200)
  assert CheckpointFiles(str(kept), 1).last_written == str(kept / 'model-200')
  assert sorted(path.name for path in kept.parent.glob('seed*')) == ['seed0.run']


def test_a_kill_before_the_replaced_one_is_removed_keeps_the_new_one(partial):
  keep, kept = partial
  keep(100)
  kept.rename(f'{kept}.replaced')
  keep(200)
  Path(f'{kept}.replaced').mkdir()
  kept_runs.recover(str(kept))
  assert CheckpointFiles(str(kept), 1).last_written == str(kept / 'model-200')
  assert not Path(f'{kept}.replaced').exists()


def test_what_is_forgotten_is_gone_altogether(partial):
  keep, kept = partial
  keep(100)
  Path(f'{kept}.replaced').mkdir()
  kept_runs.forget(str(kept))
  kept_runs.recover(str(kept))
  assert list(kept.parent.glob('seed*')) == []


KEPT = sorted(glob.glob(f'{ROOT}/results/*/seed*.run'))


@pytest.mark.parametrize('kept', KEPT, ids=lambda path: path.split(os.sep)[-2])
def test_the_kept_runs_of_the_repository_are_restored(kept, tmp_path):
  """Those that another version wrote, too: with a second optimizer, without fingerprint."""
  record = Path(kept.replace('.run', '.json'))   # which a run has that was tested
  fields = json.loads(record.read_text()) if record.exists() else None
  version = (fields['versions']['tensorflow'] if fields else spans.read(kept)[-1].tensorflow)
  if runs._has_keras_3(version) != runs._has_keras_3(tf.__version__):
    pytest.skip('of the other Keras')
  config = stored_config(kept)
  try:
    model = experiment.build_model(config)
  except MissingLibrary as error:
    pytest.skip(str(error))
  _, saved = phases.compile_phases(config, model)
  folder = str(tmp_path / 'run')
  trained = kept_runs.go_on_with(kept, folder, config)
  assert trained >= (fields['iterations']['trained'] if fields else 1)
  checkpoints = Checkpoints(
      folder, lambda: phases.saved_of_pretraining(config, model)[1], **saved)
  assert checkpoints.restore_latest() == trained
  meta_trained = max(0, trained - config.training.pretrain_iterations)
  assert int(model.optimizer.iterations.numpy()) == meta_trained
