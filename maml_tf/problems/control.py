"""Reinforcement learning (section 5.3): points, half-cheetahs, ants, and one's own."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from maml_tf import from_file
from maml_tf.argument_types import MOST
from maml_tf.errors import ConfigError
from maml_tf.files import reported
from maml_tf.measures import RETURN, counted
from maml_tf.problems import registry
from maml_tf.problems.base import Problem
from maml_tf.problems.baseline import NOT_META_TRAINED, Baseline
from maml_tf.problems.refused import Refused
from maml_tf.rl.settings import BUDGETS, HESSIANS, INNER_LOSSES, Settings
from maml_tf.rl.trpo import TrustRegion

if TYPE_CHECKING:
  from maml_tf.config import Config
  from maml_tf.config.sections import ControlConfig
  from maml_tf.rl.environments import Environment

TRUST_REGION = 'trpo'   # the outer step that is no optimizer of Keras
# {field: its value where the outer step is that of an optimizer}.
NO_TRUST_REGION: Dict[str, Any] = dict(
    max_kl=0.0, cg_iterations=0, cg_damping=0.0, hessian=None, hessian_every=0)
ROLLOUTS_OF_ONE_TASK = 100   # an iteration of the baselines that adapt to none
# As many times the iterations between two validations: their iterations act a small part of
# what MAML's do, and a validation as much as ever.
_VALIDATED_LESS_OFTEN = 5

_NET = 'whose policy has two hidden layers of 100'
_REFUSED = (
    Refused('norm', 'None', _NET), Refused('conv', False, _NET),
    Refused('max_pool', False, _NET), Refused('num_filters', 64, _NET),
    Refused('mixed_precision', False, _NET),
    Refused('meta_lr_schedule', 'constant', 'whose step size is the same in all iterations'),
    Refused('meta_gradient_clip', 0.0, 'whose gradients are not clipped'),
    Refused('learned_step_sizes', 'None', 'whose inner steps all have --update_lr'),
    Refused('recompute_inner_steps', False, 'which keeps no inner steps in memory'),
    Refused('xla', 'auto', 'whose steps are not one graph'),
    Refused('tune_update_lr', False, 'which has no validation classes to tune it on'),
    Refused('legacy_checkpoint', None, 'of which the TF1 code has nothing'))


class ControlTraining(Baseline):
  """MAML-TRPO, and what the baselines share: a batch is the number of an iteration."""

  trains_on_tasks = False
  in_legacy_code = False

  def environment(self, config: 'Config') -> 'Environment':
    return config.problem.environment(config)

  def model(self, config: 'Config'):
    return self._learner(config, config.problem.settings(config), None)

  def pretraining(self, config: 'Config', model):
    """On tasks that are new in every rollout, or on several rollouts of each, without
    adaptation."""
    rollouts = config.control.pretrain_rollouts
    settings = config.problem.settings(config)._replace(
        rollouts=rollouts or 1, num_updates=0, one_task=not rollouts)
    return self._learner(config, settings, model.meta_parameters)

  def training_generator(self, config: 'Config'):
    from maml_tf.rl.task_streams import Iterations
    return Iterations()

  def _learner(self, config, settings: Settings, parameters):
    from maml_tf.rl.policy import policy_for
    from maml_tf.rl.policy_learner import PolicyLearner
    environment = self.environment(config)
    policy = policy_for(environment, context_size=config.learner.context_size)
    return PolicyLearner(
        environment, policy, settings, later_step=config.control.test_later_step,
        seed=config.task.seed, parameters=parameters)


class Pretrained(ControlTraining):
  """A policy trained over random tasks (5.3)."""

  name = folder = 'pretrained'
  why_alone = ('elsewhere --pretrain_iterations=N with --metatrain_iterations=0 is '
               'pre-training')
  refused = NOT_META_TRAINED

  def preset(self, values: Mapping[str, Any], given: Mapping[str, Any]) -> Dict[str, Any]:
    return {**_without_adaptation(values, values['metatrain_iterations']),
            'update_lr': 0.2, **_control(values).pretrained}


class Random(ControlTraining):
  """A fresh policy (5.3)."""

  name = folder = 'random'
  why_alone = 'only a policy can be tested without any training'
  refused = (*NOT_META_TRAINED,
             Refused('pretrain_iterations', 0, 'which is not trained'))

  def preset(self, values: Mapping[str, Any], given: Mapping[str, Any]) -> Dict[str, Any]:
    return {'metatrain_iterations': 0, 'update_lr': 1.0, **_control(values).random}


class Oracle(ControlTraining):
  """A policy that sees the task: the goal is a part of the observation (5.3)."""

  name = folder = 'oracle'
  why_alone = 'only there a task can be given away'
  refused = NOT_META_TRAINED
  # An update by the plain policy gradient only spoils what TRPO has trained for all goals.
  validated_before_updates = True

  def preset(self, values: Mapping[str, Any], given: Mapping[str, Any]) -> Dict[str, Any]:
    return {**_without_adaptation(values, 1000), **_control(values).oracle}

  def environment(self, config: 'Config') -> 'Environment':
    from maml_tf.rl.goal_in_observation import GoalInObservation
    return GoalInObservation(super().environment(config))


@dataclass(frozen=True)
class Control(Problem):
  """A distribution of environments that a policy adapts to by acting in them.

  Args:
    name: of the environment.
    tasks: of a meta-batch.
    rollouts: K, of each task before each inner step and behind the last one.
    iterations: of training.
    max_kl: delta.
    hessian_every: see `rl.settings.Settings`.
    test_rollouts: of each test task, each of full length.
    test_seed: of the test tasks, as in the original's evaluations.
    later_step: of alpha, in all updates of a test beyond those of training.
    pretrained, random, oracle: {field: value} that this baseline has of its own.
    validation_interval: in iterations.
  """
  name: str
  tasks: int = 40
  rollouts: int = 20
  iterations: int = 100
  max_kl: float = 0.01
  hessian_every: int = 5
  test_rollouts: int = 20
  test_seed: int = 1
  later_step: float = 0.5
  pretrained: Mapping[str, Any] = field(default_factory=dict)
  random: Mapping[str, Any] = field(default_factory=dict)
  oracle: Mapping[str, Any] = field(default_factory=dict)
  validation_interval: int = 10

  measure = RETURN
  may_test_validation = True
  plural = 'reinforcement learning'
  baselines = {baseline.name: baseline for baseline in (
      ControlTraining(), Pretrained(), Random(), Oracle())}
  refused = (*_REFUSED, Refused('env', None, 'which has an environment already'),
             Refused('simulation_processes', 1, 'which simulates in threads',
                     'give --simulation_threads'))
  acts = True
  methods = ('maml', 'context_vector')
  save_interval = 1
  # As many as a test has: 600 would act for longer than the ten iterations before them.
  early_end_tasks = 40

  def preset(self, num_classes: int, shots: Optional[int]) -> Dict[str, Any]:
    return dict(
        update_batch_size=shots or self.rollouts, test_query_size=self.test_rollouts,
        norm='None', conv=False, update_lr=0.1, num_updates=1,
        metatrain_iterations=self.iterations, meta_batch_size=self.tasks,
        meta_optimizer=TRUST_REGION, validation_interval=self.validation_interval,
        num_validation_tasks=20, num_test_tasks=40, test_num_updates=3, test_set=True,
        discount=0.99, gae_lambda=1.0, max_kl=self.max_kl, cg_iterations=10,
        cg_damping=1e-5, hessian='exact', hessian_every=self.hessian_every,
        rollout_budget='rollouts', inner_loss='log_likelihood',
        test_later_step=self.later_step)

  def task_in_words(self, config: 'Config') -> str:
    return f'{counted(config.task.update_batch_size, "rollout")} an update'

  def method_preset(self, method: str, num_classes: int, shots: int) -> Dict[str, Any]:
    return dict(context_size=5) if method == 'context_vector' else {}

  def check(self, config: 'Config') -> None:
    task, control = config.task, config.control
    if task.train_query_size != config.trained_shots:
      raise ConfigError(
          f'--train_query_size={task.train_query_size} does not fit --datasource={self.name}, '
          f'whose tasks have --update_batch_size={config.trained_shots} rollouts before '
          'each update and behind the last one: leave it out.')
    _check_words(control, rollout_budget=BUDGETS, inner_loss=INNER_LOSSES)
    _check_numbers(
        control, horizon=(0, MOST), discount=(0, 1), gae_lambda=(0, 1),
        pretrain_rollouts=(0, MOST), test_later_step=(0, 1e6),
        simulation_threads=(0, 1024), simulation_processes=(0, 1024))
    if config.training.meta_optimizer == TRUST_REGION:
      _check_trust_region(control)

  def additions_to_the_name(self, config: 'Config', usual: Mapping[str, Any]
                            ) -> List[Tuple[str, bool]]:
    values = config.to_values()
    bounded = config.training.meta_optimizer == TRUST_REGION
    return [(f'{name}{values[name]}', values[name] != usual[name])
            for name in ('horizon', 'discount', 'gae_lambda', 'pretrain_rollouts',
                         *(NO_TRUST_REGION if bounded else ()),
                         'rollout_budget', 'inner_loss')]

  # --- objects

  def environment(self, config: 'Config') -> 'Environment':
    """The environment, without the task in its observations."""
    from maml_tf.rl.catalogue import environment_named
    return environment_named(self.name, self.threads(config), config.control.horizon)

  def threads(self, config: 'Config') -> int:
    return _or_all_cores(config.control.simulation_threads)

  def settings(self, config: 'Config') -> Settings:
    """Of meta-training."""
    control, inner_loop = config.control, config.inner_loop
    settings = Settings(
        tasks=config.training.meta_batch_size, rollouts=config.task.update_batch_size,
        num_updates=inner_loop.num_updates, step_size=inner_loop.update_lr,
        discount=control.discount, gae_lambda=control.gae_lambda, trust_region=None,
        budget=control.rollout_budget, first_order=inner_loop.stop_grad,
        inner_loss=control.inner_loss,
        tasks_at_once=config.training.tasks_at_once or Settings().tasks_at_once,
        dtype=config.learner.dtype)
    if config.training.meta_optimizer != TRUST_REGION:
      return settings
    region = TrustRegion(max_kl=control.max_kl, cg_iterations=control.cg_iterations,
                         cg_damping=control.cg_damping)
    return settings._replace(trust_region=region, hessian=control.hessian,
                             hessian_every=control.hessian_every)

  def input_shape(self, config: 'Config') -> Tuple[int, ...]:
    return (self.learner(config).observation_size,)

  def net(self, config: 'Config', input_shape: Tuple[int, ...]):
    return self.learner(config)

  def learner(self, config: 'Config'):
    from maml_tf.rl.policy import policy_for
    return policy_for(config.baseline.environment(config),
                      context_size=config.learner.context_size)

  def objective(self, config: 'Config'):
    raise ConfigError(f'--datasource={self.name} has no loss of labels: policies are judged '
                      'by returns.')

  def source(self, config: 'Config', split: str, query_size: int):
    raise ConfigError(f'--datasource={self.name} has no examples to draw: its tasks are '
                      'acted in.')

  def held_out(self, config: 'Config', split: str, num_tasks: int, seed: int,
               replicas: int = 1):
    """The test tasks are those of the original's evaluations; validation tasks are others,
    with as many rollouts as in training."""
    from maml_tf.rl.task_streams import HeldOutTasks
    test = split == 'test'
    return HeldOutTasks(
        config.baseline.environment(config),
        drawn=config.evaluation.num_test_tasks if test else num_tasks, num_tasks=num_tasks,
        seed=self.test_seed if test else VALIDATION_SEED + seed,
        rollouts=config.task.test_query_size if test else config.task.update_batch_size,
        batches=replicas)

  def use_xla(self, config: 'Config') -> bool:
    return False


# Of the validation tasks: those of the tests are 1 and 2.
VALIDATION_SEED = 1000


class PointNavigation(Control):
  """A point in the plane moves to a goal that it does not see."""

  def draw_results(self, folder: str, config: 'Config', model, generator, title: str
                   ) -> List[str]:
    """Figure 4; none of policies that diverge, of which the test says so."""
    from maml_tf.reports.paths import save_paths
    from maml_tf.rl.errors import Diverged
    path = os.path.join(folder, f'paths{config.of_pictures}.png')
    try:
      with reported(path):
        save_paths(path, model, generator, title)
    except Diverged:
      return []
    return [path]


class OwnEnvironment(Control):
  """Any `gymnasium.Env` with `sample_tasks(n)` and `set_task(task)`: `--env=FILE.py:CLASS`."""

  refused = (*_REFUSED, Refused('simulation_threads', 0, 'which is stepped in Python',
                                'give --simulation_processes'))

  def check(self, config: 'Config') -> None:
    if not config.control.env:
      raise ConfigError(f'--datasource={self.name} lacks --env=FILE.py:CLASS: it must name a '
                        'gymnasium.Env with sample_tasks(n) and set_task(task).')
    from_file.parts(config.control.env, '--env')
    super().check(config)

  def environment(self, config: 'Config') -> 'Environment':
    from maml_tf.rl.gymnasium_tasks import GymnasiumTasks
    control = config.control
    make_again = functools.partial(from_file.load, control.env, '--env')
    return GymnasiumTasks(make_again(), horizon=control.horizon or None, load=make_again,
                          processes=_or_all_cores(control.simulation_processes))

  def additions_to_the_name(self, config: 'Config', usual: Mapping[str, Any]
                            ) -> List[Tuple[str, bool]]:
    # A path is too long for a folder's name, and says too much: the class tells them apart.
    name = config.control.env.rpartition(':')[2]
    return [(name, True), *super().additions_to_the_name(config, usual)]


def _check_trust_region(control: 'ControlConfig') -> None:
  _check_words(control, hessian=HESSIANS)
  _check_numbers(control, cg_iterations=(1, 1000), cg_damping=(0, 1e6),
                 hessian_every=(1, MOST))
  if not 0 < control.max_kl < float('inf'):
    raise ConfigError(f'--max_kl={control.max_kl} is not allowed: it must be a finite '
                      'number above 0.')


def _check_words(control: 'ControlConfig', **allowed: Sequence[str]) -> None:
  for name, words in allowed.items():
    if getattr(control, name) not in words:
      raise ConfigError(f'--{name}={getattr(control, name)} is not known; allowed: '
                        f'{", ".join(words)}.')


def _check_numbers(control: 'ControlConfig', **bounds: Tuple[float, float]) -> None:
  for name, (least, most) in bounds.items():
    if not least <= getattr(control, name) <= most:
      raise ConfigError(f'--{name}={getattr(control, name)} is not allowed: it must be '
                        f'between {least} and {most}.')


def _without_adaptation(values: Mapping[str, Any], iterations: int) -> Dict[str, Any]:
  """Of a policy that is trained over tasks, and adapted to none of them."""
  return dict(pretrain_iterations=iterations, metatrain_iterations=0,
              meta_batch_size=ROLLOUTS_OF_ONE_TASK,
              validation_interval=_VALIDATED_LESS_OFTEN * values['validation_interval'])


def _or_all_cores(count: int) -> int:
  """0: one for each core."""
  from maml_tf.task_groups import available_cores
  return count or available_cores()


def _control(values: Mapping[str, Any]) -> Control:
  return registry.named(values['datasource'])


# MAML has the settings of the original's evaluated runs, but for the point's inner step size:
# .1 as in the text, with which the paper's returns are reached here, where the runs had .5.
# Baselines have those of its evaluations and scripts, of a fresh policy of cheetah-direction
# the first step that the script ends with; docs/environments has what is not known of them.
_FULL = dict(hessian_every=1)   # of the fewer samples that an iteration of baselines has
_FALLS = dict(rollout_budget='steps', **_FULL)   # as many steps, however early ants fall
PROBLEMS: Tuple[Control, ...] = (
    PointNavigation('point_navigation', tasks=20, hessian_every=1, test_rollouts=40,
                    pretrained=dict(update_lr=0.5, meta_optimizer='adam', meta_batch_size=20,
                                    pretrain_rollouts=20),
                    random=dict(update_lr=0.5),
                    oracle=dict(pretrain_iterations=100, meta_batch_size=10,
                                rollout_budget='steps')),
    Control('cheetah_direction', max_kl=0.02,
            pretrained=dict(pretrain_iterations=500, max_kl=0.01, **_FULL),
            random=dict(update_lr=0.5),
            oracle=dict(pretrain_iterations=500, max_kl=0.01, **_FULL)),
    Control('cheetah_velocity', rollouts=10, iterations=475, pretrained=dict(update_lr=0.02),
            random=dict(update_lr=0.1)),
    Control('ant_direction', rollouts=40, iterations=575, test_rollouts=40, test_seed=2,
            later_step=0.01, pretrained=dict(pretrain_iterations=2000, **_FALLS),
            oracle=dict(pretrain_iterations=1975, **_FALLS)),
    Control('ant_velocity', iterations=375,
            pretrained=dict(pretrain_iterations=575, **_FALLS),
            oracle=dict(pretrain_iterations=550, **_FALLS)),
    OwnEnvironment('gym', tasks=20, test_rollouts=20),
)
