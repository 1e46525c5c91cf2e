"""What a pipeline reads is let go with it."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.data_generator import DataGenerator
from maml_tf.numpy_calls import numpy_function
from maml_tf.sources.arrays import tasks_from_arrays
from maml_tf.sources.image_set import ImageSplit
from maml_tf.sources.images import ImageSource


class Pixels(np.ndarray):
  """An array that can be referred to weakly, and is not copied where it is used."""


def pixels(*shape):
  array = Pixels(shape, np.uint8)   # it owns them, so that views of it refer to it
  array.fill(0)
  return array


def of_images(array):
  split = ImageSplit('omniglot', 'train', array, ('a', 'b', 'c'), np.array([4, 4, 4]), '0')
  source = ImageSource(split, 2, 1, 1, rotations=True)
  return DataGenerator(source, meta_batch_size=2, seed=0).dataset(0, 2)


def of_arrays(array):
  return tasks_from_arrays(array, np.repeat(range(3), 4), ways=2, shots=1, queries=1,
                           meta_batch_size=2).take(2)


@pytest.mark.parametrize('make', [of_images, of_arrays])
def test_arrays_are_let_go_with_the_pipeline(make):
  array = pixels(12, 28, 28, 1)
  reference = weakref.ref(array)
  dataset = make(array)
  del array
  gc.collect()
  iterator = iter(dataset)
  assert len(list(dataset)) == 2        # the dataset holds what it reads
  next(iterator)
  del dataset
  gc.collect()
  next(iterator)                        # and so does an iterator
  del iterator
  gc.collect()
  assert reference() is None


def test_a_function_is_there_as_long_as_the_graph_that_calls_it():
  def made():
    array = np.arange(3.0)
    return tf.function(lambda place: numpy_function(lambda at: array[at], [place],
                                                    tf.float64))
  function = made()
  function(tf.constant(1))
  gc.collect()
  assert float(function(tf.constant(2))) == 2
  assert float(made()(tf.constant(1))) == 1


def test_eagerly_too():
  assert float(numpy_function(lambda value: value + 1, [tf.constant(1.0)], tf.float32)) == 2
