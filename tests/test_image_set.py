"""The prepared form: what is written is read, and what is damaged is refused."""

from __future__ import annotations

import json
import os
import re
import types

import numpy as np
import pytest

from data_scripts import image_set_writer
from data_scripts.image_set_writer import ImageSetWriter
from maml_tf.errors import DataError
from maml_tf.sources import image_set
from maml_tf.sources.image_file import ImageFile
from maml_tf.sources.image_set import load_split

CLASSES = {'train': [('a/x', 3), ('b/x', 2)], 'val': [('c', 1)], 'test': [('d', 2)]}
SHAPE = image_set.IMAGE_SHAPES['omniglot']


def images_of(split: str) -> np.ndarray:
  count = sum(count for _, count in CLASSES[split])
  return np.random.RandomState(len(split)).randint(0, 256, (count, *SHAPE)).astype(np.uint8)


def write(folder, overwrite=False, left_out=(), preparation=None, finish=True) -> None:
  with ImageSetWriter(folder, 'omniglot', overwrite) as writer:
    for split, classes in CLASSES.items():
      with writer.split(split, classes) as split_writer:
        for index, image in reversed(list(enumerate(images_of(split)))):
          if (split, index) not in left_out:
            split_writer.put(index, image)
    if finish:
      writer.finish(preparation or {'options': {'seed': 1}})


@pytest.fixture
def prepared(tmp_path):
  write(tmp_path / 'set')
  return tmp_path / 'set'


def test_a_small_split_outlives_its_file(prepared):
  """What is mapped would end the process with SIGBUS."""
  loaded = load_split(prepared, 'omniglot', 'train')
  os.truncate(prepared / 'train.npy', 128)
  np.testing.assert_array_equal(loaded.images, images_of('train'))


# A large split stays on the disk.


@pytest.fixture
def on_the_disk(prepared, monkeypatch):
  if not hasattr(os, 'preadv'):
    pytest.skip('this system maps files')
  monkeypatch.setattr(image_set, '_READ_BYTES', 0)
  return load_split(prepared, 'omniglot', 'train')


def test_a_large_split_is_read_as_it_is_asked_for(on_the_disk):
  indices = np.array([[4, 0, 4], [1, 2, 3]])
  images = on_the_disk.read(indices)
  np.testing.assert_array_equal(images, images_of('train')[indices])
  images[:] = 0   # a copy
  np.testing.assert_array_equal(on_the_disk.read(indices), images_of('train')[indices])
  assert isinstance(on_the_disk.images, np.memmap)


@pytest.mark.parametrize('replace', [
    lambda path: path.unlink(),
    lambda path: os.replace(path.parent / 'val.npy', path),
    lambda path: os.utime(path, (1, 1)),
    lambda path: path.write_bytes(path.read_bytes()),
], ids=['removed', 'replaced', 'touched', 'written again'])
def test_a_large_split_outlives_what_leaves_its_bytes(on_the_disk, prepared, replace):
  replace(prepared / 'train.npy')
  for _ in range(2):
    np.testing.assert_array_equal(on_the_disk.read(np.arange(5)), images_of('train'))


def written_over(path):
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)


@pytest.mark.parametrize('change, message', [
    (lambda path: os.truncate(path, 2000), 'cannot be read any more (it got shorter)'),
    (lambda path: os.truncate(path, 0), 'cannot be read any more (it got shorter)'),
    (written_over, 'was changed while it was in use'),
], ids=['shortened', 'emptied', 'another image'])
def test_a_large_split_that_changes_is_said(on_the_disk, prepared, change, message):
  """Under a memory map the first two end the process without a word, and the third goes on
  with other images."""
  on_the_disk.read(np.arange(5))
  change(prepared / 'train.npy')
  with pytest.raises(DataError, match=re.escape(message)) as error:
    on_the_disk.read(np.array([0, 4]))
  assert 'put it back' in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('size', [2000, 0])
