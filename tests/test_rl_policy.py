"""Distributions, their divergences and Fisher products, and how policies act."""

from __future__ import annotations

import types

import numpy as np
import pytest
import tensorflow as tf
from rl_problems import generic_parameters

from maml_tf.rl.environments import ContinuousActions, DiscreteActions
from maml_tf.rl.errors import Diverged
from maml_tf.rl.policy import CONTEXT, LOG_STD, CategoricalPolicy, GaussianPolicy, policy_for
from maml_tf.rl.streams import stream

TASKS, SAMPLES = 2, 5


def policies():
  return [GaussianPolicy(3, 2, (5, 4)), CategoricalPolicy(3, 4, (5, 4)),
          GaussianPolicy(3, 2, (5,), context_size=2)]


@pytest.fixture(params=range(3), ids=['gaussian', 'categorical', 'context'])
def policy(request):
  return policies()[request.param]


def points_of(policy, seed=0):
  return np.stack([generic_parameters(policy, seed + task) for task in range(TASKS)])


def observations_of(policy):
  return np.random.RandomState(9).normal(size=(TASKS, SAMPLES, policy.observation_size))


def outputs_of(policy, points):
  return policy(policy.split_tensor(tf.constant(points)), tf.constant(observations_of(policy)))


def test_the_order_of_the_parameters():
  names = [spec.name for spec in GaussianPolicy(3, 2, (5, 4)).parameter_specs]
  assert names == ['hidden1/kernel', 'hidden1/bias', 'hidden2/kernel', 'hidden2/bias',
                   'output/kernel', 'output/bias', 'log_std']


def test_vectors_and_names_go_both_ways(policy):
  points = points_of(policy)
  named = policy.split(points)
  tensors = policy.split_tensor(tf.constant(points))
  for spec in policy.parameter_specs:
    assert named[spec.name].shape == (TASKS, *spec.shape)
    np.testing.assert_array_equal(named[spec.name], tensors[spec.name])
  np.testing.assert_array_equal(
      policy.flat({name: value[1] for name, value in named.items()}), points[1])


def test_initial_values_are_those_of_the_original(policy):
  values = policy.initial_values(0)
  for name, value in values.items():
    if name.endswith('kernel'):
      bound = np.sqrt(6 / sum(value.shape))
      assert 0.7 * bound < np.abs(value).max() <= bound
    else:
      assert not value.any()


