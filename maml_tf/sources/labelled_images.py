"""Ordinary mini-batches of one image set: one classification of all its classes."""

from __future__ import annotations

from typing import Mapping

import tensorflow as tf

from maml_tf.episodes import Episodes
from maml_tf.sources.image_set import ImageSplit
from maml_tf.sources.images import read_images
from maml_tf.sources.source import BatchSource, Draws, Recipes

QUARTERS = 4


class LabelledImages(BatchSource):
  """Images of all classes of a split, drawn with replacement, each with its class.

  Args:
    images: the split.
    batch_size: images in a batch.
    rotations: turn each image by a random multiple of 90 degrees, every turn of a class
      being a class of its own (as Omniglot's episodes have them).
    dtype: of the inputs, whose values are from 0 to 1.
  """

  def __init__(self, images: ImageSplit, batch_size: int, rotations: bool,
               dtype: str = 'float32'):
    self._images = images
    self._batch_size = batch_size
    self._rotations = rotations
    self._dtype = dtype

  def draw(self, seed: tf.Tensor) -> Recipes:
    """'image': index within the split; 'turns' (quarter turns); 'label'; each
    `[1, batch_size]`."""
    draws = Draws(seed)
    shape = [1, self._batch_size]
    image = draws.integers(shape, len(self._images.images))
    starts = tf.constant(self._images.class_starts, tf.int32)
    label = tf.searchsorted(starts, image[0], side='right')[tf.newaxis] - 1
    if not self._rotations:
      return {'image': image, 'turns': tf.zeros_like(image), 'label': label}
    turns = draws.integers(shape, QUARTERS)
    return {'image': image, 'turns': turns, 'label': label * QUARTERS + turns}

  def materialise(self, recipes: Mapping[str, tf.Tensor]) -> Episodes:
    inputs = read_images(self._images, recipes['image'], recipes['turns'], self._dtype)
    return Episodes.of(inputs, recipes['label'], inputs, recipes['label'])


def num_labels(num_classes: int, rotations: bool) -> int:
  """The labels of `LabelledImages`."""
  return num_classes * QUARTERS if rotations else num_classes
