"""Methods that compare in place of adapting, in the form of `TaskNet`: what a task has of its
own is what is kept of its support set."""

from __future__ import annotations

from typing import Dict

import tensorflow as tf

from maml_tf.keras_models.learner import KerasLearner
from maml_tf.learners.base import Parameters
from maml_tf.meta_learners.without_inner_loop import Embedded, WithoutInnerLoop, flat
from maml_tf.prediction.base import NetOfTasks

SUPPORT, IS_OF_CLASS = 'support', 'is_of_class'


class ComparingNet(NetOfTasks):
  """A net, and the comparison of what it gives with the support set.

  Classes count the same, however many examples each has, and are of any number.

  Args:
    model: with its trained parameters.
    ways: N.
  """

  def __init__(self, model: WithoutInnerLoop, ways: int):
    super().__init__(model, ways)
    of_keras = isinstance(model.learner, KerasLearner)
    self._body = (_KerasBody if of_keras else _Body)(model.learner)

  def adapt(self, images: tf.Tensor, labels: tf.Tensor) -> Parameters:
    """What is kept of a support set: `SUPPORT`, `[examples or classes, features]`, how much
    each counts in a class, `IS_OF_CLASS`; and its batch statistics, where the net has such."""
    images, labels = tf.cast(images, self.dtype), self._of_all_classes(labels)
    start = self._model.meta_parameters.tensors()
    statistics = self._body.statistics(start, images)
    features = self._body.features(start, statistics, images)
    return {**self._kept(features, labels), **statistics}

  def _of_all_classes(self, labels: tf.Tensor) -> tf.Tensor:
    """`labels`, checked in the graph: a class without an image has nothing to compare with,
    and its probabilities, and so all of them, would be no numbers."""
    counts = tf.reduce_sum(tf.one_hot(labels, self.ways, dtype=tf.int32), axis=0)
    fits = tf.reduce_all(counts > 0) & (tf.reduce_sum(counts) == tf.shape(labels)[0])
    sentence = (f'labels must be from 0 to {self.ways - 1}, with an image of each class; '
                'images of each class:')
    with tf.control_dependencies([tf.debugging.Assert(fits, [sentence, counts])]):
      return tf.identity(labels)

  def logits(self, values: Parameters, images: tf.Tensor) -> tf.Tensor:
    """With the batch statistics in `values`."""
    values = dict(values)
    support, is_of_class = values.pop(SUPPORT), values.pop(IS_OF_CLASS)
    start = self._model.meta_parameters.tensors()
    features = self._body.features(start, values, tf.cast(images, self.dtype))
    return self._compared(start, support, is_of_class, features)

  def logits_together(self, values: Parameters, support_images: tf.Tensor,
                      labels: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """With the batch statistics of support set and `images` together; `values` is not used."""
    both = tf.cast(tf.concat([support_images, images], axis=0), self.dtype)
    start = self._model.meta_parameters.tensors()
    features = self._body.features(start, {}, both)
    size = tf.shape(labels)[0]
    kept = self._kept(features[:size], labels)
    return self._compared(start, kept[SUPPORT], kept[IS_OF_CLASS], features[size:])

  def as_model(self, values: Parameters, images: tf.Tensor) -> tf.keras.Model:
    start = self._model.meta_parameters.tensors()
    own = {spec.name: start[spec.name] for spec in self._model.learner.parameter_specs}
    body = self._model.learner.as_model(own, tf.cast(images, self.dtype), None)
    features = body.outputs[0]
    if len(features.shape) > 2:
      features = tf.keras.layers.Flatten(dtype=self.dtype)(features)
    return tf.keras.Model(body.inputs, self._model.as_layers(
        start, values[SUPPORT].numpy(), values[IS_OF_CLASS].numpy(), features))

  def _kept(self, features: tf.Tensor, labels: tf.Tensor) -> Dict[str, tf.Tensor]:
    is_of_class = tf.one_hot(labels, self.ways, dtype=features.dtype)
    support, counts = self._model.kept(features[tf.newaxis], is_of_class[tf.newaxis])
    return {SUPPORT: support[0], IS_OF_CLASS: counts[0]}

  def _compared(self, start: Parameters, support: tf.Tensor, is_of_class: tf.Tensor,
                features: tf.Tensor) -> tf.Tensor:
    tasks = Embedded(*(value[tf.newaxis] for value in (support, is_of_class, features)))
    return self._model.logits(start, tasks)[0]


class _Body:
  """Features of one task: of a net of this project."""

  def __init__(self, learner):
    self._learner = learner

  def statistics(self, start: Parameters, images: tf.Tensor) -> Parameters:
    """{name: `[channels]`} of the images."""
    collected: Parameters = {}
    self._learner.features(start, images[tf.newaxis], collected=collected)
    return {name: tf.reshape(value, [value.shape[-1]]) for name, value in collected.items()}

  def features(self, start: Parameters, statistics: Parameters, images: tf.Tensor
               ) -> tf.Tensor:
    """`[images, features]`; without `statistics` those of the images are taken."""
    return self._learner.features({**start, **statistics}, images[tf.newaxis])[0]


class _KerasBody:
  """The same of a Keras model; its moving averages go by number."""

  def __init__(self, learner: KerasLearner):
    self._learner = learner

  def statistics(self, start: Parameters, images: tf.Tensor) -> Parameters:
    return {f'statistic/{index}': value for index, value
            in self._learner.support_statistics(start, images).items()}

  def features(self, start: Parameters, statistics: Parameters, images: tf.Tensor
               ) -> tf.Tensor:
    of_model = {name.rpartition('/')[2]: value for name, value in statistics.items()}
    outputs = self._learner.with_statistics(start, of_model, images)
    return flat(outputs[tf.newaxis])[0]
