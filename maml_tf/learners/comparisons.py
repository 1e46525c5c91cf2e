"""Comparisons with a fixed support set as layers of Keras alone, for files that are loaded
without this package.

Each function takes the symbolic features of a net and gives symbolic probabilities. What is
compared with are the weights of the layers.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import tensorflow as tf

layers = tf.keras.layers


def nearest(scale: float, prototypes: np.ndarray, features: Any) -> Any:
  """The softmax over minus the squared distances to `[N, features]`, times `scale`: |f|^2,
  which all classes have in common, is left out."""
  return _weighed(layers.Dense(len(prototypes), 'softmax', dtype=prototypes.dtype.name),
                  [2 * scale * prototypes.T, -scale * np.sum(prototypes ** 2, axis=1)],
                  features)


def matched(scale: float, support: np.ndarray, is_of_class: np.ndarray, features: Any) -> Any:
  """The sum over a class of the softmax of cosines.

  Args:
    scale: of the cosines.
    support: `[examples, features]`.
    is_of_class: `[examples, N]`, how much each counts.
  """
  dtype = support.dtype.name
  normed = layers.UnitNormalization(dtype=dtype)(features)
  lengths = np.sqrt(np.maximum(np.sum(support ** 2, axis=1), 1e-12))   # as tf.math's
  shares = _weighed(layers.Dense(len(support), 'softmax', dtype=dtype),
                    [scale * (support / lengths[:, np.newaxis]).T,
                     np.log(np.sum(is_of_class, axis=1))], normed)
  return _weighed(layers.Dense(is_of_class.shape[1], use_bias=False, dtype=dtype),
                  [(is_of_class > 0).astype(dtype)], shares)


def read(kernel: np.ndarray, bias: np.ndarray, support: np.ndarray, features: Any, steps: int
         ) -> Any:
  """Features with full context, by an LSTM that reads from the support set: see `Matching`.

  Args:
    kernel, bias: of the LSTM: gates i, f, o and the new value, one behind the other.
    support: `[examples, features]`, in context.
  """
  dtype, size = support.dtype.name, support.shape[1]
  gates = [layers.Dense(size, activation, dtype=dtype)
           for activation in ('sigmoid', 'sigmoid', 'sigmoid', 'tanh')]
  attention = layers.Dense(len(support), 'softmax', use_bias=False, dtype=dtype)
  reading = layers.Dense(size, use_bias=False, dtype=dtype)
  hidden = cell = got = layers.Rescaling(0.0, dtype=dtype)(features)
  for _ in range(steps):
    seen = layers.Concatenate(dtype=dtype)([features, hidden, got])
    let_in, keep, let_out, new = (gate(seen) for gate in gates)
    cell = layers.Add(dtype=dtype)([_product(keep, cell), _product(let_in, new)])
    output = _product(let_out, layers.Activation('tanh', dtype=dtype)(cell))
    hidden = layers.Add(dtype=dtype)([output, features])
    got = reading(attention(hidden))
  for gate, *weights in zip(gates, np.split(kernel, 4, axis=1), np.split(bias, 4)):
    gate.set_weights(weights)
  attention.set_weights([support.T])
  reading.set_weights([support])
  return hidden


def most_similar(kernel: np.ndarray, bias: np.ndarray, support: np.ndarray,
                 is_of_class: np.ndarray, features: Any) -> Any:
  """The softmax over the largest logit of a class: see `Siamese`.

  Args:
    kernel, bias: `[features, 1]`, `[1]`, of the logit of a pair.
    support, is_of_class: `[examples, features]`, `[examples, N]`.
  """
  dtype, (examples, size) = support.dtype.name, support.shape
  differences = _weighed(
      layers.EinsumDense('bef,ef->bef', (examples, size), bias_axes='ef', dtype=dtype),
      [np.ones_like(support), -support],
      layers.RepeatVector(examples, dtype=dtype)(features))
  # |x| is relu(x) + relu(-x).
  distances = _weighed(layers.PReLU(shared_axes=[1, 2], dtype=dtype), [-np.ones([1, 1])],
                       differences)
  logits = _weighed(layers.Dense(1, dtype=dtype), [kernel, bias], distances)
  members = _members(is_of_class)
  chosen = _weighed(layers.Dense(members.size, use_bias=False, dtype=dtype),
                    [np.eye(examples)[:, members.ravel()]],
                    layers.Reshape([examples], dtype=dtype)(logits))
  by_class = layers.Reshape(members.shape, dtype=dtype)(chosen)
  return layers.Softmax(dtype=dtype)(layers.GlobalMaxPooling1D(dtype=dtype)(by_class))


def _members(is_of_class: np.ndarray) -> np.ndarray:
  """`[most examples of a class, N]`: the support examples of each class; where one has fewer,
  its first again."""
  of_classes = [np.flatnonzero(column) for column in is_of_class.T]
  most = max(len(members) for members in of_classes)
  return np.stack([np.concatenate([members, [members[0]] * (most - len(members))])
                   for members in of_classes], axis=1).astype(int)


def _product(*values: Any) -> Any:
  return layers.Multiply(dtype=values[0].dtype)(list(values))


def _weighed(layer: Any, weights: Sequence[np.ndarray], inputs: Any) -> Any:
  """What a new layer with these weights gives."""
  outputs = layer(inputs)
  layer.set_weights([np.asarray(value) for value in weights])
  return outputs
