"""A Keras loss and Keras metrics as the objective of a task."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, List, Optional, Sequence

import tensorflow as tf

from maml_tf.episodes import num_tasks
from maml_tf.errors import ConfigError
from maml_tf.keras_models.exact_forms import exact
from maml_tf.keras_models.labels import (
  name_in_keras,
  require_labels_of,
  require_numbers,
  structure,
)
from maml_tf.keras_models.learner import ModelOutputs
from maml_tf.keras_models.masked_means import sums
from maml_tf.keras_models.metrics import (
  metric_measure,
  metric_name,
  metric_value,
  metrics_as_list,
  require_free,
)
from maml_tf.keras_models.probabilities import (
  require_no_second_softmax,
  takes_logits,
  takes_probabilities,
)
from maml_tf.measures import LOSS
from maml_tf.objectives import Objective, with_axes_of


class KerasObjective(Objective):
  """The loss of a task is that of its examples, plus what the model adds to it.

  Args:
    loss: a Keras loss (an object, or its name), a function of (labels, outputs), of whose
      values the mean is taken, or a nest of these for a model of several outputs, whose
      sum is taken; or an `Objective`. A Keras loss alone is that of each output.
    metrics: Keras metrics (objects, names) or functions of (labels, outputs): one value
      per task each.

  As in Keras, labels `[examples]` of outputs `[examples, 1]` get that axis, and those that
  have it of outputs without it lose it.

  Raises:
    ConfigError: for what is none of these, and for metrics of one name, or called 'loss'; and
      for a loss that takes the softmax or sigmoid itself, of a model that ends with one.
  """

  def __init__(self, loss: Any, metrics: Any = ()):
    self._objective = loss if isinstance(loss, Objective) else None
    self._losses = None if self._objective else tf.nest.map_structure(_loss, loss)
    own = self._objective.measures if self._objective else (LOSS,)
    self._metrics: Dict[str, Callable] = {}
    for metric in metrics_as_list(metrics):
      require_free(metric_name(metric), self._metrics)
      self._metrics[metric_name(metric)] = metric_value(metric, self._of_logits())
    self.measures = (*own, *map(metric_measure, self._metrics))

  def _of_logits(self) -> bool:
    return self._losses is not None and any(
        map(takes_logits, tf.nest.flatten(self._losses)))

  @property
  def of_probabilities(self) -> bool:
    """Whether a loss says that it takes no logits."""
    return self._losses is not None and any(
        map(takes_probabilities, tf.nest.flatten(self._losses)))

  def with_metrics(self, metrics: Sequence[Any]) -> 'KerasObjective':
    """The same loss, and these metrics."""
    return KerasObjective(self._objective or self._losses, metrics)

  def mean_over(self, examples: int, loss: float) -> float:
    return loss if self._objective is None else self._objective.mean_over(examples, loss)

  def loss(self, outputs: Any, labels: Any) -> tf.Tensor:
    return self.measured(outputs, labels, ())['loss']

  def measured(self, outputs: Any, labels: Any, metrics: Optional[Sequence[str]] = None
               ) -> Dict[str, tf.Tensor]:
    with exact():   # a loss of one's own computes what layers do
      return self._measured(_as_model_outputs(outputs, labels), labels, metrics)

  def _measured(self, outputs: ModelOutputs, labels: Any, metrics: Optional[Sequence[str]]
                ) -> Dict[str, tf.Tensor]:
    values: Dict[str, tf.Tensor] = {}
    if self._objective is not None:
      require_no_second_softmax(self._objective, outputs.logits)
      values = dict(self._objective.measured(outputs.outputs, labels))
    else:
      self._require_logits(outputs)
      values['loss'] = _of_each_task(self._loss_of_task, labels, outputs)
    values['loss'] += tf.cast(outputs.added, values['loss'].dtype)
    for name in self._metrics if metrics is None else metrics:
      metric = self._metrics[name]
      values[name] = tf.cast(_of_each_task(
          lambda labels, outputs, masks, metric=metric: metric(
              labels, outputs, masks[0] if len(masks) == 1 else None),
          labels, outputs), values['loss'].dtype)
    return values

  def _require_logits(self, outputs: ModelOutputs) -> None:
    losses = tf.nest.flatten(self._losses)
    if len(losses) == 1:
      losses *= len(outputs.logits)
    for loss, logits in zip(losses, outputs.logits):
      require_no_second_softmax(loss, [logits])

  def _loss_of_task(self, labels: Any, outputs: Any, masks: List) -> tf.Tensor:
    several = tf.nest.is_nested(outputs)
    losses = self._losses
    if several and isinstance(losses, tf.keras.losses.Loss):
      losses = tf.nest.map_structure(lambda _: self._losses, outputs)
    if tf.nest.is_nested(losses):
      _require_same_structure(losses, labels, outputs)
      parts = list(zip(*map(tf.nest.flatten, (losses, labels, outputs))))
    else:   # a function may take nests
      parts, masks = [(losses, labels, outputs)], [] if several else masks
    masks = masks or [None] * len(parts)
    return tf.add_n([_reduced(*part, mask) for part, mask in zip(parts, masks)])


class _Named(tf.keras.losses.Loss):
  """What Keras has a function for, with the masks that its losses heed."""

  def __init__(self, function: Callable):
    super().__init__(name=getattr(function, '__name__', None))
    self._function = function

  def call(self, y_true, y_pred):
    return self._function(y_true, y_pred)


def as_objective(objective: Any) -> Objective:
  """An `Objective` as it is; a Keras loss or a function as one."""
  return objective if isinstance(objective, Objective) else KerasObjective(objective)


def _as_model_outputs(outputs: Any, labels: Any) -> ModelOutputs:
  if isinstance(outputs, ModelOutputs):
    return outputs
  first = tf.nest.flatten(outputs)[0]
  return ModelOutputs(outputs, tf.zeros([1], first.dtype), [], [])


def _of_each_task(function: Callable, labels: Any, outputs: ModelOutputs) -> tf.Tensor:
  """`function(labels, outputs, masks)` of each task: `[tasks]`."""
  def at(task, nest):
    return tf.nest.map_structure(
        lambda value: None if value is None else value[task], nest)

  def value(task):
    given = at(task, outputs.outputs)
    # Where Keras's losses look for them: of probabilities near 0 the loss would be cut off,
    # and its gradient 0.
    for output, logits in zip(tf.nest.flatten(given), at(task, outputs.logits)):
      if logits is not None:
        output._keras_logits = logits
    return function(at(task, labels), given, at(task, outputs.masks))
  return tf.stack([value(task) for task in range(num_tasks(outputs.outputs))])


def _reduced(loss: Any, labels: Any, outputs: Any, mask: Optional[tf.Tensor]) -> tf.Tensor:
  """The loss of one task, a scalar; of the type of the outputs, which the call of a loss of
  Keras 3 is not."""
  labels = with_axes_of(labels, outputs)
  if not isinstance(loss, tf.keras.losses.Loss):
    return tf.reduce_mean(loss(labels, outputs))
  require_numbers(labels)
  require_labels_of(loss, labels, outputs)
  if type(loss).__call__ is not tf.keras.losses.Loss.__call__:
    return tf.reduce_mean(loss(labels, outputs))   # one's own
  values = loss.call(labels, outputs)
  # That of the values says which labels count (ignore_class).
  total, weights = sums(values, mask, getattr(values, '_keras_mask', None))
  reduction = str(getattr(loss, 'reduction', None))
  return total if reduction == 'sum' else tf.math.divide_no_nan(total, weights)


def _loss(loss: Any):
  if isinstance(loss, str):
    try:
      loss = tf.keras.losses.get(loss)
    except ValueError as error:
      raise ConfigError(f'There is no Keras loss of that name. Received: {loss!r}.'
                        ) from error
  if inspect.isfunction(loss) and name_in_keras(loss):
    return _Named(loss)
  if not callable(loss) or isinstance(loss, type):
    raise ConfigError('loss must be a Keras loss, its name, a function of (labels, outputs)'
                      f' or an Objective. Received: {loss!r}.')
  return loss


def _require_same_structure(losses: Any, labels: Any, outputs: Any) -> None:
  expected = structure(losses)
  for what, nest in (('labels', labels), ('outputs', outputs)):
    if structure(nest) != expected:
      raise ConfigError(
          f'Several losses need {what} of the same structure: lists for a list, dictionaries '
          f'of the same names for a dictionary. Received: {structure(nest)}; losses: '
          f'{expected}.')
