"""What the paper's reinforcement learning runs were, and what they reached (figure 4, 5).

Settings are those of the original code's evaluated runs, but for the point's inner step
size: .1 as in the text, with which the paper's returns are reached here (`docs/rl.md`), and
not .5. Returns are those of the figures' raw data, means over 40 held-out tasks.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple

from maml_tf.rl.evaluation import Protocol, halved
from maml_tf.rl.training import Settings
from maml_tf.rl.trpo import TrustRegion


class PaperRun(NamedTuple):
  """A run of the paper.

  Attributes:
    settings: of training.
    iterations: of training.
    protocol: of the test.
    returns: after 0, 1, 2, 3 updates.
    ci95: half of the 95% interval over tasks of the return after one update.
  """
  settings: Settings
  iterations: int
  protocol: Protocol
  returns: Tuple[float, ...]
  ci95: float


def _settings(tasks=40, rollouts=20, max_kl=0.01) -> Settings:
  return Settings(tasks=tasks, rollouts=rollouts, step_size=0.1,
                  trust_region=TrustRegion(max_kl=max_kl))


def _protocol(rollouts=20, task_seed=1) -> Protocol:
  return Protocol(rollouts=rollouts, task_seed=task_seed, step_sizes=halved(0.1, 3))


RUNS: Dict[str, PaperRun] = {
    'point_navigation': PaperRun(
        _settings(tasks=20), 100, _protocol(rollouts=40), (-40.4, -11.7, -3.3, -3.2), 2.2),
    'cheetah_direction': PaperRun(
        _settings(max_kl=0.02), 100, _protocol(), (-50.7, 293.2, 313.5, 315.7), 17.0),
    'cheetah_velocity': PaperRun(
        _settings(rollouts=10), 475, _protocol(), (-129.5, -78.6, -66.6, -60.8), 10.0),
    'ant_direction': PaperRun(
        _settings(rollouts=40), 575,
        _protocol(rollouts=40, task_seed=2)._replace(step_sizes=(0.1, 0.001, 0.001)),
        (8.7, 499.2, 500.7, 499.1), 33.0),
    'ant_velocity': PaperRun(
        _settings(), 375, _protocol(), (30.6, 96.7, 100.1, 101.4), 21.0),
}
