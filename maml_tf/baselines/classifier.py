"""A classifier of all training classes, and what is made of it at test time."""

from __future__ import annotations

from typing import Dict, Optional

import tensorflow as tf

from maml_tf.baselines.pretraining import Pretraining
from maml_tf.episodes import Episodes
from maml_tf.learners.base import Parameters
from maml_tf.learners.with_head import WithHead
from maml_tf.meta_learner import MetaLearner
from maml_tf.objectives import Objective
from maml_tf.task_groups import TaskGroups
from maml_tf.task_results import TaskResults


class ClassifierTraining(Pretraining):
  """Ordinary training on mini-batches of all training classes.

  A mini-batch is one "task" of as many ways as there are classes (`LabelledImages`).
  """

  def task_results(self, episodes: Episodes, num_updates: int) -> TaskResults:
    """Of the classifier as it is; `num_updates` is not used."""
    return super().task_results(episodes, 0)


class ClassifierBaseline(MetaLearner):
  """What the two uses of the classifier share: the features of a task's images.

  The features are what its last layer gets. It is trained by `ClassifierTraining`, over
  the same parameters; nothing here is meta-learned.

  Batch norm: the statistics are those of one fixed mini-batch of training images. An
  image's features are then the same in every task, whatever the other images are, as
  with the moving averages of Ravi and Larochelle's code, which this project's nets do not
  keep: statistics of a support set of five images would move each of them.

  Args:
    learner: the net with its wide last layer.
    objective: of a task, for its N classes.
    reference: the fixed mini-batch `[images, height, width, channels]`; None: the net
      has no batch norm.
    **kwargs: see `MetaLearner`.
  """

  def __init__(self, learner: WithHead, objective: Objective, *,
               reference: Optional[tf.Tensor], **kwargs):
    super().__init__(learner, objective, **kwargs)
    self._reference = reference

  def task_objectives(self, parameters: Parameters, episodes: Episodes
                      ) -> Dict[str, tf.Tensor]:
    """On the query set after the last update."""
    results = self._group_results(parameters, episodes, self._num_updates)
    return {name: values[:, -1] for name, values in results.query.items()}

  def groups(self, episodes: Episodes) -> TaskGroups:
    """All at once: the reference images are then computed once."""
    return TaskGroups(episodes.support.inputs.shape[0])

  def with_features(self, parameters: Parameters, episodes: Episodes) -> Episodes:
    """`episodes` with features, `[tasks, examples, features]`, in place of images."""
    sizes = [episodes.support.inputs.shape[1], episodes.query.inputs.shape[1]]
    images = tf.concat([episodes.support.inputs, episodes.query.inputs], axis=1)
    merged = tf.reshape(images, [1, -1] + images.shape[2:].as_list())
    first = 0
    if self._reference is not None:
      reference = tf.cast(self._reference, merged.dtype)[tf.newaxis]
      first = reference.shape[1]
      merged = tf.concat([reference, merged], axis=1)
    features = self.learner.features(parameters, merged, statistics_size=first or None)
    features = tf.reshape(features[:, first:], [images.shape[0], sum(sizes), -1])
    features = tf.ensure_shape(features, [None, None, self.learner.head_inputs])
    support, query = tf.split(features, sizes, axis=1)
    return episodes.replaced(support_inputs=support, query_inputs=query)
