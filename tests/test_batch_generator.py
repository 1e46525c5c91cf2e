"""Batches for ordinary training: each a function of seed and iteration."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.batch_generator import BatchGenerator
from maml_tf.sources.labelled_images import LabelledImages, num_labels
from maml_tf.sources.single_sinusoids import SingleSinusoids


def generators(make_split, seed):
  return {
      'sinusoids': BatchGenerator(SingleSinusoids(3, 4), seed),
      'images': BatchGenerator(LabelledImages(make_split((5, 7)), 6, rotations=True), seed)}


@pytest.mark.parametrize('name', ['sinusoids', 'images'])
def test_a_batch_depends_on_seed_and_iteration_alone(name, make_split):
  generator = generators(make_split, 1)[name]
  entered = [batch for batch in generator.dataset(2, 3)]
  for place, batch in enumerate(generator.dataset(0, 5)):
    alone = generators(make_split, 1)[name].batch(place)
    tf.nest.map_structure(np.testing.assert_array_equal, batch, alone)
    if place >= 2:
      tf.nest.map_structure(np.testing.assert_array_equal, entered[place - 2], batch)
  others = [generator.batch(1), generators(make_split, 2)[name].batch(0)]
  for other in others:
    assert np.any(other.support.labels.numpy() != generator.batch(0).support.labels.numpy())


def test_the_end_of_a_run_waits_for_no_autotuner(make_split):
  for generator in generators(make_split, 0).values():
    assert generator.dataset(0, 2).options().autotune.enabled is False


def test_there_is_nothing_to_adapt(make_split):
  for generator in generators(make_split, 0).values():
    batch = generator.batch(0)
    np.testing.assert_array_equal(batch.support.inputs, batch.query.inputs)
    np.testing.assert_array_equal(batch.support.labels, batch.query.labels)


def test_each_net_keeps_its_sinusoid_and_gets_new_points():
  generator = BatchGenerator(SingleSinusoids(20, 200, 'float64'), seed=0)
  solutions, points = [], []
  for place in (0, 9):
    batch = generator.batch(place)
    x, y = batch.support.inputs.numpy()[..., 0], batch.support.labels.numpy()[..., 0]
    assert x.min() >= -5 and x.max() <= 5
    design = np.stack([np.sin(x), np.cos(x)], axis=-1)
    # a sin(x - p) = a cos(p) sin(x) - a sin(p) cos(x)
    found = np.stack([np.linalg.lstsq(*pair, rcond=None)[0] for pair in zip(design, y)])
    np.testing.assert_allclose(np.einsum('npi,ni->np', design, found), y, atol=1e-9)
    solutions.append(found)
    points.append(x)
  np.testing.assert_allclose(*solutions, atol=1e-8)
  assert np.mean(np.isin(points[0], points[1])) < 0.01   # float32 values may coincide
  amplitudes = np.hypot(*solutions[0].T)
  phases = np.arctan2(-solutions[0][:, 1], solutions[0][:, 0])
  assert amplitudes.min() >= 0.1 and amplitudes.max() <= 5 and np.ptp(amplitudes) > 2
  assert phases.min() >= 0 and phases.max() <= np.pi and np.ptp(phases) > 1


def test_images_come_with_their_class_and_turn(make_split):
  split = make_split((5, 7, 3))
  generator = BatchGenerator(LabelledImages(split, 200, rotations=True, dtype='float64'), 0)
  batch = generator.batch(0)
  assert batch.support.inputs.shape == (1, 200, 4, 4, 1)
  class_of = np.repeat(np.arange(3), split.class_counts)
  seen = set()
  for pixels, label in zip(batch.support.inputs[0].numpy(), batch.support.labels[0].numpy()):
    turned = [np.rot90(image / 255, label % 4) for image in split.images]
    index, = [i for i, image in enumerate(turned) if np.array_equal(image, pixels)]
    assert class_of[index] == label // 4
    seen.add(int(label))
  assert seen == set(range(num_labels(3, rotations=True))) == set(range(12))


def test_without_rotations_labels_are_classes(make_split):
  split = make_split((5, 7, 3))
  batch = BatchGenerator(LabelledImages(split, 100, rotations=False), 0).batch(3)
  assert set(batch.support.labels[0].numpy()) == set(range(num_labels(3, rotations=False)))
  pixels = tf.cast(tf.round(batch.support.inputs[0] * 255), tf.uint8).numpy()
  for image, label in zip(pixels, batch.support.labels[0].numpy()):
    index, = [i for i, other in enumerate(split.images) if np.array_equal(image, other)]
    assert np.repeat(np.arange(3), split.class_counts)[index] == label
