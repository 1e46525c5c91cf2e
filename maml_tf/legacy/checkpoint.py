"""Reading and writing the TF1 code's checkpoints; TF1 is not needed."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import tempfile
from typing import Dict, List, Mapping, Optional, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.config import Config, ConfigError
from maml_tf.errors import CheckpointError
from maml_tf.files import write_whole
from maml_tf.learners.base import Learner
from maml_tf.legacy.names import from_legacy, mismatch, norm_scopes, to_legacy
from maml_tf.meta_learner import MetaLearner
from maml_tf.training.checkpoint_files import OBJECT_GRAPH

# What a Saver of all variables adds to the parameters: Adam's slots and beta powers (one
# pair per optimizer), and a step counter.
_OF_TRAINING = re.compile(
    r'(?:.*/(?:Adam|Adam_[0-9]+|Momentum|RMSProp|RMSProp_[0-9]+)'
    r'|(?:.*/)?beta[12]_power(?:_[0-9]+)?|(?:.*/)?global_step)')
# What `load_checkpoint` and its reader raise for files that are damaged, or none at all.
_UNREADABLE = (tf.errors.OpError, ValueError, TypeError, LookupError, ArithmeticError,
               RuntimeError, MemoryError, OSError)


def load(config: Config, model: MetaLearner) -> str:
  """Gives `model` the parameters of --legacy_checkpoint; the prefix of its files.

  Where the TF1 code had another split, a line says so.

  Raises:
    ConfigError: see `require_net_alone`.
    CheckpointError: see `resolve_path` and `read`.
  """
  require_net_alone(config, model, 'legacy_checkpoint')
  path = resolve_path(config.run.legacy_checkpoint)
  model.meta_parameters.assign(read(path, model.learner, config.learner.dtype))
  if not config.problem.split_of_tf1:
    print(f'The TF1 code divided the classes of {config.problem.name} in the order in which '
          'a file system lists them: those of validation and test here may be ones that the '
          'net was trained on, and then its scores say nothing of new ones.', flush=True)
  return path


def require_net_alone(config: Config, model: MetaLearner, flag: str) -> None:
  """Raises: ConfigError: for a method of one's own that learns something beside the net."""
  if set(model.meta_parameters.arrays()) != {
      spec.name for spec in model.learner.parameter_specs}:
    raise ConfigError(f'--{flag} does not fit --method={config.training.method}, which has '
                      'other parameters than any net of the TF1 code: leave one of them out.')


def read(path: str, learner: Learner, dtype: str = 'float32') -> Dict[str, np.ndarray]:
  """The parameters in a TF1 checkpoint, under this project's names.

  The optimizer's slots, step counters and moving averages of batch norm (which the TF1
  code never uses) may be in the file and are left out. Everything else must match.

  Args:
    path: a checkpoint as `resolve_path` takes it.
    learner: the net whose parameters these are.
    dtype: of the arrays. Nothing is rounded.

  Raises:
    CheckpointError: for a checkpoint that is missing, damaged or foreign, or whose
      tensors are not exactly those of the net.
  """
  prefix = resolve_path(path)
  shapes, reader = _open(prefix)
  if OBJECT_GRAPH in shapes:
    raise CheckpointError(
        f'{prefix} is a checkpoint of TensorFlow 2 and not of the TF1 code: for a run of '
        'this project leave out --legacy_checkpoint, and name the run with its flags and '
        '--logdir.')
  relevant = {name: shape for name, shape in shapes.items()
              if not _is_left_out(name, learner)}
  problem = mismatch(learner, relevant)
  if problem:
    raise CheckpointError(
        f'{prefix} does not fit the net that the flags describe, since it {problem}: give '
        'the flags that it was trained with (--datasource, --num_classes, --norm, '
        '--num_filters, --conv, --max_pool, --baseline).')
  return from_legacy(learner, {
      name: _as_dtype(prefix, name, _value(prefix, reader, name), dtype)
      for name in relevant})


def write(path: str, learner: Learner, parameters: Mapping[str, np.ndarray]) -> None:
  """Writes a checkpoint that the TF1 code can load.

  Args:
    path: prefix of the two files, like 'FOLDER/model59000'. The TF1 code reads the
      iteration from the name, and the newest checkpoint from FOLDER's file `checkpoint`,
      which is written, too.
    learner: the net.
    parameters: {name here: array}.

  Raises:
    CheckpointError: when the folder cannot be written.
  """
  tensors = dict(sorted(to_legacy(learner, parameters).items()))   # as TF1 orders them
  folder, name = os.path.split(os.path.abspath(path))
  try:
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as unfinished:
      tf.raw_ops.SaveV2(
          prefix=os.path.join(unfinished, name), tensor_names=list(tensors),
          shape_and_slices=[''] * len(tensors), tensors=list(tensors.values()))
      # The index last: without it the other file is no checkpoint.
      for part in sorted(os.listdir(unfinished)):
        shutil.move(os.path.join(unfinished, part), os.path.join(folder, part))
    write_whole(os.path.join(folder, 'checkpoint'),
                f'model_checkpoint_path: {json.dumps(name)}\n'
                f'all_model_checkpoint_paths: {json.dumps(name)}\n')
  except (OSError, tf.errors.OpError) as error:
    raise CheckpointError(f'{path} cannot be written ({_first_line(error)}): choose '
                          'another folder.') from error


