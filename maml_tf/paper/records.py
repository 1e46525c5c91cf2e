"""Result files: one JSON per row and seed, with its weights and history beside it.

RESULTS/ROW/seedS.json, seedS.npz, seedS.history.csv, and of a run that is not finished, with
a partial result or without any, seedS.run/. They are all that the report is made of. No
TensorFlow here.
"""

from __future__ import annotations

import glob
import math
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from maml_tf import measures
from maml_tf.bounded import read_json
from maml_tf.config import ConfigError
from maml_tf.files import as_json, writable, write_whole
from maml_tf.measures import Measure
from maml_tf.paper.rows import REPOSITORY, Row

# Those of the repository; where the project was installed, what the package has of them:
# records and weights.
IN_REPOSITORY = os.path.join(REPOSITORY, 'results')
RESULTS = IN_REPOSITORY if os.path.isdir(IN_REPOSITORY) else os.path.join(
    REPOSITORY, 'maml_tf', 'results')
KEPT_RUN = '.run'   # the folder that has the run itself, see `kept_runs`


class Measured(NamedTuple):
  """In the paper's unit: accuracies in %, errors as they are."""
  mean: float
  ci95: float


class Record:
  """One result file: what `as_json` made of a test.

  Args:
    fields: the content of the JSON file.
    path: of that file.
  """

  def __init__(self, fields: Dict[str, Any], path: str):
    self.fields = fields
    self.path = path
    _require_complete(fields, path)

  @property
  def seed(self) -> int:
    return self.fields['seed']

  @property
  def trained(self) -> int:
    """Iterations that the run has done."""
    return self.fields['iterations']['trained']

  @property
  def planned(self) -> int:
    """Iterations that the row's flagfile asks for."""
    return self.fields['iterations']['planned']

  @property
  def is_complete(self) -> bool:
    return self.trained >= self.planned

  @property
  def ended_early(self) -> bool:
    """Whether the rule of `early_end` ended the training before its plan did."""
    return 'ended_early' in self.fields and not self.is_complete

  @property
  def is_finished(self) -> bool:
    return self.is_complete or self.ended_early

  @property
  def measure(self) -> Measure:
    """What the row's tasks are judged by."""
    return measures.named(self.fields['measure'])

  @property
  def updates(self) -> List[int]:
    """Numbers of updates after which the query set was measured, from 0."""
    return list(range(len(set(self.fields['updates']) - {'update0_support'})))

  def after(self, updates: int) -> Measured:
    """On the query set after that many updates."""
    name = 'update0_query' if updates == 0 else f'update{updates}'
    values, scale = self.fields['updates'][name][self.measure.name], self.measure.scale
    return Measured(scale * values['mean'], scale * values['ci95'])


_REQUIRED = ('row', 'seed', 'iterations', 'measure', 'updates', 'num_tasks', 'times_tested',
             'tested', 'weights', 'training', 'first_episodes', 'machine', 'versions',
             'commit', 'date', 'config')


def _require_complete(fields: Any, path: str) -> None:
  if not isinstance(fields, dict):
    raise ConfigError(f'{path} is not a result file: it must hold an object of names and '
                      f'values, and holds {type(fields).__name__}.')
  missing = sorted(set(_REQUIRED) - set(fields))
  if missing:
    raise ConfigError(f'{path} is not a result file, since it lacks {missing}: take it '
                      'back from the version control, or move it away.')
  wrong = _wrong_value(fields)
  if wrong is not None:
    raise ConfigError(f'{path} is not a result file as it was written ({wrong}): take it back '
                      'from the version control, or move it away.')


