"""The resolved configuration of a run: plain values, checked, and JSON.

A `Config` is built once, at the entry point (`flags/`), from the paper's values
for a data source (`preset`) and what the user gave. Nothing here knows flags or
TensorFlow. Everything below the entry point receives values from it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional

from maml_tf.bounded import parse_json
from maml_tf.meta_learners import METHODS

DATASOURCES = ('sinusoid', 'omniglot', 'miniimagenet')
NORMS = ('batch_norm', 'layer_norm', 'None')
DTYPES = ('float32', 'float64')
BASELINES = ('None', 'oracle', 'averaged', 'fine_tuning', 'nearest_neighbour')
# Those of images: one classifier of all training classes, used in two ways.
CLASSIFIER_BASELINES = ('fine_tuning', 'nearest_neighbour')
REGULARISERS = ('None', 'l2', 'mean')
# As large as the nets' own errors allow, see `maml_tf/baselines/averaged_nets.py`.
REGULARISER_WEIGHTS = {'None': 0.0, 'l2': 0.001, 'mean': 0.001}
CHECKPOINTS = ('latest', 'best')
INNER_OPTIMIZERS = ('sgd', 'adam')
SCHEDULES = ('constant', 'linear')
XLA_CHOICES = ('auto', 'on', 'off')

# Optimizers of Keras, and of TensorFlow Addons where it is installed.
KERAS_OPTIMIZERS = ('adam', 'sgd', 'momentum', 'rmsprop', 'adamw')
ADDONS_OPTIMIZERS = ('lamb', 'rectified_adam', 'yogi', 'novograd')
META_OPTIMIZERS = KERAS_OPTIMIZERS + ADDONS_OPTIMIZERS

# What the split of each data source holds: an upper bound for `num_classes`
# that is known before the data are read. {split: number of classes}.
SPLIT_CLASSES = {
    'omniglot': {'train': 1100, 'val': 100, 'test': 423},
    'miniimagenet': {'train': 64, 'val': 16, 'test': 20},
}
LARGEST_JSON = 1 << 20   # characters; a configuration has some 1,500
EXAMPLES_PER_CLASS = {'omniglot': 20, 'miniimagenet': 600}


# The papers do not give these: iterations, and points or images in each of them.
AVERAGED_ITERATIONS, AVERAGED_POINTS, AVERAGED_META_LR = 10000, 10, 0.002
CLASSIFIER_ITERATIONS = {'omniglot': 30000, 'miniimagenet': 12000}
CLASSIFIER_BATCH = 64


class ConfigError(ValueError):
  """A value or a combination of values that cannot be run.

  The message is one sentence: what was received, what is allowed, what to do.
  """


@dataclass(frozen=True)
class TaskConfig:
  """What a task is: the data source, its ways and shots."""
  datasource: str
  data_dir: Optional[str]        # prepared data; None: data/DATASOURCE
  num_classes: int               # N, ways
  update_batch_size: int         # K, support examples per class
  train_query_size: int          # query examples per class in training
  test_query_size: int           # the same in validation and testing
  seed: int                      # of the episodes and the initialisation


@dataclass(frozen=True)
class LearnerConfig:
  """The net."""
  norm: str                      # batch_norm, layer_norm, None
  num_filters: int
  conv: bool
  max_pool: bool
  dtype: str                     # float32, float64
  mixed_precision: bool          # products in bfloat16
  context_size: int              # channels (sinusoid: entries) of the context; 0: none


@dataclass(frozen=True)
class InnerLoopConfig:
  """The adaptation to one task (algorithm 1, lines 5-7)."""
  update_lr: float               # alpha
  num_updates: int
  stop_grad: bool                # first-order approximation
  inner_optimizer: str           # sgd, adam (Reptile)
  inner_batch_size: int          # examples of an inner step (Reptile); 0: all


@dataclass(frozen=True)
class TrainingConfig:
  """The outer loop."""
  method: str                    # maml, reptile, anil, context_vector
  baseline: str                  # see BASELINES
  num_averaged_nets: int         # of the baseline 'averaged'
  averaged_regulariser: str      # of its nets: None, l2, mean
  regulariser_weight: float
  pretrain_iterations: int
  metatrain_iterations: int
  meta_batch_size: int
  meta_lr: float                 # beta
  meta_lr_schedule: str          # constant, linear (falling to 0)
  meta_optimizer: str
  meta_gradient_clip: float      # elementwise bound; 0: none
  tasks_at_once: int             # tasks in memory together; 0: chosen for the tasks
  recompute_inner_steps: bool    # less memory, more time
  xla: str                       # auto, on, off
  validation_interval: int       # iterations
  num_validation_tasks: int


@dataclass(frozen=True)
class EvaluationConfig:
  """The test protocol (A.1 of the paper)."""
  test_set: bool                 # True: test classes; False: validation classes
  test_iter: int                 # checkpoint of that iteration; -1: see test_checkpoint
  test_checkpoint: str           # latest, best
  num_test_tasks: int
  test_num_updates: int
  test_inner_batch_size: int     # the same as inner_batch_size
  train_update_batch_size: int   # K of the trained checkpoint; -1: update_batch_size
  train_update_lr: float         # alpha of the trained checkpoint; -1: update_lr
  tune_update_lr: bool           # alpha of the test is chosen on validation tasks


@dataclass(frozen=True)
class RunConfig:
  """What to do, and where to write."""
  train: bool
  resume: bool
  log: bool
  logdir: str
  legacy_checkpoint: Optional[str]   # TF1 checkpoint to start from, or to test; or None
  pretrained: Optional[str]          # ROW, ROW:SEED or FILE.npz, for the same; or None


@dataclass(frozen=True)
class Config:
  """Everything that one run of `main.py` needs. See the sections."""
  task: TaskConfig
  learner: LearnerConfig
  inner_loop: InnerLoopConfig
  training: TrainingConfig
  evaluation: EvaluationConfig
  run: RunConfig

  def to_dict(self) -> Dict[str, Any]:
    return dataclasses.asdict(self)

  def to_values(self) -> Dict[str, Any]:
    """{field name: value} of all sections, as `from_values` takes it."""
    return {name: value for section in self.to_dict().values()
            for name, value in section.items()}

  def to_json(self) -> str:
    return json.dumps(self.to_dict(), indent=2) + '\n'

  @classmethod
  def from_dict(cls, sections: Mapping[str, Any]) -> 'Config':
    """The inverse of `to_dict`.

    A file of an earlier version lacks the fields that were added since; they get the
    value that says what was done then.

    Raises:
      ConfigError: for a section or a field that is unknown or missing.
    """
    _require_names('configuration', sections, SECTIONS)
    values = dict(_ADDED_SINCE)
    for name, section in SECTIONS.items():
      fields = {field.name for field in dataclasses.fields(section)}
      _require_names(f'configuration section {name!r}', sections[name], fields,
                     may_lack=_ADDED_SINCE)
      values.update(sections[name])
    return from_values(values)

  @classmethod
  def from_json(cls, text: str) -> 'Config':
    """The inverse of `to_json`.

    Raises:
      ConfigError: for text that is not JSON, or not a configuration.
    """
    try:
      sections = parse_json(text, most=LARGEST_JSON)
    except ValueError as error:
      raise ConfigError(f'The configuration is not JSON: {error}.') from error
    return cls.from_dict(sections)

  @property
  def is_classification(self) -> bool:
    return self.task.datasource != 'sinusoid'

  @property
  def uses_classifier(self) -> bool:
    """Whether the net is a classifier of all training classes."""
    return self.training.baseline in CLASSIFIER_BASELINES

  @property
  def trained_shots(self) -> int:
    """K of the run whose checkpoint is tested."""
    shots = self.evaluation.train_update_batch_size
    return self.task.update_batch_size if shots == -1 else shots

  def with_trained_shots(self) -> 'Config':
    """With the tasks of the run whose checkpoint is tested."""
    return dataclasses.replace(self, task=dataclasses.replace(
        self.task, update_batch_size=self.trained_shots))

  @property
  def total_iterations(self) -> int:
    return self.training.pretrain_iterations + self.training.metatrain_iterations

  @property
  def validation_num_updates(self) -> int:
    """Inner updates in validation: those of training. Reptile trains by few of them and
    tests after many, so that its validation is like its test."""
    return (self.evaluation.test_num_updates if self.training.method == 'reptile'
            else self.inner_loop.num_updates)

  @property
  def data_dir(self) -> str:
    return self.task.data_dir or f'data/{self.task.datasource}'

  @property
  def split(self) -> str:
    """The split that the test protocol uses."""
    return 'test' if self.evaluation.test_set else 'val'

  @property
  def experiment_name(self) -> str:
    """The TF1 code's folder name, and what that does not tell apart.

    The TF1 name does not say which seed, query size, optimizer or precision a
    run had, so two such runs overwrote each other. Those parts are added only
    where they differ from the preset, which keeps the TF1 names for TF1's runs.
    """
    task, learner, training = self.task, self.learner, self.training
    step_size = self.evaluation.train_update_lr
    name = (f'cls_{task.num_classes}.mbs_{training.meta_batch_size}'
            f'.ubs_{self.trained_shots}'
            f'.numstep{self.inner_loop.num_updates}'
            f'.updatelr{self.inner_loop.update_lr if step_size == -1 else step_size}')
    if learner.num_filters != 64:
      name += f'hidden{learner.num_filters}'
    if learner.max_pool:
      name += 'maxpool'
    if self.inner_loop.stop_grad:
      name += 'stopgrad'
    if self.uses_classifier:
      name += 'classifier'   # one training for both ways to use it
    elif training.baseline != 'None':
      name += training.baseline
    name += {'batch_norm': 'batchnorm', 'layer_norm': 'layernorm', 'None': 'nonorm'}[
        learner.norm]
    return name + self._additions_to_the_legacy_name()

  def _additions_to_the_legacy_name(self) -> str:
    usual = preset(self.task.datasource, self.task.num_classes, self.trained_shots,
                   self.training.method)
    training, inner_loop = self.training, self.inner_loop
    averaged = training.baseline == 'averaged'
    additions = [
        (training.method, training.method != 'maml'),
        (f'inner{inner_loop.inner_optimizer}',
         inner_loop.inner_optimizer != usual['inner_optimizer']),
        (f'innerbatch{inner_loop.inner_batch_size}',
         inner_loop.inner_batch_size != usual['inner_batch_size']),
        (f'context{self.learner.context_size}',
         self.learner.context_size != usual['context_size']),
        ('noconv', self.is_classification and not self.learner.conv),
        (f'nets{training.num_averaged_nets}',
         averaged and training.num_averaged_nets != usual['num_averaged_nets']),
        (f'{training.averaged_regulariser}{training.regulariser_weight}',
         averaged and training.averaged_regulariser != 'None'),
        (f'pretrain{training.pretrain_iterations}', training.pretrain_iterations > 0),
        (f'query{self.task.train_query_size}',
         self.task.train_query_size != usual['train_query_size']),
        (training.meta_optimizer, training.meta_optimizer != usual['meta_optimizer']),
        (f'metalr{training.meta_lr}', training.meta_lr != usual['meta_lr']),
        (training.meta_lr_schedule,
         training.meta_lr_schedule != usual['meta_lr_schedule']),
        (f'clip{training.meta_gradient_clip}',
         training.meta_gradient_clip != usual['meta_gradient_clip']),
        (self.learner.dtype, self.learner.dtype != usual['dtype']),
        ('bfloat16', self.learner.mixed_precision),
        (f'seed{self.task.seed}', self.task.seed != usual['seed']),
    ]
    return ''.join(f'.{text}' for text, differs in additions if differs)


# {field: what runs did before it existed}: configurations on disk stay readable.
_ADDED_SINCE = {
    'mixed_precision': False, 'recompute_inner_steps': False, 'method': 'maml',
    'meta_lr_schedule': 'constant', 'inner_optimizer': 'sgd', 'inner_batch_size': 0,
    'test_inner_batch_size': 0, 'context_size': 0, 'num_averaged_nets': 500,
    'averaged_regulariser': 'None', 'regulariser_weight': 0.0, 'tune_update_lr': False,
    'pretrained': None}

SECTIONS = {
    'task': TaskConfig,
    'learner': LearnerConfig,
    'inner_loop': InnerLoopConfig,
    'training': TrainingConfig,
    'evaluation': EvaluationConfig,
    'run': RunConfig,
}


def field_types() -> Dict[str, str]:
  """{field name: type as written}, of all sections. Field names are unique."""
  return {field.name: field.type
          for section in SECTIONS.values() for field in dataclasses.fields(section)}


def preset(datasource: str, num_classes: Optional[int] = None,
           update_batch_size: Optional[int] = None, method: str = 'maml'
           ) -> Dict[str, Any]:
  """The paper's values for a data source, a number of classes and of shots.

  Args:
    datasource: one of `DATASOURCES`.
    num_classes: N; None: 5.
    update_batch_size: K; None: 5 for sinusoids, 1 for images.
    method: one of `METHODS`.

  Returns:
    {field name: value}, complete: `from_values` accepts it as it is.

  Source: sections 5.1, 5.2 and A.1 of the paper, and where the paper is silent
  the TF1 code's commands and defaults: sinusoid step size 0.001 and 15,000
  iterations (the code's defaults; its 10-shot command has 70,000), gradient
  clipping for mini-ImageNet, the meta-learning rate. Of Reptile: see
  `_reptile_values`. ANIL and the context vector have MAML's values, but for the step size
  on sinusoids and the size of the context, which are this project's.

  Raises:
    ConfigError: for an unknown data source or method.
  """
  _require_choice('datasource', datasource, DATASOURCES)
  _require_choice('method', method, METHODS)
  num_classes = 5 if num_classes is None else num_classes
  values: Dict[str, Any] = dict(
      datasource=datasource, data_dir=None, num_classes=num_classes,
      update_batch_size=1, train_query_size=None, test_query_size=None, seed=0,
      norm='batch_norm', num_filters=64, conv=True, max_pool=False, dtype='float32',
      mixed_precision=False, context_size=0, update_lr=0.4, num_updates=1, stop_grad=False,
      inner_optimizer='sgd', inner_batch_size=0, method=method, meta_lr_schedule='constant',
      baseline='None', num_averaged_nets=500, averaged_regulariser='None',
      regulariser_weight=0.0, pretrain_iterations=0, metatrain_iterations=60000,
      meta_batch_size=32, meta_lr=0.001, meta_optimizer='adam',
      meta_gradient_clip=0.0, tasks_at_once=0,
      recompute_inner_steps=False, xla='auto',
      validation_interval=500, num_validation_tasks=200,
      test_set=False, test_iter=-1, test_checkpoint='latest', num_test_tasks=600,
      test_num_updates=10, test_inner_batch_size=0, train_update_batch_size=-1,
      train_update_lr=-1.0, tune_update_lr=False, train=True, resume=True, log=True,
      logdir=f'logs/{datasource}', legacy_checkpoint=None, pretrained=None)
  if datasource == 'sinusoid':
    values.update(update_batch_size=5, norm='None', conv=False, update_lr=0.001,
                  metatrain_iterations=15000, meta_batch_size=25,
                  validation_interval=2500, num_validation_tasks=600)
  elif datasource == 'omniglot':
    values.update(num_validation_tasks=400)
    if num_classes >= 20:
      values.update(update_lr=0.1, num_updates=5, meta_batch_size=16,
                    num_validation_tasks=100)
  else:
    values.update(num_filters=32, max_pool=True, update_lr=0.01, num_updates=5,
                  meta_batch_size=4, train_query_size=15, meta_gradient_clip=10.0)
  if update_batch_size is not None:
    values['update_batch_size'] = update_batch_size
  if datasource == 'miniimagenet' and values['update_batch_size'] >= 5:
    values['meta_batch_size'] = 2
  if method == 'reptile':
    values.update(_reptile_values(datasource, num_classes, values['update_batch_size']))
  elif method == 'context_vector':
    values.update(context_size=5 if datasource == 'sinusoid' else 1)
  if datasource == 'sinusoid' and method in _SINUSOID_STEP_SIZES:
    values.update(update_lr=_SINUSOID_STEP_SIZES[method])
  for query_size in ('train_query_size', 'test_query_size'):
    if values[query_size] is None:
      values[query_size] = values['update_batch_size']
  return values


# Less of the net is adapted, so steps are larger; chosen among a few by short runs.
_SINUSOID_STEP_SIZES = {'anil': 0.1, 'context_vector': 1.0}


def _reptile_values(datasource: str, num_classes: int, shots: int) -> Dict[str, Any]:
  """Reptile's own values (Nichol et al. 2018, and the commands in the authors' README).

  For images theirs; support and query examples together are their training shots. For
  sinusoids this project's, chosen among a few by short runs.
  """
  values: Dict[str, Any] = dict(
      inner_optimizer='adam', inner_batch_size=10, update_lr=0.001, num_updates=5,
      meta_optimizer='sgd', meta_lr=1.0, meta_lr_schedule='linear', meta_gradient_clip=0.0,
      meta_batch_size=5, metatrain_iterations=100000, test_num_updates=50,
      test_inner_batch_size=5)
  train_shots = 10
  if datasource == 'sinusoid':
    train_shots = 50
    values.update(inner_optimizer='sgd', update_lr=0.02, num_updates=10,
                  metatrain_iterations=30000, test_num_updates=32, test_inner_batch_size=0)
  elif datasource == 'omniglot':
    if num_classes >= 20:
      values.update(update_lr=0.0005, inner_batch_size=20, num_updates=10,
                    metatrain_iterations=200000, test_inner_batch_size=10)
  else:
    train_shots = 15
    values.update(num_updates=8)
    if shots >= 5:
      values.update(test_inner_batch_size=15)
  return dict(values, train_query_size=max(1, train_shots - shots))


def resolve(given: Mapping[str, Any]) -> Config:
  """The configuration of what the user gave; the preset supplies the rest.

  Args:
    given: {field name: value}. What is given always wins over the preset.

  Raises:
    ConfigError: for an unknown name, a wrong value, or an impossible combination.
  """
  unknown = sorted(set(given) - set(field_types()))
  if unknown:
    raise ConfigError(f'Unknown configuration values {unknown}; '
                      f'known are {sorted(field_types())}.')
  types = field_types()
  given = {name: _checked_type(name, types[name], value) for name, value in given.items()}
  datasource, num_classes = given.get('datasource', 'sinusoid'), given.get('num_classes')
  method = given.get('method', 'maml')
  values = preset(datasource, num_classes, given.get('update_batch_size'), method)
  trained_shots = given.get('train_update_batch_size', -1)
  if trained_shots >= 1:
    # The checkpoint to test was trained with other shots, and its folder's name says
    # how it was trained: those values follow the shots of then, not of now.
    trained = preset(datasource, num_classes, trained_shots, method)
    values.update({name: trained[name] for name in ('train_query_size', 'meta_batch_size')})
  if given.get('conv') is False and 'max_pool' not in given:
    values['max_pool'] = False   # a net without convolutions has nothing to pool
  values.update(_of_baseline(given.get('baseline'), values, given))
  values.update(given)
  return from_values(values)


def _of_baseline(baseline: Optional[str], values: Mapping[str, Any],
                 given: Mapping[str, Any]) -> Dict[str, Any]:
  """What a baseline has in place of the preset's `values`.

  None of them adapts in training: all of it is pre-training.
  """
  if baseline == 'oracle':   # it sees the task
    return dict(pretrain_iterations=values['metatrain_iterations'], metatrain_iterations=0)
  if baseline == 'averaged':
    weight = REGULARISER_WEIGHTS.get(given.get('averaged_regulariser', 'None'), 0.0)
    return dict(pretrain_iterations=AVERAGED_ITERATIONS, metatrain_iterations=0,
                meta_batch_size=AVERAGED_POINTS, meta_lr=AVERAGED_META_LR,
                regulariser_weight=weight)
  if baseline in CLASSIFIER_BASELINES:
    own = (dict(tune_update_lr=True) if baseline == 'fine_tuning'
           else dict(test_num_updates=1))
    # Sinusoids have no classes; that is refused when all flags are checked.
    iterations = CLASSIFIER_ITERATIONS.get(values['datasource'], 0)
    return dict(pretrain_iterations=iterations, metatrain_iterations=0,
                meta_batch_size=CLASSIFIER_BATCH, meta_gradient_clip=0.0, **own)
  return {}


def from_values(values: Mapping[str, Any]) -> Config:
  """A checked `Config` of a complete {field name: value}.

  Raises:
    ConfigError: for a wrong value or an impossible combination.
  """
  sections = {}
  for name, section in SECTIONS.items():
    sections[name] = section(**{
        field.name: _checked_type(field.name, field.type, values[field.name])
        for field in dataclasses.fields(section)})
  config = Config(**sections)
  _check_values(config)
  _check_combinations(config)
  return config


def differences(one: Config, other: Config, ignore=()) -> Dict[str, Any]:
  """{'section.field': (value in one, value in other)} where they differ.

  Args:
    one, other: the configurations.
    ignore: names of fields that may differ.
  """
  found = {}
  for section, fields in one.to_dict().items():
    for field, value in fields.items():
      other_value = other.to_dict()[section][field]
      if field not in ignore and value != other_value:
        found[f'{section}.{field}'] = (value, other_value)
  return found


def _require_names(what, received, allowed, may_lack=()) -> None:
  if not isinstance(received, Mapping):
    raise ConfigError(f'The {what} must be an object of names and values; '
                      f'received {type(received).__name__}.')
  unknown = sorted(set(received) - set(allowed))
  missing = sorted(set(allowed) - set(received) - set(may_lack))
  if unknown or missing:
    raise ConfigError(f'The {what} has unknown names {unknown} and lacks {missing}.')


def _require_choice(name: str, received, allowed) -> None:
  if received not in allowed:
    raise ConfigError(f'--{name}={received} is not known; allowed: {", ".join(allowed)}.')


def _checked_type(name: str, written_type: str, value):
  """`value` as the field's type; an int is accepted where a float is expected."""
  if value is None and written_type.startswith('Optional'):
    return None
  wanted = {'bool': bool, 'int': int, 'float': float, 'str': str,
            'Optional[str]': str}[written_type]
  if wanted is float and type(value) is int:
    try:
      value = float(value)
    except OverflowError:
      value = math.inf   # refused by name in `_check_values`
  if type(value) is not wanted:
    raise ConfigError(f'--{name}={value!r} is not allowed: it must be of type '
                      f'{wanted.__name__}.')
  return value


