"""A trained classifier whose last layer is replaced and fine-tuned."""

from __future__ import annotations

from typing import Optional

import tensorflow as tf

from maml_tf.baselines.classifier import ClassifierBaseline
from maml_tf.episodes import Batch, Episodes
from maml_tf.inner_loop import adaptation
from maml_tf.learners import FullyConnected
from maml_tf.learners.base import Parameters
from maml_tf.learners.with_head import WithHead
from maml_tf.objectives import Objective
from maml_tf.task_results import TaskResults


class FineTuning(ClassifierBaseline):
  """The fine-tuning baseline of Ravi and Larochelle, "Optimization as a Model for
  Few-Shot Learning" (ICLR 2017, section 5.1), the paper's table 1.

  A classifier of all training classes; for a task its last layer is replaced by a new one
  with N outputs, which is trained by gradient descent on the support set.

  Differs from their published code: the last layer alone is fine-tuned, there the whole
  net; each step takes the whole support set, there one image; the step size is tuned on
  validation classes, there with its decay and the number of passes; the classifier is
  trained by the project's optimizer (Adam), there by gradient descent. The new layer
  starts near zero (N(0, 0.01), cut at two deviations), so that the classes start equal,
  and from the same values in every task.

  Args:
    num_classes: N.
    learner, objective, reference: see `ClassifierBaseline`.
    step_size: of the fine-tuning, on the scale of the objective's loss.
    seed: of the new layer.
    dtype, **kwargs: see `MetaLearner`.
  """

  def __init__(self, learner: WithHead, objective: Objective, *, num_classes: int,
               reference: Optional[tf.Tensor], seed: int = 0, dtype: str = 'float32',
               **kwargs):
    super().__init__(learner, objective, reference=reference, seed=seed, dtype=dtype,
                     **kwargs)
    self.head = FullyConnected(learner.head_inputs, (), num_classes, norm='None')
    self._new_head = self.head.initial_values(seed, dtype)

  def _group_results(self, parameters: Parameters, episodes: Episodes, num_updates: int
                     ) -> TaskResults:
    episodes = self.with_features(parameters, episodes)
    head = {name: tf.constant(value) for name, value in self._new_head.items()}
    steps = adaptation(self._head_loss, head, episodes.support, self.inner_optimizer(head),
                       names=tuple(head), num_updates=num_updates, first_order=True)
    return self._measured(self.head, head, steps, episodes)

  def _head_loss(self, parameters: Parameters, batch: Batch) -> tf.Tensor:
    return self.objective.loss(self.head(parameters, batch.inputs), batch.labels)
