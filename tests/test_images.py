"""Classification tasks from an image split: classes, images, labels, rotations, pixels."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from maml_tf.config import ConfigError
from maml_tf.data_generator import DataGenerator
from maml_tf.errors import DataError
from maml_tf.numpy_calls import as_raised
from maml_tf.sources.image_file import ImageFile
from maml_tf.sources.images import ImageSource

EPISODES = 640


def generator_of(split, ways=3, support=1, query=2, rotations=False, dtype='float32', seed=0):
  return DataGenerator(ImageSource(split, ways, support, query, rotations, dtype), 4, seed)


def recipes_of(generator, count=EPISODES):
  return {name: value.numpy() for name, value in generator.recipes(0, count).items()}


def classes_of(split, images):
  return np.repeat(np.arange(len(split.class_counts)), split.class_counts)[images]


def class_of_label(split, recipes, ways):
  """`[episodes, ways]`: the class behind each label; every example must agree."""
  classes = classes_of(split, recipes['image'])
  table = np.full((len(classes), ways), -1)
  np.put_along_axis(table, recipes['label'], classes, axis=1)
  np.testing.assert_array_equal(np.take_along_axis(table, recipes['label'], axis=1), classes)
  return table


# Classes and images


def test_classes_of_a_task_are_distinct(make_split):
  split = make_split((4,) * 6)
  table = class_of_label(split, recipes_of(generator_of(split, ways=5)), 5)
  assert all(len(set(row)) == 5 for row in table)


def test_a_task_may_use_every_class_and_image(make_split):
  split = make_split((3,) * 4)
  recipes = recipes_of(generator_of(split, ways=4, support=1, query=2), 100)
  np.testing.assert_array_equal(np.sort(recipes['image'], axis=1), [np.arange(12)] * 100)


def test_every_class_is_as_frequent_under_every_label(make_split):
  split = make_split((4,) * 5)
  table = class_of_label(split, recipes_of(generator_of(split)), 3)
  counts = np.stack([np.bincount(column, minlength=5) for column in table.T])
  # 640 / 5 with a deviation of 10.
  np.testing.assert_allclose(counts, EPISODES / 5, atol=50)


def test_no_image_comes_twice_in_a_task(make_split):
  """Nor, then, is a query image also a support image."""
  split = make_split((4,) * 5)
  images = recipes_of(generator_of(split, support=2, query=2))['image']
  assert images.shape == (EPISODES, 12)
  assert all(len(set(row)) == 12 for row in images)


def test_every_image_is_in_support_and_query_sets(make_split):
  split = make_split((4,) * 5)
  images = recipes_of(generator_of(split))['image']
  for part in (images[:, :3], images[:, 3:]):
    counts = np.bincount(part.ravel(), minlength=20) / part.size
    np.testing.assert_allclose(counts, 1 / 20, atol=0.025)


def test_classes_of_unequal_size(make_split):
  """Every index is one of its class, and every image of every class is reached."""
  counts = (3, 11, 4, 7)
  split = make_split(counts)
  recipes = recipes_of(generator_of(split, ways=4))
  table = class_of_label(split, recipes, 4)     # an index beyond a class would not agree
  assert all(sorted(row) == [0, 1, 2, 3] for row in table)
  frequencies = np.bincount(recipes['image'].ravel(), minlength=25) / EPISODES
  assert len(frequencies) == 25
  for start, count in zip(split.class_starts, counts):
    # 3 of a class's images in every episode.
    np.testing.assert_allclose(frequencies[start:start + count], 3 / count, atol=0.12)


# Labels


@pytest.mark.parametrize('support, query', [(1, 1), (2, 3)])
def test_labels_are_balanced_in_support_and_query(make_split, support, query):
  episodes = generator_of(make_split(), support=support, query=query).episodes(0, 50)
  for labels, shots in ((episodes.support.labels, support), (episodes.query.labels, query)):
    assert labels.dtype == 'int32'
    np.testing.assert_array_equal(np.sort(labels, axis=1),
                                  [np.repeat(np.arange(3), shots)] * 50)


def test_examples_come_shot_major(make_split):
  """N x the first example, N x the second, ...: every group has every class."""
  labels = recipes_of(generator_of(make_split(), support=2, query=3))['label']
  groups = np.sort(labels.reshape(EPISODES, 5, 3), axis=2)
  np.testing.assert_array_equal(groups, np.broadcast_to(np.arange(3), groups.shape))


def test_a_position_does_not_give_a_label_away(make_split):
  """Not by itself, nor by its place in another group of the same task."""
  labels = recipes_of(generator_of(make_split(), support=1, query=2))['label']
  for position in range(9):
    shares = np.bincount(labels[:, position], minlength=3) / EPISODES
    np.testing.assert_allclose(shares, 1 / 3, atol=0.08)
  groups = labels.reshape(EPISODES, 3, 3)
  for first, second in ((0, 1), (0, 2), (1, 2)):
    same = np.mean(groups[:, first] == groups[:, second])
    np.testing.assert_allclose(same, 1 / 3, atol=0.08)


def test_a_class_does_not_give_its_label_away(make_split):
  """Labels follow the order of drawing, not that of the classes."""
  table = class_of_label(*with_recipes(make_split()), 3)
  np.testing.assert_allclose(np.mean(table[:, 0] < table[:, 1]), 0.5, atol=0.08)


def with_recipes(split):
  return split, recipes_of(generator_of(split))


# Pixels and rotations


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_pixels_are_the_sources_divided_by_255(make_split, dtype):
  split = make_split(image_shape=(5, 4, 3))
  generator = generator_of(split, dtype=dtype)
  images = recipes_of(generator, 20)['image']
  episodes = generator.episodes(0, 20)
  assert episodes.support.inputs.shape == (20, 3, 5, 4, 3)
  assert episodes.query.inputs.shape == (20, 6, 5, 4, 3)
  inputs = np.concatenate([episodes.support.inputs, episodes.query.inputs], axis=1)
  assert inputs.dtype == dtype
  np.testing.assert_array_equal(inputs, split.images[images].astype(dtype) / 255)
  assert inputs.min() == 0 and inputs.max() == 1


def test_rotations_are_those_of_numpy(make_split):
  split = make_split(image_shape=(4, 4, 2))
  generator = generator_of(split, rotations=True)
  recipes, episodes = recipes_of(generator, 40), generator.episodes(0, 40)
  inputs = np.concatenate([episodes.support.inputs, episodes.query.inputs], axis=1)
  for index in np.ndindex(recipes['image'].shape):
    turned = np.rot90(split.images[recipes['image'][index]], recipes['turns'][index])
    np.testing.assert_array_equal(np.rint(inputs[index] * 255), turned)


def test_a_class_is_turned_alike_in_support_and_query(make_split):
  """As seen in the images themselves: there is one turn that explains all of them."""
  split = make_split((4,) * 5)
  generator = generator_of(split, support=1, query=3, rotations=True)
  recipes, episodes = recipes_of(generator, 30), generator.episodes(0, 30)
  inputs = np.concatenate([episodes.support.inputs, episodes.query.inputs], axis=1)
  labels = np.concatenate([episodes.support.labels, episodes.query.labels], axis=1)
  seen = set()
  for task in range(30):
    for label in range(3):
      of_class = labels[task] == label
      pixels = np.rint(inputs[task][of_class] * 255)
      originals = split.images[recipes['image'][task][of_class]]
      turns = [turn for turn in range(4)
               if np.array_equal(pixels, np.rot90(originals, turn, axes=(1, 2)))]
      assert len(turns) == 1
      seen.update(turns)
  assert seen == {0, 1, 2, 3}


def test_every_turn_is_as_frequent_and_classes_turn_by_themselves(make_split):
  split = make_split()
  recipes = recipes_of(generator_of(split, rotations=True))
  turns = np.zeros((EPISODES, 3), int)
  np.put_along_axis(turns, recipes['label'], recipes['turns'], axis=1)
  np.testing.assert_allclose(np.bincount(turns.ravel()) / turns.size, 0.25, atol=0.05)
  np.testing.assert_allclose(np.mean(turns[:, 0] == turns[:, 1]), 0.25, atol=0.08)


def test_without_rotations_nothing_is_turned(make_split):
  assert not recipes_of(generator_of(make_split()))['turns'].any()


# User errors


def test_too_many_classes_are_refused(make_split):
  with pytest.raises(ConfigError, match='num_classes=6.* has 5 classes'):
    generator_of(make_split(), ways=6)


def test_too_many_images_of_a_class_are_refused(make_split):
  split = make_split((6, 3, 6))
  generator_of(split, support=1, query=2)
  with pytest.raises(ConfigError, match='need 4 images.*class001.* has 3'):
    generator_of(split, support=2, query=2)


def test_a_file_that_changes_under_a_pipeline_is_one_sentence(make_split, tmp_path):
  """And not an error of TensorFlow's with the traceback of a call."""
  split = make_split((4,) * 3)
  path = tmp_path / 'train.npy'
  path.write_bytes(split.images.tobytes())
  images = ImageFile(str(path), '0' * 64, 0, split.images.shape)
  generator = generator_of(dataclasses.replace(split, file=images))
  batches = iter(generator.dataset(0, 100))
  next(batches)
  os.truncate(path, 10)
  with pytest.raises(DataError, match='got shorter'), as_raised():
    list(batches)
  with pytest.raises(DataError, match='got shorter'):
    generator.batch(0)
