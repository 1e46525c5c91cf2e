"""The pages of the results, in Markdown. The same files, the same text."""

from __future__ import annotations

import itertools
import os
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence

from maml_tf.paper import records
from maml_tf.paper.records import Record
from maml_tf.paper.rows import Row, data_title
from maml_tf.verification import (
  cells,
  drawn,
  plots,
  returns_plot,
  study_files,
  study_tables,
)
from maml_tf.verification.provenance import machine_text
from maml_tf.verification.verdicts import (
  MEANINGS,
  NOT_RUN,
  PARTIAL,
  Standing,
  combined,
  judged,
  standing,
)

README, RUNS, CURVES, STUDIES = 'README.md', 'runs.md', 'curves.md', 'studies.md'
PAGES = (README, RUNS, CURVES, STUDIES)
CURVES_FILE = 'learning_curves.png'
FIGURE_2, FIGURE_3, FIGURE_5 = 'figure_2.png', 'figure_3.png', 'figure_5.png'

BEST_FIRST = ('reproduced', 'above', 'below', 'measured')   # how the verdicts begin
_VERDICTS = (*BEST_FIRST, PARTIAL, NOT_RUN)
_WRITTEN = ('Written by `python -m maml_tf.verify --report` from the files in this folder; no '
            'number is typed in, but for those of the paper.')


class RowState(NamedTuple):
  """A row, all of its records, and what they say of it."""
  row: Row
  records: List[Record]
  state: Standing


def states_of(rows: Iterable[Row], results: str) -> List[RowState]:
  """Of each row, from its files."""
  found = [(row, records.read_all(row, results)) for row in rows]
  return [RowState(row, of_row, standing(row, of_row)) for row, of_row in found]


def all_pages(rows: Sequence[Row], results: str = records.RESULTS) -> Dict[str, str]:
  """{file name: text}."""
  states = states_of(rows, results)
  return {README: readme(states, results), RUNS: runs_page(states, results),
          CURVES: curves_page(states, results), STUDIES: studies_page(results)}


def _text(title: str, *parts: Sequence[str]) -> str:
  lines = [f'# {title}', '', *itertools.chain.from_iterable(parts)]
  return '\n'.join(lines).rstrip() + '\n'


def _groups(states: Sequence[RowState]) -> Dict[str, List[RowState]]:
  """{title: rows} by data source, in the order of the rows."""
  groups: Dict[str, List[RowState]] = {}
  for of_row in states:
    groups.setdefault(data_title(of_row.row.identity['datasource']), []).append(of_row)
  return groups


def _anchor(title: str) -> str:
  """Of a heading, as the forge and the site make it."""
  words = ''.join(letter for letter in title.lower() if letter.isalnum() or letter in ' -')
  return f'#{words.replace(" ", "-")}'


def _link(title: str) -> str:
  return f'[{title}]({_anchor(title)})'


# --- README.md

def readme(states: Sequence[RowState], results: str = records.RESULTS) -> str:
  """An overview, a section per data source, what the verdicts mean, and the figures."""
  groups = _groups(states)
  sections = [_section(title, of_group, results) for title, of_group in groups.items()]
  return _text('Results', [_WRITTEN, ''], _overview(groups), _how_to_read(), *sections,
               _meanings(), _figures([of_row.row for of_row in states], results))


def _overview(groups: Dict[str, List[RowState]]) -> List[str]:
  """How many rows have which verdict, with links to the sections."""
  lines = cells.header(['', 'rows', *_VERDICTS])
  for title, of_rows in groups.items():
    found = counts([of_row.state for of_row in of_rows])
    lines.append(cells.line([_link(title), str(len(of_rows)),
                             *(found.get(word, '-') for word in _VERDICTS)]))
  return [*lines, '', *what_early_means([of_row.state for states in groups.values()
                                         for of_row in states]),
          f'{_link(_MEANINGS_TITLE)} is below, and the paper\'s figures 2 to 5. On pages of '
          f'their own: [the runs]({RUNS}) with checkpoint, machine, commit and weights, '
          f'[learning curves]({CURVES}), and [studies]({STUDIES}) of single settings.', '']


