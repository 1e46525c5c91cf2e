"""A picture of sample tasks, to see what the net is asked."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from maml_tf.episodes import Episodes
from maml_tf.reports.png import png

MOST_TASKS = 2
MOST_CLASSES = 10
MOST_IMAGES = 6


def sample_tasks_png(episodes: Episodes, inverted: bool = False) -> bytes:
  """The first tasks of a meta-batch, a row per class: support left, query right.

  Args:
    episodes: of images, `[tasks, examples, height, width, channels]`, 0 to 1.
    inverted: whether 1 is ink, and not light; of images of one channel.

  Returns:
    The bytes of a PNG file.
  """
  support = _by_class(episodes.support.inputs.numpy(), episodes.support.labels.numpy())
  query = _by_class(episodes.query.inputs.numpy(), episodes.query.labels.numpy())
  tasks, classes = support.shape[:2]
  widths = (support.shape[2], query.shape[2])
  figure = Figure(figsize=(0.9 * tasks * (sum(widths) + 0.3),
                           0.7 + 0.85 * min(classes, MOST_CLASSES)), layout='constrained')
  for task, part in enumerate(figure.subfigures(1, tasks, squeeze=False)[0]):
    part.suptitle(f'task {task}', fontsize=10)
    both_axes = part.subplots(1, 2, width_ratios=widths)
    for axes, name, images in zip(both_axes, ('support', 'query'), (support, query)):
      axes.imshow(_grid(images[task, :MOST_CLASSES]), vmin=0, vmax=1,
                  cmap='gray_r' if inverted else 'gray')
      axes.set_title(name, fontsize=9)
      axes.set_axis_off()
  return png(figure)


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
