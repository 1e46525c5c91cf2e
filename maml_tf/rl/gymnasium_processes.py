"""Environments of one's own in several processes, through gymnasium's vector environment.

`gymnasium.vector.AsyncVectorEnv` gives each of its environments a process. The hundreds of
rollouts of a meta-batch are divided into as many blocks as there shall be processes, and a
block is what the vector environment takes for one environment. It is called as a whole, so
that of a block, too, only episodes that go on are stepped, and none begins anew by itself:
what comes out is, to the last bit, what one process makes.

Importing this needs no gymnasium.
"""

from __future__ import annotations

import atexit
import functools
import os
import pickle
import signal
import weakref
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

from maml_tf import interruptions
from maml_tf.rl.environments import Simulation
from maml_tf.rl.errors import EnvironmentFault
from maml_tf.rl.products import one_thread_a_product

# Begins episodes: (tasks, seeds) -> Simulation.
Begin = Callable[[Sequence, Sequence[int]], Simulation]


class EpisodeProcesses:
  """Processes that step blocks of episodes, begun with the first episode.

  Args:
    load: makes `Begin` in each process, at once: it gets there by `cloudpickle`, so that it
      may be of a script or a notebook.
    count: of processes.
    name: of the environment, for messages.
  """

  def __init__(self, load: Callable[[], Begin], count: int, name: str):
    self._load, self._count, self._name = load, count, name
    self._blocks: Optional[Any] = None   # an AsyncVectorEnv
    self._end: Callable = lambda: None   # its processes

  def start(self, tasks: Sequence, seeds: Sequence[int]) -> Simulation:
    """Begins episodes; those that were begun before are given up.

    Raises:
      EnvironmentFault: for what an environment does wrong, in whichever process, and for a
        process that cannot be started, or ends.
    """
    from gymnasium.vector.utils import CloudpickleWrapper
    # Tasks may be of a class that only the file of the environment knows.
    return _Blocks(self, CloudpickleWrapper(functools.partial(list, tasks)), seeds)

  def ask(self, method: str, *arguments: Any) -> Tuple[np.ndarray, ...]:
    """What the blocks' method returns, each array with the episodes of all blocks."""
    try:
      if self._blocks is None:
        self._blocks = self._started()
        self._end = weakref.finalize(self, _ended, self._blocks)
        # Before that of multiprocessing, which would wait for processes that heed no signal.
        atexit.register(self._end)
      answers = self._blocks.call(method, *arguments)
    except (EOFError, OSError) as error:   # its pipe is closed
      self.close()
      raise EnvironmentFault(
          f'A process that steps {self._name} has ended ({type(error).__name__}): it was '
          'killed (out of memory?), or could not start (in a script, what trains belongs '
          "below if __name__ == '__main__'). Start again, or use --simulation_processes=1, in "
          'Python processes=1, which needs none.') from error
    except EnvironmentFault:
      raise
    except Exception as error:   # of pickle, or of a task's own class; blocks return theirs
      self.close()
      raise self._not_sent('The tasks of ', error, 'make them of numbers, arrays, or a class '
                           'of these') from error
    for answer in answers:
      if isinstance(answer, EnvironmentFault):
        raise answer
    return tuple(map(np.concatenate, zip(*answers)))

  def close(self) -> None:
    """Ends the processes; the next episode starts others."""
    self._end()
    self._blocks = None

  def _started(self) -> Any:
    from gymnasium.vector import AsyncVectorEnv
    blocks = [functools.partial(_block, self._load, index, self._count, os.getpid())
              for index in range(self._count)]
    try:   # spawned: a fork of a process in which TensorFlow has threads may hang
      return AsyncVectorEnv(blocks, context='spawn', shared_memory=False)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
      raise self._not_sent(
          '', error, 'make it by a class or a function that needs nothing but what it imports'
      ) from error

  def _not_sent(self, what: str, error: Exception, advice: str) -> EnvironmentFault:
    return EnvironmentFault(
        f'{what}{self._name} cannot be sent to another process '
        f'({" ".join(str(error).split())}): {advice}, or use --simulation_processes=1, in '
        'Python processes=1.')


class _Blocks(Simulation):
  """The episodes of all blocks."""

  def __init__(self, processes: EpisodeProcesses, tasks: Callable[[], List],
               seeds: Sequence[int]):
    self._processes = processes
    self.observations, = processes.ask('begin', tasks, seeds)

  def step(self, actions: np.ndarray, running: np.ndarray
           ) -> Tuple[np.ndarray, np.ndarray]:
    self.observations, rewards, ended = self._processes.ask('advance', actions, running)
    return rewards, ended


def _block(load: Callable[[], Begin], index: int, count: int, parent: int) -> Any:
  """One of `count` blocks; the vector environment makes one in its own process, too."""
  import gymnasium

  class Block(gymnasium.Env):
    """Its own spaces mean nothing: `call` of the vector environment needs none."""
    observation_space = action_space = gymnasium.spaces.Discrete(1)

    def __init__(self):
      self._begin = load()   # at once: tasks may be of classes of the file that it loads

    def begin(self, tasks: Callable[[], List], seeds: Sequence[int]) -> Any:
      chosen = tasks()
      self._mine = _share(len(chosen), index, count)
      return _answer(self._begun, chosen[self._mine], seeds[self._mine])

    def advance(self, actions: np.ndarray, running: np.ndarray) -> Any:
      return _answer(self._stepped, actions[self._mine], running[self._mine])

    def _begun(self, tasks: Sequence, seeds: Sequence[int]) -> Tuple[np.ndarray, ...]:
      self._episodes = self._begin(tasks, seeds)
      return self._episodes.observations,

    def _stepped(self, actions: np.ndarray, running: np.ndarray) -> Tuple[np.ndarray, ...]:
      rewards, ended = self._episodes.step(actions, running)
      return self._episodes.observations, rewards, ended

  if os.getpid() == parent:
    return Block()
  # What reaches all: the run ends its iteration, and them.
  for number in (*interruptions.ENDING, *interruptions.REPEATED):
    signal.signal(number, signal.SIG_IGN)
  block = Block()
  one_thread_a_product()   # as sampling has it where there is one process
  return block


def _ended(blocks: Any) -> None:
  """Not by its `close`, which waits for a process that is gone, or heeds no signal."""
  for process in blocks.processes:
    process.kill()
  blocks.closed = True


def _share(episodes: int, index: int, count: int) -> slice:
  """Of a block: neighbours, as many as the others have, or one more."""
  return slice(index * episodes // count, (index + 1) * episodes // count)


def _answer(function: Callable, *arguments: Any) -> Any:
  """What it returns; a fault is returned, since gymnasium prints a traceback for one that is
  raised."""
  try:
    return function(*arguments)
  except EnvironmentFault as fault:
    return fault
