"""The study of methods: each on the same data, net, episodes and seconds of training.

Step sizes and numbers of updates are those of a method's preset. Tasks, their numbers of
classes and of query examples, and meta-batches are MAML's for all of them, so that each sees
the same episodes; what a method does by the length of a run (schedules of the meta step size,
the annealings of MAML++) is left out, since nobody knows the length before: seconds end a
run, never iterations. A method that diverges is recorded as such, beside the others.
"""

from __future__ import annotations

import math
import os
import signal
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from maml_tf import problems
from maml_tf.bounded import read_json
from maml_tf.config import Config, ConfigError, resolve
from maml_tf.errors import NotFiniteError
from maml_tf.files import as_json, write_whole
from maml_tf.meta_learners import METHODS, WITHOUT_INNER_LOOP
from maml_tf.paper import records
from maml_tf.training import history
from maml_tf.verification import provenance, studies, study_files

NAME = 'methods'
DEFAULT_HOURS = 1.0
# Of one run; validation is a part of its seconds.
_INTERVALS = {'sinusoid': 500, 'omniglot': 100}
_OTHER_INTERVAL = 50
# With no schedule, iterations only end a run: weeks of the fastest steps are never reached.
_OF_THE_LENGTH = {'metatrain_iterations': 2_000_000_000, 'meta_lr_schedule': 'constant',
                  'multi_step_iterations': 0, 'first_order_iterations': 0}
_SAME_EPISODES = ('meta_batch_size', 'train_query_size', 'test_query_size')
_TEST_QUERIES = 5   # of a class, or as many as there are
NOTE = 'method_study.json'   # in a run's folder: the seconds that it was given

# {label: flags}: methods, and what is one by a flag. MAML is what the others are compared to.
ENTRIES: Dict[str, Dict[str, Any]] = {
    'maml': {}, 'maml, first order': {'stop_grad': True},
    **{method: {'method': method} for method in METHODS if method != 'maml'},
    'matching, full context': {'method': 'matching', 'full_context': True}}


def configs(datasource: str, seed: int = 0, logdir: Optional[str] = None,
            entries: Mapping[str, Mapping[str, Any]] = ENTRIES, **given: Any
            ) -> List[Tuple[str, Config]]:
  """[(label, configuration)] of all methods that the data source is for.

  Args:
    datasource: the name of a problem.
    seed: of all runs.
    logdir: folder for the runs; None: logs/studies.
    entries: {label: flags}, the one that others are compared to first.
    **given: further fields of all of them.

  Raises:
    ConfigError: for a data source that not all methods are for, or a wrong value.
  """
  _require_all_methods(datasource)
  usual = resolve({'datasource': datasource, **given})
  has_classes = usual.problem.has_classes
  common = dict(
      {name: usual.to_values()[name] for name in _SAME_EPISODES}, **_OF_THE_LENGTH,
      datasource=datasource, seed=seed, test_set=False, num_validation_tasks=100,
      validation_interval=_INTERVALS.get(datasource, _OTHER_INTERVAL),
      logdir=os.path.join(logdir or os.path.join('logs', 'studies'),
                          f'{usual.problem.name_of_data(usual)}_{NAME}'))
  if has_classes:
    common['test_query_size'] = _test_queries(usual)
  found = []
  for label, flags in entries.items():
    if flags.get('method') in WITHOUT_INNER_LOOP:
      if not has_classes:
        continue
      flags = {**flags, 'train_num_classes': -1}
    found.append((label, resolve({**common, **flags, **given})))
  return found


def _require_all_methods(datasource: str) -> None:
  methods = problems.named(datasource).methods
  if methods is not None:
    others = [name for name in problems.names() if problems.named(name).methods is None]
    raise ConfigError(f'The study {NAME} is not made for --datasource={datasource}, which is '
                      f'learned by {" or ".join(methods)}: allowed are {", ".join(others)}.')


def _test_queries(config: Config) -> int:
  most = config.problem.most_test_queries(config)
  return max(1, min(_TEST_QUERIES, most))   # too few images are refused by their number


def run(settings: Sequence[Tuple[str, Config]], seconds: float, command: str,
        results: str = records.RESULTS) -> Optional[Dict[str, Any]]:
  """Trains each for so long, tests it, and writes the study's result file.

  A run goes on where it was stopped; one that had its seconds is tested alone. Methods that
  diverge are apart from the runs, under 'diverged': [{label, iteration, why}].

  Returns:
    What the file holds; None where a signal ended it.

  Raises:
    ConfigError: where runs or a result that are there are of other data or seconds.
    NotFiniteError: where all methods diverge.
  """
  config = settings[0][1]
  data = config.problem.name_of_data(config)
  _require_same_seconds(settings, seconds)
  _require_result_of_same_data(data, config, results)
  # The file has whole seconds.
  study_files.require_not_less(NAME, data, round(seconds), config.task.seed, results)
  commit, runs, of_tasks, diverged = provenance.commit(), [], [], []
  for number, (label, of_method) in enumerate(settings, start=1):
    print(f'Methods, run {number} of {len(settings)}: {label}, {seconds:,.0f} s', flush=True)
    try:
      done = _run(label, of_method, seconds)
    except NotFiniteError as error:
      print(f'{label} diverged, and is left out: {error}', flush=True)
      diverged.append({'label': label, 'iteration': error.iteration, 'why': str(error)})
      continue
    if done is None:
      return None
    run_, values = done
    of_tasks.append(values)
    runs.append({**run_, 'paired': paired(values, of_tasks[0])})
  if not runs:
    raise NotFiniteError('All methods diverged, so there is nothing to compare: '
                         + ' '.join(f'{one["label"]}: {one["why"]}' for one in diverged))
  result = {
      'name': NAME, 'title': 'Methods', 'command': command,
      'datasource': data, 'length': f'{seconds:,.0f} s of training each',
      'seed': config.task.seed, 'measure': config.problem.measure.name,
      'split': config.problem.recorded_split(config),
      'num_tasks': config.evaluation.num_test_tasks, 'runs': runs, 'diverged': diverged,
      'data': dict(config.problem.data_hashes(config)),
      **provenance.stamp(commit)}
  study_files.write(result, results)
  return result


