"""A few episodes of a few tasks of one's own environment: does it do what it has to?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple

import numpy as np

from maml_tf.rl.environments import DiscreteActions
from maml_tf.rl.errors import EnvironmentFault, short
from maml_tf.rl.same_tasks import Episode, same_episodes, same_task
from maml_tf.rl.streams import CHECKS, stream

if TYPE_CHECKING:
  from maml_tf.rl.gymnasium_tasks import GymnasiumTasks

CHECKED_TASKS, CHECKED_STEPS = 5, 20


def check_tasks(environment: GymnasiumTasks) -> None:
  """A few episodes of a few tasks: finite, repeatable, and of the task that was set."""
  tasks = environment.drawn(CHECKED_TASKS, 0)
  episodes = [_checked_episode(environment, task) for task in tasks]
  _check_repetition(environment, tasks, episodes[0])
  different = any(not same_task(task, tasks[0]) for task in tasks[1:])
  if different and same_episodes(episodes) and not environment.says_its_task:
    _check_whole_episodes(environment, tasks)


def _check_repetition(environment: GymnasiumTasks, tasks: Sequence[Any], episode: Episode
                      ) -> None:
  """In an instance that other tasks ran in, and in a new one; then of the tasks."""
  again = [_checked_episode(environment, tasks[0], instance=instance)
           for instance in environment.instances(2)]
  if not same_episodes([episode, *again]):
    raise EnvironmentFault(
        f'Two episodes of {environment.name} with the same task, seed and actions differ, so '
        'no run could be repeated. Take random numbers from self.np_random alone, which '
        'reset(seed=...) seeds, draw none in __init__(), keep nothing from one episode to '
        'the next, as NormalizeObservation does, and leave the task as it is: one that '
        'changes in an episode has to be copied in set_task().')
  # Here, since it comes with TensorFlow, which the processes of episodes need not import.
  from maml_tf.rl.task_streams import as_bytes
  drawn_again = environment.drawn(len(tasks), 0)
  if [*map(as_bytes, drawn_again)] != [*map(as_bytes, tasks)]:
    raise EnvironmentFault(
        f'{environment.name}.sample_tasks({len(tasks)}) returned other tasks with the same '
        'seed, so no run could be repeated. Take random numbers from self.np_random, which is '
        'seeded before each call; a task that changes in an episode has to be copied in '
        'set_task().')


def _check_whole_episodes(environment: GymnasiumTasks, tasks: Sequence[Any]) -> None:
  """Whether they differ at last, as those of sparse rewards may."""
  if same_episodes([_checked_episode(environment, task, environment.horizon)
                    for task in tasks]):
    raise EnvironmentFault(
        f'The task of {environment.name} has no effect: episodes of {len(tasks)} tasks with '
        'the same seed and actions are equal. reset() must not choose another task than '
        'set_task(task) did. Where random actions hardly ever meet what a task changes '
        '(sparse rewards), add get_task(), which returns the task that is set: it is '
        'compared instead.')


def _checked_episode(environment: GymnasiumTasks, task: Any, steps: int = CHECKED_STEPS,
                     instance: Optional[Any] = None) -> Episode:
  instance = environment.instances(1)[0] if instance is None else instance
  random = stream(0, CHECKS)
  seen = [_finite(environment, environment.begun(instance, task, seed=0), 0.0)]
  _check_task(environment, instance, task)
  for _ in range(min(steps, environment.horizon)):
    action = _random_action(environment, random)
    observation, reward, over = environment.stepped(instance, action)
    seen.append(_finite(environment, observation, reward))
    if over:
      break
  return seen


def _finite(environment: GymnasiumTasks, observation: np.ndarray, reward: float
            ) -> Tuple[np.ndarray, float]:
  """Both, checked."""
  if not np.isfinite(reward) or not np.isfinite(observation).all():
    raise EnvironmentFault(
        f'{environment.name} returned a reward or an observation that is not finite: '
        f'{reward}, {observation}. Correct the environment, or let it end the episode '
        'before that.')
  return observation, reward


def _check_task(environment: GymnasiumTasks, instance: Any, task: Any) -> None:
  if not environment.says_its_task:
    return
  said = environment.task_of(instance)
  if not same_task(said, task):
    raise EnvironmentFault(
        f'reset() of {environment.name} changes the task: {short(task)} was set, and '
        f'get_task() says {short(said)}. reset() must not choose another task than '
        'set_task(task) did.')


def _random_action(environment: GymnasiumTasks, random: np.random.Generator) -> np.ndarray:
  if isinstance(environment.actions, DiscreteActions):
    return random.integers(environment.actions.count)
  return random.standard_normal(environment.actions.size)
