"""One meta-batch of tasks."""

from __future__ import annotations

from typing import Any, List, Mapping, NamedTuple, Union

import numpy as np
import tensorflow as tf

from maml_tf.errors import ConfigError


class Batch(NamedTuple):
  """Examples of every task.

  Attributes:
    inputs: `[tasks, examples, ...]`, or a nest of such tensors.
    labels: class indices `[tasks, examples]` (int32), targets `[tasks, examples, outputs]`,
      or a nest.
  """
  inputs: Any
  labels: Any


class Episodes(NamedTuple):
  """Tasks, each with its support and its query set.

  `((support inputs, support labels), (query inputs, query labels))`: whatever has this
  form can be made one by `as_episodes`.

  Example:
    >>> import tensorflow as tf
    >>> x, y = tf.zeros([4, 5, 1]), tf.ones([4, 5, 1])
    >>> episodes = as_episodes(((x, y), (x, y)))
    >>> num_tasks(episodes)
    4
  """
  support: Batch
  query: Batch

  @classmethod
  def of(cls, support_inputs: Any, support_labels: Any, query_inputs: Any, query_labels: Any
         ) -> 'Episodes':
    return cls(Batch(support_inputs, support_labels), Batch(query_inputs, query_labels))

  def replaced(self, **parts: Any) -> 'Episodes':
    """With other `support_inputs`, `support_labels`, `query_inputs` or `query_labels`."""
    return Episodes.of(**{**dict(
        support_inputs=self.support.inputs, support_labels=self.support.labels,
        query_inputs=self.query.inputs, query_labels=self.query.labels), **parts})


def as_episodes(episodes: Any) -> Episodes:
  """`((inputs, labels), (inputs, labels))` as `Episodes`, also as Keras hands on what it was
  given as arrays: `(episodes,)`, or with None in the place of what it was not given.

  Raises:
    ConfigError: for anything that is not two pairs.
  """
  try:
    parts = [part for part in episodes if part is not None]
    support, query = parts[0] if len(parts) == 1 else parts
    (support_x, support_y), (query_x, query_y) = support, query
    return Episodes.of(support_x, support_y, query_x, query_y)
  except (TypeError, ValueError) as error:
    raise ConfigError('A batch of tasks is ((support inputs, support labels), (query inputs, '
                      'query labels)), each with a leading axis of tasks, and nothing beside '
                      f'them, as weights. Received: {_described(episodes)}.') from error


def _described(value: Any) -> str:
  """'tuple of 3': what it is, and of how many parts."""
  size = f' of {len(value)}' if isinstance(value, (list, tuple, Mapping)) else ''
  return type(value).__name__ + size


def as_tensors(nest: Any, dtype: str) -> Any:
  """A nest as tensors, those of floating numbers of that type. What is written as lists of
  numbers is one tensor.

  Raises:
    ConfigError: for what is no tensor.
  """
  def tensor(value):
    try:
      value = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
      raise ConfigError(
          'Tasks are made of tensors or arrays: where examples or tasks differ in size, pad '
          f'them, or take meta-batches of one task. Received: {type(value).__name__}.'
          ) from error
    return tf.cast(value, dtype) if value.dtype.is_floating else value
  return tf.nest.map_structure(tensor, with_arrays(nest))


def require_consistent(episodes: Episodes) -> None:
  """
  Raises:
    ConfigError: where tensors have no axis of tasks and one of examples, or none in them, or
      differ in their sizes: they would be broadcast against each other. Sizes that are not
      known fit each other.
  """
  tasks = set()
  for batch in episodes:
    shapes = [value.shape for value in tf.nest.flatten(batch)]
    if not shapes or any(shape.rank is not None and shape.rank < 2 for shape in shapes):
      _refuse(episodes, 'without an axis of tasks and one of examples in front')
    examples = {shape[1] for shape in shapes if shape.rank is not None} - {None}
    tasks |= {shape[0] for shape in shapes if shape.rank is not None} - {None}
    if len(examples) > 1:
      _refuse(episodes, 'of other numbers of examples beside each other')
    if 0 in examples | tasks:
      _refuse(episodes, 'without an example')
  if len(tasks) > 1:
    _refuse(episodes, 'of other numbers of tasks beside each other')


def require_examples(batch: Batch) -> None:
  """Raises: ConfigError: where one task's inputs and labels are not of as many examples."""
  shapes = [value.shape for value in tf.nest.flatten(batch)]
  if any(shape.rank == 0 for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
    inputs, labels = (tf.nest.map_structure(lambda value: str(value.shape), part)
                      for part in batch)
    raise ConfigError(
        'Inputs and labels of a task are [examples, ...] each, as many labels as inputs. '
        f'Received: inputs {inputs}, labels {labels}. A list is of several inputs: of '
        'examples make one array (np.stack).')


def _refuse(episodes: Episodes, what: str) -> None:
  shapes = tf.nest.map_structure(lambda value: str(value.shape), episodes)
  raise ConfigError(
      'Support inputs and labels are [tasks, support examples, ...] each, query inputs and '
      f'labels [tasks, query examples, ...]. Received some {what}: support inputs '
      f'{shapes.support.inputs}, labels {shapes.support.labels}; query inputs '
      f'{shapes.query.inputs}, labels {shapes.query.labels}. One task alone has a leading '
      'axis of size 1.')


def with_arrays(nest: Any) -> Any:
  """A nest in which lists of numbers are arrays.

  Raises:
    ConfigError: for lists of other lengths.
  """
  if isinstance(nest, Mapping):
    return {name: with_arrays(value) for name, value in nest.items()}
  if not isinstance(nest, (list, tuple)):
    return nest
  if not _is_of_numbers(nest):
    values = map(with_arrays, nest)
    return type(nest)(*values) if hasattr(nest, '_fields') else type(nest)(values)
  try:
    return np.array(nest)
  except ValueError as error:
    raise ConfigError('Lists of numbers must be as long as each other. Received: '
                      f'{str(error).splitlines()[0]}') from error


def _is_of_numbers(value: Any) -> bool:
  while isinstance(value, (list, tuple)) and value:
    value = value[0]
  return isinstance(value, (bool, int, float, np.number, np.bool_))


def num_tasks(batch: Any) -> int:
  """The size of the leading axis of a nest of tensors; None where it is not known."""
  return tf.nest.flatten(batch)[0].shape[0]


def num_examples(batch: Any) -> int:
  """The size of the axis behind it."""
  return tf.nest.flatten(batch)[0].shape[1]


def leading_sizes(batch: Any, axes: int = 2) -> List[Union[int, tf.Tensor]]:
  """Of the first axes; a scalar tensor for what is not known."""
  first = tf.nest.flatten(batch)[0]
  return [tf.shape(first)[axis] if first.shape[axis] is None else first.shape[axis]
          for axis in range(axes)]


def merged(values: tf.Tensor) -> tf.Tensor:
  """The first two axes as one: `[tasks, examples, ...]` -> `[tasks * examples, ...]`."""
  return tf.reshape(values, [-1] + values.shape[2:].as_list())


def known_num_examples(batch: Any, why: str) -> int:
  """`num_examples`.

  Args:
    why: what needs it, for a message.

  Raises:
    ConfigError: where it is not known.
  """
  examples = num_examples(batch)
  if examples is None:
    raise ConfigError(f'{why} needs to know how many examples a task has. Received tasks of '
                      'shapes that leave it open (None): say it in the output_signature of '
                      'the dataset, or by tf.ensure_shape.')
  return examples
