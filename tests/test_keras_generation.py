"""A run is not gone on with by a Keras whose optimizers keep other things."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from maml_tf import experiment
from maml_tf.errors import CheckpointError
from maml_tf.keras_models.functional_call import KERAS3
from maml_tf.training import (
  checkpoint_for_test,
  checkpoints,
  keras_generation,
  phases,
  run_folder,
)

HERE = 3 if KERAS3 else 2


@pytest.fixture
def run(small_config):
  """(configuration, folder, checkpoint) of a run that has stopped."""
  config = small_config(metatrain_iterations=7)
  folder = run_folder.prepare_folder(config)
  _, saved = phases.compile_phases(config, experiment.build_model(config))
  return config, folder, checkpoints.Checkpoints(folder, **saved).save(3)


def test_a_checkpoint_tells_which_keras_wrote_it(run):
  _, _, path = run
  assert keras_generation.written_by(path) == HERE


@pytest.mark.parametrize('children, generation', [
    (['_variables', '_index_dict', '_momentums'], 2),
    (['_variables', '_trainable_variables', '_trainable_variables_indices'], 3),
    (['weights'], None)])
def test_both_are_known_by_what_their_optimizers_hold(children, generation, tmp_path):
  """The names that TensorFlow 2.15.1 and 2.21.0 have written."""
  optimizer = tf.train.Checkpoint(**{name: tf.Variable(0.0) for name in children})
  path = tf.train.Checkpoint(meta_optimizer=optimizer).write(str(tmp_path / 'model-1'))
  assert keras_generation.written_by(path) == generation


@pytest.mark.parametrize('content', [b'', b'no checkpoint'])
def test_what_cannot_be_read_is_left_to_those_who_read_it(content, tmp_path):
  (tmp_path / 'model-1.index').write_bytes(content)
  assert keras_generation.written_by(str(tmp_path / 'model-1')) is None


def test_another_keras_is_told_what_to_do_and_changes_nothing(run, small_config, monkeypatch):
  config, folder, path = run
  before = Path(folder, 'config.json').read_text()
  monkeypatch.setattr(keras_generation, 'KERAS3', not KERAS3)
  longer = small_config(metatrain_iterations=9)
  with pytest.raises(CheckpointError) as error:
    run_folder.prepare_folder(longer)
  message = str(error.value)
  assert f'trained by Keras {HERE} (TensorFlow 2.1' in message and '\n' not in message
  assert f'Keras {5 - HERE} (TensorFlow {tf.__version__})' in message
  assert '--train=False' in message
  assert Path(folder, 'config.json').read_text() == before
  model = experiment.build_model(config)   # a test needs no optimizer
  assert checkpoint_for_test.restore_for_test(
      folder, config, parameters=model.meta_parameters) == path
