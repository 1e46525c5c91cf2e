"""Whether a row agrees with the paper."""

from __future__ import annotations

import math
from typing import List, NamedTuple, Optional, Sequence

from maml_tf.measures import Measure
from maml_tf.paper.records import Measured, Record
from maml_tf.paper.rows import Row, numbers
from maml_tf.problems.base import Problem
from maml_tf.problems.control import Control
from maml_tf.verification.early_end import rule

REPRODUCED = 'reproduced'
ABOVE = 'above (better)'
BELOW = 'below (worse)'
NOT_RUN = 'not run'
PARTIAL = 'partial'
MEASURED = 'measured'
# Of runs that the rule of `early_end` ended.
REPRODUCED_EARLY = 'reproduced early'
ABOVE_EARLY = 'above, ended early'
BELOW_EARLY = 'below, ended early'
MEASURED_EARLY = 'measured, ended early'

_EARLY = {REPRODUCED: REPRODUCED_EARLY, ABOVE: ABOVE_EARLY, BELOW: BELOW_EARLY,
          MEASURED: MEASURED_EARLY}

_TASKS = f'{Problem.early_end_tasks} (where policies act: {Control.early_end_tasks})'

MEANINGS = {
    REPRODUCED: "all iterations were trained, and the paper's interval and the one measured "
                'here meet; where the paper gives no interval, its value lies within the one '
                'measured here',
    ABOVE: 'the intervals do not meet, and the result is better than the paper\'s: a higher '
           'accuracy or return, or a smaller error',
    BELOW: 'the intervals do not meet, and the result is worse: a lower accuracy or return, '
           'or a larger error',
    MEASURED: 'all iterations were trained, and the paper gives no number to compare with (a '
              'curve of a figure, an empty cell, or no such row)',
    REPRODUCED_EARLY: f'the intervals meet as above, but the run was ended early, by a rule '
                      f'that sees validation tasks only: {rule(_TASKS)}',
    ABOVE_EARLY: 'the result is better than the paper\'s, and the run was ended early',
    BELOW_EARLY: 'the result is worse, and the run was ended early: whether all iterations '
                 'would have reached the paper\'s is not known',
    MEASURED_EARLY: 'the paper gives no number to compare with, and the run was ended early',
    PARTIAL: 'fewer iterations were trained than the flagfile plans; the number is given, '
             'and not judged',
    NOT_RUN: 'there is no result file',
}


class Standing(NamedTuple):
  """What is known of a row.

  Attributes:
    verdict: one of `MEANINGS`.
    records: those that count: all complete ones, or else all that ended early, or else
      the partial one that has trained longest; empty where there is none.
  """
  verdict: str
  records: List[Record]

  @property
  def is_early(self) -> bool:
    """Whether it is a verdict on runs that the rule of `early_end` ended."""
    return self.verdict in _EARLY.values()

  @property
  def text(self) -> str:
    """The verdict; of a row that was reproduced early with the iterations that it took."""
    if self.verdict != REPRODUCED_EARLY:
      return self.verdict
    longest = max(self.records, key=lambda record: record.trained)
    return f'{self.verdict} ({longest.trained:,} of {longest.planned:,})'


def standing(row: Row, records: Sequence[Record]) -> Standing:
  """Judges a row by the records of its seeds, after `row.headline` updates."""
  counted = counting(records)
  if not counted:
    return Standing(NOT_RUN, [])
  if not counted[0].is_finished:
    return Standing(PARTIAL, counted)
  word = MEASURED
  if row.headline in row.paper:
    word = verdict(row.paper[row.headline], combined(counted, row.headline),
                   counted[0].measure)
  return Standing(_EARLY[word] if counted[0].ended_early else word, counted)


def counting(records: Sequence[Record]) -> List[Record]:
  """All complete records, or else all that ended early, or else the partial one that has
  trained longest, if any."""
  complete = [record for record in records if record.is_complete]
  early = [record for record in records if record.ended_early]
  if complete or early or not records:
    return complete or early
  return [max(records, key=lambda record: record.trained)]


def verdict(paper: str, here: Measured, measure: Measure) -> str:
  """'reproduced', 'above (better)' or 'below (worse)' of a complete result.

  Args:
    paper: the paper's value as it writes it.
    here: what was measured, in the same unit.
    measure: what it is of.
  """
  value, interval = numbers(paper)
  if abs(here.mean - value) <= here.ci95 + interval:
    return REPRODUCED
  return ABOVE if measure.is_better(here.mean, value) else BELOW


def combined(records: Sequence[Record], updates: int) -> Measured:
  """The mean over seeds, and half of its 95% interval.

  One seed: the interval over tasks. Several: they share their test episodes, so the
  tasks' part does not shrink with the number of seeds; it is the root mean square of the
  seeds' intervals. To it the spread between seeds is added in squares: 1.96 times the
  standard error of their mean (of n - 1).
  """
  values = [record.after(updates) for record in records]
  count = len(values)
  if count == 1:
    return values[0]
  mean = math.fsum(value.mean for value in values) / count
  tasks = math.fsum(value.ci95 ** 2 for value in values) / count
  between = math.fsum((value.mean - mean) ** 2 for value in values) / (count - 1) / count
  return Measured(mean, math.sqrt(tasks + 1.96 ** 2 * between))


def judged(row: Row, state: Standing, updates: int) -> Optional[str]:
  """The verdict after another number of updates for which the paper has a value."""
  if not state.records or state.verdict == PARTIAL or updates not in row.paper:
    return None
  word = verdict(row.paper[updates], combined(state.records, updates),
                 state.records[0].measure)
  return _EARLY[word] if state.records[0].ended_early else word
