"""The plots of the report, from result files alone; the same files, the same bytes."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from maml_tf import measures
from maml_tf.measures import ACCURACY, LOSS, MEAN_SQUARED_ERROR, Measure, phase_name
from maml_tf.paper.records import Record
from maml_tf.paper.rows import data_title
from maml_tf.reports.png import png
from maml_tf.training.history import Line
from maml_tf.verification.verdicts import combined

_FILLED = {'-': 'right', '--': 'left', ':': 'none'}   # of the points of each kind
_LOSS_TITLE = 'loss, mean over examples'   # see `training.mean_losses`
COLOURS = {'MAML': 'C2', 'pre-trained': 'C1', 'oracle': 'C0', 'random': '0.5'}
# Whoever does not tell the colours apart has these.
MARKERS = {'MAML': 'o', 'pre-trained': 's', 'oracle': '', 'random': '^'}


def learning_curves(title: str, histories: Mapping[int, Sequence[Line]], measure: Measure,
                    training: str = 'training, adapted',
                    validation: Optional[str] = None) -> Optional[bytes]:
  """Training and validation against iterations, a colour per seed and a style per kind; None
  without data.

  Args:
    title: of the figure.
    histories: {seed: lines of its history}, losses as means over examples.
    measure: beside the losses, where these say something else.
    training: what the curve of training is.
    validation: what the last curve of validation is; None: after its number of updates.
  """
  histories = {seed: lines for seed, lines in histories.items() if lines}
  if not histories:
    return None
  kinds = [LOSS] if measure.name == LOSS.name else [LOSS, measure]
  if not measure.beside_loss:
    kinds = [measure]
  figure = Figure(figsize=(5.6 * len(kinds) + 2, 3.8), layout='constrained')
  figure.suptitle(title)
  labels = {}
  for kind, axes in zip(kinds, figure.subplots(1, len(kinds), squeeze=False)[0]):
    for index, (seed, lines) in enumerate(sorted(histories.items())):
      for column, style, label in _curves_of_a_run(lines, kind.name, training, validation):
        _against_iterations(axes, lines, column, kind.scale,
                            linestyle=style, color=f'C{index}',
                            label=f'{label} (seed {seed})')
        labels[label] = style
    axes.set_xlabel('iterations')
    axes.set_xlim(left=0)   # a run that has just begun is seen to have
    axes.set_ylabel(_LOSS_TITLE if kind is LOSS else kind.title)
    if kind is LOSS:
      axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    axes.grid(alpha=0.3)
  _legend_beside(figure, labels, sorted(histories))
  return png(figure)


def _legend_beside(figure: Figure, styles: Mapping[str, str], seeds: Sequence[int]) -> None:
  """An entry for each kind of curve, and for each seed; not over the curves."""
  marker = 'o' if any(line.get_marker() == 'o' for axes in figure.axes
                      for line in axes.lines) else None
  entries = [Line2D([], [], color='black', linestyle=style, label=label, marker=marker,
                    fillstyle=_FILLED[style], markersize=4)
             for label, style in styles.items()]
  if len(seeds) > 1:
    entries += [Line2D([], [], color=f'C{index}', label=f'seed {seed}')
                for index, seed in enumerate(seeds)]
  figure.legend(handles=entries, loc='outside right upper', fontsize=8)


def _curves_of_a_run(lines: Sequence[Line], kind: str, training: str,
                     validation: Optional[str]) -> List[Tuple[str, str, str]]:
  """Column, style and label of each curve."""
  curves = [(kind, ':', training)]
  last = last_update(lines, kind)
  if last is None:
    return curves
  if last == 0:   # a method without updates
    return curves + [(f'val_{kind}_0', '-', validation or 'validation')]
  after = validation or f'validation, {phase_name(last)}'
  return curves + [(f'val_{kind}_0', '--', 'validation, before'),
                   (f'val_{kind}_{last}', '-', after)]


def _against_iterations(axes, lines: Sequence[Line], column: str, unit: float,
                        **style) -> None:
  """A column of a history, where it has values; nothing where it has none."""
  points = [(line['iteration'], unit * line[column]) for line in lines
            if line.get(column) is not None]
  if points:
    # A line of one point is empty; several at one place are told apart by their halves.
    axes.plot(*zip(*points), marker='o' if len(points) == 1 else None,
              fillstyle=_FILLED.get(style.get('linestyle'), 'full'), **style)


def last_update(lines: Sequence[Line], kind: str) -> Optional[int]:
  """The largest number of updates that the validation measured."""
  names = [name for name in (lines[-1] if lines else {}) if name.startswith(f'val_{kind}_')]
  return max((int(name.rpartition('_')[2]) for name in names), default=None)


def figure_3(panels: Mapping[str, Mapping[str, Sequence[Record]]]) -> Optional[bytes]:
  """Error against gradient steps, with 95% intervals; None without data.

  Args:
    panels: {title: {method: records of its seeds}}, a panel each. Seeds are combined as
      `verdicts.combined` does.
  """
  panels = {title: methods for title, methods in panels.items() if methods}
  if not panels:
    return None
  figure = Figure(figsize=(5.2 * len(panels), 3.8), layout='constrained')
  for (title, methods), axes in zip(panels.items(),
                                    figure.subplots(1, len(panels), squeeze=False)[0]):
    for method, of_seeds in methods.items():
      _errors(axes, method, of_seeds)
    axes.set_title(title)
    axes.set_xlabel('gradient steps')
    axes.set_ylabel(MEAN_SQUARED_ERROR.title)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
  return png(figure)


def _errors(axes, method: str, of_seeds: Sequence[Record]) -> None:
  colour = COLOURS.get(method, 'C3')
  updates = of_seeds[0].updates
  # The oracle is not adapted.
  points = [combined(of_seeds, 0 if method == 'oracle' else update) for update in updates]
  means = [point.mean for point in points]
  axes.plot(updates, means, color=colour, marker=MARKERS.get(method, '.'), markersize=4,
            label=_labelled(method, of_seeds))
  axes.fill_between(updates, [point.mean - point.ci95 for point in points],
                    [point.mean + point.ci95 for point in points], color=colour, alpha=0.2,
                    linewidth=0)


def _labelled(method: str, of_seeds: Sequence[Record]) -> str:
  record = of_seeds[0]
  if record.is_complete:
    return method if len(of_seeds) == 1 else f'{method} ({len(of_seeds)} seeds)'
  how = 'ended early' if record.ended_early else 'partial'
  return f'{method} ({how}: {record.trained:,} of {record.planned:,} iterations)'


def title_of(result: Dict[str, Any]) -> str:
  """Of a study; by the name of what it measures, which is an accuracy for images alone."""
  caption, title = measures.named(result['measure']).caption, result['title']
  if caption != ACCURACY.caption:   # then it is the loss, or in its place
    title = title.replace('Loss and accuracy', 'Accuracy')
  return title.replace('Accuracy', caption[:1].upper() + caption[1:])


def _heading(result: Dict[str, Any]) -> str:
  return f'{title_of(result)}: {data_title(result["datasource"])}, {result["length"]}'


def study(result: Dict[str, Any]) -> bytes:
  """A study's scores against its settings, or against iterations for a study of one."""
  runs: List[Dict[str, Any]] = result['runs']
  figure = Figure(figsize=(10.5, 3.8), layout='constrained')
  figure.suptitle(_heading(result))
  left, right = figure.subplots(1, 2)
  measure = measures.named(result['measure'])
  unit, what = measure.scale, measure.title
  # A regression's score is its loss: the other panel shows that over the iterations.
  if len(runs) > 1 or measure.name == LOSS.name:
    _against_updates(left, runs, unit)
    left.set_ylabel(f'{what}, after training')
  else:
    _before_and_after(left, runs[0]['history'], 'loss', 1)
    left.set_ylabel(f'validation {_LOSS_TITLE}')
  for index, run in enumerate(runs):
    if len(runs) == 1:
      _before_and_after(right, run['history'], result['measure'], unit)
      continue
    last = last_update(run['history'], result['measure'])
    _against_iterations(right, run['history'], f'val_{result["measure"]}_{last}', unit,
                        color=f'C{index}', label=run['label'])
  right.set_xlabel('iterations')
  right.set_ylabel(f'validation {what}')
  for axes in (left, right):
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
  return png(figure)


