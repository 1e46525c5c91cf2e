"""Derivatives of a policy's net along many directions, at the same parameters and samples.

Conjugate gradients ask for a dozen products with the same matrix. What all of them share,
one pass forward and one backward, is computed once and kept; a product is then six products
of matrices a layer for a loss's Hessian, and four for a Fisher matrix. A tape in a forward
accumulator computes it anew for each, takes nine, and as much time again between them.

A dot marks a derivative along the direction: x' of what a layer sees, W' of its kernel (the
direction's own), d' of d, the gradient of the loss by what the layer gives.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import tensorflow as tf

from maml_tf.learners.base import Parameters
from maml_tf.rl.policy import CONTEXT, Outputs, Policy

# Of what describes the distributions, the loss of each task, `[tasks]`.
Loss = Callable[[Outputs], tf.Tensor]


class Passes(NamedTuple):
  """What is kept of a group of tasks.

  Attributes:
    seen: by each layer, `[tasks, samples, size]`.
    raw: what the last one gives.
    deltas: d of each layer; () where no loss was asked for.
  """
  seen: Tuple[tf.Tensor, ...]
  raw: tf.Tensor
  deltas: Tuple[tf.Tensor, ...]


def passes(policy: Policy, points: tf.Tensor, observations: tf.Tensor,
           loss: Optional[Loss] = None) -> Passes:
  """Forward, and with a loss backward, too.

  Args:
    policy: the net.
    points: its parameters, `[tasks, P]`.
    observations: `[tasks, samples, size]`.
    loss: whose Hessian is asked for.
  """
  parameters = policy.split_tensor(points)
  seen, raw = policy.net(parameters, observations)
  if loss is None:
    return Passes(seen, raw, ())
  upstream = _loss_gradients(policy, raw, parameters, loss)[0]
  return Passes(seen, raw, _deltas(policy.layers, parameters, seen, upstream))


def hessian_product(policy: Policy, points: tf.Tensor, kept: Passes, loss: Loss,
                    vectors: tf.Tensor) -> tf.Tensor:
  """The Hessian of each task's loss times its vector, `[tasks, P]`."""
  parameters, directions = policy.split_tensor(points), policy.split_tensor(vectors)
  moving, raw_moves = _pushed(policy.layers, parameters, directions, kept.seen)
  with tf.autodiff.ForwardAccumulator(
      _ways(policy, kept.raw, parameters), _ways(policy, raw_moves, directions)) as forward:
    gradients = _loss_gradients(policy, kept.raw, parameters, loss)
  upstream, *of_further = (forward.jvp(value, unconnected_gradients='zero')
                           for value in gradients)
  products = _second(policy.layers, parameters, directions, kept, moving, upstream)
  return policy.joined({**products, **dict(zip(policy.further, of_further))})


def fisher_product(policy: Policy, points: tf.Tensor, kept: Passes, weights: tf.Tensor,
                   vectors: tf.Tensor) -> tf.Tensor:
  """The Fisher matrix of each task's samples times its vector, `[tasks, P]`.

  Args:
    weights: `[tasks, samples]`, of the samples.
    policy, points, kept, vectors: as of `hessian_product`.
  """
  parameters, directions = policy.split_tensor(points), policy.split_tensor(vectors)
  _, raw_moves = _pushed(policy.layers, parameters, directions, kept.seen)
  ways = _ways(policy, kept.raw, parameters)
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(ways)
    with tf.autodiff.ForwardAccumulator(ways, _ways(policy, raw_moves, directions)) as forward:
      outputs = policy.described(kept.raw, parameters)
    moves = tuple(forward.jvp(output, unconnected_gradients='zero') for output in outputs)
  upstream, *of_further = tape.gradient(
      outputs, ways, output_gradients=policy.fisher_product(outputs, moves, weights))
  deltas = _deltas(policy.layers, parameters, kept.seen, upstream)
  products = _first(policy.layers, parameters, kept.seen, deltas)
  return policy.joined({**products, **dict(zip(policy.further, of_further))})


def _ways(policy: Policy, raw: tf.Tensor, values: Mapping[str, tf.Tensor]) -> List[tf.Tensor]:
  """What the distributions depend on: the net's outputs, and the parameters beside it."""
  return [raw, *(values[name] for name in policy.further)]


