"""A meta-learner as two functions, for TensorFlow Serving as for a command line: adapt to a
task's examples, and classify with what came of it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from maml_tf.episodes import Batch, Episodes
from maml_tf.keras_models.front import learner_and_objective
from maml_tf.keras_models.learner import KerasLearner
from maml_tf.learners.base import Parameters
from maml_tf.measures import ACCURACY, LOSS
from maml_tf.meta_learner import MetaLearner
from maml_tf.objectives import Objective
from maml_tf.prediction.base import NetOfTasks
from maml_tf.prediction.comparing_net import ComparingNet


class ClassBalanced(Objective):
  """Cross-entropy in which every class of a support set counts the same.

  The sum over classes of the mean over the class's examples: with K examples of each it is
  what `ScaledCrossEntropy(K)` gives, to which the trained step sizes belong, and a class
  with ten times as many photos does not pull ten times as hard.

  Labels: (class indices `[tasks, examples]`, one divided by the number of examples of that
  class, of the same shape).
  """

  measures = (LOSS, ACCURACY)

  def loss(self, outputs: tf.Tensor, labels) -> tf.Tensor:
    labels, weights = labels
    per_example = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, outputs)
    return tf.reduce_sum(per_example * tf.cast(weights, outputs.dtype), axis=1)


def class_weights(labels: tf.Tensor, ways: int) -> tf.Tensor:
  """`[examples]`: 1 / the number of examples with the same label."""
  counts = tf.reduce_sum(tf.one_hot(labels, ways), axis=0)
  return 1 / tf.gather(counts, labels)


class TaskNet(NetOfTasks):
  """What adapts, and what classifies; first-order tapes alone are in it.

  Args:
    model: a meta-learner of images; its objective is replaced.
    ways: N.
    num_updates: of an adaptation.
  """

  def __init__(self, model: MetaLearner, ways: int, num_updates: int):
    super().__init__(model, ways)
    self.num_updates = num_updates
    _, model.objective = learner_and_objective(model.learner, ClassBalanced())

  def adapt(self, images: tf.Tensor, labels: tf.Tensor) -> Parameters:
    """What a task has of its own: {name: parameter that was adapted, without a task axis},
    and the batch statistics of the support set, SCOPE/mean and SCOPE/variance, where the
    net has such.

    Args:
      images: `[examples, ...]`, values 0 to 1.
      labels: int32 `[examples]`, 0 to N - 1.
    """
    batch = self._batch(images, labels)
    adapted = self._adapted(batch)
    collected: Parameters = {}
    self._model.learner.features(adapted, batch.inputs, collected=collected)
    shapes = {spec.name: spec.shape for spec in self._model.learner.parameter_specs}
    values = {name: tf.reshape(adapted[name], shape) for name, shape in shapes.items()
              if adapted[name].shape.rank > len(shape)}
    values.update({name: tf.reshape(value, [value.shape[-1]])
                   for name, value in collected.items()})
    return values

  def whole(self, values: Parameters) -> Parameters:
    """`values`, and the parameters that no task changes."""
    start = self._model.meta_parameters.tensors()   # and what a method has beside the net's
    return {**{spec.name: start[spec.name] for spec in self._model.learner.parameter_specs},
            **values}

  def logits(self, values: Parameters, images: tf.Tensor) -> tf.Tensor:
    """Without batch statistics in `values` those of `images` are taken."""
    images = tf.cast(images, self.dtype)[tf.newaxis]
    return self._model.learner(self.whole(values), images)[0]

  def logits_together(self, values: Parameters, support_images: tf.Tensor,
                      labels: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """With the batch statistics of the `images` alone. The support set is not needed beside
    `values`."""
    return self.logits(self.without_statistics(values), images)

  def as_model(self, values: Parameters, images: tf.Tensor) -> tf.keras.Model:
    model = self._model.learner.as_model(self.whole(values), images, None)
    return tf.keras.Sequential([tf.keras.layers.Input(images.shape[1:], dtype=self.dtype),
                                model, tf.keras.layers.Softmax(dtype=self.dtype)])

  def without_statistics(self, values: Parameters) -> Parameters:
    """What `adapt` gave, without the support set's statistics."""
    names = {spec.name for spec in self._model.learner.parameter_specs}
    return {name: value for name, value in values.items() if name in names}

  def _adapted(self, batch: Batch) -> Parameters:
    with self._model.with_constant_step_size():   # a file has no use for their variables
      *_, adapted = self._model.adaptation(
          self._model.meta_parameters.tensors(), Episodes(batch, batch), self.num_updates,
          first_order=True)
    return adapted

  def _batch(self, images: tf.Tensor, labels: tf.Tensor) -> Batch:
    weights = class_weights(labels, self.ways)
    return Batch(tf.cast(images, self.dtype)[tf.newaxis],
                 (labels[tf.newaxis], weights[tf.newaxis]))


class KerasTaskNet(TaskNet):
  """The same of a Keras model. Its adapted parameters and moving averages go by number, as
  their names are the model's own."""

  def adapt(self, images: tf.Tensor, labels: tf.Tensor) -> Parameters:
    learner, batch = self._model.learner, self._batch(images, labels)
    adapted = self._adapted(batch)
    values = {spec.name: tf.reshape(adapted[spec.name], spec.shape)
              for spec in learner.parameter_specs}
    statistics = learner.support_statistics(values, batch.inputs[0])
    return {**{f'parameter/{index}': value for index, value in enumerate(values.values())},
            **{f'{_STATISTIC}{index}': value for index, value in statistics.items()}}

  def logits(self, values: Parameters, images: tf.Tensor) -> tf.Tensor:
    statistics = {name[len(_STATISTIC):]: value for name, value in values.items()
                  if name.startswith(_STATISTIC)}
    return self._model.learner.with_statistics(
        self.whole(values), statistics, tf.cast(images, self.dtype))

  def without_statistics(self, values: Parameters) -> Parameters:
    return {name: value for name, value in values.items()
            if not name.startswith(_STATISTIC)}

  def whole(self, values: Parameters) -> Parameters:
    return {spec.name: values[f'parameter/{index}']
            for index, spec in enumerate(self._model.learner.parameter_specs)}


_STATISTIC = 'statistic/'


def task_net(model: MetaLearner, ways: int, num_updates: int) -> NetOfTasks:
  """The one that fits the method and the net. Arguments as of `TaskNet`."""
  if not model.has_inner_loop:
    return ComparingNet(model, ways)
  kind = KerasTaskNet if isinstance(model.learner, KerasLearner) else TaskNet
  return kind(model, ways, num_updates)


def probabilities(net: NetOfTasks, values: Parameters, pixels, at_once: int = 64):
  """`[images, N]`, an array, each image by itself.

  Args:
    pixels: uint8 `[images, height, width, channels]`.
    at_once: images in memory together.
  """
  parts = [tf.nn.softmax(net.logits_in_graph(
      values, as_inputs(pixels[start:start + at_once], net.dtype))).numpy()
           for start in range(0, len(pixels), at_once)]
  return np.concatenate(parts)


def probabilities_together(net: NetOfTasks, values: Parameters, support, pixels):
  """The same, of all images with the batch statistics of them together.

  Args:
    support: a `photos.Support`.
  """
  return tf.nn.softmax(net.together_in_graph(
      values, as_inputs(support.pixels, net.dtype), support.labels,
      as_inputs(pixels, net.dtype))).numpy()


def as_inputs(pixels, dtype: str) -> tf.Tensor:
  """Values from 0 to 1, as `sources.images.read_images` has them."""
  return tf.constant(np.divide(pixels, 255, dtype=dtype))
