"""Which options of `python -m maml_tf.verify` go together. No TensorFlow here."""

from __future__ import annotations

import argparse
import math
import os
from typing import Optional

from maml_tf.config import ConfigError
from maml_tf.paper import records
from maml_tf.paths import require_usable_for_checkpoints
from maml_tf.task_groups import available_cores
from maml_tf.verification import method_study


def require_fitting(options: argparse.Namespace) -> None:
  """Raises: ConfigError: for options that do not go together."""
  named = [name for name in ('row', 'study', 'report', 'train-all')
           if getattr(options, name.replace('-', '_'))]
  if len(named) > 1:
    raise ConfigError(f'--{named[0]} does not fit --{named[1]}: give one of them.')
  _check_train_all(options)
  if options.row is not None and options.train == options.test:
    raise ConfigError(f'--row={options.row} needs one of --train and --test.')
  if options.row is None and (options.train or options.test):
    raise ConfigError('--train and --test need --row=NAME, which says what to train: '
                      '`python -m maml_tf.verify` lists the rows.')
  if options.datasource is not None and options.study is None:
    raise ConfigError(f'--datasource={options.datasource} is for a --study: a row has its '
                      'own.')
  if options.again and options.row is None:
    raise ConfigError('--again is for a --row: it allows another look at its test tasks.')
  if options.anew and not (options.row and options.train):
    raise ConfigError('--anew is for --row=NAME --train: it starts at iteration 0 what would '
                      'be gone on with.')
  runs = (options.train or options.test or options.train_all
          or options.study is not None)
  if (runs or options.report) and options.results == records.RESULTS != records.IN_REPOSITORY:
    raise ConfigError('--results=FOLDER is needed, outside of the repository: it says where '
                      'results go, and nothing is written into an installed package.')
  if not runs:
    _check_reading(options)
  if options.train or options.train_all:   # of which results keep checkpoints
    require_usable_for_checkpoints(options.results, 'results')
  if options.iterations is not None and options.iterations < 1:
    raise ConfigError(f'--iterations={options.iterations} is not allowed: it must be 1 or '
                      'more.')
  if options.iterations is not None and not (options.train or options.study):
    raise ConfigError(f'--iterations={options.iterations} says how long to train: give it '
                      'with --train or --study.')
  if options.iterations is not None and options.study == method_study.NAME:
    raise ConfigError(f'--iterations={options.iterations} does not fit '
                      f'--study={method_study.NAME}, whose runs end by their seconds: give '
                      '--hours=H, the time of all of them together.')


def _check_reading(options: argparse.Namespace) -> None:
  """Of the list and the report, which read results and need no run."""
  if options.seed:
    raise ConfigError(f'--seed={options.seed} is for what trains or tests, and the list and '
                      '--report are of all seeds: give --row or --study, or leave it out.')
  if not os.path.isdir(options.results):
    raise ConfigError(f'--results={options.results}: there is no such folder, so no results '
                      'to list: check the path.')


def _check_hours(hours: Optional[float]) -> None:
  if hours is not None and not 0 < hours < math.inf:
    raise ConfigError(f'--hours={hours} is not allowed: it must be above 0, 2.5 for two '
                      'hours and a half.')


def _check_train_all(options: argparse.Namespace) -> None:
  own = {name: getattr(options, name) for name in ('rows', 'hours', 'turn', 'cores', 'plan')}
  if not options.train_all:
    if options.study == method_study.NAME:
      _check_hours(own.pop('hours'))
    for name, value in own.items():
      if value is not None:
        also = f', or for --study={method_study.NAME}' if name == 'hours' else ''
        raise ConfigError(f'--{name}={value} is for --train-all, which trains the rows of '
                          f'the plan{also}: give that, or leave this out.')
    return
  # Its runs are in a working tree of git, elsewhere.
  require_usable_for_checkpoints(os.path.abspath(options.logdir or 'logs'), 'logdir')
  if options.train or options.test or options.iterations is not None or options.seed:
    raise ConfigError('--train-all takes rows, iterations and seeds from the plan: leave '
                      '--train, --test, --iterations and --seed out.')
  _check_hours(options.hours)
  if options.turn is not None and not 1 <= options.turn < math.inf:
    raise ConfigError(f'--turn={options.turn} is not allowed: it must be 1 minute or more.')
  if options.cores is not None and not 1 <= options.cores <= available_cores():
    raise ConfigError(f'--cores={options.cores} is not allowed: it must be from 1 to the '
                      f'{available_cores()} that this process may use.')