def test_the_likelihood_of_normal_actions_by_the_formula():
  policy = GaussianPolicy(3, 2, (5, 4))
  points = points_of(policy)
  mean, _ = outputs_of(policy, points)
  actions = np.random.RandomState(1).normal(scale=3, size=(TASKS, SAMPLES, 2))
  std = np.exp(policy.split(points)[LOG_STD])[:, None]
  density = np.exp(-0.5 * ((actions - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
  received = policy.log_likelihood(outputs_of(policy, points), tf.constant(actions))
  np.testing.assert_allclose(received, np.log(density).sum(axis=-1), rtol=1e-12)


def test_the_mean_is_a_net_with_relus():
  policy = GaussianPolicy(3, 2, (5, 4))
  points = points_of(policy)
  named = {name: value[1] for name, value in policy.split(points).items()}
  features = observations_of(policy)[1]
  for layer in ('hidden1', 'hidden2'):
    features = np.maximum(features @ named[f'{layer}/kernel'] + named[f'{layer}/bias'], 0)
  mean = features @ named['output/kernel'] + named['output/bias']
  np.testing.assert_allclose(outputs_of(policy, points)[0][1], mean, rtol=1e-12)


def test_a_deviation_is_at_least_a_millionth():
  policy = GaussianPolicy(3, 2, (5, 4))
  points = points_of(policy)
  points[:, -2:] = -40
  np.testing.assert_allclose(outputs_of(policy, points)[1], np.log(1e-6))
  acted = policy.act(policy.split(points), observations_of(policy)[:, :1],
                     np.ones((TASKS, 1, 2)))
  still = policy.act(policy.split(points), observations_of(policy)[:, :1],
                     np.zeros((TASKS, 1, 2)))
  np.testing.assert_allclose(acted - still, 1e-6, rtol=1e-6)


def test_the_divergence_is_the_expected_difference_of_likelihoods():
  """Gauss-Hermite quadrature is exact for the quadratic in the exponent."""
  policy = GaussianPolicy(3, 1, (5,))
  old, new = (outputs_of(policy, points_of(policy, seed)) for seed in (0, 10))
  nodes, weights = np.polynomial.hermite_e.hermegauss(8)
  expected = 0.0
  for node, weight in zip(nodes, weights / weights.sum()):
    actions = old[0] + tf.exp(old[1]) * node
    expected += weight * (policy.log_likelihood(old, actions)
                          - policy.log_likelihood(new, actions))
  np.testing.assert_allclose(policy.kl(old, new), expected, rtol=1e-10)


def test_the_divergence_of_discrete_actions_by_the_formula():
  policy = CategoricalPolicy(3, 4, (5,))
  old, new = (outputs_of(policy, points_of(policy, seed)) for seed in (0, 10))
  p, q = (tf.nn.softmax(outputs[0]).numpy() for outputs in (old, new))
  np.testing.assert_allclose(policy.kl(old, new), (p * np.log(p / q)).sum(-1), rtol=1e-10)
  actions = np.random.RandomState(0).randint(0, 4, (TASKS, SAMPLES))
  np.testing.assert_allclose(policy.log_likelihood(old, tf.constant(actions)),
                             np.log(np.take_along_axis(p, actions[..., None], -1)[..., 0]),
                             rtol=1e-10)


def test_the_divergence_of_equals_is_exactly_zero(policy):
  outputs = outputs_of(policy, points_of(policy))
  assert not policy.kl(outputs, outputs).numpy().any()


def test_the_fisher_product_is_the_divergences_hessian(policy):
  """By outputs, and by nested tapes."""
  outputs = [tf.constant(value.numpy()) for value in outputs_of(policy, points_of(policy))]
  random = np.random.RandomState(2)
  tangents = [tf.constant(random.normal(size=value.shape)) for value in outputs]
  weights = tf.constant(random.uniform(size=(TASKS, SAMPLES)))
  with tf.GradientTape() as outer:
    outer.watch(outputs)
    with tf.GradientTape() as inner:
      inner.watch(outputs)
      old = [tf.stop_gradient(value) for value in outputs]
      divergence = tf.reduce_sum(weights * policy.kl(old, outputs))
    gradients = inner.gradient(divergence, outputs)
    along = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(gradients, tangents)])
  expected = outer.gradient(along, outputs)
  received = policy.fisher_product(tuple(outputs), tuple(tangents), weights)
  for ours, theirs in zip(received, expected):
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_it_acts_by_its_own_distribution():
  policy = GaussianPolicy(3, 2, (5, 4))
  points, noise = points_of(policy), np.random.RandomState(1).normal(size=(TASKS, SAMPLES, 2))
  mean, log_std = outputs_of(policy, points)
  acted = policy.act(policy.split(points), observations_of(policy), noise)
  np.testing.assert_allclose(acted, mean + tf.exp(log_std) * noise, rtol=1e-12)


def test_acting_with_a_context_is_the_same_net():
  policy = GaussianPolicy(3, 2, (5,), context_size=2)
  points = points_of(policy)
  still = policy.act(policy.split(points), observations_of(policy),
                     np.zeros((TASKS, SAMPLES, 2)))
  np.testing.assert_allclose(still, outputs_of(policy, points)[0], rtol=1e-12)
  other = points.copy()
  other[:, -2:] += 1
  assert np.abs(outputs_of(policy, other)[0] - still).max() > 0.01


def test_only_a_context_is_adapted_where_there_is_one():
  assert GaussianPolicy(3, 2, (5,)).adapted_mask().all()
  policy = GaussianPolicy(3, 2, (5,), context_size=2)
  assert policy.adapted_names == (CONTEXT,)
  np.testing.assert_array_equal(np.flatnonzero(policy.adapted_mask()),
                                policy.num_parameters - np.array([2, 1]))


def test_discrete_actions_come_as_often_as_they_should():
  policy = CategoricalPolicy(3, 4, (5,))
  points = points_of(policy)
  count = 20000
  observations = np.repeat(observations_of(policy)[:, :1], count, axis=1)
  noise = np.stack([policy.draw_noise(stream(task), count) for task in range(TASKS)])
  acted = policy.act(policy.split(points), observations, noise)
  assert acted.dtype == np.int32
  shares = np.stack([np.bincount(row, minlength=4) / count for row in acted])
  chances = tf.nn.softmax(outputs_of(policy, points)[0])[:, 0]
  np.testing.assert_allclose(shares, chances, atol=0.015)
  # The largest noise there is, and the smallest.
  edges = policy.act(policy.split(points), observations[:, :2],
                     np.tile([0.0, np.nextafter(1, 0)], (TASKS, 1)))
  np.testing.assert_array_equal(edges, np.tile([0, 3], (TASKS, 1)))


def test_no_discrete_action_is_made_of_logits_that_are_not_finite():
  policy = CategoricalPolicy(1, 3, (2,))
  parameters = policy.split(np.full((1, policy.num_parameters), 1e30, np.float32))
  observations = np.ones((1, 1, 1), np.float32)
  with np.errstate(over='ignore'):
    with pytest.raises(Diverged, match='logits of the actions are not finite'):
      policy.act(parameters, observations, np.full((1, 1), 0.5))
    with pytest.raises(Diverged, match='logits of the actions are not finite'):
      policy.most_likely(parameters, observations)


def test_a_policy_for_each_kind_of_action():
  def environment(actions):
    return types.SimpleNamespace(observation_size=3, actions=actions)
  assert isinstance(policy_for(environment(ContinuousActions(2))), GaussianPolicy)
  discrete = policy_for(environment(DiscreteActions(4)), hidden_sizes=(7,))
  assert isinstance(discrete, CategoricalPolicy)
  assert discrete.split(np.zeros((1, discrete.num_parameters)))['output/kernel'].shape == (
      1, 7, 4)
  with pytest.raises(TypeError, match='Received: 3'):
    policy_for(environment(3))


def test_parameters_that_are_of_no_use_are_named():
  policy = GaussianPolicy(3, 2, (5,))
  points = points_of(policy)
  policy.check(points, 'here')
  points[1, -1] = -14
  with pytest.raises(Diverged, match='of the policy here has collapsed'):
    policy.check(points, 'here')
  points[0, 0] = np.nan
  with pytest.raises(Diverged, match='parameters here are not finite'):
    policy.check(points, 'here')
