"""MAML-TRPO: one meta-iteration after another (algorithm 3).

An iteration draws tasks, and for each phase k = 0 ... K lets the policies act, judges what
they did, and (k < K) adapts them; the last phase's samples are those of the outer step.
"""

from __future__ import annotations

import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from maml_tf.rl.advantages import advantages
from maml_tf.rl.environments import Environment
from maml_tf.rl.errors import Diverged
from maml_tf.rl.meta_policy import MetaPolicy
from maml_tf.rl.outer_objective import OuterObjective
from maml_tf.rl.policy import Policy
from maml_tf.rl.rollouts import Sampler
from maml_tf.rl.settings import Settings
from maml_tf.rl.shares import ALONE, Shares
from maml_tf.rl.streams import TRAINING, TRAINING_TASKS, stream
from maml_tf.rl.trajectories import (
  Batch,
  Trajectories,
  first_steps,
  one_below_the_other,
  packed,
)
from maml_tf.rl.trpo import Step


class Samples(NamedTuple):
  """What policies adapted from theta did in a meta-iteration.

  Attributes:
    iteration: its number, from 0.
    parameters: theta, `[P]`.
    phases: trajectories before the first inner step and behind each one; where tasks are
      shared out, as batches and points are: those of this process.
    returns: mean undiscounted return of all tasks in each phase, `[K + 1]`.
    steps: of the environment, in all phases of all tasks.
    batches: of the phases.
    hessian_batches: of the phases, for products with the Hessian.
    points: parameters `[tasks, P]` of the policies of each phase.
    clock: where the time went, and goes.
  """
  iteration: int
  parameters: np.ndarray
  phases: List[Trajectories]
  returns: np.ndarray
  steps: int
  batches: List[Batch]
  hessian_batches: List[Batch]
  points: List[np.ndarray]
  clock: 'Clock'


class _Acted(NamedTuple):
  """What policies did in a phase.

  Attributes:
    trajectories: of the tasks of this process; as `one_task`, of all.
    counts: steps of each task of all processes.
    returns: the mean return of each.
  """
  trajectories: Trajectories
  counts: np.ndarray
  returns: np.ndarray


class _Phase(NamedTuple):
  """What `Samples` has of a phase."""
  trajectories: Trajectories
  mean_return: float
  steps: int
  batch: Batch
  hessian_batch: Batch


class Clock:
  """Where the time of an iteration goes."""

  def __init__(self):
    self.seconds: Dict[str, float] = {}
    self._since = time.perf_counter()

  def lap(self, name: str) -> None:
    now = time.perf_counter()
    self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
    self._since = now


