"""The problems that flags and configurations know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Tuple

from maml_tf import measures
from maml_tf.errors import ConfigError

if TYPE_CHECKING:
  from maml_tf.problems.base import Problem
  from maml_tf.problems.baseline import Baseline

_PROBLEMS: Dict[str, 'Problem'] = {}


def register(problem: 'Problem') -> 'Problem':
  """Makes a problem known to flags, configurations, training, tests and reports.

  Raises:
    ConfigError: where there is one of that name.
  """
  if problem.name in _PROBLEMS:
    raise ConfigError(f'There is a problem {problem.name!r} already: choose another name.')
  measures.register(problem.measure)
  _PROBLEMS[problem.name] = problem
  return problem


def unregister(name: str) -> None:
  """The opposite of `register`."""
  del _PROBLEMS[name]


def names() -> Tuple[str, ...]:
  return tuple(_PROBLEMS)


def named(name: str) -> 'Problem':
  """The problem of that name.

  Raises:
    ConfigError: where there is none.
  """
  if name not in _PROBLEMS:
    raise ConfigError(f'--datasource={name} is not known; allowed: {", ".join(names())}.')
  return _PROBLEMS[name]


def baseline_names() -> Tuple[str, ...]:
  """Those of any problem."""
  return tuple(dict.fromkeys(name for problem in _PROBLEMS.values()
                             for name in problem.baselines))


def baseline_named(name: str) -> 'Baseline':
  """That of the first problem which has it."""
  return next(problem.baselines[name] for problem in _PROBLEMS.values()
              if name in problem.baselines)


def with_baseline(name: str) -> str:
  """Which problems have it, in words."""
  return ' or '.join(dict.fromkeys(problem.plural for problem in _PROBLEMS.values()
                                   if name in problem.baselines))
