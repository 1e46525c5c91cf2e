"""`--model`: residual nets and nets of one's own, trained by the flags, used and exported."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from logical_devices import run_on
from PIL import Image
from stopping import stopped_after
from test_workers import Run, largest_difference

import flags
from maml_tf import application, config, experiment, export, predict, retest
from maml_tf.config import ConfigError
from maml_tf.keras_models import nets
from maml_tf.keras_models.learner import KerasLearner
from maml_tf.learners import Convolutional
from maml_tf.meta_learners import METHODS, WITHOUT_INNER_LOOP
from maml_tf.meta_learners.anil import ANIL
from maml_tf.objectives import ScaledCrossEntropy
from maml_tf.training.run_folder import experiment_folder

NET = '''
import tensorflow as tf
def build(input_shape, outputs):
  layers = tf.keras.layers
  return tf.keras.Sequential([
      layers.Input(input_shape), layers.Conv2D(4, 3, strides=4), layers.BatchNormalization(),
      layers.ReLU(), layers.Flatten(), layers.Dense(outputs)])
def of_one_output(input_shape, outputs):
  return build(input_shape, 1)
def of_two_outputs(input_shape, outputs):
  net = build(input_shape, outputs)
  return tf.keras.Model(net.inputs, [net.outputs[0], net.outputs[0]])
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
def subclassed(input_shape, outputs):
  class Net(tf.keras.Model):
    def __init__(self):
      super().__init__()
      self.dense = tf.keras.layers.Dense(outputs)
    def call(self, inputs):
      return self.dense(tf.reshape(inputs, [-1, 784]))
  return Net()
def with_layers_behind(input_shape, outputs):
  net = build(input_shape, outputs)
  net.add(tf.keras.layers.Activation('linear'))
  return net
def nothing(input_shape, outputs):
  return None
def with_softmax(input_shape, outputs):
  net = build(input_shape, outputs)
  net.add(tf.keras.layers.Softmax())
  return net
def of_one_layer(input_shape, outputs):
  layers = tf.keras.layers
  return tf.keras.Sequential([layers.Input(input_shape), layers.Flatten(),
                              layers.Dense(outputs)])
def of_one_argument(input_shape):
  return None
def broken(input_shape, outputs):
  raise KeyError('kernel')
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
        '--num_test_tasks=2', '--log=False', '--test_set=True',
        f'--logdir={tmp_path / "runs"}', *arguments])
  return make


# {method: (flags, ways of the task that is predicted)}
USED = {
    'maml': ([], 3), 'meta_sgd': ([], 3), 'anil': ([], 4),
    'reptile': (['--inner_optimizer=sgd', '--inner_batch_size=0', '--test_inner_batch_size=0',
                 '--train_query_size=1'], 4),
    'siamese': (['--train_num_classes=4', '--train_query_size=1'], 4)}
# The same test takes these, and is left out for the time that it takes.
OTHERS = {
    'maml_plus_plus': ([], 3), 'boil': ([], 3), 'imaml': (['--num_updates=2'], 3),
    'matching': (['--full_context=True'], 4),
    'prototypical': (['--train_num_classes=4', '--train_query_size=1'], 4)}


@pytest.mark.slow
@pytest.mark.parametrize('method', USED)
def test_a_net_of_one_s_own_is_trained_resumed_bit_for_bit_used_and_exported(
    configured, sample_data, tmp_path, capfd, monkeypatch, method):
  more, ways = {**USED, **OTHERS}[method]
  arguments = [f'--method={method}', *more]
  if method not in WITHOUT_INNER_LOOP:
    arguments.append('--test_num_updates=2')
  def run(*others):
    config = configured(*arguments, *others)
    return application.run(config), experiment_folder(config)
  code, whole = run(f'--logdir={tmp_path / "whole"}')
  assert code == 0
  with stopped_after(2, monkeypatch):
    run()
  code, folder = run()
  output = capfd.readouterr().out
  assert code == 0 and 'Resumed at iteration 2 of 4' in output and 'KerasLearner' in output
  assert '.my_net-build' in folder
  np.testing.assert_equal(stored(folder), stored(whole))

  support = draw(tmp_path / 'support', 'abcd'[:ways])
  arguments = [f'--run={folder}', f'--support={support}']
  assert predict.main([*arguments, f'--query={support}']) == 0
  assert f'{2 * ways} photos of {ways} classes' in capfd.readouterr().out
  assert export.main([*arguments, f'--out={tmp_path / "exported"}']) == 0
  last = capfd.readouterr().out.splitlines()[-1]
  for file in ('adaptation', 'adapted.keras', 'adapted_saved_model'):
    assert f'{file} ' in last
  assert retest.main([f'--run={folder}', f'--ways={ways}', '--shots=2', '--tasks=2',
                      f'--data_dir={sample_data("omniglot")}']) == 0
  assert f'{ways} ways, 2 shots' in capfd.readouterr().out


def stored(folder):
  reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(folder))
  values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
            if 'save_counter' not in name and 'OBJECT_GRAPH' not in name}
  assert len(values) > 4
  return values


def draw(folder, classes):
  """Two photos of noise for each class."""
  random = np.random.RandomState(0)
  for name in classes:
    (folder / name).mkdir(parents=True)
    for index in range(2):
      Image.fromarray(random.randint(0, 256, (28, 28)).astype(np.uint8)).save(
          folder / name / f'{index}.png')
  return folder


def test_every_method_but_the_context_is_tried():
  assert {*USED, *OTHERS} == set(METHODS) - {'context_vector'}


@pytest.mark.parametrize('model', ['subclassed', 'with_layers_behind'])
@pytest.mark.parametrize('method', ['anil', 'boil', 'prototypical'])
def test_a_last_layer_that_cannot_be_told_apart_is_refused(configured, method, model):
  with pytest.raises(ConfigError, match=f'{method} does not fit .* ends in a Dense layer'):
    experiment.build_model(configured(f'--method={method}', model=model))


def test_methods_take_the_parts_of_a_net_that_are_theirs(configured):
  def names(method):
    learner = experiment.build_model(configured(f'--method={method}')).learner
    return ([spec.shape for spec in learner.parameter_specs],
            [spec.shape for spec in learner.parameter_specs if spec.adapted])
  body, head = [(3, 3, 1, 4), (4,), (4,), (4,)], [(196, 3), (3,)]
  assert names('maml') == (body + head, body + head)
  assert names('anil') == (body + head, head)
  assert names('boil') == (body + head, body)
  assert names('prototypical')[0] == body


def test_anil_of_a_keras_model_is_that_of_the_same_net_of_the_paper(make_classification):
  """Which computes the body once."""
  episodes = make_classification(2, 3, 2, (9, 8, 2))
  net = Convolutional((9, 8, 2), 4, 3, 'None', max_pool=False, spatial_mean=True)
  common = dict(step_size=0.3, num_updates=2)
  paper = ANIL(net, ScaledCrossEntropy(2), dtype='float64', **common)
  layers = tf.keras.layers
  keras = tf.keras.Sequential([layers.Input((9, 8, 2), dtype='float64')])
  for _ in range(4):
    keras.add(layers.Conv2D(4, 3, 2, 'same', activation='relu', dtype='float64'))
  keras.add(layers.GlobalAveragePooling2D(dtype='float64'))
  keras.add(layers.Dense(3, dtype='float64'))
  keras.set_weights(list(paper.meta_parameters.arrays().values()))
  own = ANIL(KerasLearner(keras, adapt=keras.layers[-1]), ScaledCrossEntropy(2), **common)
  expected, received = (model.meta_gradient(episodes) for model in (paper, own))
  np.testing.assert_allclose(received[0]['loss'], expected[0]['loss'], rtol=1e-12)
  for one, other in zip(received[1].values(), expected[1].values()):
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize('model, message', [
    ('of_one_output', 'outputs for inputs .*28, 28, 1.*gave .2, 1. of 2 examples'),
    ('of_two_outputs', r'gave \[\(2, 3\), \(2, 3\)\] of 2 examples'),
    ('nothing', 'must give a Keras model. Received: NoneType'),
    ('number', 'is no function'), ('missing', 'has no missing'),
    ('with_softmax', 'gives probabilities, .* leave it out at the end of the net'),
    ('of_one_argument', 'raised TypeError: .*takes 1 positional argument but 2 were given'),
    ('broken', r"broken raised KeyError in line \d+: 'kernel': mend the file")])
def test_what_gives_no_net_is_refused(configured, model, message):
  with pytest.raises(ConfigError, match=message):
    experiment.build_model(configured(model=model))


def test_boil_needs_a_layer_below_the_last_one(configured):
  with pytest.raises(ConfigError, match='no trainable layer below the last one'):
    experiment.build_model(configured('--method=boil', model='of_one_layer'))


@pytest.mark.parametrize('arguments, message', [
    (['--method=context_vector'], '--method=context_vector does not fit --model='),
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


@pytest.mark.slow
def test_two_processes_train_it_as_one_does(forks, own_net, tmp_path):
  given = [f'--model={own_net}:with_state', '--pretrain_iterations=4',
           '--validation_interval=4']
  alone, two = (Run(forks, tmp_path / str(workers), 8, workers, given).done()
                for workers in (1, 2))
  for text in two.texts():
    assert '2 replicas in 2 processes' in text and 'KerasLearner' in text
  error = largest_difference(alone, two)
  print(f'2 processes: {error:.1e}')
  assert error < 1e-12
  assert not (tmp_path / '2' / 'disk1').exists()
