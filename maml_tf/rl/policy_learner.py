"""MAML for policies as a Keras model: what flags, training and reports work with."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.measures import RETURN, Measure
from maml_tf.meta_parameters import MetaParameters
from maml_tf.outer_step import Means, OuterStep, apply_reduced, make_state, variables_of
from maml_tf.replicas import Replicas, values_of
from maml_tf.rl.environments import Environment
from maml_tf.rl.errors import Diverged
from maml_tf.rl.evaluation import Protocol, later_steps, returns_on
from maml_tf.rl.policy import Policy
from maml_tf.rl.settings import Settings
from maml_tf.rl.shares import Shares
from maml_tf.rl.streams import ADAPTATION
from maml_tf.rl.task_streams import HeldOut
from maml_tf.rl.training import Learning, Samples
from maml_tf.rl.trajectories import Trajectories
from maml_tf.task_results import TaskResults


class TrustRegionStep(OuterStep):
  """theta <- the largest improvement within a bound of the divergence (algorithm 3, line 10).

  What cannot be stepped on raises a `ReinforcementError`, and changes nothing.
  """

  def __call__(self, model: 'PolicyLearner', samples: Samples) -> Means:
    """One step.

    Args:
      model: whose parameters are changed.
      samples: of the iteration.

    Returns:
      loss, kl: of the surrogate and the divergence, after the step; 0 and 0 where it was
        rejected.
      return_0, ..., return_K, return: the mean return of the tasks before each inner step,
        and after all of them.
      accepted: how often the step was shortened, -1: rejected.
      step_size: of the first candidate.
      steps: of the environment; seconds_sampling, ...: where the time went.
    """
    step = model.learning.trust_region_step(samples)
    model.assign_theta(step.parameters)
    model.optimizer.iterations.assign_add(1)
    accepted = step.accepted >= 0
    return _logged(samples, loss=step.tried_losses[-1] if accepted else 0.0,
                   kl=step.tried_kls[-1] if accepted else 0.0, accepted=step.accepted,
                   step_size=step.step_size)


class MetaGradientStep(OuterStep):
  """theta <- theta - beta * meta-gradient, by the optimizer of the model: as the original
  trains the point without meta-learning, by Adam.

  What cannot be stepped on raises a `ReinforcementError`, and changes nothing.
  """

  def __call__(self, model: 'PolicyLearner', samples: Samples) -> Means:
    """One step; see `TrustRegionStep`, whose candidates there are none of here."""
    learning, before = model.learning, values_of(model.changed_variables())
    objective = learning.objective(samples)
    model.apply_gradient(learning.meta_gradient(samples, objective))
    try:
      learning.check(model.theta(), samples)
    except Diverged:
      for variable, value in zip(model.changed_variables(), before):
        variable.assign(value)
      raise
    model.assign_theta(learning.shares.of_writer(model.theta()))
    found = objective.losses(model.theta())
    samples.clock.lap('outer')
    return _logged(samples, loss=found.surrogate, kl=found.kl)


def _logged(samples: Samples, **of_the_step: float) -> Means:
  returns = samples.returns
  means = {**of_the_step, 'return': returns[-1],
           **{f'return_{phase}': value for phase, value in enumerate(returns)},
           'steps': samples.steps,
           **{f'seconds_{name}': value for name, value in samples.clock.seconds.items()}}
  return {name: tf.constant(value, tf.float64) for name, value in means.items()}


class PolicyLearner(tf.keras.Model):
  """A policy's initialisation, meta-trained by MAML-TRPO (algorithm 3).

  A batch of `fit` is the number of a meta-iteration, from which all follows that it draws
  (`Iterations`). It has the interface of a `MetaLearner`; its steps run eagerly around a few
  compiled functions, since environments are no part of a graph. Made in the scope of a
  `tf.distribute` strategy, it shares out the tasks of a meta-iteration (`Shares`).

  Args:
    environment: to act in.
    policy: the net.
    settings: of the algorithm.
    later_step: of alpha, in all updates of an adaptation beyond those of training: the
      original halves it in its evaluations.
    seed: of all that is random, the initial parameters included.
    parameters: the variables to train; None: new ones.

  Example:
    >>> from maml_tf.rl import PointNavigation, Settings, policy_for
    >>> from maml_tf.rl.task_streams import Iterations
    >>> environment = PointNavigation(horizon=10)
    >>> model = PolicyLearner(environment, policy_for(environment, hidden_sizes=(8,)),
    ...                       Settings(tasks=2, rollouts=3))
    >>> model.compile()
    >>> history = model.fit(Iterations().dataset(0, 2), verbose=0, shuffle=False).history
    >>> sorted(name for name in history if 'return' in name)   # of the last iteration
    ['return', 'return_0', 'return_1']
  """

  logs_are_summaries = True
  in_graphs = False
  steps_of_an_execution = 1

  def __init__(self, environment: Environment, policy: Policy, settings: Settings, *,
               later_step: float = 0.5, seed: int = 0,
               parameters: Optional[MetaParameters] = None):
    super().__init__(dtype=settings.dtype)
    self.learner = policy
    self.meta_parameters = (MetaParameters(policy, seed, settings.dtype)
                            if parameters is None else parameters)
    self.built = True
    self.learning = Learning(environment, policy, settings, seed,
                             Shares(Replicas.of(self)))
    self.outer_step: OuterStep = (
        TrustRegionStep() if settings.trust_region else MetaGradientStep())
    self._later_step = later_step
    # For what looks after `fit`: a step that went wrong raises, so that it stays False.
    self.diverged = tf.Variable(False, trainable=False)
    self.latest_loss = tf.Variable(0.0, trainable=False)

  @property
  def measure(self) -> Measure:
    """The return."""
    return RETURN

  def theta(self) -> np.ndarray:
    """The parameters as a vector, `[P]`, in float64."""
    return self.learner.flat(self.meta_parameters.arrays()).astype(np.float64)

  def assign_theta(self, vector: np.ndarray) -> None:
    """Sets the parameters, `[P]`."""
    self.meta_parameters.assign(self.learner.split(vector))

  def apply_gradient(self, vector: np.ndarray) -> None:
    """Changes the parameters by the optimizer; of a gradient `[P]` that is the same in all
    processes."""
    gradients = self.learner.split(vector.astype(self.learning.settings.dtype))
    variables = self.meta_parameters.variables_in_order(gradients)
    def apply():
      apply_reduced(self.optimizer, list(map(tf.constant, gradients.values())), variables)
    if Replicas.of(self).are_several:   # whose steps begin outside of replicas
      self.distribute_strategy.run(apply)
    else:
      apply()

  def state(self) -> Dict[str, np.ndarray]:
    """{name: array} of all that a test depends on."""
    return self.meta_parameters.arrays()

  def assign_state(self, values: Mapping[str, np.ndarray]) -> None:
    """Sets all of `state`.

    Raises:
      ValueError: when names or shapes differ from its own.
    """
    self.meta_parameters.assign(values)

  def start_from_parameters(self) -> None:
    """Nothing is learned beside the net; see `MetaLearner`."""

  def changed_variables(self) -> List:
    """All that a step changes."""
    return [*self.trainable_variables, *variables_of(self.optimizer)]

  def compile(self, optimizer=None, *, jit_compile: bool = False,
              steps_per_execution: int = 1) -> None:
    """Args:
      optimizer: makes the steps; those within a trust region it counts, and does nothing
        else. None: a new one.
      jit_compile, steps_per_execution: nothing but the defaults, see the class.
    """
    if jit_compile or steps_per_execution != 1:
      raise ConfigError('A PolicyLearner runs its steps eagerly, one at a time: leave '
                        f'jit_compile and steps_per_execution out. Received: {jit_compile}, '
                        f'{steps_per_execution}.')
    super().compile(optimizer=tf.keras.optimizers.SGD() if optimizer is None else optimizer,
                    run_eagerly=True)
    if isinstance(self.outer_step, MetaGradientStep):
      make_state(self.optimizer, self.trainable_variables)

  def train_step(self, iteration: tf.Tensor) -> Means:
    """A meta-iteration; see `TrustRegionStep`.

    Raises:
      ReinforcementError: for what it cannot go on with; nothing is changed then.
    """
    return self.outer_step(self, self.learning.sampled(self.theta(), int(iteration)))

  def task_results(self, held_out: HeldOut, num_updates: int) -> TaskResults:
    """The return of each task before the first update and after each one; see
    `returns_on`."""
    returns = returns_on(self.learning, self.theta(), held_out.tasks,
                         self.protocol(held_out, num_updates), held_out.numbers)
    return TaskResults({}, {RETURN.name: tf.constant(returns)})

  def results_function(self, num_updates: int) -> Callable[[HeldOut], TaskResults]:
    """`task_results` after so many updates."""
    return lambda held_out: self.task_results(held_out, num_updates)

  def step_sizes(self, num_updates: int) -> Tuple[float, ...]:
    """Of each update of an adaptation."""
    settings = self.learning.settings
    return later_steps(settings.step_size, num_updates, self._later_step,
                       settings.num_updates)

  def adapt(self, task, rollouts: int, num_updates: int = 1, seed: int = 0
            ) -> 'AdaptedPolicy':
    """The policy, adapted to one task of its environment by its own rollouts.

    Args:
      task: of the environment.
      rollouts: K, before each update.
      num_updates: as many times it acts, and is changed by what came of it.
      seed: of the rollouts.

    Raises:
      ConfigError: where there are no rollouts to adapt by.
    """
    if rollouts < 1 and num_updates:
      raise ConfigError(f'rollouts must be at least 1. Received: {rollouts}.')
    learning, points = self.learning, self.theta()[np.newaxis]
    for update, step_size in enumerate(self.step_sizes(num_updates)):
      trajectories = learning.sampler.sample(
          points, [task], rollouts, (ADAPTATION, seed, update))
      points = learning.adapted_to(points, trajectories, step_size)
    return self._adapted(points[0])

  def adapt_to(self, trajectories: Trajectories, step_size: Optional[float] = None
               ) -> 'AdaptedPolicy':
    """The policy after one update by rollouts that it made elsewhere, on a robot say.

    Args:
      trajectories: of one task: `[1, rollouts, steps, ...]`. Actions are the policy's own,
        `AdaptedPolicy.chosen`; those of `adapt(task, rollouts, num_updates=0)` to begin with.
      step_size: alpha; None: that of training.

    Raises:
      ConfigError: where their sizes do not fit the policy, or each other, and for steps that
        could not have been: not finite, or of an action that the policy does not have.
    """
    points = self.learning.adapted_to(self.theta()[np.newaxis], self._given(trajectories),
                                      step_size)
    return self._adapted(points[0])

  def _given(self, trajectories: Trajectories) -> Trajectories:
    """As arrays of the policy's own types, of sizes that were checked."""
    policy, dtype = self.learner, self.learning.settings.dtype
    actions = policy.action_spec(dtype)
    dtypes = (dtype, actions.dtype.as_numpy_dtype, np.float64, np.int32)
    given = Trajectories(*map(np.asarray, trajectories, dtypes))
    sizes = given.rewards.shape
    expected = ((*sizes, policy.observation_size), (*sizes, *actions.shape[2:]), sizes,
                sizes[:2])
    found = tuple(value.shape for value in given)
    if len(sizes) != 3 or sizes[0] != 1 or found != expected:
      of_an_action = ''.join(f', {size}' for size in actions.shape[2:])
      raise ConfigError(
          'Trajectories of one task must be observations [1, rollouts, steps, '
          f'{policy.observation_size}], actions [1, rollouts, steps{of_an_action}], rewards '
          '[1, rollouts, steps] and lengths [1, rollouts]. Received the sizes '
          f'{", ".join(map(str, found))}.')
    self._check_steps(given)
    return given

  def _check_steps(self, given: Trajectories) -> None:
    """What a likelihood and a baseline would take as it is, or ascribe to the step size."""
    steps, lengths = given.rewards.shape[2], given.lengths
    if not ((lengths >= 0) & (lengths <= steps)).all() or not lengths.any():
      raise ConfigError(f'lengths must be from 0 to the {steps} steps that there are, and not '
                        f'all be 0. Received: {lengths.tolist()}.')
    usable = (np.isfinite(given.observations).all(axis=-1) & np.isfinite(given.rewards)
              & self.learner.could_choose(given.actions))
    wrong = np.argwhere(given.valid & ~usable)
    if len(wrong):
      _, rollout, step = wrong[0]
      raise ConfigError(
          'Observations and rewards must be finite, and actions the policy\'s own, '
          '`AdaptedPolicy.chosen`: finite, or counted from 0 whatever the environment\'s '
          f'begin with. Received, in step {step} of rollout {rollout}: '
          f'{given.observations[0, rollout, step]}, {given.rewards[0, rollout, step]}, '
          f'{given.actions[0, rollout, step]}.')

  def _adapted(self, vector: np.ndarray) -> 'AdaptedPolicy':
    return AdaptedPolicy(self.learner, vector, self.learning.settings.dtype,
                         self.learning.environment)

  def protocol(self, held_out: HeldOut, num_updates: int) -> Protocol:
    """How it is tested on these tasks."""
    return Protocol(rollouts=held_out.rollouts, task_seed=held_out.seed,
                    budget=held_out.budget, step_sizes=self.step_sizes(num_updates))


