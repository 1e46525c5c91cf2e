"""Which labels a loss or a metric of Keras takes."""

from __future__ import annotations

import inspect
from typing import Any, Mapping

import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.objectives import require_same_axes, with_axes_of

# Parts of names of Keras's losses and metrics that are not of a label for each output.
_OF_OTHER_LABELS = ('iou', 'ctc', 'circle', 'generalized', 'wrapper')


def name_in_keras(one: Any) -> str:
  """Of the function or the class, where it is Keras's own; '' otherwise."""
  function = getattr(one, '_function', one)
  kind = function if inspect.isfunction(function) else type(one)
  return kind.__name__ if kind.__module__.split('.')[0] in ('keras', 'tf_keras') else ''


def require_numbers(labels: Any) -> None:
  """Raises: ConfigError: for texts."""
  if getattr(labels, 'dtype', None) == tf.string:
    raise ConfigError(
        'Labels of a Keras loss must be numbers, those of classes 0 to ways - 1. Received: '
        'texts: give np.unique(labels, return_inverse=True)[1], or the tasks of '
        'tasks_from_arrays, which number the classes of each task.')


def require_labels_of(one: Any, labels: Any, outputs: Any) -> None:
  """Raises: ConfigError: where a loss or metric of Keras takes labels of other axes, which
  would be broadcast against the outputs, or be the classes of something else."""
  name = name_in_keras(one)
  lowered = name.lower().replace('_', '')
  if not name or tf.nest.is_nested(outputs) or any(
      part in lowered for part in _OF_OTHER_LABELS):
    return
  require_one_tensor(name, labels)
  labels = with_axes_of(labels, outputs)
  if 'sparse' not in lowered:
    require_same_axes(name, labels, outputs)
  elif labels.shape.rank == outputs.shape.rank and labels.shape[-1] != 1:
    raise ConfigError(
        f'{name} takes a number for each example, 0 to ways - 1. Received labels '
        f'{labels.shape.as_list()} for outputs {outputs.shape.as_list()}: of one-hot rows '
        'give y.argmax(-1), or take what is called so without sparse.')


def require_one_tensor(name: str, labels: Any) -> None:
  """Raises: ConfigError: for a nest of labels."""
  if tf.nest.is_nested(labels):
    raise ConfigError(f'{name} takes labels of one tensor. Received: {structure(labels)}: '
                      'give a function of (labels, outputs), which gets all of them.')


def structure(nest: Any) -> Any:
  """Lists and dictionaries with a dot in the place of what is in them."""
  if isinstance(nest, Mapping):
    return {name: structure(value) for name, value in nest.items()}
  if isinstance(nest, (list, tuple)):
    return [structure(value) for value in nest]
  return '.'
