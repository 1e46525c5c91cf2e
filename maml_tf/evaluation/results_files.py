"""The results of a test as CSV (the TF1 code's file) and as JSON."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import platform
from typing import IO, Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.config import Config
from maml_tf.config.names import tested_step_size
from maml_tf.evaluation.protocol import Statistics, statistics
from maml_tf.evaluation.tuning import Tuning
from maml_tf.files import as_json, make_written, whole_file
from maml_tf.measures import Measure
from maml_tf.meta_learners import short_name
from maml_tf.task_results import TaskResults


class ProtocolRun(NamedTuple):
  """One test and what it was a test of.

  Attributes:
    config: of the run.
    results: per task.
    checkpoint: path of the tested checkpoint.
    iteration: meta-iterations that it was trained for; None where its name does not
      say so (of a TF1 checkpoint).
    fingerprint: of the episodes.
    seconds: duration of the test.
    tuning: how the step size was chosen; None: it is the configuration's.
  """
  config: Config
  results: TaskResults
  checkpoint: str
  iteration: Optional[int]
  fingerprint: str
  seconds: float
  tuning: Optional[Tuning] = None


def write_results(folder: str, run: ProtocolRun) -> Tuple[str, str]:
  """Writes both files, or on a full disk none; their paths, CSV first."""
  stem = os.path.join(folder, file_stem(run.config))
  times_tested = 1 + read_times_tested(stem + '.json')
  with whole_pair(stem) as (columns, report):
    report.write(as_json({**as_dict(run), 'times_tested': times_tested}, indent=2))
    _write_csv(columns, legacy_columns(run.results, run.config.problem.measure))
  return stem + '.csv', stem + '.json'


@contextlib.contextmanager
def whole_pair(stem: str) -> Iterator[Tuple[IO, IO]]:
  """`stem`.csv and `stem`.json as files to write to, which are whole files of one test: both,
  or none."""
  with whole_file(stem + '.json') as report, whole_file(stem + '.csv', newline='') as columns:
    yield columns, report
    for file in (report, columns):   # before one of them gets its name
      make_written(file)


def read_times_tested(path: str) -> int:
  """How often a test was written to that JSON file: looking at the test classes again
  and again, for another checkpoint each time, is a selection by them. 0 where there is
  no such file, or none that says so."""
  try:
    with open(path, encoding='utf-8') as file:
      return int(json.load(file).get('times_tested', 1))
  except (OSError, ValueError, TypeError, AttributeError):
    return 0


def file_stem(config: Config) -> str:
  """The TF1 code's `test_ubsK_stepsizeALPHA`; a test on validation classes, which
  overwrote it there, is called `val_...` here. A step size that was tuned is called
  `tuned`, and a nearest neighbour or a method without inner loop has none. Tasks of other
  classes than in training say of how many. Where --pretrained or --legacy_checkpoint is
  tested, its name follows: the folder has a run's own results, too; of a file with digits
  of its path, since those of other folders have the same names."""
  task = config.task
  ways = '' if task.num_classes == config.trained_classes else f'_cls{task.num_classes}'
  stem = f'{config.split}{ways}_ubs{task.update_batch_size}'
  if not config.baseline.has_step_size:
    return f'{stem}_{config.baseline.name}{config.of_named_file}'
  if not config.has_inner_loop:
    return f'{stem}_{short_name(config.training.method)}{config.of_named_file}'
  return f'{stem}_stepsize{tested_step_size(config)}{config.of_named_file}'


def legacy_columns(results: TaskResults, measure: Measure) -> np.ndarray:
  """`[tasks, updates + 1]` as the TF1 code has them: `update0` is the SUPPORT set
  before any update, the others are the query set after that many updates. Of a method
  without updates, which measures no support set, it is the query set."""
  values = np.array(results.query[measure.name], np.float64)
  if results.support:
    values[:, 0] = results.support[measure.name]
  return values


def as_dict(run: ProtocolRun) -> Dict[str, Any]:
  """What the JSON file holds."""
  results, measure = run.results, run.config.problem.measure
  per_update: Dict[str, Any] = {}
  if results.support:
    per_update['update0_support'] = _measures(results.support)
  for update in range(results.query[measure.name].shape[1]):
    name = 'update0_query' if update == 0 else f'update{update}'
    per_update[name] = _measures({measure: values[:, update]
                                  for measure, values in results.query.items()})
  return {
      'config': run.config.to_dict(),
      'tuning': None if run.tuning is None else run.tuning.as_dict(),
      'updates': per_update,
      'num_tasks': len(results.query[measure.name]),
      'split': run.config.problem.recorded_split(run.config),
      'episodes_fingerprint': run.fingerprint,
      'checkpoint': run.checkpoint,
      'iteration': run.iteration,
      'seconds': round(run.seconds, 3),
      'versions': versions(),
  }


def versions() -> Dict[str, str]:
  """Of what the numbers depend on."""
  return {'python': platform.python_version(), 'tensorflow': tf.__version__,
          'keras': getattr(tf.keras, '__version__', tf.keras.__name__),
          'numpy': np.__version__, 'platform': platform.platform()}


def table(run: ProtocolRun, paper: Dict[int, str]) -> str:
  """The results as text: one line per update, the paper's values beside them.

  Args:
    run: the test.
    paper: {number of updates: value as the paper writes it}, may be empty.
  """
  measure, results = run.config.problem.measure, run.results
  rows: List[Tuple[str, Statistics, str]] = []
  if results.support:
    rows.append(('0 (support set)', statistics(results.support[measure.name]), ''))
  by_update = statistics(results.query[measure.name])
  for update in range(len(by_update.means)):
    label = '0 (query set)' if update == 0 and results.support else str(update)
    rows.append((label, Statistics(*(value[update] for value in by_update)),
                 paper.get(update, '')))
  width = max(len(label) for label in ['updates', *(label for label, _, _ in rows)])
  lines = [f'{"updates":<{width}}  {measure.title:>18}  {"95% interval":>12}  '
           f'{"std":>8}{"  paper" if paper else ""}']
  for label, values, reference in rows:
    mean, std, ci95 = (measure.text(float(value)) for value in
                       (values.means, values.stds, values.ci95))
    lines.append(f'{label:<{width}}  {mean:>18}  {"+- " + ci95:>12}  {std:>8}  '
                 f'{reference}'.rstrip())
  return '\n'.join(lines)


def _measures(values: Mapping[str, np.ndarray]) -> Dict[str, Any]:
  return {name: _as_floats(statistics(of_tasks)) for name, of_tasks in values.items()}


def _as_floats(values: Statistics) -> Dict[str, float]:
  return {'mean': float(values.means), 'std': float(values.stds), 'ci95': float(values.ci95)}


def _write_csv(file: IO, values: np.ndarray) -> None:
  columns = statistics(values)
  writer = csv.writer(file)
  writer.writerow([f'update{i}' for i in range(len(columns.means))])
  for row in columns:
    writer.writerow([repr(float(value)) for value in row])
