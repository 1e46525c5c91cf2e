"""`history.csv`: what a run's learning curve is drawn from, without TensorBoard."""

from __future__ import annotations

import csv
import io
import os
import shutil
import time
from typing import TYPE_CHECKING, Dict, List, Optional

from maml_tf import outputs
from maml_tf.errors import ConfigError
from maml_tf.files import reported, whole_file
from maml_tf.measures import counted

if TYPE_CHECKING:   # what reads histories needs no TensorFlow
  from maml_tf.task_results import TaskResults

HISTORY_FILE = 'history.csv'
_DAMAGED = '.damaged'   # as of checkpoints
_TRAINING = ('iteration', 'iterations', 'seconds', 'executions', 'loss')

Line = Dict[str, Optional[float]]


class History:
  """The learning curve of a run, one line per validation; it outlives interruptions.

  The columns:
    iteration: complete when the line was written.
    iterations, seconds: how many of them the line is about, and how long these took,
      validation included. They do not cover what a killed process did after its last
      line, or what was trained before there was a history.
    executions: of training steps, over which `loss` and `accuracy` are means; what is not
      logged in pre-training is one over those behind it. An execution of several steps counts
      with its last one.
    loss, and what else the problem measures (accuracy): of training meta-batches, after the
      inner updates (while pre-training: without any).
    val_support_loss, val_support_MEASURE: on the validation tasks' support sets before any
      update; not of methods without an inner loop.
    val_loss_J, val_MEASURE_J: on their query sets after J updates.

  Accuracies are from 0 to 1. A line without validation
  is the rest of a run that ended between two of them; when the run goes on, the next line
  takes it up and stands in its place.

  Args:
    folder: of the experiment.
    iteration: where the run goes on; lines of later iterations are taken out.

  Raises:
    WriteError: where it cannot be written, at any time.
    ConfigError: in `add`, for what is called as a column of the history's own.
  """

  def __init__(self, folder: str, iteration: int):
    self._path = os.path.join(folder, HISTORY_FILE)
    self._rest: Dict[str, float] = {}
    self._counts: Dict[str, int] = {}   # executions that logged it: phases log others
    self._mark = time.monotonic()
    self._written = 0   # the last iteration that the file has
    self._has_rest = False   # whether its last line is one without validation
    self._rest_ends = 0   # where the run stopped, if that was between two lines
    self._open(iteration)

  def start_clock(self) -> None:
    self._mark = time.monotonic()

  def add(self, iterations: int, logs: Dict) -> None:
    """What an execution of training steps gave."""
    now = time.monotonic()
    counts = {'iterations': iterations, 'seconds': now - self._mark, 'executions': 1}
    taken = sorted({'iteration', *counts}.intersection(logs))
    if taken:
      raise ConfigError(f'Measures must not be called {", ".join(taken)}, as columns of '
                        f'{HISTORY_FILE} are: give what task_objectives gives another name.')
    self._mark = now
    for name, value in {**counts, **logs}.items():
      self._rest[name] = self._rest.get(name, 0.0) + float(value)
      self._counts[name] = self._counts.get(name, 0) + 1

  def write(self, iteration: int, validation: Optional[TaskResults]) -> None:
    """A line about everything since the line before."""
    rest = {**dict.fromkeys(_TRAINING[1:], 0.0), **self._rest}
    line: Line = {
        'iteration': iteration, 'iterations': int(rest.pop('iterations')),
        'seconds': round(rest.pop('seconds'), 3), 'executions': int(rest.pop('executions'))}
    line.update({name: value / self._counts.get(name, 1) for name, value in rest.items()})
    if validation is not None:
      line.update(_of_validation(validation))
    self._append(line)
    self._rest, self._counts = {}, {}
    self._rest_ends = 0
    self._written = iteration

  def lacks_validation(self, interval: int) -> bool:
    """Whether the run stopped where a validation is due, and that was not done."""
    return self._rest_ends > 0 and self._rest_ends % interval == 0

  def close(self, iteration: int) -> None:
    """Writes the rest of a run that ends between two validations."""
    if self._rest and iteration > self._written:
      self.write(iteration, None)

  def _open(self, iteration: int) -> None:
    found = _lines_or_none(self._path)
    lines = [line for line in found if line is not None and line['iteration'] <= iteration]
    with reported(self._path):
      if None in found:
        _keep_as_it_is(self._path, found.count(None))
      _rewrite(self._path, lines)
    self._has_rest = bool(lines) and not _has_validation(lines[-1])
    if self._has_rest:   # it stays in the file until a line takes it up
      rest = lines.pop()
      self._rest = _sums(rest)
      self._counts = dict.fromkeys(self._rest, int(rest['executions'] or 1))
      self._rest_ends = int(rest['iteration']) if rest['iteration'] == iteration else 0
    self._written = int(lines[-1]['iteration']) if lines else 0

  def _append(self, line: Line) -> None:
    columns = _columns(self._path)
    with reported(self._path):
      if self._has_rest or not set(line) <= set(columns):   # new ones, as of more updates
        before = read(self._path)
        _rewrite(self._path, [*(before[:-1] if self._has_rest else before), line])
      else:
        with open(self._path, 'a', newline='', encoding='utf-8') as file:
          _write_lines(file, columns, [line])
    self._has_rest = False


