"""Counted arithmetic, against the shapes."""

from __future__ import annotations

import pytest

from maml_tf.flops import flop_per_example
from maml_tf.learners import Convolutional, FullyConnected, WithContext

OMNIGLOT = 9 * (14 * 14 * 64 + 64 * 64 * (7 * 7 + 4 * 4 + 2 * 2)) + 64 * 5


@pytest.mark.parametrize('net, shape, multiply_adds', [
    (FullyConnected(1, (40, 40), 1, 'None'), [1], 40 + 40 * 40 + 40),
    (Convolutional((28, 28, 1), 64, 5, 'batch_norm', False, True), [28, 28, 1], OMNIGLOT),
    (Convolutional((16, 17, 3), 4, 2, 'layer_norm', True, False), [16, 17, 3],
     9 * 4 * (16 * 17 * 3 + 4 * (8 * 8 + 4 * 4 + 2 * 2)) + 4 * 2),
    (WithContext(FullyConnected(3, (4,), 1, 'None'), (1,), 2), [1], 3 * 4 + 4)])
def test_a_forward_pass_is_that_many_multiply_adds(net, shape, multiply_adds):
  assert flop_per_example(net, shape) == 2 * multiply_adds
