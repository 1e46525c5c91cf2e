"""Reptile: an initialisation that moves towards where training on a task ends."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.config import INNER_OPTIMIZERS, Config
from maml_tf.episodes import Episodes
from maml_tf.learners.base import Learner, Parameters
from maml_tf.meta_learner import MetaLearner
from maml_tf.objectives import Objective

# Of TF1's Adam, but for the first moment, which Reptile does without (beta_1 = 0).
BETA_2 = 0.999
EPSILON = 1e-8

_MOMENT = 'second_moment/'
_STEPS = 'inner_steps'


class _AdamState(NamedTuple):
  """Second moments by parameter, each shared by the tasks or one per task, and the number
  of steps behind them."""
  moments: Parameters
  steps: tf.Tensor


class _Step(NamedTuple):
  """After an inner step: parameters and state; loss and accuracy `[tasks]` before it."""
  parameters: Parameters
  state: Optional[_AdamState]
  losses: tf.Tensor
  accuracies: Optional[tf.Tensor]


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
  go on from meta-batch to meta-batch and into evaluation (without a trace there).

  Departures:
  - The tasks of a meta-batch are computed together, so all of them start from the same
    second moments, and the mean of where they end is kept. The authors' tasks come one
    after the other.
  - The order of the passes is drawn once and is the same for every task: what is at a
    place of an episode is random already. So a run is a function of its seed.
  - The query batch is normalised by its own statistics, as everywhere here; the
    authors' transductive test normalises support and query together.
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
    **kwargs: see `MetaLearner`. `gradient_clip` must be 0.

  Raises:
    ValueError: for an unknown optimizer, a negative size, or a `gradient_clip`.
  """

  def __init__(self, learner: Learner, objective: Objective, *,
               inner_optimizer: str = 'adam', inner_batch_size: int = 0,
               test_inner_batch_size: int = 0, **kwargs):
    super().__init__(learner, objective, **kwargs)
    if inner_optimizer not in INNER_OPTIMIZERS:
      raise ValueError(f'inner_optimizer must be one of {INNER_OPTIMIZERS}. '
                       f'Received: {inner_optimizer!r}.')
    if min(inner_batch_size, test_inner_batch_size) < 0:
      raise ValueError(f'Sizes of mini-batches must be 0 or more. Received: inner_batch_size='
                       f'{inner_batch_size}, test_inner_batch_size={test_inner_batch_size}.')
    if self._gradient_clip:
      raise ValueError('The outer step of Reptile is not clipped: gradient_clip must be 0. '
                       f'Received: {self._gradient_clip}.')
    self._inner_batch_size = inner_batch_size
    self._test_inner_batch_size = test_inner_batch_size
    self._adam: Optional[SecondMoments] = None
    if inner_optimizer == 'adam':
      self._adam = SecondMoments(
          {spec.name: spec.shape for spec in learner.parameter_specs},
          self.meta_parameters.dtype)
      # Where checkpoints find it: a resumed run, and a test, go on with it.
      self.meta_parameters.inner_optimizer = self._adam

  @classmethod
  def options(cls, config: Config) -> Dict[str, Any]:
    return {'inner_optimizer': config.inner_loop.inner_optimizer,
            'inner_batch_size': config.inner_loop.inner_batch_size,
            'test_inner_batch_size': config.evaluation.test_inner_batch_size}

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

  def task_objectives(self, parameters: Parameters, episodes: Episodes
                      ) -> Tuple[tf.Tensor, Optional[tf.Tensor]]:
    """What is reported of a training step; the outer step does not minimise it."""
    return self._reported(list(self._training_steps(parameters, self._state(), episodes)))

  def adaptation(self, parameters: Parameters, episodes: Episodes, num_updates: int,
                 first_order: bool) -> Iterator[Parameters]:
    """As in `MetaLearner`, by the inner optimizer; never differentiated through."""
    yield _copies(parameters, episodes.support.inputs.shape[0])
    for step in self._steps(parameters, self._state(), episodes.support.inputs,
                            episodes.support.labels, self._test_inner_batch_size,
                            num_updates):
      yield step.parameters

  def _group_gradient(self, parameters: Parameters, episodes: Episodes):
    """As in `MetaLearner`; the 'gradients' are theta - theta'_i, and the same of the
    state, summed over the tasks."""
    state = self._state()
    steps = list(self._training_steps(parameters, state, episodes))
    def change(before, after):
      return {name: tf.reduce_sum(value - after[name], axis=0)
              for name, value in before.items()}
    changes = change(parameters, steps[-1].parameters)
    if state is not None:
      moments = change(state.moments, steps[-1].state.moments)
      changes.update({_MOMENT + name: value for name, value in moments.items()})
      tasks = episodes.support.inputs.shape[0]
      changes[_STEPS] = tasks * (state.steps - steps[-1].state.steps)
    losses, accuracies = self._reported(steps)
    return losses, losses if accuracies is None else accuracies, changes

  def _apply(self, gradients: Parameters) -> bool:
    if self._adam is not None:
      self._adam.move(gradients)
    return super()._apply({spec.name: gradients[spec.name]
                           for spec in self.learner.parameter_specs})

  def _reported(self, steps: Sequence[_Step]) -> Tuple[tf.Tensor, Optional[tf.Tensor]]:
    losses = tf.add_n([step.losses for step in steps]) / len(steps)
    if not self.objective.has_accuracy:
      return losses, None
    return losses, tf.add_n([step.accuracies for step in steps]) / len(steps)

  def _state(self) -> Optional[_AdamState]:
    return None if self._adam is None else self._adam.state()

  def _training_steps(self, parameters: Parameters, state: Optional[_AdamState],
                      episodes: Episodes) -> Iterator[_Step]:
    inputs = tf.concat([episodes.support.inputs, episodes.query.inputs], axis=1)
    labels = tf.concat([episodes.support.labels, episodes.query.labels], axis=1)
    return self._steps(parameters, state, inputs, labels, self._inner_batch_size,
                       self._num_updates)

  def _steps(self, parameters: Parameters, state: Optional[_AdamState], inputs: tf.Tensor,
             labels: tf.Tensor, batch_size: int, num_updates: int) -> Iterator[_Step]:
    tasks, examples = inputs.shape[:2]
    fast = _copies(parameters, tasks)
    for batch in inner_batches(examples, batch_size, num_updates):
      some = len(batch) < examples
      batch_inputs = tf.gather(inputs, batch, axis=1) if some else inputs
      batch_labels = tf.gather(labels, batch, axis=1) if some else labels
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(fast)
        outputs = self.learner(fast, batch_inputs)
        losses = self.objective.loss(outputs, batch_labels)
        loss = tf.reduce_sum(losses)
      # A bias in front of batch norm is not connected to the loss.
      gradients = tape.gradient(loss, fast,
                                unconnected_gradients=tf.UnconnectedGradients.ZERO)
      if state is None:
        fast = {name: value - self._step_size * gradients[name]
                for name, value in fast.items()}
      else:
        fast, state = _adam_step(fast, gradients, state, self._step_size)
      yield _Step(fast, state, losses, self.objective.accuracy(outputs, batch_labels))


