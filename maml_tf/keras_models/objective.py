"""A Keras loss and Keras metrics as the objective of a task."""

from __future__ import annotations

import functools
import inspect
from typing import (
  Any,
  Callable,
  Container,
  Dict,
  List,
  Mapping,
  Optional,
  Sequence,
  Tuple,
)

import tensorflow as tf

from maml_tf.episodes import num_tasks
from maml_tf.errors import ConfigError
from maml_tf.keras_models.functional_call import replaced
from maml_tf.keras_models.inner_layers import output_layer
from maml_tf.keras_models.learner import KerasLearner, ModelOutputs
from maml_tf.learners.base import Learner
from maml_tf.learners.with_head import WithHead
from maml_tf.measures import ACCURACY, LOSS, Measure
from maml_tf.objectives import Objective, require_same_axes, with_axes_of

# Parts of names of Keras's losses and metrics that are not of a label for each output.
_OF_OTHER_LABELS = ('iou', 'ctc', 'circle', 'generalized', 'wrapper')
# Parts of names of metrics that are the better the larger they are.
_LARGER = ('accuracy', 'auc', 'precision', 'recall', 'iou', 'io_u', 'f1', 'fbeta',
           'similarity', 'r2', 'sensitivity', 'specificity')


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
    for metric in _flat(metrics):
      _require_free(_name(metric), self._metrics)
      self._metrics[_name(metric)] = _metric(metric, self._of_logits())
    self.measures = (*own, *map(_measure, self._metrics))

  def _of_logits(self) -> bool:
    return self._losses is not None and any(
        _configuration(loss).get('from_logits') for loss in tf.nest.flatten(self._losses))

  @property
  def of_probabilities(self) -> bool:
    """Whether a loss says that it takes no logits."""
    return self._losses is not None and any(
        map(_takes_probabilities, tf.nest.flatten(self._losses)))

  def with_metrics(self, metrics: Sequence[Any]) -> 'KerasObjective':
    """The same loss, and these metrics."""
    return KerasObjective(self._objective or self._losses, metrics)

  def mean_over(self, examples: int, loss: float) -> float:
    return loss if self._objective is None else self._objective.mean_over(examples, loss)

  def loss(self, outputs: Any, labels: Any) -> tf.Tensor:
    return self.measured(outputs, labels, ())['loss']

  def measured(self, outputs: Any, labels: Any, metrics: Optional[Sequence[str]] = None
               ) -> Dict[str, tf.Tensor]:
    outputs = _as_model_outputs(outputs, labels)
    values: Dict[str, tf.Tensor] = {}
    if self._objective is not None:
      _require_no_second_softmax(self._objective, outputs.logits)
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
      _require_no_second_softmax(loss, [logits])

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
  _require_numbers(labels)
  _require_labels_of(loss, labels, outputs)
  if type(loss).__call__ is not tf.keras.losses.Loss.__call__:
    return tf.reduce_mean(loss(labels, outputs))   # one's own
  values = loss.call(labels, outputs)
  # That of the values says which labels count (ignore_class).
  total, weights = _sums(values, mask, getattr(values, '_keras_mask', None))
  reduction = str(getattr(loss, 'reduction', None))
  return total if reduction == 'sum' else tf.math.divide_no_nan(total, weights)