def _wrong_value(fields: Dict[str, Any]) -> Optional[str]:
  """What a file that was edited by hand has in place of what verdicts are made of, as a
  phrase; None where all of it can be."""
  iterations = fields['iterations']
  for name in ('trained', 'planned'):
    if not isinstance(iterations, dict) or not _is_count(iterations.get(name)):
      return f'iterations.{name} must be a whole number'
  if iterations['trained'] > iterations['planned']:
    return 'iterations.trained is above iterations.planned'
  if not isinstance(fields['updates'], dict):
    return 'updates must be an object'
  for name, measured in fields['updates'].items():
    values = measured.get(fields['measure']) if isinstance(measured, dict) else None
    if not isinstance(values, dict) or not all(
        _is_finite(values.get(each)) for each in ('mean', 'ci95')):
      return f'updates.{name} must have finite numbers for {fields["measure"]}'
  return None


def _is_count(value: Any) -> bool:
  return type(value) is int and 0 <= value < 2**31


def _is_finite(value: Any) -> bool:
  """Whether it is a number of 64 bits."""
  try:
    return type(value) in (int, float) and math.isfinite(value)
  except OverflowError:
    return False


def folder_of(row: Row, results: str = RESULTS) -> str:
  return os.path.join(results, row.name)


def file_of(row: Row, seed: int, suffix: str, results: str = RESULTS) -> str:
  """The path of a row's file; `suffix` is '.json', '.npz', '.history.csv', '.run'."""
  return os.path.join(folder_of(row, results), f'seed{seed}{suffix}')


def read(row: Row, seed: int, results: str = RESULTS) -> Optional[Record]:
  """The record of a row and seed; None where there is none.

  Raises:
    ConfigError: for a file that is not a result file, or one of another row or seed: a copy
      would count as a further run.
  """
  path = file_of(row, seed, '.json', results)
  if not os.path.exists(path):
    return None
  record = read_file(path)
  if (record.fields['row'], record.seed) != (row.name, seed):
    raise ConfigError(f'{path} is of {record.fields["row"]} with seed {record.seed}, and its '
                      f'name says {row.name} with seed {seed}: move it away.')
  return record


def read_file(path: str) -> Record:
  """The record in a file.

  Raises:
    ConfigError: for a file that is not a result file.
  """
  try:
    fields = read_json(path)
  except (OSError, ValueError) as error:
    raise ConfigError(f'{path} cannot be read as JSON ({error}): take it back from the '
                      'version control, or move it away.') from error
  return Record(fields, path)


def read_all(row: Row, results: str = RESULTS) -> List[Record]:
  """The records of all seeds of a row, the smallest seed first."""
  found = [read(row, seed, results) for seed in seeds(row, '.json', results)]
  return [record for record in found if record is not None]


def seeds(row: Row, suffix: str, results: str = RESULTS) -> Tuple[int, ...]:
  """The seeds for which the row has a file with that suffix."""
  pattern = os.path.join(glob.escape(folder_of(row, results)), f'seed*{suffix}')
  names = (os.path.basename(path)[:-len(suffix)] for path in glob.glob(pattern))
  return tuple(sorted(int(name[4:]) for name in names if re.fullmatch(r'seed\d+', name)))


def kept_iteration(row: Row, seed: int, results: str = RESULTS) -> int:
  """The iteration from which the row's kept run can be gone on with; 0 without one."""
  kept = file_of(row, seed, KEPT_RUN, results)
  names = os.listdir(kept) if os.path.isdir(kept) else []
  found = (re.fullmatch(r'model-(\d+)\.index', name) for name in names)
  return max((int(match.group(1)) for match in found if match), default=0)


def write(row: Row, fields: Dict[str, Any], results: str = RESULTS) -> str:
  """Writes a record, whole or not at all; its path."""
  path = file_of(row, fields['seed'], '.json', results)
  _require_complete(fields, path)
  write_text(path, as_json(fields, indent=1))
  return path


def write_text(path: str, text: str) -> None:
  write_bytes(path, text.encode())


def write_bytes(path: str, content: bytes) -> None:
  """Whole or not at all; folders are made.

  Raises:
    ConfigError: where that is not possible.
  """
  with writable(path, 'results'):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_whole(path, content)
