"""Preparing mini-ImageNet, from small made-up sources in every form users have."""

from __future__ import annotations

import io
import json
import os
import pathlib
import pickle
import shutil
import signal
import struct
import tarfile
import zipfile
import zlib

import half_prepared
import numpy as np
import pytest
from PIL import Image

from data_scripts import make_sample_data, prepare_miniimagenet
from data_scripts.preparation import Layout
from maml_tf.sources.image_set import SPLITS, load_split

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
LAYOUT = Layout(train=3, val=2, test=2, images_per_class=4)


@pytest.fixture(scope='module')
def zips(tmp_path_factory):
  folder = tmp_path_factory.mktemp('miniimagenet') / 'zips'
  make_sample_data.write_source('miniimagenet', folder, LAYOUT, seed=0)
  return folder


@pytest.fixture
def with_images(zips, tmp_path):
  """A folder with images/ and the CSV files."""
  folder = tmp_path / 'source'
  folder.mkdir()
  for split in SPLITS:
    shutil.copy(zips / f'{split}.csv', folder)
    with zipfile.ZipFile(zips / f'images-{split}.zip') as archive:
      archive.extractall(folder)
  return folder


def rows(folder, split):
  """[(file name, label)] of a CSV file."""
  lines = (folder / f'{split}.csv').read_text().splitlines()[1:]
  return [tuple(line.split(',')) for line in lines]


def prepare(source, out, *flags, layout=LAYOUT) -> int:
  return prepare_miniimagenet.main([f'--source={source}', f'--out={out}', *flags], layout)


def failure(capsys, source, out, *flags) -> str:
  """The message of a preparation that must fail and leave nothing."""
  assert prepare(source, out, *flags) == 2
  assert not out.exists() and not list(out.parent.glob(f'.{out.name}*'))
  return capsys.readouterr().err


def whole_set(out):
  return {split: load_split(out, 'miniimagenet', split) for split in SPLITS}


def hashes(out):
  return [loaded.sha256 for loaded in whole_set(out).values()]


def preparation_of(out):
  return json.loads((out / 'manifest.json').read_text())['preparation']


def class_folders(with_images, target):
  for split in SPLITS:
    for name, label in rows(with_images, split):
      (target / split / label).mkdir(parents=True, exist_ok=True)
      shutil.copy(with_images / 'images' / name, target / split / label)
  return target


def pickles(with_images, target, protocol=2, as_arrays=False):
  target.mkdir()
  for split in SPLITS:
    class_dict, images = {}, []
    for name, label in rows(with_images, split):
      class_dict.setdefault(label, []).append(len(images))
      with Image.open(with_images / 'images' / name) as image:
        images.append(np.asarray(image))
    if as_arrays:
      class_dict = {label: np.array(indices) for label, indices in class_dict.items()}
    (target / f'mini-imagenet-cache-{split}.pkl').write_bytes(pickle.dumps(
        {'image_data': np.stack(images), 'class_dict': class_dict}, protocol))
  return target


def packed(folder, archive):
  """All of a folder, as a zip or tar file."""
  files = [(path, path.relative_to(folder)) for path in sorted(folder.rglob('*'))
           if path.is_file()]
  if archive.suffix == '.zip':
    with zipfile.ZipFile(archive, 'w') as target:
      for path, name in files:
        target.write(path, name)
  else:
    with tarfile.open(archive, 'w:gz' if archive.suffix == '.gz' else 'w') as target:
      for path, name in reversed(files):
        target.add(path, f'./mini-imagenet/{name}')
  return archive


def test_the_images_are_those_of_the_files(zips, with_images, tmp_path, capsys):
  assert prepare(zips, tmp_path / 'out') == 0
  for split, loaded in whole_set(tmp_path / 'out').items():
    assert loaded.class_names == tuple(sorted({label for _, label in rows(zips, split)}))
    assert set(loaded.class_counts.tolist()) == {LAYOUT.images_per_class}
    for index, (name, _) in enumerate(sorted(rows(zips, split), key=lambda row: row[::-1])):
      with Image.open(with_images / 'images' / name) as image:
        np.testing.assert_array_equal(loaded.images[index], np.asarray(image))
  assert 'Next: python main.py --datasource=miniimagenet' in capsys.readouterr().out
  assert preparation_of(tmp_path / 'out')['skipped_files'] == []


