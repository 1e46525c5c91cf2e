"""The list of rows for the terminal, and `README.md` of the results: from files alone."""

from __future__ import annotations

import glob
import json
import math
import os
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from maml_tf import measures
from maml_tf.config import ConfigError
from maml_tf.files import reported, write_whole
from maml_tf.measures import Measure
from maml_tf.paper import records
from maml_tf.paper.records import Measured, Record
from maml_tf.paper.rows import Row
from maml_tf.training import history
from maml_tf.verification import method_study, plots, returns_plot, studies
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

README = 'README.md'
CURVES = 'learning_curves.png'
FIGURE_2, FIGURE_3, FIGURE_5 = 'figure_2.png', 'figure_3.png', 'figure_5.png'

# Between these two lines is `front_page_table`, in the repository's README, and
# `environment_table`, in a page of an environment.
BEGIN = '<!-- begin: written by python -m maml_tf.verify --report -->'
END = '<!-- end -->'
_BEST_FIRST = ('reproduced', 'above', 'below')   # how the verdicts begin
_NOT_JUDGED = {PARTIAL: 'Trained for a part of their length so far, and not to be compared',
               NOT_RUN: 'Not trained so far'}

MOST_NAMED = 10   # of those that were not trained

# {K: {method: row}} of figures 2 and 3.
FIGURE_ROWS = {
    5: {'MAML': 'sinusoid_5shot', 'pre-trained': 'sinusoid_5shot_pretrained',
        'oracle': 'sinusoid_5shot_oracle'},
    10: {'MAML': 'sinusoid_10shot', 'pre-trained': 'sinusoid_10shot_pretrained',
         'oracle': 'sinusoid_10shot_oracle'},
}

# Draws figure 2 of {K: {method: path of the weights}}; it needs TensorFlow.
DrawFigure2 = Callable[[Mapping[int, Mapping[str, str]]], bytes]


def listing(rows: Sequence[Row], results: str = records.RESULTS) -> str:
  """One line per row: the paper, what was measured, the verdict, and of which runs."""
  lines = [['row', 'place', 'updates', 'paper', 'here', 'verdict', 'iterations', 'seeds',
            'training', 'commit', 'machine']]
  for row in rows:
    state = standing(row, records.read_all(row, results))
    lines.append([row.name, row.place, _updates(row), _paper(row), _here(row, state),
                  state.text, _iterations(row, state, results), _seeds(state),
                  _duration(state),
                  _each(state, lambda record: short_commit(record.fields['commit'])),
                  _each(state, lambda record: machine_text(record.fields['machine']))])
  widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
  return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                   for line in lines)


def write_report(rows: Sequence[Row], draw_figure_2: Optional[DrawFigure2] = None,
                 results: str = records.RESULTS) -> List[str]:
  """Writes README.md and the plots; their paths.

  Args:
    rows: to report.
    draw_figure_2: see `DrawFigure2`; None: the figure is left as it is.
    results: folder of the result files.
  """
  written = []

  def write(name: str, content: Optional[bytes]) -> None:
    if content is not None:
      written.append(os.path.join(results, name))
      records.write_bytes(written[-1], content)
  for row in rows:
    write(os.path.join(row.name, CURVES), _learning_curves(row, results))
  write(FIGURE_3, plots.figure_3(_figure_3_panels(rows, results)))
  write(FIGURE_5, returns_plot.figure_5(returns_plot.panels_of(rows, results), rows))
  with_weights = figure_2_weights(rows, results)
  if draw_figure_2 is not None and with_weights:
    write(FIGURE_2, draw_figure_2(with_weights))
  for result in read_studies(results):
    draw = plots.methods if result['name'] == method_study.NAME else plots.study
    write(os.path.join('studies', f'{studies.stem_of(result)}.png'), draw(result))
  write(README, readme(rows, results).encode())
  return written


def readme(rows: Sequence[Row], results: str = records.RESULTS) -> str:
  """The text of README.md. The same files, the same text."""
  states = [(row, records.read_all(row, results)) for row in rows]
  states = [(row, found, standing(row, found)) for row, found in states]
  parts = [
      '# Results', '',
      'Written by `python -m maml_tf.verify --report` from the files in this folder; no '
      'number is typed in, but for those of the paper.', '',
      *_table_of_rows(states, results), '', *_meanings(), '',
      *_table_of_runs(states, results), '', *_figures(rows, results),
      *_curves(states, results), *_studies(results)]
  return '\n'.join(parts).rstrip() + '\n'


