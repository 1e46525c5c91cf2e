"""Tasks of data of one's own: arrays, folders of class folders, functions."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.errors import ConfigError, DataError
from maml_tf.sources.numpy_calls import numpy_function

# Files of a class folder that are taken for images.
IMAGES = ('.png', '.jpg', '.jpeg', '.bmp', '.gif')

# ((support inputs, support labels), (query inputs, query labels)).
Task = Tuple[Tuple[Any, Any], Tuple[Any, Any]]


def tasks_from_arrays(x: Any, y: Any, ways: int = 5, shots: int = 1, queries: int = 15,
                      meta_batch_size: int = 4, seed: int = 0) -> tf.data.Dataset:
  """Endless meta-batches of classification tasks of labelled examples.

  A task is `ways` classes in random order, and `shots` + `queries` examples of each, none
  twice. Its labels are 0 to `ways` - 1. Task i depends on the seed and on i alone.

  Args:
    x: examples: an array, a list of as many arrays of one shape, or a nest of arrays of
      the same length.
    y: their classes, `[examples]`: numbers or strings.
    ways, shots, queries: classes of a task; examples of a class in its support set and in
      its query set.
    meta_batch_size: tasks of a batch.
    seed: 0 or more.

  Returns:
    Of `((support inputs, support labels), (query inputs, query labels))`, each with a
    leading axis of tasks; labels int32.

  Raises:
    ConfigError: for sizes below 1, or classes that are too few or too small.

  Example:
    >>> import numpy as np
    >>> x, y = np.arange(40.0).reshape(20, 2), np.repeat(['cat', 'dog', 'cow', 'hen'], 5)
    >>> tasks = tasks_from_arrays(x, y, ways=3, shots=1, queries=2, meta_batch_size=2)
    >>> (support, labels), query = next(iter(tasks))
    >>> support.shape, labels.shape, query[0].shape
    (TensorShape([2, 3, 2]), TensorShape([2, 3]), TensorShape([2, 6, 2]))
  """
  y = _plain(y)
  x = tf.nest.map_structure(_plain, _stacked(x, y))
  if y.dtype.kind == 'f' and np.isnan(y).any():
    raise ConfigError('y must have a class for each example. Received: '
                      f'{np.isnan(y).sum()} that are not a number (NaN): leave them out.')
  groups = _groups_of(x, y)
  _require_sizes(ways=ways, shots=shots, queries=queries, meta_batch_size=meta_batch_size)
  _require_enough(groups, ways, shots + queries)
  labels = [np.repeat(np.arange(ways, dtype=np.int32), count) for count in (shots, queries)]

  def task(random: np.random.Generator) -> Task:
    chosen = random.permutation(len(groups))[:ways]
    places = np.stack([random.permutation(groups[group])[:shots + queries]
                       for group in chosen])
    parts = places[:, :shots].reshape(-1), places[:, shots:].reshape(-1)
    return tuple((tf.nest.map_structure(lambda values, part=part: values[part], x), label)
                 for part, label in zip(parts, labels))
  return tasks_from_function(task, meta_batch_size, seed)


def tasks_from_function(task: Callable[[np.random.Generator], Task],
                        meta_batch_size: int = 4, seed: int = 0) -> tf.data.Dataset:
  """Endless meta-batches of tasks of one's own: regression, time series, text.

  Args:
    task: draws ((support inputs, support labels), (query inputs, query labels)) of one task
      from random numbers; always of the same structure and shapes, of any nest of arrays,
      in which lists become tuples.
    meta_batch_size, seed: see `tasks_from_arrays`. Task i depends on the seed and on i.

  Raises:
    ConfigError: for a seed below 0, or a function that gives something else.
  """
  _require_sizes(meta_batch_size=meta_batch_size)
  if not _is_integer(seed) or seed < 0:
    raise ConfigError(f'seed must be an integer, 0 or more. Received: {seed!r}.', 'seed')

  def draw(index: int) -> List[np.ndarray]:
    return tf.nest.flatten(_arrays(task(np.random.default_rng([seed, index]))))
  first = _arrays(task(np.random.default_rng([seed, 0])))
  specs = [tf.TensorSpec(value.shape, value.dtype) for value in tf.nest.flatten(first)]

  def drawn(index):
    values = numpy_function(lambda number: draw(int(number)), [index],
                            [spec.dtype for spec in specs])
    values = [tf.ensure_shape(value, spec.shape) for value, spec in zip(values, specs)]
    return tf.nest.pack_sequence_as(first, values)
  tasks = tf.data.Dataset.counter() if hasattr(tf.data.Dataset, 'counter') else (
      tf.data.experimental.Counter())
  return tasks.map(drawn).batch(meta_batch_size, drop_remainder=True).prefetch(2)


def tasks_from_folder(folder: str, ways: int, shots: int, queries: int,
                      image_size: Tuple[int, int], meta_batch_size: int = 4, seed: int = 0,
                      channels: int = 3) -> tf.data.Dataset:
  """As `tasks_from_arrays`, of the images in class folders, which are kept in memory.

  Args:
    folder: with a folder of images for each class.
    image_size: (height, width) that they are resized to, bilinearly, antialiased.
    channels: 1 or 3.
    ways, shots, queries, meta_batch_size, seed: see `tasks_from_arrays`.

  Returns:
    Tasks whose inputs are float32 from 0 to 1.

  Raises:
    DataError: where there is no such folder, no image, or one that cannot be read.
  """
  x, y = [], []
  for name, path in _image_files(folder):
    x.append(_read_image(path, image_size, channels))
    y.append(name)
  if not x:
    raise DataError(f'There is no image in the class folders of {folder}: expected '
                    f'{folder}/CLASS/FILE with a name that ends in {", ".join(IMAGES)}.')
  return tasks_from_arrays(np.stack(x), np.array(y), ways, shots, queries, meta_batch_size,
                           seed)


def _image_files(folder: str):
  """(class, path), in the order of their names."""
  if not os.path.isdir(folder):
    raise DataError(f'There is no folder of class folders. Received: {folder}.')
  for name in sorted(os.listdir(folder)):
    inner = os.path.join(folder, name)
    for file in sorted(os.listdir(inner)) if os.path.isdir(inner) else ():
      if file.lower().endswith(IMAGES):
        yield name, os.path.join(inner, file)


def _read_image(path: str, size: Tuple[int, int], channels: int) -> np.ndarray:
  try:
    image = tf.io.decode_image(tf.io.read_file(path), channels, expand_animations=False)
  except (tf.errors.OpError, ValueError) as error:
    raise DataError(f'{path} cannot be read as an image: remove it, or save it again. '
                    f'({str(error).splitlines()[0]})') from error
  return (tf.image.resize(image, size, antialias=True) / 255).numpy()


def _plain(values: Any) -> np.ndarray:
  """An array of numbers or texts; those of Python objects are made one."""
  array = np.asarray(values)
  if array.dtype != object:
    return array
  with contextlib.suppress(ValueError):   # rows of other lengths
    array = np.array(array.tolist())
  if array.dtype == object:
    raise ConfigError('x and y must be numbers or texts, all of one kind and shape. Received: '
                      f'Python objects, the first of them {array.flat[0]!r:.100}.')
  return array


def _stacked(x: Any, y: np.ndarray) -> Any:
  """`x`, or where it is a list of examples, and not of inputs, one array of them."""
  if not isinstance(x, (list, tuple)) or len(x) != y.size:
    return x
  shapes = {np.shape(example) for example in x}
  if len(shapes) > 1:
    raise ConfigError('Examples must be of one shape: pad them, or resize. Received: '
                      f'{", ".join(map(str, sorted(shapes)[:5]))}.')
  return x if shapes and np.shape(x[0])[:1] == (len(x),) else np.stack(x)


def _groups_of(x: Any, y: np.ndarray) -> List[np.ndarray]:
  """The places of the examples of each class."""
  shapes = [values.shape for values in tf.nest.flatten(x)]
  if y.ndim != 1 or any(shape[:1] != y.shape for shape in shapes):
    raise ConfigError(
        'y must have one class for each example of x: of one-hot rows, y.argmax(1). '
        f'Received: {", ".join(map(str, shapes[:5]))}{", ..." * (len(shapes) > 5)} and '
        f'{y.shape}.')
  _, classes = np.unique(y, return_inverse=True)
  order = np.argsort(classes, kind='stable')
  return np.split(order, np.cumsum(np.bincount(classes))[:-1]) if len(y) else []


def _require_sizes(**sizes: int) -> None:
  for name, size in sizes.items():
    if not _is_integer(size) or size < 1:
      raise ConfigError(f'{name} must be an integer, 1 or more. Received: {size!r}.', name)


def _is_integer(value: Any) -> bool:
  return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _require_enough(groups: Sequence[np.ndarray], ways: int, examples: int) -> None:
  smallest = min(map(len, groups), default=0)
  if len(groups) < ways or smallest < examples:
    raise ConfigError(
        f'Tasks of {ways} classes with {examples} examples each (shots + queries) need as '
        f'many. Received: {len(groups)} classes, the smallest of {smallest} examples.')


def _arrays(task: Optional[Any]) -> Task:
  try:
    (support_x, support_y), (query_x, query_y) = task
  except (TypeError, ValueError) as error:
    raise ConfigError('A task is ((support inputs, support labels), (query inputs, query '
                      f'labels)). Received: {type(task).__name__}.') from error
  return tf.nest.map_structure(np.asarray, _with_tuples(
      ((support_x, support_y), (query_x, query_y))))


def _with_tuples(nest: Any) -> Any:
  """Without lists, which `tf.data` makes one tensor of."""
  if isinstance(nest, (list, tuple)):
    return tuple(map(_with_tuples, nest))
  return ({name: _with_tuples(value) for name, value in nest.items()}
          if isinstance(nest, Mapping) else nest)
