"""MAML-TRPO: one meta-iteration after another (algorithm 3).

An iteration draws tasks, and for each phase k = 0 ... K lets the policies act, judges what
they did, and (k < K) adapts them; the last phase's samples are those of the outer step.
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from maml_tf.rl.advantages import advantages
from maml_tf.rl.environments import Environment
from maml_tf.rl.errors import Diverged
from maml_tf.rl.meta_policy import MetaPolicy, OuterObjective
from maml_tf.rl.policy import Policy
from maml_tf.rl.rollouts import Batch, Sampler, Trajectories, packed
from maml_tf.rl.streams import TRAINING, TRAINING_TASKS, stream
from maml_tf.rl.trpo import Step, TrustRegion

HESSIAN_PRODUCTS = ('exact', 'secant')


class Settings(NamedTuple):
  """All that an algorithm has beside its environment and its policy.

  Attributes:
    tasks: of a meta-batch.
    rollouts: of each task, in each phase.
    num_updates: K, inner steps; 0: plain TRPO, the paper's pre-training.
    step_size: alpha.
    discount: gamma.
    gae_lambda: of the advantages.
    trust_region: the outer step.
    hessian: 'exact', or 'secant' as the original code has it.
    hessian_every: products with the Hessian see each task's sample 0, this, 2 x this...
    budget: see `Sampler.sample`.
    first_order: inner gradients count as constants.
    inner_loss: see `meta_policy.INNER_LOSSES`.
    one_task: judge all rollouts as those of one task, for policies that adapt to none.
    tasks_at_once: tasks whose activations are in memory together.
    dtype: of all arithmetic but the advantages'.
  """
  tasks: int = 20
  rollouts: int = 20
  num_updates: int = 1
  step_size: float = 0.1
  discount: float = 0.99
  gae_lambda: float = 1.0
  trust_region: TrustRegion = TrustRegion()
  hessian: str = 'exact'
  hessian_every: int = 1
  budget: str = 'rollouts'
  first_order: bool = False
  inner_loss: str = 'log_likelihood'
  one_task: bool = False
  tasks_at_once: int = 5
  dtype: str = 'float32'

  def check(self) -> None:
    """Raises `ValueError` for what cannot be run."""
    if self.hessian not in HESSIAN_PRODUCTS:
      raise ValueError(f'hessian must be one of {", ".join(HESSIAN_PRODUCTS)}. Received: '
                       f'{self.hessian!r}.')
    for name, least in (('tasks', 1), ('rollouts', 1), ('num_updates', 0),
                        ('hessian_every', 1), ('tasks_at_once', 1)):
      if getattr(self, name) < least:
        raise ValueError(f'{name} must be at least {least}. Received: '
                         f'{getattr(self, name)}.')
    if self.one_task and self.num_updates:
      raise ValueError('one_task is for policies that adapt to no task: num_updates=0. '
                       f'Received: num_updates={self.num_updates}.')


class Iteration(NamedTuple):
  """What a meta-iteration did.

  Attributes:
    number: of the iteration, from 0.
    returns: mean undiscounted return of all tasks in each phase, `[K + 1]`.
    surrogate, kl: after the outer step; 0 and 0 where it was rejected.
    accepted: how often the step was shortened, -1: rejected.
    step_size: of the outer step's first candidate.
    steps: of the environment.
    seconds: {'sampling', 'advantages', 'inner', 'outer'}.
  """
  number: int
  returns: np.ndarray
  surrogate: float
  kl: float
  accepted: int
  step_size: float
  steps: int
  seconds: Dict[str, float]


class Best(NamedTuple):
  """The parameters of the highest return after all updates in training, and which."""
  iteration: int
  score: float
  parameters: np.ndarray


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
  """What `Training` and the evaluation share: how policies act, are judged and adapt.

  Args:
    environment: to act in.
    policy: the net.
    settings: of the algorithm.
    seed: of all that is random.
  """

  def __init__(self, environment: Environment, policy: Policy, settings: Settings,
               seed: int):
    settings.check()
    self.environment = environment
    self.policy = policy
    self.settings = settings
    self.seed = seed
    self.sampler = Sampler(environment, policy, seed, settings.dtype)
    self.meta_policy = MetaPolicy(
        policy, step_size=settings.step_size, first_order=settings.first_order,
        inner_loss=settings.inner_loss, tasks_at_once=settings.tasks_at_once,
        dtype=settings.dtype)

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


class Training:
  """A policy's initialisation, meta-trained.

  All that is random follows from (seed, iteration) and what it is for, so a run that goes
  on from `state` is the run that was never stopped, to the last bit.

  Args:
    environment, policy, settings, seed: see `Learning`. The seed is that of the initial
      parameters, too.
  """

  def __init__(self, environment: Environment, policy: Policy, settings: Settings,
               seed: int = 0):
    self.learning = Learning(environment, policy, settings, seed)
    self.parameters = policy.flat(policy.initial_values(seed, settings.dtype)).astype(
        np.float64)
    self.iteration = 0
    self.best: Optional[Best] = None

  def iterate(self) -> Iteration:
    """One meta-iteration.

    Raises:
      ReinforcementError: for what it cannot go on with; nothing is changed then.
    """
    clock = Clock()
    phases, *samples = self._sampled(clock)
    objective = self.learning.meta_policy.objective(self.parameters, *samples)
    step = self._outer_step(objective)
    clock.lap('outer')
    returns = np.array([np.mean(phase.mean_returns()) for phase in phases])
    if self.best is None or returns[-1] > self.best.score:
      self.best = Best(self.iteration, float(returns[-1]), self.parameters)
    accepted = step.accepted >= 0
    done = Iteration(
        self.iteration, returns, step.tried_losses[-1] if accepted else 0.0,
        step.tried_kls[-1] if accepted else 0.0, step.accepted, step.step_size,
        int(sum(phase.lengths.sum() for phase in phases)), clock.seconds)
    self.parameters = step.parameters
    self.iteration += 1
    return done

  def state(self) -> Dict[str, Any]:
    """{name: array} of all that a run goes on from, and of its best parameters."""
    policy = self.learning.policy
    found = {f'parameters/{name}': value
             for name, value in policy.split(self.parameters).items()}
    found['iteration'] = np.int64(self.iteration)
    if self.best is not None:
      found['best_iteration'] = np.int64(self.best.iteration)
      found['best_score'] = np.float64(self.best.score)
      found.update({f'best/{name}': value
                    for name, value in policy.split(self.best.parameters).items()})
    return found

  def assign_state(self, state: Mapping[str, np.ndarray]) -> None:
    """Sets what `state` returned.

    Raises:
      ValueError: when it does not fit the policy.
    """
    parameters = self._assigned(state, 'parameters')
    best = None
    if 'best_score' in state:
      best = Best(int(state['best_iteration']), float(state['best_score']),
                  self._assigned(state, 'best'))
    self.parameters, self.best = parameters, best
    self.iteration = int(state['iteration'])

  def _assigned(self, state: Mapping[str, np.ndarray], prefix: str) -> np.ndarray:
    policy = self.learning.policy
    wanted = {f'{prefix}/{spec.name}': tuple(spec.shape) for spec in policy.parameter_specs}
    received = {name: tuple(np.shape(value)) for name, value in state.items()
                if name.startswith(f'{prefix}/')}
    if received != wanted:
      raise ValueError(f'The state does not fit the policy. Received: {received}; '
                       f'expected: {wanted}.')
    return policy.flat({spec.name: np.asarray(state[f'{prefix}/{spec.name}'], np.float64)
                        for spec in policy.parameter_specs})

  def _sampled(self, clock: Clock) -> Tuple[
      List[Trajectories], List[Batch], Sequence[Batch], List[np.ndarray]]:
    """Trajectories and batches of all phases, the batches for the Hessian, and the
    parameters of each phase."""
    learning, settings = self.learning, self.learning.settings
    tasks = learning.environment.draw_tasks(
        settings.tasks, stream(learning.seed, TRAINING_TASKS, self.iteration))
    points = [np.tile(self.parameters, (settings.tasks, 1))]
    phases, batches, hessian_batches = [], [], []
    for phase in range(settings.num_updates + 1):
      phases.append(learning.sampler.sample(
          points[-1], tasks, settings.rollouts, (TRAINING, self.iteration, phase),
          settings.budget))
      clock.lap('sampling')
      trajectories = phases[-1].in_one_task() if settings.one_task else phases[-1]
      judged = learning.judged(trajectories)
      batches.append(packed(trajectories, judged, settings.dtype))
      if settings.hessian_every > 1:
        hessian_batches.append(
            packed(trajectories, judged, settings.dtype, settings.hessian_every))
      clock.lap('advantages')
      if phase < settings.num_updates:
        points.append(learning.adapted(points[-1], batches[-1]))
        clock.lap('inner')
    if settings.one_task:
      points = [points[0][:1]]
    return phases, batches, hessian_batches or batches, points

  def _outer_step(self, objective: OuterObjective) -> Step:
    def losses(parameters):
      found = objective.losses(parameters)
      return found.surrogate, found.kl
    gradient = objective.gradient(self.parameters)
    if not np.isfinite(gradient).all():
      raise Diverged(f'The meta-gradient of iteration {self.iteration} is not finite. '
                     'Choose a smaller inner step size (update_lr), or fewer inner steps.')
    product = (objective.hessian_product if self.learning.settings.hessian == 'exact'
               else objective.secant_product)
    step = self.learning.settings.trust_region.step(
        self.parameters, losses(self.parameters)[0], gradient, product, losses)
    self.learning.policy.check(step.parameters, f'after iteration {self.iteration}')
    return step
