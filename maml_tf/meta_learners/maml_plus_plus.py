"""MAML++: what makes MAML's training steadier, each by itself."""

from __future__ import annotations

from typing import Any, Container, Dict, List, Optional, Sequence

import tensorflow as tf

from maml_tf.counts import require_count, require_updates
from maml_tf.episodes import Episodes
from maml_tf.inner_optimizers import InnerOptimizer
from maml_tf.keras_models.front import learner_and_objective
from maml_tf.learned_step_sizes import LAYER_AND_STEP
from maml_tf.learners.base import Learner, Parameters, ParameterSpec, zeros
from maml_tf.meta_learners.maml import MAML, passes_per_update
from maml_tf.meta_parameters import MetaParameters

_PREFIX = 'after_update/'


class MAMLPlusPlus(MAML):
  """MAML++ (Antoniou, Edwards, Storkey 2019, arXiv 1810.09502, section 4).

  Each is off where its argument says so; all off is MAML:
  - Per-layer per-step step sizes (LSLR): `learned_step_sizes`.
  - Multi-step loss (MSL): the query loss after every update counts, with weights v_i
    (their equation 4) that are equal at first, and of which those of all but the last update
    fall linearly over `multi_step_iterations`, towards the last one's.
  - Derivative-order annealing (DA): the first `first_order_iterations` are of first order.
  - Per-step batch norm (BNWB): offsets, and scales where a norm has them, of their own after
    each update, meta-learned. (Per-step running statistics, BNRS, have no counterpart: the
    nets take the statistics of the examples at hand, at every step, always.)
  - Cosine annealing (CA) is the optimizer's: `--meta_lr_schedule=cosine`.

  Departures: all small weights of MSL fall to 0 (their code keeps 0.03 / updates), and so do
  the cosine's step sizes (theirs to 0.00001). Batch norm of the MAML paper's nets has offsets
  alone. What is tested is one net, and in their code the mean of five. The loss
  that a step logs is what it minimises, the weighted one; its accuracy, and all that is
  validated and tested, are after the last update.

  Args:
    learner, objective, first_order, learned_step_sizes: see `MAML`.
    multi_step_iterations: see above; 0, as with one update: the last update's loss alone.
    first_order_iterations: see above; 0: none.
    per_step_norm: see above, of all variables that are called beta or gamma. What is learned
      for after an update starts from what the net has when this is made, or behind a
      pre-training; of a net without norms there is none. Step sizes of layers that have these
      alone stay as they are.
    **kwargs: see `MetaLearner`. Iterations are those of the optimizer; before `compile`
      there are none, and the weights are those of the end.

  Raises:
    ConfigError: for `num_updates=0`, and for numbers of iterations below 0.
  """

  own_arguments = (*MAML.own_arguments, 'multi_step_iterations', 'first_order_iterations',
                   'per_step_norm')

  def __init__(self, learner: Any, objective: Any, *, num_updates: int,
               learned_step_sizes: str = LAYER_AND_STEP, multi_step_iterations: int = 0,
               first_order_iterations: int = 0, per_step_norm: bool = False,
               parameters: Optional[MetaParameters] = None, **kwargs):
    learner, objective = learner_and_objective(learner, objective)
    require_updates(num_updates, least=1)
    of_norms = norms(learner) if per_step_norm else []
    specs = [spec._replace(name=_PREFIX + spec.name, shape=(num_updates, *spec.shape),
                           adapted=False, initializer=zeros) for spec in of_norms]
    super().__init__(learner, objective, num_updates=num_updates, own_specs=specs,
                     learned_step_sizes=learned_step_sizes, parameters=parameters, **kwargs)
    self._of_norms = [spec.name for spec in of_norms]
    if parameters is None:   # those that are given have what was learned
      self.start_from_parameters()
    self._multi_step_iterations = require_count('multi_step_iterations',
                                                multi_step_iterations)
    self._first_order_iterations = require_count('first_order_iterations',
                                                 first_order_iterations)

  def forward_passes(self, support_examples: int, query_examples: int) -> int:
    """As in `MAML`, with the order that the iteration has."""
    first_order = self._first_order or bool(self._is_of_first_order())
    losses = self._num_updates if self._multi_step_iterations else 1
    return (support_examples * self._num_updates * passes_per_update(first_order)
            + query_examples * 3 * losses)

  def start_from_parameters(self) -> None:
    tables = self.meta_parameters.variables_in_order(
        [_PREFIX + name for name in self._of_norms])
    for table, value in zip(tables, self.meta_parameters.variables_in_order(self._of_norms)):
      table.assign(tf.broadcast_to(tf.convert_to_tensor(value), table.shape))

  @property
  def adapted_names(self) -> Sequence[str]:
    names = super().adapted_names
    return [*(name for name in names if name not in self._of_norms), *self._of_norms]

  def inner_optimizer(self, parameters: Parameters) -> InnerOptimizer:
    """A step of the rule for what is adapted; for norms what is learned for after it."""
    rule = super().inner_optimizer(parameters)
    if not self._of_norms:
      return rule
    tables = {name: parameters[_PREFIX + name] for name in self._of_norms}

    def update(values, gradients, remembered, updates):
      adapted, remembered = rule.update(_without(values, tables), gradients, remembered,
                                        updates)
      after = {name: tf.zeros_like(values[name]) + table[tf.minimum(
          updates, table.shape[0] - 1)] for name, table in tables.items()}
      return {**adapted, **after}, remembered
    return InnerOptimizer(lambda values: rule.init(_without(values, tables)), update)

  def task_objectives(self, parameters: Parameters, episodes: Episodes
                      ) -> Dict[str, tf.Tensor]:
    _, *steps = self.adaptation(parameters, episodes, self._num_updates, self._first_order)
    if not self._multi_step_iterations:
      steps = steps[-1:]
    measured = [self.objective.measured(self.learner(adapted, episodes.query.inputs),
                                        episodes.query.labels) for adapted in steps]
    if len(measured) == 1:
      return measured[0]
    weights = loss_weights(len(steps), self._iteration(), self._multi_step_iterations,
                           measured[-1]['loss'].dtype)
    loss = tf.add_n([weight * values['loss'] for weight, values
                     in zip(tf.unstack(weights), measured)])
    return {**measured[-1], 'loss': loss}

  def _group_gradient(self, parameters: Parameters, episodes: Episodes):
    if self._first_order or not self._first_order_iterations:
      return super()._group_gradient(parameters, episodes)

    def of_order(first_order):
      def gradient():
        # Within this call alone: what is traced differs by it.
        self._first_order = first_order
        try:
          return super(MAMLPlusPlus, self)._group_gradient(parameters, episodes)
        finally:
          self._first_order = False
      return gradient
    return tf.cond(self._is_of_first_order(), of_order(True), of_order(False))

  def _is_of_first_order(self) -> tf.Tensor:
    return self._iteration() < self._first_order_iterations

  def _iteration(self) -> tf.Tensor:
    """How many outer steps there were."""
    optimizer = getattr(self, 'optimizer', None)
    if optimizer is None:
      return tf.constant(2**31 - 1, tf.int64)
    return tf.cast(tf.convert_to_tensor(optimizer.iterations), tf.int64)


def norms(learner: Learner) -> List[ParameterSpec]:
  """Offsets and scales of normalisations."""
  return [spec for spec in learner.parameter_specs
          if spec.name.rpartition('/')[2].split('#')[0] in ('beta', 'gamma')]


def loss_weights(updates: int, iteration: tf.Tensor, until: int, dtype: tf.DType
                 ) -> tf.Tensor:
  """v_i of equation 4, `[updates]`, whose sum is 1."""
  done = tf.minimum(tf.cast(iteration, dtype) / until, 1)
  early = tf.repeat((1 - done) / updates, updates - 1)
  return tf.concat([early, [1 - tf.reduce_sum(early)]], axis=0)


def _without(values: Parameters, names: Container[str]) -> Parameters:
  return {name: value for name, value in values.items() if name not in names}
