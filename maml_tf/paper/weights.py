"""Trained weights as files: one NumPy archive without pickles.

It holds all that a test depends on: the net's parameters, and what a method keeps beside
them (`MetaLearner.state`).
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
from typing import TYPE_CHECKING, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from maml_tf.bounded import DAMAGED_NPZ, read_npz
from maml_tf.config import Config
from maml_tf.errors import CheckpointError, ConfigError
from maml_tf.files import sha256_of_file
from maml_tf.paper import records
from maml_tf.paper.records import Record
from maml_tf.paper.rows import row_named

if TYPE_CHECKING:
  from maml_tf.meta_learner import MetaLearner

# The largest net of the paper has 0.5 MB; anything far above is something else.
_LARGEST_FILE = 2**28


def to_bytes(state: Mapping[str, np.ndarray]) -> bytes:
  """The content of a file of weights; the same bytes for the same values.

  Args:
    state: {name: array}, of `MetaLearner.state`.
  """
  buffer = io.BytesIO()
  # Its members are dated 1980, so that nothing but names and values is in the bytes.
  np.savez(buffer, **state)
  return buffer.getvalue()


def load(path: str, model: 'MetaLearner') -> None:
  """Gives `model` the weights of a file.

  Raises:
    CheckpointError: see `read`.
  """
  shapes = {name: value.shape for name, value in model.state().items()}
  model.assign_state(read(path, shapes, model.meta_parameters.dtype))


def read(path: str, shapes: Mapping[str, Sequence[int]], dtype: str = 'float32'
         ) -> Dict[str, np.ndarray]:
  """What is in a file of weights, {name: array}.

  Args:
    path: of the .npz file. Where a result file of the same name is beside it, the file
      must have the hash that is written there.
    shapes: {name: shape} of what the file must hold, no more and no less.
    dtype: of the arrays; float32 weights are read as float64 without rounding.

  Raises:
    CheckpointError: for a file that is damaged or foreign, or whose arrays are not
      exactly those asked for.
  """
  arrays = _arrays(path)
  _require_recorded_hash(path)
  expected = {name: tuple(shape) for name, shape in shapes.items()}
  received = {name: value.shape for name, value in arrays.items()}
  if received != expected:
    differing = sorted(name for name in {**expected, **received}
                       if expected.get(name) != received.get(name))
    name = differing[0]
    raise CheckpointError(
        f'{path} does not fit what the flags describe ({len(differing)} arrays '
        f'differ; {name} has shape {received.get(name, "none")} in the file and '
        f'{expected.get(name, "none")} by the flags): give the flags that it was trained '
        "with, such as the row's --flagfile.")
  for name, value in arrays.items():
    if value.dtype.kind != 'f' or not np.isfinite(value).all():
      raise CheckpointError(f'{path} has values in {name} that are not finite numbers: the '
                            'file is damaged, take it back from the version control.')
    if not np.array_equal(value.astype(dtype), value):
      raise CheckpointError(f'{path} has {name} in {value.dtype}, which {dtype} cannot hold '
                            f'without rounding: give --dtype={value.dtype}.')
  return {name: value.astype(dtype) for name, value in arrays.items()}


def resolve(pretrained: str, results: str = records.RESULTS) -> Tuple[str, Optional[int]]:
  """Path of the weights, and how many iterations they were trained for, where known.

  Args:
    pretrained: 'ROW', 'ROW:SEED', or the path of an .npz file.
    results: folder of the result files.

  Raises:
    ConfigError: for an unknown row.
    CheckpointError: where there are no such weights.
  """
  if pretrained.endswith('.npz'):
    path = os.path.expanduser(pretrained)
    if not os.path.isfile(path):
      raise CheckpointError(f'There is no file {path}: give --pretrained=ROW, ROW:SEED, or '
                            'the path of a file of weights.')
    return path, _iteration(path)
  name, colon, seed = pretrained.partition(':')
  row = row_named(name)
  available = records.seeds(row, '.npz', results)
  if colon and not re.fullmatch(r'[0-9]{1,10}', seed):
    raise ConfigError(f'--pretrained={pretrained} is not allowed: the seed after the colon '
                      f'must be a whole number; there are weights of {list(available)}.')
  if not available or (colon and int(seed) not in available):
    wanted = f'of {name} for seed {seed}' if colon else f'of {name}'
    advice = (f'take one of the seeds {list(available)}' if available else
              f'train the row first (python -m maml_tf.verify --row={name} --train)')
    raise CheckpointError(f'There are no weights {wanted} in {results}: {advice}.')
  path = records.file_of(row, int(seed) if colon else available[0], '.npz', results)
  return path, _iteration(path)


def origin(path: str) -> Optional[Record]:
  """The record of the test that a file of weights was kept with; None for one without."""
  beside = path[:-len('.npz')] + '.json'
  return records.read_file(beside) if os.path.isfile(beside) else None


def require_same_shots(path: str, config: Config) -> None:
  """Refuses to test weights with other shots than they were trained with, unless the flags
  say so.

  Raises:
    ConfigError: naming both.
  """
  record = origin(path)
  if record is None or config.baseline.any_shots:
    return
  task, name = record.fields['config']['task'], config.run.pretrained
  shots, asked = task['update_batch_size'], config.task.update_batch_size
  if config.trained_shots == shots:
    return
  flagfile = f'--flagfile=flags/{record.fields["row"]}.flags'
  if task['datasource'] != config.task.datasource:
    raise ConfigError(f'--pretrained={name} are weights of {task["datasource"]}, and the '
                      f'flags are of {config.task.datasource}: give {flagfile}.')
  raise ConfigError(
      f'--pretrained={name} are weights of {shots}-shot tasks, and the flags are of '
      f'{config.trained_shots}-shot ones: give --update_batch_size={shots} (or {flagfile}), '
      f'or --train_update_batch_size={shots} to test them on {asked}-shot tasks all the '
      'same.')


def require_same_pooling(path: str, config: Config) -> None:
  """Refuses weights of a net with max-pooling for one without, and the other way round: on
  Omniglot both have the same shapes, and compute something else.

  Raises:
    ConfigError: naming both.
  """
  record = origin(path)
  if record is None:
    return
  pooled, asked = record.fields['config']['learner']['max_pool'], config.learner.max_pool
  if pooled != asked:
    raise ConfigError(
        f'--pretrained={config.run.pretrained} are weights of a net with --max_pool={pooled}, '
        f'and the flags are of one with --max_pool={asked}: give --max_pool={pooled} (or '
        f'--flagfile=flags/{record.fields["row"]}.flags).')


def are_of_other_data(path: str, config: Config) -> bool:
  """Whether the weights were tested on another test split than that of the data that are
  there: another set, or the same one otherwise prepared or divided. Then they may have been
  trained on the classes that are tested."""
  record = origin(path)
  if record is None or not config.problem.data_hashes(config):
    return False
  sections = {**record.fields['config'], 'run': dataclasses.asdict(
      dataclasses.replace(config.run, train=False, pretrained=None))}
  sections['task'] = {**sections['task'], 'data_dir': config.data_dir}
  if sections['task']['datasource'] != config.task.datasource:
    return True
  from maml_tf import experiment
  trained, first = Config.from_dict(sections), record.fields['first_episodes']
  try:
    episodes = experiment.evaluation_generator(trained, trained.split, first['count'])
  except ConfigError:   # too few classes, or images of one, for tasks as those
    return True
  return episodes.fingerprint(first['count']) != first['episodes_fingerprint']


def _arrays(path: str) -> Dict[str, np.ndarray]:
  try:
    return read_npz(path, _LARGEST_FILE)
  except DAMAGED_NPZ as error:
    raise CheckpointError(f'{path} cannot be read as a file of weights '
                          f'({str(error).splitlines()[0] if str(error) else "empty"}): take '
                          'it back from the version control.') from error


def _require_recorded_hash(path: str) -> None:
  record = origin(path)
  if record is None:
    return
  recorded, found = record.fields['weights']['sha256'], sha256_of_file(path)
  if recorded != found:
    raise CheckpointError(f'{path} is not the file that {record.path} records (SHA-256 '
                          f'{found[:12]}... instead of {recorded[:12]}...): take both back '
                          'from the version control.')


def _iteration(path: str) -> Optional[int]:
  record = origin(path)
  return None if record is None else record.fields['tested']['iteration']
