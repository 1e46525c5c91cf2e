"""Sinusoids that stay the same, one for each net of the averaged baseline."""

from __future__ import annotations

from typing import Mapping

import tensorflow as tf

from maml_tf.episodes import Episodes
from maml_tf.sources.sinusoid import ABSCISSAE, AMPLITUDES, PHASES, sinusoid_values
from maml_tf.sources.source import BatchSource, Draws, Recipes

_OF_THE_RUN = tf.int64.max   # in place of an iteration


class SingleSinusoids(BatchSource):
  """Points of `num_nets` sinusoids, new ones in every batch.

  Amplitudes, phases and abscissae come from the distributions of `SinusoidSource`.

  Args:
    num_nets: how many sinusoids.
    num_points: of each one in a batch.
    dtype: of inputs and targets, `[num_nets, num_points, 1]`.
  """

  def __init__(self, num_nets: int, num_points: int, dtype: str = 'float32'):
    self._num_nets = num_nets
    self._num_points = num_points
    self._dtype = dtype

  def draw(self, seed: tf.Tensor) -> Recipes:
    of_the_run = Draws(tf.stack([seed[0], tf.constant(_OF_THE_RUN, tf.int64)]))
    return {
        'amplitude': of_the_run.uniform([self._num_nets], *AMPLITUDES),
        'phase': of_the_run.uniform([self._num_nets], *PHASES),
        'x': Draws(seed).uniform([self._num_nets, self._num_points], *ABSCISSAE),
    }

  def materialise(self, recipes: Mapping[str, tf.Tensor]) -> Episodes:
    targets = tf.cast(sinusoid_values(recipes)[..., tf.newaxis], self._dtype)
    inputs = tf.cast(recipes['x'][..., tf.newaxis], self._dtype)
    return Episodes.of(inputs, targets, inputs, targets)
