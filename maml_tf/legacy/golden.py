"""Golden files: what the TF1 code computed, for a configuration and given inputs.

A file has the flags of the run, the inputs of a few meta-steps, the parameters
before the first one, and the results. `numpy.load` reads it; pickles are refused.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Tuple

import numpy as np

from maml_tf.bounded import DAMAGED_NPZ, TooLargeError, parse_json, read_npz
from maml_tf.errors import UserError

# The TF1 code's flags and their defaults, as far as they decide what is computed.
LEGACY_DEFAULTS: Dict[str, Any] = dict(
    datasource='sinusoid', num_classes=5, baseline='None', meta_lr=0.001,
    update_batch_size=5, update_lr=1e-3, num_updates=1, norm='batch_norm',
    num_filters=64, conv=True, max_pool=False, stop_grad=False)
# The others: `meta_batch_size` follows from the arrays, the rest is about runs.
LEGACY_OTHERS = frozenset([
    'meta_batch_size', 'pretrain_iterations', 'metatrain_iterations', 'log', 'logdir',
    'resume', 'train', 'test_iter', 'test_set', 'train_update_batch_size',
    'train_update_lr'])

_INPUTS = ('inputa', 'inputb')
_LABELS = ('labela', 'labelb')
_RESULTS = ('pre_loss', 'pre_accuracy', 'post_losses', 'post_accuracies')
_TENSOR_GROUPS = re.compile(
    r'(init|meta_gradient|pretrain_gradient|after_([1-9][0-9]{0,8})_meta_steps)/(.+)',
    re.DOTALL)
# Of all arrays, unpacked, and of all of them as float64. The TF1 code's largest file has
# 8 MB; one of the fully connected mini-ImageNet net would have 43 MiB for each set of
# parameters.
_MOST_BYTES = 256 << 20


class GoldenError(UserError, ValueError):
  """A golden file that cannot be used; one sentence for the user."""


class GoldenTask(NamedTuple):
  """The meta-batch of one meta-step, arrays `[tasks, examples, ...]`.

  Attributes:
    support_inputs, query_inputs: as the file has them; uint8 are pixels from 0 to 255.
    support_labels, query_labels: one-hot, or targets.
  """
  support_inputs: np.ndarray
  support_labels: np.ndarray
  query_inputs: np.ndarray
  query_labels: np.ndarray


class Golden(NamedTuple):
  """A golden file, checked for completeness but not yet against a net.

  Attributes:
    path: of the file.
    flags: the TF1 flags that it names.
    steps: the meta-batches, one per meta-step.
    results: {'pre_loss', ...: array}, those that are there.
    init: {TF1 name: array}, the parameters before the first meta-step.
    tensors: {'meta_gradient', 'pretrain_gradient', 'after_1_meta_steps', ...:
      {TF1 name: array}}, those that are there.
    others: names of what is not of the known form, and is not compared.
  """
  path: str
  flags: Dict[str, Any]
  steps: Tuple[GoldenTask, ...]
  results: Dict[str, np.ndarray]
  init: Dict[str, np.ndarray]
  tensors: Dict[str, Dict[str, np.ndarray]]
  others: Tuple[str, ...]

  @property
  def num_updates_measured(self) -> int:
    """The inner steps after which the file has values; 0 for none."""
    return max((self.results[name].size for name in ('post_losses', 'post_accuracies')
                if name in self.results), default=0)

  @property
  def meta_steps(self) -> Dict[int, Dict[str, np.ndarray]]:
    """{S: parameters after S meta-steps}, in order."""
    found = {int(_TENSOR_GROUPS.fullmatch(f'{group}/_').group(2)): tensors
             for group, tensors in self.tensors.items() if group.startswith('after_')}
    return dict(sorted(found.items()))


def read(path: str) -> Golden:
  """Reads a golden file.

  Raises:
    GoldenError: for a file that is missing, damaged, not of this form, or incomplete.
  """
  return sorted_out(path, arrays(path))


def sorted_out(path: str, arrays: Mapping[str, np.ndarray]) -> Golden:
  """As `read`, of a file's arrays.

  Raises:
    GoldenError: where they are not of this form, or incomplete.
  """
  try:
    golden = _sorted_out(path, arrays)
    _check(golden)
  except GoldenError as error:
    raise GoldenError(f'{path} is not a usable golden file: {error}.') from None
  return golden


def arrays(path: str) -> Dict[str, np.ndarray]:
  """What a file has, as arrays.

  Raises:
    GoldenError: for a file that is missing or damaged.
  """
  try:
    arrays = read_npz(path, _MOST_BYTES)
    if 8 * sum(array.size for array in arrays.values()) > _MOST_BYTES:
      raise TooLargeError(f'in float64 it has more than {_MOST_BYTES >> 20} MiB')
    return arrays
  except FileNotFoundError:
    raise GoldenError(f'There is no golden file {path}.') from None
  except DAMAGED_NPZ as error:
    reason = ' '.join(str(error).split())[:200].rstrip('.')
    raise GoldenError(f'{path} cannot be read as an npz file of plain arrays '
                      f'({reason or type(error).__name__}).') from error


def _sorted_out(path: str, arrays: Mapping[str, np.ndarray]) -> Golden:
  init: Dict[str, np.ndarray] = {}
  tensors: Dict[str, Dict[str, np.ndarray]] = {}
  results, others = {}, []
  known = {'flags', 'test_num_updates', *_LABELS, *_INPUTS,
           *(f'{name}_uint8' for name in _INPUTS)}
  for name, array in arrays.items():
    group = _TENSOR_GROUPS.fullmatch(name)
    if group is not None:
      parent = init if group.group(1) == 'init' else tensors.setdefault(group.group(1), {})
      parent[group.group(3)] = _floats(name, array)
    elif name in _RESULTS:
      results[name] = _floats(name, array)
    elif name not in known:
      others.append(name)
  return Golden(path, _flags(arrays), _steps(arrays), results, init, tensors,
                tuple(others))


def _flags(arrays: Mapping[str, np.ndarray]) -> Dict[str, Any]:
  array = _required(arrays, 'flags')
  if array.size != 1 or array.dtype.kind not in 'US':
    raise GoldenError("'flags' must be one text")
  try:
    text = array.reshape(()).item()
    flags = parse_json(text, most=1 << 20)
  except ValueError as error:
    raise GoldenError(f"'flags' must be JSON, and is not: {error}") from None
  if not isinstance(flags, dict):
    raise GoldenError("'flags' must be a JSON object of names and values")
  unknown = sorted(set(flags) - set(LEGACY_DEFAULTS) - LEGACY_OTHERS)
  if unknown:
    raise GoldenError(f'the TF1 code has no flags {", ".join(unknown)}')
  unhashable = sorted(name for name, value in flags.items()
                      if isinstance(value, (dict, list)))
  if unhashable:
    raise GoldenError(f'the flags {", ".join(unhashable)} must be plain values')
  return flags


def _steps(arrays: Mapping[str, np.ndarray]) -> Tuple[GoldenTask, ...]:
  columns: List[np.ndarray] = []
  for inputs, labels in zip(_INPUTS, _LABELS):
    columns += [_input_array(arrays, inputs), _floats(labels, _required(arrays, labels))]
    if columns[-1].ndim != 4:
      raise GoldenError(f'{labels!r} must have the axes steps, tasks, examples, outputs, '
                        f'and has the shape {list(columns[-1].shape)}')
    if columns[-2].shape[:3] != columns[-1].shape[:3]:
      raise GoldenError(f'{inputs!r} and {labels!r} disagree on steps, tasks or examples: '
                        f'{list(columns[-2].shape)} and {list(columns[-1].shape)}')
  if columns[0].shape[:2] != columns[2].shape[:2]:
    raise GoldenError('support and query sets disagree on steps or tasks: '
                      f'{list(columns[0].shape)} and {list(columns[2].shape)}')
  if any(column.size == 0 for column in columns):
    raise GoldenError('an input or label array is empty')
  return tuple(GoldenTask(*step) for step in zip(*columns))


def _input_array(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
  pixels = arrays.get(f'{name}_uint8')
  if pixels is None:
    values = arrays.get(name)
    if values is None:
      raise GoldenError(f'it lacks {name}_uint8 (or {name})')
    values = _floats(name, values)
  elif pixels.dtype != np.uint8:
    raise GoldenError(f"'{name}_uint8' must be of type uint8, and is {pixels.dtype}")
  else:
    values = pixels
  if values.ndim != 4:
    raise GoldenError(f'{name!r} must have the axes steps, tasks, examples, values, and '
                      f'has the shape {list(values.shape)}')
  return values


def _check(golden: Golden) -> None:
  if not golden.init:
    raise GoldenError('it lacks the parameters before the first meta-step, init/NAME')
  if not golden.results and not golden.tensors:
    raise GoldenError('it has nothing to compare with')
  for name, wanted in (('pre_loss', 0), ('pre_accuracy', 0), ('post_losses', 1),
                       ('post_accuracies', 1)):
    array = golden.results.get(name)
    if array is not None and (array.ndim != wanted or array.size == 0):
      raise GoldenError(f'{name!r} must be {"a vector" if wanted else "one number"}, and '
                        f'has the shape {list(array.shape)}')
  last = max(golden.meta_steps, default=0)
  if last > len(golden.steps):
    raise GoldenError(f'it has parameters after {last} meta-steps and inputs for '
                      f'{len(golden.steps)}')


def _required(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
  if name not in arrays:
    raise GoldenError(f'it lacks {name}')
  return arrays[name]


def _floats(name: str, array: np.ndarray) -> np.ndarray:
  if array.dtype.kind not in 'fiu':
    raise GoldenError(f'{name!r} must hold numbers, and is of type {array.dtype}')
  return array.astype(np.float64)


def class_indices(path: str, labels: np.ndarray, what: str) -> np.ndarray:
  """int32 class indices of one-hot `labels` `[..., classes]`.

  Raises:
    GoldenError: for labels that are not one-hot.
  """
  if not np.array_equal(np.sort(labels, axis=-1),
                        np.broadcast_to(np.eye(labels.shape[-1])[-1], labels.shape)):
    raise GoldenError(f'{path} has {what} that are not one-hot.')
  return labels.argmax(-1).astype(np.int32)
