"""Meta-SGD and the step sizes that MAML may learn, against NumPy from their equations."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from finite_differences import assert_is_gradient, gradient_of, meta_loss

from maml_tf import config
from maml_tf.errors import ConfigError
from maml_tf.inner_optimizers import InnerOptimizer
from maml_tf.learned_step_sizes import KINDS
from maml_tf.learners import Convolutional, FullyConnected
from maml_tf.learners.base import ParameterSpec, constant
from maml_tf.meta_learners.maml import MAML
from maml_tf.meta_learners.meta_sgd import MetaSGD
from maml_tf.objectives import MeanSquaredError, ScaledCrossEntropy

TASKS, EXAMPLES, INPUTS = 3, 4, 2


def linear(inputs):
  """`[examples, inputs + 1]`: the bias is one more weight."""
  return np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)


def by_numpy(theta, alpha, episodes, updates, first_order):
  """Loss, and gradients by theta and alpha, of linear regressions: their gradient is
  2/n X'(X theta - y) and their Hessian 2/n X'X, so that with J = I - diag(alpha) H the
  chain rule is a product (equations 2 and 3 of Meta-SGD); in first order J is I."""
  losses, by_theta, by_alpha = [], [], []
  for task in range(TASKS):
    x, xq = (linear(part.inputs[task].numpy()) for part in episodes)
    y, yq = (part.labels[task].numpy()[:, 0] for part in episodes)
    hessian = 2 / len(x) * x.T @ x
    phi, path = theta, []
    for _ in range(updates):
      path.append(hessian @ phi - 2 / len(x) * x.T @ y)
      phi = phi - alpha * path[-1]
    losses.append(np.mean((xq @ phi - yq) ** 2))
    upstream, of_alpha = 2 / len(xq) * xq.T @ (xq @ phi - yq), 0
    for gradient in reversed(path):
      of_alpha = of_alpha - gradient * upstream
      upstream = upstream - (not first_order) * hessian @ (alpha * upstream)
    by_theta.append(upstream)
    by_alpha.append(of_alpha)
  return np.mean(losses), np.mean(by_theta, axis=0), np.mean(by_alpha, axis=0)


@pytest.mark.parametrize('updates', [1, 3])
@pytest.mark.parametrize('recompute, first_order', [
    (False, False), (True, False), (False, True)])
def test_meta_sgd_is_its_equations(make_regression, updates, recompute, first_order):
  episodes = make_regression(TASKS, EXAMPLES, INPUTS)
  model = MetaSGD(FullyConnected(INPUTS, (), 1, 'None'), MeanSquaredError(), step_size=0.1,
                  num_updates=updates, dtype='float64', recompute_inner_steps=recompute,
                  first_order=first_order)
  theta, alpha = np.array([0.3, -0.7, 0.2]), np.array([0.03, -0.05, 0.08])
  model.meta_parameters.assign({
      'output/kernel': theta[:2, None], 'output/bias': theta[2:],
      'step_size/output/kernel': alpha[:2, None], 'step_size/output/bias': alpha[2:]})
  means, gradients = model.meta_gradient(episodes)
  loss, by_theta, by_alpha = by_numpy(theta, alpha, episodes, updates, first_order)
  np.testing.assert_allclose(means['loss'], loss, rtol=1e-12)
  for prefix, expected in (('', by_theta), ('step_size/', by_alpha)):
    received = np.concatenate([np.ravel(gradients[f'{prefix}output/kernel']),
                               gradients[f'{prefix}output/bias']])
    np.testing.assert_allclose(received, expected, rtol=1e-10)


def classification(kind, step_size=0.25, **kwargs):
  learner = Convolutional((9, 8, 2), 4, 3, 'batch_norm', max_pool=False, spatial_mean=True)
  return MAML(learner, ScaledCrossEntropy(2), step_size=step_size, num_updates=2,
              dtype='float64', learned_step_sizes=kind, **kwargs)


@pytest.mark.parametrize('kind', KINDS)
def test_they_have_a_gradient_of_their_own(kind, make_classification, generic_values):
  model = classification(kind)
  model.meta_parameters.assign({**model.meta_parameters.arrays(),
                                **generic_values(model.learner)})
  episodes = make_classification(2, 3, 2, (9, 8, 2))
  assert_is_gradient(gradient_of(model, episodes), meta_loss(model, episodes))


@pytest.mark.parametrize('kind, shapes', [
    ('layer', {'step_size/conv1': (), 'step_size/output': ()}),
    ('layer_and_step', {'step_size/conv1': (2,), 'step_size/output': (2,)}),
    ('element', {'step_size/conv1/kernel': (3, 3, 2, 4), 'step_size/output/bias': (3,)})])
def test_they_start_from_the_step_size_as_a_fixed_one_would(kind, shapes,
                                                           make_classification):
  model, fixed = classification(kind), classification('None')
  values = model.meta_parameters.arrays()
  for name, shape in shapes.items():
    np.testing.assert_array_equal(values[name], np.full(shape, 0.25))
  # What the inner loop leaves alone has none.
  assert not [name for name in values if name.startswith('step_size') and 'beta' in name]
  episodes = make_classification(2, 3, 2, (9, 8, 2))
  for received, expected in zip(tf.nest.flatten(model.task_results(episodes, 4)),
                                tf.nest.flatten(fixed.task_results(episodes, 4))):
    np.testing.assert_allclose(received, expected, rtol=1e-12)


@pytest.mark.parametrize('number', [np.float32(0.25), np.array(0.25), tf.constant(0.25)])
def test_a_number_may_be_numpy_s_or_a_tensor(number):
  model = classification('layer', step_size=number)
  assert model.meta_parameters.arrays()['step_size/conv1'] == 0.25


@pytest.mark.parametrize('given', [[0.1, 0.2], {'conv1/kernel': 0.1}, '0.1', float('nan')])
def test_what_is_no_number_is_refused(given):
  with pytest.raises(ConfigError, match='all start from one number|must be a finite number'):
    classification('layer', step_size=given)


def test_a_later_update_than_in_training_has_the_size_of_the_last_one(make_classification):
  model, fixed = classification('layer_and_step'), classification('None', [0.2, 0.05])
  model.meta_parameters.assign({
      name: np.array([0.2, 0.05]) if name.startswith('step_size') else value
      for name, value in model.meta_parameters.arrays().items()})
  episodes = make_classification(2, 3, 2, (9, 8, 2))
  for received, expected in zip(tf.nest.flatten(model.task_results(episodes, 4)),
                                tf.nest.flatten(fixed.task_results(episodes, 4))):
    np.testing.assert_allclose(received, expected, rtol=1e-12)


def test_a_keras_model_trains_them_beside_its_variables(make_regression):
  net = tf.keras.Sequential([tf.keras.Input((INPUTS,)), tf.keras.layers.Dense(1)])
  model = MetaSGD(net, tf.keras.losses.MeanSquaredError(), step_size=0.01, num_updates=1)
  model.compile(tf.keras.optimizers.SGD(0.1))
  before = model.state()
  model.train_step(make_regression(TASKS, EXAMPLES, INPUTS, dtype='float32'))
  after = model.state()
  assert sum(name.startswith('step_size/') for name in after) == 2
  assert len(model.trainable_variables) == 4
  assert all(np.any(before[name] != after[name]) for name in after)
  model.assign_state(before)
  for name, value in model.state().items():
    np.testing.assert_array_equal(value, before[name])
  with pytest.raises(ValueError):
    model.assign_state({name: value for name, value in before.items()
                        if not name.startswith('step_size')})


@pytest.mark.parametrize('kind', KINDS[1:])
def test_setting_what_is_not_read_is_refused(kind):
  model, fixed = classification(kind), classification('None')
  with pytest.raises(ConfigError, match='step_size=0.5 would change nothing.*learns its step'):
    model.step_size = 0.5
  fixed.step_size = 0.5
  assert fixed.step_size == 0.5


def test_layers_of_one_name_have_step_sizes_of_their_own():
  """As those of two blocks, each a model, that a function made."""
  def block(size):
    inputs = tf.keras.Input((INPUTS,))
    return tf.keras.Model(inputs, tf.keras.layers.Dense(size, name='dense')(inputs))
  net = tf.keras.Sequential([tf.keras.Input((INPUTS,)), block(INPUTS), block(1)])
  model = MAML(net, 'mse', 0.1, 1, learned_step_sizes='layer')
  assert len({name for name in model.state() if name.startswith('step_size/')}) == 2


class LearnedMomentum(MAML):
  """A rule of somebody's own, of what is learned beside the net."""

  def __init__(self, *arguments, **given):
    super().__init__(*arguments, **given, own_specs=[
        ParameterSpec('momentum', (), constant(0.5), adapted=False)])

  def inner_optimizer(self, parameters):
    momentum, size = tf.sigmoid(parameters['momentum']), self._step_sizes.tensors()

    def update(values, gradients, velocities, updates):
      velocities = {name: momentum * velocities[name] + gradient
                    for name, gradient in gradients.items()}
      return {name: value - size * velocities[name]
              for name, value in values.items()}, velocities
    return InnerOptimizer(lambda values: {name: tf.zeros_like(value)
                                          for name, value in values.items()}, update)