def front_page_table(rows: Sequence[Row], results: str = records.RESULTS) -> str:
  """The table of the repository's README: the rows that were trained to the end and have
  a number in a paper, the reproduced ones first; then the names of the others."""
  states = [(row, standing(row, records.read_all(row, results))) for row in rows if row.paper]
  compared = [(row, state) for row, state in states if state.verdict not in _NOT_JUDGED]
  lines = _header(['row', 'paper', 'here', 'verdict'])
  lines += [_line([row.label, _paper(row), _here(row, state), state.verdict])
            for word in _BEST_FIRST for row, state in compared
            if state.verdict.startswith(word)]
  for word, sentence in _NOT_JUDGED.items():
    labels = [row.label for row, state in states if state.verdict == word]
    if labels:
      many = word == NOT_RUN and len(labels) > MOST_NAMED
      named = f'{len(labels)} rows' if many else '; '.join(labels)
      lines += ['', f'{sentence}: {named}.']
  return '\n'.join(lines)


def environment_table(datasource: str, rows: Sequence[Row],
                      results: str = records.RESULTS) -> str:
  """The rows of one environment, whatever their verdict, with their flagfiles."""
  states = [(row, standing(row, records.read_all(row, results))) for row in rows
            if row.identity.get('datasource') == datasource]
  return '\n'.join(
      _header(['row', 'paper', 'here', 'verdict', 'iterations', 'seeds', 'flagfile'])
      + [_line([row.label, _paper(row), _here(row, state), state.text,
                _iterations(row, state, results), _seeds(state), f'`flags/{row.name}.flags`'])
         for row, state in states])


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


def figure_2_weights(rows: Sequence[Row], results: str) -> Dict[int, Dict[str, str]]:
  """{K: {method: path of the weights}} of those nets of figure 2 that there are."""
  known = {row.name: row for row in rows}
  found: Dict[int, Dict[str, str]] = {}
  for shots, methods in FIGURE_ROWS.items():
    for method, name in methods.items():
      if method == 'oracle' or name not in known:
        continue
      state = standing(known[name], records.read_all(known[name], results))
      if state.records:
        path = records.file_of(known[name], state.records[0].seed, '.npz', results)
        if os.path.exists(path):
          found.setdefault(shots, {})[method] = path
  return found


def read_studies(results: str) -> List[Dict[str, Any]]:
  """The results of all studies, by data source and name.

  Raises:
    ConfigError: for a file that cannot be read.
  """
  found = []
  for path in sorted(glob.glob(os.path.join(glob.escape(results), 'studies', '*.json'))):
    try:
      with open(path, encoding='utf-8') as file:
        found.append(_with_nan(json.load(file)))
    except (OSError, ValueError) as error:
      raise ConfigError(f'{path} cannot be read as JSON ({error}): take it back from the '
                        'version control, or move it away.') from error
  return found


def _with_nan(result: Dict[str, Any]) -> Dict[str, Any]:
  """JSON has null for what was not finite."""
  for run in result['runs']:
    run['query'] = [{name: math.nan if value is None else value
                     for name, value in after.items()} for after in run['query']]
  return result


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


def duration_text(seconds: float) -> str:
  """'38 s', '2 min 5 s', '3 h 12 min'."""
  seconds = round(seconds)
  if seconds < 60:
    return f'{seconds} s'
  if seconds < 3600:
    return f'{seconds // 60} min {seconds % 60} s'
  return f'{seconds // 3600} h {seconds % 3600 // 60} min'


# --- cells

def _shown_updates(row: Row) -> Tuple[int, ...]:
  return tuple(sorted(row.paper)) or (row.headline,)


def _updates(row: Row) -> str:
  return ' / '.join(str(update) for update in _shown_updates(row))


def _paper(row: Row) -> str:
  return ' / '.join(row.paper[update] for update in sorted(row.paper)) or '-'


def _here(row: Row, state: Standing) -> str:
  if not state.records:
    return '-'
  measure = state.records[0].measure
  return ' / '.join(number_text(combined(state.records, update), measure)
                    if update in state.records[0].updates else '-'
                    for update in _shown_updates(row))


def _iterations(row: Row, state: Standing, results: str) -> str:
  """Those of the records, and those of a run that has got further and waits for its test."""
  tested = _each(state, lambda record: f'{record.trained:,} of {record.planned:,}')
  kept = max((records.kept_iteration(row, seed, results)
              for seed in records.seeds(row, records.KEPT_RUN, results)), default=0)
  if kept <= max((record.trained for record in state.records), default=0):
    return tested
  return f'{tested}; {kept:,} kept'


def _seeds(state: Standing) -> str:
  return ', '.join(str(record.seed) for record in state.records) or '-'


