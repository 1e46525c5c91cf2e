"""Keras metrics, and functions, as measures of a task."""

from __future__ import annotations

import functools
from typing import Any, Callable, Container, List, Mapping, Optional

import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.keras_models.functional_call import replaced
from maml_tf.keras_models.labels import (
  name_in_keras,
  require_labels_of,
  require_one_tensor,
  structure,
)
from maml_tf.keras_models.masked_means import mean
from maml_tf.measures import ACCURACY, LOSS, Measure
from maml_tf.objectives import with_axes_of

# Parts of names of metrics that are the better the larger they are.
_LARGER = ('accuracy', 'auc', 'precision', 'recall', 'iou', 'io_u', 'f1', 'fbeta',
           'similarity', 'r2', 'sensitivity', 'specificity')


def metrics_as_list(metrics: Any) -> List:
  """Metrics as a list; one alone may be given, as in Keras."""
  if isinstance(metrics, str) or callable(metrics):
    return [metrics]
  if isinstance(metrics, Mapping) or any(isinstance(one, (list, tuple)) for one in metrics):
    raise ConfigError(
        'metrics must be one list: those of several outputs are functions of (labels, '
        f'outputs), which get all of them. Received: {metrics!r}.')
  return list(metrics)


def metric_name(metric: Any) -> str:
  """Raises: ConfigError: for what is no metric, and for a class of one."""
  if isinstance(metric, str):
    return {'acc': 'accuracy'}.get(metric, metric)
  name = getattr(metric, 'name', None) or getattr(metric, '__name__', None)
  if not callable(metric) or name is None or isinstance(metric, type):
    raise ConfigError('A metric must be one of Keras, its name, or a function of (labels, '
                      f'outputs). Received: {metric!r}.')
  return name


def require_free(name: str, taken: Container[str]) -> None:
  """Raises: ConfigError: for a name that is `taken`, or that of the loss."""
  if name == LOSS.name or name in taken:
    raise ConfigError(
        f'Metrics need names of their own, and not that of the loss. Received: {name!r} '
        f'{"for the loss and a metric" if name == LOSS.name else "for several"}: give name=, '
        'or the function another name.', 'metrics')


def metric_measure(name: str) -> Measure:
  """How a metric of that name is shown, and whether more of it is better."""
  if name == ACCURACY.name:
    return ACCURACY
  return Measure(name, name.replace('_', ' '),
                 larger_is_better=any(part in name.lower() for part in _LARGER))


def metric_value(metric: Any, of_logits: bool) -> Callable[[Any, Any, Any], tf.Tensor]:
  """A function of (labels, outputs, mask or None) of one task; one of somebody's own does
  not get the mask."""
  if metric_name(metric) == 'accuracy' and isinstance(metric, str):
    return functools.partial(_accuracy, threshold=0.0 if of_logits else 0.5)
  named = _metric_named(metric) if isinstance(metric, str) else metric
  value = _stateless(named) if isinstance(named, tf.keras.metrics.Metric) else _mean_of(named)

  def checked(labels, outputs, mask):
    require_labels_of(named, labels, outputs)
    return value(with_axes_of(labels, outputs), outputs, mask)
  return checked


def _mean_of(function: Callable) -> Callable[[Any, Any, Any], tf.Tensor]:
  def value(labels, outputs, mask):
    values = function(labels, outputs)
    return mean(values, mask if name_in_keras(function) else None)
  return value


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
                      f'{structure(outputs)}: give a function of (labels, outputs).')
  require_one_tensor('The metric accuracy', labels)
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
  return mean(tf.cast(values, outputs.dtype), mask)
