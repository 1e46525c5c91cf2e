"""The paper's environments by name."""

from __future__ import annotations

from maml_tf.errors import ConfigError
from maml_tf.rl import locomotion
from maml_tf.rl.environments import Environment
from maml_tf.rl.point_navigation import PointNavigation

NAMES = (PointNavigation.name, *locomotion.NAMES)


def environment_named(name: str, threads: int = 1, horizon: int = 0) -> Environment:
  """An environment of the paper.

  Args:
    name: one of `NAMES`.
    threads: that simulate side by side, where there is MuJoCo to simulate.
    horizon: most steps of an episode; 0: the paper's.

  Raises:
    MissingLibrary: when gymnasium or MuJoCo is needed and not there.
  """
  if name not in NAMES:
    raise ConfigError(f'environment must be one of {", ".join(NAMES)}. Received: {name!r}.')
  more = {'horizon': horizon} if horizon else {}
  if name == PointNavigation.name:
    return PointNavigation(**more)
  return locomotion.Locomotion(name, threads, **more)