def _duration(state: Standing) -> str:
  return _each(state, duration_of)


def duration_of(record: Record) -> str:
  """Of the training, as far as it is known."""
  training = record.fields['training']
  if training['iterations'] == 0:
    return 'unknown'
  text = duration_text(training['seconds'])
  if training['iterations'] >= record.trained:
    return text
  return f'{text} for {training["iterations"]:,} iterations'


def _each(state: Standing, text: Callable[[Record], str]) -> str:
  """What the records have, each different value once."""
  return '; '.join(dict.fromkeys(text(record) for record in state.records)) or '-'


# --- parts of README.md

def _table_of_rows(states, results: str) -> List[str]:
  lines = ['## The rows of the paper', '',
           'Accuracies in %, errors as mean squared error, returns undiscounted, with 95% '
           'intervals; after 1 / 5 / 10 updates where the paper has three values (the last '
           'one is judged), returns after 0 / 1 / 2 / 3 (that after one update is judged).',
           '',
           *_header(['row', 'in the paper', 'updates', 'paper', 'here', 'verdict',
                     'iterations', 'seeds'])]
  for row, _, state in states:
    verdict = state.text
    others = [(update, judged(row, state, update)) for update in sorted(row.paper)
              if update != row.headline]
    differing = [f'after {update}: {word}' for update, word in others
                 if word not in (None, state.verdict)]
    if differing:
      verdict += f' ({"; ".join(differing)})'
    lines.append(_line([f'{row.label} (`{row.name}`)', row.place, _updates(row), _paper(row),
                        _here(row, state), verdict, _iterations(row, state, results),
                        _seeds(state)]))
  return lines


def _meanings() -> List[str]:
  return ['What the verdicts mean:', '',
          *(f'- **{word}**: {meaning}.' for word, meaning in MEANINGS.items()), '',
          'Of several seeds the mean is given. They share their test tasks, so its interval '
          'is that over tasks (root mean square over seeds), with 1.96 standard errors of '
          'the spread between seeds added in squares.']


def _table_of_runs(states, results: str) -> List[str]:
  lines = ['## The runs', '',
           'The test tasks are for one look, at the checkpoint that the validation tasks '
           'chose; "tested" counts the looks. `--row=NAME --train` goes on from a kept run '
           'on any machine.', '',
           *_header(['row', 'seed', 'iterations', 'tested checkpoint', 'tested', 'result',
                     'training', 'machine', 'TensorFlow', 'commit', 'date', 'weights',
                     'kept run'])]
  runs = [(row, record) for row, found, _ in states for record in found]
  for row, record in runs:
    tested = record.fields['tested']
    weights, kept = (f'{row.name}/seed{record.seed}{ending}'
                     for ending in ('.npz', records.KEPT_RUN))
    has_kept = os.path.isdir(records.file_of(row, record.seed, records.KEPT_RUN, results))
    lines.append(_line([
        row.name, str(record.seed), f'{record.trained:,} of {record.planned:,}',
        f'{tested["checkpoint"]}, chosen by {tested["chosen_by"]}',
        _times(record.fields['times_tested']),
        number_text(record.after(row.headline), record.measure), duration_of(record),
        machine_text(record.fields['machine']), record.fields['versions']['tensorflow'],
        short_commit(record.fields['commit']), record.fields['date'],
        f'[{weights}]({weights})', f'[{kept}]({kept})' if has_kept else '-']))
  return lines if runs else ['## The runs', '', 'None yet.']


def _times(count: int) -> str:
  return {1: 'once', 2: 'twice'}.get(count, f'{count} times')


def _figures(rows: Sequence[Row], results: str) -> List[str]:
  lines = []
  if figure_2_weights(rows, results):
    lines += ['## Figure 2', '', 'Fits after 0, 1 and 10 updates on the first two test '
              'tasks, with the weights of the first seed.',
              '', f'![Figure 2]({FIGURE_2})', '']
  if any(_figure_3_panels(rows, results).values()):
    lines += ['## Figure 3', '', 'Error against the number of gradient steps, 95% intervals. '
              'The oracle is not adapted.', '',
              f'![Figure 3]({FIGURE_3})', '']
  if returns_plot.panels_of(rows, results):
    lines += ['## Figures 4 and 5', '', 'Returns against the number of gradient steps, 95% '
              "intervals over tasks; circles are the paper's. The oracle is not adapted.", '',
              f'![Figures 4 and 5]({FIGURE_5})', '']
  return lines


