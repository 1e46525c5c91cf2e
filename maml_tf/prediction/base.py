"""What every form of a net for one task is: it adapts to a support set, and classifies."""

from __future__ import annotations

import abc

import tensorflow as tf

from maml_tf.keras_models import copies
from maml_tf.keras_models.learner import KerasLearner
from maml_tf.learners.base import Parameters
from maml_tf.meta_learner import MetaLearner


class NetOfTasks(abc.ABC):
  """A trained meta-learner, for tasks of `ways` classes.

  Args:
    model: with its trained parameters.
    ways: N.

  Attributes:
    adapt_in_graph, logits_in_graph, together_in_graph: its functions, compiled.
  """

  def __init__(self, model: MetaLearner, ways: int):
    self.ways = ways
    self._model = model
    self.adapt_in_graph = tf.function(self.adapt, autograph=False)
    self.logits_in_graph = tf.function(self.logits, autograph=False)
    self.together_in_graph = tf.function(self.logits_together, autograph=False)

  @property
  def variables(self):
    """The start, which is the same for all tasks."""
    return self._model.variables

  @property
  def dtype(self) -> str:
    return self._model.meta_parameters.dtype

  @property
  def computes_in_16_bits(self) -> bool:
    """Whether a layer of a Keras model does; nets of the paper do not here."""
    learner = self._model.learner
    return isinstance(learner, KerasLearner) and copies.computes_in_16_bits(learner.model)

  @abc.abstractmethod
  def adapt(self, images: tf.Tensor, labels: tf.Tensor) -> Parameters:
    """What a task has of its own, {name: tensor}.

    Args:
      images: `[examples, ...]`, values 0 to 1.
      labels: int32 `[examples]`, 0 to N - 1.
    """

  @abc.abstractmethod
  def logits(self, values: Parameters, images: tf.Tensor) -> tf.Tensor:
    """`[images, N]`, each image by itself. Args: values: of `adapt`."""

  @abc.abstractmethod
  def logits_together(self, values: Parameters, support_images: tf.Tensor,
                      labels: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """`[images, N]`, with batch statistics that the `images` have part in, as in the method's
    tests."""

  @abc.abstractmethod
  def as_model(self, values: Parameters, images: tf.Tensor) -> tf.keras.Model:
    """The net of a task as a plain Keras model of images from 0 to 1, with probabilities.

    Args:
      values: of `adapt`.
      images: of the support set.

    Raises:
      ConfigError: for what has no form in Keras.
    """
