"""TensorBoard's files of a run that goes on from a checkpoint."""

from __future__ import annotations

import glob
import os
from typing import Iterator, Optional

import tensorflow as tf
from google.protobuf.message import DecodeError

from maml_tf.training.summaries import folders_of

# Around the bytes of a record are its length (8), and the checksums of both (4 each).
_FRAME = 16


def discard_events_after(folder: str, iteration: int) -> int:
  """Cuts off what was written behind a checkpoint, and is going to be written again.

  Events are in the order of their steps, so the rest of each file goes; with it a last
  event that was not written to its end. Files without any event are removed.

  Args:
    folder: of the run, with `events.out.tfevents.*` in it and in folders below.
    iteration: of the checkpoint; 0: the run starts anew, and no event is kept.

  Returns:
    How many bytes were cut off.
  """
  discarded = 0
  for path in _event_files(folder):
    if not os.path.isfile(path):
      continue   # not a run's
    before = os.path.getsize(path)
    end = _end_of_events(path, iteration) if iteration else None
    if end is None:
      os.remove(path)
    elif end < before:
      os.truncate(path, end)
    discarded += before - (end or 0)
  return discarded


def _event_files(folder: str) -> Iterator[str]:
  for part in folders_of(folder):
    yield from glob.glob(os.path.join(glob.escape(part), 'events.out.tfevents.*'))


def _end_of_events(path: str, iteration: int) -> Optional[int]:
  """The position behind the last event that is kept; None where there is none."""
  position, kept = 0, None
  try:
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
      event = tf.compat.v1.Event.FromString(record)
      if event.step > iteration:
        break
      position += len(record) + _FRAME
      if event.HasField('summary'):
        kept = position
  except tf.errors.DataLossError:
    pass   # the process was killed while it wrote this one
  except DecodeError:
    return os.path.getsize(path)   # whosever it is, it is left alone
  return kept
