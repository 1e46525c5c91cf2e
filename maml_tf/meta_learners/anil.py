"""ANIL: MAML that adapts the head alone."""

from __future__ import annotations

from typing import Any, Iterable, Optional

import tensorflow as tf

from maml_tf.episodes import Batch, Episodes
from maml_tf.errors import ConfigError
from maml_tf.inner_loop import adaptation
from maml_tf.keras_models.heads import require_chosen
from maml_tf.keras_models.learner import is_chosen
from maml_tf.learners.base import Parameters
from maml_tf.learners.with_head import WithHead
from maml_tf.meta_learners.maml import MAML


class ANIL(MAML):
  """Almost No Inner Loop (Raghu, Raghu, Bengio, Vinyals 2020, arXiv 1909.09157, 4.1).

  The inner loop changes the last layer only, in training and in testing; all the
  other parameters are meta-learned by the query loss, to which the support set
  contributes through the adapted head. So the net's body is computed once per set,
  whatever the number of updates, and shared by all tasks. The meta-gradient is exact
  (second order), or with `first_order` takes the inner gradients as constants.

  Batch statistics are as in MAML: of the support set in the inner loop, of the query
  set where that is classified.

  Departures: nets, step sizes and numbers of steps are those of the MAML paper's
  rows (the ANIL paper has Omniglot 20-way and mini-ImageNet 5-way).

  Args:
    learner: a net with a head; or a `KerasLearner` whose `adapt` is its last layer, which is
      computed as a whole in every update, with the same result.
    objective, first_order, **kwargs: see `MAML`. Learned step sizes of all but the head are
      kept, and stay as they are.

  Raises:
    ConfigError: for a learner without a head, or whose `adapt` is another part.
  """

  takes_other_ways = True   # nothing but the last layer is adapted

  def __init__(self, learner: Any, objective: Any, **kwargs):
    if not (isinstance(learner, WithHead) or is_chosen(learner)):
      raise ConfigError('ANIL adapts the head alone: its net must be of the class WithHead. '
                        f'Received: {type(learner).__name__}. Of a Keras model take '
                        'KerasLearner(model, adapt=the last layer).')
    if is_chosen(learner):
      require_chosen(learner, 'ANIL', adapts_head=True)
    super().__init__(learner, objective, **kwargs)

  def forward_passes(self, support_examples: int, query_examples: int) -> Optional[int]:
    if not isinstance(self.learner, WithHead):
      return None
    # The body of the net, once per example; what the head costs is left out.
    return support_examples * (1 if self._first_order else 3) + query_examples * 3

  def adaptation(self, parameters: Parameters, episodes: Episodes, num_updates: int,
                 first_order: bool) -> Iterable[Parameters]:
    if not isinstance(self.learner, WithHead):
      return super().adaptation(parameters, episodes, num_updates, first_order)
    features = self.learner.features(parameters, episodes.support.inputs)
    # Nothing is recomputed: of the body nothing is computed twice, and the gradient to the
    # features would be lost.
    return adaptation(
        self._head_loss, parameters, Batch(features, episodes.support.labels),
        self.inner_optimizer(parameters), names=self.learner.head_names,
        num_updates=num_updates, first_order=first_order)

  def _head_loss(self, parameters: Parameters, batch: Batch) -> tf.Tensor:
    return self.objective.loss(self.learner.head(parameters, batch.inputs), batch.labels)
