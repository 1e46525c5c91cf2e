"""Matching networks: labels of the support set, weighed by likeness."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.counts import require_count
from maml_tf.errors import ConfigError
from maml_tf.keras_models.front import learner_and_objective
from maml_tf.learners import comparisons
from maml_tf.learners.base import Parameters, ParameterSpec, glorot_uniform, zeros
from maml_tf.meta_learners import LARGEST_COSINE_SCALE
from maml_tf.meta_learners.without_inner_loop import (
  Embedded,
  WithoutInnerLoop,
  num_features,
)

_FORWARD, _BACKWARD, _READ = 'context/forward', 'context/backward', 'context/read'


class Matching(WithoutInnerLoop):
  """Matching networks (Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra 2016, arXiv
  1606.04080).

  The probability of a class is the sum of a(x, x_i) over its support examples (equation
  1), with a the softmax over the support set of the cosines of f(x) and g(x_i) (section
  2.1.1), and training minimises minus its logarithm (equation 2). Without
  `full_context` f and g are both the net.

  A cosine is at most 1, and at least 0 behind a ReLU, so that no class of five gets more than
  e / (e + 4) = 0.40. `cosine_scale` multiplies them (docs/methods.md has runs with both).

  With it (section 2.1.2, and A.1, A.2 of their appendix), an example's features depend on
  the support set: g(x_i) is the net's features and what LSTMs over the support set give at
  i, one in each direction (A.2); f(x) is what an LSTM holds after `read_steps` steps, in
  each of which it gets the features of x and reads from g(S) by attention (equations 3
  to 6):

    h^_k, c_k = LSTM(f'(x), [h_(k-1), r_(k-1)], c_(k-1))
    h_k = h^_k + f'(x)
    r_k = sum_i softmax_i(h_k . g(x_i)) g(x_i)

  Departures: batch norm's statistics, see `WithoutInnerLoop`. Their paper does not say how
  many steps; the order of the support set is that of the episode, in this project's one
  example of each class after the other; h_0, r_0 are 0.

  Args:
    learner, objective, shots, **kwargs: see `WithoutInnerLoop`.
    full_context: see above. The LSTMs are of the size of the features.
    read_steps: K above, 1 or more.
    cosine_scale: what the cosines are multiplied by, above 0, `LARGEST_COSINE_SCALE` at most,
      whose exponential float32 still holds. Their paper's is 1.

  Raises:
    ConfigError: for another `cosine_scale`, or `read_steps` below 1.
  """

  own_arguments = ('shots', 'full_context', 'cosine_scale')

  def __init__(self, learner: Any, objective: Any, *, full_context: bool = False,
               read_steps: int = 5, cosine_scale: float = 1.0, **kwargs):
    if not 0 < cosine_scale <= LARGEST_COSINE_SCALE:
      raise ConfigError(f'cosine_scale must be above 0, and {LARGEST_COSINE_SCALE} at most. '
                        f'Received: {cosine_scale}.')
    learner, objective = learner_and_objective(learner, objective)
    specs = _lstms(num_features(learner)) if full_context else ()
    super().__init__(learner, objective, own_specs=specs, **kwargs)
    self._full_context = full_context
    self._read_steps = require_count('read_steps', read_steps, least=1)
    self._cosine_scale = cosine_scale

  def logits(self, parameters: Parameters, tasks: Embedded) -> tf.Tensor:
    support, query = tasks.support, tasks.query
    if self._full_context:
      support = _in_context(parameters, support)
      query = _read(parameters, query, support, self._read_steps)
    cosines = tf.matmul(tf.math.l2_normalize(query, axis=-1),
                        tf.math.l2_normalize(support, axis=-1), transpose_b=True)
    # The logarithm of the sum of a's numerators; its denominator is the softmax's own.
    weights = tf.matmul(tf.exp(self._cosine_scale * cosines), tasks.is_of_class)
    return tf.math.log(weights)

  def kept(self, support, is_of_class):
    """All of it: a class's share is that of its mean example."""
    return support, is_of_class / tf.reduce_sum(is_of_class, axis=1, keepdims=True)

  def as_layers(self, parameters, support, is_of_class, features):
    if self._full_context:
      support = _in_context(parameters, support[np.newaxis])[0].numpy()
      features = comparisons.read(
          parameters[f'{_READ}/kernel'].numpy(), parameters[f'{_READ}/bias'].numpy(), support,
          features, self._read_steps)
    return comparisons.matched(self._cosine_scale, support, is_of_class, features)


def _lstms(size: int) -> Tuple[ParameterSpec, ...]:
  specs = []
  for scope, inputs in ((_FORWARD, 2), (_BACKWARD, 2), (_READ, 3)):
    specs += [ParameterSpec(f'{scope}/kernel', (inputs * size, 4 * size), glorot_uniform,
                            adapted=False),
              ParameterSpec(f'{scope}/bias', (4 * size,), zeros, adapted=False)]
  return tuple(specs)


def _cell(parameters: Parameters, scope: str, inputs: tf.Tensor, cell: tf.Tensor
          ) -> Tuple[tf.Tensor, tf.Tensor]:
  """(output, cell) of an LSTM. Args: inputs: all that it sees, `[..., n * size]`."""
  values = (tf.tensordot(inputs, parameters[f'{scope}/kernel'], 1)
            + parameters[f'{scope}/bias'])
  let_in, keep, let_out, new = tf.split(values, 4, axis=-1)
  cell = tf.sigmoid(keep) * cell + tf.sigmoid(let_in) * tf.tanh(new)
  return tf.sigmoid(let_out) * tf.tanh(cell), cell


def _in_context(parameters: Parameters, support: tf.Tensor) -> tf.Tensor:
  """g(x_i) of all support examples (A.2)."""
  return support + (_along(parameters, _FORWARD, support)
                    + _along(parameters, _BACKWARD, support[:, ::-1])[:, ::-1])


def _along(parameters: Parameters, scope: str, support: tf.Tensor) -> tf.Tensor:
  def step(state, example):
    output, cell = state
    return _cell(parameters, scope, tf.concat([example, output], axis=-1), cell)

  state = (tf.zeros_like(support[:, 0]),) * 2
  if support.shape[1] is None:   # of an exported function, which nobody differentiates
    outputs, _ = tf.scan(step, tf.transpose(support, [1, 0, 2]), state)
    return tf.transpose(outputs, [1, 0, 2])
  outputs = []
  for example in tf.unstack(support, axis=1):
    state = step(state, example)
    outputs.append(state[0])
  return tf.stack(outputs, axis=1)


def _read(parameters: Parameters, query: tf.Tensor, support: tf.Tensor, steps: int
          ) -> tf.Tensor:
  """f(x) of all query examples (A.1)."""
  hidden = cell = read = tf.zeros_like(query)
  for _ in range(steps):
    output, cell = _cell(parameters, _READ, tf.concat([query, hidden, read], axis=-1), cell)
    hidden = output + query
    attention = tf.nn.softmax(tf.matmul(hidden, support, transpose_b=True))
    read = tf.matmul(attention, support)
  return hidden