_AT_LEAST = {
    'num_classes': 2, 'update_batch_size': 1, 'train_query_size': 1,
    'test_query_size': 1, 'seed': 0, 'num_filters': 1, 'context_size': 0,
    'num_updates': 1, 'inner_batch_size': 0, 'test_inner_batch_size': 0,
    'pretrain_iterations': 0, 'metatrain_iterations': 0, 'meta_batch_size': 1,
    'tasks_at_once': 0, 'validation_interval': 1, 'num_validation_tasks': 1,
    'num_test_tasks': 2, 'test_num_updates': 1, 'num_averaged_nets': 1,
}
_LARGEST = 2**31 - 1   # counts and seeds go into 32-bit integers
_CHOICES = {
    'datasource': DATASOURCES, 'norm': NORMS, 'dtype': DTYPES, 'baseline': BASELINES,
    'method': METHODS, 'inner_optimizer': INNER_OPTIMIZERS, 'meta_lr_schedule': SCHEDULES,
    'meta_optimizer': META_OPTIMIZERS, 'test_checkpoint': CHECKPOINTS,
    'xla': XLA_CHOICES, 'averaged_regulariser': REGULARISERS,
}


def _check_values(config: Config) -> None:
  values = config.to_values()
  for name, allowed in _CHOICES.items():
    _require_choice(name, values[name], allowed)
  for name, least in _AT_LEAST.items():
    if not least <= values[name] <= _LARGEST:
      raise ConfigError(f'--{name}={values[name]} is not allowed: it must be between '
                        f'{least} and {_LARGEST}.')
  for name in ('update_lr', 'meta_lr'):
    if not (math.isfinite(values[name]) and values[name] > 0):
      raise ConfigError(f'--{name}={values[name]} is not allowed: a step size must be '
                        'a finite number above 0.')
  clip = values['meta_gradient_clip']
  if not (math.isfinite(clip) and clip >= 0):
    raise ConfigError(f'--meta_gradient_clip={clip} is not allowed: it must be a finite '
                      'number above 0, or 0 for no clipping.')
  weight = values['regulariser_weight']
  if not (math.isfinite(weight) and weight >= 0):
    raise ConfigError(f'--regulariser_weight={weight} is not allowed: it must be a finite '
                      'number above 0, or 0 for none.')
  if values['test_iter'] != -1 and not 0 <= values['test_iter'] <= _LARGEST:
    raise ConfigError(f'--test_iter={values["test_iter"]} is not allowed: it must be an '
                      'iteration (0 or more), or -1 for the checkpoint that '
                      '--test_checkpoint names.')
  shots = values['train_update_batch_size']
  if shots != -1 and not 1 <= shots <= _LARGEST:
    raise ConfigError(f'--train_update_batch_size={shots} is not allowed: it must be 1 '
                      'or more, or -1 for the value of --update_batch_size.')
  step_size = values['train_update_lr']
  if step_size != -1 and not (math.isfinite(step_size) and step_size > 0):
    raise ConfigError(f'--train_update_lr={step_size} is not allowed: it must be a finite '
                      'number above 0, or -1 for the value of --update_lr.')
  for name in ('logdir', 'data_dir'):
    if values[name] == '':
      raise ConfigError(f'--{name} is empty: it must name a folder.')
    if '\0' in (values[name] or ''):
      raise ConfigError(f'--{name}={values[name]!r} is not allowed: the name of a folder '
                        'has no null character.')
  path = values['legacy_checkpoint']
  if path is not None and (not path or '\0' in path):
    raise ConfigError(f'--legacy_checkpoint={path!r} is not allowed: it must name a '
                      'checkpoint of the TF1 code.')
  weights = values['pretrained']
  if weights is not None and (not weights or '\0' in weights):
    raise ConfigError(f'--pretrained={weights!r} is not allowed: it must be ROW or ROW:SEED '
                      'of `python -m maml_tf.verify`, or a file of weights (.npz).')