class SecondMoments(tf.keras.layers.Layer):
  """What Adam with beta_1 = 0 remembers, as variables.

  Args:
    shapes: {parameter: shape}.
    dtype: of the parameters.
  """

  def __init__(self, shapes: Mapping[str, Tuple[int, ...]], dtype: str):
    super().__init__(name='second_moments', dtype=dtype, trainable=False)
    self._variables_by_name = {_MOMENT + name: self._new(name.replace('/', '_'), shape, dtype)
                               for name, shape in shapes.items()}
    self._variables_by_name[_STEPS] = self._new('steps', (), dtype)
    for name, variable in self._variables_by_name.items():
      # In Keras 3 a checkpoint holds attributes only, and not what is in a dictionary.
      setattr(self, name.replace('/', '_'), variable)
    self.built = True

  def state(self) -> _AdamState:
    values = {name: tf.convert_to_tensor(value)
              for name, value in self._variables_by_name.items()}
    steps = values.pop(_STEPS)
    return _AdamState({name[len(_MOMENT):]: value for name, value in values.items()}, steps)

  def arrays(self) -> Dict[str, np.ndarray]:
    """{name: current value}, as arrays."""
    return {name: variable.numpy() for name, variable in self._variables_by_name.items()}

  def assign(self, values: Mapping[str, np.ndarray]) -> None:
    """Sets every variable.

    Raises:
      ValueError: when a name is missing or left over, or a shape differs.
    """
    if values.keys() != self._variables_by_name.keys():
      raise ValueError(f'Second moments do not fit the net. Received: {sorted(values)}; '
                       f'expected: {sorted(self._variables_by_name)}.')
    for name, variable in self._variables_by_name.items():
      variable.assign(values[name])

  def move(self, changes: Mapping[str, tf.Tensor]) -> None:
    """Subtracts the mean over tasks of (before - after), which `changes` has among others."""
    for name, variable in self._variables_by_name.items():
      variable.assign_sub(changes[name])

  def _new(self, name: str, shape: Tuple[int, ...], dtype: str):
    return self.add_weight(name=name, shape=shape, dtype=dtype, trainable=False,
                           initializer=tf.keras.initializers.Zeros())


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


def _adam_step(values: Parameters, gradients: Parameters, state: _AdamState,
               step_size: float) -> Tuple[Parameters, _AdamState]:
  """As TF1 writes it: the correction of the bias is part of the step size."""
  steps = state.steps + 1
  moments = {name: BETA_2 * state.moments[name] + (1 - BETA_2) * tf.square(gradient)
             for name, gradient in gradients.items()}
  # `tf.cast` would take the number through float32.
  corrected = step_size * tf.sqrt(1 - tf.pow(tf.constant(BETA_2, steps.dtype), steps))
  values = {name: value - corrected * gradients[name] / (tf.sqrt(moments[name]) + EPSILON)
            for name, value in values.items()}
  return values, _AdamState(moments, steps)


def _copies(parameters: Parameters, tasks: int) -> Parameters:
  """One copy of each parameter per task: `[tasks, *shape]`."""
  return {name: tf.tile(value[tf.newaxis], [tasks] + [1] * value.shape.rank)
          for name, value in parameters.items()}
