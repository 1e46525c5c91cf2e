"""Gradients against central differences in float64, for the tests of meta-learners."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

STEP = 2e-6
# Relative; round-off of the differences is about 1e-9 of the largest element.
TOLERANCE = 1e-6
NOISE = 1e-8


class FlatFunction:
  """A loss of {name: array} as a function of one vector, and its differences."""

  def __init__(self, loss, values):
    self._names = list(values)
    self._shapes = [values[name].shape for name in self._names]
    self.point = self.flat(values)
    self._loss = tf.function(lambda vector: loss(self._unflat(vector)), autograph=False)

  def flat(self, values) -> np.ndarray:
    return np.concatenate([np.ravel(values[name]) for name in self._names])

  def derivative(self, direction: np.ndarray) -> float:
    """Central difference along `direction`."""
    ahead = self._loss(tf.constant(self.point + STEP * direction))
    behind = self._loss(tf.constant(self.point - STEP * direction))
    return float(ahead - behind) / (2 * STEP)

  def slices(self):
    """(name, slice of the vector) of every parameter."""
    ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
    return [(name, slice(end - int(np.prod(shape)), end))
            for name, shape, end in zip(self._names, self._shapes, ends)]

  def _unflat(self, vector):
    sizes = [int(np.prod(shape)) for shape in self._shapes]
    return {name: tf.reshape(part, shape) for name, part, shape
            in zip(self._names, tf.split(vector, sizes), self._shapes)}


def meta_loss(model, episodes):
  def loss(parameters):
    return tf.reduce_mean(model.task_objectives(parameters, episodes)['loss'])
  return FlatFunction(loss, model.meta_parameters.arrays())


def gradient_of(model, episodes):
  _, gradients = model.meta_gradient(episodes)
  return {name: value.numpy() for name, value in gradients.items()}


def directions_of(function):
  """(what, unit vector): through all parameters, through each, single coordinates."""
  random = np.random.RandomState(7)
  size = len(function.point)

  def within(part):
    direction = np.zeros(size)
    direction[part] = random.normal(size=len(direction[part]))
    return direction / np.linalg.norm(direction)
  for _ in range(4):
    yield 'all parameters', within(slice(0, size))
  for name, part in function.slices():
    yield name, within(part)
    coordinates = np.arange(part.start, part.stop)
    for index in random.choice(coordinates, min(2, len(coordinates)), replace=False):
      yield f'coordinate {index - part.start} of {name}', np.eye(1, size, index)[0]


def assert_is_gradient(gradients, function):
  """`gradients` against differences of `function` in many directions."""
  gradient = function.flat(gradients)
  assert np.abs(gradient).max() > 1e-3
  for what, direction in directions_of(function):
    np.testing.assert_allclose(
        gradient @ direction, function.derivative(direction), rtol=TOLERANCE,
        atol=NOISE * np.abs(gradient).max(), err_msg=what)
