"""How much better an action was than expected: returns, baseline, advantages (A.2).

Everything is NumPy in float64. Arrays are `[tasks, rollouts, steps]` throughout, and what
lies beyond a rollout's length counts nowhere and comes out as 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from maml_tf.rl.errors import Diverged

OBSERVATION_BOUND = 10.0
TIME_SCALE = 100.0
RIDGE = 1e-5
RIDGE_ATTEMPTS = 5      # each ten times larger, where there is no finite solution
SMALLEST_STD = 1e-8


class Advantages(NamedTuple):
  """Of the samples of one phase.

  Attributes:
    returns: discounted, `[tasks, rollouts, steps]`.
    coefficients: of the baseline, `[tasks, features]`.
    values: the baseline's.
    raw: generalised advantages.
    standardised: of mean 0 and deviation 1 over each task's samples; what is used.
  """
  returns: np.ndarray
  coefficients: np.ndarray
  values: np.ndarray
  raw: np.ndarray
  standardised: np.ndarray


def advantages(observations: np.ndarray, rewards: np.ndarray, lengths: np.ndarray, *,
               discount: float, gae_lambda: float) -> Advantages:
  """Judges every action of a phase.

  The baseline is fitted per task on the samples that it is then used on, as in the
  original code.

  Args:
    observations: `[tasks, rollouts, steps, size]`.
    rewards: `[tasks, rollouts, steps]`.
    lengths: `[tasks, rollouts]`, the steps of each rollout.
    discount: gamma.
    gae_lambda: lambda of generalised advantages; 1: returns minus baseline.

  Raises:
    Diverged: when no finite baseline can be fitted.
  """
  valid = valid_steps(lengths, rewards.shape[2])
  rewards = np.where(valid, rewards, 0.0).astype(np.float64)
  returns = discounted_sums(rewards, discount)
  values = np.zeros_like(returns)
  coefficients = []
  for task, mask in enumerate(valid):
    inputs = baseline_features(observations[task], mask)
    coefficients.append(fitted_baseline(inputs, returns[task][mask]))
    values[task][mask] = inputs @ coefficients[-1]
  following = np.concatenate([values[..., 1:], np.zeros_like(values[..., :1])], axis=-1)
  raw = discounted_sums(rewards + discount * following - values, discount * gae_lambda)
  return Advantages(returns, np.stack(coefficients), values, raw, standardised(raw, valid))


def valid_steps(lengths: np.ndarray, steps: int) -> np.ndarray:
  """`[..., steps]`: True where a step belongs to its rollout."""
  return np.arange(steps) < lengths[..., np.newaxis]


def discounted_sums(values: np.ndarray, factor: float) -> np.ndarray:
  """sum over j >= 0 of factor^j x values[t + j], along the last axis.

  Nothing follows the last step, neither at an end nor at the horizon: no bootstrap.
  """
  sums = np.zeros_like(values)
  following = np.zeros_like(values[..., 0])
  for step in reversed(range(values.shape[-1])):
    following = values[..., step] + factor * following
    sums[..., step] = following
  return sums


def baseline_features(observations: np.ndarray, valid: np.ndarray) -> np.ndarray:
  """The linear baseline's inputs `[samples, 2 size + 4]`, of one task's valid steps.

  Args:
    observations: `[rollouts, steps, size]`.
    valid: `[rollouts, steps]`.
  """
  clipped = np.clip(observations[valid].astype(np.float64), -OBSERVATION_BOUND,
                    OBSERVATION_BOUND)
  time = np.broadcast_to(np.arange(valid.shape[1]) / TIME_SCALE, valid.shape)[valid][:, None]
  return np.concatenate(
      [clipped, clipped ** 2, time, time ** 2, time ** 3, np.ones_like(time)], axis=1)


def fitted_baseline(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
  """Coefficients of the ridge regression, `[features]`."""
  squares, products = inputs.T @ inputs, inputs.T @ targets
  for attempt in range(RIDGE_ATTEMPTS):
    try:
      found = np.linalg.solve(
          squares + RIDGE * 10 ** attempt * np.eye(len(squares)), products)
    except np.linalg.LinAlgError:
      continue
    if np.isfinite(found).all():
      return found
  raise Diverged('The baseline of the returns has no finite solution. The largest '
                 f'absolute return is {np.abs(targets).max():.3g}: scale the rewards.')


def standardised(raw: np.ndarray, valid: np.ndarray) -> np.ndarray:
  """Minus the mean, by the deviation, over each task's valid steps; 0 elsewhere.

  Raises:
    Diverged: when there is no finite deviation.
  """
  result = np.zeros_like(raw)
  for values, mask, target in zip(raw, valid, result):
    chosen = values[mask]
    with np.errstate(over='ignore', invalid='ignore'):
      mean, std = chosen.mean(), chosen.std()
    if not np.isfinite(std):
      raise Diverged('The advantages have no finite deviation. The largest is '
                     f'{np.abs(chosen).max():.3g}: scale the rewards.')
    target[mask] = (chosen - mean) / (std + SMALLEST_STD)
  return result
