"""A meta-learned context vector: only some further inputs are adapted."""

from __future__ import annotations

from typing import Optional

from maml_tf.errors import ConfigError
from maml_tf.learners.with_context import WithContext
from maml_tf.meta_learners.maml import MAML
from maml_tf.objectives import Objective


class ContextVector(MAML):
  """Table 3 of the MAML paper (Finn, Abbeel, Levine 2017, appendix; after Rei 2015).

  Free parameters z are concatenated to the input, channel-wise for images. The inner
  loop changes z only; the start of z and everything else are meta-learned as in MAML.

  The paper gives neither the size of z nor its start. Here z is a map of the image's
  size with `context_size` channels (default 1), a vector of `context_size` entries for
  sinusoids (default 5), and starts from 0; see `WithContext` for why it is a map. Step
  size, steps and meta-batch are those of the paper's MAML rows.

  Args:
    learner: a net with a context.
    objective, **kwargs: see `MAML`.

  Raises:
    ConfigError: for a learner without a context.
  """

  def __init__(self, learner: WithContext, objective: Objective, **kwargs):
    if not isinstance(learner, WithContext):
      raise ConfigError(f'A context vector needs a net of the class WithContext. '
                        f'Received: {type(learner).__name__}. To a Keras model add a layer '
                        'with a weight that it joins to its inputs, and take '
                        'MAML(KerasLearner(model, adapt=that layer), ...).')
    super().__init__(learner, objective, **kwargs)

  def forward_passes(self, support_examples: int, query_examples: int) -> Optional[int]:
    # An inner step: 1 forward, 1 backward to the input; in second order 4 for these.
    per_update = 2 if self._first_order else 6
    return support_examples * self._num_updates * per_update + query_examples * 3
