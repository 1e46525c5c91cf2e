"""What an episode source is, and the random numbers that every source draws from."""

from __future__ import annotations

import abc
from typing import Dict, Mapping

import tensorflow as tf

from maml_tf.episodes import Episodes

# Episodes are drawn a block at a time: one call of a random number generator for
# all of them. Episode i is row i % BLOCK of block i // BLOCK, so it depends on
# the seed and on i, not on the meta-batch or on where a run was resumed. Changing
# this number changes every episode.
BLOCK = 64

Recipes = Dict[str, tf.Tensor]


class EpisodeSource(abc.ABC):
  """Tasks of one data source and split.

  A recipe is what was drawn for an episode, small: indices of images, or the
  amplitude, phase and abscissae of a sinusoid.
  """

  @abc.abstractmethod
  def draw(self, seed: tf.Tensor) -> Recipes:
    """The recipes of one block, each value `[BLOCK, ...]`.

    Args:
      seed: `[2]`, int64; the recipes depend on nothing else.
    """

  @abc.abstractmethod
  def materialise(self, recipes: Mapping[str, tf.Tensor]) -> Episodes:
    """The episodes of `recipes`, each value `[tasks, ...]`."""

  @property
  @abc.abstractmethod
  def data_identity(self) -> str:
    """What the recipes leave open: the data that they refer to, and where the query
    set begins. Enters the fingerprint of the episodes."""


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


class Draws:
  """A stream of independent draws for one block.

  Args:
    seed: `[2]`, int64.
  """

  def __init__(self, seed: tf.Tensor):
    self._seed = seed
    self._count = 0

  def uniform(self, shape, low: float, high: float) -> tf.Tensor:
    """float32 values from `low` to `high`."""
    return tf.random.stateless_uniform(shape, self._next(), low, high, alg='philox')

  def integers(self, shape, limit: int) -> tf.Tensor:
    """int32 values from 0 to `limit` - 1."""
    return tf.random.stateless_uniform(shape, self._next(), 0, limit, tf.int32,
                                       alg='philox')

  def permutations(self, shape) -> tf.Tensor:
    """Permutations of the last axis's indices, int32 of `shape`."""
    return tf.argsort(self._keys(shape), axis=-1, stable=True)

  def without_replacement(self, shape, choices: tf.Tensor, largest: int) -> tf.Tensor:
    """Distinct indices along the last axis, in random order, int32 of `shape`.

    Args:
      shape: `[..., count]`.
      choices: `[...]`: how many indices there are to choose from, at least `count`.
      largest: the largest value in `choices`.
    """
    keys = self._keys([*shape[:-1], largest])
    allowed = tf.sequence_mask(choices, largest)
    # The smallest key marks what is not there; the others are drawn above it.
    keys = tf.where(allowed, tf.maximum(keys, tf.int32.min + 1), tf.int32.min)
    return tf.math.top_k(keys, k=shape[-1]).indices

  def _keys(self, shape) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, self._next(), None, None, tf.int32,
                                       alg='philox')

  def _next(self) -> tf.Tensor:
    self._count += 1
    return tf.random.experimental.stateless_fold_in(self._seed, self._count, alg='philox')
