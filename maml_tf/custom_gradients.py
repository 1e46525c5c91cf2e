"""`tf.custom_gradient` whose gradient functions are let go."""

from __future__ import annotations

import contextlib
import functools
import weakref
from typing import Any, Callable, Dict

import tensorflow as tf
from tensorflow.python.framework import ops


def custom_gradient(function):
  """As `tf.custom_gradient`, for functions of tensors.

  In a graph TensorFlow enters each gradient function into a registry of the process under
  a name of its own, 'CustomGradient-N', and never takes it out. What the function closes
  over, the graph, is then kept for ever (tensorflow issues 27492, 97697, 124972). Here
  the graph keeps the function, and the registry has its name only as long as there is the
  graph. TensorFlow offers no other way: a gradient that is registered once, and chosen by
  `tf.Graph.gradient_override_map`, is not seen by `tf.GradientTape`.
  """
  differentiable = tf.custom_gradient(function)

  @functools.wraps(function)
  def call(*arguments):
    outputs = differentiable(*arguments)
    if not tf.executing_eagerly():
      op = tf.nest.flatten(outputs)[0].op   # which it adds behind the function
      _let_it_keep(op.graph, op.get_attr('_gradient_op_type').decode())
    return outputs
  return call


@contextlib.contextmanager
def others_are_let_go():
  """The same for those of libraries that are called within, as an all-reduce of Keras 3."""
  before = set(_registry())
  yield
  if not tf.executing_eagerly():
    for name in set(_registry()) - before:
      if name.startswith('CustomGradient-'):
        _let_it_keep(tf.compat.v1.get_default_graph(), name)


def _let_it_keep(graph: tf.Graph, name: str) -> None:
  """Args: name: of a gradient function in the registry that closes over `graph`."""
  entry, reference = _registry()[name], weakref.ref(graph)
  _held_by(graph)[name] = entry['type']
  entry['type'] = lambda op, *upstream: _held_by(reference())[name](op, *upstream)
  weakref.finalize(graph, _registry().pop, name, None)


def _held_by(graph: tf.Graph) -> Dict[str, Callable]:
  """{name: gradient function} of a graph."""
  if not hasattr(graph, '_maml_tf_gradients'):
    graph._maml_tf_gradients = {}
  return graph._maml_tf_gradients


def _registry() -> Dict[str, Dict[str, Any]]:
  return ops.gradient_registry._registry