def _check_combinations(config: Config) -> None:
  if config.learner.mixed_precision and config.learner.dtype != 'float32':
    raise ConfigError(f'--mixed_precision=True does not fit --dtype={config.learner.dtype}: '
                      'products in bfloat16 would make its precision pointless, so leave '
                      'one of them out.')
  if config.is_classification:
    _check_images(config)
  else:
    _check_sinusoid(config)
  _check_method(config)
  _check_baseline(config)
  evaluation = config.evaluation
  if (config.run.train and not config.uses_classifier
      and config.trained_shots != config.task.update_batch_size):
    raise ConfigError(
        f'--train_update_batch_size={evaluation.train_update_batch_size} differs from '
        f'--update_batch_size={config.task.update_batch_size} while training: it names '
        'a checkpoint trained with another value, so give it with --train=False only.')
  if config.run.train and evaluation.train_update_lr not in (
      -1.0, config.inner_loop.update_lr):
    raise ConfigError(
        f'--train_update_lr={evaluation.train_update_lr} differs from '
        f'--update_lr={config.inner_loop.update_lr} while training: it names a '
        'checkpoint trained with another value, so give it with --train=False only.')
  if config.run.train and evaluation.test_iter != -1:
    raise ConfigError(
        f'--test_iter={evaluation.test_iter} is given while training: it chooses the '
        'checkpoint to test, so give it with --train=False only.')
  if config.run.legacy_checkpoint is not None and evaluation.test_iter != -1:
    raise ConfigError(
        f'--test_iter={evaluation.test_iter} does not fit --legacy_checkpoint, which '
        'names the checkpoint to test: leave one of them out.')
  if config.run.pretrained is not None and evaluation.test_iter != -1:
    raise ConfigError(
        f'--test_iter={evaluation.test_iter} does not fit --pretrained, which names the '
        'weights to test: leave one of them out.')
  if config.run.pretrained is not None and config.run.legacy_checkpoint is not None:
    raise ConfigError(
        f'--pretrained={config.run.pretrained} does not fit --legacy_checkpoint, since both '
        'name the parameters to take: leave one of them out.')


