"""What methods share that adapt nothing: a query example is compared with the support set."""

from __future__ import annotations

import abc
import math
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.counts import require_count
from maml_tf.episodes import Episodes, known_num_examples
from maml_tf.errors import ConfigError
from maml_tf.keras_fit import require
from maml_tf.keras_models.front import learner_and_objective
from maml_tf.keras_models.learner import ModelOutputs
from maml_tf.learners.base import Learner, Parameters
from maml_tf.learners.embedding import Embedding
from maml_tf.learners.with_head import WithHead
from maml_tf.meta_learner import MetaLearner
from maml_tf.objectives import Objective
from maml_tf.task_results import TaskResults


class Embedded(NamedTuple):
  """Tasks in features.

  Attributes:
    support: `[tasks, N * K, features]`.
    is_of_class: `[tasks, N * K, N]`: how much a support example counts in a class; 0 in all
      but its own.
    query: `[tasks, query examples, features]`.
    added: `[tasks]`: what a Keras model adds to the loss; None: it is none.
  """
  support: tf.Tensor
  is_of_class: tf.Tensor
  query: tf.Tensor
  added: Optional[tf.Tensor] = None


class WithoutInnerLoop(MetaLearner):
  """A classifier of query examples by their likeness to support examples.

  There is no step size and no update. Results have one entry, `[tasks, 1]`, on the query
  set, and none on the support set, which is what is compared with; `num_updates` is 0.
  The number of classes of a task is free: training may have more of them than testing.

  Support and query examples of a task go through the net as one batch, so batch norm takes
  its statistics from both together, in training and in testing (the papers' codes have
  moving averages in testing, which this project's nets do not keep).

  Args:
    learner: a net with a head, which is left out; any other learner or Keras model, whose
      outputs are the features.
    objective: of the outputs as logits.
    shots: K, support examples of each class, 1 or more.
    **kwargs: see `MetaLearner`, without what is about an inner loop.

  Raises:
    ConfigError: for `step_size`, `num_updates` or `recompute_inner_steps`, for `shots` that
      are no number of examples, and for a Keras loss of probabilities.
  """

  own_arguments = ('shots',)
  has_inner_loop = False
  takes_other_ways = True

  def __init__(self, learner: Any, objective: Any, *, shots: int, **kwargs):
    for name in ('step_size', 'num_updates', 'recompute_inner_steps'):
      if name in kwargs:
        raise ConfigError(f'{type(self).__name__} has no inner loop, so no {name}. Received: '
                          f'{kwargs[name]!r}; leave it out.', name)
    learner, objective = learner_and_objective(learner, objective)
    _refuse_probabilities(type(self).__name__, objective)
    if isinstance(learner, WithHead):
      learner = Embedding(learner)
    super().__init__(learner, objective, step_size=0.0, num_updates=0, **kwargs)
    self._shots = require_count('shots', shots, least=1)

  @abc.abstractmethod
  def logits(self, parameters: Parameters, tasks: Embedded) -> tf.Tensor:
    """`[tasks, query examples, N]`, of which a softmax gives the probabilities."""

  def kept(self, support: tf.Tensor, is_of_class: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
    """What is kept of a support set, in the place of both in `Embedded`: `logits` gives the
    same with it. Classes count the same, however many examples each has."""
    return support, is_of_class

  def as_layers(self, parameters: Parameters, support: np.ndarray, is_of_class: np.ndarray,
                features: Any) -> Any:
    """The comparison with one task as layers of Keras: probabilities for `features`, the
    symbolic output of a net.

    Args:
      parameters: theta.
      support, is_of_class: of `kept`, without the axis of tasks.

    Raises:
      ConfigError: for a method that has no such form.
    """
    raise ConfigError(f'{type(self).__name__} has no form in layers of Keras (as_layers): '
                      'take the SavedModel that adapts, and no fixed task.')

  def measured(self, parameters: Parameters, tasks: Embedded, labels: tf.Tensor
               ) -> Dict[str, tf.Tensor]:
    """{name of a measure: `[tasks]`} on the query set; the loss is what training follows."""
    return self.objective.measured(self.logits(parameters, tasks), labels)

  def embedded(self, parameters: Parameters, episodes: Episodes) -> Embedded:
    """The features of both sets.

    Raises:
      ConfigError: where the support set is not one of N times K examples, with labels from 0
      to N - 1, each of them there; for a net of several outputs.
    """
    examples = known_num_examples(episodes.support, type(self).__name__)
    if examples % self._shots:
      raise ConfigError(f'{type(self).__name__}(shots={self._shots}) takes support sets of '
                        f'that many examples of each class. Received one of {examples}.',
                        'shots')
    both = tf.nest.map_structure(lambda *sets: tf.concat(sets, axis=1),
                                 episodes.support.inputs, episodes.query.inputs)
    outputs, added = self.learner(parameters, both), None
    if isinstance(outputs, ModelOutputs):
      outputs, added = outputs.outputs, outputs.added
    if tf.nest.is_nested(outputs):
      raise ConfigError(f'{type(self).__name__} compares one output, the features. Received: '
                        f'a model of {len(tf.nest.flatten(outputs))}; make one of the output '
                        'that is to be compared.')
    features = flat(outputs)
    classes = one_hot(episodes.support.labels, examples // self._shots, features.dtype)
    return Embedded(features[:, :examples], self._with_all_classes(classes),
                    features[:, examples:], added)

  def _with_all_classes(self, is_of_class: tf.Tensor) -> tf.Tensor:
    """Where a class had no example, there would be nothing to compare with: no numbers."""
    examples, classes = is_of_class.shape[1:]
    fits = (tf.reduce_all(tf.reduce_any(is_of_class > 0, axis=1))
            & tf.reduce_all(tf.reduce_any(is_of_class > 0, axis=2)))
    return require(fits, (
        f'{type(self).__name__}(shots={self._shots}) takes {examples} support examples for '
        f'those of {classes} classes, labelled 0 to {classes - 1}, with an example or more of '
        'each. Received a task with other labels: give the shots and labels that it has.'),
        is_of_class)

  def forward_passes(self, support_examples: int, query_examples: int) -> Optional[int]:
    return 3 * (support_examples + query_examples)

  def task_objectives(self, parameters: Parameters, episodes: Episodes
                      ) -> Dict[str, tf.Tensor]:
    tasks = self.embedded(parameters, episodes)
    measured = self.measured(parameters, tasks, episodes.query.labels)
    if tasks.added is None:
      return measured
    return {**measured, 'loss': measured['loss'] + tasks.added}

  def task_results(self, episodes: Any, num_updates: int = 0) -> TaskResults:
    """Of the query set, `[tasks, 1]`; nothing of the support set."""
    self._require_no_updates(num_updates)
    return super().task_results(episodes, 0)

  def adapted_outputs(self, episodes: Any, num_updates: int = 0) -> tf.Tensor:
    """The logits, `[tasks, 1, query examples, N]`."""
    self._require_no_updates(num_updates)
    return super().adapted_outputs(episodes, 0)

  def adaptation(self, parameters: Parameters, episodes: Episodes, num_updates: int,
                 first_order: bool) -> Iterator[Parameters]:
    """Raises: ConfigError: always."""
    raise ConfigError(f'{type(self).__name__} adapts no parameters to a task, so there are no '
                      'adapted ones: take `task_results` or `adapted_outputs`.')

  def _group_results(self, parameters: Parameters, episodes: Episodes, num_updates: int
                     ) -> TaskResults:
    measured = self.task_objectives(parameters, episodes)
    return TaskResults({}, {name: value[:, tf.newaxis] for name, value in measured.items()})

  def _group_outputs(self, parameters: Parameters, episodes: Episodes, num_updates: int
                     ) -> tf.Tensor:
    return self.logits(parameters, self.embedded(parameters, episodes))[:, tf.newaxis]

  def _require_no_updates(self, num_updates: int) -> None:
    if num_updates:
      raise ConfigError(f'{type(self).__name__} has no inner loop: num_updates must be 0. '
                        f'Received: {num_updates}.', 'num_updates')


def _refuse_probabilities(method: str, objective: Objective) -> None:
  """Raises: ConfigError: for a loss that would take logits for probabilities."""
  if objective.of_probabilities:
    raise ConfigError(f'{method} gives logits. Received: a loss of probabilities '
                      '(from_logits=False), which would learn nothing: take '
                      'SparseCategoricalCrossentropy(from_logits=True).', 'objective')


def one_hot(labels: tf.Tensor, classes: int, dtype: tf.DType) -> tf.Tensor:
  """`[tasks, examples, classes]`.

  Args:
    labels: `[tasks, examples]` or `[tasks, examples, 1]`, which may be of floating numbers, as
      of `tf.data` of arrays they often are; or one-hot rows already, as
      `CategoricalCrossentropy` takes them.
    classes: their number.

  Raises:
    ConfigError: for rows of another length.
  """
  if labels.shape.rank == 3 and labels.shape[-1] != 1:
    if labels.shape[-1] not in (None, classes):
      raise ConfigError('Labels of support and query examples must be numbers, or rows of as '
                        f'many as the support set has classes, {classes}. Received: labels '
                        f'{labels.shape.as_list()}.')
    return tf.ensure_shape(tf.cast(labels, dtype), [None, None, classes])
  numbers = labels[..., 0] if labels.shape.rank == 3 else labels
  return tf.one_hot(tf.cast(numbers, tf.int32), classes, dtype=dtype)


def flat(features: tf.Tensor) -> tf.Tensor:
  """`[tasks, examples, ...]` -> `[tasks, examples, features]`."""
  size = math.prod(features.shape[2:])
  features = tf.reshape(features, [-1, tf.shape(features)[1], size])
  return tf.ensure_shape(features, [None, None, size])


def num_features(learner: Learner) -> int:
  """Of an example, where a method has parameters of that size.

  Raises:
    ConfigError: where that is not known before there are inputs.
  """
  if isinstance(learner, WithHead):
    learner = Embedding(learner)
  known = getattr(learner, 'num_features', None)
  shape = getattr(getattr(learner, 'model', None), 'output_shape', (None, known))
  if not isinstance(shape, tuple) or None in shape[1:]:
    raise ConfigError('The size of what the net gives must be known beforehand. Received: '
                      f'{type(learner).__name__} with {shape}; take a net with a head, or a '
                      'Keras model with one output of a known shape: of a subclassed one '
                      'tf.keras.Model(inputs, model(inputs)).')
  return math.prod(shape[1:])


def mean_of_classes(values: tf.Tensor, is_of_class: tf.Tensor) -> tf.Tensor:
  """`[tasks, N * K, n]` -> `[tasks, N, n]`."""
  counts = tf.reduce_sum(is_of_class, axis=1)[..., tf.newaxis]
  return tf.matmul(is_of_class, values, transpose_a=True) / counts
