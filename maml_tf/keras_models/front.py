"""What meta-learners are made of, from what their users have."""

from __future__ import annotations

from typing import Any, Tuple

import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.keras_models.learner import KerasLearner
from maml_tf.keras_models.objective import KerasObjective, as_objective
from maml_tf.learners.base import Learner
from maml_tf.objectives import Objective


def learner_and_objective(learner: Any, objective: Any) -> Tuple[Learner, Objective]:
  """Args:
    learner: a `Learner`, or a built Keras model.
    objective: an `Objective`, a Keras loss, or a function of (labels, outputs).

  Raises:
    ConfigError: for what is none of these.
  """
  if isinstance(learner, tf.keras.layers.Layer):
    learner = KerasLearner(learner)
  if not isinstance(learner, Learner):
    raise ConfigError('A meta-learner is made of a Keras model or a Learner. Received: '
                      f'{type(learner).__name__}.')
  if isinstance(learner, KerasLearner) and not isinstance(objective, KerasObjective):
    return learner, KerasObjective(objective)   # which knows what models add to the loss
  return learner, as_objective(objective)
