"""Summaries of a run that goes on are there once."""

from __future__ import annotations

import os

import pytest
import tensorflow as tf

from maml_tf.files import WriteError
from maml_tf.training import summaries
from maml_tf.training.event_files import discard_events_after


def write_events(folder, steps):
  """One file with an event per step; its path."""
  before = set(os.listdir(folder))
  writer = tf.summary.create_file_writer(str(folder))
  for step in steps:
    summaries.write_scalars(writer, step, {'metatrain_loss': tf.constant(step / 7)})
  writer.close()
  [name] = set(os.listdir(folder)) - before
  return folder / name


def steps_of(events):
  return [step for step, _ in events['metatrain_loss']]


def test_what_is_behind_the_checkpoint_is_cut_off(tmp_path, read_events):
  path = write_events(tmp_path, [0, 100, 200, 300, 400])
  whole = path.read_bytes()
  left = discard_events_after(str(tmp_path), 200)
  assert steps_of(read_events(tmp_path)) == [0, 100, 200]
  assert whole.startswith(path.read_bytes())
  assert left == len(whole) - len(path.read_bytes()) > 0


@pytest.mark.parametrize('iteration', [400, 1000])
def test_a_file_that_ends_at_the_checkpoint_is_not_touched(iteration, tmp_path):
  path = write_events(tmp_path, [100, 400])
  before = (path.read_bytes(), os.stat(path).st_mtime_ns)
  assert discard_events_after(str(tmp_path), iteration) == 0
  assert (path.read_bytes(), os.stat(path).st_mtime_ns) == before


def test_each_start_s_file_is_cut_by_itself(tmp_path, read_events):
  first = write_events(tmp_path, [0, 100, 200])
  write_events(tmp_path, [200, 300, 400])
  write_events(tmp_path, [300])
  (tmp_path / 'model-1.index').write_text('not an event')
  discard_events_after(str(tmp_path), 150)
  assert steps_of(read_events(tmp_path)) == [0, 100]
  # Files without an event are of no use.
  assert sorted(os.listdir(tmp_path)) == sorted([first.name, 'model-1.index'])


def test_a_run_that_starts_anew_has_no_events(tmp_path):
  write_events(tmp_path, [0, 100])
  discard_events_after(str(tmp_path), 0)
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('cut', [1, 4, 17])
def test_an_event_that_was_not_written_to_its_end_is_cut_off(cut, tmp_path, read_events):
  path = write_events(tmp_path, [100, 200, 300])
  os.truncate(path, os.path.getsize(path) - cut)
  discard_events_after(str(tmp_path), 300)
  assert steps_of(read_events(tmp_path)) == [100, 200]   # and can be read


@pytest.mark.parametrize('part', ['train', 'validation'])
def test_the_folders_below_are_cut_with_it(part, tmp_path, read_events):
  (tmp_path / part).mkdir()
  write_events(tmp_path, [0, 100])
  write_events(tmp_path / part, [0, 100, 200])
  assert discard_events_after(str(tmp_path), 100) > 0
  assert [step for step, _ in read_events(tmp_path)[f'{part}: metatrain_loss']] == [0, 100]


def test_nothing_is_said_to_be_written_on_a_full_disk(tmp_path, disk_limit):
  written = summaries.Summaries(str(tmp_path))
  written.write_logs('train', 1, {'loss': tf.constant(1.0)})
  written.flush()
  size = max(os.path.getsize(path) for path in tmp_path.rglob('events*'))
  with disk_limit(size + 30), pytest.raises(
      WriteError, match='summaries cannot be written .*Free some') as error:
    for step in range(2, 30):
      written.write_logs('train', step, {'loss': tf.constant(1.0)})
    written.flush()
  assert '\n' not in str(error.value)


def test_a_file_cannot_be_begun_on_a_full_disk(tmp_path, disk_limit):
  with disk_limit(0), pytest.raises(WriteError, match='summaries cannot be written'):
    written = summaries.Summaries(str(tmp_path))
    written.write_logs('train', 1, {'loss': tf.constant(1.0)})
    written.flush()


def test_what_is_no_event_of_tensorflow_s_ends_no_run(tmp_path):
  """A folder of that name, and a record of something else: each ended a resume before."""
  (tmp_path / 'events.out.tfevents.998.dir').mkdir()
  path = str(tmp_path / 'events.out.tfevents.1.other')
  with tf.io.TFRecordWriter(path) as writer:
    writer.write(b'\xff\xff no event')
  assert discard_events_after(str(tmp_path), 5) == 0
  assert len(os.listdir(tmp_path)) == 2
