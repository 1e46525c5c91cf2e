"""Reptile: an initialisation that moves towards where training on a task ends."""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from maml_tf import inner_optimizers
from maml_tf.counts import require_count, require_updates
from maml_tf.episodes import (
  Batch,
  Episodes,
  known_num_examples,
  num_examples,
  num_tasks,
)
from maml_tf.errors import ConfigError
from maml_tf.inner_loop import Adaptation, copies_per_task, loss_and_gradients
from maml_tf.inner_optimizers import AdamState, InnerOptimizer
from maml_tf.keras_models.randomness import of_pass
from maml_tf.learners.base import Learner, Parameters
from maml_tf.meta_learner import MetaLearner
from maml_tf.objectives import Objective
from maml_tf.second_moments import SecondMoments, named

OPTIMIZERS = ('sgd', 'adam')

# More inner steps than this are a loop in the graph: 50 of them, unrolled, take a minute to
# build. Up to it they are unrolled, which costs a step less.
_MOST_UNROLLED = 10


class _Step(NamedTuple):
  """After an inner step: parameters and what the rule remembers; what was measured before
  it, `[tasks]`."""
  parameters: Parameters
  remembered: Tuple
  measured: Dict[str, tf.Tensor]


class Reptile(MetaLearner):
  """Reptile (Nichol, Achiam, Schulman 2018, arXiv 1803.02999, algorithm 2).

  theta'_i comes from theta by `num_updates` steps of SGD or Adam on mini-batches of task
  i, and theta <- theta + epsilon * mean(theta'_i - theta). To the outer optimizer
  theta - mean(theta'_i) is a gradient: SGD with the step size epsilon, falling linearly
  to 0 (`--meta_lr_schedule=linear`), is the paper's outer step. No derivative is taken
  through the inner steps.

  In training support and query examples together are the task's data (the authors'
  train_shots per class); in evaluation the support set alone is trained on. All
  parameters take part in the inner steps, those of normalisations included, since an
  outer step moves only what they move.

  As in the authors' code: passes over the examples in random order, mini-batches
  running on from one pass to the next; Adam with beta_1 = 0, whose second moments
  go on from meta-batch to meta-batch and into evaluation (without a trace there); the query
  set of a test is normalised by its own statistics, which is their transductive test.

  Departures:
  - The tasks of a meta-batch are computed together, so all of them start from the same
    second moments, and the mean of where they end is kept. The authors' tasks come one
    after the other.
  - The order of the passes is drawn once and is the same for every task: what is at a
    place of an episode is random already. So a run is a function of its seed.
  - Batch norm has no scale, and Omniglot's classifier sees the spatial mean: the
    nets are those of the MAML paper.
  - The loss is on the objective's scale (see `ScaledCrossEntropy`); Adam does not mind.

  What is reported as loss and accuracy of a training step is the mean over the inner
  steps of those of the mini-batch before the step.

  Args:
    learner, objective: see `MetaLearner`.
    inner_optimizer: 'adam' or 'sgd', with the step size `step_size`.
    inner_batch_size: examples of a mini-batch; 0, or more than there are: all.
    test_inner_batch_size: the same in evaluation.
    **kwargs: see `MetaLearner`. `gradient_clip` must be 0; there are no steps to recompute.

  Raises:
    ConfigError: for an unknown optimizer, a negative size, no update, or a `gradient_clip`.
  """

  own_arguments = ('inner_optimizer', 'inner_batch_size', 'test_inner_batch_size')
  can_clip = False
  keeps_inner_steps = False
  takes_other_ways = True   # many steps tell the classes apart after the first

  def __init__(self, learner: Learner, objective: Objective, *,
               inner_optimizer: str = 'adam', inner_batch_size: int = 0,
               test_inner_batch_size: int = 0, gradient_clip: float = 0.0, **kwargs):
    super().__init__(learner, objective, **kwargs)
    require_updates(self._num_updates, least=1)
    if not self.learner.adapts_all:
      raise ConfigError('Reptile moves all parameters, and only to where they adapt: leave '
                        'adapt out, and freeze layers by layer.trainable = False.')
    if inner_optimizer not in OPTIMIZERS:
      raise ConfigError(f'inner_optimizer must be one of {OPTIMIZERS}. '
                        f'Received: {inner_optimizer!r}.')
    if gradient_clip:
      raise ConfigError('The outer step of Reptile is not clipped: gradient_clip must be 0. '
                        f'Received: {gradient_clip}.')
    self._inner_batch_size = require_count('inner_batch_size', inner_batch_size)
    self._test_inner_batch_size = require_count('test_inner_batch_size',
                                                test_inner_batch_size)
    self._adam: Optional[SecondMoments] = None
    if inner_optimizer == 'adam':
      self._adam = SecondMoments(
          {spec.name: spec.shape for spec in self.learner.parameter_specs},
          self.meta_parameters.dtype, self.learner.own_parameters() is not None)
      # Where checkpoints find it: a resumed run, and a test, go on with it.
      self.meta_parameters.inner_optimizer = self._adam

  def state(self) -> Dict[str, np.ndarray]:
    """With Adam's second moments, which a test goes on from."""
    remembered = {} if self._adam is None else self._adam.arrays()
    return {**super().state(), **remembered}

  def assign_state(self, values: Mapping[str, np.ndarray]) -> None:
    values = dict(values)
    if self._adam is not None:
      self._adam.assign({name: values.pop(name) for name in self._adam.arrays()
                         if name in values})
    super().assign_state(values)

  def forward_passes(self, support_examples: int, query_examples: int) -> Optional[int]:
    batches = inner_batches(support_examples + query_examples, self._inner_batch_size,
                            self._num_updates)
    return 3 * batches.size

  def examples_of_loss(self, support_examples: int, query_examples: int) -> int:
    examples = support_examples + query_examples
    return min(self._inner_batch_size, examples) or examples

  def task_objectives(self, parameters: Parameters, episodes: Episodes
                      ) -> Dict[str, tf.Tensor]:
    """What is reported of a training step; the outer step does not minimise it."""
    return self._trained(parameters, episodes).measured

  def adaptation(self, parameters: Parameters, episodes: Episodes, num_updates: int,
                 first_order: bool) -> Adaptation:
    """As in `MetaLearner`, by the inner optimizer; never differentiated through."""
    start, step = self._steps(parameters, episodes.support, self._test_inner_batch_size,
                              num_updates)
    return Adaptation(start, lambda state, updates: step(state, updates)[:2],
                      lambda state: state[0], num_updates)

  def inner_optimizer(self, parameters: Parameters) -> InnerOptimizer:
    """Adam goes on from what training left."""
    sizes = self._step_sizes.tensors()
    if self._adam is None:
      return inner_optimizers.sgd(sizes)
    return inner_optimizers.adam(sizes, self._adam.state())

  def apply_gradients(self, gradients: Parameters) -> None:
    names = [spec.name for spec in self.learner.parameter_specs]
    if self._adam is not None:
      self._adam.move(gradients)
    super().apply_gradients({name: gradients[name] for name in names})

  def changed_variables(self) -> List:
    remembered = [] if self._adam is None else self._adam.variables
    return [*super().changed_variables(), *remembered]

  def _group_gradient(self, parameters: Parameters, episodes: Episodes):
    """As in `MetaLearner`; the 'gradients' are theta - theta'_i, and the same of what the
    optimizer remembers, summed over the tasks."""
    trained = self._trained(parameters, episodes)
    changes = _changes(parameters, trained.parameters)
    if self._adam is not None:
      before, after = self._adam.state(), trained.remembered
      changes.update(named(AdamState(_changes(before.moments, after.moments),
                                     num_tasks(episodes) * (before.steps - after.steps))))
    return trained.measured, changes

  def _trained(self, parameters: Parameters, episodes: Episodes) -> _Step:
    """Where the last step arrives; what is measured is the mean over all of them."""
    both = tf.nest.map_structure(lambda *values: tf.concat(values, axis=1), *episodes)
    state, step = self._steps(parameters, both, self._inner_batch_size, self._num_updates)
    if self._num_updates > _MOST_UNROLLED:
      return _looped(step, state, self._num_updates)
    steps = []
    for updates in range(self._num_updates):
      *state, measured = step(state, updates)
      steps.append(measured)
    return _Step(*state, _means_of(steps))

  def _steps(self, parameters: Parameters, examples: Batch, batch_size: int,
             num_updates: int):
    """The first state, (parameters, remembered); and (state, updates before) -> `_Step`."""
    self.learner.check(self.task_loss, examples, first_order=True)
    rule = self.inner_optimizer(parameters)
    fast = copies_per_task(parameters, examples)
    remembered = rule.init(fast)
    if self._adam is not None and not isinstance(remembered, AdamState):
      raise ConfigError(f'The rule of {type(self).__name__}.inner_optimizer is not Adam, of '
                        "which inner_optimizer='adam' keeps second moments: give "
                        "inner_optimizer='sgd', which keeps nothing.")
    # Without mini-batches the number of examples need not be known.
    places = None
    if batch_size:
      number = known_num_examples(examples, f'Reptile with mini-batches of {batch_size}')
      places = inner_batches(number, batch_size, num_updates)

    def step(state, updates) -> _Step:
      fast, remembered = state
      batch, measured = _at(places, updates, examples), {}
      # By its number, a step has the same dropout in a loop and unrolled.
      inputs = of_pass(batch.inputs, updates + 1)
      def loss(fast):
        outputs = self.learner(fast, inputs)
        measured.update(self.objective.measured(outputs, batch.labels))
        return measured['loss']
      _, gradients = loss_and_gradients(loss, fast)
      return _Step(*rule.update(fast, gradients, remembered, updates), measured)
    return (fast, remembered), step


