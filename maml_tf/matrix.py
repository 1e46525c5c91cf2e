"""The evaluation matrix: query set sizes x batch statistics x numbers of tasks.

  python -m maml_tf.matrix --legacy_checkpoint=PATH [FLAGS]
      [--tasks=600,6000] [--query_sizes=1,5,15] [--updates=1,5,10]

FLAGS are those of `main.py`; without --legacy_checkpoint they name a run of this
project. --tasks and --query_sizes stand in the place of its --num_test_tasks and
--test_query_size, also of those in a flagfile. The tasks of a smaller number are the first
ones of the larger. Prints a table of accuracies with 95% intervals, and writes it as CSV and
JSON into the experiment's folder. The file says how often such a matrix was measured
(`times_tested`). Exits 2, with one sentence, where that is not possible, and 1 where outputs
are not finite.
"""

from __future__ import annotations

import argparse
import csv
import functools
import math
import os
import sys
import time
from typing import Any, Dict, List, Optional, Sequence

if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

import flags
from maml_tf import outputs
from maml_tf.argument_types import counts
from maml_tf.before_tensorflow import load_tensorflow
from maml_tf.command_line import DONE, FAILED, OneSentenceParser, exit_code
from maml_tf.config import Config
from maml_tf.files import as_json, reported
from maml_tf.interruptions import put_off
from maml_tf.measures import counted

_IN_THE_PLACE_OF = {'num_test_tasks': 'tasks', 'test_query_size': 'query_sizes'}


def main(argv: Optional[List[str]] = None) -> int:
  """The exit code: 0 done, 1 the results cannot be written or are not finite, 2 refused."""
  parser = _parser()
  options, rest = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
  for argument in rest:
    name, *_ = flags.split_argument(argument)
    if name in _IN_THE_PLACE_OF:
      parser.error(f'{argument} is not possible here: give --{_IN_THE_PLACE_OF[name]}')
  config = flags.main_config(
      ['main.py', *rest, '--train=False', f'--test_query_size={max(options.query_sizes)}',
       f'--num_test_tasks={max(options.tasks)}'], 'maml_tf.matrix')
  load_tensorflow()
  def action() -> int:
    result = run(config, *(sorted(set(values)) for values in (
        options.tasks, options.query_sizes, options.updates)))
    return FAILED if _say_where_not_finite(result, config) else DONE
  return exit_code('maml_tf.matrix', action)


def run(config: Config, task_counts: Sequence[int], query_sizes: Sequence[int],
        updates: Sequence[int]) -> Dict[str, Any]:
  """Measures, prints the table and writes the files; what the JSON file holds.

  Args:
    config: of images; `test_query_size` and `num_test_tasks` are the largest of the
      sizes and counts.
    task_counts, query_sizes, updates: ascending.

  Raises:
    ConfigError: for a regression.
    CheckpointError: where the checkpoint is missing or does not fit.
    DataError: where the data are not prepared.
  """
  import numpy as np

  from maml_tf import application, bars, devices, experiment
  from maml_tf.evaluation import conditions
  from maml_tf.evaluation.results_files import versions
  from maml_tf.training.run_folder import experiment_folder
  config.problem.require_query_conditions(config)
  experiment.hide_unwanted_gpus(config)
  print(f'Device: {devices.set_up()}', flush=True)
  model = experiment.build_model(config)
  folder = experiment_folder(config)
  checkpoint, iteration = application.load_for_test(config, model, folder)
  generator = experiment.evaluation_generator(config, config.split, max(task_counts))
  evaluator = conditions.ConditionsEvaluator(model, generator, config.task.num_classes,
                                             query_sizes, updates)
  print(f'{checkpoint}, {config.split} classes', flush=True)
  progress = functools.partial(bars.of_a_test, unit='group')
  started, measured, rows = time.monotonic(), [], []
  for before, count in zip([0, *task_counts], task_counts):
    measured.append(evaluator(before, count - before, progress))
    rows += conditions.rows(np.concatenate(measured), query_sizes, updates)
    lines = table([row._asdict() for row in rows], updates).split('\n')
    shown = lines if before == 0 else lines[-2 * len(query_sizes):]
    print('\n'.join(shown), flush=True)
  seconds = round(time.monotonic() - started, 1)
  print(f'{seconds} s')
  result = {
      'checkpoint': checkpoint, 'iteration': iteration, 'split': config.split,
      'seconds': seconds,
      'episodes_fingerprints': {count: generator.fingerprint(count)
                                for count in task_counts},
      'rows': [row._asdict() for row in rows],
      'config': config.to_dict(), 'versions': versions()}
  with reported(folder), put_off():   # both of them, or none
    paths = write(folder, config, result)
  for path in paths:
    print(f'Written: {path}')
  return result


