"""Tasks of arrays, folders and functions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.errors import ConfigError, DataError
from maml_tf.sources.arrays import tasks_from_arrays, tasks_from_folder, tasks_from_function

CLASSES, EACH = 6, 5


@pytest.fixture
def examples():
  """Each tells its class and its number: 10 * class + number."""
  classes = np.random.RandomState(0).permutation(np.repeat(np.arange(CLASSES), EACH))
  numbers = np.zeros(len(classes), int)
  for one in range(CLASSES):
    numbers[classes == one] = np.arange(EACH)
  return (10 * classes + numbers)[:, np.newaxis].astype('float32'), classes


def batches(dataset, count):
  return [tf.nest.map_structure(np.array, batch)
          for batch in itertools.islice(dataset, count)]


def test_a_task_has_different_examples_of_different_classes(examples):
  tasks = tasks_from_arrays(*examples, ways=4, shots=2, queries=3, meta_batch_size=5, seed=1)
  for (support, labels), (query, query_labels) in batches(tasks, 4):
    assert support.shape == (5, 8, 1) and query.shape == (5, 12, 1)
    assert labels.dtype == query_labels.dtype == np.int32
    for task in range(5):
      both = np.concatenate([support[task], query[task]])[:, 0]
      assert len(np.unique(both)) == 20
      classes_of = [set(both_[:, 0][which == label] // 10) for both_, which in
                    ((support[task], labels[task]), (query[task], query_labels[task]))
                    for label in range(4)]
      assert classes_of[:4] == classes_of[4:]
      assert len(set.union(*classes_of)) == 4


def test_all_classes_and_labels_come(examples):
  tasks = tasks_from_arrays(*examples, ways=2, shots=1, queries=1, meta_batch_size=50)
  (support, labels), _ = batches(tasks, 1)[0]
  pairs = set(zip(support.ravel() // 10, labels.ravel()))
  assert pairs == set(itertools.product(range(CLASSES), range(2)))


def test_a_task_depends_on_the_seed_and_its_number_alone(examples):
  def made(batch, count, seed=3):
    tasks = tasks_from_arrays(*examples, ways=3, shots=1, queries=1, meta_batch_size=batch,
                              seed=seed)
    return np.concatenate([support for (support, _), _ in batches(tasks, count)])
  np.testing.assert_array_equal(made(2, 3), made(3, 2))
  assert np.any(made(2, 3) != made(2, 3, seed=4))


def test_nests_and_strings(examples):
  x, y = examples
  names = np.array(['abcdef'[one] for one in y])
  tasks = tasks_from_arrays({'value': x, 'text': names}, names, 3, 1, 1)
  (support, _), _ = next(iter(tasks))
  assert support['value'].shape == (4, 3, 1) and support['text'].dtype == tf.string
  for value, text in zip(support['value'].numpy().ravel(), support['text'].numpy().ravel()):
    assert b'abcdef'[int(value) // 10:int(value) // 10 + 1] == text


@pytest.mark.parametrize('sizes, message', [
    (dict(ways=7), '6 classes'), (dict(shots=4), 'the smallest of 5'),
    (dict(queries=0), 'queries must be an integer, 1 or more'),
    (dict(shots=1.0), 'shots must be an integer'), (dict(ways='2'), 'ways must be an'),
    (dict(seed=-1), 'seed must be an integer, 0'), (dict(seed=None), 'seed must be an')])
def test_what_cannot_be_drawn_is_refused(examples, sizes, message):
  with pytest.raises(ConfigError, match=message):
    tasks_from_arrays(*examples, **{**dict(ways=2, shots=2, queries=2), **sizes})


def test_labels_that_do_not_fit_are_refused(examples):
  with pytest.raises(ConfigError, match='one class for each example'):
    tasks_from_arrays(examples[0], examples[1][1:], 2, 1, 1)


@pytest.mark.parametrize('y, message', [
    (np.eye(6)[np.repeat(np.arange(6), 5)], r'argmax'), (np.full(30, np.nan), '30 that are'),
    ([None, 'a'] * 15, 'Python objects')], ids=['one-hot', 'NaN', 'objects'])
def test_labels_that_are_none_are_refused(examples, y, message):
  with pytest.raises(ConfigError, match=message):
    tasks_from_arrays(examples[0], y, 2, 1, 1)


def test_examples_may_be_a_list(examples):
  x, y = examples
  expected = next(iter(tasks_from_arrays(x, y, 3, 1, 2)))
  for given in (list(x), x.tolist(), x.astype(object)):
    found = next(iter(tasks_from_arrays(given, y.tolist(), 3, 1, 2)))
    tf.nest.map_structure(np.testing.assert_array_equal, found, expected)
  with pytest.raises(ConfigError, match=r'of one shape.*\(1,\), \(2,\)'):
    tasks_from_arrays([np.zeros(2), *list(x)[1:]], y, 3, 1, 2)


def test_several_inputs_may_be_a_list(examples):
  x, y = examples
  inputs = next(iter(tasks_from_arrays([x, 2 * x], y, 3, 1, 2)))[0][0]
  assert [value.shape.as_list() for value in inputs] == [[4, 3, 1]] * 2
  np.testing.assert_array_equal(inputs[1], 2 * inputs[0])


def test_the_paper_s_sizes_are_taken_where_none_are_said():
  y = np.repeat(np.arange(5), 16)
  (support, labels), (query, _) = next(iter(tasks_from_arrays(np.zeros([80, 2]), y)))
  assert support.shape == (4, 5, 2) and labels.shape == (4, 5) and query.shape == (4, 75, 2)


def test_functions(examples):
  def sine(random):
    phase = random.uniform()
    x = random.normal(size=(5, 1))
    return (x, np.sin(x + phase)), (x + 1, np.sin(x + 1 + phase))
  (x, y), (query, _) = next(iter(tasks_from_function(sine, 3, seed=1)))
  np.testing.assert_array_equal(query, x + 1)
  assert y.shape == (3, 5, 1)
  with pytest.raises(ConfigError, match='A task is'):
    tasks_from_function(lambda random: np.zeros(3))


def test_folders(tmp_path):
  for index, name in enumerate('abc'):
    (tmp_path / name).mkdir()
    for number in range(3):
      image = np.full((8, 6, 3), 20 * index + number, np.uint8)
      tf.io.write_file(str(tmp_path / name / f'{number}.png'), tf.io.encode_png(image))
  (tmp_path / 'a' / 'notes.txt').write_text('none')
  tasks = tasks_from_folder(str(tmp_path), 2, 1, 2, image_size=(4, 4), meta_batch_size=3)
  (support, labels), (query, _) = next(iter(tasks))
  assert support.shape == (3, 2, 4, 4, 3) and query.shape == (3, 4, 4, 4, 3)
  values = np.round(support.numpy()[..., 0, 0, 0] * 255)
  assert set(values.ravel() // 20) <= {0, 1, 2} and np.all(values % 20 < 3)
  (tmp_path / 'b' / '3.png').write_bytes(b'no image')
  with pytest.raises(DataError, match='b/3.png cannot be read'):
    tasks_from_folder(str(tmp_path), 2, 1, 2, image_size=(4, 4))
  with pytest.raises(DataError, match='no folder'):
    tasks_from_folder(str(tmp_path / 'none'), 2, 1, 2, image_size=(4, 4))
