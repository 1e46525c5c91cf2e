"""`--model`: residual nets and nets of one's own, trained by the flags, used and exported."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from logical_devices import run_on
from test_workers import largest_difference

import flags
from maml_tf import application, config, experiment, export, predict
from maml_tf.config import ConfigError
from maml_tf.keras_models import nets
from maml_tf.keras_models.learner import KerasLearner
from maml_tf.training.checkpoints import experiment_folder

NET = '''
import tensorflow as tf
def build(input_shape, outputs):
  layers = tf.keras.layers
  return tf.keras.Sequential([
      layers.Input(input_shape), layers.Conv2D(4, 3, strides=4), layers.BatchNormalization(),
      layers.ReLU(), layers.Flatten(), layers.Dense(outputs)])
def of_one_output(input_shape, outputs):
  return build(input_shape, 1)
def of_float32(input_shape, outputs):
  layers = tf.keras.layers
  return tf.keras.Sequential([layers.Input(input_shape), layers.Flatten(),
                              layers.Dense(outputs, dtype='float32')])
# No bias in front of batch norm: its gradient is 0, and Adam magnifies what rounding leaves.
def with_state(input_shape, outputs):
  layers = tf.keras.layers
  return tf.keras.Sequential([
      layers.Input(input_shape), layers.Dense(8, use_bias=False),
      layers.BatchNormalization(), layers.Activation('tanh'), layers.Dropout(0.3),
      layers.Dense(outputs)])
def nothing(input_shape, outputs):
  return None
number = 3
'''


@pytest.fixture(scope='module')
def own_net(tmp_path_factory):
  path = tmp_path_factory.mktemp('nets') / 'my_net.py'
  path.write_text(NET)
  return str(path)


@pytest.fixture
def configured(own_net, sample_data, tmp_path):
  """A function that gives the configuration of a short run with flags of one's own."""
  def make(*arguments, model='build'):
    return flags.parse([
        'main.py', '--datasource=omniglot', f'--data_dir={sample_data("omniglot")}',
        f'--model={own_net}:{model}', '--num_classes=3', '--meta_batch_size=2',
        '--metatrain_iterations=4', '--validation_interval=2', '--num_validation_tasks=2',
        '--num_test_tasks=2', '--test_num_updates=2', '--log=False', '--test_set=True',
        f'--logdir={tmp_path / "runs"}', *arguments])
  return make


@pytest.mark.slow
def test_a_net_of_one_s_own_is_trained_resumed_tested_used_and_exported(
    configured, sample_data, tmp_path, capfd):
  assert application.run(configured('--metatrain_iterations=2')) == 0
  assert application.run(configured()) == 0
  output = capfd.readouterr().out
  assert 'Resumed at iteration 2 of 4' in output and 'KerasLearner' in output
  run = experiment_folder(configured())
  assert run.endswith('.my_net-build')
  random, support = np.random.RandomState(0), tmp_path / 'support'
  for name in 'abc':
    (support / name).mkdir(parents=True)
    for index in range(2):
      from PIL import Image
      Image.fromarray(random.randint(0, 256, (28, 28)).astype(np.uint8)).save(
          support / name / f'{index}.png')
  arguments = [f'--run={run}', f'--support={support}']
  assert predict.main([*arguments, f'--query={support}']) == 0
  assert 'adapting to 6 photos of 3 classes by 2 updates' in capfd.readouterr().out
  assert export.main([*arguments, f'--out={tmp_path / "exported"}']) == 0
  assert 'adaptation ' in capfd.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize('model, message', [
    ('of_one_output', 'outputs for inputs .*28, 28, 1.*gave .2, 1. of 2 examples'),
    ('nothing', 'must give a Keras model. Received: NoneType'),
    ('number', 'is no function'), ('missing', 'has no missing')])
def test_what_gives_no_net_is_refused(configured, model, message):
  with pytest.raises(ConfigError, match=message):
    experiment.build_model(configured(model=model))


