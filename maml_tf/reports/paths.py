"""Figure 4: the paths of a point before and after adaptation."""

from __future__ import annotations

from typing import List, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maml_tf.files import write_whole
from maml_tf.measures import phase_name
from maml_tf.reports.png import png
from maml_tf.rl.environments import Environment
from maml_tf.rl.evaluation import adapted_rollouts
from maml_tf.rl.policy_learner import PolicyLearner
from maml_tf.rl.task_streams import HeldOutTasks
from maml_tf.rl.trajectories import Trajectories

TASKS = 4
UPDATES = 3
PATHS = 3   # of each task and number of updates
SHOWN = 0.7   # of each coordinate; goals are within 0.5
STYLES = (('0.6', ':'), ('C0', '-'), ('C1', '-'), ('C2', '-'))


def save_paths(path: str, model: PolicyLearner, generator: HeldOutTasks, title: str) -> None:
  """Saves a PNG: a few paths to the goals of the first held-out tasks, before and after each
  update.

  Args:
    path: of the file.
    model: the trained policy; its environment's observations are positions in the plane.
    generator: of held-out tasks.
    title: of the figure.
  """
  figure = paths_figure(model, generator, title)
  write_whole(path, png(figure))


def paths_figure(model: PolicyLearner, generator: HeldOutTasks, title: str) -> Figure:
  """The figure; see `save_paths`."""
  held_out = generator.first(TASKS)
  goals = held_out.tasks
  phases = list(adapted_rollouts(model.learning, model.theta(), goals,
                                 model.protocol(held_out, UPDATES)))
  figure = Figure(figsize=(3.2 * len(goals), 3.9), layout='constrained')
  figure.suptitle(title)
  for task, axes in enumerate(
      figure.subplots(1, len(goals), squeeze=False, sharey=True)[0]):
    _draw(axes, model.learning.environment, np.asarray(goals[task]), phases, task)
  figure.legend(*figure.axes[0].get_legend_handles_labels(), loc='outside lower center',
                ncols=UPDATES + 2)
  return figure


def _draw(axes: Axes, environment: Environment, goal: np.ndarray,
          phases: Sequence[Trajectories], task: int) -> None:
  for updates, (phase, (colour, style)) in enumerate(zip(phases, STYLES)):
    for number, points in enumerate(_paths(environment, goal, phase, task)):
      axes.plot(points[:, 0], points[:, 1], style, color=colour, linewidth=1,
                label=None if number else phase_name(updates))
  axes.plot(*goal, '*', color='C3', markersize=14, label='goal')
  axes.set(xlim=(-SHOWN, SHOWN), ylim=(-SHOWN, SHOWN), aspect='equal')
  returns = ', '.join(f'{phase.mean_returns()[task]:.0f}' for phase in phases)
  axes.set_title(f'returns {returns}', fontsize=9)
  axes.tick_params(labelsize=8)


def _paths(environment: Environment, goal: np.ndarray, phase: Trajectories, task: int
           ) -> List[np.ndarray]:
  lengths = phase.lengths[task, :PATHS]   # 0: there is no such rollout
  return [_path(environment, goal, phase.actions[task, rollout, :length])
          for rollout, length in enumerate(lengths) if length]


def _path(environment: Environment, goal: np.ndarray, actions: np.ndarray) -> np.ndarray:
  """Positions from the start to where the last action leads, which no action answers: of a
  point that is moved again."""
  simulation = environment.start([goal], [np.random.default_rng()])
  points = [simulation.observations[0]]
  for action in actions:
    simulation.step(action[np.newaxis], np.array([True]))
    points.append(simulation.observations[0])
  return np.array(points)
