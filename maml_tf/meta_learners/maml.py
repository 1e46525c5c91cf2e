"""MAML: an initialisation that a few gradient steps adapt to a new task."""

from __future__ import annotations

from typing import Dict, Optional

import tensorflow as tf

from maml_tf.episodes import Episodes
from maml_tf.learners.base import Learner, Parameters
from maml_tf.meta_learner import MetaLearner
from maml_tf.objectives import Objective


class MAML(MetaLearner):
  """Model-Agnostic Meta-Learning (Finn, Abbeel, Levine 2017, algorithm 1).

  Minimises the mean over tasks of the query loss after `num_updates` steps on
  the support set, and differentiates through those steps.

  Args:
    first_order: the first-order approximation (section 5.2; the TF1 code's
      `stop_grad`): the gradient is taken at the adapted parameters.
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

  own_arguments = ('first_order',)

  def __init__(self, learner: Learner, objective: Objective, *, first_order: bool = False,
               **kwargs):
    super().__init__(learner, objective, **kwargs)
    self._first_order = first_order

  def forward_passes(self, support_examples: int, query_examples: int) -> Optional[int]:
    # An inner step: 1 forward, 2 backward; in second order 6 for differentiating these.
    per_update = 3 if self._first_order else 9
    return support_examples * self._num_updates * per_update + query_examples * 3

  def task_objectives(self, parameters: Parameters, episodes: Episodes
                      ) -> Dict[str, tf.Tensor]:
    *_, adapted = self.adaptation(parameters, episodes, self._num_updates,
                                  self._first_order)
    outputs = self.learner(adapted, episodes.query.inputs)
    return self.objective.measured(outputs, episodes.query.labels)
