"""The replicas that compute together: devices of this process, and of others.

What a `tf.distribute` strategy is asked here, with one device as a case like the others. A
model has the strategy in whose scope it was made, so that what is given a model needs to be
told of no other thing.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence

import numpy as np
import tensorflow as tf

from maml_tf.episodes import Episodes
from maml_tf.errors import ConfigError
from maml_tf.measures import counted


class Replicas:
  """Those of a strategy.

  Args:
    strategy: the default one: one device.

  Attributes:
    strategy: it.
    number: of all replicas.
    here: how many of them are in this process.
    worker: number of this process.
    workers: how many processes there are.
  """

  def __init__(self, strategy: tf.distribute.Strategy):
    self.strategy = strategy
    self.number: int = strategy.num_replicas_in_sync
    resolver = getattr(strategy, 'cluster_resolver', None)
    tasks = [] if resolver is None else resolver.cluster_spec().as_dict().get('worker', [])
    self.workers = max(1, len(tasks))
    self.worker = int(resolver.task_id or 0) if self.workers > 1 else 0
    self.here = self.number // self.workers
    self._sums: Dict[int, Callable] = {}

  @classmethod
  def of(cls, model: tf.keras.Model) -> 'Replicas':
    """Those in whose scope the model was made."""
    return cls(model.distribute_strategy)

  @property
  def are_several(self) -> bool:
    """Whether there is a strategy, be it of one device."""
    return isinstance(self.strategy, (tf.distribute.MirroredStrategy,
                                      tf.distribute.MultiWorkerMirroredStrategy))

  @property
  def is_writer(self) -> bool:
    """Whether this process writes files: one does."""
    return self.worker == 0

  @contextlib.contextmanager
  def scope(self) -> Iterator[None]:
    """What is trained is made in it."""
    if not self.are_several:
      yield
      return
    with self.strategy.scope(), tf.variable_creator_scope(_read_from_one):
      yield

  def run(self, function: Callable, episodes: Episodes, *others: Any) -> Any:
    """`function` in each replica of this process, with its share of the tasks that this
    process has; what the first one gives. In a graph."""
    def of_replica(episodes, *others):
      return function(self._share(episodes), *others)
    results = self.strategy.run(of_replica, args=(episodes, *others))
    return tf.nest.map_structure(
        lambda value: self.strategy.experimental_local_results(value)[0], results)

  def _share(self, episodes: Episodes) -> Episodes:
    if self.here == 1:
      return episodes
    context = tf.distribute.get_replica_context()
    place = context.replica_id_in_sync_group % self.here
    def share(value):
      size = value.shape[0] // self.here
      return tf.ensure_shape(value[place * size:(place + 1) * size],
                             [size, *value.shape[1:]])
    return tf.nest.map_structure(share, episodes)

  def map(self, function: Callable, elements: Iterable[Any], in_graphs: bool = True
          ) -> List[Any]:
    """`function` of each element, each in one replica of this process, as arrays; where it
    is no part of a graph, one after the other."""
    if self.here == 1 or not in_graphs:
      return [_arrays(function(element)) for element in elements]
    remaining = iter(elements)
    groups = iter(lambda: list(itertools.islice(remaining, self.here)), [])
    return [result for group in groups for result in self._side_by_side(function, group)]

  def _side_by_side(self, function: Callable, elements: Sequence[Any]) -> List[Any]:
    """Of up to `here` elements; replicas without one repeat the last."""
    def of_replica(context):
      place = context.replica_id_in_sync_group % self.here
      return elements[min(place, len(elements) - 1)]
    values = self.strategy.experimental_distribute_values_from_function(of_replica)
    run = tf.function(lambda values: self.strategy.run(function, args=(values,)),
                      autograph=False)
    results = run(values)
    flat = [self.strategy.experimental_local_results(value)
            for value in tf.nest.flatten(results)]
    return [_arrays(tf.nest.pack_sequence_as(results, [values[place] for values in flat]))
            for place in range(len(elements))]

  def of_writer(self, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
    """Those that the writing process has, bit for bit; all others have such of the same
    shapes and types. All processes call it together."""
    return self.combined(arrays if self.is_writer else [np.zeros_like(a) for a in arrays])

  def combined(self, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
    """Of arrays that each process has filled in parts of its own, 0 elsewhere: the whole
    ones. As integers, so that nothing is rounded, and -0 stays -0."""
    arrays = [np.asarray(array) for array in arrays]
    if self.workers == 1:
      return list(arrays)
    content = b''.join(array.tobytes() for array in arrays)
    padded = content + b'\0' * (-len(content) % 8)
    vector = tf.constant(np.frombuffer(padded, np.int64))
    # TensorFlow warns of a function that is called with many sizes: a graph for each.
    if len(padded) not in self._sums:
      self._sums[len(padded)] = tf.function(
          self._summed, autograph=False).get_concrete_function(vector)
    summed, start, whole = self._sums[len(padded)](vector).numpy().tobytes(), 0, []
    for array in arrays:
      part = np.frombuffer(summed, array.dtype, array.size, start)
      whole.append(part.reshape(array.shape).copy())
      start += array.nbytes
    return whole

  def _summed(self, vector: tf.Tensor) -> tf.Tensor:
    """Over processes: the first replica of each gives it, the others nothing."""
    def in_replica(vector):
      context = tf.distribute.get_replica_context()
      first = context.replica_id_in_sync_group % self.here == 0
      own = tf.where(first, vector, tf.zeros_like(vector))
      return context.all_reduce(tf.distribute.ReduceOp.SUM, own)
    summed = self.strategy.run(in_replica, args=(vector,))
    return self.strategy.experimental_local_results(summed)[0]

  def describe(self) -> str:
    """'2 replicas in 2 processes', for a line of the log."""
    replicas = counted(self.number, 'replica')
    if self.workers == 1:
      return replicas
    return f'{replicas} in {counted(self.workers, "process")}, this is worker {self.worker}'


def _read_from_one(make: Callable, **kwargs: Any) -> tf.Variable:
  """Variables that Keras would average over replicas whenever they are read (those of batch
  normalisation) are read from one. They are alike, since training does not write them; and
  the process that saves them is alone: others do not take part in a sum then."""
  if kwargs.get('synchronization') == tf.VariableSynchronization.ON_READ:
    kwargs.update(synchronization=tf.VariableSynchronization.AUTO,
                  aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
  return make(**kwargs)


def replica_number() -> Optional[int]:
  """Of the replica for which this is computed or traced: which copies of variables it reads;
  None outside of replicas."""
  context = tf.distribute.get_replica_context()
  if context is None:
    return None
  # A tensor, with a name of its own in each use within a graph.
  return int(tf.get_static_value(context.replica_id_in_sync_group))


def _arrays(results: Any) -> Any:
  return tf.nest.map_structure(lambda value: value.numpy(), results)


def require_divided(tasks: int, replicas: int) -> None:
  """Raises: ConfigError: where replicas cannot have as many tasks each; says which can."""
  if tasks % replicas == 0:
    return
  below, above = tasks // replicas * replicas, -(-tasks // replicas) * replicas
  batches = f'{below} or {above}' if below else f'{above}'
  fitting = ', '.join(str(number) for number in divisors(tasks))
  raise ConfigError(f'{counted(tasks, "task")} cannot be divided by {replicas} replicas: take '
                    f'{batches} tasks, or as many replicas as {fitting}.')


def divisors(number: int) -> List[int]:
  return [one for one in range(1, number + 1) if number % one == 0]


def values_of(variables: Iterable[Any]) -> List[np.ndarray]:
  """What each variable has in this process."""
  return [np.asarray(tf.convert_to_tensor(variable)) for variable in variables]
