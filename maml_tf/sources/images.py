"""N-way K-shot classification episodes from an image set (section 5.2)."""

from __future__ import annotations

from typing import Mapping

import numpy as np
import tensorflow as tf

from maml_tf.episodes import Episodes
from maml_tf.errors import ConfigError
from maml_tf.numpy_calls import numpy_function
from maml_tf.sources.image_set import ImageSplit
from maml_tf.sources.source import BLOCK, Draws, EpisodeSource, Recipes


class ImageSource(EpisodeSource):
  """Tasks of N classes of one split, drawn without replacement.

  Support and query images of a class are distinct. Labels are the order in which
  the classes were drawn. Examples come shot-major, as in the TF1 code: N x first
  example, N x second, ..., the classes permuted anew in each group.

  Args:
    images: the split.
    num_classes: N.
    support_size: K, support images per class.
    query_size: query images per class.
    rotations: turn each class of a task by a random multiple of 90 degrees, in
      support and query alike (Omniglot; Santoro et al. 2016).
    dtype: of the inputs, whose values are from 0 to 1.
    ways_argument: what N is called where it is too large.

  Raises:
    ConfigError: when the split has too few classes, or a class too few images.
  """

  def __init__(self, images: ImageSplit, num_classes: int, support_size: int,
               query_size: int, rotations: bool, dtype: str = 'float32',
               ways_argument: str = 'num_classes'):
    _check_enough(images, num_classes, support_size + query_size, ways_argument)
    self._images = images
    self._num_classes = num_classes
    self._support_size = support_size
    self._query_size = query_size
    self._rotations = rotations
    self._dtype = dtype

  @property
  def data_identity(self) -> str:
    return (f'{self._images.name}/{self._images.split}/{self._images.sha256}'
            f'/{self._support_size} support images')

  def draw(self, seed: tf.Tensor) -> Recipes:
    """'image': index within the split; 'label', 'turns' (quarter turns); each
    `[BLOCK, N * (K + query size)]`, the N * K support images first."""
    draws = Draws(seed)
    ways, shots = self._num_classes, self._support_size + self._query_size
    counts = tf.constant(self._images.class_counts, tf.int32)
    starts = tf.constant(self._images.class_starts, tf.int32)
    all_classes = tf.fill([BLOCK], len(self._images.class_counts))
    classes = draws.without_replacement([BLOCK, ways], all_classes,
                                        len(self._images.class_counts))
    examples = draws.without_replacement([BLOCK, ways, shots], tf.gather(counts, classes),
                                         int(self._images.class_counts.max()))
    image = tf.gather(starts, classes)[..., tf.newaxis] + examples
    turns = draws.integers([BLOCK, ways], 4) if self._rotations else tf.zeros_like(classes)
    # [BLOCK, shots, ways]: one group of all classes per shot, each in its own order.
    label = draws.permutations([BLOCK, shots, ways])
    image = tf.gather(tf.transpose(image, [0, 2, 1]), label, axis=2, batch_dims=2)
    turns = tf.gather(tf.repeat(turns[:, tf.newaxis], shots, axis=1), label, axis=2,
                      batch_dims=2)
    return {name: tf.reshape(value, [BLOCK, shots * ways])
            for name, value in (('image', image), ('label', label), ('turns', turns))}

  def materialise(self, recipes: Mapping[str, tf.Tensor]) -> Episodes:
    inputs = read_images(self._images, recipes['image'], recipes['turns'], self._dtype)
    support = self._num_classes * self._support_size
    label = recipes['label']
    return Episodes.of(inputs[:, :support], label[:, :support],
                    inputs[:, support:], label[:, support:])


def read_images(images: ImageSplit, image: tf.Tensor, turns: tf.Tensor, dtype: str
                ) -> tf.Tensor:
  """Images of a split, `[*shape of image, height, width, channels]`, values 0 to 1.

  Args:
    images: the split.
    image: indices within it, int32 of any shape.
    turns: the quarter turns of each, of the same shape.
    dtype: of the result.
  """
  def gather(image: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Reads only these images of the set."""
    pixels = images.read(image.ravel())
    for quarter in (1, 2, 3):
      turned = turns.ravel() == quarter
      if turned.any():
        pixels[turned] = np.rot90(pixels[turned], quarter, axes=(1, 2))
    # By NumPy: a TensorFlow graph may multiply by 1/255 instead, which is not the same.
    inputs = np.divide(pixels, 255, dtype=dtype)
    return inputs.reshape(image.shape + pixels.shape[1:])
  inputs = numpy_function(gather, [image, turns], dtype)
  return tf.ensure_shape(inputs, image.shape + images.images.shape[1:])


def episodes_of(images: tf.Tensor, recipes: Recipes, support: int, dtype: str,
                rotations: bool) -> Episodes:
  """The episodes of `recipes`, gathered and turned by TensorFlow operations.

  Args:
    images: uint8 `[images, height, width, channels]`.
    recipes: 'image', 'label' and 'turns', `[tasks, examples]`.
    support: how many of the examples are the support set.
    dtype: of the inputs.
    rotations: whether 'turns' are other than 0; the images are square then.
  """
  inputs = turned = tf.cast(tf.gather(images, recipes['image']), dtype) / 255
  if rotations:
    turns = recipes['turns'][..., tf.newaxis, tf.newaxis, tf.newaxis]
    for quarter in (1, 2, 3):
      turned = tf.reverse(tf.transpose(turned, [0, 1, 3, 2, 4]), [2])
      inputs = tf.where(turns == quarter, turned, inputs)
  label = recipes['label']
  return Episodes.of(inputs[:, :support], label[:, :support],
                  inputs[:, support:], label[:, support:])


def _check_enough(images: ImageSplit, num_classes: int, examples: int, named: str) -> None:
  available = len(images.class_counts)
  if num_classes > available:
    raise ConfigError(
        f'{named}={num_classes} is larger than the {images.split} split of the '
        f'prepared {images.name} data, which has {available} classes: at most '
        f'{available} are allowed.', argument=named)
  fewest = int(images.class_counts.min())
  if examples > fewest:
    name = images.class_names[int(images.class_counts.argmin())]
    raise ConfigError(
        f'Support and query sets need {examples} images of a class, and class {name} in '
        f'the {images.split} split of the prepared {images.name} data has {fewest}: '
        'lower update_batch_size, train_query_size or test_query_size.')
