"""What a meta-batch changes: the outer step, on one device or under a strategy."""

from __future__ import annotations

import abc
import contextlib
import inspect
import numbers
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import tensorflow as tf

from maml_tf.custom_gradients import others_are_let_go
from maml_tf.episodes import Episodes, leading_sizes
from maml_tf.errors import ConfigError
from maml_tf.learners.base import Parameters

Means = Dict[str, tf.Tensor]


class OuterStep(abc.ABC):
  """How the meta-parameters of a model are changed by a meta-batch.

  Attributes:
    along: {name: scalar} that is averaged over replicas in the all-reduce of the step, and
      logged: what processes tell each other costs nothing so.
    gradient: of a model, in place of its `meta_gradient`; None: that.
  """

  def __init__(self):
    self.along: Means = {}
    self.gradient: Optional[Callable[[Episodes], Tuple[Means, Parameters]]] = None

  @contextlib.contextmanager
  def within(self, along: Means, gradient: Optional[Callable] = None) -> Iterator[None]:
    """Steps that are traced meanwhile have these."""
    before = self.along, self.gradient
    self.along, self.gradient = along, gradient
    try:
      yield
    finally:
      self.along, self.gradient = before

  @abc.abstractmethod
  def __call__(self, model, episodes: Episodes) -> Means:
    """One step; in replica context.

    Args:
      model: a compiled `MetaLearner`.
      episodes: of this replica.

    Returns:
      What is logged, the same in every replica.
    """


class GradientStep(OuterStep):
  """theta <- theta - beta * gradient (algorithm 1, line 8), by a Keras optimizer.

  The gradient is that of the mean loss over the tasks of all replicas. Everything that is
  decided, is decided from that mean, so alike in all of them; and nothing is decided by
  control flow, in which replicas could wait for each other. A step whose loss or gradient
  is not finite changes nothing, and no step after it does.

  Args:
    gradient_clip: elementwise bound of the gradient; 0: none.
    dtype: of the parameters.

  Raises:
    ConfigError: for a bound below 0, or none of numbers.

  Attributes:
    diverged: whether there was such a step.
    latest_loss: of that step, or else of the latest one.
  """

  def __init__(self, gradient_clip: float, dtype: str):
    super().__init__()
    if not isinstance(gradient_clip, numbers.Real) or not gradient_clip >= 0:
      raise ConfigError('gradient_clip must be a number, 0 (none) or more. Received: '
                        f'{gradient_clip!r}.', 'gradient_clip')
    self.gradient_clip = gradient_clip
    same = dict(trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
    self.diverged = tf.Variable(False, name='diverged', **same)
    self.latest_loss = tf.Variable(0.0, name='latest_loss', dtype=dtype, **same)

  def __call__(self, model, episodes: Episodes) -> Means:
    means, gradients = (self.gradient or model.meta_gradient)(episodes)
    [tasks] = leading_sizes(episodes, axes=1)
    means, gradients = over_replicas({**means, **self.along}, gradients, tasks)
    diverged = tf.convert_to_tensor(self.diverged)
    proceed = tf.logical_and(all_finite(means['loss'], gradients),
                             tf.logical_not(diverged))
    latest = tf.where(diverged, self.latest_loss, means['loss'])
    variables = [raw(variable) for variable in model.changed_variables()]
    before = [tf.convert_to_tensor(variable) for variable in variables]
    model.apply_gradients(self.clipped(gradients))
    changes = [(variable, tf.where(proceed, variable, value))
               for variable, value in zip(variables, before)]
    assign([*changes, (self.latest_loss, latest),
            (self.diverged, tf.logical_not(proceed))])
    return means

  def clipped(self, gradients: Parameters) -> Parameters:
    """Each element within the bound, if there is one."""
    if self.gradient_clip == 0:
      return gradients
    return {name: tf.clip_by_value(value, -self.gradient_clip, self.gradient_clip)
            for name, value in gradients.items()}


def all_finite(loss: tf.Tensor, gradients: Parameters) -> tf.Tensor:
  """Whether the loss and every element of the gradients is a finite number."""
  return tf.reduce_all([tf.math.is_finite(loss)] + [
      tf.reduce_all(tf.math.is_finite(value)) for value in gradients.values()])


def over_replicas(means: Means, gradients: Parameters, tasks: Union[int, tf.Tensor]
                  ) -> Tuple[Means, Parameters]:
  """The means over the tasks of all replicas, of those over the `tasks` of this one.

  One all-reduce of one vector: sums over tasks, and their number. Of a batch of fewer tasks
  than the others some replica may have none, and so means that are no numbers.
  """
  context = tf.distribute.get_replica_context()
  if context.num_replicas_in_sync == 1:
    return means, gradients
  values = tf.nest.flatten((means, gradients))
  tasks = tf.cast(tasks, values[0].dtype)
  vector = tf.concat([tf.reshape(tf.math.multiply_no_nan(value, tasks), [-1])
                      for value in values] + [[tasks]], axis=0)
  vector = context.all_reduce(tf.distribute.ReduceOp.SUM, vector)
  parts = tf.split(vector[:-1] / vector[-1],
                   [value.shape.num_elements() for value in values])
  return tf.nest.pack_sequence_as((means, gradients), [
      tf.reshape(part, value.shape) for part, value in zip(parts, values)])


def apply_reduced(optimizer, gradients: Sequence[tf.Tensor], variables: Sequence) -> None:
  """`optimizer.apply_gradients` of gradients that are the same in all replicas already."""
  options = inspect.signature(optimizer.apply_gradients).parameters
  if 'skip_gradients_aggregation' in options:             # Keras 2
    kwargs = dict(skip_gradients_aggregation=True)
  elif 'experimental_aggregate_gradients' in options:     # its older kind
    kwargs = dict(experimental_aggregate_gradients=False)
  else:   # Keras 3 always sums them, and clips before: of a share the bound would be as many
    replicas = tf.distribute.get_replica_context().num_replicas_in_sync
    kwargs = {}
    if replicas > 1:
      gradients = [value / replicas for value in optimizer._clip_gradients(gradients)]
  with others_are_let_go():
    optimizer.apply_gradients(zip(gradients, variables), **kwargs)


def make_state(optimizer, variables: Sequence) -> None:
  """Makes what a Keras optimizer of any kind keeps of variables: checkpoints find it then."""
  if hasattr(optimizer, 'build'):
    optimizer.build(variables)
  else:   # those of TensorFlow Addons are of Keras's older kind
    optimizer._create_all_weights(variables)


def assign(changes: Iterable[Tuple[tf.Variable, tf.Tensor]]) -> None:
  """Assigns values that are the same in all replicas."""
  variables, values = zip(*changes)

  def assign_all(strategy, values):
    for variable, value in zip(variables, values):
      strategy.extended.update(variable, lambda one, value: one.assign(value),
                               args=(value,), group=False)
  tf.distribute.get_replica_context().merge_call(assign_all, args=(values,))


def raw(variable) -> tf.Variable:
  """TensorFlow's variable behind one of Keras 3."""
  value = getattr(variable, 'value', None)
  return variable if value is None or callable(value) else value


def variables_of(optimizer) -> List:
  """The state of a Keras optimizer of any kind."""
  variables = optimizer.variables
  return list(variables() if callable(variables) else variables)
