"""Tasks of data of one's own: arrays, folders of class folders, functions."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.counts import is_integer, require_count
from maml_tf.episodes import with_arrays
from maml_tf.errors import ConfigError, UserError
from maml_tf.measures import counted
from maml_tf.numpy_calls import numpy_function
from maml_tf.sources import class_folders

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
    y: their classes, `[examples]` or `[examples, 1]`: numbers or strings.
    ways, shots, queries: classes of a task; examples of a class in its support set and in
      its query set.
    meta_batch_size: tasks of a batch.
    seed: 0 or more.

  Returns:
    Of `((support inputs, support labels), (query inputs, query labels))`, each with a
    leading axis of tasks; labels int32.

  Raises:
    ConfigError: for sizes below 1, classes that are too few or too small, or labels that
      are missing (None, NaN).

  Example:
    >>> import numpy as np
    >>> x, y = np.arange(40.0).reshape(20, 2), np.repeat(['cat', 'dog', 'cow', 'hen'], 5)
    >>> tasks = tasks_from_arrays(x, y, ways=3, shots=1, queries=2, meta_batch_size=2)
    >>> (support, labels), query = next(iter(tasks))
    >>> support.shape, labels.shape, query[0].shape
    (TensorShape([2, 3, 2]), TensorShape([2, 3]), TensorShape([2, 6, 2]))
  """
  y = _plain(y, 'y')
  if y.ndim == 2 and y.shape[1] == 1:   # as Keras's data sets have it
    y = y[:, 0]
  x = tf.nest.map_structure(lambda values: _plain(values, 'x'), _stacked(x, y))
  if y.dtype.kind in 'fmM':
    _require_none_missing(np.isnan(y), 'y')
  groups = _groups_of(x, y)
  for name, size in dict(ways=ways, shots=shots, queries=queries,
                         meta_batch_size=meta_batch_size).items():
    require_count(name, size, least=1)
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
      from random numbers; always of the same structure, shapes and types, of any nest of
      arrays. Lists of numbers are arrays, and other lists become tuples.
    meta_batch_size, seed: see `tasks_from_arrays`. Task i depends on the seed and on i.

  Raises:
    ConfigError: for a seed below 0, or a function that gives something else.
  """
  require_count('meta_batch_size', meta_batch_size, least=1)
  require_count('seed', seed)
  first = _arrays(task(np.random.default_rng([seed, 0])))

  def draw(index: int) -> List[np.ndarray]:
    try:
      arrays = _arrays(task(np.random.default_rng([seed, index])))
    except UserError:
      raise
    except Exception as error:   # of somebody's function, which TensorFlow would hide
      raise ConfigError(f'The function of tasks fails at task {index}: '
                        f'{type(error).__name__}: {error}') from error
    _require_alike(arrays, first, index)
    return tf.nest.flatten(arrays)
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
    folder: with a folder of images for each class. Files and formats are those that
      `data_scripts/prepare_images.py` reads, and hidden folders and what systems leave
      behind are passed over.
    image_size: (height, width) that they are resized to, with Lanczos and without regard to
      their proportions, after they are put on white where they are transparent, and turned
      as their Exif says.
    channels: 1 or 3.
    ways, shots, queries, meta_batch_size, seed: see `tasks_from_arrays`.

  Returns:
    Tasks whose inputs are float32 from 0 to 1.

  Raises:
    ConfigError: see `tasks_from_arrays`; and for another image size or number of channels.
    DataError: where there is no such folder, a class folder without an image, or images that
      cannot be read: all of them are named.

  Warns:
    UserWarning: of files that are left out, since they do not lie in a class folder itself,
      or are of a format that is not read; of images of 16 bits that are nearly black as 8.
  """
  _require_image_shape(image_size, channels)
  images, classes = class_folders.read(folder, image_size, channels)
  return tasks_from_arrays(images.astype(np.float32) / 255, np.array(classes), ways, shots,
                           queries, meta_batch_size, seed)


