"""Does it reproduce the paper? The rows, what the paper says, what was measured here.

  python -m maml_tf.verify                      lists the rows and their verdicts
  python -m maml_tf.verify --row=NAME --train   trains and tests a row, or goes on with it
  python -m maml_tf.verify --row=NAME --test    tests what has been trained of it so far
  python -m maml_tf.verify --report             writes pages and plots of the results, and
                                                the tables of README.md and of
                                                docs/environments
  python -m maml_tf.verify --study=NAME         trains and tests the runs of a study
  python -m maml_tf.verify --train-all [--hours=2.5] [--rows=a,b] [--cores=1]
                                                trains the rows of the plan one after the
                                                other, as long as there is time

A row is trained as its flagfile says, in the folder where `main.py` with that flagfile
trains it. Ctrl-C or SIGTERM saves and stops; the same command goes on from there. The
result goes into results/ROW/: seedS.json, the weights seedS.npz, the learning curve
seedS.history.csv, and while it is partial seedS.run/, from which another machine goes on.
The test tasks are for one look: a complete row that was tested is tested again with --again
only. Exits 2, with one sentence, for what cannot be done.

--train-all takes the runs of maml_tf/verification/plan.csv, those of the smallest priority
first, in turns of --turn minutes, from a git worktree of the commit that is checked out:
edits do not reach it. It goes on from the folder of runs or from seedS.run/, validates on
600 tasks (policies: 40), and prints a line a minute. Ctrl-C, SIGTERM, SIGHUP or SIGUSR1, and
the end of a turn, save the run and keep it in seedS.run/ without a look at the test tasks;
also after it was killed, the same command goes on. A run is tested when it has all its
iterations, or when it is ended early: no better score on those validation tasks during the
last third of its iterations, and at least a quarter of the plan done
(maml_tf/verification/early_end.py).
"""

from __future__ import annotations

import argparse
import functools
import glob
import os
import sys
from typing import Dict, Iterable, List, Mapping, Optional, Sequence

if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

from maml_tf import paths
from maml_tf.before_tensorflow import load_tensorflow
from maml_tf.command_line import OneSentenceParser, exit_code
from maml_tf.config import Config
from maml_tf.paper import records
from maml_tf.paper.flagfiles import row_config
from maml_tf.paper.rows import REPOSITORY, ROWS, Row, row_named
from maml_tf.verification import (
  drawn,
  method_study,
  plan,
  report,
  studies,
  study_tables,
  train_all,
)
from maml_tf.verification.options import require_fitting

DEFAULT_TURN = train_all.Settings.turn


def main(argv: Optional[List[str]] = None, rows: Sequence[Row] = ROWS) -> int:
  """The exit code: 0 done (or stopped by a signal, and saved), 1 failed, 2 refused."""
  parser = _parser()
  options = parser.parse_args(sys.argv[1:] if argv is None else argv)
  return exit_code('maml_tf.verify', functools.partial(_do, options, rows))


def _do(options: argparse.Namespace, rows: Sequence[Row]) -> Optional[int]:
  require_fitting(options)
  if options.row is not None:
    _train_or_test(row_named(options.row, tuple(rows)), options)
  elif options.study is not None:
    _study(options)
  elif options.train_all:
    return _train_all(rows, options)
  elif options.report:
    load_tensorflow()
    _report(rows, options.results)
  else:
    print(report.listing(rows, options.results))
  return None


def figure_2(rows: Sequence[Row], weight_files: Mapping[int, Mapping[str, str]]) -> bytes:
  """Figure 2 from weights, {K: {method: path}}: the bytes of a PNG file."""
  from maml_tf import experiment
  from maml_tf.paper import weights
  from maml_tf.reports.fitted_curves import figure_2_png
  panels = {}
  for shots, methods in weight_files.items():
    for method, path in methods.items():
      config = row_config(row_named(drawn.FIGURE_ROWS[shots][method], tuple(rows)))
      model = experiment.build_model(config)
      weights.load(path, model)
      tuning = weights.origin(path).fields.get('tuning')
      if tuning is not None:
        model.step_size = tuning['step_size']
      panels[f'{method}, {shots}-shot'] = (
          model, experiment.evaluation_generator(config, 'test', 2))
  return figure_2_png(panels, max(len(methods) for methods in weight_files.values()))


def _report(rows: Sequence[Row], results: str) -> None:
  for path in report.write_report(rows, functools.partial(figure_2, rows), results):
    print(f'Written: {path}')
  if results == records.RESULTS:
    for path, table in _pages(rows).items():
      report.write_table(path, table)
      print(f'Written: {path}')


def _pages(rows: Sequence[Row]) -> Dict[str, str]:
  """{path: table} of the repository's README, and of the pages of environments."""
  tables = {os.path.join(REPOSITORY, 'README.md'): report.front_page_table(rows)}
  folder = os.path.join(glob.escape(REPOSITORY), 'docs', 'environments')
  for path in sorted(glob.glob(os.path.join(folder, '*.md'))):
    name = os.path.splitext(os.path.basename(path))[0]
    tables[path] = report.environment_table(name, rows)
  return tables