def _check_method(config: Config) -> None:
  learner, training = config.learner, config.training
  method = training.method
  if method != 'maml' and training.baseline != 'None':
    raise ConfigError(f'--method={method} does not fit --baseline={training.baseline}, '
                      'which is trained without a meta-learner: leave one of them out.')
  if training.meta_lr_schedule != 'constant' and training.pretrain_iterations > 0:
    raise ConfigError(f'--meta_lr_schedule={training.meta_lr_schedule} does not fit '
                      f'--pretrain_iterations={training.pretrain_iterations}, since it is '
                      'for meta-training alone: leave one of them out.')
  if training.recompute_inner_steps and method in ('reptile', 'anil'):
    raise ConfigError(f'--recompute_inner_steps=True does not fit --method={method}, which '
                      'does not keep the inner steps of the whole net: leave it out.')
  _check_reptile(config)
  if method != 'context_vector' and learner.context_size > 0:
    raise ConfigError(f'--context_size={learner.context_size} does not fit '
                      f'--method={method}, which has no context: leave it out, or give '
                      '--method=context_vector.')
  if method == 'context_vector':
    if learner.context_size == 0:
      raise ConfigError('--context_size=0 does not fit --method=context_vector, which '
                        'adapts nothing else: it must be 1 or more.')
    if learner.norm == 'batch_norm' and not learner.conv:
      raise ConfigError('--norm=batch_norm does not fit --method=context_vector in a net '
                        'without convolutions, where batch norm removes all of the '
                        'context: use --norm=layer_norm or --norm=None.')
    if config.run.legacy_checkpoint is not None:
      raise ConfigError('--legacy_checkpoint does not fit --method=context_vector, whose '
                        'net has more inputs than any of the TF1 code: leave one of them '
                        'out.')


