"""Cells of the report's tables: numbers, durations, runs, as a reader sees them."""

from __future__ import annotations

from typing import Callable, List, Sequence, Tuple

from maml_tf.measures import Measure
from maml_tf.paper import records
from maml_tf.paper.records import Measured, Record
from maml_tf.paper.rows import Row
from maml_tf.verification.verdicts import Standing, combined


def header(titles: Sequence[str]) -> List[str]:
  """The first two lines of a table."""
  return [line(titles), '|' + '---|' * len(titles)]


def line(cells: Sequence[str]) -> str:
  """A line of a table, in Markdown."""
  return '| ' + ' | '.join(cells) + ' |'


def short_commit(commit: str) -> str:
  """The first ten digits, and '+changes' where it has that."""
  head, plus, changes = commit.partition('+')
  return head[:10] + plus + changes


def number_text(value: Measured, measure: Measure) -> str:
  """As the paper writes it: '98.70 +- 0.40' for accuracies in %, '0.383 +- 0.054'; errors
  below 0.01 with five digits; '-11.7 +- 2.2' for returns."""
  own = measure.unit or measure.larger_is_better   # what is no error
  digits = measure.digits if own else 3 if abs(value.mean) >= 0.01 else 5
  return f'{value.mean:.{digits}f} +- {value.ci95:.{digits}f}'


def three_digits(value: float) -> str:
  """'0.149', '13.5', '2000': at least three digits that count, and no exponent."""
  return f'{value:.0f}' if value >= 100 else f'{value:.3g}'


def duration_text(seconds: float) -> str:
  """'38 s', '2 min 5 s', '3 h 12 min'."""
  seconds = round(seconds)
  if seconds < 60:
    return f'{seconds} s'
  if seconds < 3600:
    return f'{seconds // 60} min {seconds % 60} s'
  return f'{seconds // 3600} h {seconds % 3600 // 60} min'


def shown_updates(row: Row) -> Tuple[int, ...]:
  """Those that the paper has a value of, or else the one that counts."""
  return tuple(sorted(row.paper)) or (row.headline,)


def updates(row: Row) -> str:
  """'1 / 5 / 10'."""
  return ' / '.join(str(update) for update in shown_updates(row))


def paper(row: Row) -> str:
  """The paper's values after these; '-' where it has none."""
  return ' / '.join(row.paper[update] for update in sorted(row.paper)) or '-'


def here(row: Row, state: Standing) -> str:
  """What was measured after these; '-' where nothing was."""
  if not state.records:
    return '-'
  measure = state.records[0].measure
  return ' / '.join(number_text(combined(state.records, update), measure)
                    if update in state.records[0].updates else '-'
                    for update in shown_updates(row))


def iterations(row: Row, state: Standing, results: str) -> str:
  """Those of the records, and those of a run that has got further and waits for its test."""
  tested = each(state, lambda record: f'{record.trained:,} of {record.planned:,}')
  kept = max((records.kept_iteration(row, seed, results)
              for seed in records.seeds(row, records.KEPT_RUN, results)), default=0)
  if kept <= max((record.trained for record in state.records), default=0):
    return tested
  return f'{tested}; {kept:,} kept'


def seeds(state: Standing) -> str:
  """'0, 1, 2'."""
  return ', '.join(str(record.seed) for record in state.records) or '-'


def duration(state: Standing) -> str:
  """Of the training of each record."""
  return each(state, duration_of)


def duration_of(record: Record) -> str:
  """Of the training, as far as it is known."""
  training = record.fields['training']
  if record.trained == 0:
    return '-'
  if training['iterations'] == 0:
    return 'unknown'
  text = duration_text(training['seconds'])
  if training['iterations'] >= record.trained:
    return text
  return f'{text} for {training["iterations"]:,} iterations'


def each(state: Standing, text: Callable[[Record], str]) -> str:
  """What the records have, each different value once."""
  return '; '.join(dict.fromkeys(text(record) for record in state.records)) or '-'
