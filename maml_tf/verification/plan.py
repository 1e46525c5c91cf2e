"""Which runs `--train-all` trains, and in which order: `plan.csv`. No TensorFlow here.

A line of the plan is a row, how many iterations it is to have, a priority and its seeds.
"""

from __future__ import annotations

import csv
import os
from typing import Dict, List, NamedTuple, Optional, Sequence

from maml_tf.config import ConfigError
from maml_tf.paper import records
from maml_tf.paper.rows import Row, row_named

PLAN = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'plan.csv')
COLUMNS = ('priority', 'row', 'iterations', 'seeds')
_EXAMPLE = '1,omniglot_5way_1shot,60000,0 1 2'


class Job(NamedTuple):
  """A run of the plan.

  Attributes:
    row: that is trained.
    seed: of the run.
    iterations: planned for it; the row's flagfile may plan more.
    priority: jobs of a smaller one come first.
  """
  row: Row
  seed: int
  iterations: int
  priority: int

  @property
  def name(self) -> str:
    return self.row.name if self.seed == 0 else f'{self.row.name} (seed {self.seed})'


def is_finished(job: Job, results: str) -> bool:
  """Whether there is a result of all iterations, of those of the plan, or one that ended
  early."""
  record = records.read(job.row, job.seed, results)
  return record is not None and (record.is_finished or record.trained >= job.iterations)


def read(rows: Sequence[Row], names: Optional[str] = None, path: str = PLAN) -> List[Job]:
  """The jobs of a plan, smaller priorities first, in the order of the file within one.

  Args:
    rows: that there are.
    names: 'a,b': of these rows alone; None: of all that there are.
    path: of the plan. The package's own is of all rows of the package, of which `rows` may
      be some; any other names rows that there are.

  Raises:
    ConfigError: for a row that there is not, or a file that is no plan.
  """
  chosen = [row_named(name, tuple(rows)) for name in _names(names)]
  allowed = {row.name: row for row in (chosen or rows)}
  lines = _lines(path)
  if path != PLAN:
    _require_known(lines, rows, path)
  jobs = [Job(allowed[line['row']], seed, line['iterations'], line['priority'])
          for line in lines if line['row'] in allowed for seed in line['seeds']]
  _require_all(chosen, jobs, path)
  return sorted(jobs, key=lambda job: job.priority)


def _names(names: Optional[str]) -> List[str]:
  if names is None:
    return []
  found = [name.strip() for name in names.split(',')]
  if not all(found):
    raise ConfigError(f'--rows={names} is not allowed: it must be names of rows, with commas '
                      'between them: --rows=omniglot_20way_1shot,omniglot_5way_5shot.')
  return found


def _lines(path: str) -> List[Dict]:
  try:
    with open(path, newline='', encoding='utf-8') as file:
      text = [line for line in file if line.strip() and not line.startswith('#')]
  except (OSError, UnicodeDecodeError) as error:
    advice = 'take it back from the version control' if path == PLAN else 'check --plan'
    raise ConfigError(f'The plan {path} cannot be read ({error}): {advice}.') from error
  table = csv.DictReader(text)
  if tuple(table.fieldnames or ()) != COLUMNS:
    raise ConfigError(f'The plan {path} has the columns {table.fieldnames}: they must be '
                      f'{",".join(COLUMNS)}.')
  lines = [_parsed(cells, path) for cells in table]
  if not lines:
    raise ConfigError(f'The plan {path} has no runs: it must have lines like '
                      f'{_EXAMPLE} after that of its columns.')
  runs = [(line['row'], seed) for line in lines for seed in line['seeds']]
  twice = sorted({run for run in runs if runs.count(run) > 1})
  if twice:
    raise ConfigError(f'The plan {path} has {twice[0][0]} with seed {twice[0][1]} twice: '
                      'leave one of them out.')
  return lines


def _parsed(cells: Dict, path: str) -> Dict:
  try:
    line = {'row': cells['row'], 'priority': int(cells['priority']),
            'iterations': int(cells['iterations']),
            'seeds': [int(seed) for seed in cells['seeds'].split()]}
  except (TypeError, ValueError, AttributeError):   # a cell is missing, or no number
    line = None
  if None in cells:   # too many of them
    line = None
  if line is None or line['iterations'] < 1 or not line['seeds'] or min(line['seeds']) < 0:
    raise ConfigError(f'The plan {path} has the line {list(cells.values())}: it must be '
                      f'like {_EXAMPLE}.')
  return line


def _require_known(lines: Sequence[Dict], rows: Sequence[Row], path: str) -> None:
  try:
    for line in lines:
      row_named(line['row'], tuple(rows))
  except ConfigError as error:
    raise ConfigError(f'The plan {path} has a row that there is not. {error}') from error


def _require_all(chosen: Sequence[Row], jobs: Sequence[Job], path: str) -> None:
  planned = {job.row.name for job in jobs}
  for row in chosen:
    if row.name not in planned:
      raise ConfigError(f'{row.name} is not in the plan {path}: add a line for it, or train '
                        f'it with --row={row.name} --train.')
