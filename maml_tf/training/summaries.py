"""What TensorBoard shows of a run.

Each number is written twice. In the run's folder it has the tag of the TF1 code, for whoever
reads those: `metatrain_Post-update_loss__step_1`. In the folders `train` and `validation`
below, as Keras's own callback has them, it is `loss/after_1`: TensorBoard groups tags by what
stands before the slash, and draws equal tags of two folders into one chart.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, Dict, Iterator, Mapping

import tensorflow as tf

from maml_tf.errors import WriteError
from maml_tf.task_results import TaskResults, named_means
from maml_tf.training.checkpoint_files import first_line

TRAINING, VALIDATION = 'train', 'validation'
_TF1_PREFIXES = {TRAINING: 'metatrain_', VALIDATION: 'metaval_'}
_OF_A_PHASE = re.compile(r'(.+)_(\d+)')


class Summaries:
  """The files of a run, new ones with each start.

  Args:
    folder: of the run.

  Raises:
    WriteError: where they cannot be made; so do all methods, where they cannot be written.
  """

  def __init__(self, folder: str):
    self._folder = folder
    self._writers: Dict[str, Any] = {}
    self._writer('')

  def write_results(self, part: str, iteration: int, results: TaskResults) -> None:
    """The means over tasks; `part`: `TRAINING` or `VALIDATION`."""
    self._write(part, iteration, named_means(results), grouped_means(results))

  def write_logs(self, part: str, iteration: int, logs: Mapping[str, Any]) -> None:
    """What a step logged."""
    self._write(part, iteration, logs, grouped_logs(logs))

  def write_text(self, tag: str, text: str) -> None:
    """Markdown that holds for the whole run, as `tf.summary.text` does."""
    with _to_be_written(), self._writer('').as_default(step=0):
      tf.summary.write(tag, tf.constant(text), metadata=_metadata('text'))

  def write_picture(self, tag: str, iteration: int, png: bytes) -> None:
    """A PNG file, as `tf.summary.image` does."""
    height, width, _ = tf.io.decode_png(png).shape
    with _to_be_written(), self._writer('').as_default(step=iteration):
      tf.summary.write(tag, tf.constant([str(width).encode(), str(height).encode(), png]),
                       metadata=_metadata('images'))

  def flush(self) -> None:
    """What was written up to here is in the files after this."""
    with _to_be_written():
      for writer in self._writers.values():
        writer.flush()

  def _write(self, part: str, iteration: int, values: Mapping[str, Any],
             grouped: Mapping[str, Any]) -> None:
    prefix = _TF1_PREFIXES[part]
    write_scalars(self._writer(''), iteration,
                  {prefix + name: value for name, value in values.items()})
    write_scalars(self._writer(part), iteration, grouped)

  def _writer(self, part: str):
    """Of the run's folder, or of one below, which is made when something goes into it."""
    if part not in self._writers:
      with _to_be_written():
        self._writers[part] = tf.summary.create_file_writer(os.path.join(self._folder, part))
    return self._writers[part]


def folders_of(folder: str) -> Iterator[str]:
  """Where the files of a run are."""
  for part in ('', *_TF1_PREFIXES):
    yield os.path.join(folder, part)


def grouped_means(results: TaskResults) -> Dict[str, tf.Tensor]:
  """{tag: mean over tasks}: 'loss/after_1' of the query set after an update, 'loss/after_0'
  before any, 'loss/support_before' of the support set."""
  means = {f'{name}/support_before': tf.reduce_mean(values)
           for name, values in results.support.items()}
  for name, values in results.query.items():
    by_step = tf.unstack(tf.reduce_mean(values, axis=0))
    means.update({f'{name}/after_{step}': value for step, value in enumerate(by_step)})
  return means


def grouped_logs(logs: Mapping[str, Any]) -> Dict[str, Any]:
  """{tag: value}: 'return_1' is 'return/after_1', and what is of no phase is of the step.

  Example:
    >>> grouped_logs({'return_0': -40.0, 'kl': 0.01})
    {'return/after_0': -40.0, 'step/kl': 0.01}
  """
  def tag(name: str) -> str:
    phase = _OF_A_PHASE.fullmatch(name)
    return f'{phase[1]}/after_{phase[2]}' if phase else f'step/{name}'
  return {tag(name): value for name, value in logs.items()}


def write_scalars(writer, iteration: int, values: Mapping[str, Any]) -> None:
  """One scalar per tag.

  As `tf.summary.scalar` does, which needs TensorBoard: TensorFlow 2.21 comes without.
  """
  with _to_be_written(), writer.as_default(step=iteration):
    for tag, value in values.items():
      tf.summary.write(tag, tf.cast(value, tf.float32), metadata=_metadata('scalars'))


@contextlib.contextmanager
def _to_be_written() -> Iterator[None]:
  try:
    yield
  except tf.errors.OpError as error:
    raise WriteError(
        f'The TensorBoard summaries cannot be written ({first_line(error)}). Free some '
        'space; the same command goes on from the last checkpoint.') from error


def _metadata(plugin: str):
  """For TensorBoard's plugin of that name."""
  return tf.compat.v1.SummaryMetadata(
      plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name=plugin))