def what_early_means(states: Iterable[Standing]) -> List[str]:
  """A paragraph, where there is something that it is about."""
  if not any(state.is_early for state in states):
    return []
  return ['Early: ended before the plan of the flagfile, by a rule that sees validation tasks '
          'only.', '']


def counts(states: Sequence[Standing]) -> Dict[str, str]:
  """{how a verdict begins: '5 (2 early)'}, of those that there are."""
  found = {word: [state for state in states if state.verdict.startswith(word)]
           for word in _VERDICTS}
  return {word: _count(of_word) for word, of_word in found.items() if of_word}


def _count(states: Sequence[Standing]) -> str:
  early = sum(state.is_early for state in states)
  return f'{len(states)} ({early} early)' if early else str(len(states))


def _how_to_read() -> List[str]:
  return ['Accuracies are in %, errors mean squared errors, returns undiscounted; with 95% '
          'intervals. Where the paper has values after several numbers of updates, the one '
          'in bold is judged.', '']


def _section(title: str, states: Sequence[RowState], results: str) -> List[str]:
  def beginning_with(*words: str) -> List[RowState]:
    return [of_row for word in words for of_row in states
            if of_row.state.verdict.startswith(word)]
  lines = [f'## {title}', '']
  finished = beginning_with(*BEST_FIRST)
  if finished:
    lines += [*_table_of_rows(finished, results), '']
  partial = beginning_with(PARTIAL)
  if partial:
    lines += ['Trained for a part of their length so far, and not to be compared:', '',
              *_table_of_rows(partial, results), '']
  not_run = beginning_with(NOT_RUN)
  if not_run:
    lines += ['Not trained to a test so far:', '', *_table_of_not_run(not_run, results), '']
  return lines


def _table_of_rows(states: Sequence[RowState], results: str) -> List[str]:
  """A line for each number of updates that the paper has a value of."""
  lines = cells.header(['row', 'in the paper', 'updates', 'paper', 'here', 'verdict',
                        'iterations', 'seeds'])
  for row, _, state in states:
    front = [_named(row), row.place]
    back = [cells.iterations(row, state, results), cells.seeds(state)]
    for updates in cells.shown_updates(row):
      lines.append(cells.line([*front, *_after(row, state, updates), *back]))
      front, back = ['', ''], ['', '']
  return lines


def _after(row: Row, state: Standing, updates: int) -> List[str]:
  """The cells of a number of updates: it, the paper's value, the one here, the verdict."""
  is_judged = updates == row.headline
  number = f'**{updates}**' if is_judged and len(row.paper) > 1 else str(updates)
  record = state.records[0]
  value = (cells.number_text(combined(state.records, updates), record.measure)
           if updates in record.updates else '-')
  word = state.text if is_judged else judged(row, state, updates) or state.verdict
  return [number, row.paper.get(updates, '-'), value, word]


def _table_of_not_run(states: Sequence[RowState], results: str) -> List[str]:
  lines = cells.header(['row', 'in the paper', 'updates', 'paper', 'iterations'])
  for row, _, state in states:
    lines.append(cells.line([_named(row), row.place, cells.updates(row), cells.paper(row),
                             cells.iterations(row, state, results)]))
  return lines


def _named(row: Row) -> str:
  return f'{row.label} (`{row.name}`)'


_MEANINGS_TITLE = 'What the verdicts mean'


def _meanings() -> List[str]:
  return [f'## {_MEANINGS_TITLE}', '',
          *(f'- **{word}**: {meaning}.' for word, meaning in MEANINGS.items()), '',
          'Of several seeds the mean is given. They share their test tasks, so its interval '
          'is that over tasks (root mean square over seeds), with 1.96 standard errors of '
          'the spread between seeds added in squares: of three seeds less than 95%, for which '
          "Student's t takes 4.30 of them, so that no verdict is easier for their being few.",
          '']


def _figures(rows: Sequence[Row], results: str) -> List[str]:
  lines = []
  if drawn.figure_2_weights(rows, results):
    lines += _figure('Figure 2', 'Fits after 0, 1 and 10 updates on the first two test '
                     'tasks, with the weights of the first seed.', FIGURE_2)
  if any(drawn.figure_3_panels(rows, results).values()):
    lines += _figure('Figure 3', 'Error against the number of gradient steps, 95% intervals. '
                     'The oracle is not adapted.', FIGURE_3)
  if returns_plot.panels_of(rows, results):
    lines += _figure('Figures 4 and 5', 'Returns against the number of gradient steps, with '
                     "the tables' 95% intervals; open marks are the paper's. The oracle is "
                     'not adapted.', FIGURE_5)
  return lines