def _plain(values: Any, name: str) -> np.ndarray:
  """An array of numbers or texts; those of Python objects are made one."""
  array = np.asarray(values)
  if array.dtype.kind not in 'OU' or array is values and array.dtype != object:
    return array
  objects = np.asarray(values, object)   # of a list, NumPy has made 'nan' of NaN by now
  with contextlib.suppress(ValueError):   # rows of other lengths
    array = np.array(objects.tolist())
  if array.dtype.kind != 'f':   # what is missing among numbers is NaN, which x may have
    _require_none_missing([_is_missing(value) for value in objects.flat], name)
  # Of numbers among texts NumPy makes texts, and of 1 and '1' one class.
  others = [value for value in objects.flat if not isinstance(value, (str, bytes))]
  if array.dtype == object or (array.dtype.kind == 'U' and others):
    first = (others or [array.flat[0]])[0]
    raise ConfigError('x and y must be numbers or texts, all of one kind and shape. Received: '
                      f'Python objects, the first of them {first!r:.100}.')
  return array


def _is_missing(value: Any) -> bool:
  """Whether it is None, or as NaN, pandas.NaT and pandas.NA not equal to itself."""
  try:
    return value is None or bool(value != value)
  except TypeError:    # pandas.NA != pandas.NA is neither
    return True
  except ValueError:   # of an array
    return False


def _require_none_missing(missing: Any, name: str) -> None:
  count = int(np.sum(missing))
  if count:
    raise ConfigError(f'{name} must have a value for each example. Received: {count} of '
                      f'{np.size(missing)} are missing (None, NaN): leave these examples out.')


def _stacked(x: Any, y: np.ndarray) -> Any:
  """`x`, or where it is a list of examples, and not of inputs, one array of them."""
  if not isinstance(x, (list, tuple)) or len(x) != y.size:
    return x
  shapes = {np.shape(example) for example in x}
  if len(shapes) > 1:
    raise ConfigError('Examples must be of one shape: pad them, or resize. Received: '
                      f'{", ".join(map(str, sorted(shapes)[:5]))}.')
  if shapes and np.shape(x[0])[:1] == (len(x),):
    raise ConfigError(
        f'A list of {len(x)} arrays of length {len(x)} may be the examples, or as many inputs '
        'of as many examples: give examples as one array (np.stack), inputs as a dictionary.')
  return _plain(x, 'x') if shapes == {()} else np.stack(x)


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


def _require_image_shape(image_size: Any, channels: Any) -> None:
  is_pair = isinstance(image_size, (tuple, list)) and len(image_size) == 2
  if not is_pair or not all(is_integer(side) and side >= 1 for side in image_size):
    raise ConfigError('image_size must be (height, width), both integers, 1 or more. '
                      f'Received: {image_size!r}.', 'image_size')
  if channels not in (1, 3):
    raise ConfigError(f'channels must be 1 (grey) or 3 (colour). Received: {channels!r}.',
                      'channels')


def _require_enough(groups: Sequence[np.ndarray], ways: int, examples: int) -> None:
  smallest = min(map(len, groups), default=0)
  if len(groups) < ways or smallest < examples:
    raise ConfigError(
        f'Tasks of {ways} classes with {counted(examples, "example")} each (shots + '
        f'queries) need as many. Received: {counted(len(groups), "class")}, the smallest of '
        f'{counted(smallest, "example")}.')


def _arrays(task: Optional[Any]) -> Task:
  try:
    (support_x, support_y), (query_x, query_y) = task
  except (TypeError, ValueError) as error:
    raise ConfigError('A task is ((support inputs, support labels), (query inputs, query '
                      f'labels)). Received: {type(task).__name__}.') from error
  parts = [_with_tuples(with_arrays(part))
           for part in (support_x, support_y, query_x, query_y)]
  return tf.nest.map_structure(np.asarray, (tuple(parts[:2]), tuple(parts[2:])))


def _require_alike(task: Task, first: Task, index: int) -> None:
  received, expected = (tf.nest.map_structure(
      lambda array: f'{_type(array)}{list(array.shape)}', one) for one in (task, first))
  if received != expected:
    raise ConfigError(
        'All tasks must be of the same structure, shapes and types. Received: task '
        f'{index} with {received}, task 0 with {expected}: pad what differs in size, and '
        'make the arrays of one type.')


def _type(array: np.ndarray) -> str:
  """In a graph; that of texts says in NumPy how long the longest is, too."""
  return 'string' if array.dtype.kind in 'OSU' else str(array.dtype)


def _with_tuples(nest: Any) -> Any:
  """Without lists, which `tf.data` makes one tensor of."""
  if isinstance(nest, (list, tuple)):
    return tuple(map(_with_tuples, nest))
  return ({name: _with_tuples(value) for name, value in nest.items()}
          if isinstance(nest, Mapping) else nest)
