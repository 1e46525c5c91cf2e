"""MAML: an initialisation that a few gradient steps adapt to a new task."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

import tensorflow as tf

from maml_tf.counts import require_updates
from maml_tf.episodes import Episodes
from maml_tf.inner_optimizers import InnerOptimizer, StepSize
from maml_tf.keras_models.front import learner_and_objective
from maml_tf.learned_step_sizes import FIXED, LAYER_AND_STEP, LearnedStepSizes
from maml_tf.learners.base import Parameters, ParameterSpec
from maml_tf.meta_learner import MetaLearner


class MAML(MetaLearner):
  """Model-Agnostic Meta-Learning (Finn, Abbeel, Levine 2017, algorithm 1).

  Minimises the mean over tasks of the query loss after `num_updates` steps on
  the support set, and differentiates through those steps.

  Args:
    first_order: the first-order approximation (section 5.2; the TF1 code's
      `stop_grad`): the gradient is taken at the adapted parameters.
    learned_step_sizes: 'None', or what has a meta-learned step size of its own, which
      starts from `step_size`: 'layer', 'layer_and_step', 'element' (see
      `LearnedStepSizes`; beyond the paper). `step_size` is not read then, and cannot be
      set; those of each update need `num_updates` of 1 or more.
    learner, objective, **kwargs: see `MetaLearner`.

  Example:
    >>> from maml_tf import DataGenerator, FullyConnected, MeanSquaredError, SinusoidSource
    >>> model = MAML(FullyConnected(1, (40, 40), 1, norm='None'), MeanSquaredError(),
    ...              step_size=0.01, num_updates=1)
    >>> model.compile(tf.keras.optimizers.Adam(0.001, epsilon=1e-8))
    >>> tasks = DataGenerator(SinusoidSource(5, 5), meta_batch_size=4, seed=0)
    >>> losses = model.fit(tasks.dataset(0, 3), verbose=0, shuffle=False).history['loss']
    >>> model.task_results(tasks.batch(3), num_updates=2).query['loss'].shape
    TensorShape([4, 3])
  """

  own_arguments = ('first_order', 'learned_step_sizes')

  def __init__(self, learner: Any, objective: Any, step_size: StepSize = 0.01,
               num_updates: int = 5, *, first_order: bool = False,
               learned_step_sizes: str = FIXED, own_specs: Sequence[ParameterSpec] = (),
               **kwargs):
    learner, objective = learner_and_objective(learner, objective)
    require_updates(num_updates, least=1 if learned_step_sizes == LAYER_AND_STEP else 0)
    learned = LearnedStepSizes(learned_step_sizes, learner, step_size, num_updates)
    super().__init__(learner, objective, step_size=step_size, num_updates=num_updates,
                     own_specs=(*learned.specs, *own_specs), **kwargs)
    self._first_order = first_order
    self._learned_step_sizes = learned

  def forward_passes(self, support_examples: int, query_examples: int) -> Optional[int]:
    per_update = passes_per_update(self._first_order)
    return support_examples * self._num_updates * per_update + query_examples * 3

  @property
  def has_step_size(self) -> bool:
    return not self._learned_step_sizes

  def inner_optimizer(self, parameters: Parameters) -> InnerOptimizer:
    if self._learned_step_sizes:
      return self._learned_step_sizes.rule(parameters)
    return super().inner_optimizer(parameters)

  def task_objectives(self, parameters: Parameters, episodes: Episodes
                      ) -> Dict[str, tf.Tensor]:
    *_, adapted = self.adaptation(parameters, episodes, self._num_updates,
                                  self._first_order)
    outputs = self.learner(adapted, episodes.query.inputs)
    return self.objective.measured(outputs, episodes.query.labels)


def passes_per_update(first_order: bool) -> int:
  """Of an inner step: 1 forward, 2 backward; in second order 6 for differentiating these."""
  return 3 if first_order else 9