def resolve_path(path: str) -> str:
  """The prefix of a checkpoint's files.

  Args:
    path: the prefix, one of the files, or the folder of a run (its latest checkpoint,
      or its only one).

  Raises:
    CheckpointError: where there is none, or a folder has several.
  """
  path = os.path.expanduser(path)
  if os.path.isdir(path):
    return _in_folder(path)
  prefix = re.sub(r'\.(index|meta|data-[0-9]{5}-of-[0-9]{5})$', '', path)
  if os.path.isfile(prefix + '.index') or os.path.isfile(prefix):
    return prefix
  raise CheckpointError(
      f'There is no checkpoint {path}: give the path of a TF1 checkpoint, as in '
      'FOLDER/model59000 for FOLDER/model59000.index.')


def iteration_of(path: str) -> Optional[int]:
  """'FOLDER/model59000' -> 59000, as the TF1 code names them; None for other names."""
  found = re.search(r'([0-9]{1,9})(?:\.[^/]*)?$', os.path.basename(path))
  return int(found.group(1)) if found else None


def _in_folder(folder: str) -> str:
  latest = _latest(folder)
  if latest is not None:
    return latest
  found = sorted(name[:-len('.index')] for name in
                 glob.glob(os.path.join(glob.escape(folder), '*.index')))
  if len(found) == 1:
    return found[0]
  if not found:
    raise CheckpointError(f'There is no checkpoint in {folder}: give the path of a TF1 '
                          'checkpoint, as in FOLDER/model59000.')
  names = ', '.join(os.path.basename(name) for name in found[:10])
  raise CheckpointError(f'{folder} has several checkpoints ({names}) and does not say '
                        'which is the latest: give the path of one.')


def _latest(folder: str) -> Optional[str]:
  """What the folder's file `checkpoint` names, also where the folder was moved."""
  try:
    state = tf.train.get_checkpoint_state(folder)
  except _UNREADABLE:
    return None   # it is damaged; the checkpoints may be whole
  if state is None:
    return None
  named = state.model_checkpoint_path
  for prefix in (named, os.path.join(folder, os.path.basename(named))):
    if os.path.isfile(prefix + '.index'):
      return prefix
  return None


def _open(prefix: str) -> Tuple[Dict[str, List[int]], tf.train.CheckpointReader]:
  try:
    reader = tf.train.load_checkpoint(prefix)
    return reader.get_variable_to_shape_map(), reader
  except _UNREADABLE as error:
    raise CheckpointError(f'{prefix} cannot be read as a checkpoint; it is damaged or '
                          f'something else ({_first_line(error)}).') from error


def _value(prefix: str, reader, name: str) -> np.ndarray:
  try:
    value = np.asarray(reader.get_tensor(name))
  except _UNREADABLE as error:
    raise CheckpointError(f'{prefix} is damaged: {name} cannot be read '
                          f'({_first_line(error)}).') from error
  if value.dtype.kind != 'f':
    raise CheckpointError(f'{prefix} has {name} of type {value.dtype}, and a parameter is '
                          'a floating-point number.')
  if not np.isfinite(value).all():
    raise CheckpointError(f'{prefix} has values in {name} that are not finite: the run '
                          'that wrote it had diverged, so take an earlier checkpoint.')
  return value


def _as_dtype(prefix: str, name: str, value: np.ndarray, dtype: str) -> np.ndarray:
  with np.errstate(over='ignore'):   # what overflows is refused in the next line
    converted = value.astype(dtype)
  if not np.array_equal(converted, value):
    raise CheckpointError(f'{prefix} has {name} in {value.dtype}, which {dtype} cannot '
                          f'hold without rounding: give --dtype={value.dtype}.')
  return converted


def _is_left_out(name: str, learner: Learner) -> bool:
  if _OF_TRAINING.fullmatch(name):
    return True
  scope, _, kind = name.rpartition('/')
  return kind in ('moving_mean', 'moving_variance') and scope in norm_scopes(learner)


def _first_line(error: Exception) -> str:
  text = getattr(error, 'strerror', None) or getattr(error, 'message', None) or str(error)
  # TensorFlow's guesses at the reason are left out.
  return re.split(r'\n|\. |: perhaps', str(text).strip())[0][:200].rstrip('.')
