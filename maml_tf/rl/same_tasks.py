"""Whether tasks, of whatever kind, are the same, and copies of them."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import numpy as np

Episode = List[Tuple[np.ndarray, float]]   # observations, and rewards before them


def same_task(first: Any, second: Any) -> bool:
  """Equal, for tasks of any kind: numbers, arrays, dictionaries of them, objects."""
  if isinstance(first, dict) and isinstance(second, dict):
    return first.keys() == second.keys() and all(
        same_task(value, second[name]) for name, value in first.items())
  if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
    return len(first) == len(second) and all(map(same_task, first, second))
  if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
    if object in (first.dtype, second.dtype):   # which may have arrays in them
      return same_task(first.tolist(), second.tolist())
    return np.array_equal(*_as_coarse(first, second))
  try:
    first, second = _as_coarse(first, second)
    return bool(np.all(first == second))
  except Exception:   # of arrays of other shapes, and whatever a user's class does
    return False


def _as_coarse(first: Any, second: Any) -> Tuple[Any, Any]:
  """Floats in the less precise of both types, since an environment may store its task so."""
  arrays = np.asarray(first), np.asarray(second)
  if any(array.dtype.kind != 'f' for array in arrays):
    return first, second
  coarse = min((array.dtype for array in arrays), key=lambda dtype: dtype.itemsize)
  return arrays[0].astype(coarse), arrays[1].astype(coarse)


def same_episodes(episodes: Sequence[Episode]) -> bool:
  """Whether all are equal."""
  return all(_same(episode, episodes[0]) for episode in episodes[1:])


def _same(first: Episode, second: Episode) -> bool:
  return len(first) == len(second) and all(
      np.array_equal(a, b) and r == s for (a, r), (b, s) in zip(first, second))


def copied(task: Any) -> Any:
  """With arrays of its own, since an environment may write into them, and all rollouts of a
  task share it. What is of a user's class stays the same object."""
  if isinstance(task, np.ndarray):
    return task.copy()
  if type(task) is dict:
    return {name: copied(value) for name, value in task.items()}
  return type(task)(map(copied, task)) if type(task) in (list, tuple) else task
