"""What a task minimises and is judged by: one value per task."""

from __future__ import annotations

import abc
from typing import Any, Dict, Tuple

import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.measures import ACCURACY, LOSS, MEAN_SQUARED_ERROR, Measure


class Objective(abc.ABC):
  """What a task minimises, and how well it is solved.

  Attributes:
    measures: what `measured` gives, the loss first; tasks are judged by the last one.
    of_logits: whether it takes the softmax of the outputs itself.
    of_probabilities: whether it takes no logits.
  """
  measures: Tuple[Measure, ...] = (LOSS,)
  of_logits = False
  of_probabilities = False

  @property
  def measure(self) -> Measure:
    """What tasks are judged by."""
    return self.measures[-1]

  @abc.abstractmethod
  def loss(self, outputs: Any, labels: Any) -> tf.Tensor:
    """`[tasks]`. Outputs as the learner gives them, labels as in `Episodes`."""

  def measured(self, outputs: Any, labels: Any) -> Dict[str, tf.Tensor]:
    """{name of a measure: `[tasks]`}, in the order of `measures`."""
    return {'loss': self.loss(outputs, labels)}

  def mean_over(self, examples: int, loss: float) -> float:
    """The mean over a task's `examples` that belongs to a value of its loss."""
    return loss


class MeanSquaredError(Objective):
  """The mean over a task's examples and outputs, of any axes (equation 2; a true mean)."""

  measures = (MEAN_SQUARED_ERROR,)

  def loss(self, outputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    labels = with_axes_of(labels, outputs)
    require_same_axes('MeanSquaredError', labels, outputs)
    errors = outputs - tf.cast(labels, outputs.dtype)
    return tf.reduce_mean(tf.square(errors), axis=list(range(1, errors.shape.rank)))


class CrossEntropy(Objective):
  """Cross-entropy (equation 3) of logits, and accuracy; a subclass says on which scale."""

  measures = (LOSS, ACCURACY)
  of_logits = True

  def measured(self, outputs: tf.Tensor, labels: tf.Tensor) -> Dict[str, tf.Tensor]:
    return {'loss': self.loss(outputs, labels),
            'accuracy': accuracy(outputs, class_numbers(labels, outputs))}

  def of_examples(self, outputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """`[tasks, examples]`."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(class_numbers(labels, outputs),
                                                          outputs)


class MeanCrossEntropy(CrossEntropy):
  """A true mean over the examples: of methods without an inner loop, whose step sizes would
  belong to another scale."""

  def loss(self, outputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(self.of_examples(outputs, labels), axis=1)


class ScaledCrossEntropy(CrossEntropy):
  """Cross-entropy (equation 3), summed over the examples and divided by K.

  This is the TF1 code's scale, and the paper's step sizes belong to it: with one
  support example per class it is N times the mean cross-entropy. The query loss
  is divided by the same K, also where there are 15 query examples per class.

  Args:
    shots: K, the number of support examples per class.

  Raises:
    ConfigError: for `shots` that are not above 0.
  """

  def __init__(self, shots: int):
    if not shots > 0:
      raise ConfigError(f'shots must be above 0. Received: {shots!r}.', 'shots')
    self._shots = shots

  def loss(self, outputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(self.of_examples(outputs, labels), axis=1) / self._shots

  def mean_over(self, examples: int, loss: float) -> float:
    """
    Example:
      >>> ScaledCrossEntropy(shots=1).mean_over(examples=75, loss=120.0)
      1.6
    """
    return loss * self._shots / examples


def of_each_task(loss: tf.Tensor) -> tf.Tensor:
  """`loss`, `[tasks]`.

  Raises:
    ConfigError: for one of examples, whose sum the inner loop would follow, and for one of all
      tasks, of which it would follow a share.
  """
  if loss.shape.rank not in (None, 1):
    raise ConfigError(
        'The loss of an Objective must be a value for each task, [tasks]. Received: one of '
        f'the shape {loss.shape.as_list()}: take the mean over all axes but the first one; a '
        'Keras loss, or a function of (labels, outputs), is given as it is.')
  return loss


def class_numbers(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
  """Numbers of classes as integers, `[tasks, examples]`; an axis of size 1 behind is left out.

  Raises:
    ConfigError: for what is no number for each example.
  """
  labels = tf.convert_to_tensor(labels)
  if labels.shape.rank == outputs.shape.rank and labels.shape[-1] == 1:
    labels = labels[..., 0]
  if labels.dtype == tf.string or labels.shape.rank == outputs.shape.rank:
    raise ConfigError(
        'Labels of a cross-entropy are a number for each example, 0 to ways - 1. Received: '
        f'{labels.dtype.name} {labels.shape.as_list()} for outputs '
        f'{outputs.shape.as_list()}: of one-hot rows give y.argmax(-1), of texts '
        'np.unique(y, return_inverse=True)[1].')
  return labels if labels.dtype in (tf.int32, tf.int64) else tf.cast(labels, tf.int32)


def accuracy(outputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
  """The share of examples whose class has the largest output, `[tasks]`."""
  right = tf.equal(tf.argmax(outputs, axis=-1, output_type=labels.dtype), labels)
  return tf.reduce_mean(tf.cast(right, outputs.dtype), axis=1)


def require_same_axes(name: str, labels: tf.Tensor, outputs: tf.Tensor) -> None:
  """Raises: ConfigError: where numbers of classes, as labels, would be broadcast against the
  outputs of all classes, or one target against all of them, in silence."""
  if not labels.shape.is_compatible_with(outputs.shape):
    raise ConfigError(
        f'{name} takes a target for each output. Received: labels '
        f'{labels.shape.as_list()} for outputs {outputs.shape.as_list()}: for numbers of '
        'classes take a sparse cross-entropy (of metrics accuracy), or give one-hot rows; '
        'targets must have the shape of the outputs.')


def with_axes_of(labels: Any, outputs: Any) -> Any:
  """Labels whose last axis is there where that of the outputs is, if it is of size 1 and the
  one difference: or they would be broadcast against each other, in silence."""
  if tf.nest.is_nested(labels) or tf.nest.is_nested(outputs):
    return labels
  labels = tf.convert_to_tensor(labels)
  missing = outputs.shape.rank - labels.shape.rank
  if missing == 1 and outputs.shape[-1] == 1:
    return labels[..., tf.newaxis]
  return labels[..., 0] if missing == -1 and labels.shape[-1] == 1 else labels
