"""A picture of sample tasks, to see what the net is asked."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from maml_tf.episodes import Episodes

MOST_TASKS = 2
MOST_IMAGES = 6


def sample_tasks_png(episodes: Episodes) -> bytes:
  """The first tasks of a meta-batch, a row per class: support left, query right.

  Args:
    episodes: of images, `[tasks, examples, height, width, channels]`, 0 to 1.

  Returns:
    The bytes of a PNG file.
  """
  support = _by_class(episodes.support_inputs.numpy(), episodes.support_labels.numpy())
  query = _by_class(episodes.query_inputs.numpy(), episodes.query_labels.numpy())
  tasks, classes = support.shape[:2]
  figure = Figure(figsize=(1 + 0.8 * tasks * (support.shape[2] + query.shape[2]),
                           0.6 + 0.8 * min(classes, 10)))
  for task in range(tasks):
    for part, (name, images) in enumerate((('support', support), ('query', query))):
      axes = figure.add_subplot(1, 2 * tasks, 2 * task + part + 1)
      axes.imshow(_grid(images[task, :10]), cmap='gray_r', vmin=0, vmax=1)
      axes.set_title(f'task {task}: {name}', fontsize=9)
      axes.set_axis_off()
  buffer = io.BytesIO()
  FigureCanvasAgg(figure).print_png(buffer)
  return buffer.getvalue()


def _by_class(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """`[tasks, classes, images per class, ...]`, at most `MOST_TASKS`, `MOST_IMAGES`."""
  def of_task(task_images, task_labels):
    order = np.argsort(task_labels, kind='stable')
    classes = task_labels.max() + 1
    return task_images[order].reshape((classes, -1) + task_images.shape[1:])[:, :MOST_IMAGES]
  return np.stack([of_task(*task) for task in list(zip(images, labels))[:MOST_TASKS]])


def _grid(images: np.ndarray) -> np.ndarray:
  """`[rows, columns, height, width, channels]` -> one picture with gaps."""
  padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)
  rows = np.concatenate(list(np.moveaxis(padded, 1, 0)), axis=2)
  picture = np.concatenate(list(rows), axis=0)
  return picture[..., 0] if picture.shape[-1] == 1 else picture
