"""The pictures: decodable, of a sensible size, and of what they claim to show."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from maml_tf import experiment
from maml_tf.episodes import Episodes
from maml_tf.problems.images import OMNIGLOT
from maml_tf.problems.own_images import OWN
from maml_tf.reports import fitted_curves, sample_tasks


@pytest.fixture
def figures(figures_of):
  return figures_of(fitted_curves, sample_tasks)


def decoded(source):
  picture = Image.open(source)
  picture.load()
  assert picture.format == 'PNG'
  return picture


# Fitted curves.

@pytest.fixture(params=['None', 'oracle'])
def curves(request, small_config, tmp_path, figures):
  """(figure, path, model, generator)."""
  oracle = dict(metatrain_iterations=0, pretrain_iterations=1)
  config = small_config(baseline=request.param, update_lr=0.02, dtype='float64',
                        **(oracle if request.param == 'oracle' else {}))
  model = experiment.build_model(config)
  generator = experiment.evaluation_generator(config, 'test', 6)
  path = str(tmp_path / 'fitted_curves.png')
  fitted_curves.save_fitted_curves(path, model, generator, '5-shot')
  [figure] = figures
  return figure, path, model, generator


def test_fitted_curves_are_a_picture(curves):
  figure, path, _, _ = curves
  picture = decoded(path)
  assert 1000 <= picture.width <= 2000 and 300 <= picture.height <= 800
  assert len(np.unique(np.asarray(picture).reshape(-1, 4), axis=0)) > 50
  assert figure.get_suptitle() == '5-shot'


def test_fitted_curves_show_the_tasks_and_the_fits(curves):
  figure, _, model, generator = curves
  episodes = generator.episodes(0, 3)
  for task, axes in enumerate(figure.axes):
    lines = {line.get_label(): line.get_data() for line in axes.lines}
    assert list(lines) == ['ground truth', 'support points', 'after 0 updates',
                           'after 1 update', 'after 10 updates']
    points = lines['support points']
    np.testing.assert_allclose(points[0], episodes.support.inputs[task, :, 0])
    np.testing.assert_allclose(points[1], episodes.support.labels[task, :, 0])
    # The points lie on the curve, but for its being drawn as a polygon.
    np.testing.assert_allclose(np.interp(points[0], *lines['ground truth']), points[1],
                               atol=5e-3)
    # After no update it is the initialisation's output; later it is nearer to the points.
    grid, untrained = lines['after 0 updates']
    inputs = np.repeat(episodes.support.inputs[task, :1].numpy(), len(grid), axis=0)
    inputs[:, 0] = grid
    outputs = model(tf.constant(inputs[np.newaxis]))[0, :, 0]
    np.testing.assert_allclose(untrained, outputs, rtol=1e-10)
    errors = [np.mean((np.interp(points[0], *lines[f'after {updates}']) - points[1])**2)
              for updates in ('0 updates', '1 update', '10 updates')]
    assert errors[0] > errors[1] > errors[2]


def test_the_legend_covers_no_curve(curves):
  figure, _, _, _ = curves
  [legend] = figure.legends
  assert [text.get_text() for text in legend.get_texts()][0] == 'ground truth'
  box = legend.get_window_extent()
  assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
  width, height = figure.canvas.get_width_height()
  assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


# Sample tasks.

def coloured_episodes(tasks, classes, shots, queries, channels):
  """Every image is of one value, which tells its class: class / 100."""
  random = np.random.RandomState(0)

  def part(per_class):
    labels = np.stack([random.permutation(np.repeat(np.arange(classes), per_class))
                       for _ in range(tasks)])
    images = np.ones([tasks, classes * per_class, 8, 8, channels]) * (
        labels[..., np.newaxis, np.newaxis, np.newaxis] / 100)
    return tf.constant(images, tf.float32), tf.constant(labels, tf.int32)
  return Episodes.of(*part(shots), *part(queries))


@pytest.mark.parametrize('tasks, classes, shots, queries, channels', [
    (4, 5, 1, 1, 1), (1, 20, 1, 5, 1), (2, 5, 5, 15, 3), (3, 2, 1, 1, 3)])
def test_sample_tasks_are_a_picture_with_a_class_in_each_row(
    tasks, classes, shots, queries, channels, figures):
  png = sample_tasks.sample_tasks_png(
      coloured_episodes(tasks, classes, shots, queries, channels))
  picture = decoded(io.BytesIO(png))
  assert 150 <= picture.width <= 2100 and 150 <= picture.height <= 1500
  [figure] = figures
  assert len(figure.axes) == 2 * min(tasks, 2)   # support and query
  for axes, columns in zip(figure.axes, [min(shots, 6), min(queries, 6)] * 2):
    [image] = axes.images
    pixels = np.asarray(image.get_array())
    rows = min(classes, 10)
    assert pixels.shape[:2] == (10 * rows, 10 * columns)   # 8 pixels and two of gap
    centres = pixels[5::10, 5::10]
    expected = np.arange(rows).reshape([rows, 1] + [1] * (centres.ndim - 2)) / 100
    np.testing.assert_allclose(centres, np.broadcast_to(expected, centres.shape), atol=1e-6)
    assert axes.get_title() in ('support', 'query')


@pytest.mark.parametrize('problem, white', [(OMNIGLOT, 0.0), (OWN, 1.0)])
def test_gray_images_are_drawn_as_they_are_and_no_negatives(problem, white, figures):
  """Omniglot is stored inverted; gray images of one's own are not, and were drawn so."""
  problem.sample_tasks(coloured_episodes(1, 2, 1, 1, 1))
  [figure] = figures
  [image] = figure.axes[0].images
  assert image.cmap(image.norm(white))[:3] == (1, 1, 1)
  assert image.cmap(image.norm(1 - white))[:3] == (0, 0, 0)


def test_the_titles_of_sample_tasks_do_not_overlap(figures):
  sample_tasks.sample_tasks_png(coloured_episodes(2, 5, 1, 1, 1))
  [figure] = figures
  boxes = [axes.title.get_window_extent() for axes in figure.axes]
  assert not any(one.overlaps(other) for one, other in zip(boxes, boxes[1:]))