def test_a_file_that_gets_shorter_behind_a_read_is_said_alike(on_the_disk, prepared, size,
                                                              monkeypatch):
  """When a file is cut, beside or before the reads of a batch, is a matter of chance."""
  read = ImageFile._read
  def cut_behind(*args):
    read(*args)
    os.truncate(prepared / 'train.npy', size)
  monkeypatch.setattr(ImageFile, '_read', cut_behind)
  with pytest.raises(DataError, match=re.escape('cannot be read any more (it got shorter)')):
    on_the_disk.read(np.array([0]))


def test_a_file_that_is_let_go_is_closed(prepared, monkeypatch):
  """A run opens three, and who verifies all rows a hundred."""
  monkeypatch.setattr(image_set, '_READ_BYTES', 0)
  before = len(os.listdir('/dev/fd'))
  for _ in range(20):
    load_split(prepared, 'omniglot', 'train')
  assert len(os.listdir('/dev/fd')) <= before + 1


@pytest.mark.parametrize('split', image_set.SPLITS)
def test_what_is_written_is_read(prepared, split):
  loaded = load_split(prepared, 'omniglot', split)
  np.testing.assert_array_equal(loaded.images, images_of(split))
  assert not loaded.images.flags.writeable
  assert (loaded.name, loaded.split) == ('omniglot', split)
  assert loaded.class_names == tuple(name for name, _ in CLASSES[split])
  assert loaded.class_counts.dtype == np.int64
  assert loaded.class_counts.tolist() == [count for _, count in CLASSES[split]]
  assert loaded.sha256 == image_set.sha256_of_file(prepared / f'{split}.npy')


def test_class_starts_are_the_first_images(prepared):
  assert load_split(prepared, 'omniglot', 'train').class_starts.tolist() == [0, 3]


def test_images_left_out_leave_no_gap(tmp_path):
  write(tmp_path / 'set', left_out=[('train', 0), ('train', 4)])
  loaded = load_split(tmp_path / 'set', 'omniglot', 'train')
  np.testing.assert_array_equal(loaded.images, images_of('train')[[1, 2, 3]])
  assert loaded.class_counts.tolist() == [2, 1]


def test_the_files_do_not_depend_on_the_order_of_writing_or_the_time(tmp_path):
  write(tmp_path / 'one')
  write(tmp_path / 'two')
  for name in ('manifest.json', 'train.npy'):
    assert (tmp_path / 'one' / name).read_bytes() == (tmp_path / 'two' / name).read_bytes()


@pytest.mark.parametrize('name, flag', [('omniglot', '--download'),
                                        ('miniimagenet', '--source=')])
def test_a_missing_folder_names_the_command(tmp_path, name, flag):
  with pytest.raises(DataError, match=f'prepare_{name}.py .*{flag}.*--out='):
    load_split(tmp_path / 'none', name, 'train')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(DataError, match=f'no manifest.json.*prepare_{name}.py'):
    load_split(tmp_path / 'empty', name, 'train')


def test_a_folder_that_cannot_be_looked_at_is_one_sentence(prepared, monkeypatch):
  with pytest.raises(DataError, match=r'cannot be read \(File name too long\): check the'):
    image_set.read_manifest('x' * 300, 'omniglot')
  def refuse(_):
    raise PermissionError(13, 'Permission denied')
  (prepared / 'manifest.json').unlink()
  monkeypatch.setattr(image_set.Path, 'iterdir', refuse)   # root may read everything
  with pytest.raises(DataError, match=r'cannot be read \(Permission denied\): check the path'):
    load_split(prepared, 'omniglot', 'train')
  assert image_set.completed_preparation(prepared, 'omniglot') is None


def test_unknown_names_list_the_known_ones(prepared):
  with pytest.raises(DataError, match='known are miniimagenet, omniglot'):
    load_split(prepared, 'imagenet', 'train')
  with pytest.raises(DataError, match='known are train, val, test'):
    load_split(prepared, 'omniglot', 'validation')


