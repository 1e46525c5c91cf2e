"""Figures 4 and 5: returns against gradient steps, beside the paper's."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Sequence

from matplotlib.figure import Figure

from maml_tf.paper import records
from maml_tf.paper.control_rows import RETURNS
from maml_tf.paper.records import Record
from maml_tf.paper.rows import Row, numbers
from maml_tf.verification.drawn import Panel, counted
from maml_tf.verification.plots import COLOURS, MARKERS, png
from maml_tf.verification.verdicts import combined

# {what a legend says: the suffix of its row}.
METHODS = {'MAML': '', 'pre-trained': '_pretrained', 'random': '_random', 'oracle': '_oracle'}


def panels_of(rows: Sequence[Row], results: str = records.RESULTS) -> Dict[str, Panel]:
  """{environment: {method: the records that count}}, where there are some."""
  panels = {environment: counted(rows, {method: environment + suffix
                                        for method, suffix in METHODS.items()}, results)
            for environment in RETURNS}
  return {environment: panel for environment, panel in panels.items() if panel}


def figure_5(panels: Mapping[str, Panel], rows: Sequence[Row]) -> Optional[bytes]:
  """Returns after 0 to 3 updates with 95% intervals, and the paper's as open marks; the
  oracle's, which is not adapted, as a line. None without data."""
  if not panels:
    return None
  known = {row.name: row for row in rows}
  figure = Figure(figsize=(4.4 * len(panels), 4.2), layout='constrained')
  for (environment, methods), axes in zip(
      panels.items(), figure.subplots(1, len(panels), squeeze=False)[0]):
    for method, found in methods.items():
      _draw(axes, method, found)
    for method, suffix in METHODS.items():
      if environment + suffix in known:
        _draw_paper(axes, method, known[environment + suffix])
    axes.set_title(RETURNS[environment].label, fontsize=10)
    axes.set_xlabel('gradient steps')
    axes.set_xticks(range(4))
    axes.set_ylabel('return')
    axes.grid(alpha=0.3)
  handles = {}
  for axes in figure.axes:
    handles.update(zip(*reversed(axes.get_legend_handles_labels())))
  figure.legend(handles.values(), handles.keys(), loc='outside lower center',
                ncols=len(handles), fontsize=9)
  return png(figure)


def _draw(axes, method: str, found: Sequence[Record]) -> None:
  colour, label = COLOURS[method], label_of(method, found[0])
  updates = [0] if method == 'oracle' else found[0].updates
  points = [combined(found, update) for update in updates]
  if method == 'oracle':
    [(mean, ci95)] = points
    axes.axhline(mean, color=colour, linewidth=1, label=label)
    axes.axhspan(mean - ci95, mean + ci95, color=colour, alpha=0.2, linewidth=0)
    return
  axes.errorbar(updates, [point.mean for point in points], [point.ci95 for point in points],
                color=colour, marker=MARKERS[method], markersize=4, capsize=2, label=label)


def label_of(method: str, record: Record) -> str:
  """`MAML`, and of a shorter run how much of it there is."""
  if record.is_complete:
    return method
  what = 'ended early' if record.ended_early else 'partial'
  return f'{method} ({what}: {record.trained:,} of {record.planned:,})'


def _draw_paper(axes, method: str, row: Row) -> None:
  values = {updates: numbers(value)[0] for updates, value in row.paper.items()}
  axes.plot(list(values), list(values.values()), MARKERS[method] or 'o',
            color=COLOURS[method], markerfacecolor='none', markersize=8, linestyle='none')
  if method == 'MAML':   # one entry in the legend for all of them
    axes.plot([], [], 'o', color='0.3', markerfacecolor='none', markersize=8,
              linestyle='none', label="the paper's")
