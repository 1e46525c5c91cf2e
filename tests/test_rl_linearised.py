"""Products by hand, in float64, against TensorFlow's own second derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from rl_problems import generic_parameters

from maml_tf.rl import linearised
from maml_tf.rl.policy import LOG_STD, CategoricalPolicy, GaussianPolicy

TASKS, SAMPLES, ACTIONS = 2, 6, 3
POLICIES = {
    'gaussian': lambda: GaussianPolicy(4, ACTIONS, (5, 4)),
    'categorical': lambda: CategoricalPolicy(4, ACTIONS, (5, 4)),
    'context': lambda: GaussianPolicy(4, ACTIONS, (5, 4), context_size=2),
    'context in front of the outputs': lambda: GaussianPolicy(4, ACTIONS, (), context_size=2),
    'three layers': lambda: CategoricalPolicy(4, ACTIONS, (5, 4, 6)),
    'no hidden layer': lambda: GaussianPolicy(4, ACTIONS, ())}


@pytest.fixture(params=POLICIES)
def policy(request):
  return POLICIES[request.param]()


def points_of(policy, seed=0):
  """Negative deviations, too, so that nothing is at its start."""
  return tf.constant(np.stack([generic_parameters(policy, seed + task)
                               for task in range(TASKS)]))


def drawn(*shape):
  return tf.constant(np.random.RandomState(len(shape)).normal(size=shape))


OBSERVATIONS, ADVANTAGES, WEIGHTS = (
    drawn(TASKS, SAMPLES, 4), drawn(TASKS, SAMPLES),
    tf.constant(np.random.RandomState(7).uniform(size=(TASKS, SAMPLES))))


def loss_of(policy, ratio=False):
  if isinstance(policy, CategoricalPolicy):
    actions = tf.constant(np.random.RandomState(1).randint(ACTIONS, size=(TASKS, SAMPLES)),
                          tf.int32)
  else:
    actions = drawn(TASKS, SAMPLES, ACTIONS)

  def loss(outputs):
    likelihoods = policy.log_likelihood(outputs, actions)
    if ratio:
      likelihoods = tf.exp(likelihoods - tf.stop_gradient(likelihoods))
    return -tf.reduce_sum(likelihoods * ADVANTAGES, axis=1)
  return loss


def outputs_at(policy, points):
  return policy(policy.split_tensor(points), OBSERVATIONS)


def hessian(policy, points, loss):
  """`[tasks, P, P]`, by tapes."""
  with tf.GradientTape() as outer:
    outer.watch(points)
    with tf.GradientTape() as inner:
      inner.watch(points)
      losses = loss(outputs_at(policy, points))
    gradients = inner.gradient(losses, points)
  return outer.batch_jacobian(gradients, points)


def assert_close(received, expected):
  assert np.abs(expected).max() > 1e-3
  np.testing.assert_allclose(received, expected, rtol=0,
                             atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize('ratio', [False, True], ids=['log likelihood', 'ratio'])
def test_products_with_the_hessian_of_a_loss(policy, ratio):
  points, vectors, loss = points_of(policy), points_of(policy, 5), loss_of(policy, ratio)
  kept = linearised.passes(policy, points, OBSERVATIONS, loss)
  received = linearised.hessian_product(policy, points, kept, loss, vectors)
  assert_close(received, tf.linalg.matvec(hessian(policy, points, loss), vectors))


def test_products_with_the_fisher_matrix(policy):
  points, vectors = points_of(policy), points_of(policy, 5)
  kept = linearised.passes(policy, points, OBSERVATIONS)
  received = linearised.fisher_product(policy, points, kept, WEIGHTS, vectors)
  old = outputs_at(policy, points)
  divergence = hessian(policy, points, lambda new: tf.reduce_sum(
      policy.kl(old, new) * WEIGHTS, axis=1))
  assert_close(received, tf.linalg.matvec(divergence, vectors))


def test_a_deviation_at_its_bound_moves_nothing():
  policy = GaussianPolicy(4, ACTIONS, (5,), smallest_log_std=3.0)
  points, loss = points_of(policy), loss_of(policy)
  kept = linearised.passes(policy, points, OBSERVATIONS, loss)
  vectors = points_of(policy, 5)
  received = policy.split_tensor(
      linearised.hessian_product(policy, points, kept, loss, vectors))
  np.testing.assert_array_equal(received[LOG_STD], tf.zeros([TASKS, ACTIONS]))
  assert_close(policy.joined(received),
               tf.linalg.matvec(hessian(policy, points, loss), vectors))


def test_what_is_kept_serves_all_directions():
  policy = POLICIES['gaussian']()
  points, loss = points_of(policy), loss_of(policy)
  kept = linearised.passes(policy, points, OBSERVATIONS, loss)
  matrix = hessian(policy, points, loss)
  for seed in (5, 6):
    vectors = points_of(policy, seed)
    assert_close(linearised.hessian_product(policy, points, kept, loss, vectors),
                 tf.linalg.matvec(matrix, vectors))
