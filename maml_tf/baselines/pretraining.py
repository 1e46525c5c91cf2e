"""One net for all tasks, trained without adaptation (section 5.1)."""

from __future__ import annotations

from typing import Dict

import tensorflow as tf

from maml_tf.episodes import Episodes
from maml_tf.learners.base import Parameters
from maml_tf.meta_learner import MetaLearner


class Pretraining(MetaLearner):
  """Minimises the mean loss on the support sets, at theta itself.

  The TF1 code's `pretrain_iterations`. On sinusoids it is the pre-trained
  baseline, and with amplitude and phase among the inputs the oracle.
  """

  def task_objectives(self, parameters: Parameters, episodes: Episodes
                      ) -> Dict[str, tf.Tensor]:
    outputs = self.learner(parameters, episodes.support.inputs)
    return self.objective.measured(outputs, episodes.support.labels)

  def examples_of_loss(self, support_examples: int, query_examples: int) -> int:
    return support_examples
