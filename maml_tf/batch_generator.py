"""`tf.data` pipelines of ordinary training batches, for the baselines."""

from __future__ import annotations

import abc
from typing import Mapping

import tensorflow as tf

from maml_tf.data_generator import STREAMS, made_ahead
from maml_tf.episodes import Episodes
from maml_tf.sources.source import Recipes


class BatchSource(abc.ABC):
  """Batches of training examples; what is drawn for one is its recipe."""

  @abc.abstractmethod
  def draw(self, seed: tf.Tensor) -> Recipes:
    """The recipe of one batch.

    Args:
      seed: `[2]`, int64, run and iteration; the recipe depends on nothing else.
    """

  @abc.abstractmethod
  def materialise(self, recipes: Mapping[str, tf.Tensor]) -> Episodes:
    """The batch, `[nets, examples, ...]`. There is no adaptation in training, so its
    query set is its support set."""


class BatchGenerator:
  """The endless sequence of batches of a source and a seed.

  Batch i depends on the seed and i alone, as in `DataGenerator`: a resumed run goes
  on with the batches that it would have seen.

  Args:
    source: where the examples come from.
    seed: 0 or more.
  """

  def __init__(self, source: BatchSource, seed: int):
    self._source = source
    self._seed = seed * len(STREAMS) + STREAMS.index('train')
    self._batch = tf.function(self._make, autograph=False)

  def dataset(self, first: int, count: int) -> tf.data.Dataset:
    """Batches `first` to `first + count - 1`; nothing is drawn before it is asked for."""
    return made_ahead(tf.data.Dataset.range(first, first + count), self._batch)

  def batch(self, index: int) -> Episodes:
    """Batch `index`, at once; equal to that of `dataset`."""
    return self._batch(tf.constant(index, tf.int64))

  def _make(self, index: tf.Tensor) -> Episodes:
    seed = tf.stack([tf.constant(self._seed, tf.int64), index])
    return self._source.materialise(self._source.draw(seed))