def test_advice_does_not_repeat_the_mistake(prepared, tmp_path):
  with pytest.raises(DataError) as error:   # --overwrite would lose the other set
    image_set.read_manifest(prepared, 'miniimagenet')
  assert '--overwrite' not in str(error.value)
  assert 'give --datasource=omniglot, or the folder of miniimagenet' in str(error.value)
  (tmp_path / 'raw').mkdir()
  (tmp_path / 'raw' / 'images_background.zip').write_bytes(b'')
  with pytest.raises(DataError, match=f'--source={tmp_path}/raw --out=data/omniglot'):
    image_set.read_manifest(tmp_path / 'raw', 'omniglot')


def test_what_stands_where_the_prepared_set_would_be_is_prepared_beside_it(
    tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'data' / 'omniglot' / 'Greek').mkdir(parents=True)
  with pytest.raises(DataError) as error:   # the writer replaces nothing of the user's
    image_set.read_manifest('data/omniglot', 'omniglot')
  assert '--source=data/omniglot --out=data/omniglot-prepared`' in str(error.value)


def test_a_file_is_no_folder_to_prepare_into(tmp_path):
  (tmp_path / 'omniglot.zip').write_bytes(b'')
  with pytest.raises(DataError, match='is a file, and no folder with the prepared omniglot'):
    image_set.read_manifest(tmp_path / 'omniglot.zip', 'omniglot')


def test_what_file_managers_leave_in_a_folder_is_no_data(prepared):
  for name in ('.DS_Store', 'Thumbs.db', 'desktop.ini'):
    (prepared / name).write_bytes(b'junk')
  load_split(prepared, 'omniglot', 'train')
  with pytest.raises(DataError, match='replace it with --overwrite'):
    ImageSetWriter(prepared, 'omniglot').__enter__()
  with ImageSetWriter(prepared, 'omniglot', overwrite=True):
    pass


def test_the_other_set_is_refused(prepared):
  with pytest.raises(DataError, match="describes the set 'omniglot', and 'miniimagenet'"):
    load_split(prepared, 'miniimagenet', 'train')


@pytest.mark.parametrize('text', ['', '{', '[' * 100_000, '\xff', 'NaN', '[]', 'null'])
def test_a_damaged_manifest_is_refused(prepared, text):
  (prepared / 'manifest.json').write_bytes(text.encode('latin1'))
  with pytest.raises(DataError, match='manifest.json'):
    load_split(prepared, 'omniglot', 'train')


def _set(*path_and_value):
  *path, last, value = path_and_value

  def change(manifest):
    for key in path:
      manifest = manifest[key]
    manifest[last] = value
  return change


@pytest.mark.parametrize('change, message', [
    (_set('format', 'zip'), 'not the manifest'),
    (_set('version', 2), 'version 2 .* reads version 1'),
    (_set('image_shape', [84, 84, 3]), 'the shape'),
    (_set('splits', None), 'must describe the splits'),
    (_set('splits', 'more', {}), 'must describe the splits'),
    (_set('splits', 'val', None), 'object in the split val'),
    (_set('preparation', 3), 'preparation'),
    (_set('splits', 'train', 'file', '../train.npy'), 'names the file'),
    (_set('splits', 'train', 'sha256', 'x' * 64), 'no valid SHA-256'),
    (_set('splits', 'train', 'classes', []), 'no valid list of classes'),
    (_set('splits', 'train', 'classes', 0, 'count', -1), 'no valid list of classes'),
    (_set('splits', 'train', 'classes', 0, 'count', True), 'no valid list of classes'),
    (_set('splits', 'train', 'classes', 0, 'name', 'z'), 'sorted order'),
    (_set('splits', 'train', 'classes', 0, 'name', 'b/x'), 'not distinct'),
    (_set('splits', 'test', 'classes', 0, 'name', 'c'), 'more than one split'),
    (_set('splits', 'train', 'classes', 0, 'count', 4), r'promises uint8 \[6, 28, 28, 1\]'),
    (_set('splits', 'train', 'sha256', '0' * 64), 'changed or damaged'),
])
def test_a_wrong_manifest_says_what_is_wrong(prepared, change, message):
  path = prepared / 'manifest.json'
  manifest = json.loads(path.read_text())
  change(manifest)
  path.write_text(json.dumps(manifest))
  with pytest.raises(DataError, match=message):
    load_split(prepared, 'omniglot', 'train')


