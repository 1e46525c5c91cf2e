"""Calls of NumPy in a graph, which are let go with it, and whose errors arrive as they are."""

from __future__ import annotations

import collections
import contextlib
import copy
import functools
import weakref
from typing import Any, Callable, Deque, Iterator, Sequence

import tensorflow as tf

from maml_tf.errors import UserError

# What calls raised lately, which TensorFlow makes errors of its own of.
_raised: Deque[UserError] = collections.deque(maxlen=8)


@tf.autograph.experimental.do_not_convert
def numpy_function(function: Callable, inputs: Sequence[tf.Tensor], dtypes: Any) -> Any:
  """As `tf.numpy_function(..., stateful=False)`, for a function that holds arrays.

  In a graph TensorFlow has the process's outermost graph keep each function that was traced,
  for ever, and with it what it closes over (script_ops.py, `_py_funcs_used_in_graph`). Here
  that knows it weakly, and the graphs in which it is called keep it: a dataset has the graph
  of each of its functions.

  What the function raises is an error of TensorFlow where the graph is run; see `as_raised`.
  """
  function = _noting(function)
  if not tf.executing_eagerly():
    function = _kept_by_its_graphs(function)
  return tf.numpy_function(function, inputs, dtypes, stateful=False)


@contextlib.contextmanager
def as_raised() -> Iterator[None]:
  """Makes the `UserError` of a call out of TensorFlow's error about it."""
  try:
    yield
  except tf.errors.OpError as error:
    for raised in reversed(_raised):
      if str(raised) in str(error):
        raise raised from None
    raise


def _noting(function: Callable) -> Callable:
  @functools.wraps(function)
  def call(*arrays):
    try:
      return function(*arrays)
    except UserError as error:
      _raised.append(copy.copy(error))   # without the frames, which hold the arrays
      raise
  return call


def _kept_by_its_graphs(function: Callable) -> Callable:
  graph, kept, reference = tf.compat.v1.get_default_graph(), False, weakref.ref(function)
  while hasattr(graph, 'outer_graph'):   # only those of functions have one
    if not hasattr(graph, '_maml_tf_functions'):
      graph._maml_tf_functions = []
    graph._maml_tf_functions.append(function)
    graph, kept = graph.outer_graph, True
  return (lambda *arrays: reference()(*arrays)) if kept else function
