"""ANIL: only the head is adapted, the body is computed once, the gradient is exact."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from finite_differences import assert_is_gradient, gradient_of, meta_loss

from maml_tf.learners import Convolutional, FullyConnected
from maml_tf.meta_learners.anil import ANIL
from maml_tf.meta_learners.maml import MAML
from maml_tf.objectives import MeanSquaredError, ScaledCrossEntropy

WAYS, SHOTS, TASKS = 3, 2, 2
IMAGE = (9, 8, 2)
NETS = ('convolutional', 'fully connected', 'sinusoid')


class ConvolutionalHead(Convolutional):
  """Whose inner loop, in MAML, changes the head alone."""
  adapted_names = property(lambda self: self.head_names)


class FullyConnectedHead(FullyConnected):
  """The same."""
  adapted_names = property(lambda self: self.head_names)


def learner_of(net, head_alone=False):
  if net == 'convolutional':
    kind = ConvolutionalHead if head_alone else Convolutional
    return kind(IMAGE, 4, WAYS, 'batch_norm', max_pool=False, spatial_mean=True)
  kind = FullyConnectedHead if head_alone else FullyConnected
  if net == 'fully connected':
    return kind(int(np.prod(IMAGE)), (7, 6), WAYS, 'layer_norm')
  return kind(1, (8, 8), 1, 'None')


@pytest.fixture
def problem(make_classification, make_regression, generic_values):
  """A function: a kind of meta-learner, a net -> it with generic parameters, episodes."""
  def make(kind, net, head_alone=False, **kwargs):
    if net == 'sinusoid':
      objective, episodes = MeanSquaredError(), make_regression(TASKS, 5)
    else:
      objective = ScaledCrossEntropy(SHOTS)
      episodes = make_classification(TASKS, WAYS, SHOTS, IMAGE)
    model = kind(learner_of(net, head_alone), objective,
                 **{**dict(step_size=0.3, num_updates=3, dtype='float64'), **kwargs})
    model.meta_parameters.assign(generic_values(model.learner, seed=1))
    return model, episodes
  return make


@pytest.mark.parametrize('net', NETS)
def test_its_gradient_is_the_derivative_of_the_meta_loss(problem, net):
  model, episodes = problem(ANIL, net)
  assert_is_gradient(gradient_of(model, episodes), meta_loss(model, episodes))


def test_first_order_is_not_taken_for_second_order(problem):
  model, episodes = problem(ANIL, 'convolutional', first_order=True)
  with pytest.raises(AssertionError, match='all parameters'):
    assert_is_gradient(gradient_of(model, episodes), meta_loss(model, episodes))


@pytest.mark.parametrize('net', NETS)
@pytest.mark.parametrize('first_order', [False, True])
def test_it_is_maml_where_the_inner_loop_changes_the_head_alone(problem, net, first_order):
  model, episodes = problem(ANIL, net, first_order=first_order)
  maml, _ = problem(MAML, net, head_alone=True, first_order=first_order)
  for received, expected in zip(tf.nest.flatten(model.meta_gradient(episodes)),
                                tf.nest.flatten(maml.meta_gradient(episodes))):
    np.testing.assert_allclose(received, expected, rtol=1e-9, atol=1e-13)
  for received, expected in zip(tf.nest.flatten(model.task_results(episodes, 4)),
                                tf.nest.flatten(maml.task_results(episodes, 4))):
    np.testing.assert_allclose(received, expected, rtol=1e-11)


def test_it_differs_from_maml_that_adapts_all_layers(problem):
  model, episodes = problem(ANIL, 'convolutional')
  maml, _ = problem(MAML, 'convolutional')
  losses = [one.meta_gradient(episodes)[0]['loss'] for one in (model, maml)]
  assert abs(float(losses[0] - losses[1])) > 1e-3


def test_the_body_stays_as_it_is(problem):
  model, episodes = problem(ANIL, 'convolutional')
  theta = model.meta_parameters.tensors()
  *_, adapted = model.adaptation(theta, episodes, 3, first_order=True)
  for name, value in theta.items():
    if name in ('output/kernel', 'output/bias'):
      assert adapted[name].shape == (TASKS, *value.shape)
      assert np.abs(adapted[name] - value).max() > 1e-3
    else:
      assert adapted[name] is value


def test_recomputing_inner_steps_does_not_cut_the_gradient(problem):
  """There is nothing to recompute; `inner_loop` would take the features for constants."""
  model, episodes = problem(ANIL, 'convolutional')
  recomputing, _ = problem(ANIL, 'convolutional', recompute_inner_steps=True)
  tf.nest.map_structure(np.testing.assert_array_equal, gradient_of(recomputing, episodes),
                        gradient_of(model, episodes))


@pytest.mark.parametrize('num_updates', [1, 5])
def test_the_body_is_computed_once_per_set(problem, num_updates, monkeypatch):
  model, episodes = problem(ANIL, 'convolutional', num_updates=num_updates)
  sizes = []
  original = Convolutional.features

  def features(self, parameters, inputs, *arguments, **kwargs):
    sizes.append(inputs.shape[1])
    return original(self, parameters, inputs, *arguments, **kwargs)
  monkeypatch.setattr(Convolutional, 'features', features)
  model.meta_gradient(episodes)
  assert sizes == [WAYS * SHOTS, 2 * WAYS * SHOTS]
