"""Random numbers as functions of what they are for, and of nothing else.

No generator lives longer than what it was made for: a run that was stopped and goes on,
another number of threads, or one rollout by itself, all get the same numbers.
"""

from __future__ import annotations

import numpy as np

# What a stream is for: the first word behind the seed.
TRAINING_TASKS, TRAINING, EVALUATION, CHECKS, ADAPTATION = range(5)


def stream(seed: int, *key: int) -> np.random.Generator:
  """The generator of `key`, such as (TRAINING, iteration, phase, task, rollout)."""
  # As the sequence's entropy itself, (1,) and (1, 0) would be the same key.
  return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))