def methods(result: Dict[str, Any]) -> bytes:
  """The validation scores of methods against seconds of training, and iterations; as a point
  with its 95% interval the one at the end, which is on more tasks."""
  measure = measures.named(result['measure'])
  figure = Figure(figsize=(12, 4.4), layout='constrained')
  figure.suptitle(_heading(result))
  of_seconds, of_iterations = figure.subplots(1, 2, sharey=True)
  for index, run in enumerate(result['runs']):
    style = dict(color=f'C{index % 10}', linestyle='-' if index < 10 else '--',
                 label=run['label'])
    column, spent, points = f'val_{result["measure"]}_{run["updates"]}', 0.0, []
    for line in run['history']:
      spent += line['seconds'] or 0
      if line.get(column) is not None:
        points.append((spent, line['iteration'], measure.scale * line[column]))
    end = run['query'][run['updates']]
    seconds, iterations, scores = zip(*points) if points else ((), (), ())
    for axes, places, last in ((of_seconds, seconds, spent),
                               (of_iterations, iterations, run['iterations'])):
      axes.plot(places, scores, marker='.', **style)
      axes.errorbar([last], [measure.scale * end['mean']], [measure.scale * end['ci95']],
                    color=style['color'], marker='D', markersize=4, capsize=2,
                    fillstyle='full' if index < 10 else 'none')
  of_iterations.plot([], [], 'D', color='0.3', markersize=4,
                     label=f'at the end, on {result["num_tasks"]} tasks')
  of_seconds.set_xlabel('seconds of training')
  of_iterations.set_xlabel('iterations')
  of_iterations.set_xscale('log')
  of_seconds.set_ylabel(f'validation {measure.title}')
  figure.legend(*of_iterations.get_legend_handles_labels(), loc='outside right center',
                fontsize=8)
  for axes in (of_seconds, of_iterations):
    axes.grid(alpha=0.3)
  return png(figure)


def _against_updates(axes, runs: Sequence[Dict[str, Any]], unit: float) -> None:
  for index, run in enumerate(runs):
    values = run['query']
    axes.errorbar(range(len(values)), [unit * value['mean'] for value in values],
                  [unit * value['ci95'] for value in values], color=f'C{index}', capsize=2,
                  label=run['label'])
  axes.set_xlabel('updates in testing')


def _before_and_after(axes, lines: Sequence[Line], kind: str, unit: float) -> None:
  last = last_update(lines, kind)
  columns = []
  if f'val_support_{kind}' in lines[0]:
    columns.append((f'val_support_{kind}', 'support set, before'))
  if last is not None:
    columns += [(f'val_{kind}_{update}', f'query set, {phase_name(update)}')
                for update in range(last + 1)]
  for column, label in columns:
    _against_iterations(axes, lines, column, unit, label=label)
  axes.set_xlabel('iterations')