def test_all_forms_of_the_source_give_the_same_set(zips, with_images, tmp_path):
  one_zip = tmp_path / 'one_zip'
  one_zip.mkdir()
  for split in SPLITS:
    shutil.copy(zips / f'{split}.csv', one_zip)
  packed(with_images, tmp_path / 'everything.zip')
  folders = class_folders(with_images, tmp_path / 'folders')
  (tmp_path / 'images_only').mkdir()
  shutil.copytree(with_images / 'images', tmp_path / 'images_only' / 'images')
  packed(tmp_path / 'images_only', one_zip / 'images.zip')
  in_folder = tmp_path / 'in_folder'
  in_folder.mkdir()
  packed(folders, in_folder / 'mini.tar')
  sources = [zips, with_images, one_zip, tmp_path / 'everything.zip', folders,
             packed(folders, tmp_path / 'folders.zip'), packed(folders, tmp_path / 'f.tar.gz'),
             in_folder, pickles(with_images, tmp_path / 'p2'),
             pickles(with_images, tmp_path / 'p5', protocol=5, as_arrays=True)]
  found = []
  for number, source in enumerate(sources):
    assert prepare(source, tmp_path / f'out{number}') == 0, source
    found.append(hashes(tmp_path / f'out{number}'))
  assert all(each == found[0] for each in found)


def test_images_of_other_sizes_and_modes_are_converted(with_images, tmp_path, capsys):
  label = rows(with_images, 'train')[0][1]
  names = [name for name, other in rows(with_images, 'train') if other == label]
  big = Image.effect_noise((500, 375), 80).convert('RGB')
  big.save(with_images / 'images' / names[0], quality=95)
  Image.effect_noise((84, 84), 80).save(with_images / 'images' / names[1])
  big.convert('CMYK').save(with_images / 'images' / names[2], 'JPEG')
  big.save(with_images / 'images' / names[3], 'PNG')   # ILSVRC has such a '.JPEG' too
  assert prepare(with_images, tmp_path / 'out') == 0
  images = load_split(tmp_path / 'out', 'miniimagenet', 'train').images
  for index, name in enumerate(names):
    with Image.open(with_images / 'images' / name) as image:
      expected = image.convert('RGB').resize((84, 84), Image.Resampling.LANCZOS)
      if image.size == (84, 84):
        expected = image.convert('RGB')
    np.testing.assert_array_equal(images[index], np.asarray(expected))
  printed = capsys.readouterr().out
  assert '1 images were stored as L' in printed and '1 images were stored as CMYK' in printed
  assert preparation_of(tmp_path / 'out')['stored_modes'] == {'CMYK': 1, 'L': 1}


