"""The meta-gradient, in float64, against finite differences of the meta-loss.

A meta-gradient that is wrong still trains, only worse. So nothing here trusts
automatic differentiation through the inner loop: the reference is the meta-loss
itself, at two points. Each comparison has a test that it can fail.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from finite_differences import FlatFunction, assert_is_gradient, gradient_of, meta_loss

from maml_tf.learners import Convolutional, FullyConnected, normalisation, task_ops
from maml_tf.meta_learners.maml import MAML
from maml_tf.objectives import MeanSquaredError, ScaledCrossEntropy

WAYS, SHOTS, TASKS = 3, 2, 2
NORMS = ('batch_norm', 'layer_norm', 'None')


class Net(NamedTuple):
  """A small net and the shape of its inputs."""
  kind: str                      # 'strided', 'max_pool', 'fully_connected', 'sinusoid'
  norm: str

  @property
  def input_shape(self):
    return {'strided': (17, 15, 2), 'max_pool': (33, 18, 1),
            'fully_connected': (3, 4, 1), 'sinusoid': (1,)}[self.kind]

  def build(self, compiled_by_xla=False):
    if self.kind == 'sinusoid':
      return FullyConnected(1, (8, 8), 1, self.norm)
    if self.kind == 'fully_connected':
      return FullyConnected(12, (9, 8, 7), WAYS, self.norm)
    max_pool = self.kind == 'max_pool'
    # The last feature maps are 2 x 1, so that a mean over them differs from one pixel.
    return Convolutional(self.input_shape, 4, WAYS, self.norm, max_pool,
                         spatial_mean=not max_pool, compiled_by_xla=compiled_by_xla)


IMAGE_NETS = [Net(kind, norm) for kind in ('strided', 'max_pool', 'fully_connected')
              for norm in NORMS]
NETS = IMAGE_NETS + [Net('sinusoid', 'None')]
# One of each kind, and each normalisation: where a test is of the inner loop, not of a net.
FEW_NETS = [Net('strided', 'layer_norm'), Net('max_pool', 'batch_norm'),
            Net('fully_connected', 'None')]


def net_id(value):
  return '-'.join(value) if isinstance(value, Net) else None


@pytest.fixture
def problem(make_classification, make_regression, generic_values):
  """A function: a net -> a MAML over it, in float64, and a meta-batch."""
  def make(net, num_updates=1, tasks=TASKS, compiled_by_xla=False, **kwargs):
    learner = net.build(compiled_by_xla)
    if net.kind == 'sinusoid':
      objective, episodes = MeanSquaredError(), make_regression(tasks, 5)
    else:
      objective = ScaledCrossEntropy(SHOTS)
      episodes = make_classification(tasks, WAYS, SHOTS, net.input_shape)
    model = MAML(learner, objective, step_size=0.1, num_updates=num_updates,
                 dtype='float64', **kwargs)
    model.meta_parameters.assign(generic_values(learner, seed=1))
    return model, episodes
  return make


def assert_same_gradients(received, expected, tolerance=1e-11):
  assert set(received) == set(expected)
  largest = max(np.abs(value).max() for value in expected.values())
  for name, value in expected.items():
    np.testing.assert_allclose(received[name], value, rtol=0, atol=tolerance * largest,
                               err_msg=name)


def relative_difference(received, expected) -> float:
  def flat(values):
    return np.concatenate([np.ravel(values[name]) for name in expected])
  return (np.linalg.norm(flat(received) - flat(expected))
          / np.linalg.norm(flat(expected)))


@pytest.mark.parametrize('net, num_updates', [
    *((net, 1) for net in NETS), *((net, 3) for net in FEW_NETS)], ids=net_id)
def test_second_order_is_the_derivative_of_the_meta_loss(problem, net, num_updates):
  model, episodes = problem(net, num_updates)
  assert_is_gradient(gradient_of(model, episodes), meta_loss(model, episodes))


@pytest.mark.parametrize('norm', ['batch_norm', 'layer_norm'])
def test_pooling_by_windows_is_exact_in_second_order(problem, norm):
  model, episodes = problem(Net('max_pool', norm), compiled_by_xla=True)
  assert_is_gradient(gradient_of(model, episodes), meta_loss(model, episodes))


@pytest.mark.parametrize('net', FEW_NETS, ids=net_id)
def test_first_order_is_the_derivative_at_the_adapted_parameters(problem, net):
  model, episodes = problem(net, 2, first_order=True)
  assert_is_gradient(gradient_of(model, episodes),
                     query_loss_around_adapted_parameters(model, episodes, 2))


def query_loss_around_adapted_parameters(model, episodes, num_updates):
  """The mean query loss when every task's theta' moves by the same offset."""
  theta = model.meta_parameters.tensors()
  *_, adapted = model.adaptation(theta, episodes, num_updates, first_order=False)
  constants = {name: tf.constant(value.numpy()) for name, value in adapted.items()}

  def loss(offsets):
    moved = {name: value + offsets[name] for name, value in constants.items()}
    outputs = model.learner(moved, episodes.query.inputs)
    return tf.reduce_mean(model.objective.loss(outputs, episodes.query.labels))
  return FlatFunction(loss, {name: np.zeros(value.shape) for name, value in theta.items()})


# The comparison must be able to fail.


@pytest.mark.parametrize('net', FEW_NETS, ids=net_id)
def test_first_order_is_not_taken_for_second_order(problem, net):
  model, episodes = problem(net, 1, first_order=True)
  with pytest.raises(AssertionError, match='all parameters'):
    assert_is_gradient(gradient_of(model, episodes), meta_loss(model, episodes))


@pytest.mark.parametrize('parameter', ['conv1/kernel', 'conv3/beta', 'output/bias'])
def test_a_small_error_in_one_parameter_is_noticed(problem, parameter):
  model, episodes = problem(Net('max_pool', 'batch_norm'))
  gradients = gradient_of(model, episodes)
  gradients[parameter] = gradients[parameter] * (1 + 1e-5)
  with pytest.raises(AssertionError):
    assert_is_gradient(gradients, meta_loss(model, episodes))


def moments_of_tensorflow(inputs, axes):
  return tf.nn.moments(inputs, list(axes), keepdims=True)


NORMALISED_NETS = [net for net in IMAGE_NETS if net.norm != 'None']


@pytest.mark.parametrize('net', [Net('strided', 'batch_norm'),
                                 Net('fully_connected', 'layer_norm')], ids=net_id)
def test_moments_would_be_noticed(problem, net, monkeypatch):
  monkeypatch.setattr(normalisation, 'moments', moments_of_tensorflow)
  model, episodes = problem(net)
  with pytest.raises(AssertionError, match='all parameters'):
    assert_is_gradient(gradient_of(model, episodes), meta_loss(model, episodes))


@pytest.mark.parametrize('net', NORMALISED_NETS, ids=net_id)
def test_moments_spoil_the_meta_gradient_and_no_first_derivative(problem, net, monkeypatch):
  """`tf.nn.moments` stops the gradient of the mean inside its variance.

  Every TF2 port that was read has this defect, which first derivatives do not show.
  """
  def first_and_second():
    plain, episodes = problem(net, num_updates=0)
    adapting, _ = problem(net, num_updates=1)
    return gradient_of(plain, episodes), gradient_of(adapting, episodes)
  first, second = first_and_second()
  monkeypatch.setattr(normalisation, 'moments', moments_of_tensorflow)
  first_by_moments, second_by_moments = first_and_second()
  assert relative_difference(first_by_moments, first) < 1e-12
  assert relative_difference(second_by_moments, second) > 0.01


# All ways of computing it agree.


@pytest.mark.parametrize('net, first_order', [
    pytest.param(Net('strided', 'layer_norm'), False, marks=pytest.mark.slow),
    (Net('max_pool', 'batch_norm'), False), (Net('max_pool', 'batch_norm'), True),
    (Net('fully_connected', 'batch_norm'), False),
    (Net('sinusoid', 'None'), False)], ids=net_id)
def test_the_grouping_of_tasks_changes_nothing(problem, net, first_order):
  model, episodes = problem(net, tasks=4, first_order=first_order)
  expected = [model.meta_gradient(one_task(episodes, task)) for task in range(4)]
  expected_means, expected_gradients = (
      {name: np.mean([each[part][name] for each in expected], axis=0)
       for name in expected[0][part]} for part in (0, 1))
  for tasks_at_once, cores in ((1, None), (2, None), (4, None), (4, 2)):
    model, _ = problem(net, tasks=4, first_order=first_order, tasks_at_once=tasks_at_once,
                       cores=cores)
    means, gradients = model.meta_gradient(episodes)
    assert list(means) == list(expected_means)
    for name, value in means.items():
      np.testing.assert_allclose(value, expected_means[name], rtol=1e-13)
    assert_same_gradients(gradients, expected_gradients)


@pytest.mark.parametrize('net, num_updates, tasks_at_once, in_graph', [
    (Net('strided', 'batch_norm'), 1, 0, True), (Net('max_pool', 'batch_norm'), 1, 1, False),
    (Net('fully_connected', 'layer_norm'), 2, 1, True),
    (Net('sinusoid', 'None'), 3, 0, False)],
    ids=net_id)
def test_recomputing_inner_steps_changes_nothing(problem, net, num_updates, tasks_at_once,
                                                 in_graph):
  gradients = []
  for recompute in (False, True):
    model, episodes = problem(net, num_updates, tasks_at_once=tasks_at_once,
                              recompute_inner_steps=recompute)
    def compute(model=model, episodes=episodes):
      return model.meta_gradient(episodes)[1]
    gradients.append(tf.function(compute, autograph=False)() if in_graph else compute())
  assert_same_gradients(gradients[1], gradients[0])


def test_recomputed_steps_are_the_derivative_of_the_meta_loss(problem):
  model, episodes = problem(Net('max_pool', 'batch_norm'), 2, recompute_inner_steps=True)
  assert_is_gradient(gradient_of(model, episodes), meta_loss(model, episodes))


def test_recomputing_waits_for_the_upstream_gradient(problem):
  """Otherwise nothing would be saved: the steps would be in memory at once again."""
  def first_convolutions(recompute):
    """Of the first layer on images: (how many, how many of them behind the query pass)."""
    model, episodes = problem(Net('strided', 'batch_norm'), 2, tasks=1,
                              recompute_inner_steps=recompute)
    graph = tf.function(lambda: model.meta_gradient(episodes),
                        autograph=False).get_concrete_function().graph
    forward = [op for op in graph.get_operations() if op.type == 'Conv2D'
               and op.inputs[0].shape[1] == 17 and op.inputs[1].shape[:2] == [3, 3]]
    losses = [op for op in graph.get_operations()
              if op.type == 'SparseSoftmaxCrossEntropyWithLogits']
    query_loss = losses[2]   # behind those of the two inner steps
    return len(forward), sum(query_loss in ancestors(op) for op in forward)
  kept, behind = first_convolutions(False)
  recomputed_too, behind_when_recomputed = first_convolutions(True)
  # The second derivatives are convolutions as well.
  assert recomputed_too == kept + 2 and behind_when_recomputed == behind + 2


def ancestors(op):
  """All operations that it waits for."""
  found, waiting = set(), [op]
  while waiting:
    current = waiting.pop()
    for before in [value.op for value in current.inputs] + list(current.control_inputs):
      if before not in found:
        found.add(before)
        waiting.append(before)
  return found


def one_task(episodes, task):
  return tf.nest.map_structure(lambda value: value[task:task + 1], episodes)


@pytest.mark.parametrize('net, tasks_at_once, cores', [
    (Net('max_pool', 'layer_norm'), 0, None), (Net('strided', 'batch_norm'), 1, None),
    (Net('fully_connected', 'layer_norm'), 2, None), (Net('strided', 'batch_norm'), 2, 2)],
    ids=net_id)
def test_a_graph_gives_the_same_as_eager(problem, net, tasks_at_once, cores):
  model, episodes = problem(net, tasks=4, tasks_at_once=tasks_at_once, cores=cores)
  in_graph = tf.function(lambda: model.meta_gradient(episodes)[1], autograph=False)
  assert_same_gradients(in_graph(), gradient_of(model, episodes))


@pytest.mark.parametrize('net, tasks_at_once, recompute', [
    (Net('max_pool', 'batch_norm'), 0, False),
    (Net('fully_connected', 'layer_norm'), 1, False),
    (Net('fully_connected', 'batch_norm'), 1, True)], ids=net_id)
def test_xla_gives_the_same_as_eager(problem, net, tasks_at_once, recompute):
  model, episodes = problem(net, 1, compiled_by_xla=True, tasks_at_once=tasks_at_once,
                            recompute_inner_steps=recompute)
  compiled = tf.function(lambda: model.meta_gradient(episodes)[1], autograph=False,
                         jit_compile=True)
  assert_same_gradients(compiled(), gradient_of(model, episodes))


# Max-pooling: both forms, where values are equal or nearly so.


def pooled_by_loops(images):
  """Maxima of 2x2 windows, and the index in `images` of the first maximum of each."""
  tasks, examples, height, width, channels = images.shape
  shape = (tasks, examples, height // 2, width // 2, channels)
  maxima, places = np.zeros(shape), np.zeros((*shape, 5), int)
  for t, n, row, column, c in np.ndindex(*shape):
    window = [(t, n, 2 * row + i, 2 * column + j, c) for i in (0, 1) for j in (0, 1)]
    values = [images[place] for place in window]
    maxima[t, n, row, column, c] = max(values)
    places[t, n, row, column, c] = window[values.index(max(values))]
  return maxima, places


def images_with(kind):
  random = np.random.RandomState(3)
  images = random.normal(size=(2, 2, 5, 7, 2))
  return {'ties': np.round(images), 'constant': np.full_like(images, 0.25),
          'near ties': 1 + 1e-7 * images, 'no ties': images}[kind]


@pytest.mark.parametrize('pool, jit_compile', [
    (task_ops.max_pool_2x2, False),
    # Under XLA its second derivative is wrong; that is what the other form is for.
    (task_ops.max_pool_2x2_by_windows, False), (task_ops.max_pool_2x2_by_windows, True)])
@pytest.mark.parametrize('kind', ['ties', 'constant', 'near ties', 'no ties'])
def test_max_pool_chooses_the_first_maximum_in_every_order(kind, pool, jit_compile):
  """Of sum(weights * pool(x)^3): value, gradient, and the Hessian times a vector."""
  images = images_with(kind)
  random = np.random.RandomState(5)
  vector = random.normal(size=images.shape)
  maxima, places = pooled_by_loops(images)
  weights = random.normal(size=maxima.shape)

  @tf.function(jit_compile=jit_compile, autograph=False)
  def derivatives(images, weights, vector):
    with tf.GradientTape() as outer:
      outer.watch(images)
      with tf.GradientTape() as inner:
        inner.watch(images)
        pooled = pool(images)
        value = tf.reduce_sum(weights * pooled ** 3)
      gradient = inner.gradient(value, images)
      product = tf.reduce_sum(gradient * vector)
    return pooled, gradient, outer.gradient(product, images)
  pooled, gradient, hessian_vector = derivatives(*map(tf.constant, (images, weights, vector)))
  index = tuple(np.moveaxis(places, -1, 0))
  expected_gradient, expected_product = np.zeros_like(images), np.zeros_like(images)
  expected_gradient[index] = 3 * weights * maxima ** 2
  expected_product[index] = 6 * weights * maxima * vector[index]
  np.testing.assert_array_equal(pooled, maxima)
  np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-13, atol=1e-13)
  np.testing.assert_allclose(hessian_vector, expected_product, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize('norm', NORMS)
def test_both_poolings_give_the_same_meta_gradient_for_images_with_ties(problem, norm):
  net = Net('max_pool', norm)
  gradients = []
  for by_windows in (False, True):
    model, episodes = problem(net, compiled_by_xla=by_windows)
    episodes = episodes.replaced(support_inputs=tf.round(episodes.support.inputs),
                                 query_inputs=tf.ones_like(episodes.query.inputs) / 2)
    gradients.append(gradient_of(model, episodes))
  assert_same_gradients(gradients[1], gradients[0])
