"""The outer objective's derivatives, in float64, against differences and nested tapes."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest
import tensorflow as tf
from rl_problems import generic_parameters, random_batches

from maml_tf.errors import ConfigError
from maml_tf.rl.meta_policy import MetaPolicy
from maml_tf.rl.outer_objective import OuterObjective
from maml_tf.rl.policy import CategoricalPolicy, GaussianPolicy
from maml_tf.rl.trajectories import Batch, packed

STEP = 1e-7       # a unit that switches within a larger one makes the gradient jump
KINDS = ('gaussian', 'categorical', 'context')


@functools.cache
def meta_policy_of(kind, **options):
  """Compiled once for all tests."""
  policy = {'gaussian': lambda: GaussianPolicy(3, 2, (5, 4)),
            'categorical': lambda: CategoricalPolicy(3, 4, (5, 4)),
            'context': lambda: GaussianPolicy(3, 2, (5,), context_size=2)}[kind]()
  return MetaPolicy(policy, step_size=0.3, **{
      'dtype': 'float64', 'tasks_at_once': 2, **options})


def make(kind='gaussian', updates=1, tasks=3, **options):
  """(meta-policy, theta, batches)."""
  meta_policy = meta_policy_of(kind, **options)
  policy = meta_policy.policy
  outputs = GaussianPolicy(3, 2, (5,)) if kind == 'context' else policy
  batches, _ = random_batches(outputs, tasks, updates + 1, discrete=kind == 'categorical')
  return meta_policy, generic_parameters(policy), batches


@pytest.fixture(scope='module', autouse=True)
def _let_go():
  yield
  meta_policy_of.cache_clear()


def nested(meta_policy, batches, old, theta, ratio=False):
  """(S, KL) of theta as one graph, through inner steps by nested tapes."""
  policy = meta_policy.policy
  mask = tf.constant(policy.adapted_mask())
  points = tf.tile(theta[None], [len(batches[0].weights), 1])
  for batch in batches[:-1]:
    with tf.GradientTape() as tape:
      tape.watch(points)
      likelihoods = policy.log_likelihood(
          policy(policy.split_tensor(points), tf.constant(batch.observations)),
          tf.constant(batch.actions))
      if ratio:
        likelihoods = tf.exp(likelihoods - tf.stop_gradient(likelihoods))
      loss = -tf.reduce_sum(likelihoods * batch.advantages)
    points = points - meta_policy.step_size * mask * tape.gradient(loss, points)
  batch = batches[-1]
  new = policy(policy.split_tensor(points), tf.constant(batch.observations))
  if old is None:
    old = [tf.stop_gradient(value) for value in new]
  actions = tf.constant(batch.actions)
  ratios = tf.exp(policy.log_likelihood(new, actions) - policy.log_likelihood(old, actions))
  surrogate = -tf.reduce_sum(ratios * batch.advantages) / len(batch.weights)
  return surrogate, tf.reduce_sum(policy.kl(old, new) * batch.weights)


def old_outputs(meta_policy, objective, batches):
  return [tf.constant(value) for value in meta_policy.outputs(objective.points[-1],
                                                              batches[-1])]


def assert_close(received, expected, tolerance=1e-12):
  np.testing.assert_allclose(received, expected, rtol=0,
                             atol=tolerance * np.abs(expected).max())


def derivative(function, point, direction):
  return (function(point + STEP * direction) - function(point - STEP * direction)) / (
      2 * STEP)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('updates', [1, 3])
def test_gradients_against_finite_differences(kind, updates):
  meta_policy, theta, batches = make(kind, updates)
  objective = OuterObjective(meta_policy, theta, batches)
  other = theta + 0.02 * generic_parameters(meta_policy.policy, seed=5)
  random = np.random.RandomState(3)
  for point in (theta, other):
    gradient, kl_gradient = objective.gradient(point), objective.kl_gradient(point)
    for _ in range(5):
      direction = random.normal(size=len(theta))
      direction /= np.linalg.norm(direction)
      for value, function in (
          (gradient, lambda at: objective.losses(at).surrogate),
          (kl_gradient, lambda at: objective.losses(at).kl)):
        assert value @ direction == pytest.approx(
            derivative(function, point, direction), abs=1e-6 * np.linalg.norm(gradient))


@pytest.mark.parametrize('kind, ratio', [*((kind, False) for kind in KINDS),
                                         ('gaussian', True)])
def test_derivatives_against_nested_tapes(kind, ratio):
  """The gradient at another point, and the Hessian of the divergence at theta."""
  inner_loss = {'inner_loss': 'ratio'} if ratio else {}
  meta_policy, theta, batches = make(kind, updates=2, **inner_loss)
  objective = OuterObjective(meta_policy, theta, batches)
  other = tf.constant(theta + 0.02 * generic_parameters(meta_policy.policy, seed=5))
  old = old_outputs(meta_policy, objective, batches)
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(other)
    surrogate, kl = nested(meta_policy, batches, old, other, ratio)
  losses = objective.losses(other.numpy())
  assert losses.surrogate == pytest.approx(float(surrogate), abs=1e-12)
  assert losses.kl == pytest.approx(float(kl), rel=1e-10)
  assert_close(objective.gradient(other.numpy()), tape.gradient(surrogate, other), 1e-11)
  assert_close(objective.kl_gradient(other.numpy()), tape.gradient(kl, other), 1e-11)
  vector = generic_parameters(meta_policy.policy, seed=6)
  point = tf.constant(theta)
  with tf.GradientTape() as outer:
    outer.watch(point)
    with tf.GradientTape() as inner:
      inner.watch(point)
      _, kl = nested(meta_policy, batches, None, point, ratio)
    along = tf.reduce_sum(inner.gradient(kl, point) * vector)
  assert_close(objective.hessian_product(vector), outer.gradient(along, point), 1e-12)


def test_both_inner_losses_adapt_alike_and_differ_in_the_meta_gradient():
  plain, theta, batches = make(updates=1)
  ratio, _, _ = make(updates=1, inner_loss='ratio')
  first, second = (OuterObjective(kind, theta, batches) for kind in (plain, ratio))
  np.testing.assert_allclose(first.points[1], second.points[1], atol=1e-14)
  difference = first.gradient(theta) - second.gradient(theta)
  assert np.abs(difference).max() > 1e-3 * np.abs(first.gradient(theta)).max()


@pytest.mark.parametrize('kind', KINDS)
def test_before_a_step_nothing_has_changed(kind):
  meta_policy, theta, batches = make(kind)
  objective = OuterObjective(meta_policy, theta, batches)
  losses = objective.losses(theta)
  assert losses.kl == pytest.approx(0, abs=1e-12)
  # Ratios of 1 leave minus the sum of the advantages.
  np.testing.assert_allclose(losses.surrogates, -batches[-1].advantages.sum(axis=1),
                             atol=1e-12)
  assert np.abs(objective.kl_gradient(theta)).max() < 1e-12


def test_before_a_step_nothing_has_changed_in_float32():
  meta_policy, theta, batches = make(dtype='float32')
  objective = OuterObjective(meta_policy, theta, batches)
  losses = objective.losses(theta)
  assert losses.kl == pytest.approx(0, abs=1e-5)
  np.testing.assert_allclose(losses.surrogates, -batches[-1].advantages.sum(axis=1),
                             atol=1e-5)
  assert np.abs(objective.kl_gradient(theta)).max() < 1e-5


def test_float32_is_close():
  exact, theta, batches = make(updates=2)
  single, _, _ = make(updates=2, dtype='float32')
  vector = generic_parameters(exact.policy, seed=6)
  first, second = (OuterObjective(kind, theta, batches) for kind in (exact, single))
  assert_close(second.gradient(theta), first.gradient(theta), 1e-4)
  assert_close(second.hessian_product(vector), first.hessian_product(vector), 1e-4)


def test_first_order_takes_inner_gradients_as_constants():
  meta_policy, theta, batches = make(updates=2, first_order=True)
  objective = OuterObjective(meta_policy, theta, batches)
  exact = OuterObjective(make(updates=2)[0], theta, batches)
  np.testing.assert_array_equal(objective.points[-1], exact.points[-1])
  old = old_outputs(meta_policy, objective, batches)
  points = tf.constant(objective.points[-1])
  with tf.GradientTape() as tape:
    tape.watch(points)
    batch = batches[-1]
    new = meta_policy.policy(meta_policy.policy.split_tensor(points),
                             tf.constant(batch.observations))
    ratios = tf.exp(meta_policy.policy.log_likelihood(new, batch.actions)
                    - meta_policy.policy.log_likelihood(old, batch.actions))
    loss = -tf.reduce_sum(ratios * batch.advantages) / 3
  expected = tf.reduce_sum(tape.gradient(loss, points), axis=0)
  assert_close(objective.gradient(theta), expected)
  assert np.abs(exact.gradient(theta) - expected).max() > 0.01 * np.abs(expected).max()


def test_without_updates_it_is_plain_trpo():
  meta_policy, theta, batches = make(updates=0)
  objective = OuterObjective(meta_policy, theta, batches)
  assert len(objective.points) == 1
  vector = generic_parameters(meta_policy.policy, seed=6)
  fisher = meta_policy.linearised(objective.points, batches).fisher_product(
      np.tile(vector, (3, 1)))
  np.testing.assert_array_equal(objective.hessian_product(vector), fisher.sum(axis=0))


@pytest.mark.parametrize('at_once', [1, 2, 5])
def test_groups_of_tasks_change_nothing(at_once):
  whole, theta, batches = make(updates=2, tasks_at_once=3)
  parts = make(updates=2, tasks_at_once=at_once)[0]
  vector = generic_parameters(whole.policy, seed=6)
  first, second = (OuterObjective(kind, theta, batches) for kind in (whole, parts))
  assert_close(second.gradient(theta), first.gradient(theta))
  assert_close(second.hessian_product(vector), first.hessian_product(vector))


@pytest.mark.parametrize('dtype', ['float64', 'float32'])
def test_groups_side_by_side_change_no_bit(monkeypatch, dtype):
  own, theta, batches = make(updates=2, tasks=5, dtype=dtype)
  threads = set()

  def heard(function):
    def call(*arguments):
      threads.add(threading.get_ident())
      return function(*arguments)
    return call

  def derivatives(side_by_side):
    monkeypatch.setattr('maml_tf.rl.groups._GROUPS_SIDE_BY_SIDE', side_by_side)
    monkeypatch.setattr('maml_tf.rl.groups.available_cores', lambda: 2)
    threads.clear()
    objective = OuterObjective(own, theta, batches)
    with monkeypatch.context() as patch:
      patch.setattr(own, '_gradient', heard(own._gradient))
      return (objective.gradient(theta), objective.hessian_product(theta),
              *objective.losses(1.1 * theta)), threading.get_ident() in threads
  (one_by_one, is_here), (together, is_still_here) = derivatives(1), derivatives(2)
  for received, expected in zip(together, one_by_one):
    np.testing.assert_array_equal(received, expected)
  assert is_here and not is_still_here


def test_padding_and_the_order_of_rollouts_change_nothing():
  meta_policy, theta, _ = make()
  batches, trajectories = random_batches(meta_policy.policy)
  order = [2, 0, 3, 1]
  again = []
  for batch, phase in zip(batches, trajectories):
    advantages = np.random.RandomState(len(again)).normal(size=phase.rewards.shape)
    plain = packed(phase, advantages, 'float64')
    shuffled = packed(type(phase)(*(value[:, order] for value in phase)),
                      advantages[:, order], 'float64')
    padded = type(batch)(*(np.pad(value, [(0, 0), (0, 7)] + [(0, 0)] * (value.ndim - 2))
                           for value in plain))
    again.append((plain, shuffled, padded))
  values = []
  for kind in zip(*again):
    objective = OuterObjective(meta_policy, theta, kind)
    vector = generic_parameters(meta_policy.policy, seed=6)
    values.append((objective.gradient(theta), objective.hessian_product(vector)))
  for other in values[1:]:
    for received, expected in zip(other, values[0]):
      assert_close(received, expected)


def test_padding_of_which_a_policy_is_sure_spoils_nothing():
  """The likelihood ratio of what is no sample overflows, and 0 times that is not a number."""
  policy = GaussianPolicy(3, 2, (4,))
  meta_policy = MetaPolicy(policy, step_size=0.1, dtype='float64')
  theta = policy.split(generic_parameters(policy))
  theta['log_std'][:] = -4
  theta['output/bias'][:] = 10   # an action of 0 is far away where nothing is seen
  before = policy.flat(theta)
  theta['output/bias'][:] = 9.8
  after = policy.flat(theta)
  [batch], [trajectories] = random_batches(policy, phases=1)
  acted = policy.act(policy.split(np.tile(before, (3, 1))), trajectories.observations.reshape(
      3, -1, 3), np.zeros((3, 24, 2))).reshape(trajectories.actions.shape)
  batch = packed(trajectories._replace(actions=acted * trajectories.valid[..., None]),
                 trajectories.rewards, 'float64')
  assert (batch.weights == 0).any()
  objective = OuterObjective(meta_policy, before, [batch])
  assert np.isfinite(objective.losses(after)).all()
  assert np.isfinite(objective.kl_gradient(after)).all()


def test_the_secant_is_a_difference_of_gradients_and_not_the_product():
  meta_policy, theta, batches = make()
  objective = OuterObjective(meta_policy, theta, batches)
  vector = generic_parameters(meta_policy.policy, seed=6)
  secant, exact = objective.secant_product(vector), objective.hessian_product(vector)
  moved = vector / np.linalg.norm(theta)
  assert_close(secant, (objective.kl_gradient(theta + moved)
                        - objective.kl_gradient(theta - moved))
               * np.linalg.norm(theta) / 2, 1e-6)
  assert np.abs(secant - exact).max() > 1e-3 * np.abs(exact).max()
  # Of a vector that is short, it is the derivative.
  small = 1e-6 * vector
  np.testing.assert_allclose(objective.secant_product(small), 1e-6 * exact, rtol=0,
                             atol=1e-11)


def test_products_with_the_hessian_can_see_other_samples():
  meta_policy, theta, _ = make()
  batches, trajectories = random_batches(meta_policy.policy)
  advantages = [np.random.RandomState(7).normal(size=phase.rewards.shape)
                for phase in trajectories]
  fewer = [packed(phase, judged, 'float64', every=2)
           for phase, judged in zip(trajectories, advantages)]
  objective = OuterObjective(meta_policy, theta, batches, fewer)
  vector = generic_parameters(meta_policy.policy, seed=6)
  whole = OuterObjective(meta_policy, theta, batches)
  np.testing.assert_array_equal(objective.gradient(theta), whole.gradient(theta))
  assert not np.allclose(objective.hessian_product(vector), whole.hessian_product(vector))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('updates', [0, 2])
def test_the_secant_sees_the_same_samples_as_the_product(kind, updates):
  meta_policy, theta, batches = make(kind, updates)
  fewer = [Batch(*(value[:, ::2] for value in batch)) for batch in batches]
  objective = OuterObjective(meta_policy, theta, batches, fewer)
  short = 1e-6 * generic_parameters(meta_policy.policy, seed=6)
  exact, secant = objective.hessian_product(short), objective.secant_product(short)
  of_all = OuterObjective(meta_policy, theta, batches).secant_product(short)
  assert_close(secant, exact, 1e-5)
  assert np.abs(secant - of_all).max() > 0.01 * np.abs(exact).max()
  # Nothing has changed at theta, whatever the part; else its gradient would be in it.
  assert np.abs(objective._kl_gradient_of_part(theta)).max() < 1e-12


def test_shapes_that_change_do_not_compile_again():
  meta_policy, theta, _ = make()
  for seed in range(6):
    batches, _ = random_batches(meta_policy.policy, tasks=2 + seed % 2, steps=5 + seed,
                                seed=seed)
    OuterObjective(meta_policy, theta, batches).hessian_product(theta)
  assert meta_policy._fisher_product.experimental_get_tracing_count() == 1


def test_an_inner_loss_that_is_not_there_is_named():
  with pytest.raises(ConfigError, match="one of log_likelihood, ratio. Received: 'dice'"):
    make(inner_loss='dice')