def _say_where_not_finite(result: Dict[str, Any], config: Config) -> bool:
  """Whether a net gave outputs that are not finite in at least one task."""
  updates = [row['updates'] for row in result['rows'] if not math.isfinite(row['mean'])]
  if updates:
    from maml_tf.training.divergence import advice_for_test
    outputs.say(f'Not all results are finite: after {counted(min(updates), "update")} the '
                'outputs are not, in at least one task: '
                f'{advice_for_test(config, updates="updates")}.')
  return bool(updates)


def table(rows: Sequence[Dict[str, Any]], updates: Sequence[int]) -> str:
  """One line per number of tasks and condition, in %, one column per update."""
  cells: Dict[tuple, Dict[int, str]] = {}
  for row in rows:
    key = (row['num_tasks'], row['query_size'], row['statistics'])
    cells.setdefault(key, {})[row['updates']] = (
        f'{100 * row["mean"]:.2f} +- {100 * row["ci95"]:.2f}')
  header = [f'{"1 update" if update == 1 else f"{update} updates":>16}' for update in updates]
  lines = [f'{"tasks":>6}  {"query/class":>11}  {"batch statistics":<16}{"".join(header)}']
  for (num_tasks, query_size, kind), by_update in cells.items():
    values = ''.join(f'{by_update[update]:>16}' for update in updates)
    lines.append(f'{num_tasks:>6}  {query_size:>11}  {kind:<16}{values}')
  return '\n'.join(lines)


def write(folder: str, config: Config, result: Dict[str, Any]) -> List[str]:
  """Writes CSV and JSON, which counts how often it was written, or on a full disk none; their
  paths."""
  from maml_tf.evaluation.results_files import read_times_tested, whole_pair
  stem = os.path.join(folder, _stem(config))
  result = {**result, 'times_tested': 1 + read_times_tested(stem + '.json')}
  with whole_pair(stem) as (columns, report):
    writer = csv.DictWriter(columns, fieldnames=list(result['rows'][0]))
    writer.writeheader()
    writer.writerows(result['rows'])
    report.write(as_json(result, indent=2))
  return [stem + '.csv', stem + '.json']


def _stem(config: Config) -> str:
  """As a test's results are called, with 'matrix' in it; of an iteration that was asked for,
  with that."""
  from maml_tf.evaluation.results_files import file_stem
  prefix = 'matrix' if config.evaluation.test_set else 'val_matrix'
  iteration = config.evaluation.test_iter
  return (prefix + file_stem(config)[len(config.split):]
          + ('' if iteration == -1 else f'_iteration{iteration}'))


def _parser() -> argparse.ArgumentParser:
  parser = OneSentenceParser(
      prog='python -m maml_tf.matrix', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
  parser.add_argument('--tasks', type=counts(2), default=[600, 6000],
                      help='numbers of tasks; default 600,6000')
  parser.add_argument('--query_sizes', type=counts(1), default=[1, 5, 15],
                      help='query images per class; default 1,5,15')
  parser.add_argument('--updates', type=counts(1), default=[1, 5, 10],
                      help='inner steps after which to measure; default 1,5,10')
  return parser


if __name__ == '__main__':
  sys.exit(main())