def _check_reptile(config: Config) -> None:
  inner_loop, training = config.inner_loop, config.training
  sizes = {'inner_batch_size': inner_loop.inner_batch_size,
           'test_inner_batch_size': config.evaluation.test_inner_batch_size}
  if training.method != 'reptile':
    if inner_loop.inner_optimizer != 'sgd':
      raise ConfigError(f'--inner_optimizer={inner_loop.inner_optimizer} does not fit '
                        f'--method={training.method}, whose inner steps are sgd: leave it '
                        'out, or give --method=reptile.')
    for name, size in sizes.items():
      if size > 0:
        raise ConfigError(f'--{name}={size} does not fit --method={training.method}, whose '
                          'inner steps take all support examples: leave it out, or give '
                          '--method=reptile.')
    return
  if inner_loop.stop_grad:
    raise ConfigError('--stop_grad=True does not fit --method=reptile, which has no '
                      'second derivatives to leave out: leave it out.')
  if training.meta_gradient_clip > 0:
    raise ConfigError(f'--meta_gradient_clip={training.meta_gradient_clip} does not fit '
                      '--method=reptile, whose outer step follows no gradient: leave it '
                      'out.')
  if training.pretrain_iterations > 0:
    raise ConfigError(f'--pretrain_iterations={training.pretrain_iterations} does not fit '
                      '--method=reptile, whose --meta_lr is no step size for gradients: '
                      'leave it out.')


