"""What `fit` says where a meta-batch was not finite."""

from __future__ import annotations

import pytest

from maml_tf.errors import NotFiniteError
from maml_tf.keras_fit import require_finite_steps
from maml_tf.learners import FullyConnected
from maml_tf.meta_learners import WITHOUT_INNER_LOOP, meta_learner_class
from maml_tf.objectives import MeanCrossEntropy


def diverged(method):
  of_method = (dict(shots=1) if method in WITHOUT_INNER_LOOP
               else dict(step_size=0.1, num_updates=1))
  model = meta_learner_class(method)(FullyConnected(2, (3,), 2, 'None'), MeanCrossEntropy(),
                                     **of_method)
  model.diverged.assign(True)
  return model


@pytest.mark.parametrize('method, expected', [
    ('maml', 'Lower step_size or the learning rate of the optimizer, set gradient_clip, or '),
    ('reptile', 'Lower step_size or the learning rate of the optimizer, or '),
    ('prototypical', 'Lower the learning rate of the optimizer, set gradient_clip, or ')])
def test_what_is_advised_are_arguments_of_the_method(method, expected):
  with pytest.raises(NotFiniteError, match=expected):
    require_finite_steps(diverged(method))