def test_one_flipped_bit_is_noticed(prepared):
  data = bytearray((prepared / 'train.npy').read_bytes())
  data[-1] ^= 1
  (prepared / 'train.npy').write_bytes(data)
  with pytest.raises(DataError, match='SHA-256 .* changed or damaged.*--overwrite'):
    load_split(prepared, 'omniglot', 'train')
  load_split(prepared, 'omniglot', 'val')   # the other splits are whole
  assert image_set.completed_preparation(prepared, 'omniglot') is None


def test_a_file_that_stays_the_same_is_hashed_once(prepared, monkeypatch):
  hashed, original = [], image_set.sha256_of_file
  monkeypatch.setattr(image_set, 'sha256_of_file',
                      lambda path: hashed.append(path) or original(path))
  for _ in range(3):
    load_split(prepared, 'omniglot', 'train')
  assert len(hashed) == 1
  os.utime(prepared / 'train.npy', ns=(1, 1))
  load_split(prepared, 'omniglot', 'train')
  assert len(hashed) == 2


@pytest.mark.parametrize('content', [b'', b'<html>', b'\x93NUMPY'])
def test_a_file_that_is_no_array_is_refused(prepared, content):
  (prepared / 'val.npy').write_bytes(content)
  with pytest.raises(DataError, match='cannot be read as a NumPy array'):
    load_split(prepared, 'omniglot', 'val')


def test_a_file_cut_off_is_refused(prepared):
  data = (prepared / 'train.npy').read_bytes()
  (prepared / 'train.npy').write_bytes(data[:-100])
  with pytest.raises(DataError, match=r'train\.npy'):
    load_split(prepared, 'omniglot', 'train')


def test_other_arrays_are_refused(prepared):
  np.save(prepared / 'val.npy', np.zeros((1, *SHAPE), np.float32))
  with pytest.raises(DataError, match='holds float32'):
    load_split(prepared, 'omniglot', 'val')
  with open(prepared / 'val.npy', 'wb') as file:
    np.savez(file, a=np.zeros(1))
  with pytest.raises(DataError, match='archive of arrays'):
    load_split(prepared, 'omniglot', 'val')
  np.save(prepared / 'val.npy', np.array([print], dtype=object), allow_pickle=True)
  with pytest.raises(DataError, match='cannot be read'):
    load_split(prepared, 'omniglot', 'val')


def test_a_missing_file_is_named(prepared):
  (prepared / 'test.npy').unlink()
  with pytest.raises(DataError, match=r'lacks the file .*test\.npy'):
    load_split(prepared, 'omniglot', 'test')


def test_nothing_appears_before_it_is_whole(tmp_path):
  target = tmp_path / 'set'
  write(target, finish=False)
  assert list(tmp_path.iterdir()) == []
  with pytest.raises(RuntimeError), ImageSetWriter(target, 'omniglot') as writer:
    with writer.split('train', CLASSES['train']):
      raise RuntimeError
  assert list(tmp_path.iterdir()) == []


def test_finish_refuses_a_set_with_a_missing_split(tmp_path):
  with pytest.raises(DataError, match='object in the split train'):
    with ImageSetWriter(tmp_path / 'set', 'omniglot') as writer:
      writer.finish({})
  assert list(tmp_path.iterdir()) == []


def test_a_prepared_set_is_replaced_only_with_overwrite(prepared):
  with pytest.raises(DataError, match='--overwrite'):
    write(prepared)
  write(prepared, overwrite=True, preparation={'options': {'seed': 2}})
  assert image_set.completed_preparation(prepared, 'omniglot') == {'options': {'seed': 2}}
  assert os.listdir(prepared.parent) == ['set']


