"""The configuration of a run as plain values: sections, JSON, what follows from them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Mapping, Tuple

from maml_tf import problems
from maml_tf.bounded import parse_json
from maml_tf.config.checks import check
from maml_tf.config.fits import FIELDS_OF_ARGUMENTS, WITHOUT_OWNERS
from maml_tf.config.sections import (
  SECTIONS,
  ControlConfig,
  EvaluationConfig,
  InnerLoopConfig,
  LearnerConfig,
  RunConfig,
  TaskConfig,
  TrainingConfig,
  section_fields,
)
from maml_tf.config.values import checked_type, with_expanded_paths
from maml_tf.errors import ConfigError
from maml_tf.meta_learners import WITHOUT_INNER_LOOP, known_method

if TYPE_CHECKING:
  from maml_tf.problems import Baseline, Problem

LARGEST_JSON = 1 << 20   # characters; a configuration has some 1,500


@dataclass(frozen=True)
class Config:
  """Everything that one run of `main.py` needs. See the sections."""
  task: TaskConfig
  learner: LearnerConfig
  inner_loop: InnerLoopConfig
  training: TrainingConfig
  control: ControlConfig
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

    A file of an earlier version lacks fields and a section that were added since; they get the
    value that says what was done then.

    Raises:
      ConfigError: for a section or a field that is unknown or missing.
    """
    _require_names('configuration', sections, SECTIONS, may_lack=_SECTIONS_ADDED_SINCE)
    values = dict(_ADDED_SINCE)
    for name in SECTIONS:
      if name not in sections:
        continue
      _require_names(f'configuration section {name!r}', sections[name],
                     section_fields(name), may_lack=_ADDED_SINCE)
      values.update(sections[name])
    if values.get('norm') == 'None':
      values['per_step_norm'] = False   # which had no effect
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
  def problem(self) -> 'Problem':
    """The kind of task."""
    return problems.named(self.task.datasource).with_data(self.data_dir)

  @property
  def baseline(self) -> 'Baseline':
    """How theta is made."""
    return self.problem.baseline(self.training.baseline)

  def method_arguments(self, names: Tuple[str, ...]) -> Dict[str, Any]:
    """What the configuration says of the arguments that a method has of its own."""
    values = self.to_values()
    unknown = [name for name in names if FIELDS_OF_ARGUMENTS.get(name, name) not in values]
    if unknown:
      raise ConfigError(f'--method={self.training.method} names own_arguments {unknown} for '
                        'which there is no flag: give them defaults, and leave them out.')
    return {name: values[FIELDS_OF_ARGUMENTS.get(name, name)] for name in names}

  @property
  def trained_shots(self) -> int:
    """K of the run whose checkpoint is tested."""
    shots = self.evaluation.train_update_batch_size
    return self.task.update_batch_size if shots == -1 else shots

  @property
  def trained_step_size(self) -> float:
    """Alpha of that run."""
    step_size = self.evaluation.train_update_lr
    return self.inner_loop.update_lr if step_size == -1 else step_size

  @property
  def has_inner_loop(self) -> bool:
    """Whether the method adapts parameters to a task."""
    return known_method(self.training.method) not in WITHOUT_INNER_LOOP

  @property
  def trained_classes(self) -> int:
    """N in training."""
    classes = self.task.train_num_classes
    return self.task.num_classes if classes == -1 else classes

  def with_trained_classes(self) -> 'Config':
    """With tasks of as many classes as in training."""
    return dataclasses.replace(self, task=dataclasses.replace(
        self.task, num_classes=self.trained_classes))

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
    tests after many, so that its validation is like its test; an oracle is not adapted."""
    if self.baseline.validated_before_updates:
      return 0
    return (self.evaluation.test_num_updates
            if known_method(self.training.method) in VALIDATED_LIKE_THE_TEST
            else self.inner_loop.num_updates)

  @property
  def data_dir(self) -> str:
    return self.task.data_dir or default_data_dir(self.task.datasource)

  @property
  def split(self) -> str:
    """The split that the test protocol uses."""
    return self.problem.tested_split(self)

  @property
  def experiment_name(self) -> str:
    """Of the run's folder, see `config.names`."""
    from maml_tf.config.names import experiment_name
    return experiment_name(self)

  @property
  def of_named_file(self) -> str:
    """Of the names of a test's files, see `config.names`."""
    from maml_tf.config.names import of_named_file
    return of_named_file(self)

  @property
  def of_pictures(self) -> str:
    """Of the names of a test's pictures, see `config.names`."""
    from maml_tf.config.names import of_pictures
    return of_pictures(self)


VALIDATED_LIKE_THE_TEST = ('reptile',)

# {field: what runs did before it existed}: configurations on disk stay readable.
_ADDED_SINCE = {
    'mixed_precision': False, 'recompute_inner_steps': False, 'method': 'maml',
    'meta_lr_schedule': 'constant', 'model': 'paper', 'regulariser_weight': 0.0,
    'tune_update_lr': False, 'pretrained': None, 'distribution_strategy': 'off',
    'num_gpus': -1, 'worker_hosts': None, 'task_index': -1, 'worker_timeout': 300,
    **WITHOUT_OWNERS}
_SECTIONS_ADDED_SINCE = ('control',)


def default_data_dir(datasource: str) -> str:
  """Where the data are if nobody says it."""
  return f'data/{datasource}'


def _require_names(what, received, allowed, may_lack=()) -> None:
  if not isinstance(received, Mapping):
    raise ConfigError(f'The {what} must be an object of names and values; '
                      f'received {type(received).__name__}.')
  unknown = sorted(set(received) - set(allowed))
  missing = sorted(set(allowed) - set(received) - set(may_lack))
  if unknown or missing:
    raise ConfigError(f'The {what} has unknown names {unknown} and lacks {missing}.')


def from_values(values: Mapping[str, Any]) -> Config:
  """A checked `Config` of a complete {field name: value}.

  Raises:
    ConfigError: for a wrong value or an impossible combination.
  """
  values = with_expanded_paths(values)
  sections = {}
  for name, section in SECTIONS.items():
    sections[name] = section(**{
        field.name: checked_type(field.name, field.type, values[field.name])
        for field in dataclasses.fields(section)})
  config = Config(**sections)
  check(config)
  return config
