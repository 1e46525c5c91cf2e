"""Calls of NumPy in a graph, which are let go with it."""

from __future__ import annotations

import weakref
from typing import Any, Callable, Sequence

import tensorflow as tf


@tf.autograph.experimental.do_not_convert
def numpy_function(function: Callable, inputs: Sequence[tf.Tensor], dtypes: Any) -> Any:
  """As `tf.numpy_function(..., stateful=False)`, for a function that holds arrays.

  In a graph TensorFlow has the process's outermost graph keep each function that was traced,
  for ever, and with it what it closes over (script_ops.py, `_py_funcs_used_in_graph`). Here
  that knows it weakly, and the graphs in which it is called keep it: a dataset has the graph
  of each of its functions.
  """
  if not tf.executing_eagerly():
    function = _kept_by_its_graphs(function)
  return tf.numpy_function(function, inputs, dtypes, stateful=False)


def _kept_by_its_graphs(function: Callable) -> Callable:
  graph, kept, reference = tf.compat.v1.get_default_graph(), False, weakref.ref(function)
  while hasattr(graph, 'outer_graph'):   # only those of functions have one
    if not hasattr(graph, '_maml_tf_functions'):
      graph._maml_tf_functions = []
    graph._maml_tf_functions.append(function)
    graph, kept = graph.outer_graph, True
  return (lambda *arrays: reference()(*arrays)) if kept else function