def _figure(title: str, caption: str, file: str) -> List[str]:
  return [f'## {title}', '', caption, '', f'![{title}]({file})', '']


# --- runs.md

def runs_page(states: Sequence[RowState], results: str = records.RESULTS) -> str:
  """Of each run its checkpoint, duration, machine, commit and files."""
  lines = ['The test tasks are for one look, at the checkpoint that the validation tasks '
           'chose, or at the last one; "tested" counts the looks of `maml_tf.verify`, and of '
           "`main.py` in the run's folder before it (others are counted in the files that "
           'they write). `--row=NAME --train` goes on from a kept run on any machine.', '']
  for title, of_group in _groups(states).items():
    runs = [_run(row, record, results) for row, found, _ in of_group for record in found]
    if runs:
      lines += [f'## {title}', '',
                *cells.header(['row', 'seed', 'iterations', 'tested checkpoint', 'tested',
                               'result', 'training', 'machine', 'TensorFlow', 'commit',
                               'date', 'weights', 'kept run']), *runs, '']
  return _text('Runs', [_WRITTEN, ''], lines)


def _run(row: Row, record: Record, results: str) -> str:
  tested = record.fields['tested']
  weights, kept = (f'{row.name}/seed{record.seed}{ending}'
                   for ending in ('.npz', records.KEPT_RUN))
  has_kept = os.path.isdir(records.file_of(row, record.seed, records.KEPT_RUN, results))
  return cells.line([
      row.name, str(record.seed), f'{record.trained:,} of {record.planned:,}',
      f'{tested["checkpoint"]}, chosen by {tested["chosen_by"]}',
      _times(record.fields['times_tested']),
      cells.number_text(record.after(row.headline), record.measure),
      cells.duration_of(record), machine_text(record.fields['machine']),
      record.fields['versions']['tensorflow'], cells.short_commit(record.fields['commit']),
      record.fields['date'], f'[{weights}]({weights})',
      f'[{kept}]({kept})' if has_kept else '-'])


def _times(count: int) -> str:
  return {1: 'once', 2: 'twice'}.get(count, f'{count} times')


# --- curves.md

def curves_page(states: Sequence[RowState], results: str = records.RESULTS) -> str:
  """The picture of each row that has a history."""
  lines, titles = [], []
  for title, of_group in _groups(states).items():
    rows = [of_row.row for of_row in of_group
            if any(drawn.histories(of_row.row, results).values())]
    if rows:
      titles.append(title)
      lines += [f'## {title}', '']
    for row in rows:
      lines += [f'### {row.label}', '', f'![{row.label}]({row.name}/{CURVES_FILE})', '']
  return _text('Learning curves', [_WRITTEN, ''], _contents(titles), lines)


def _contents(titles: Sequence[str]) -> List[str]:
  return [*(f'- {_link(title)}' for title in titles), ''] if titles else []


# --- studies.md

def studies_page(results: str = records.RESULTS) -> str:
  """The table and the picture of each study."""
  found = drawn.read_studies(results)
  lines = []
  for result in found:
    title = _study_title(result)
    lines += [f'## {title}', '',
              f'`{result["command"]}`: {result["length"]}, tested on '
              f'{result["num_tasks"]} {_tasks(result)}.', '', *study_tables.table(result), '',
              f'![{title}](studies/{study_files.stem_of(result)}.png)', '']
  return _text('Studies', [
      _WRITTEN, '',
      "Short runs, far from the paper's length: they compare settings with one another, and "
      'with nothing else. With more iterations another setting may be ahead.', ''],
      _contents([_study_title(result) for result in found]), lines)


def _study_title(result: Dict[str, Any]) -> str:
  return f'{data_title(result["datasource"])}: {plots.title_of(result)}'


def _tasks(result: Dict[str, Any]) -> str:
  return 'tasks' if result['split'] is None else 'tasks of the validation classes'