def _sums(values: tf.Tensor, *masks: Optional[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
  """Of the values that count, and of how much they do."""
  weights = tf.ones_like(values)
  for one in masks:
    weights *= 1 if one is None else _weights(one, values)
  return tf.reduce_sum(values * weights), tf.reduce_sum(weights)


def _require_no_second_softmax(loss: Any, logits: List) -> None:
  if all(one is None for one in logits):
    return
  if getattr(loss, 'of_logits', False) or _configuration(loss).get('from_logits'):
    raise ConfigError(
        f'The loss {getattr(loss, "name", type(loss).__name__)} takes the softmax or sigmoid '
        'of the outputs itself, and the model ends with one: of probabilities it would be '
        'trained badly, without an error. Leave the activation out at the end of the model, '
        'or give a loss with from_logits=False.')


def require_probabilities(learner: Learner) -> None:
  """Raises: ConfigError: where the last layer gives what is none: a loss of probabilities cuts
  off what is not between 0 and 1, and learns next to nothing of it, without an error."""
  if isinstance(learner, WithHead) or (
      isinstance(learner, KerasLearner) and _ends_linearly(learner.model)):
    raise ConfigError(
        'The loss takes probabilities (from_logits=False), and the last layer of the net has '
        'no activation: give a loss with from_logits=True, or a Keras model a softmax or '
        'sigmoid at its end.', 'objective')


def _ends_linearly(model: tf.keras.Model) -> bool:
  last = output_layer(model)
  return (hasattr(last, 'kernel')
          and getattr(last, 'activation', None) is tf.keras.activations.linear
          and len(model.outputs) == 1)


def _takes_probabilities(loss: Any) -> bool:
  """Whether a loss of Keras, an object or a function, has `from_logits=False`."""
  configuration = _configuration(loss)
  if 'from_logits' in configuration:
    return not configuration['from_logits']
  parameters = inspect.signature(getattr(loss, '_function', loss)).parameters
  return 'from_logits' in parameters and parameters['from_logits'].default is False


def _configuration(loss: Any) -> Mapping[str, Any]:
  """Of a loss of Keras; empty for others."""
  return getattr(loss, 'get_config', dict)()


def _require_numbers(labels: Any) -> None:
  if getattr(labels, 'dtype', None) == tf.string:
    raise ConfigError(
        'Labels of a Keras loss must be numbers, those of classes 0 to ways - 1. Received: '
        'texts: give np.unique(labels, return_inverse=True)[1], or the tasks of '
        'tasks_from_arrays, which number the classes of each task.')


def _require_labels_of(one: Any, labels: Any, outputs: Any) -> None:
  """Raises: ConfigError: where a loss or metric of Keras takes labels of other axes, which
  would be broadcast against the outputs, or be the classes of something else."""
  name = _name_in_keras(one)
  lowered = name.lower().replace('_', '')
  if not name or tf.nest.is_nested(outputs) or any(
      part in lowered for part in _OF_OTHER_LABELS):
    return
  _require_one_tensor(name, labels)
  labels = with_axes_of(labels, outputs)
  if 'sparse' not in lowered:
    require_same_axes(name, labels, outputs)
  elif labels.shape.rank == outputs.shape.rank and labels.shape[-1] != 1:
    raise ConfigError(
        f'{name} takes a number for each example, 0 to ways - 1. Received labels '
        f'{labels.shape.as_list()} for outputs {outputs.shape.as_list()}: of one-hot rows '
        'give y.argmax(-1), or take what is called so without sparse.')


def _require_one_tensor(name: str, labels: Any) -> None:
  if tf.nest.is_nested(labels):
    raise ConfigError(f'{name} takes labels of one tensor. Received: {_structure(labels)}: '
                      'give a function of (labels, outputs), which gets all of them.')


def _name_in_keras(one: Any) -> str:
  """Of the function or the class, where it is Keras's own; '' otherwise."""
  function = getattr(one, '_function', one)
  kind = function if inspect.isfunction(function) else type(one)
  return kind.__name__ if kind.__module__.split('.')[0] in ('keras', 'tf_keras') else ''


def _weights(mask: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
  """`mask` as factors of `values`, over whose axes behind its own it is the same."""
  further = values.shape.rank - mask.shape.rank
  if further < 0 and values.shape.rank:
    raise ConfigError(
        f'The loss gives values {list(values.shape)} for outputs with a mask '
        f'{list(mask.shape)}: a loss of masked outputs is to give a value for each place of '
        'the mask, or one for all.')
  mask = tf.cast(mask, values.dtype)
  return mask if further < 0 else tf.reshape(
      mask, tf.concat([tf.shape(mask), tf.ones([further], tf.int32)], 0))


def _loss(loss: Any):
  if isinstance(loss, str):
    try:
      loss = tf.keras.losses.get(loss)
    except ValueError as error:
      raise ConfigError(f'There is no Keras loss of that name. Received: {loss!r}.'
                        ) from error
  if inspect.isfunction(loss) and _name_in_keras(loss):
    return _Named(loss)
  if not callable(loss) or isinstance(loss, type):
    raise ConfigError('loss must be a Keras loss, its name, a function of (labels, outputs)'
                      f' or an Objective. Received: {loss!r}.')
  return loss


def _require_same_structure(losses: Any, labels: Any, outputs: Any) -> None:
  expected = _structure(losses)
  for what, nest in (('labels', labels), ('outputs', outputs)):
    if _structure(nest) != expected:
      raise ConfigError(
          f'Several losses need {what} of the same structure: lists for a list, dictionaries '
          f'of the same names for a dictionary. Received: {_structure(nest)}; losses: '
          f'{expected}.')


def _structure(nest: Any) -> Any:
  """Lists and dictionaries with a dot in the place of what is in them."""
  if isinstance(nest, Mapping):
    return {name: _structure(value) for name, value in nest.items()}
  if isinstance(nest, (list, tuple)):
    return [_structure(value) for value in nest]
  return '.'


def _flat(metrics: Any) -> List:
  """Metrics as a list; one alone may be given, as in Keras."""
  if isinstance(metrics, str) or callable(metrics):
    return [metrics]
  if isinstance(metrics, Mapping) or any(isinstance(one, (list, tuple)) for one in metrics):
    raise ConfigError(
        'metrics must be one list: those of several outputs are functions of (labels, '
        f'outputs), which get all of them. Received: {metrics!r}.')
  return list(metrics)


def _name(metric: Any) -> str:
  if isinstance(metric, str):
    return {'acc': 'accuracy'}.get(metric, metric)
  name = getattr(metric, 'name', None) or getattr(metric, '__name__', None)
  if not callable(metric) or name is None or isinstance(metric, type):
    raise ConfigError('A metric must be one of Keras, its name, or a function of (labels, '
                      f'outputs). Received: {metric!r}.')
  return name


def _require_free(name: str, taken: Container[str]) -> None:
  if name == LOSS.name or name in taken:
    raise ConfigError(
        f'Metrics need names of their own, and not that of the loss. Received: {name!r} '
        f'{"for the loss and a metric" if name == LOSS.name else "for several"}: give name=, '
        'or the function another name.', 'metrics')


def _measure(name: str) -> Measure:
  if name == ACCURACY.name:
    return ACCURACY
  return Measure(name, name.replace('_', ' '),
                 larger_is_better=any(part in name.lower() for part in _LARGER))


def _metric(metric: Any, of_logits: bool) -> Callable[[Any, Any, Any], tf.Tensor]:
  """A function of (labels, outputs, mask or None) of one task; one of somebody's own does
  not get the mask."""
  if _name(metric) == 'accuracy' and isinstance(metric, str):
    return functools.partial(_accuracy, threshold=0.0 if of_logits else 0.5)
  named = _metric_named(metric) if isinstance(metric, str) else metric
  value = _stateless(named) if isinstance(named, tf.keras.metrics.Metric) else _mean_of(named)

  def checked(labels, outputs, mask):
    _require_labels_of(named, labels, outputs)
    return value(with_axes_of(labels, outputs), outputs, mask)
  return checked


def _mean_of(function: Callable) -> Callable[[Any, Any, Any], tf.Tensor]:
  def mean(labels, outputs, mask):
    values = function(labels, outputs)
    return _mean(values, mask if _name_in_keras(function) else None)
  return mean


def _mean(values: tf.Tensor, mask: Optional[tf.Tensor]) -> tf.Tensor:
  return tf.reduce_mean(values) if mask is None else tf.math.divide_no_nan(
      *_sums(tf.convert_to_tensor(values), mask))


def _metric_named(name: str) -> Any:
  try:
    metric = tf.keras.metrics.get(name)
  except ValueError:
    metric = None
  if not callable(metric):   # Keras 2 gives back some names that it does not know
    raise ConfigError(f'There is no Keras metric of that name. Received: {name!r}.')
  return metric


def _stateless(metric: tf.keras.metrics.Metric) -> Callable[[Any, Any, Any], tf.Tensor]:
  """What the metric gives for these labels and outputs alone."""
  metric.reset_state()
  start = [variable.numpy() for variable in metric.variables]

  def value(labels, outputs, mask):
    variables = metric.variables
    if len(variables) != len(start):
      raise ConfigError(f'The metric {metric.name!r} makes its variables when it is called: '
                        'call it once before.')
    with replaced([(variable, tf.constant(before, variable.dtype))
                   for variable, before in zip(variables, start)]):
      # Some metrics of Keras 3 fail for float64, which none of them keeps.
      outputs = tf.nest.map_structure(lambda value: tf.cast(value, metric.dtype), outputs)
      weights = {} if mask is None else dict(sample_weight=tf.cast(mask, metric.dtype))
      metric.update_state(labels, outputs, **weights)
      return tf.identity(metric.result())
  in_graph = tf.function(value, autograph=False)
  return lambda *given: (in_graph if tf.executing_eagerly() else value)(*given)


def _accuracy(labels: tf.Tensor, outputs: tf.Tensor, mask: Optional[tf.Tensor],
              threshold: float) -> tf.Tensor:
  """As Keras chooses it by the shapes, but for the threshold of one output, which is that of
  a probability there, of logits too."""
  metrics = tf.keras.metrics
  if tf.nest.is_nested(outputs):
    raise ConfigError('The metric accuracy is of one output. Received: '
                      f'{_structure(outputs)}: give a function of (labels, outputs).')
  _require_one_tensor('The metric accuracy', labels)
  if outputs.shape.rank == 1:   # or one of all examples would be the chosen class
    outputs = outputs[:, tf.newaxis]
  if outputs.shape[-1] == 1:
    labels = tf.cast(labels, outputs.dtype)   # Keras 2 compares them as they are
    values = metrics.binary_accuracy(tf.reshape(labels, tf.shape(outputs)), outputs,
                                     threshold=threshold)
  elif labels.shape.rank < outputs.shape.rank or labels.shape[-1] == 1:
    values = metrics.sparse_categorical_accuracy(labels, outputs)
  else:
    values = metrics.categorical_accuracy(labels, outputs)
  return _mean(tf.cast(values, outputs.dtype), mask)
