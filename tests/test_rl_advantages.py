"""Returns, baseline and advantages beside a plain loop over every step."""

from __future__ import annotations

import numpy as np
import pytest

from maml_tf.rl import advantages as judging
from maml_tf.rl.errors import Diverged

DISCOUNT, GAE_LAMBDA = 0.9, 0.8


@pytest.fixture
def ragged():
  """(observations, rewards, lengths): 3 tasks, 4 rollouts, up to 12 steps; garbage, not
  zeros, beyond a rollout's length."""
  random = np.random.RandomState(0)
  lengths = random.randint(1, 13, (3, 4))
  lengths[0, 0], lengths[1, 2] = 12, 1
  return (random.normal(scale=6, size=(3, 4, 12, 2)), random.normal(size=(3, 4, 12)),
          lengths)


def judged(observations, rewards, lengths):
  return judging.advantages(observations, rewards, lengths, discount=DISCOUNT,
                            gae_lambda=GAE_LAMBDA)


def features_of(observation, step):
  clipped = [min(max(value, -10.0), 10.0) for value in observation]
  time = step / 100
  return [*clipped, *(value ** 2 for value in clipped), time, time ** 2, time ** 3, 1.0]


def plain_task(observations, rewards, lengths):
  """(returns, values, raw advantages) of a task, as lists of rollouts."""
  returns, rows, targets = [], [], []
  for rollout, length in enumerate(lengths):
    sums = [sum(DISCOUNT ** (later - step) * rewards[rollout, later]
                for later in range(step, length)) for step in range(length)]
    returns.append(sums)
    targets += sums
    rows += [features_of(observations[rollout, step], step) for step in range(length)]
  rows, targets = np.array(rows), np.array(targets)
  weights = np.linalg.solve(rows.T @ rows + 1e-5 * np.eye(rows.shape[1]), rows.T @ targets)
  values, raw = [], []
  for rollout, length in enumerate(lengths):
    value = [float(np.dot(features_of(observations[rollout, step], step), weights))
             for step in range(length)] + [0.0]
    delta = [rewards[rollout, step] + DISCOUNT * value[step + 1] - value[step]
             for step in range(length)]
    raw.append([sum((DISCOUNT * GAE_LAMBDA) ** (later - step) * delta[later]
                    for later in range(step, length)) for step in range(length)])
    values.append(value[:-1])
  return returns, values, raw


def test_all_of_it_is_what_a_plain_loop_computes(ragged):
  observations, rewards, lengths = ragged
  received = judged(*ragged)
  for task in range(3):
    returns, values, raw = plain_task(observations[task], rewards[task], lengths[task])
    together = np.concatenate(raw)
    for rollout, length in enumerate(lengths[task]):
      standard = (raw[rollout] - together.mean()) / (together.std() + 1e-8)
      for name, wanted in (('returns', returns[rollout]), ('values', values[rollout]),
                           ('raw', raw[rollout]), ('standardised', standard)):
        values_of = getattr(received, name)[task, rollout]
        np.testing.assert_allclose(values_of[:length], wanted, rtol=1e-8, atol=1e-8)
        assert not values_of[length:].any()


def test_what_lies_beyond_a_rollout_counts_nowhere(ragged):
  observations, rewards, lengths = (value.copy() for value in ragged)
  before = judged(observations, rewards, lengths)
  valid = judging.valid_steps(lengths, 12)
  observations[~valid], rewards[~valid] = np.nan, np.inf
  for first, second in zip(before, judged(observations, rewards, lengths)):
    np.testing.assert_array_equal(first, second)


def test_more_padding_changes_nothing(ragged):
  observations, rewards, lengths = ragged
  longer = judged(np.pad(observations, [(0, 0)] * 2 + [(0, 5), (0, 0)]),
                  np.pad(rewards, [(0, 0)] * 2 + [(0, 5)]), lengths)
  np.testing.assert_array_equal(longer.standardised[..., :12], judged(*ragged).standardised)


def test_the_order_of_rollouts_does_not_matter(ragged):
  order = np.array([2, 0, 3, 1])
  shuffled = judged(*(value[:, order] for value in ragged))
  np.testing.assert_allclose(shuffled.standardised, judged(*ragged).standardised[:, order],
                             atol=1e-10)


def test_standardised_over_each_task_alone(ragged):
  lengths = ragged[2]
  standardised = judged(*ragged).standardised
  for values, mask in zip(standardised, judging.valid_steps(lengths, 12)):
    assert values[mask].mean() == pytest.approx(0, abs=1e-12)
    assert values[mask].std() == pytest.approx(1, rel=1e-6)


def test_a_rollout_that_is_not_there_counts_nowhere(ragged):
  observations, rewards, lengths = (
      np.concatenate([value, value[:, :1]], axis=1) for value in ragged)
  lengths[:, -1] = 0
  received = judged(observations, rewards, lengths)
  np.testing.assert_array_equal(received.standardised[:, :-1], judged(*ragged).standardised)
  assert not received.standardised[:, -1].any()


def test_a_baseline_without_a_solution_is_tried_with_more_damping(monkeypatch):
  solve, dampings = np.linalg.solve, []

  def failing(matrix, target):
    dampings.append(matrix[0, 0])
    if len(dampings) == 1:
      return np.full_like(target, np.nan)
    if len(dampings) == 2:
      raise np.linalg.LinAlgError('singular')
    return solve(matrix, target)
  monkeypatch.setattr(np.linalg, 'solve', failing)
  found = judging.fitted_baseline(np.zeros((3, 2)), np.ones(3))
  np.testing.assert_allclose(dampings, [1e-5, 1e-4, 1e-3])
  np.testing.assert_array_equal(found, [0, 0])


def test_no_baseline_at_all_is_one_sentence():
  with np.errstate(all='ignore'), pytest.raises(Diverged, match='scale the rewards'):
    judging.fitted_baseline(np.ones((3, 2)), np.full(3, np.inf))
