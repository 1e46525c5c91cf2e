"""The list of rows for the terminal, and the files of the report: from result files alone."""

from __future__ import annotations

import os
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from maml_tf.config import ConfigError
from maml_tf.files import reported, write_whole
from maml_tf.paper import records
from maml_tf.paper.rows import Row
from maml_tf.verification import (
  cells,
  drawn,
  pages,
  plots,
  returns_plot,
  study_files,
)
from maml_tf.verification.provenance import machine_text
from maml_tf.verification.verdicts import MEASURED, NOT_RUN, PARTIAL

# Between these two lines is `front_page_table`, in the repository's README, and
# `environment_table`, in a page of an environment.
BEGIN = '<!-- begin: written by python -m maml_tf.verify --report -->'
END = '<!-- end -->'
_NOT_JUDGED = {MEASURED: 'Measured, where no paper has a number',
               PARTIAL: 'Trained for a part of their length so far, and not to be compared',
               NOT_RUN: 'Not trained to a test so far'}

# Draws figure 2 of {K: {method: path of the weights}}; it needs TensorFlow.
DrawFigure2 = Callable[[Mapping[int, Mapping[str, str]]], bytes]


def listing(rows: Sequence[Row], results: str = records.RESULTS) -> str:
  """One line per row: the paper, what was measured, the verdict, and of which runs."""
  lines = [['row', 'place', 'updates', 'paper', 'here', 'verdict', 'iterations', 'seeds',
            'training', 'commit', 'machine']]
  for row, _, state in pages.states_of(rows, results):
    lines.append([row.name, row.place, cells.updates(row), cells.paper(row),
                  cells.here(row, state), state.text, cells.iterations(row, state, results),
                  cells.seeds(state), cells.duration(state),
                  cells.each(state, lambda record: cells.short_commit(
                      record.fields['commit'])),
                  cells.each(state, lambda record: machine_text(record.fields['machine']))])
  widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
  return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                   for line in lines)


def write_report(rows: Sequence[Row], draw_figure_2: Optional[DrawFigure2] = None,
                 results: str = records.RESULTS) -> List[str]:
  """Writes the pages and the plots; their paths.

  Args:
    rows: to report.
    draw_figure_2: see `DrawFigure2`; None: the figure is left as it is.
    results: folder of the result files.
  """
  texts = {name: text.encode() for name, text in pages.all_pages(rows, results).items()}
  contents = {**_plots(rows, draw_figure_2, results), **texts}
  written = {os.path.join(results, name): content for name, content in contents.items()
             if content is not None}
  for path, content in written.items():
    records.write_bytes(path, content)
  return list(written)


def _plots(rows: Sequence[Row], draw_figure_2: Optional[DrawFigure2], results: str
           ) -> Dict[str, Optional[bytes]]:
  """{file name: PNG}; None: there is nothing to draw."""
  found = {os.path.join(row.name, pages.CURVES_FILE): drawn.learning_curves(row, results)
           for row in rows}
  found[pages.FIGURE_3] = plots.figure_3(drawn.figure_3_panels(rows, results))
  found[pages.FIGURE_5] = returns_plot.figure_5(returns_plot.panels_of(rows, results), rows)
  with_weights = drawn.figure_2_weights(rows, results)
  if draw_figure_2 is not None and with_weights:
    found[pages.FIGURE_2] = draw_figure_2(with_weights)
  for result in drawn.read_studies(results):
    found[os.path.join('studies', f'{study_files.stem_of(result)}.png')] = (
        drawn.study_plot(result))
  return found


def front_page_table(rows: Sequence[Row], results: str = records.RESULTS) -> str:
  """What the repository's README has: a table of MAML's rows that are judged, the reproduced
  ones first, and the names of its others; how many rows of others have which verdict."""
  states = pages.states_of(rows, results)
  of_maml = [of_row for of_row in states if _is_maml(of_row.row)]
  others = [of_row.state for of_row in states if not _is_maml(of_row.row)]
  lines = cells.header(['row', 'paper', 'here', 'verdict'])
  lines += [cells.line([row.label, cells.paper(row), cells.here(row, state), state.text])
            for word in pages.BEST_FIRST for row, _, state in of_maml
            if row.paper and state.verdict.startswith(word)]
  for word, sentence in _NOT_JUDGED.items():
    labels = [row.label for row, _, state in of_maml if state.verdict.startswith(word)]
    if labels:
      lines += ['', f'{sentence}: {"; ".join(labels)}.']
  if others:
    counts = (f'{word} {count}' for word, count in pages.counts(others).items())
    lines += ['', f'Baselines and other methods, {len(others)} rows: {", ".join(counts)}.']
  lines += ['', *pages.what_early_means(state for _, _, state in states)]
  return '\n'.join(lines).rstrip()


def _is_maml(row: Row) -> bool:
  """And no baseline, nor another method."""
  identity = row.identity
  return (identity.get('method', 'maml') == 'maml' and identity.get('meta_trained', True)
          and identity.get('baseline', 'None') == 'None')


def environment_table(datasource: str, rows: Sequence[Row],
                      results: str = records.RESULTS) -> str:
  """The rows of one environment, whatever their verdict, with their flagfiles."""
  states = pages.states_of((row for row in rows
                            if row.identity.get('datasource') == datasource), results)
  return '\n'.join(
      cells.header(['row', 'paper', 'here', 'verdict', 'iterations', 'seeds', 'flagfile'])
      + [cells.line([row.label, cells.paper(row), cells.here(row, state), state.text,
                     cells.iterations(row, state, results), cells.seeds(state),
                     f'`flags/{row.name}.flags`'])
         for row, _, state in states])


def write_table(path: str, table: str) -> None:
  """Puts a table between the two marks of the page at `path`.

  Raises:
    ConfigError: where it lacks the marks.
  """
  with open(path, encoding='utf-8') as file:
    text = file.read()
  before, begin, rest = text.partition(BEGIN)
  _, end, after = rest.partition(END)
  if not end:
    raise ConfigError(f'{path} lacks one of the lines {BEGIN!r} and {END!r}, between which '
                      'the table of rows belongs: put them back.')
  with reported(path):
    write_whole(path, f'{before}{begin}\n\n{table}\n\n{end}{after}')