def _curves(states, results: str) -> List[str]:
  lines = []
  for row, _, _ in states:
    if any(_histories(row, results).values()):
      lines += [f'### {row.label}', '', f'![{row.label}]({row.name}/{CURVES})', '']
  return ['## Learning curves', '', *lines] if lines else []


def _studies(results: str) -> List[str]:
  lines = []
  for result in read_studies(results):
    lines += [f'### {plots.title_of(result)}: {result["datasource"]}', '',
              f'`{result["command"]}`: {result["datasource"]}, {result["length"]}, tested on '
              f'{result["num_tasks"]} {_tasks(result)}.', '']
    if result['name'] == method_study.NAME:
      lines += [*_of_methods(result), '',
                f'![{plots.title_of(result)}](studies/{studies.stem_of(result)}.png)', '']
      continue
    lines += [*_header(['setting', 'iterations', 'before', '1 update',
                        f'{len(result["runs"][0]["query"]) - 1} updates', 'training'])]
    for run in result['runs']:
      measure = measures.named(result['measure'])
      shown = [number_text(Measured(measure.scale * run['query'][update]['mean'],
                                    measure.scale * run['query'][update]['ci95']), measure)
               for update in (0, 1, -1)]
      lines.append(_line([run['label'], f'{run["iterations"]:,}', *shown,
                          duration_text(run['seconds'])]))
    lines += ['', f'![{plots.title_of(result)}](studies/{studies.stem_of(result)}.png)', '']
  return ['## Studies', '', 'Short runs, far from the paper\'s length: they compare settings '
          'with one another, and with nothing else.', '', *lines] if lines else []


def methods_table(results: str, datasource: str) -> List[str]:
  """The lines of the table of methods on that data source."""
  [result] = [one for one in read_studies(results)
              if (one['name'], one['datasource']) == (method_study.NAME, datasource)]
  return _of_methods(result)


def _of_methods(result: Dict[str, Any]) -> List[str]:
  measure = measures.named(result['measure'])

  def shown(values):
    return number_text(Measured(measure.scale * values['mean'],
                                measure.scale * values['ci95']), measure)
  first, *_ = result['runs']
  lines = _header(['method', 'iterations', 'updates', measure.title,
                   f'less that of {first["label"]}, on the same tasks', 'training'])
  for run in result['runs']:
    lines.append(_line([run['label'], f'{run["iterations"]:,}', str(run['updates']),
                        shown(run['query'][run['updates']]),
                        '' if run is first else shown(run['paired']),
                        duration_text(run['seconds'])]))
  return lines


def _tasks(result: Dict[str, Any]) -> str:
  return 'tasks' if result['split'] is None else 'tasks of the validation classes'


def _header(titles: Sequence[str]) -> List[str]:
  return [_line(titles), '|' + '---|' * len(titles)]


def _line(cells: Sequence[str]) -> str:
  return '| ' + ' | '.join(cells) + ' |'


# --- data of the plots

def _histories(row: Row, results: str) -> Dict[int, List[history.Line]]:
  """{seed: lines} of the seeds that have a record or a kept run."""
  trained = {record.seed: record.trained for record in records.read_all(row, results)}
  seeds = sorted({*trained, *records.seeds(row, records.KEPT_RUN, results)})
  return {seed: history.read(_history_file(row, seed, trained.get(seed, 0), results))
          for seed in seeds}


def _history_file(row: Row, seed: int, trained: int, results: str) -> str:
  """Of the run, as far as it is known: a kept one may have got further than the record."""
  if records.kept_iteration(row, seed, results) > trained:
    kept = records.file_of(row, seed, records.KEPT_RUN, results)
    return os.path.join(kept, history.HISTORY_FILE)
  return records.file_of(row, seed, '.history.csv', results)


def _learning_curves(row: Row, results: str) -> Optional[bytes]:
  labels = {}
  if not row.identity.get('meta_trained', True):
    labels['training'] = 'training'   # without inner updates
  if row.baseline.validation_label:
    labels['validation'] = row.baseline.validation_label
  return plots.learning_curves(row.label, _histories(row, results), row.problem.measure,
                               **labels)


def _figure_3_panels(rows: Sequence[Row], results: str
                     ) -> Dict[str, Dict[str, List[Record]]]:
  """{title: {method: the records that count}}, where there are some."""
  known = {row.name: row for row in rows}
  panels: Dict[str, Dict[str, List[Record]]] = {}
  for shots, methods in FIGURE_ROWS.items():
    found = {method: standing(known[name], records.read_all(known[name], results)).records
             for method, name in methods.items() if name in known}
    panels[f'{shots}-shot'] = {method: of_row for method, of_row in found.items() if of_row}
  return panels
