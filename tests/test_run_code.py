"""A run belongs to the files of one's own that it was begun with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maml_tf import application, experiment, from_file
from maml_tf.config import ConfigError, resolve
from maml_tf.errors import CheckpointError
from maml_tf.prediction import trained
from maml_tf.training import checkpoints, run_folder
from maml_tf.training.run_code import CODE_FILE, note_code, require_same_code

NET = '''import tensorflow as tf

def build(input_shape, outputs):
  layers = tf.keras.layers
  return tf.keras.Sequential([layers.Input(input_shape), layers.Flatten(),
                              layers.Dense(outputs)])
'''
METHOD = '''from maml_tf import MAML

class Mine(MAML):
  pass
'''


@pytest.fixture
def own(tmp_path):
  """(the file of a net, the file of a method)."""
  for name, text in (('net', NET), ('method', METHOD)):
    (tmp_path / f'{name}.py').write_text(text)
  return tmp_path / 'net.py', tmp_path / 'method.py'


def begun(config) -> str:
  folder = run_folder.prepare_folder(config)
  Path(folder, 'model-1.index').touch()
  return folder


def edit(path: Path) -> None:
  path.write_text(path.read_text() + '# edited\n')


def test_a_resumed_run_must_find_the_file_as_it_was(own, small_config):
  config = small_config(model=f'{own[0]}:build')
  folder = begun(config)
  assert list(json.loads(Path(folder, CODE_FILE).read_text())) == ['model']
  assert run_folder.prepare_folder(config) == folder
  edit(own[0])
  with pytest.raises(ConfigError, match=r'--model=.*net\.py:build was edited since the run in '
                     r'.* \(SHA-256 \w{12} -> \w{12}\)') as error:
    run_folder.prepare_folder(config)
  for named in (folder, '--logdir', '--resume=False', CODE_FILE):
    assert named in str(error.value)
  # Taken back, it goes on.
  own[0].write_text(NET)
  assert run_folder.prepare_folder(config) == folder
  edit(own[0])
  run_folder.prepare_folder(small_config(model=f'{own[0]}:build', resume=False))
  assert run_folder.prepare_folder(config) == folder


def test_a_method_of_one_s_own_is_watched(own, small_config):
  config = small_config(method=f'{own[1]}:Mine')
  folder = begun(config)
  edit(own[1])
  with pytest.raises(ConfigError, match=r'--method=.*method\.py:Mine was edited'):
    run_folder.prepare_folder(config)
  assert Path(folder).exists() and from_file.FLAGS == ('model', 'method', 'env')


def test_an_environment_of_one_s_own_is_watched(tmp_path):
  path = tmp_path / 'env.py'
  path.write_text('class Mine:\n  pass\n')
  config = resolve(dict(datasource='gym', env=f'{path}:Mine'))
  note_code(str(tmp_path), config)
  require_same_code(str(tmp_path), config)
  edit(path)
  with pytest.raises(ConfigError, match=r'--env=.*env\.py:Mine was edited'):
    require_same_code(str(tmp_path), config)


def test_tests_and_predictions_need_the_file_as_it_was_too(own, small_config):
  config = small_config('omniglot', num_filters=64, model=f'{own[0]}:build')
  folder = run_folder.prepare_folder(config)
  model = experiment.build_model(config)
  checkpoints.Checkpoints(folder, parameters=model.meta_parameters).save(1)
  tested = small_config('omniglot', num_filters=64, model=f'{own[0]}:build',
                        train=False, test_iter=1)
  assert application.load_for_test(tested, model, folder)[1] == 1
  edit(own[0])
  for call in (lambda: application.load_for_test(tested, model, folder),
               lambda: trained.of_run(folder, trained.config_of_run(folder))):
    with pytest.raises(ConfigError, match='was edited since'):
      call()


def test_of_a_run_of_an_earlier_version_it_is_said_that_nothing_is_known(own, small_config,
                                                                         capsys):
  config = small_config(model=f'{own[0]}:build')
  folder = begun(config)
  Path(folder, CODE_FILE).unlink()
  run_folder.prepare_folder(config)
  assert 'net.py:build is what it was is not checked' in capsys.readouterr().err
  edit(own[0])
  with pytest.raises(ConfigError, match='was edited'):   # from here on
    run_folder.prepare_folder(config)


def test_the_nets_of_the_papers_have_no_file(small_config, tmp_path):
  config = small_config()
  note_code(str(tmp_path), config)
  require_same_code(str(tmp_path), config)
  assert not (tmp_path / CODE_FILE).exists()


def test_a_damaged_file_is_named(own, small_config, tmp_path):
  (tmp_path / CODE_FILE).write_text('[]')
  with pytest.raises(CheckpointError, match=CODE_FILE):
    require_same_code(str(tmp_path), small_config(model=f'{own[0]}:build'))
