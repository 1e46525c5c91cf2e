"""Studies: what one setting does, at a length that a CPU allows.

After the W&B report on MAML for mini-ImageNet and its open questions: number of classes,
of shots, of inner steps, the meta-batch, filters, 15 query images or none extra, accuracy
against meta-iterations, loss and accuracy before and after the updates. A study is a set
of configurations that differ in one flag, each trained for the same number of iterations
and tested on the validation classes: no study sees the test classes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from maml_tf.config import Config, ConfigError, resolve
from maml_tf.paper import records
from maml_tf.paper.rows import named
from maml_tf.training import history
from maml_tf.verification import provenance, study_files

if TYPE_CHECKING:
  from maml_tf.evaluation.results_files import ProtocolRun

# Iterations of each run. From the step times on 2 CPU cores (docs/speed.md: sinusoid
# 0.9 ms, Omniglot 0.11 s, mini-ImageNet 0.9 s): about 20 seconds, 4 minutes and 7
# minutes a run of the paper's settings, without validation.
DEFAULT_ITERATIONS = {'sinusoid': 15000, 'omniglot': 2000, 'miniimagenet': 500}
DEFAULT_DATASOURCE = 'omniglot'

# What all runs of all studies have, so that studies share runs.
_COMMON: Dict[str, Dict[str, Any]] = {
    'sinusoid': {},
    # With the paper's meta-batch, and a step size that suits several inner steps, too.
    'omniglot': dict(num_classes=5, update_batch_size=1, update_lr=0.1, test_query_size=5),
    'miniimagenet': dict(num_classes=5, update_batch_size=1, test_query_size=5),
}
VALIDATIONS = 10   # of each run, evenly spaced


@dataclass(frozen=True)
class Study:
  """A set of configurations that differ in one flag.

  Attributes:
    name: of the command and of the files.
    title: for people.
    flag: what differs; None: a single run, watched over its iterations.
    values: {data source: the flag's values}; a data source that is not here is refused.
    noun: what a reader calls what the flag counts, of one.
    base: {data source: further settings of all of the study's runs}.
  """
  name: str
  title: str
  flag: Optional[str]
  values: Mapping[str, Sequence[Any]]
  noun: str = ''
  base: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_IMAGES = ('omniglot', 'miniimagenet')
_ALL = ('sinusoid', *_IMAGES)


def _everywhere(values: Sequence[Any], datasources=_ALL) -> Dict[str, Sequence[Any]]:
  return {datasource: values for datasource in datasources}


STUDIES: Tuple[Study, ...] = (
    Study('ways', 'Number of classes N', 'num_classes', _everywhere((2, 3, 5), _IMAGES),
          'class'),
    # The query sets keep their size: K sets it otherwise.
    Study('shots', 'Number of shots K', 'update_batch_size',
          {'sinusoid': (5, 10, 20), 'omniglot': (1, 5, 10), 'miniimagenet': (1, 5, 10)},
          'shot',
          base={'sinusoid': dict(train_query_size=10, test_query_size=10),
                'omniglot': dict(train_query_size=5, meta_batch_size=32),
                'miniimagenet': dict(train_query_size=15, meta_batch_size=4)}),
    Study('inner_steps', 'Number of inner steps in training', 'num_updates',
          _everywhere((1, 3, 5, 8)), 'inner step'),
    Study('meta_batch', 'Tasks of a meta-batch', 'meta_batch_size',
          {'sinusoid': (5, 25, 50), 'omniglot': (8, 16, 32), 'miniimagenet': (2, 4, 8, 16)},
          'task'),
    Study('filters', 'Filters of each convolution', 'num_filters',
          _everywhere((16, 32, 64), _IMAGES), 'filter'),
    Study('query_images', 'Query examples per class in training', 'train_query_size',
          _everywhere((1, 15)), 'query example'),
    Study('iterations', 'Accuracy against meta-training iterations', None,
          _everywhere((None,))),
    Study('before_and_after', 'Loss and accuracy before and after the updates', None,
          _everywhere((None,))),
)


# Of another kind, which `method_study` has; a message on names has it, too.
_OF_METHODS = Study('methods', 'Methods', None, {})


def study_named(name: str) -> Study:
  """The study of that name.

  Raises:
    ConfigError: where there is none, or it is the one of methods.
  """
  study = named('study', name, (*STUDIES, _OF_METHODS))
  if study is _OF_METHODS:
    raise ConfigError('The study methods has no settings that differ in one flag: run it '
                      'with `python -m maml_tf.verify --study=methods`.')
  return study


def in_words(label: str) -> str:
  """What a reader calls the run of that label; files have the flag.

  Example:
    >>> in_words('num_updates 3'), in_words('num_classes 5'), in_words('train_query_size 1')
    ('3 inner steps', '5 classes', '1 query example')
    >>> in_words("the paper's settings")
    "the paper's settings"
  """
  flag, _, value = label.partition(' ')
  nouns = {study.flag: study.noun for study in STUDIES if study.flag is not None}
  if flag not in nouns:
    return label
  ending = '' if value == '1' else 'es' if nouns[flag].endswith('s') else 's'
  return f'{value} {nouns[flag]}{ending}'


def configs(study: Study, datasource: str = DEFAULT_DATASOURCE,
            iterations: Optional[int] = None, seed: int = 0,
            logdir: Optional[str] = None, **given) -> List[Tuple[str, Config]]:
  """[(label, configuration)] of the study's runs.

  Args:
    study: the study.
    datasource: what the tasks are made of.
    iterations: of each run; None: `DEFAULT_ITERATIONS`.
    seed: of all runs.
    logdir: folder for the runs; None: logs/studies. The length is in their folder's
      name, so that studies share runs of the same length.
    **given: further fields of the configuration, over the study's own.

  Raises:
    ConfigError: where the study is not made for the data source, or a value is wrong.
  """
  if datasource not in study.values:
    raise ConfigError(f'The study {study.name} is not made for --datasource={datasource}: '
                      f'allowed are {", ".join(study.values)}.')
  iterations = DEFAULT_ITERATIONS[datasource] if iterations is None else iterations
  if iterations < 1:
    raise ConfigError(f'--iterations={iterations} is not allowed: a study trains for 1 '
                      'iteration or more.')
  values = dict(
      _COMMON[datasource], **study.base.get(datasource, {}), datasource=datasource,
      seed=seed, metatrain_iterations=iterations, test_set=False,
      validation_interval=max(1, iterations // VALIDATIONS),
      logdir=os.path.join(logdir or os.path.join('logs', 'studies'),
                          f'{datasource}_{iterations}'))
  values.update(given)
  found = []
  for value in study.values[datasource]:
    if study.flag is None:
      found.append(("the paper's settings", resolve(values)))
    else:
      found.append((f'{study.flag} {value}', resolve({**values, study.flag: value})))
  return found


def run_study(study: Study, settings: Sequence[Tuple[str, Config]], command: str,
              results: str = records.RESULTS) -> Optional[Dict[str, Any]]:
  """Trains and tests the runs of a study, and writes its result file.

  A run that is there is not trained again; one that was stopped goes on.

  Args:
    study: the study.
    settings: of `configs`.
    command: what repeats it, for the report.
    results: folder of the result files.

  Returns:
    What the file holds; None where a signal ended the training.
  """
  config = settings[0][1]
  study_files.require_not_less(study.name, config.task.datasource,
                               config.training.metatrain_iterations, config.task.seed,
                               results)
  commit, runs = provenance.commit(), []
  for number, (label, of_run) in enumerate(settings, start=1):
    print(f'{study.title}, run {number} of {len(settings)}: {label}', flush=True)
    run = _run(label, of_run)
    if run is None:
      return None
    runs.append(run)
  result = {
      'name': study.name, 'title': study.title, 'command': command,
      'datasource': config.task.datasource,
      'length': f'{config.training.metatrain_iterations:,} iterations per run',
      'seed': config.task.seed, 'measure': config.problem.measure.name,
      'split': config.problem.recorded_split(config),
      'num_tasks': config.evaluation.num_test_tasks, 'runs': runs,
      **provenance.stamp(commit)}
  study_files.write(result, results)
  return result


def _run(label: str, config: Config) -> Optional[Dict[str, Any]]:
  from maml_tf import application, experiment
  from maml_tf.training.run_folder import experiment_folder
  model = experiment.build_model(config)
  if application.train_or_resume(config, model).interrupted_by is not None:
    return None
  folder = experiment_folder(config)
  test = application.test(config, model, folder)
  return as_run(label, test, history.of_run(folder))


def as_run(label: str, test: 'ProtocolRun', lines: Sequence[history.Line]) -> Dict[str, Any]:
  """What a study keeps of a run.

  query: mean and half of the 95% interval after each number of updates, from 0.
  history: see `training.history.History`.
  """
  from maml_tf.evaluation.protocol import statistics
  values = statistics(test.results.query[test.config.problem.measure.name])
  return {
      'label': label, 'iterations': test.iteration,
      'query': [{'mean': float(mean), 'ci95': float(ci95)}
                for mean, ci95 in zip(values.means, values.ci95)],
      'seconds': round(sum(line['seconds'] or 0 for line in lines), 1),
      'history': [{name: None if value is None else float(f'{value:.6g}')
                   for name, value in line.items()} for line in lines]}
