"""Nets by the name that `--model` gives them: residual nets of the field's papers, and one's
own."""

from __future__ import annotations

import contextlib
from typing import Iterator, Tuple

import numpy as np
import tensorflow as tf

from maml_tf import from_file
from maml_tf.errors import ConfigError
from maml_tf.keras_models.heads import learner_for
from maml_tf.keras_models.learner import KerasLearner

layers = tf.keras.layers


def learner_of(model: str, input_shape: Tuple[int, ...], outputs: int, seed: int,
               dtype: str = 'float32', method: str = 'maml') -> KerasLearner:
  """The net as a learner, with new values of that seed.

  Args:
    model: 'resnet12', 'resnet18', or FILE.py:NAME of a function (input_shape, outputs).
    input_shape: of one example.
    outputs: classes, or dimensions of a regression.
    seed: of the initial values; Keras's own generators are set to it.
    dtype: of layers that say none; 'float32': that of Keras's own settings.
    method: that it is for, one of `METHODS`, see `learner_for`.

  Raises:
    ConfigError: where a function of one's own gives something else, or what the method
      cannot take.
  """
  tf.keras.utils.set_random_seed(seed % 2**32)
  build = {'resnet12': resnet12, 'resnet18': resnet18}.get(model) or from_file.load(
      model, '--model')
  if not callable(build):
    raise ConfigError(f'--model={model} is no function (input_shape, outputs) -> Keras model. '
                      f'Received: {type(build).__name__}.')
  with layers_of_dtype(dtype):
    net = from_file.called(model, '--model', build, tuple(input_shape), outputs)
    _require_fitting(net, model, input_shape, outputs)
  if dtype != 'float32':
    _require_dtype(net, model, dtype)
  _require_no_softmax(net, model, input_shape)
  return learner_for(method, net, model)


@contextlib.contextmanager
def layers_of_dtype(dtype: str) -> Iterator[None]:
  """Layers that are made meanwhile are of this type where they say none themselves."""
  if dtype == 'float32':   # or what a file of one's own has chosen, 'mixed_bfloat16' say
    yield
    return
  keras = tf.keras
  before = keras.mixed_precision.global_policy(), keras.backend.floatx()
  keras.mixed_precision.set_global_policy(dtype)
  keras.backend.set_floatx(dtype)   # of inputs
  try:
    yield
  finally:
    keras.mixed_precision.set_global_policy(before[0])
    keras.backend.set_floatx(before[1])


def _require_dtype(net: tf.keras.Model, model: str, dtype: str) -> None:
  others = {tf.as_dtype(variable.dtype).name for variable in net.trainable_variables} - {dtype}
  if others:
    raise ConfigError(f'--dtype={dtype} does not fit --model={model}, which has variables of '
                      f'{", ".join(sorted(others))}: give that, or make its layers without a '
                      'dtype.')


def _require_fitting(net, model: str, input_shape: Tuple[int, ...], outputs: int) -> None:
  if not isinstance(net, tf.keras.Model):
    raise ConfigError(f'--model={model} must give a Keras model. Received: '
                      f'{type(net).__name__}.')
  # Builds it, where it is not yet.
  given = from_file.called(model, '--model', net, tf.zeros([2, *input_shape]))
  shape = tf.nest.map_structure(lambda value: tuple(value.shape), given)
  if shape != (2, outputs):
    raise ConfigError(f'--model={model} must give a model of [examples, {outputs}] outputs '
                      f'for inputs [examples, {", ".join(map(str, input_shape))}]. It gave '
                      f'{shape} of 2 examples.')


def _require_no_softmax(net: tf.keras.Model, model: str, input_shape: Tuple[int, ...]) -> None:
  """The losses take a softmax themselves, and of probabilities a second one would be taken: it
  would be trained, and badly, without an error."""
  inputs = np.random.RandomState(0).normal(size=(_TRIED, *input_shape))
  outputs = np.asarray(tf.cast(net(tf.constant(inputs, net.compute_dtype)), tf.float64))
  if (outputs >= 0).all() and np.allclose(outputs.sum(axis=-1), 1, rtol=0, atol=_ROUNDING):
    raise ConfigError(f'--model={model} gives probabilities, whose sum is 1, and the loss '
                      'takes the softmax itself: leave it out at the end of the net.')


_TRIED = 4         # inputs
_ROUNDING = 1e-2   # of a sum in bfloat16


def resnet12(input_shape: Tuple[int, ...], outputs: int, widths=(64, 128, 256, 512)
             ) -> tf.keras.Model:
  """ResNet-12 (Oreshkin, Rodriguez, Lacoste 2018, arXiv 1805.10123, supplement): four blocks
  of three 3x3 convolutions and a 1x1 shortcut, 2x2 max-pooling behind each, the mean over the
  last map. Without dropout; leaky ReLU of 0.1 in place of their swish."""
  inputs = values = layers.Input(input_shape)
  for width in widths:
    shortcut = _convolved(values, width, size=1)
    for last in (False, False, True):
      values = _convolved(values, width)
      values = values if last else layers.LeakyReLU(0.1)(values)
    values = layers.LeakyReLU(0.1)(layers.Add()([values, shortcut]))
    values = layers.MaxPooling2D()(values)
  return _classified(inputs, values, outputs, 'resnet12')


def resnet18(input_shape: Tuple[int, ...], outputs: int, widths=(64, 128, 256, 512)
             ) -> tf.keras.Model:
  """ResNet-18 (He, Zhang, Ren, Sun 2016, arXiv 1512.03385, table 1) for small images: a 3x3
  convolution in front, without pooling behind it; four times two blocks of two convolutions,
  the first of each but the first with stride 2."""
  inputs = layers.Input(input_shape)
  values = layers.ReLU()(_convolved(inputs, widths[0]))
  for place, width in enumerate(widths):
    for stride in (1 if place == 0 else 2, 1):
      shortcut = values if values.shape[-1] == width and stride == 1 else _convolved(
          values, width, size=1, stride=stride)
      values = layers.ReLU()(_convolved(values, width, stride=stride))
      values = layers.ReLU()(layers.Add()([_convolved(values, width), shortcut]))
  return _classified(inputs, values, outputs, 'resnet18')


def _convolved(values, width: int, size: int = 3, stride: int = 1):
  values = layers.Conv2D(width, size, stride, padding='same', use_bias=False)(values)
  return layers.BatchNormalization()(values)


def _classified(inputs, values, outputs: int, name: str) -> tf.keras.Model:
  values = layers.GlobalAveragePooling2D()(values)
  return tf.keras.Model(inputs, layers.Dense(outputs)(values), name=name)