@pytest.mark.parametrize('arguments, message', [
    (['--method=anil'], '--method=anil does not fit --model='),
    (['--baseline=fine_tuning'], '--baseline=fine_tuning does not fit --model='),
    (['--mixed_precision=True'], '--mixed_precision=True does not fit --model='),
    (['--num_filters=8'], 'which has layers of its own: leave one of them out'),
    (['--model=resnet99'], 'allowed: paper, resnet12, resnet18, or FILE.py:NAME'),
    (['--model=a.py:b c'], 'it must be FILE.py:NAME')])
def test_what_does_not_fit_is_refused_by_name(configured, arguments, message):
  with pytest.raises(ConfigError, match=message):
    configured(*arguments)


def test_the_same_seed_gives_the_same_net(configured):
  first, again, other = (experiment.build_model(configured(f'--seed={seed}')).state()
                         for seed in (0, 0, 1))
  for one, two in zip(first.values(), again.values()):
    np.testing.assert_array_equal(one, two)
  assert any(np.any(one != two) for one, two in zip(first.values(), other.values()))


@pytest.mark.parametrize('build, convolutions', [(nets.resnet12, 16), (nets.resnet18, 20)])
def test_residual_nets_have_the_layers_of_their_papers(build, convolutions):
  net = build((16, 16, 3), 5, widths=(2, 3, 4, 5))
  assert net.output_shape == (None, 5)
  # 12 or 17 of 3x3, and the shortcuts.
  assert sum(isinstance(layer, tf.keras.layers.Conv2D) for layer in net.layers) == convolutions
  assert np.isfinite(net(tf.ones([2, 16, 16, 3]))).all()


@pytest.mark.parametrize('model', ['resnet12', 'resnet18'])
def test_residual_nets_are_built_by_their_names(model):
  resolved = config.resolve({'datasource': 'miniimagenet', 'model': model})
  learner = resolved.problem.learner(resolved)
  assert isinstance(learner, KerasLearner) and learner.model.output_shape == (None, 5)
  assert resolved.experiment_name.endswith(f'.{model}')


def test_a_regression_may_have_a_net_of_its_own(own_net):
  resolved = config.resolve({'datasource': 'sinusoid', 'model': f'{own_net}:build'})
  assert resolved.problem.outputs(resolved) == 1


def test_float64_reaches_all_layers_and_no_other_net(configured):
  before = tf.keras.mixed_precision.global_policy().name, tf.keras.backend.floatx()
  net = experiment.build_model(configured('--dtype=float64')).learner.model
  assert {tf.as_dtype(value.dtype).name for value in net.variables} == {'float64'}
  assert net(np.zeros([2, 28, 28, 1])).dtype == tf.float64
  assert (tf.keras.mixed_precision.global_policy().name, tf.keras.backend.floatx()) == before
  with pytest.raises(ConfigError, match='float64 does not fit .* variables of float3'):
    experiment.build_model(configured('--dtype=float64', model='of_float32'))


@pytest.mark.slow
@pytest.mark.parametrize('xla', ['on', 'off'])
def test_replicas_train_it_as_one_device_does(forks, own_net, tmp_path, xla):
  """With batch normalisation and dropout, in both phases; and the number of replicas may
  change between two starts."""
  arguments = [
      f'--model={own_net}:with_state', '--dtype=float64', f'--xla={xla}', '--num_updates=2',
      '--meta_batch_size=4', '--pretrain_iterations=4', '--validation_interval=4',
      '--num_validation_tasks=6', '--num_test_tasks=6', '--test_num_updates=2']
  alone = run_on(forks, tmp_path / 'alone', 1, arguments, 12, interval=4)
  for devices, iterations in ((4, 4), (1, 8), (2, 12)):
    changing = run_on(forks, tmp_path / 'changing', devices, arguments, iterations, interval=4)
  error = largest_difference(alone, changing)
  print(f'4, then 1, then 2 replicas, XLA {xla}: {error:.1e}')
  assert error < 1e-12
