"""Losses as means over examples, whatever they are sums of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from maml_tf import experiment
from maml_tf.training import mean_losses

# Few of them in the support set, more in the query set, and no mini-batch of either.
SIZES = dict(conv=False, update_batch_size=1, train_query_size=3, test_query_size=2,
             metatrain_iterations=1, log=False, xla='off')


def logged(config, phase):
  """The loss of a step from zeros, whose outputs make all classes equally likely."""
  phase.meta_parameters.assign({name: np.zeros_like(value) for name, value
                                in phase.meta_parameters.arrays().items()})
  phase.compile(tf.keras.optimizers.SGD(1.0))
  batch = next(iter(experiment.training_generator(config).dataset(0, 1)))
  return float(phase.train_step(batch)['loss'])


@pytest.mark.parametrize('given, examples', [
    (dict(), 9), (dict(stop_grad=True), 9), (dict(method='anil'), 9),
    # Mini-batches of both sets together, or all of them.
    (dict(method='reptile', inner_batch_size=5, num_updates=1), 5),
    (dict(method='reptile', inner_batch_size=0, num_updates=1), 12),
    (dict(method='reptile', inner_batch_size=50, num_updates=1), 12)],
    ids=lambda value: '-'.join(map(str, value.values())) if isinstance(value, dict) else '')
def test_of_a_net_that_knows_nothing_it_is_that_of_a_guess(given, examples, small_config):
  config = small_config('omniglot', **{**SIZES, 'update_lr': 1e-9, **given})
  model = experiment.build_model(config)
  loss = logged(config, model)
  assert loss == pytest.approx(examples * math.log(3), rel=1e-4)
  assert mean_losses.of_training(config, model)(loss) == pytest.approx(math.log(3), rel=1e-4)


def test_pre_training_is_on_support_sets(small_config):
  config = small_config('omniglot', **SIZES, pretrain_iterations=1)
  phase = experiment.build_pretraining(config, experiment.build_model(config))
  loss = logged(config, phase)
  assert loss == pytest.approx(3 * math.log(3), rel=1e-4)
  assert mean_losses.of_training(config, phase)(loss) == pytest.approx(math.log(3), rel=1e-4)


def test_a_loss_that_is_a_mean_stays(small_config):
  for given in (dict(), dict(baseline='oracle', metatrain_iterations=0,
                             pretrain_iterations=1)):
    config = small_config(**given)
    assert mean_losses.of_training(config, experiment.build_model(config))(2.5) == 2.5
  config = small_config('omniglot', conv=False, method='prototypical')
  assert mean_losses.of_training(config, experiment.build_model(config))(2.5) == 2.5
  config = small_config('omniglot', conv=False, baseline='fine_tuning',
                        pretrain_iterations=1)
  assert mean_losses.of_training(config, None) is None
  lines = [{'iteration': 1.0, 'loss': 2.5, 'val_loss_0': 3.0}]
  assert mean_losses.of_history(config, None, lines) == lines


def test_a_keras_model_minimises_the_same_sum(small_config, tmp_path):
  (tmp_path / 'net.py').write_text(
      'import tensorflow as tf\n'
      'def build(shape, outputs):\n'
      '  return tf.keras.Sequential([tf.keras.layers.Input(shape),\n'
      '      tf.keras.layers.Flatten(), tf.keras.layers.Dense(outputs)])\n')
  sizes = {name: value for name, value in SIZES.items() if name != 'conv'}
  config = small_config('omniglot', **sizes, num_filters=64,
                        model=f'{tmp_path}/net.py:build')
  model = experiment.build_model(config)
  assert mean_losses.of_training(config, model)(9 * 1.25) == pytest.approx(1.25)


def test_each_column_of_a_history_has_its_own_number_of_examples(small_config):
  config = small_config('omniglot', **SIZES)
  guess = math.log(3)
  line = {'iteration': 50.0, 'executions': 50.0, 'accuracy': 0.4, 'loss': 9 * guess,
          'val_support_loss': 3 * guess, 'val_loss_0': 6 * guess, 'val_loss_1': 6 * guess,
          'val_accuracy_1': 0.5}
  unvalidated = {**line, **dict.fromkeys(('val_support_loss', 'val_loss_0', 'val_loss_1'))}
  model = experiment.build_model(config)
  found, other = mean_losses.of_history(config, model, [line, unvalidated])
  losses = {name for name in line if 'loss' in name}
  assert {name: found[name] for name in losses} == pytest.approx(dict.fromkeys(losses, guess))
  assert {name: found[name] for name in line.keys() - losses} == {
      name: line[name] for name in line.keys() - losses}
  assert other['loss'] == pytest.approx(guess) and other['val_loss_1'] is None
