"""Operations whose second derivative TensorFlow has wrong or not at all, in exact forms.

Keras, and most layers of one's own, look these up in TensorFlow's modules when they are
called: within `exact` they find the forms below.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Iterator, Sequence

import numpy as np
import tensorflow as tf

from maml_tf.keras_models.inner_layers import attributes
from maml_tf.learners.moments import moments as moments_of_adjacent_axes

# Of `tf.nn` there are several module objects. Keras 2 takes the second one.
_NN = (tf.nn, tf.compat.v2.nn, tf.compat.v1.nn)
_MATH = (tf.math, tf.compat.v2.math, tf.compat.v1.math)
_IMAGE = (tf.image, tf.compat.v2.image)
_NN_2 = (tf.nn, tf.compat.v2.nn)   # that of version 1 takes labels as constants
_RESIZE = tf.image.resize
_CROSS_ENTROPY = tf.nn.softmax_cross_entropy_with_logits
_TF = (tf, tf.compat.v2, tf.compat.v1)


@contextlib.contextmanager
def exact() -> Iterator[None]:
  """Within, graphs are traced with the exact forms.

  `tf.recompute_grad`, which Keras 3's `RematScope` takes, becomes the function itself, with
  more memory: it gives gradients to its arguments and to variables that it reads, and none to
  the tensors that are read in their place here.
  """
  changes = [(module, 'moments', moments) for module in _NN]
  changes += [(module, 'softsign', softsign) for module in (*_NN, *_MATH)]
  changes += [(module, 'softmax_cross_entropy_with_logits',
               softmax_cross_entropy_with_logits) for module in _NN_2]
  changes += [(module, 'resize', resize) for module in _IMAGE]
  changes += [(module, 'recompute_grad', lambda function: function) for module in _TF]
  with attributes(changes):
    yield


def moments(x, axes, shift=None, keepdims=False, name=None, keep_dims=None):
  """`tf.nn.moments`, which stops the gradient of the mean within the variance."""
  keepdims = bool(keepdims or keep_dims)
  x = tf.convert_to_tensor(x)
  axes = _as_list(axes, x.shape.rank)
  values = tf.cast(x, tf.float32) if x.dtype in (tf.float16, tf.bfloat16) else x
  if axes == list(range(axes[0], axes[0] + len(axes))):
    mean, variance = moments_of_adjacent_axes(values, axes)
  else:
    mean = tf.reduce_mean(values, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(values, mean), axes,
                              keepdims=True)
  if not keepdims:
    mean, variance = tf.squeeze(mean, axes), tf.squeeze(variance, axes)
  return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)


def softsign(features, name=None):
  """`tf.nn.softsign`, whose derivative has none."""
  features = tf.convert_to_tensor(features)
  return features / (1 + tf.abs(features))


def softmax_cross_entropy_with_logits(labels, logits, axis=-1, name=None):
  """The one of `tf.nn`, of whose derivative by the logits TensorFlow takes none by the labels:
  it counts where these come of the net, too, as in the entropy of its own answers."""
  logits = tf.convert_to_tensor(logits)
  labels = tf.cast(labels, logits.dtype)
  constant = tf.stop_gradient(labels)
  # Behind the first sum are zeros, which have derivatives.
  return _CROSS_ENTROPY(constant, logits, axis, name) + tf.reduce_sum(
      tf.math.multiply_no_nan(tf.nn.log_softmax(logits, axis), constant - labels), axis)


def resize(images, size, method='bilinear', preserve_aspect_ratio=False, antialias=False,
           name=None):
  """`tf.image.resize`, of whose derivatives some have none, and one is silently 0.

  Every method is linear in the rows, and in the columns: two products with matrices. The
  result has the type of `images`, if that is a floating one. Where a size is not known
  while tracing, it is left to TensorFlow, and refused behind.
  """
  images = tf.convert_to_tensor(images)
  height, width = images.shape[-3], images.shape[-2]
  known = tf.get_static_value(tf.convert_to_tensor(size))
  if known is None or preserve_aspect_ratio:     # a size that is computed
    resized = _RESIZE(images, size, method, preserve_aspect_ratio, antialias, name)
    known = resized.shape[-3:-1]
  if None in (height, width, *known):
    return _RESIZE(images, size, method, preserve_aspect_ratio, antialias, name)
  dtype = images.dtype
  if not dtype.is_floating and method != 'nearest':
    dtype = tf.float32
  rows = _matrix(height, int(known[0]), method, antialias)
  columns = _matrix(width, int(known[1]), method, antialias)
  if not dtype.is_floating:      # a choice of pixels
    return tf.gather(tf.gather(images, rows.argmax(1), axis=-3), columns.argmax(1), axis=-2)
  return tf.einsum('oh,...hwc,pw->...opc', tf.cast(rows, dtype), tf.cast(images, dtype),
                   tf.cast(columns, dtype))


@functools.lru_cache(maxsize=64)
def _matrix(size: int, resized: int, method: str, antialias: bool) -> np.ndarray:
  """`[resized, size]`: what becomes of a line of pixels."""
  with tf.init_scope():
    line = tf.reshape(tf.eye(size), [1, size, 1, size])
    return _RESIZE(line, [resized, 1], method, antialias=antialias).numpy()[0, :, 0]


def _as_list(axes: Any, rank: int) -> Sequence[int]:
  axes = np.ravel(tf.get_static_value(tf.convert_to_tensor(axes)))
  return sorted(int(axis) % rank for axis in axes)