def _check_baseline(config: Config) -> None:
  training = config.training
  baseline = training.baseline
  if baseline != 'None' and training.metatrain_iterations > 0:
    raise ConfigError(f'--metatrain_iterations={training.metatrain_iterations} does not '
                      f'fit --baseline={baseline}, which is trained without adaptation: '
                      'leave it out, and give --pretrain_iterations.')
  if baseline not in ('None', 'oracle') and config.run.legacy_checkpoint is not None:
    raise ConfigError(f'--legacy_checkpoint does not fit --baseline={baseline}, which the '
                      'TF1 code does not have: leave one of them out.')
  if training.averaged_regulariser != 'None' and baseline != 'averaged':
    raise ConfigError(f'--averaged_regulariser={training.averaged_regulariser} does not fit '
                      f'--baseline={baseline}: it is allowed with --baseline=averaged '
                      'alone.')
  if (training.averaged_regulariser == 'None') != (training.regulariser_weight == 0):
    raise ConfigError(f'--regulariser_weight={training.regulariser_weight} does not fit '
                      f'--averaged_regulariser={training.averaged_regulariser}: l2 and mean '
                      'need a weight above 0, and None has none.')
  if baseline == 'nearest_neighbour' and config.evaluation.test_num_updates != 1:
    raise ConfigError(f'--test_num_updates={config.evaluation.test_num_updates} does not fit '
                      '--baseline=nearest_neighbour, which stores the support set once '
                      'and has no further updates: leave it out.')
  if baseline == 'nearest_neighbour' and config.evaluation.tune_update_lr:
    raise ConfigError('--tune_update_lr=True does not fit --baseline=nearest_neighbour, '
                      'which has no step size: leave it out.')


