"""Counted arithmetic, against the shapes."""

from __future__ import annotations

import pytest
import tensorflow as tf

from maml_tf.episodes import Episodes
from maml_tf.flops import flop_per_example
from maml_tf.learners import Convolutional, FullyConnected, WithContext
from maml_tf.meta_learners.maml import MAML
from maml_tf.meta_learners.maml_plus_plus import MAMLPlusPlus
from maml_tf.objectives import ScaledCrossEntropy
from maml_tf.tensorflow_log import quiet_tensorflow

OMNIGLOT = 9 * (14 * 14 * 64 + 64 * 64 * (7 * 7 + 4 * 4 + 2 * 2)) + 64 * 5


@pytest.mark.parametrize('net, shape, multiply_adds', [
    (FullyConnected(1, (40, 40), 1, 'None'), [1], 40 + 40 * 40 + 40),
    (Convolutional((28, 28, 1), 64, 5, 'batch_norm', False, True), [28, 28, 1], OMNIGLOT),
    (Convolutional((16, 17, 3), 4, 2, 'layer_norm', True, False), [16, 17, 3],
     9 * 4 * (16 * 17 * 3 + 4 * (8 * 8 + 4 * 4 + 2 * 2)) + 4 * 2),
    (WithContext(FullyConnected(3, (4,), 1, 'None'), (1,), 2), [1], 3 * 4 + 4)])
def test_a_forward_pass_is_that_many_multiply_adds(net, shape, multiply_adds):
  assert flop_per_example(net, shape) == 2 * multiply_adds


def profiled(function, *specs):
  """All that the profiler counts of a graph."""
  graph = tf.function(function, autograph=False).get_concrete_function(*specs).graph
  profiler = tf.compat.v1.profiler
  options = (profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
             .with_empty_output().build())
  with quiet_tensorflow():
    return profiler.profile(graph, cmd='op', options=options).total_float_ops


SUPPORT, QUERY, SIDE = 6, 15, 12


@pytest.mark.parametrize('kind, given', [
    (MAML, {}), (MAML, dict(first_order=True)),
    (MAMLPlusPlus, dict(multi_step_iterations=9, per_step_norm=True)),
    (MAMLPlusPlus, dict(multi_step_iterations=9, first_order=True)),
    (MAMLPlusPlus, dict(multi_step_iterations=0))], ids=str)
def test_a_meta_gradient_is_that_many_forward_passes(kind, given):
  net = Convolutional((SIDE, SIDE, 1), 64, 3, 'batch_norm', False, True)
  model = kind(net, ScaledCrossEntropy(2), num_updates=3, **given)

  def gradient(support, query):
    labels = [tf.zeros([1, count], tf.int32) for count in (SUPPORT, QUERY)]
    return model.meta_gradient(Episodes.of(support, labels[0], query, labels[1]))[1]
  counted = profiled(gradient, *(tf.TensorSpec([1, count, SIDE, SIDE, 1])
                                 for count in (SUPPORT, QUERY)))
  passes = counted / flop_per_example(net, [SIDE, SIDE, 1])
  # More by what is element by element, less by gradients to the images, which nobody needs.
  assert passes == pytest.approx(model.forward_passes(SUPPORT, QUERY), rel=0.07)
