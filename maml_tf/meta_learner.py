"""What all meta-learners share: variables, the outer step, the evaluation."""

from __future__ import annotations

import abc
import math
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.config import Config
from maml_tf.episodes import Episodes
from maml_tf.inner_loop import adaptation
from maml_tf.learners.base import Learner, Parameters
from maml_tf.objectives import Objective
from maml_tf.task_groups import TaskGroups, task_groups


class TaskResults(NamedTuple):
  """How well each task was solved; accuracies are None for regressions.

  Attributes:
    support_loss, support_accuracy: `[tasks]`, on the support set before any
      update (the TF1 code's 'pre-update' values).
    query_losses, query_accuracies: `[tasks, updates + 1]`, on the query set
      before the first update and after each one.
  """
  support_loss: tf.Tensor
  support_accuracy: Optional[tf.Tensor]
  query_losses: tf.Tensor
  query_accuracies: Optional[tf.Tensor]


class MetaParameters(tf.keras.layers.Layer):
  """The variables of a learner's initialisation, theta.

  A layer of its own, so that two phases of training can share them.

  Args:
    learner: the net whose parameters these are.
    seed: of the initial values.
    dtype: 'float32' or 'float64'.
  """

  def __init__(self, learner: Learner, seed: int = 0, dtype: str = 'float32'):
    super().__init__(name='parameters', dtype=dtype)
    initial = learner.initial_values(seed, dtype)
    self._by_name = {
        spec.name: self.add_weight(
            name=spec.name.replace('/', '_'), shape=spec.shape, dtype=dtype,
            initializer=tf.keras.initializers.Zeros(), trainable=True)
        for spec in learner.parameter_specs}
    for name, variable in self._by_name.items():
      # In Keras 3 a checkpoint holds attributes only, and not what is in a dictionary.
      setattr(self, name.replace('/', '_'), variable)
    self.built = True
    self.assign(initial)

  def tensors(self) -> Parameters:
    """{name: current value}, as tensors."""
    return {name: tf.convert_to_tensor(value) for name, value in self._by_name.items()}

  def arrays(self) -> Dict[str, np.ndarray]:
    """{name: current value}, as arrays."""
    return {name: value.numpy() for name, value in self._by_name.items()}

  def variables_in_order(self, names) -> List:
    return [self._by_name[name] for name in names]

  def assign(self, values: Mapping[str, np.ndarray]) -> None:
    """Sets every parameter.

    Raises:
      ValueError: when names or shapes differ from the learner's.
    """
    shapes = {name: tuple(variable.shape) for name, variable in self._by_name.items()}
    received = {name: tuple(np.shape(value)) for name, value in values.items()}
    if received != shapes:
      raise ValueError(f'Parameters do not fit the net. Received: {received}; '
                       f'expected: {shapes}.')
    for name, variable in self._by_name.items():
      variable.assign(values[name])