class AdaptedPolicy:
  """A policy for one task.

  Args:
    policy: the net.
    vector: its parameters, `[P]`.
    dtype: of the arithmetic.
    environment: that it acts in; None: `act` gives the policy's own actions.
  """

  def __init__(self, policy: Policy, vector: np.ndarray, dtype: str = 'float32',
               environment: Optional[Environment] = None):
    self.policy = policy
    self.vector = vector
    self._dtype = dtype
    self._environment = environment
    self._parameters = policy.split(np.asarray(vector, dtype)[np.newaxis])

  def act(self, observation: np.ndarray, random: Optional[np.random.Generator] = None
          ) -> Any:
    """What the environment is stepped with, as in training: for a `gymnasium.Env` an action
    of its `action_space`, clipped to its bounds, of its shape and type.

    Args:
      observation: `[size]`, or of another shape with as many numbers.
      random: what the action is drawn by; None: the policy's most likely one.

    Raises:
      ConfigError: for an observation of another size.
    """
    chosen = self.chosen(observation, random)
    return chosen if self._environment is None else self._environment.action(chosen)

  def chosen(self, observation: np.ndarray, random: Optional[np.random.Generator] = None
             ) -> np.ndarray:
    """The policy's own action, as `Trajectories` have it, of which `act` makes the
    environment's: unbounded, or counted from 0.

    Args:
      observation, random: see `act`.
    """
    observation = np.asarray(observation, self._dtype).reshape(1, 1, -1)
    if observation.size != self.policy.observation_size:
      raise ConfigError(f'An observation has {self.policy.observation_size} numbers. '
                        f'Received: {observation.size}.')
    if random is None:
      return self.policy.most_likely(self._parameters, observation)[0, 0]
    noise = self.policy.draw_noise(random, 1)[np.newaxis]
    return self.policy.act(self._parameters, observation, noise)[0, 0]
