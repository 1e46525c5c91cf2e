"""`tf.data` pipelines of episodes."""

from __future__ import annotations

import hashlib
from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf

from maml_tf.episodes import Episodes
from maml_tf.numpy_calls import as_raised
from maml_tf.sources.source import BLOCK, EpisodeSource, Recipes

# Training, validation and test episodes of one seed have nothing in common.
STREAMS = ('train', 'val', 'test')

# Batches that wait for the step, so that the step does not wait for them.
MOST_AHEAD = 4
BYTES_AHEAD = 128 * 2**20


class Part(NamedTuple):
  """Number `number`, from 0, of `of` equal parts."""
  number: int
  of: int


WHOLE = Part(0, 1)


class DataGenerator:
  """The endless sequence of episodes of a source and a seed.

  Episode i depends on the seed, the stream and i alone: not on the meta-batch,
  nor on where the sequence was entered. A resumed run goes on with the episodes
  that it would have seen.

  Args:
    source: where the tasks come from.
    meta_batch_size: tasks per batch.
    seed: 0 or more.
    stream: one of `STREAMS`; sequences of different streams are independent.
  """

  def __init__(self, source: EpisodeSource, meta_batch_size: int, seed: int,
               stream: str = 'train'):
    self._source = source
    self._meta_batch_size = meta_batch_size
    self._seed = seed * len(STREAMS) + STREAMS.index(stream)
    self._draw_block = tf.function(self._draw)
    # A graph for each shape, whatever asks for it, and however often.
    self._materialise = tf.function(source.materialise)

  @property
  def meta_batch_size(self) -> int:
    return self._meta_batch_size

  def dataset(self, first: int, count: int, share: Part = WHOLE, every: Part = WHOLE
              ) -> tf.data.Dataset:
    """Meta-batches `first` to `first + count - 1` of the sequence.

    Each element is an `Episodes` with `meta_batch_size` tasks. Nothing is drawn
    before it is asked for, and the graph holds no data.

    Args:
      first, count: of the meta-batches.
      share: of the tasks of each meta-batch, for one of several processes.
      every: of the meta-batches: (k, n) are those at the places k, k + n, ...
    """
    start = first * self._meta_batch_size
    stop = start + count * self._meta_batch_size
    recipes = tf.data.Dataset.range(start // BLOCK, -(-stop // BLOCK))
    recipes = recipes.map(self._draw_block, num_parallel_calls=1)
    recipes = recipes.unbatch().skip(start % BLOCK).take(stop - start)
    batches = recipes.batch(self._meta_batch_size, drop_remainder=True)
    batches = batches.apply(tf.data.experimental.assert_cardinality(count))
    if share != WHOLE:
      size = self._meta_batch_size // share.of
      batches = batches.map(lambda drawn: {
          name: value[share.number * size:(share.number + 1) * size]
          for name, value in drawn.items()}, num_parallel_calls=1)
    if every != WHOLE:
      batches = batches.shard(every.of, every.number)
    return made_ahead(batches, self._materialise)

  def batch(self, index: int) -> Episodes:
    """Meta-batch `index` of the sequence, at once; equal to that of `dataset`."""
    return self.episodes(index * self._meta_batch_size, self._meta_batch_size)

  def episodes(self, first: int, count: int) -> Episodes:
    """Episodes `first` to `first + count - 1`, at once."""
    with as_raised():
      return self._materialise(self.recipes(first, count))

  def recipes(self, first: int, count: int) -> Recipes:
    """What was drawn for episodes `first` to `first + count - 1`."""
    first_block, last_block = first // BLOCK, (first + count - 1) // BLOCK
    blocks = [self._draw_block(tf.constant(block, tf.int64))
              for block in range(first_block, last_block + 1)]
    offset = first - first_block * BLOCK
    return {name: tf.concat([block[name] for block in blocks], 0)[offset:offset + count]
            for name in blocks[0]}

  def fingerprint(self, count: int) -> str:
    """SHA-256 of the first `count` episodes: of what was drawn and from which data."""
    digest = hashlib.sha256(self._source.data_identity.encode())
    recipes = self.recipes(0, count)
    for name in sorted(recipes):
      digest.update(name.encode() + _little_endian_bytes(recipes[name].numpy()))
    return digest.hexdigest()

  def _draw(self, block: tf.Tensor) -> Recipes:
    return self._source.draw(tf.stack([tf.constant(self._seed, tf.int64), block]))


def made_ahead(recipes: tf.data.Dataset, make: Callable[..., Episodes]) -> tf.data.Dataset:
  """`make` of each element, some before they are asked for: few where they are large."""
  batches = recipes.map(make, num_parallel_calls=2)
  size = sum(value.shape.num_elements() * value.dtype.size
             for value in tf.nest.flatten(batches.element_spec))
  ahead = max(1, min(MOST_AHEAD, BYTES_AHEAD // size))
  if ahead == 1:
    batches = recipes.map(make)   # one at a time
  batches = batches.prefetch(ahead)
  # Nothing here is left to tf.data's autotuner, for whose thread, asleep for up to a minute,
  # the end of a run would wait, and a run that is told to stop has seconds.
  options = tf.data.Options()
  options.autotune.enabled = False
  return batches.with_options(options)


def _little_endian_bytes(values: np.ndarray) -> bytes:
  return values.astype(values.dtype.newbyteorder('<')).tobytes()