def test_everything_that_is_wrong_is_reported_together(with_images, tmp_path, capsys):
  names = [name for name, _ in rows(with_images, 'train')]
  images = with_images / 'images'
  (images / names[0]).write_bytes(b'')
  (images / names[1]).write_bytes(b'<!DOCTYPE html><html>Too many requests</html>')
  whole = (images / names[2]).read_bytes()
  (images / names[2]).write_bytes(whole[:len(whole) // 2])
  (images / names[3]).unlink()
  (images / 'n999.jpg').write_bytes(whole)
  with open(with_images / 'val.csv', 'a') as file:
    file.write(f'{names[4]},n1\nonly-one-cell\n')
  message = failure(capsys, with_images, tmp_path / 'out')
  for expected in (f'{names[0]}: an empty file', f'{names[1]}: a web page', names[2],
                   'cut off', f'train.csv: {names[3]} has no file',
                   'Left out, since they are in no CSV file: images/n999.jpg',
                   f'{names[4]} has a row already',
                   "val.csv line 11: ['only-one-cell'] is not", '3 images, expected 4'):
    assert expected in message
  assert '7 problems were found' in message


def test_a_missing_class_is_reported(with_images, tmp_path, capsys):
  label = rows(with_images, 'test')[0][1]
  kept = [f'{row[0]},{row[1]}' for row in rows(with_images, 'test') if row[1] != label]
  (with_images / 'test.csv').write_text('\n'.join(['filename,label', *kept]))
  for file in (with_images / 'images').glob(f'{label}*'):
    file.unlink()
  assert 'split test: 1 classes, expected 2' in failure(capsys, with_images, tmp_path / 'out')


def test_a_class_in_two_splits_is_reported(with_images, tmp_path, capsys):
  folders = class_folders(with_images, tmp_path / 'folders')
  label = rows(with_images, 'val')[0][1]
  (folders / 'val' / label).rename(folders / 'test' / label)
  other = rows(with_images, 'train')[0][1]
  (folders / 'train' / other).rename(folders / 'val' / 'moved')
  shutil.copytree(folders / 'val' / 'moved', folders / 'test' / 'moved')
  message = failure(capsys, folders, tmp_path / 'out')
  assert 'there twice' in message and 'split train: 2 classes, expected 3' in message
  csv = (with_images / 'val.csv').read_text().replace(label, other).replace(
      f'{other}0', f'{label}0')
  (with_images / 'val.csv').write_text(csv)
  message = failure(capsys, with_images, tmp_path / 'out')
  assert f'class {other}: both in train and in val' in message


@pytest.mark.parametrize('content, message', [
    (b'filename,label\n' + b'a,b\n' * (1 << 20), 'train.csv: larger than 4 MiB'),
    (b'filename,label\n' + b'a' * 200_000 + b',b\n', 'field larger than field limit'),
    (b'', 'train.csv: an empty file'), (b'<html></html>', 'train.csv: a web page'),
    (b'\xff\xfe\x00', 'not a text'), (b'a;b\n', 'its first line is "a,b"')])
def test_a_csv_that_is_none_is_reported(with_images, tmp_path, capsys, content, message):
  (with_images / 'train.csv').write_bytes(content)
  assert message in failure(capsys, with_images, tmp_path / 'out')


def test_csvs_of_spreadsheets_are_read(zips, with_images, tmp_path):
  for split in SPLITS:
    text = (with_images / f'{split}.csv').read_text().replace('\n', '\r\n')
    (with_images / f'{split}.csv').write_bytes(b'\xef\xbb\xbf' + text.encode() + b'\r\n')
  assert prepare(with_images, tmp_path / 'out') == 0
  assert prepare(zips, tmp_path / 'other') == 0
  assert hashes(tmp_path / 'out') == hashes(tmp_path / 'other')


def test_sources_without_what_is_needed_say_what_is(with_images, tmp_path, capsys):
  (tmp_path / 'empty').mkdir()
  assert 'none of the forms' in failure(capsys, tmp_path / 'empty', tmp_path / 'out')
  (with_images / 'val.csv').unlink()
  assert 'lacks val.csv' in failure(capsys, with_images, tmp_path / 'out')
  (with_images / 'val.csv').write_text('filename,label\n')
  shutil.rmtree(with_images / 'images')
  assert 'but no images' in failure(capsys, with_images, tmp_path / 'out')


def test_an_archive_that_is_a_web_page_is_named(zips, tmp_path, capsys):
  shutil.copytree(zips, tmp_path / 'source')
  (tmp_path / 'source' / 'images-val.zip').write_bytes(b'<html>login</html>')
  message = failure(capsys, tmp_path / 'source', tmp_path / 'out')
  assert 'images-val.zip' in message and 'a web page' in message


def test_a_huge_image_is_refused(with_images, tmp_path, capsys):
  names = [name for name, _ in rows(with_images, 'val')]
  for name, side in zip(names, (10_000, 50_000)):
    file = bytearray(png_of_one_pixel())
    file[16:24] = struct.pack('>II', side, side)
    file[29:33] = struct.pack('>I', zlib.crc32(file[12:29]))
    (with_images / 'images' / name).write_bytes(file)
  message = failure(capsys, with_images, tmp_path / 'out')
  assert '10000 x 10000 pixels, more than' in message
  assert f'{names[1]}: more pixels than' in message


def png_of_one_pixel() -> bytes:
  buffer = io.BytesIO()
  Image.new('1', (1, 1)).save(buffer, 'PNG')
  return buffer.getvalue()


def test_damaged_images_are_left_out_if_asked(with_images, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(prepare_miniimagenet, 'LEAST_PER_CLASS', 2)
  assert prepare(with_images, tmp_path / 'whole') == 0
  names = [name for name, _ in rows(with_images, 'train')]
  for index in (0, 5):
    (with_images / 'images' / names[index]).write_bytes(b'')
  capsys.readouterr()
  message = failure(capsys, with_images, tmp_path / 'out')
  assert 'an empty file' in message and 'or leave them out with --skip_damaged' in message
  assert prepare(with_images, tmp_path / 'out', '--skip_damaged') == 0
  assert '2 damaged images were left out' in capsys.readouterr().out
  loaded = load_split(tmp_path / 'out', 'miniimagenet', 'train')
  assert loaded.class_counts.tolist() == [3, 3, 4]
  whole = load_split(tmp_path / 'whole', 'miniimagenet', 'train').images
  np.testing.assert_array_equal(loaded.images, np.delete(whole, [0, 5], axis=0))
  assert preparation_of(tmp_path / 'out')['skipped_files'] == [
      f'images/{names[index]}: an empty file' for index in (0, 5)]
  for index in (1, 2):
    (with_images / 'images' / names[index]).write_bytes(b'')
  message = failure(capsys, with_images, tmp_path / 'less', '--skip_damaged')
  assert '1 undamaged images, at least 2 are needed' in message
  # So it is not offered either; nor where something else is wrong, which it cannot help.
  assert '--skip_damaged' not in failure(capsys, with_images, tmp_path / 'less')
  Image.new('RGB', (84, 84)).save(with_images / 'images' / names[1], 'JPEG')
  assert '--skip_damaged' in failure(capsys, with_images, tmp_path / 'less')
  with open(with_images / 'val.csv', 'a') as file:
    file.write('only-one-cell\n')
  assert '--skip_damaged' not in failure(capsys, with_images, tmp_path / 'less')


def test_what_skip_damaged_leaves_is_enough_for_episodes(with_images, tmp_path, monkeypatch):
  """The sampler takes classes of unequal size, and refuses what a class cannot give."""
  from maml_tf.config import ConfigError
  from maml_tf.data_generator import DataGenerator
  from maml_tf.sources.images import ImageSource
  monkeypatch.setattr(prepare_miniimagenet, 'LEAST_PER_CLASS', 2)
  (with_images / 'images' / rows(with_images, 'train')[0][0]).write_bytes(b'')
  assert prepare(with_images, tmp_path / 'out', '--skip_damaged') == 0
  split = load_split(tmp_path / 'out', 'miniimagenet', 'train')
  assert split.class_counts.tolist() == [3, 4, 4]
  recipes = DataGenerator(ImageSource(split, 3, 1, 2, rotations=False), 4, 0).recipes(0, 64)
  classes = np.repeat(np.arange(3), split.class_counts)[recipes['image'].numpy()]
  for task in range(64):
    assert np.bincount(classes[task]).tolist() == [3, 3, 3]
    assert len(set(recipes['image'].numpy()[task])) == 9
  with pytest.raises(ConfigError, match='need 4 images of a class'):
    ImageSource(split, 3, 2, 2, rotations=False)


class Hostile:

  def __init__(self, command):
    self.command = command

  def __reduce__(self):
    return os.system, (self.command,)


def test_a_hostile_pickle_is_not_executed(with_images, tmp_path, capsys):
  folder = pickles(with_images, tmp_path / 'pickles')
  marker = tmp_path / 'executed'
  (folder / 'mini-imagenet-cache-val.pkl').write_bytes(
      pickle.dumps({'image_data': Hostile(f'touch {marker}'), 'class_dict': {}}))
  assert 'nothing in it was executed' in failure(capsys, folder, tmp_path / 'out')
  assert not marker.exists()


@pytest.mark.parametrize('change, message', [
    (lambda content: content.pop('class_dict'), 'does not hold'),
    (lambda content: content.update(image_data=content['image_data'] / 255), 'float64'),
    (lambda content: content.update(image_data=[1]), 'of the form list'),
    (lambda content: content['class_dict'].popitem(), 'belong to no class'),
    (lambda content: content['class_dict'].update(n1=[0]), 'or to two'),
    (lambda content: content['class_dict'].update(n1=['0']), 'not one of lists'),
    (lambda content: content['class_dict'].update(n1=[10**9]), 'without their images')])
def test_a_pickle_of_something_else_is_refused(with_images, tmp_path, capsys, change, message):
  path = pickles(with_images, tmp_path / 'pickles') / 'mini-imagenet-cache-test.pkl'
  content = pickle.loads(path.read_bytes())   # written by this test
  change(content)
  path.write_bytes(pickle.dumps(content))
  assert message in failure(capsys, path.parent, tmp_path / 'out')
  path.unlink()
  assert 'no file' in failure(capsys, path.parent, tmp_path / 'out')


def test_wrong_flags_exit_with_2(tmp_path, capsys):
  for flags in ([], ['--source=x', '--download'], ['--source=x', '--allow_other_counts']):
    with pytest.raises(SystemExit) as error:
      prepare_miniimagenet.main(flags)
    assert error.value.code == 2
  assert 'no file or folder' in failure(capsys, tmp_path / 'none', tmp_path / 'out')
  (tmp_path / 'x.txt').write_text('text')
  assert 'neither a folder' in failure(capsys, tmp_path / 'x.txt', tmp_path / 'out')


def test_help_says_where_the_data_come_from(capsys):
  with pytest.raises(SystemExit):
    prepare_miniimagenet.main(['--help'])
  printed = capsys.readouterr().out
  assert 'no --download' in printed and 'non-commercial research' in printed


def test_an_interrupted_replacement_keeps_the_old_set(zips, tmp_path):
  assert prepare(zips, tmp_path / 'out') == 0
  before = hashes(tmp_path / 'out')
  code, _ = half_prepared.interrupted('miniimagenet', LAYOUT, zips, tmp_path / 'out',
                                      signal.SIGINT, '--overwrite')
  assert code == 130
  assert hashes(tmp_path / 'out') == before
  assert os.listdir(tmp_path) == ['out']


@pytest.fixture
def shared_data():
  """The folder with the real data sets."""
  folder = REPOSITORY.parent / 'shared' / 'data'
  if not folder.is_dir():
    pytest.skip('the real data sets are not beside the repository')
  return folder


@pytest.mark.slow
def test_the_real_images_are_taken_as_they_are(shared_data, tmp_path):
  """Of the real set, two classes of each split: all of it takes 20 s and 1.3 GB."""
  for split in SPLITS:
    table = rows(shared_data / 'mini-imagenet', split)
    labels = sorted({label for _, label in table})[:2]
    kept = [row for row in table if row[1] in labels]
    (tmp_path / f'{split}.csv').write_text(
        '\n'.join(['filename,label', *(','.join(row) for row in kept)]))
    with zipfile.ZipFile(shared_data / 'mini-imagenet' / f'images-{split}.zip') as source:
      with zipfile.ZipFile(tmp_path / f'images-{split}.zip', 'w') as target:
        for name, _ in kept:
          target.writestr(f'images/{name}', source.read(f'images/{name}'))
  assert prepare(tmp_path, tmp_path / 'out', layout=Layout(2, 2, 2, 600)) == 0
  loaded = load_split(tmp_path / 'out', 'miniimagenet', 'test')
  with zipfile.ZipFile(tmp_path / 'images-test.zip') as archive:
    for index in (0, 599, 600, 1199):
      with Image.open(io.BytesIO(archive.read(archive.namelist()[index]))) as image:
        np.testing.assert_array_equal(loaded.images[index], np.asarray(image))
  assert preparation_of(tmp_path / 'out')['stored_modes'] == {}
