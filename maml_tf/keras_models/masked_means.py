"""Means of values of which masks say how much they count."""

from __future__ import annotations

from typing import Optional, Tuple

import tensorflow as tf

from maml_tf.errors import ConfigError


def mean(values: tf.Tensor, mask: Optional[tf.Tensor]) -> tf.Tensor:
  """Over all values, or those that the mask counts; 0 where it counts none."""
  return tf.reduce_mean(values) if mask is None else tf.math.divide_no_nan(
      *sums(tf.convert_to_tensor(values), mask))


def sums(values: tf.Tensor, *masks: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
  """Of the values that count, and of how much they do."""
  weights = tf.ones_like(values)
  for one in masks:
    weights *= 1 if one is None else _weights(one, values)
  return tf.reduce_sum(values * weights), tf.reduce_sum(weights)


def _weights(mask: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
  """`mask` as factors of `values`, over whose axes behind its own it is the same."""
  further = values.shape.rank - mask.shape.rank
  if further < 0 and values.shape.rank:
    raise ConfigError(
        f'The loss gives values {list(values.shape)} for outputs with a mask '
        f'{list(mask.shape)}: a loss of masked outputs is to give a value for each place of '
        'the mask, or one for all.')
  mask = tf.cast(mask, values.dtype)
  return mask if further < 0 else tf.reshape(
      mask, tf.concat([tf.shape(mask), tf.ones([further], tf.int32)], 0))