class Learning:
  """What training and evaluation share: how policies act, are judged and adapt.

  Args:
    environment: to act in.
    policy: the net.
    settings: of the algorithm.
    seed: of all that is random.
    shares: who has which tasks of a meta-batch.
  """

  def __init__(self, environment: Environment, policy: Policy, settings: Settings,
               seed: int, shares: Shares = ALONE):
    settings.check()
    self.environment = environment
    self.policy = policy
    self.settings = settings
    self.seed = seed
    self.shares = shares
    self.sampler = Sampler(environment, policy, seed, settings.dtype)
    self.meta_policy = MetaPolicy(
        policy, step_size=settings.step_size, first_order=settings.first_order,
        inner_loss=settings.inner_loss, tasks_at_once=settings.tasks_at_once,
        dtype=settings.dtype, shares=shares)

  def judged(self, trajectories: Trajectories) -> np.ndarray:
    """The advantages of a phase, `[tasks, rollouts, steps]`."""
    return advantages(
        trajectories.observations, trajectories.rewards, trajectories.lengths,
        discount=self.settings.discount, gae_lambda=self.settings.gae_lambda).standardised

  def adapted(self, points: np.ndarray, batch: Batch, step_size: Optional[float] = None
              ) -> np.ndarray:
    """Each task's parameters after an inner step, checked."""
    adapted = self.meta_policy.adapted(points, batch, step_size)
    self.policy.check(adapted, 'after an inner step')
    return adapted

  def adapted_to(self, points: np.ndarray, trajectories: Trajectories,
                 step_size: Optional[float] = None) -> np.ndarray:
    """`adapted`, by what the policies of `points` did."""
    batch = packed(trajectories, self.judged(trajectories), self.settings.dtype)
    return self.adapted(points, batch, step_size)

  def sampled(self, parameters: np.ndarray, iteration: int) -> Samples:
    """The samples of a meta-iteration: all phases, adapted in between.

    All that is random follows from (seed, iteration). Each process lets the policies of its
    own tasks act; where all rollouts are judged as those of one task, they are exchanged, and
    all go on with all of them.

    Args:
      parameters: theta, `[P]`.
      iteration: its number, from 0.

    Raises:
      ReinforcementError: for what training cannot go on with.
    """
    settings, clock = self.settings, Clock()
    random = stream(self.seed, TRAINING_TASKS, iteration)
    if settings.one_task:
      points = [parameters[np.newaxis]]
      phases = [self._judged(self._acted_as_one_task(
          parameters, random, (TRAINING, iteration, 0)), clock)]
    else:
      points, phases = self._adapted_phases(parameters, random, iteration, clock)
    trajectories, returns, steps, batches, hessian_batches = map(list, zip(*phases))
    return Samples(iteration, parameters, trajectories, np.array(returns), sum(steps),
                   batches, hessian_batches, points, clock)

  def _adapted_phases(self, parameters: np.ndarray, random: np.random.Generator,
                      iteration: int, clock: 'Clock'
                      ) -> Tuple[List[np.ndarray], List[_Phase]]:
    """The points and what came of each, in tasks that the policies adapt to."""
    settings, own = self.settings, self.shares.own(self.settings.tasks)
    tasks = self.environment.draw_tasks(settings.tasks, random)[own.start:own.stop]
    points = [np.tile(parameters, (len(own), 1))]
    phases: List[_Phase] = []
    for number in range(settings.num_updates + 1):
      acted = self._acted(points[-1], tasks, own, (TRAINING, iteration, number))
      phases.append(self._judged(acted, clock))
      if number < settings.num_updates:
        points.append(self.adapted(points[-1], phases[-1].batch))
        clock.lap('inner')
    return points, phases

  def _acted(self, points: np.ndarray, tasks: Sequence, own: range, key: Sequence[int]
             ) -> _Acted:
    """What the policies of `points` do in `tasks`, whose numbers are `own`."""
    settings, number = self.settings, self.settings.tasks
    trajectories = self.sampler.sample(points, tasks, settings.rollouts, key, settings.budget,
                                       own if len(own) < number else None,
                                       self.shares.largest)
    lengths = trajectories.lengths
    counts, longest, returns = self.shares.whole(
        number, lengths.sum(axis=1), lengths.max(axis=1), trajectories.mean_returns())
    self.sampler.check_longest(longest)
    return _Acted(trajectories, counts, returns)

  def _acted_as_one_task(self, parameters: np.ndarray, random: np.random.Generator,
                         key: Sequence[int]) -> _Acted:
    """What one policy does in tasks that are new in each round of rollouts; by the budget
    'steps', in as many rounds as it takes. All processes have all of it then."""
    settings, own = self.settings, self.shares.own(self.settings.tasks)
    wanted = settings.tasks * settings.rollouts * self.environment.horizon
    points = np.tile(parameters, (len(own), 1))
    rounds: List[Trajectories] = []
    steps = 0
    while steps < wanted and (settings.budget == 'steps' or not rounds):
      tasks = self.environment.draw_tasks(settings.tasks, random)[own.start:own.stop]
      first = len(rounds) * settings.tasks
      found = self.sampler.sample(points, tasks, settings.rollouts, key,
                                  numbers=[first + number for number in own])
      rounds.append(self.shares.joined(settings.tasks, found))
      steps += int(rounds[-1].lengths.sum())
    found = one_below_the_other(rounds)
    self.sampler.check_longest(found.lengths.max(axis=1))
    together = first_steps(found.in_one_task(), wanted)
    return _Acted(together, together.lengths.sum(axis=1), together.mean_returns())

  def _judged(self, acted: _Acted, clock: 'Clock') -> _Phase:
    """A phase, of what was done in it."""
    settings, trajectories, counts = self.settings, acted.trajectories, acted.counts
    clock.lap('sampling')
    judged = self.judged(trajectories)
    batch = packed(trajectories, judged, settings.dtype, all_counts=counts)
    for_hessian = batch if settings.hessian_every == 1 else packed(
        trajectories, judged, settings.dtype, settings.hessian_every, counts)
    clock.lap('advantages')
    return _Phase(trajectories, float(np.mean(acted.returns)), int(counts.sum()), batch,
                  for_hessian)

  def objective(self, samples: Samples) -> OuterObjective:
    """The outer objective on the samples of an iteration."""
    part = None if self.settings.hessian_every == 1 else samples.hessian_batches
    return OuterObjective(self.meta_policy, samples.parameters, samples.batches,
                          part, samples.points,
                          None if self.settings.one_task else self.settings.tasks)

  def meta_gradient(self, samples: Samples, objective: OuterObjective) -> np.ndarray:
    """Of the surrogate, `[P]`, checked."""
    gradient = objective.gradient(samples.parameters)
    if not np.isfinite(gradient).all():
      raise Diverged(f'The meta-gradient of iteration {samples.iteration + 1} is not finite. '
                     'Choose a smaller inner step size (update_lr), or fewer inner steps.')
    return gradient

  def trust_region_step(self, samples: Samples) -> Step:
    """The outer step on the samples of an iteration.

    Raises:
      Diverged: where the meta-gradient, or theta after it, is of no use.
    """
    objective = self.objective(samples)
    gradient = self.meta_gradient(samples, objective)
    product = (objective.hessian_product if self.settings.hessian == 'exact'
               else objective.secant_product)
    step = self.settings.trust_region.step(
        samples.parameters, objective.means(samples.parameters)[0], gradient, product,
        objective.means)
    self.check(step.parameters, samples)
    step = step._replace(parameters=self.shares.of_writer(step.parameters))
    samples.clock.lap('outer')
    return step

  def check(self, parameters: np.ndarray, samples: Samples) -> None:
    """Raises `Diverged` where theta after an iteration is of no use."""
    self.policy.check(parameters, f'after iteration {samples.iteration + 1}')
