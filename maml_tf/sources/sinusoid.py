"""Sinusoid regression (section 5.1)."""

from __future__ import annotations

import math
from typing import Mapping

import tensorflow as tf

from maml_tf.episodes import Episodes
from maml_tf.sources.source import BLOCK, Draws, EpisodeSource, Recipes

AMPLITUDES = (0.1, 5.0)
PHASES = (0.0, math.pi)
ABSCISSAE = (-5.0, 5.0)


class SinusoidSource(EpisodeSource):
  """Tasks y = amplitude * sin(x - phase).

  Amplitude from U[0.1, 5.0], phase from U[0, pi], x from U[-5.0, 5.0].

  Args:
    support_size: K, points in the support set.
    query_size: points in the query set.
    oracle: the inputs are (x, amplitude, phase) instead of x alone.
    dtype: of inputs and targets.
  """

  def __init__(self, support_size: int, query_size: int, oracle: bool = False,
               dtype: str = 'float32'):
    self._support_size = support_size
    self._query_size = query_size
    self._oracle = oracle
    self._dtype = dtype

  @property
  def data_identity(self) -> str:
    return f'sinusoid/{self._support_size} support points'

  def draw(self, seed: tf.Tensor) -> Recipes:
    draws = Draws(seed)
    return {
        'amplitude': draws.uniform([BLOCK], *AMPLITUDES),
        'phase': draws.uniform([BLOCK], *PHASES),
        'x': draws.uniform([BLOCK, self._support_size + self._query_size], *ABSCISSAE),
    }

  def materialise(self, recipes: Mapping[str, tf.Tensor]) -> Episodes:
    targets = tf.cast(sinusoid_values(recipes)[..., tf.newaxis], self._dtype)
    x = tf.cast(recipes['x'], tf.float64)
    columns = [x]
    if self._oracle:
      columns += [
          tf.broadcast_to(tf.cast(recipes[name][:, tf.newaxis], tf.float64), tf.shape(x))
          for name in ('amplitude', 'phase')]
    inputs = tf.cast(tf.stack(columns, axis=-1), self._dtype)
    support = self._support_size
    return Episodes.of(inputs[:, :support], targets[:, :support],
                    inputs[:, support:], targets[:, support:])


def sinusoid_values(recipes: Mapping[str, tf.Tensor]) -> tf.Tensor:
  """amplitude * sin(x - phase), `[tasks, points]`, float64."""
  # In float64: the last bit of a float32 sine depends on its place in the batch.
  amplitude, phase, x = (tf.cast(recipes[name], tf.float64)
                         for name in ('amplitude', 'phase', 'x'))
  return amplitude[:, tf.newaxis] * tf.sin(x - phase[:, tf.newaxis])
