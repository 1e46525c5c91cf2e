"""The study of methods: each on the same data, net, episodes and seconds of training.

Step sizes and numbers of updates are those of a method's preset. Tasks, their numbers of
classes and of query examples, and meta-batches are MAML's for all of them, so that each sees
the same episodes; what a method does by the length of a run (schedules of the meta step size,
the annealings of MAML++) is left out, since nobody knows the length before.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from maml_tf import problems
from maml_tf.config import Config, preset, resolve
from maml_tf.meta_learners import METHODS, WITHOUT_INNER_LOOP
from maml_tf.paper import records
from maml_tf.training import history
from maml_tf.verification import provenance, studies

NAME = 'methods'
DEFAULT_HOURS = 1.0
# Of one run; validation is a part of its seconds.
_INTERVALS = {'sinusoid': 500, 'omniglot': 100}
_OTHER_INTERVAL = 50
_OF_THE_LENGTH = {'meta_lr_schedule': 'constant', 'multi_step_iterations': 0,
                  'first_order_iterations': 0}
_SAME_EPISODES = ('meta_batch_size', 'train_query_size', 'test_query_size')

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
  """
  has_classes = problems.named(datasource).has_classes
  data_dir = given.get('data_dir')
  usual = preset(datasource, data_dir=data_dir)
  common = dict(
      {name: usual[name] for name in _SAME_EPISODES},
      datasource=datasource, seed=seed, test_set=False, num_validation_tasks=100,
      validation_interval=_INTERVALS.get(datasource, _OTHER_INTERVAL),
      logdir=os.path.join(logdir or os.path.join('logs', 'studies'), f'{datasource}_methods'))
  if has_classes:
    common['test_query_size'] = 5
  found = []
  for label, flags in entries.items():
    method = flags.get('method', 'maml')
    if method in WITHOUT_INNER_LOOP:
      if not has_classes:
        continue
      flags = {**flags, 'train_num_classes': -1}
    own = preset(datasource, method=method, data_dir=data_dir)
    by_length = {name: value for name, value in _OF_THE_LENGTH.items() if own[name] != value}
    found.append((label, resolve({**common, **by_length, **flags, **given})))
  return found


def run(settings: Sequence[Tuple[str, Config]], seconds: float, command: str,
        results: str = records.RESULTS) -> Optional[Dict[str, Any]]:
  """Trains each for so long, tests it, and writes the study's result file.

  A run goes on where it was stopped; one that had its seconds is tested alone.

  Returns:
    What the file holds; None where a signal ended it.
  """
  from maml_tf.evaluation import results_files
  versions = results_files.versions()
  del versions['platform']
  runs, of_tasks = [], []
  for number, (label, config) in enumerate(settings, start=1):
    print(f'Methods, run {number} of {len(settings)}: {label}, {seconds:,.0f} s', flush=True)
    done = _run(label, config, seconds)
    if done is None:
      return None
    run_, values = done
    of_tasks.append(values)
    runs.append({**run_, 'paired': paired(values, of_tasks[0])})
  config = settings[0][1]
  result = {
      'name': NAME, 'title': 'Methods', 'command': command,
      'datasource': config.task.datasource, 'length': f'{seconds:,.0f} s of training each',
      'seed': config.task.seed, 'measure': runs[0]['measure'],
      'split': config.problem.recorded_split(config),
      'num_tasks': config.evaluation.num_test_tasks, 'runs': runs,
      'machine': provenance.machine(None), 'commit': provenance.commit(),
      'date': provenance.today(), 'versions': versions}
  for run_ in runs:
    run_.pop('measure')
  path = os.path.join(results, 'studies', f'{studies.stem_of(result)}.json')
  records.write_text(path, json.dumps(result, indent=1) + '\n')
  print(f'Written: {path}')
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
  """

  def __init__(self, seconds: float):
    self._seconds = seconds
    self._start: Optional[float] = None
    self.reached = False

  def __call__(self, before: int, now: int) -> None:
    if self._start is None:
      self._start = time.monotonic()
    if not self.reached and time.monotonic() - self._start >= self._seconds:
      self.reached = True
      signal.raise_signal(signal.SIGTERM)


def _run(label: str, config: Config, seconds: float
         ) -> Optional[Tuple[Dict[str, Any], np.ndarray]]:
  """(what a study keeps, the measure of each test task); None where a signal ended it."""
  from maml_tf import application, experiment
  from maml_tf.training.checkpoints import training_folder
  from maml_tf.training.trainer import train
  model = experiment.build_model(config)
  with training_folder(config) as folder:
    path = os.path.join(folder, history.HISTORY_FILE)
    left = seconds - sum(line['seconds'] or 0 for line in history.read(path))
    if left > 0:
      limit = TimeLimit(left)
      if train(config, model, folder, None, limit).interrupted_by and not limit.reached:
        return None
    test = application.test(config, model, folder)
  updates = config.validation_num_updates
  kept = studies.as_run(label, test, history.read(path))
  values = test.results.query[config.problem.measure.name][:, updates]
  return {**kept, 'updates': updates, 'fingerprint': test.fingerprint}, values
