"""What Keras asks of a model whose samples are tasks."""

from __future__ import annotations

import abc
from typing import Any, Dict, List, Mapping, Optional, Sequence

import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.keras_fit import (
  EndWhenNotFinite,
  refuse_weights,
  require_finite_steps,
  user_errors,
  with_callback,
)
from maml_tf.keras_models.objective import KerasObjective
from maml_tf.learners.base import Learner
from maml_tf.measures import all_in_order
from maml_tf.meta_parameters import MetaParameters
from maml_tf.objectives import Objective
from maml_tf.outer_step import OuterStep, make_state
from maml_tf.task_results import TaskResults, named_means, plainly_named_means


class KerasInterface(tf.keras.Model, abc.ABC):
  """`compile`, `fit`, `evaluate` and the others of Keras, of meta-batches; and refusals of
  what has no meaning where there is a net for each task.

  Attributes:
    learner, objective, meta_parameters: as in `MetaLearner`.
    outer_step: what a meta-batch changes, see `OuterStep`.
    has_inner_loop: whether it adapts parameters to a task, by steps of some size.
    steps_of_an_execution: `steps_per_execution`, once it is compiled.
  """

  learner: Learner
  objective: Objective
  meta_parameters: MetaParameters
  outer_step: OuterStep
  has_inner_loop = True
  _num_updates: int

  def __init__(self, dtype: str):
    super().__init__(dtype=dtype)   # Keras casts what `call` gets to this type.
    self.built = True
    # What a step logs is the mean over all replicas, in each of them: Keras 2 adds that up.
    self.distribute_reduction_method = 'first'

  def _forget_graphs(self) -> None:
    """What belongs to graphs is made anew."""
    self._means: Dict[str, tf.keras.metrics.Mean] = {}

  @abc.abstractmethod
  def task_results(self, episodes: Any, num_updates: int) -> TaskResults:
    """Adapts to every task, and measures on the way."""

  @property
  def diverged(self) -> tf.Variable:
    """Whether a step met a loss or gradient that is not finite."""
    return self.outer_step.diverged

  @property
  def latest_loss(self) -> tf.Variable:
    """Of that step, or else of the latest one."""
    return self.outer_step.latest_loss

  def compile(self, optimizer, loss: None = None, metrics: Optional[Sequence] = None, *,
              jit_compile: bool = False, steps_per_execution: int = 1,
              run_eagerly: bool = False, **others) -> None:
    """As in Keras; the optimizer's state exists from here on.

    Args:
      optimizer: of the outer step.
      loss: none, as the meta-learner was made with one.
      metrics: of Keras, for a task, where the loss is one of Keras, too.
      jit_compile: compile by XLA. Never chosen by Keras: max-pooling has a wrong second
        derivative there.
      steps_per_execution, run_eagerly: as in Keras.

    Raises:
      ConfigError: for a loss, or metrics beside an `Objective`, which is in their place;
        for XLA and a learner that is not exact under it.
    """
    if isinstance(self.objective, KerasObjective) and metrics is not None:
      self.objective = self.objective.with_metrics(metrics)
      metrics = None
    _refuse(dict(loss=loss, metrics=metrics, **others))
    self.steps_of_an_execution = steps_per_execution
    if jit_compile and not self.learner.exact_under_xla:
      raise ConfigError(
          f'jit_compile={jit_compile} is not possible with a {type(self.learner).__name__} '
          'that does not say that it is exact under XLA (exact_under_xla): leave it out. A '
          'Convolutional with max-pooling is exact with compiled_by_xla=True.')
    self._forget_graphs()   # a method may read how many steps the optimizer made
    super().compile(optimizer=optimizer, jit_compile=bool(jit_compile),
                    steps_per_execution=steps_per_execution, run_eagerly=run_eagerly)
    make_state(self.optimizer, self.trainable_variables)

  def fit(self, *arguments, **kwargs):
    """As in Keras, of meta-batches.

    Raises:
      NotFiniteError: behind an epoch in which a loss or a meta-gradient was not finite; the
        variables are those before it, and a further `fit` goes on from there.
    """
    self.diverged.assign(False)
    fit = super().fit
    refuse_weights(fit, arguments, kwargs)
    given = with_callback(fit, arguments, kwargs, EndWhenNotFinite())
    with user_errors():
      history = fit(*given.args, **given.kwargs)
    require_finite_steps(self)
    return history

  def evaluate(self, *arguments, **kwargs):
    """As in Keras, of meta-batches."""
    evaluate = super().evaluate
    refuse_weights(evaluate, arguments, kwargs)
    try:
      with user_errors():
        return evaluate(*arguments, **kwargs)
    except BaseException:
      # The means are made in the first call of its graph, which a second one may not do.
      self.test_function = None
      raise

  def predict(self, *_, **__) -> None:
    """Raises: ConfigError: there is a net for each task."""
    raise ConfigError(
        f'A {type(self).__name__} predicts nothing before it is adapted to a task: '
        'adapt(support_inputs, support_labels).predict(inputs), or of many tasks '
        'adapted_outputs(tasks, num_updates).' if self.has_inner_loop else
        f'A {type(self).__name__} predicts nothing without a support set: take '
        'adapted_outputs(tasks), the logits of the query examples.')

  def predict_on_batch(self, *_, **__) -> None:
    """Raises: ConfigError: as `predict` does."""
    self.predict()

  def train_on_batch(self, *arguments, return_dict: bool = False, **kwargs):
    """As in Keras, of a meta-batch: the loss, or a list with the loss first.

    Raises:
      NotFiniteError: where the loss or the meta-gradient is not finite; nothing was changed,
        and a further call goes on from there.
    """
    self.diverged.assign(False)
    with user_errors():
      logs = super().train_on_batch(*arguments, return_dict=True, **kwargs)
    require_finite_steps(self)
    if return_dict:
      return logs
    # Keras sorts those whose means no evaluation has made yet: accuracy would be the first.
    values = [logs[name] for name in all_in_order(self.objective.measures, logs)]
    return values if len(values) > 1 else values[0]

  def test_on_batch(self, *arguments, **kwargs):
    """As in Keras, of a meta-batch."""
    with user_errors():
      return super().test_on_batch(*arguments, **kwargs)

  def get_config(self) -> Dict[str, Any]:
    """Its name alone, as it is not saved as one model: Keras's would warn at every
    `save_weights`."""
    return {'name': self.name}

  def save(self, *_, **__) -> None:
    """Raises: ConfigError: what Keras would write could not be loaded."""
    raise ConfigError(
        f'A {type(self).__name__} cannot be saved as one model, since it could not be loaded '
        'again: save its net (model.save), or its variables (save_weights; of ModelCheckpoint '
        'save_weights_only=True).')

  def export(self, *_, **__) -> None:
    """Raises: ConfigError: what Keras would write is not adapted to any task."""
    in_python = ('export the Keras model that adapt(...) makes for a task; '
                 if self.has_inner_loop else '')
    raise ConfigError(
        f'A {type(self).__name__} as such is not exported, since it belongs to no task: '
        f'{in_python}runs of the command line are exported by python -m maml_tf.export.')

  @tf.autograph.experimental.do_not_convert
  def test_step(self, episodes: Any) -> Dict[str, tf.Tensor]:
    """The mean over tasks of everything in `TaskResults`, named as in the TF1 code."""
    results = self.task_results(episodes, self._num_updates)
    keras = isinstance(self.objective, KerasObjective)
    # The last meta-batch may have fewer tasks than the others, and so a replica of it none,
    # and no mean.
    tasks = tf.shape(next(iter(results.query.values())))[0]
    for name, value in (plainly_named_means if keras else named_means)(results).items():
      if name not in self._means:
        self._means[name] = tf.keras.metrics.Mean(name=name,
                                                  dtype=self.meta_parameters.dtype)
      self._means[name].update_state(tf.where(tasks > 0, value, 0), sample_weight=tasks)
    return {name: mean.result() for name, mean in self._means.items()}

  @property
  def metrics(self) -> List[tf.keras.metrics.Metric]:
    return list(self._means.values())


def _refuse(arguments: Mapping[str, Any]) -> None:
  given = [name for name, value in arguments.items() if value is not None]
  if given:
    raise ConfigError(
        f'compile() has no {", ".join(given)}: what a task minimises and is judged by is '
        'what the meta-learner was made with, MAML(model, loss). A loss of Keras goes with '
        'metrics here; of an Objective they are its own (measures).', given[0])
