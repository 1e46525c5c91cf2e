"""Figure 2: what the net makes of a few points of a sinusoid."""

from __future__ import annotations

from typing import Mapping, Sequence, Tuple

import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maml_tf.data_generator import DataGenerator
from maml_tf.episodes import Episodes
from maml_tf.files import write_whole
from maml_tf.measures import counted
from maml_tf.meta_learner import MetaLearner
from maml_tf.reports.png import png
from maml_tf.sources.sinusoid import ABSCISSAE

UPDATES = (0, 1, 10)
TASKS = 3
STYLES = (':', '--', '-')


def save_fitted_curves(path: str, model: MetaLearner, generator: DataGenerator,
                       title: str) -> None:
  """Saves a PNG: true curve, support points, and the fit after 0, 1 and 10 updates.

  Args:
    path: of the file.
    model: the trained meta-learner.
    generator: of sinusoid episodes; the first three are drawn.
    title: of the figure.
  """
  figure = Figure(figsize=(4.5 * TASKS, 3.6), layout='constrained')
  figure.suptitle(title)
  draw_fits(figure.subplots(1, TASKS, sharey=True), model, generator)
  _legend(figure)
  write_whole(path, png(figure))


def figure_2_png(panels: Mapping[str, Tuple[MetaLearner, DataGenerator]], columns: int
                 ) -> bytes:
  """Figure 2: nets side by side, each on the first two tasks.

  Args:
    panels: {title: (model, generator of its episodes)}.
    columns: how many of them are in a row.

  Returns:
    The bytes of a PNG file.
  """
  rows = -(-len(panels) // columns)
  # Wide enough for the legend.
  figure = Figure(figsize=(max(9.0, 7.2 * columns), 0.6 + 3 * rows), layout='constrained')
  parts = figure.subfigures(rows, columns, squeeze=False).flat
  for (title, (model, generator)), part in zip(panels.items(), parts):
    part.suptitle(title)
    draw_fits(part.subplots(1, 2, sharey=True), model, generator)
  _legend(figure)
  return png(figure)


def draw_fits(all_axes: Sequence[Axes], model: MetaLearner, generator: DataGenerator) -> None:
  """Draws the first tasks of the generator, one in each of `all_axes`."""
  tasks = len(all_axes)
  recipes = generator.recipes(0, tasks)
  episodes = generator.episodes(0, tasks)
  grid = np.linspace(*ABSCISSAE, 201)
  amplitude, phase = (recipes[name].numpy()[:, np.newaxis] for name in ('amplitude', 'phase'))
  truth = amplitude * np.sin(grid - phase)
  fits = _fits_on_grid(model, episodes, grid)
  for task, axes in enumerate(all_axes):
    axes.plot(grid, truth[task], 'r', label='ground truth')
    axes.plot(episodes.support.inputs[task, :, 0], episodes.support.labels[task, :, 0],
              '^', color='purple', label='support points')
    for updates, style in zip(UPDATES, STYLES):
      axes.plot(grid, fits[updates][task], 'g', linestyle=style,
                label=f'after {counted(updates, "update")}')
    axes.set_xlabel('x')
    axes.set_ylim(-5.5, 5.5)


def _legend(figure: Figure) -> None:
  figure.legend(*figure.axes[-1].get_legend_handles_labels(), loc='outside lower center',
                ncols=2 + len(UPDATES))


def _fits_on_grid(model: MetaLearner, episodes: Episodes, grid: np.ndarray
                  ) -> Sequence[np.ndarray]:
  """`fits[updates]`: `[tasks, points]`, the net after that many updates."""
  inputs = episodes.support.inputs
  columns = [np.broadcast_to(grid, (inputs.shape[0], len(grid)))]
  # The oracle's further inputs are the same at every point of a task.
  columns += [np.repeat(inputs[:, :1, i].numpy(), len(grid), axis=1)
              for i in range(1, inputs.shape[-1])]
  on_grid = episodes.replaced(query_inputs=tf.constant(np.stack(columns, -1), inputs.dtype))
  outputs = model.adapted_outputs(on_grid, max(UPDATES))
  return np.moveaxis(outputs.numpy()[..., 0], 1, 0)