class MetaLearner(tf.keras.Model, abc.ABC):
  """A Keras model whose batches are meta-batches of tasks (`Episodes`).

  Train it through `compile` and `fit`; `fit`, callbacks, checkpoints and
  strategies are Keras's own. A subclass says what is minimised, in
  `task_objectives`.

  Args:
    learner: the net, as a pure function of its parameters.
    objective: loss and accuracy of a task.
    step_size: alpha, the inner loop's step size.
    num_updates: inner steps in training.
    parameters: the variables to train; None: new ones.
    seed: of the initial values of new ones.
    dtype: of new ones: 'float32' or 'float64'. All arithmetic is done in it.
    gradient_clip: elementwise bound of the meta-gradient; 0: none.
    tasks_at_once: tasks whose activations are in memory together; the
      meta-gradient is accumulated over them. 0: chosen by `task_groups`. A meta-batch
      that it does not divide is refused.
    recompute_inner_steps: compute inner steps a second time in the backward pass
      instead of keeping their activations.
    cores: that compute groups of tasks side by side; None: one after the other.
  """

  def __init__(self, learner: Learner, objective: Objective, *, step_size: float,
               num_updates: int, parameters: Optional[MetaParameters] = None,
               seed: int = 0, dtype: str = 'float32', gradient_clip: float = 0.0,
               tasks_at_once: int = 0, recompute_inner_steps: bool = False,
               cores: Optional[int] = None):
    # Keras casts what `call` gets to this type.
    super().__init__(dtype=dtype if parameters is None else parameters.dtype)
    self.learner = learner
    self.objective = objective
    self.meta_parameters = (MetaParameters(learner, seed, dtype) if parameters is None
                            else parameters)
    self.built = True
    self._step_size = step_size
    self._num_updates = num_updates
    self._gradient_clip = gradient_clip
    self._tasks_at_once = tasks_at_once
    self._recompute_inner_steps = recompute_inner_steps
    self._cores = cores
    # Set by the step that met a loss or gradient that is not finite; no step
    # after it changes anything.
    self.diverged = tf.Variable(False, trainable=False, name='diverged')
    # Of that step, or else of the latest one.
    self.latest_loss = tf.Variable(0.0, trainable=False, name='latest_loss',
                                   dtype=self.meta_parameters.dtype)
    self._means: Dict[str, tf.keras.metrics.Mean] = {}

  @classmethod
  def options(cls, config: Config) -> Dict[str, Any]:
    """What the configuration says of the arguments that a method has beyond these."""
    return {}

  @property
  def step_size(self) -> float:
    """Of the inner loop, alpha. What was traced with another one keeps that one."""
    return self._step_size

  @step_size.setter
  def step_size(self, value: float) -> None:
    self._step_size = value

  def state(self) -> Dict[str, np.ndarray]:
    """{name: array} of all that a test depends on: the parameters, and what a method keeps
    beside them. It is what a file of weights holds."""
    return self.meta_parameters.arrays()

  def assign_state(self, values: Mapping[str, np.ndarray]) -> None:
    """Sets all of `state`.

    Raises:
      ValueError: when names or shapes differ from its own.
    """
    self.meta_parameters.assign(values)

  @abc.abstractmethod
  def task_objectives(self, parameters: Parameters, episodes: Episodes
                      ) -> Tuple[tf.Tensor, Optional[tf.Tensor]]:
    """Loss and accuracy of every task, `[tasks]` each, as functions of theta.

    The mean of the losses is what the outer step minimises. The accuracy is
    None for regressions.
    """

  def forward_passes(self, support_examples: int, query_examples: int) -> Optional[int]:
    """What the meta-gradient of a task costs, in forward passes of one example.

    Convolutions and matrix products alone: differentiating a pass costs two of them.
    None: it was not counted.
    """
    return None

  def compile(self, optimizer, **kwargs) -> None:
    """As in Keras; the optimizer's state exists from here on."""
    super().compile(optimizer=optimizer, **kwargs)
    if hasattr(self.optimizer, 'build'):
      self.optimizer.build(self.trainable_variables)
    else:   # those of TensorFlow Addons are of Keras's older kind
      self.optimizer._create_all_weights(self.trainable_variables)

  def call(self, inputs):
    """The initialisation's outputs, without adaptation. `[tasks, examples, ...]`."""
    return self.learner(self.meta_parameters.tensors(), inputs)

  def meta_gradient(self, episodes: Episodes, parameters: Optional[Parameters] = None
                    ) -> Tuple[tf.Tensor, Optional[tf.Tensor], Parameters]:
    """Mean loss, mean accuracy and {name: gradient of the mean loss}, unclipped.

    Memory grows with the tasks that are computed at once, not with the meta-batch.

    Args:
      episodes: the meta-batch.
      parameters: theta; None: the values of the variables.
    """
    if parameters is None:
      parameters = self.meta_parameters.tensors()
    losses, accuracies, gradients = self._map_groups(
        lambda group: self._group_gradient(parameters, group), episodes)
    tasks = losses.shape.num_elements()
    gradients = {name: tf.reduce_sum(value, axis=0) / tasks
                 for name, value in gradients.items()}
    accuracy = tf.reduce_mean(accuracies) if self.objective.has_accuracy else None
    return tf.reduce_mean(losses), accuracy, gradients

  # Autograph has nothing to convert here, and takes seconds to find that out.
  @tf.autograph.experimental.do_not_convert
  def train_step(self, episodes: Episodes) -> Dict[str, tf.Tensor]:
    """One outer step: theta <- theta - beta * gradient (algorithm 1, line 8)."""
    loss, accuracy, gradients = self.meta_gradient(self._cast(episodes))
    finite = all_finite(loss, gradients)
    self.latest_loss.assign(tf.where(self.diverged, self.latest_loss, loss))
    proceed = tf.logical_and(finite, tf.logical_not(self.diverged))
    self.diverged.assign(tf.logical_not(proceed))
    gradients = self.clipped(gradients)
    tf.cond(proceed, lambda: self._apply(gradients), lambda: False)
    logs = {'loss': loss}
    if accuracy is not None:
      logs['accuracy'] = accuracy
    return logs

  def clipped(self, gradients: Parameters) -> Parameters:
    """Each element within the bound, if there is one."""
    if self._gradient_clip == 0:
      return gradients
    return {name: tf.clip_by_value(value, -self._gradient_clip, self._gradient_clip)
            for name, value in gradients.items()}

  @tf.autograph.experimental.do_not_convert
  def test_step(self, episodes: Episodes) -> Dict[str, tf.Tensor]:
    """The mean over tasks of everything in `TaskResults`, named as in the TF1 code."""
    for name, value in named_means(self.task_results(episodes, self._num_updates)).items():
      if name not in self._means:
        self._means[name] = tf.keras.metrics.Mean(name=name)
      self._means[name].update_state(value)
    return {name: mean.result() for name, mean in self._means.items()}

  @property
  def metrics(self) -> List[tf.keras.metrics.Metric]:
    return list(self._means.values())

  def task_results(self, episodes: Episodes, num_updates: int) -> TaskResults:
    """Adapts to every task by `num_updates` steps, and measures on the way."""
    def group_results(group):
      return self._group_results(self.meta_parameters.tensors(), group, num_updates)
    support_loss, support_accuracy, query_losses, query_accuracies = self._map_groups(
        group_results, self._cast(episodes))
    def merged(value):
      return tf.reshape(value, [-1] + value.shape[2:].as_list())
    if not self.objective.has_accuracy:
      return TaskResults(merged(support_loss), None, merged(query_losses), None)
    return TaskResults(merged(support_loss), merged(support_accuracy),
                       merged(query_losses), merged(query_accuracies))

  def adapted_outputs(self, episodes: Episodes, num_updates: int) -> tf.Tensor:
    """Outputs for the query inputs before the first update and after each one.

    Returns:
      `[tasks, num_updates + 1, query examples, outputs]`.
    """
    episodes = self._cast(episodes)
    steps = self.adaptation(self.meta_parameters.tensors(), episodes, num_updates,
                            first_order=True)
    return tf.stack([self.learner(adapted, episodes.query.inputs) for adapted in steps],
                    axis=1)

  def adaptation(self, parameters: Parameters, episodes: Episodes, num_updates: int,
                 first_order: bool):
    """See `inner_loop.adaptation`."""
    return adaptation(
        self.learner, self.objective, parameters, episodes.support.inputs,
        episodes.support.labels, step_size=self._step_size, num_updates=num_updates,
        first_order=first_order, recompute=self._recompute_inner_steps)

  def groups(self, episodes: Episodes) -> TaskGroups:
    """How the tasks of `episodes` (or of what describes their shapes) are divided.

    Raises:
      ValueError: when `tasks_at_once` does not divide their number.
    """
    tasks, support_size, *example = episodes.support.inputs.shape
    return task_groups(tasks, support_size + episodes.query.inputs.shape[1],
                       math.prod(example), at_once=self._tasks_at_once, cores=self._cores)

  def _apply(self, gradients: Parameters) -> bool:
    variables = self.meta_parameters.variables_in_order(gradients)
    self.optimizer.apply_gradients(zip(gradients.values(), variables))
    return True

  def _group_gradient(self, parameters: Parameters, episodes: Episodes):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(parameters)
      losses, accuracies = self.task_objectives(parameters, episodes)
      loss = tf.reduce_sum(losses)
    # A bias in front of batch norm is not connected to the loss.
    gradients = tape.gradient(loss, parameters,
                              unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # `map_fn` has no None: the losses stand in where there is no accuracy.
    return losses, losses if accuracies is None else accuracies, gradients

  def _group_results(self, parameters: Parameters, episodes: Episodes, num_updates: int):
    # First order: nothing is differentiated through the updates here.
    steps = self.adaptation(parameters, episodes, num_updates, first_order=True)
    return self._measured(self.learner, parameters, steps, episodes)

  def _measured(self, learner: Learner, parameters: Parameters,
                steps: Iterable[Parameters], episodes: Episodes):
    """What `_group_results` returns, of `learner`: with `parameters` on the support set,
    and with the parameters of each of `steps` on the query set."""
    support_outputs = learner(parameters, episodes.support.inputs)
    query_losses, query_accuracies = [], []
    for adapted in steps:
      outputs = learner(adapted, episodes.query.inputs)
      query_losses.append(self.objective.loss(outputs, episodes.query.labels))
      query_accuracies.append(self.objective.accuracy(outputs, episodes.query.labels))
    support_loss = self.objective.loss(support_outputs, episodes.support.labels)
    query_losses = tf.stack(query_losses, axis=1)
    if not self.objective.has_accuracy:
      return support_loss, support_loss, query_losses, query_losses
    support_accuracy = self.objective.accuracy(support_outputs, episodes.support.labels)
    return support_loss, support_accuracy, query_losses, tf.stack(query_accuracies, axis=1)

  def _map_groups(self, function, episodes: Episodes):
    """`function` of each group of tasks; results with a leading axis of groups."""
    tasks = episodes.support.inputs.shape[0]
    size, side_by_side = self.groups(episodes)
    if size == tasks:
      return tf.nest.map_structure(lambda value: value[tf.newaxis], function(episodes))
    groups = tf.nest.map_structure(
        lambda value: tf.reshape(value, [tasks // size, size] + value.shape[1:].as_list()),
        episodes)
    one_group = tf.nest.map_structure(
        lambda value: tf.TensorSpec(value.shape[1:], value.dtype), groups)
    # A graph of its own: what it returns has to be known, and making it takes seconds.
    function = tf.function(function, autograph=False)
    outputs = function.get_concrete_function(one_group).structured_outputs
    signature = tf.nest.map_structure(
        lambda value: tf.TensorSpec(value.shape, value.dtype), outputs)
    return tf.map_fn(function, groups, parallel_iterations=side_by_side,
                     fn_output_signature=signature)

  def _cast(self, episodes: Episodes) -> Episodes:
    dtype = self.meta_parameters.dtype
    def floats(value):
      return tf.cast(value, dtype) if value.dtype.is_floating else value
    return Episodes.of(*(floats(value) for value in episodes))


def all_finite(loss: tf.Tensor, gradients: Parameters) -> tf.Tensor:
  """Whether the loss and every element of the gradients is a finite number."""
  return tf.reduce_all([tf.math.is_finite(loss)] + [
      tf.reduce_all(tf.math.is_finite(value)) for value in gradients.values()])


def named_means(results: TaskResults) -> Dict[str, tf.Tensor]:
  """{name: mean over tasks}, under the TF1 code's names without their prefix.

  'Pre-update' is the support set before any update, 'Post-update ..., step J' the
  query set after J updates. 'Query ... before update' is new here.
  """
  means = {'Pre-update_loss': tf.reduce_mean(results.support['loss'])}
  if results.support['accuracy'] is not None:
    means['Pre-update_accuracy'] = tf.reduce_mean(results.support['accuracy'])
  for kind, values in (('loss', results.query['loss']),
                       ('accuracy', results.query['accuracy'])):
    if values is None:
      continue
    by_step = tf.unstack(tf.reduce_mean(values, axis=0))
    means[f'Query_{kind}_before_update'] = by_step[0]
    # The TF1 code wrote 'Post-update loss, step 1'; TensorBoard showed this.
    means.update({f'Post-update_{kind}__step_{step}': value
                  for step, value in enumerate(by_step) if step > 0})
  return means
