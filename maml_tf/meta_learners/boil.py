"""BOIL: MAML whose inner loop leaves the head alone."""

from __future__ import annotations

from typing import Any, Sequence

from maml_tf.errors import ConfigError
from maml_tf.keras_models.front import learner_and_objective
from maml_tf.keras_models.heads import require_chosen
from maml_tf.keras_models.learner import is_chosen
from maml_tf.learners.with_head import WithHead
from maml_tf.meta_learners.maml import MAML


class BOIL(MAML):
  """Body Only update in Inner Loop (Oh, Yoo, Kim, Yun 2021, arXiv 2008.08882, section 3).

  The inner loop changes all layers but the last one, whose step size is 0 (their equation
  of section 3.1), in training and in testing: the features are to move, and not the
  boundaries between them. The last layer is meta-learned by the query loss. The
  meta-gradient is exact (second order), or with `first_order` takes the inner gradients as
  constants.

  Departures: the nets are those of the MAML paper, so that normalisations' offsets are
  meta-learned only, where theirs are a part of the body; the loss, and with it the inner
  step size, are on the objective's scale (see `ScaledCrossEntropy`).

  Args:
    learner: a net with a head, and something else that is adapted; or a `KerasLearner` whose
      `adapt` is all but its last layer.
    objective, first_order, learned_step_sizes, **kwargs: see `MAML`. A learned step size of
      the head is kept, and stays as it is.

  Raises:
    ConfigError: for a learner without a head, or whose `adapt` has it.
  """

  def __init__(self, learner: Any, objective: Any, **kwargs):
    learner, objective = learner_and_objective(learner, objective)
    if not (isinstance(learner, WithHead) or is_chosen(learner)):
      raise ConfigError('BOIL leaves the head alone: its net must be of the class WithHead. '
                        f'Received: {type(learner).__name__}. Of a Keras model take '
                        'KerasLearner(model, adapt=all layers but the last one).')
    if is_chosen(learner):
      require_chosen(learner, 'BOIL', adapts_head=False)
    super().__init__(learner, objective, **kwargs)

  @property
  def adapted_names(self) -> Sequence[str]:
    of_head = self.learner.head_names if isinstance(self.learner, WithHead) else ()
    return [name for name in super().adapted_names if name not in of_head]
