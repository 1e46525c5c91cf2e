"""`trained_by.json` of a run: which commit trained which iterations. No TensorFlow here.

It stands in the experiment's folder and in a kept run. The last span is open while a process
trains; if that process is killed, the next one ends it where it goes on. Iterations of which
nothing is known (runs of earlier versions; those of `main.py`, which keeps no such file) are
of the commit 'unknown', unless an open span is before them.
"""

from __future__ import annotations

import itertools
import json
import operator
import os
from typing import Any, List, NamedTuple, Optional, Sequence

from maml_tf.bounded import read_json
from maml_tf.config import ConfigError
from maml_tf.files import writable, write_whole
from maml_tf.verification.provenance import UNKNOWN

TRAINED_BY_FILE = 'trained_by.json'


class Span(NamedTuple):
  """Some iterations of a run.

  Attributes:
    commit: that trained them.
    first: how many iterations there were before.
    last: the last of them; None: not ended yet.
    validation_tasks: tasks of each validation; None: not known.
    tensorflow: version; None: not known.
    validated_on: what tells these tasks from others: rows that differ in the ways of a test
      alone share a folder, and validate on tasks of their own. None: not known, as of
      earlier versions; these are taken for the same, if they are as many.
  """
  commit: str
  first: int
  last: Optional[int]
  validation_tasks: Optional[int]
  tensorflow: Optional[str]
  validated_on: Optional[str] = None


def read(folder: str) -> List[Span]:
  """The spans of a run in their order; none where there is no file.

  Raises:
    ConfigError: for a file that is none of this kind.
  """
  path = os.path.join(folder, TRAINED_BY_FILE)
  if not os.path.exists(path):
    return []
  try:
    return [_span(fields) for fields in read_json(path)]
  except (OSError, ValueError, TypeError) as error:
    raise ConfigError(f'{path} cannot be read ({error}): remove it, and the iterations so '
                      f'far are of the commit {UNKNOWN!r}.') from error


def _span(fields: Any) -> Span:
  span = Span(**fields)
  if not isinstance(span.commit, str) or not isinstance(span.first, int):
    raise ValueError('a span lacks its commit or its first iteration')
  return span


def begin(folder: str, span: Span) -> None:
  """Says who trains from iteration `span.first` on; what came after it is forgotten."""
  _write(folder, [*up_to(read(folder), span.first), span])


def end(folder: str, iteration: int) -> None:
  """Ends the last span."""
  _write(folder, up_to(read(folder), iteration))


def up_to(spans: Sequence[Span], iteration: int) -> List[Span]:
  """`spans` that cover the iterations up to `iteration`, without gap."""
  known = [span._replace(last=_ending(span, iteration)) for span in spans
           if span.first < iteration]
  covered = known[-1].last if known else 0
  if covered < iteration:
    known.append(Span(UNKNOWN, covered, iteration, None, None))
  return known


def by(field: str, spans: Sequence[Span], trained: int) -> List[List[Any]]:
  """`[[value, from, to], ...]` of a field up to iteration `trained`, equal neighbours as
  one."""
  groups = itertools.groupby(up_to(spans, trained), operator.attrgetter(field))
  parts = [(value, list(group)) for value, group in groups]
  return [[value, group[0].first, group[-1].last] for value, group in parts]


def validated_since(spans: Sequence[Span], tasks: int, on: Optional[str] = None
                    ) -> Optional[int]:
  """The iteration since which every validation had the same tasks; None: the last ones had
  not. Scores on other tasks cannot be compared.

  Args:
    tasks: as many, or more of them.
    on: which ones, see `Span.validated_on`; None: any, but the same.
  """
  since = None
  for span in reversed(spans):
    on = on or span.validated_on
    if (span.validation_tasks or 0) < tasks or (
        span.validation_tasks != spans[-1].validation_tasks
        or span.validated_on not in (None, on)):
      break
    since = span.first
  return since


def _ending(span: Span, iteration: int) -> int:
  return iteration if span.last is None else min(span.last, iteration)


def _write(folder: str, spans: Sequence[Span]) -> None:
  path = os.path.join(folder, TRAINED_BY_FILE)
  with writable(path):
    os.makedirs(folder, exist_ok=True)
    write_whole(path, json.dumps([span._asdict() for span in spans], indent=1) + '\n')
