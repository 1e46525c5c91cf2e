"""TensorBoard's files of a run that goes on from a checkpoint."""

from __future__ import annotations

import glob
import os
from typing import Optional

import tensorflow as tf
from google.protobuf.message import DecodeError

# Around the bytes of a record are its length (8), and the checksums of both (4 each).
_FRAME = 16


def discard_events_after(folder: str, iteration: int) -> int:
  """Cuts off what was written behind a checkpoint, and is going to be written again.

  Events are in the order of their steps, so the rest of each file goes; with it a last
  event that was not written to its end. Files without any event are removed.

  Args:
    folder: with `events.out.tfevents.*` in it.
    iteration: of the checkpoint; 0: the run starts anew, and no event is kept.

  Returns:
    How many bytes were cut off.
  """
  discarded = 0
  for path in glob.glob(os.path.join(glob.escape(folder), 'events.out.tfevents.*')):
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
