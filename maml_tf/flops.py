"""How much arithmetic a forward pass is, as TensorFlow's profiler counts it."""

from __future__ import annotations

from typing import Sequence

import tensorflow as tf

from maml_tf.learners.base import Learner
from maml_tf.tensorflow_log import quiet_tensorflow

# Everything else is element by element, and small beside these.
_PRODUCTS = ('Conv2D', 'Conv3D', 'DepthwiseConv2dNative', 'MatMul')


def flop_per_example(learner: Learner, example_shape: Sequence[int]) -> int:
  """Of one forward pass: 2 for each multiply-add of its convolutions and products.

  Args:
    learner: a net whose input is one tensor.
    example_shape: of one example.

  Example:
    >>> from maml_tf import FullyConnected
    >>> flop_per_example(FullyConnected(1, (40, 40), 1, norm='None'), [1])
    3360
  """
  parameters = {spec.name: tf.TensorSpec(spec.shape) for spec in learner.parameter_specs}
  graph = tf.function(learner, autograph=False).get_concrete_function(
      parameters, tf.TensorSpec([1, 1, *example_shape])).graph
  profiler = tf.compat.v1.profiler
  options = (profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
             .with_empty_output().build())
  with quiet_tensorflow():   # the profiler's own, of a function that it should not use
    return sum(_counted(profiler.profile(graph, cmd='op', options=options)))


def _counted(node):
  if node.name in _PRODUCTS:
    yield node.float_ops
  for child in node.children:
    yield from _counted(child)