@pytest.mark.parametrize('recompute', [False, True])
def test_a_learned_rule_of_one_s_own_has_its_derivative(recompute, make_regression):
  """With steps that are computed again it was 0, in silence."""
  model = LearnedMomentum(FullyConnected(INPUTS, (5,), 1, 'None'), MeanSquaredError(),
                          step_size=0.1, num_updates=3, dtype='float64',
                          recompute_inner_steps=recompute)
  episodes = make_regression(TASKS, EXAMPLES, INPUTS)
  gradients = gradient_of(model, episodes)
  assert abs(gradients['momentum']) > 1e-6
  assert_is_gradient(gradients, meta_loss(model, episodes))


@pytest.mark.parametrize('method', ['anil', 'context_vector', 'reptile', 'meta_sgd'])
def test_the_flag_is_refused_for_a_reason_that_holds_for_the_method(method):
  """ANIL was said to have step sizes of its own kind."""
  with pytest.raises(ConfigError, match='whose step sizes are not learned so: leave it out'):
    config.resolve({'method': method, 'learned_step_sizes': 'layer'})


@pytest.mark.parametrize('updates', [0, -1, 1.5])
def test_step_sizes_of_no_update_are_refused(updates):
  with pytest.raises(ConfigError, match='num_updates must be an integer, 1 or more'):
    MAML(FullyConnected(1, (2,), 1, 'None'), MeanSquaredError(), 0.1, updates,
         learned_step_sizes='layer_and_step')


@pytest.mark.parametrize('given, message', [
    (dict(learned_step_sizes='all'), "'all'"),
    (dict(learned_step_sizes='layer', step_size=[0.1, 0.2]), 'one number')])
def test_what_cannot_be_learned_is_refused(given, message):
  net = FullyConnected(1, (2,), 1, 'None')
  with pytest.raises(ConfigError, match=message):
    MAML(net, MeanSquaredError(), **{**dict(step_size=0.1, num_updates=1), **given})
