"""A function of a meta-batch, computed for one group of its tasks after the other."""

from __future__ import annotations

import collections
from typing import Any, Callable, Tuple

import tensorflow as tf

from maml_tf.episodes import num_tasks
from maml_tf.replicas import replica_number
from maml_tf.task_groups import TaskGroups

# Shapes of meta-batches whose graphs are kept for the next call.
KEPT = 8


class InGroups:
  """`function`, of which a graph is made once for each shape of a group.

  Args:
    function: (parameters, group, *static) -> a nest of tensors.
    in_a_graph: also where there is one group alone.
  """

  def __init__(self, function: Callable[..., Any], in_a_graph: bool = False):
    self._function = function
    self._in_a_graph = in_a_graph
    self._graphs: collections.OrderedDict = collections.OrderedDict()

  def __call__(self, parameters: Any, batch: Any, groups: TaskGroups, *static: Any) -> Any:
    """Its results with a leading axis of groups.

    Args:
      parameters: handed to every call.
      batch: nest of `[tasks, ...]`.
      groups: how the tasks are divided.
      *static: numbers, another graph for each.
    """
    tasks, (size, side_by_side) = num_tasks(batch), groups
    if size is None or (size == tasks
                        and not (self._in_a_graph and tf.executing_eagerly())):
      return tf.nest.map_structure(lambda value: value[tf.newaxis],
                                   self._function(parameters, batch, *static))
    # One task each needs no sizes, which data of one's own may leave open.
    batch = tf.nest.map_structure(lambda value: value[:, tf.newaxis] if size == 1 else
                                  tf.reshape(value, [tasks // size, size]
                                             + value.shape[1:].as_list()), batch)
    graph = self._graph_for(parameters, batch, static)
    signature = tf.nest.map_structure(lambda value: tf.TensorSpec(value.shape, value.dtype),
                                      graph.structured_outputs)
    return tf.map_fn(lambda group: graph(parameters, group), batch,
                     parallel_iterations=1 if tf.executing_eagerly() else side_by_side,
                     fn_output_signature=signature)

  def _graph_for(self, parameters: Any, batch: Any, static: Tuple[Any, ...]):
    """A graph of its own: what it returns has to be known, and making it takes seconds."""
    specs = (tf.nest.map_structure(lambda value: tf.TensorSpec(value.shape, value.dtype),
                                   parameters),
             tf.nest.map_structure(lambda value: tf.TensorSpec(value.shape[1:], value.dtype),
                                   batch))
    key = (replica_number(), *static, *tf.nest.flatten(specs))
    if key not in self._graphs:
      function = tf.function(lambda *given: self._function(*given, *static),
                             autograph=False)
      self._graphs[key] = function.get_concrete_function(*specs)
    self._graphs.move_to_end(key)
    while len(self._graphs) > KEPT:
      self._graphs.popitem(last=False)
    return self._graphs[key]