def _looped(step: Callable, state, count: int) -> _Step:
  """`count` steps by a graph of two: nothing is differentiated through them."""
  def body(updates, done):
    now = step((done.parameters, done.remembered), updates)
    sums = {name: value + now.measured[name] for name, value in done.measured.items()}
    return updates + 1, _Step(now.parameters, now.remembered, sums)
  _, last = tf.while_loop(lambda updates, _: updates < count, body,
                          (tf.constant(1), step(state, 0)), maximum_iterations=count - 1)
  means = {name: value / count for name, value in last.measured.items()}
  return _Step(last.parameters, last.remembered, means)


def inner_batches(examples: int, batch_size: int, count: int) -> np.ndarray:
  """The places of the examples of each mini-batch: `[count, size]`.

  Passes over all examples, each in a new random order, one after the other; a
  mini-batch may begin in one and end in the next. The same for the same arguments.

  Args:
    examples: of the task.
    batch_size: of a mini-batch; 0, or more than `examples`: all of them.
    count: mini-batches.
  """
  size = min(batch_size, examples) or examples
  random = np.random.RandomState(0)
  passes = -(-count * size // examples) or 1
  order = np.concatenate([random.permutation(examples) for _ in range(passes)])
  return order[:count * size].reshape(count, size)


def _at(places: Optional[np.ndarray], updates, examples: Batch) -> Batch:
  """The examples of every task at the places of that update, see `inner_batches`; None: all
  of them."""
  if places is None or places.shape[1] == num_examples(examples):
    return examples
  chosen = tf.constant(places)[updates] if tf.is_tensor(updates) else places[updates]
  return tf.nest.map_structure(lambda value: tf.gather(value, chosen, axis=1), examples)


def _changes(before: Parameters, after: Parameters) -> Parameters:
  """before - after, summed over the tasks."""
  return {name: tf.reduce_sum(value - after[name], axis=0)
          for name, value in before.items()}


def _means_of(measured: Sequence[Mapping[str, tf.Tensor]]) -> Dict[str, tf.Tensor]:
  return {name: tf.add_n([values[name] for values in measured]) / len(measured)
          for name in measured[0]}