def read(path: str) -> List[Line]:
  """The lines of a history; none where there is no file.

  What a process that was killed left unfinished at the end is left out, and so are lines
  that are damaged.
  """
  return [line for line in _lines_or_none(path) if line is not None]


def _lines_or_none(path: str) -> List[Optional[Line]]:
  """The lines that were finished; None for one that is damaged."""
  if not os.path.exists(path):
    return []
  # Programs that edit tables put a mark in front of UTF-8.
  with open(path, newline='', encoding='utf-8-sig', errors='replace') as file:
    finished, end, _ = file.read().rpartition('\n')   # of a number, half is one, too
  return [_parsed(cells) for cells in csv.DictReader(io.StringIO(finished + end))]


def _keep_as_it_is(path: str, damaged: int) -> None:
  """A copy of a history before its damaged lines are left out, and says so."""
  shutil.copyfile(path, path + _DAMAGED)
  outputs.say(f'{path} has {counted(damaged, "line")} that cannot be read, as after an edit: '
              f'left out; as it was it is kept as {os.path.basename(path)}{_DAMAGED}.')


def of_run(folder: str) -> List[Line]:
  """`read`, of the experiment's folder."""
  return read(os.path.join(folder, HISTORY_FILE))


def _parsed(cells: Dict) -> Optional[Line]:
  """The numbers of a line; None where it is not complete."""
  if None in cells or None in cells.values():   # too many cells, or too few
    return None
  try:
    line = {name: float(text) if text else None for name, text in cells.items()}
  except ValueError:
    return None
  return line if all(line.get(name) is not None for name in _TRAINING) else None


def _rewrite(path: str, lines: List[Line]) -> None:
  if lines:
    columns = list(dict.fromkeys(name for line in lines for name in line))
    with whole_file(path, newline='') as file:
      file.write(','.join(columns) + '\n')
      _write_lines(file, columns, lines)
  elif os.path.exists(path):
    os.remove(path)


def _write_lines(file, columns: List[str], lines: List[Line]) -> None:
  writer = csv.DictWriter(file, columns, lineterminator='\n')
  writer.writerows({name: _as_text(line.get(name)) for name in columns} for line in lines)


def _sums(line: Line) -> Dict[str, float]:
  """What the means of a line were made of."""
  executions = line['executions'] or 0.0
  counts = {name: line[name] or 0.0 for name in ('iterations', 'seconds', 'executions')}
  return {**counts, **{
      name: value * executions for name, value in line.items()
      if value is not None and name not in _TRAINING[:4] and not name.startswith('val_')}}


def _of_validation(results: TaskResults) -> Line:
  line: Line = {f'val_support_{name}': float(values.mean())
                for name, values in results.support.items()}
  for name, values in results.query.items():
    # Column by column, as `protocol.score`: along an axis the last digits are others.
    line.update({f'val_{name}_{update}': float(values[:, update].mean())
                 for update in range(values.shape[1])})
  return line


def _has_validation(line: Line) -> bool:
  return any(value is not None for name, value in line.items() if name.startswith('val_'))


def _columns(path: str) -> List[str]:
  """Of a history; none where there is no file."""
  if not os.path.exists(path):
    return []
  with open(path, newline='', encoding='utf-8') as file:
    return next(csv.reader(file))


def _as_text(value: Optional[float]) -> str:
  if value is None:
    return ''
  return repr(int(value) if float(value).is_integer() and abs(value) < 2**53 else value)