def _check_sinusoid(config: Config) -> None:
  learner = config.learner
  if config.uses_classifier:
    raise ConfigError(f'--baseline={config.training.baseline} does not fit '
                      '--datasource=sinusoid, which has no classes: it is allowed with '
                      'images alone.')
  for name in ('conv', 'max_pool'):
    if getattr(learner, name):
      raise ConfigError(f'--{name}=True does not fit --datasource=sinusoid, whose net has '
                        f'no convolutions: leave --{name} out.')


def _check_images(config: Config) -> None:
  task, learner, training = config.task, config.learner, config.training
  if training.baseline == 'oracle':
    raise ConfigError(f'--baseline=oracle does not fit --datasource={task.datasource}: '
                      'only a sinusoid has an amplitude and a phase to give away, so it '
                      'is allowed with --datasource=sinusoid alone.')
  if training.baseline == 'averaged':
    raise ConfigError(f'--baseline=averaged does not fit --datasource={task.datasource}: '
                      'its nets each learn one sinusoid, so it is allowed with '
                      '--datasource=sinusoid alone.')
  if learner.max_pool and not learner.conv:
    raise ConfigError('--max_pool=True does not fit --conv=False: a net without '
                      'convolutions has nothing to pool, so leave one of them out.')
  if task.datasource == 'miniimagenet' and learner.conv and not learner.max_pool:
    raise ConfigError('--max_pool=False does not fit --datasource=miniimagenet: its '
                      'classifier takes 5 x 5 x num_filters features, which only '
                      'max-pooling leaves, so leave --max_pool out or set it to True.')
  for split, classes in SPLIT_CLASSES[task.datasource].items():
    if task.num_classes > classes and _split_is_used(config, split):
      raise ConfigError(
          f'--num_classes={task.num_classes} is larger than the {split} split of '
          f'{task.datasource}, which has {classes} classes: at most {classes} are '
          'allowed.')
  examples = EXAMPLES_PER_CLASS[task.datasource]
  query_sizes = {'test_query_size': task.test_query_size}
  if config.run.train:
    query_sizes['train_query_size'] = task.train_query_size
  for name, query_size in query_sizes.items():
    if task.update_batch_size + query_size > examples:
      raise ConfigError(
          f'--update_batch_size={task.update_batch_size} and --{name}={query_size} need '
          f'{task.update_batch_size + query_size} examples of a class, and '
          f'{task.datasource} has {examples}: take fewer.')


def _split_is_used(config: Config, split: str) -> bool:
  """Training reads `train` and `val`, and every run tests on `config.split`."""
  return split == config.split or (config.run.train and split in ('train', 'val'))