def _train_or_test(row: Row, options: argparse.Namespace) -> None:
  config = row_config(row, seed=options.seed, logdir=options.logdir,
                      data_dir=options.data_dir)
  _set_up_device([config])
  from maml_tf.verification import runs
  if options.train:
    runs.train_row(row, config, options.iterations, options.results, options.again,
                   options.anew)
  else:
    runs.test_row(row, config, options.results, options.again)
  if records.read(row, options.seed, options.results) is not None:
    print(report.listing([row], options.results))


def _train_all(rows: Sequence[Row], options: argparse.Namespace) -> int:
  return train_all.run(
      plan.read(rows, options.rows, plan.PLAN if options.plan is None else options.plan),
      train_all.Settings(options.logdir or 'logs', options.data_dir or 'data',
                         options.results, options.hours, options.turn or DEFAULT_TURN,
                         options.cores or 0))


def _methods(options: argparse.Namespace) -> None:
  settings = method_study.configs(_datasource(options), options.seed, options.logdir,
                                  data_dir=options.data_dir)
  hours = method_study.DEFAULT_HOURS if options.hours is None else options.hours
  _set_up_device(config for _, config in settings)
  result = method_study.run(settings, 3600 * hours / len(settings), _study_command(options),
                            options.results)
  if result is not None:
    print('\n'.join(study_tables.methods_table(options.results, result['datasource'])))


def _study(options: argparse.Namespace) -> None:
  if options.study == method_study.NAME:
    _methods(options)
    return
  study = studies.study_named(options.study)
  settings = studies.configs(study, _datasource(options), options.iterations, options.seed,
                             options.logdir, data_dir=options.data_dir)
  _set_up_device(config for _, config in settings)
  studies.run_study(study, settings, _study_command(options), options.results)


def _datasource(options: argparse.Namespace) -> str:
  return options.datasource or studies.DEFAULT_DATASOURCE


def _set_up_device(configs: Iterable[Config]) -> None:
  """For runs of all of them."""
  load_tensorflow()
  from maml_tf import devices, experiment
  print(f'Device: {devices.set_up(all(map(experiment.side_by_side, configs)))}')


def _study_command(options: argparse.Namespace) -> str:
  """The command that repeats a study; folders are of no interest to a reader."""
  command = f'python -m maml_tf.verify --study={options.study}'
  for name in ('datasource', 'iterations', 'hours'):
    if getattr(options, name) is not None:
      command += f' --{name}={getattr(options, name)}'
  return command + (f' --seed={options.seed}' if options.seed else '')


def _parser() -> argparse.ArgumentParser:
  parser = OneSentenceParser(
      prog='python -m maml_tf.verify', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
  parser.add_argument('--row', metavar='NAME', help='of the list')
  parser.add_argument('--train', action='store_true',
                      help='train the row up to its length, and test it')
  parser.add_argument('--test', action='store_true',
                      help='test what has been trained of the row')
  parser.add_argument('--study', metavar='NAME',
                      help=', '.join([*(study.name for study in studies.STUDIES),
                                      method_study.NAME]))
  parser.add_argument('--train-all', action='store_true',
                      help='train the rows of the plan, and go on with them')
  parser.add_argument('--rows', metavar='A,B', help='of the plan; default all')
  parser.add_argument('--hours', type=float, metavar='H',
                      help='to train; default until the plan is done, for '
                           f'--study={method_study.NAME} {method_study.DEFAULT_HOURS:g}')
  parser.add_argument('--turn', type=float, metavar='MINUTES',
                      help=f'of a turn, after which the run is kept; default {DEFAULT_TURN:g}')
  parser.add_argument('--cores', type=int, metavar='N',
                      help='that the training may use; default all')
  parser.add_argument('--plan', type=paths.argument, metavar='FILE',
                      help='default maml_tf/verification/plan.csv')
  parser.add_argument('--report', action='store_true',
                      help='write the pages and the plots of the results')
  parser.add_argument('--seed', type=int, default=0, help='of the run; default 0')
  parser.add_argument('--iterations', type=int, metavar='N',
                      help='stop a row after N iterations, as a partial result; or the '
                           "length of a study's runs; "
                           f'--study={method_study.NAME} has --hours')
  parser.add_argument('--again', action='store_true',
                      help='test a row that was tested; the number of tests is recorded')
  parser.add_argument('--anew', action='store_true',
                      help='train from iteration 0, although there is a run to go on with; '
                           'one in the folder of runs is moved aside')
  parser.add_argument('--datasource', help='of a study; default omniglot')
  parser.add_argument('--logdir', type=paths.argument, metavar='FOLDER',
                      help='of the runs; default logs/DATASOURCE, for studies logs/studies; '
                           'with --train-all logs, where DATASOURCE is a folder in it')
  parser.add_argument('--data_dir', type=paths.argument, metavar='FOLDER',
                      help='with the prepared data; default data/DATASOURCE; with '
                           '--train-all data, where DATASOURCE is a folder in it')
  parser.add_argument('--results', type=paths.argument, metavar='FOLDER',
                      default=records.RESULTS,
                      help='of the result files; default results of the repository')
  return parser


if __name__ == '__main__':
  sys.exit(main())