def test_a_failed_replacement_leaves_the_old_set(prepared, monkeypatch):
  replace = os.replace

  def failing_replace(source, target):
    if str(source).endswith('.preparing'):
      raise KeyboardInterrupt
    replace(source, target)
  monkeypatch.setattr(os, 'replace', failing_replace)
  with pytest.raises(KeyboardInterrupt):
    write(prepared, overwrite=True, preparation={'options': {'seed': 2}})
  assert image_set.completed_preparation(prepared, 'omniglot') == {'options': {'seed': 1}}
  assert os.listdir(prepared.parent) == ['set']


def test_a_replacement_killed_between_its_renames_is_recovered(prepared):
  replaced = prepared.parent / '.set.replaced'
  os.replace(prepared, replaced)
  with pytest.raises(DataError, match='--overwrite'):
    write(prepared)
  assert image_set.completed_preparation(prepared, 'omniglot')
  assert os.listdir(prepared.parent) == ['set']


@pytest.mark.parametrize('overwrite', [False, True])
def test_a_folder_with_other_things_is_never_replaced(tmp_path, overwrite):
  (tmp_path / 'thesis.tex').write_text('years of work')
  with pytest.raises(DataError, match=r'thesis\.tex'):
    write(tmp_path, overwrite=overwrite)
  assert os.listdir(tmp_path) == ['thesis.tex']
  with pytest.raises(DataError, match='is a file'):
    write(tmp_path / 'thesis.tex', overwrite=overwrite)


def test_an_empty_folder_and_a_link_are_good_targets(tmp_path):
  (tmp_path / 'disk').mkdir()
  (tmp_path / 'link').symlink_to(tmp_path / 'disk')
  write(tmp_path / 'link')
  assert (tmp_path / 'link').is_symlink()
  load_split(tmp_path / 'disk', 'omniglot', 'train')


def test_a_dead_runs_staging_folder_is_reused(tmp_path):
  staging = tmp_path / '.set.preparing'
  staging.mkdir()
  (staging / 'train.npy').write_bytes(b'half')
  write(tmp_path / 'set')
  load_split(tmp_path / 'set', 'omniglot', 'train')
  assert os.listdir(tmp_path) == ['set']


def test_two_runs_at_once_are_refused(tmp_path):
  with ImageSetWriter(tmp_path / 'set', 'omniglot'):
    with pytest.raises(DataError,
                       match=f'Another run .process {os.getpid()} on .*is preparing'):
      write(tmp_path / 'set')
    assert (tmp_path / '.set.preparing').is_dir()
  write(tmp_path / 'set')
  assert os.listdir(tmp_path) == ['set']


def test_no_room_on_the_disk_is_said_before_writing(tmp_path, monkeypatch):
  monkeypatch.setattr(image_set_writer.shutil, 'disk_usage',
                      lambda _: types.SimpleNamespace(free=1 << 20))
  with ImageSetWriter(tmp_path / 'set', 'omniglot') as writer:
    with pytest.raises(DataError, match=r'MiB left.*need \d+ MiB'):
      with writer.split('train', CLASSES['train']):
        pass


def test_splits_that_are_written_together_share_the_room(tmp_path, monkeypatch):
  classes = [('a', (100 << 20) // int(np.prod(SHAPE)))]
  monkeypatch.setattr(image_set_writer.shutil, 'disk_usage',
                      lambda _: types.SimpleNamespace(free=150 << 20))
  with ImageSetWriter(tmp_path / 'set', 'omniglot') as writer:
    with writer.split('train', [('a', 1)]) as written:   # it needs no more room after that
      written.put(0, np.zeros(SHAPE, np.uint8))
    with pytest.raises(DataError, match='150 MiB left, and the images of val and test need'):
      with writer.split('val', classes), writer.split('test', classes):
        pass


@pytest.mark.parametrize('image', [np.zeros((28, 28), np.uint8),
                                   np.zeros((28, 28, 1), np.float32)])
def test_an_image_of_another_form_is_a_programming_error(tmp_path, image):
  with ImageSetWriter(tmp_path / 'set', 'omniglot') as writer:
    with pytest.raises(ValueError, match=re.escape(str(SHAPE))):
      with writer.split('train', [('a', 1)]) as split:
        split.put(0, image)