def _loss_gradients(policy: Policy, raw: tf.Tensor, parameters: Mapping[str, tf.Tensor],
                    loss: Loss) -> List[tf.Tensor]:
  """By each of `_ways`."""
  ways = _ways(policy, raw, parameters)
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(ways)
    losses = loss(policy.described(raw, parameters))
  return tape.gradient(losses, ways, unconnected_gradients='zero')


def _pushed(layers: Sequence[str], parameters: Parameters, directions: Parameters,
            seen: Sequence[tf.Tensor]) -> Tuple[List[Optional[tf.Tensor]], tf.Tensor]:
  """x' of each layer, None where it is 0, and that of what the last one gives."""
  moves, moving = None, []
  if CONTEXT in directions:
    context = directions[CONTEXT][:, tf.newaxis]
    moves = tf.repeat(context, tf.shape(seen[0])[1], axis=1)
    moves = tf.pad(moves, [[0, 0], [0, 0], [seen[0].shape[-1] - context.shape[-1], 0]])
  for scope, values, behind in zip(layers, seen, (*seen[1:], None)):
    moving.append(moves)
    given = (tf.matmul(values, directions[f'{scope}/kernel'])
             + directions[f'{scope}/bias'][:, tf.newaxis])
    if moves is not None:
      given += tf.matmul(moves, parameters[f'{scope}/kernel'])
    moves = given if behind is None else _let_through(given, behind)
  return moving, moves


def _deltas(layers: Sequence[str], parameters: Parameters, seen: Sequence[tf.Tensor],
            upstream: tf.Tensor) -> Tuple[tf.Tensor, ...]:
  """d of each layer, from that of the last one."""
  deltas = [upstream]
  for scope, values in zip(layers[:0:-1], seen[:0:-1]):
    deltas.append(_let_through(_back(deltas[-1], parameters, scope), values))
  return tuple(deltas[::-1])


def _first(layers: Sequence[str], parameters: Parameters, seen: Sequence[tf.Tensor],
           deltas: Sequence[tf.Tensor]) -> Dict[str, tf.Tensor]:
  """Gradients by the parameters of the net."""
  found = {}
  for scope, values, delta in zip(layers, seen, deltas):
    found[f'{scope}/kernel'] = tf.matmul(values, delta, transpose_a=True)
    found[f'{scope}/bias'] = tf.reduce_sum(delta, axis=1)
  return _with_context(found, parameters, _back(deltas[0], parameters, layers[0]))


def _second(layers: Sequence[str], parameters: Parameters, directions: Parameters,
            kept: Passes, moving: Sequence[Optional[tf.Tensor]], upstream: tf.Tensor
            ) -> Dict[str, tf.Tensor]:
  """The derivatives of `_first`. ReLU's own second derivative is 0."""
  found, moves = {}, upstream
  for scope, values, delta, values_move in zip(
      layers[::-1], kept.seen[::-1], kept.deltas[::-1], moving[::-1]):
    kernel = tf.matmul(values, moves, transpose_a=True)
    if values_move is not None:
      kernel += tf.matmul(values_move, delta, transpose_a=True)
    found[f'{scope}/kernel'] = kernel
    found[f'{scope}/bias'] = tf.reduce_sum(moves, axis=1)
    by_seen = _back(moves, parameters, scope) + _back(delta, directions, scope)
    moves = _let_through(by_seen, values)
  return _with_context(found, parameters, by_seen)


def _with_context(found: Dict[str, tf.Tensor], parameters: Parameters,
                  by_inputs: tf.Tensor) -> Dict[str, tf.Tensor]:
  """And by the context, which stands behind all observations. Where there is none a graph
  does not compute `by_inputs`."""
  if CONTEXT in parameters:
    size = parameters[CONTEXT].shape[-1]
    found[CONTEXT] = tf.reduce_sum(by_inputs[..., -size:], axis=1)
  return found


def _back(delta: tf.Tensor, parameters: Parameters, scope: str) -> tf.Tensor:
  return tf.matmul(delta, parameters[f'{scope}/kernel'], transpose_b=True)


def _let_through(values: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
  """Where a ReLU gave `by`."""
  return tf.raw_ops.ReluGrad(gradients=values, features=by)
