"""When a run may end before its plan does. No TensorFlow here.

The rule, written down before any run was ended by it: after N iterations a run ends early if

  1. N is at least a quarter of the iterations that its flagfile plans,
  2. it was validated on the same 600 tasks (40 where policies act; or more) at least since
     iteration N / 3, and
  3. no validation after iteration 2 N / 3 has a better score than the best of those
     between the start of 2. and 2 N / 3 (a tie is no better): the last third brought nothing,

at the first validation for which that holds. It sees validation tasks only. A run whose
outer step size falls to zero over its plan (`meta_lr_schedule`) does not end early: its last
iterations are what the others lead up to.

Where the best checkpoint is tested (`--test_checkpoint=best`, as of the rows of images), what
is tested is no newer than 2 N / 3, but for a tie. Others are tested at their last one.
"""

from __future__ import annotations

import math
import re
from typing import Optional, Sequence, Union

from maml_tf.measures import Measure
from maml_tf.training.history import Line

_ROUNDING = 2e-6


def rule(tasks: Union[int, str]) -> str:
  """The rule in words; `tasks`: how many validation tasks it takes."""
  return (f'no better score on {tasks} validation tasks during the last third of the '
          'iterations, and at least a quarter of the plan done')


def is_due(lines: Sequence[Line], planned: int, validated_since: Optional[int],
           measure: Measure) -> bool:
  """Whether the run ends at its last validation.

  Args:
    lines: of its history.
    planned: iterations that its flagfile plans.
    validated_since: the iteration since which every validation was made on
      the same tasks, as many as it takes; None: the last one was not.
    measure: what tasks are judged by.
  """
  scores = {int(line['iteration']): value for line in lines
            if (value := score(line, measure)) is not None}
  last = max(scores, default=0)
  if 4 * last < planned or validated_since is None or 3 * validated_since > last:
    return False
  before = [value for iteration, value in scores.items()
            if validated_since < iteration and 3 * iteration <= 2 * last]
  during = [value for iteration, value in scores.items() if 3 * iteration > 2 * last]
  return bool(before) and not _is_better(max(during), max(before))


def _is_better(score: float, other: float) -> bool:
  """By more than means in float32 differ where equal numbers are summed in another order: one
  example of 600 tasks is worth more."""
  return score > other and not math.isclose(score, other, rel_tol=_ROUNDING)


def score(line: Line, measure: Measure) -> Optional[float]:
  """What the checkpoint is chosen by: that of the measure after the last update; None for
  a line without validation, or whose score is not a finite number."""
  value = _after_the_last_update(line, measure)
  return measure.score(value) if value is not None and math.isfinite(value) else None


def score_text(lines: Sequence[Line], measure: Measure) -> str:
  """The last value and the best one: '93.20 % (best 94.05 % at 11,000)'."""
  scored = [line for line in lines if score(line, measure) is not None]
  if not scored:
    return 'not yet'
  best = max(scored, key=lambda line: score(line, measure))
  return (f'{_shown(scored[-1], measure)} (best {_shown(best, measure)} at '
          f'{int(best["iteration"]):,})')


def _shown(line: Line, measure: Measure) -> str:
  return measure.with_unit(_after_the_last_update(line, measure))


def _after_the_last_update(line: Line, measure: Measure) -> Optional[float]:
  values = {int(name.rpartition('_')[2]): value for name, value in line.items()
            if re.fullmatch(f'val_{re.escape(measure.name)}_[0-9]+', name)
            and value is not None}
  return values[max(values)] if values else None