def paired(values: np.ndarray, others: np.ndarray) -> Dict[str, float]:
  """Mean over the same tasks of `values` - `others`, and half of its 95% interval."""
  differences = np.asarray(values, np.float64) - others
  return {'mean': float(differences.mean()),
          'ci95': float(1.96 * differences.std() / np.sqrt(len(differences)))}


class TimeLimit:
  """A `trainer.Watch` that ends a run as a signal does, after so many seconds.

  Args:
    seconds: from the end of the first execution on, so that tracing does not count.

  Attributes:
    reached: whether they are over.
    spent: how many of them were.
  """

  def __init__(self, seconds: float):
    self._seconds = seconds
    self._start: Optional[float] = None
    self.reached = False
    self.spent = 0.0

  def __call__(self, before: int, now: int) -> None:
    if self._start is None:
      self._start = time.monotonic()
    self.spent = time.monotonic() - self._start
    if not self.reached and self.spent >= self._seconds:
      self.reached = True
      signal.raise_signal(signal.SIGTERM)


def _run(label: str, config: Config, seconds: float
         ) -> Optional[Tuple[Dict[str, Any], np.ndarray]]:
  """(what a study keeps, the measure of each test task); None where a signal ended it."""
  from maml_tf import application, experiment
  from maml_tf.training.run_folder import training_folder
  from maml_tf.training.trainer import train
  model = experiment.build_model(config)
  with training_folder(config) as folder:
    config.problem.keep_beside(folder, config)
    spent = _spent(folder)
    if spent < seconds:
      _note(folder, seconds, _noted(folder).get('spent'))
      limit = TimeLimit(seconds - spent)
      ended = train(config, model, folder, None, limit)
      _note(folder, seconds, {'iteration': ended.iteration, 'seconds': spent + limit.spent})
      if ended.interrupted_by and not limit.reached:
        return None
    test = application.test(config, model, folder)
  updates = config.validation_num_updates
  values = test.results.query[config.problem.measure.name][:, updates]
  if not np.isfinite(values).all():
    raise NotFiniteError(f'The test after iteration {test.iteration} is not finite, in at '
                         'least one task.', test.iteration)
  kept = studies.as_run(label, test, history.of_run(folder))
  return {**kept, 'updates': updates, 'fingerprint': test.fingerprint}, values


def _note(folder: str, seconds: float, spent: Optional[Mapping[str, float]] = None) -> None:
  """Beside the run: the seconds that it was given, and how many of them it had after which
  iteration."""
  fields = {'seconds': seconds, **({} if spent is None else {'spent': spent})}
  write_whole(os.path.join(folder, NOTE), as_json(fields, indent=1))


def _spent(folder: str) -> float:
  """Seconds of training up to the newest checkpoint, from which a run goes on: what a killed
  one did after it is done again. Of one that was killed, tracing counts, too."""
  from maml_tf.training.checkpoint_files import CheckpointFiles, iteration_of
  newest = max(map(iteration_of, CheckpointFiles(folder).paths), default=0)
  noted = _noted(folder).get('spent')
  if noted is not None and noted['iteration'] == newest:
    return noted['seconds']
  return sum(line['seconds'] or 0 for line in history.of_run(folder)
             if line['iteration'] <= newest)


def _require_same_seconds(settings: Sequence[Tuple[str, Config]], seconds: float) -> None:
  """Before the first run: raises `ConfigError` where one that is there had more seconds, or
  was left by an earlier version, under which iterations could end it before."""
  from maml_tf.training.run_folder import experiment_folder, has_checkpoints
  for _, config in settings:
    folder = experiment_folder(config)
    if not has_checkpoints(folder):
      continue
    given = _noted(folder).get('seconds')
    if given is None:
      raise ConfigError(
          f'{folder} holds a run without {NOTE}, as earlier versions left it, in which not '
          f'all methods had the same seconds: move {config.run.logdir} away, or choose '
          'another --logdir.')
    if given > seconds and _spent(folder) > seconds:
      hours = math.ceil(round(given * len(settings) / 3.6, 3)) / 1000
      raise ConfigError(
          f'{folder} was trained for {given:,.0f} s, and --hours gives each method '
          f'{seconds:,.0f} s: give --hours={hours:g} or more, so that all have the same, or '
          'choose another --logdir.')


def _noted(folder: str) -> Dict[str, Any]:
  """What `_note` wrote; nothing where it did not, or where that cannot be read."""
  try:
    noted = read_json(os.path.join(folder, NOTE))
    spent = noted.get('spent')
    return {'seconds': float(noted['seconds']), 'spent': spent and {
        'iteration': int(spent['iteration']), 'seconds': float(spent['seconds'])}}
  except (OSError, ValueError, TypeError, KeyError, AttributeError):
    return {}


def _require_result_of_same_data(data: str, config: Config, results: str) -> None:
  """Raises `ConfigError` where the result would replace that of another set whose folder has
  the same name."""
  now = dict(config.problem.data_hashes(config))
  for result in study_files.read_all(results):
    if (result['name'], result['datasource']) != (NAME, data):
      continue
    if result.get('data', now) != now:
      path = study_files.path_of(result, results)
      raise ConfigError(f'{path} is of other data than those in {config.data_dir}: choose '
                        'another --results, or move it away.')
