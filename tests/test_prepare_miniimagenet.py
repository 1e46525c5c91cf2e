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

from data_scripts import make_sample_data, plan, prepare_miniimagenet, published_split
from data_scripts.plan import Layout
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


def labels_of(with_images):
  return {split: sorted({label for _, label in rows(with_images, split)}) for split in SPLITS}


def expected_hashes(with_images, tmp_path):
  assert prepare(with_images, tmp_path / 'expected') == 0
  return hashes(tmp_path / 'expected')


@pytest.mark.parametrize('names', [
    ('Train', 'Val', 'TEST'), ('train', 'valid', 'test'), ('base', 'val', 'novel'),
    ('Training', 'validation', 'Testing'), ('meta-train', 'meta_val', 'MetaTest'),
    ('train/images', 'val/images', 'test/images'),
    ('mini/images_train', 'mini/images_val', 'mini/images_test')])
@pytest.mark.parametrize('form', ['folder', 'zip', 'a zip of each'])
def test_splits_may_have_their_usual_names(with_images, tmp_path, names, form):
  folders, source = class_folders(with_images, tmp_path / 'folders'), tmp_path / 'renamed'
  for split, name in zip(SPLITS, names):
    if form == 'a zip of each':   # its name is that of the split
      name = name.replace('/images', '')
      (source / name).parent.mkdir(parents=True, exist_ok=True)
      packed(folders / split, source / f'{name}.zip')
    else:
      shutil.copytree(folders / split, source / name)
  if form == 'zip':
    source = packed(source, tmp_path / 'renamed.zip')
  assert prepare(source, tmp_path / 'out') == 0
  assert hashes(tmp_path / 'out') == expected_hashes(with_images, tmp_path)


def test_a_split_may_be_packed_beside_the_others(with_images, tmp_path):
  folders = class_folders(with_images, tmp_path / 'folders')
  packed(folders / 'train', folders / 'train.tar')
  (folders / 'test.zip').write_bytes(b'not needed, nor whole')
  shutil.rmtree(folders / 'train')
  assert prepare(folders, tmp_path / 'out') == 0
  assert hashes(tmp_path / 'out') == expected_hashes(with_images, tmp_path)


def test_two_folders_of_one_split_are_reported(with_images, tmp_path, capsys):
  folders = class_folders(with_images, tmp_path / 'folders')
  shutil.copytree(folders / 'val', folders / 'Validation')
  message = failure(capsys, folders, tmp_path / 'out')
  assert 'split val: Validation and val both mean it' in message.splitlines()[1]


def test_a_split_of_an_unusual_name_is_named_in_one_line(with_images, tmp_path, capsys):
  folders = class_folders(with_images, tmp_path / 'folders')
  (folders / 'val').rename(folders / 'holdout')
  message = failure(capsys, folders, tmp_path / 'out')
  assert 'name the folder of its classes val/' in message and 'holdout/n9' in message
  assert len(message.splitlines()) == 3


def test_tables_without_any_of_their_images_ask_for_these_alone(with_images, tmp_path, capsys):
  shutil.rmtree(with_images / 'images')
  (with_images / 'images').mkdir()
  (with_images / 'images' / 'other.jpg').write_bytes(b'')
  message = failure(capsys, with_images, tmp_path / 'data' / 'out')
  assert 'put the missing images there' in message.splitlines()[0]
  assert 'name the folder' not in message
  lines = (tmp_path / 'data' / 'out-problems.txt').read_text().splitlines()
  # All are in a folder that was not there, and on the screen 20: the three splits among them.
  assert len(lines) == 31 and message.count('has no file') == 17


def test_images_outside_of_the_class_folders_are_mentioned(with_images, tmp_path, capsys):
  folders = class_folders(with_images, tmp_path / 'folders')
  for name in ('overview.jpg', 'train/montage.png'):
    Image.new('RGB', (84, 84)).save(folders / name)
  for number, source in enumerate((folders, packed(folders, tmp_path / 'folders.zip'))):
    assert prepare(source, tmp_path / f'out{number}') == 0
    assert 'test/CLASS: overview.jpg, train/montage.png' in capsys.readouterr().out
    assert 'overview.jpg' in preparation_of(tmp_path / f'out{number}')['notes'][0]
    assert hashes(tmp_path / f'out{number}') == expected_hashes(with_images, tmp_path)
    shutil.rmtree(tmp_path / 'expected')


def without_split(with_images, target):
  for split in SPLITS:
    for name, label in rows(with_images, split):
      (target / label).mkdir(parents=True, exist_ok=True)
      shutil.copy(with_images / 'images' / name, target / label)
  return target


def test_class_folders_alone_are_named(with_images, tmp_path, capsys):
  source = without_split(with_images, tmp_path / 'folders')
  message = failure(capsys, source, tmp_path / 'out')
  assert 'class folders without a split (n90000000, ' in message
  assert 'move them into train/, val/ and test/' in message


def test_class_folders_alone_are_divided_as_published(with_images, tmp_path, monkeypatch,
                                                      capsys):
  source = without_split(with_images, tmp_path / 'folders')
  labels = labels_of(with_images)
  monkeypatch.setattr(published_split, 'CLASSES', labels)
  monkeypatch.setattr(published_split, 'ALL', frozenset(sum(labels.values(), [])))
  (source / 'n01440764').mkdir()   # of ImageNet, not of the set
  Image.new('RGB', (9, 9)).save(source / 'n01440764' / '1.JPEG')
  for number, each in enumerate((source, packed(source, tmp_path / 'folders.zip'))):
    assert prepare(each, tmp_path / f'out{number}') == 0
    printed = capsys.readouterr().out
    assert "Ravi and Larochelle's published split" in printed
    assert 'none of the classes of the set: n01440764' in printed
    assert hashes(tmp_path / f'out{number}') == expected_hashes(with_images, tmp_path)
    shutil.rmtree(tmp_path / 'expected')


def test_the_published_split_is_whole():
  assert [len(set(published_split.CLASSES[split])) for split in SPLITS] == [64, 16, 20]
  assert len(published_split.ALL) == 100


def test_tables_may_name_classes_alone(with_images, tmp_path):
  source = without_split(with_images, tmp_path / 'folders')
  for split, labels in labels_of(with_images).items():
    (source / f'{split}.csv').write_text('\n'.join(['class', *labels]))
  assert prepare(source, tmp_path / 'out') == 0
  assert hashes(tmp_path / 'out') == expected_hashes(with_images, tmp_path)


@pytest.mark.parametrize('own_names', [False, True])
def test_classes_are_also_known_by_the_names_of_the_files(with_images, tmp_path, monkeypatch,
                                                          own_names):
  """All images in one folder: with ImageNet's names beside tables, or without tables."""
  labels = labels_of(with_images)
  monkeypatch.setattr(published_split, 'CLASSES', labels)
  expected = expected_hashes(with_images, tmp_path)
  if own_names:
    for path in (with_images / 'images').iterdir():
      path.rename(path.with_name(f'{path.name[:9]}_{7 * int(path.stem[9:]) + 88}.JPEG'))
  else:
    for split in SPLITS:
      (with_images / f'{split}.csv').unlink()
  assert prepare(with_images, tmp_path / 'out') == 0
  assert hashes(tmp_path / 'out') == expected


def test_tables_with_numbered_classes_and_in_json(with_images, tmp_path):
  expected, numbered = expected_hashes(with_images, tmp_path), tmp_path / 'numbered'
  numbered.mkdir()
  for split, labels in labels_of(with_images).items():
    lines = [f'{name},{labels.index(label)}' for name, label in rows(with_images, split)]
    (numbered / f'{split}.csv').write_text('\n'.join(['filename,label', *lines]))
  (numbered / 'images').symlink_to(with_images / 'images')
  assert prepare(numbered, tmp_path / 'of_numbers') == 0
  assert hashes(tmp_path / 'of_numbers') == expected
  every = sorted(sum(labels_of(with_images).values(), []))
  for split, name in zip(SPLITS, ('base', 'val', 'novel')):
    table = rows(with_images, split)
    (with_images / f'{split}.csv').unlink()
    (with_images / f'{name}.json').write_text(json.dumps({
        'label_names': every, 'image_names': [f'/data/x/{name}' for name, _ in table],
        'image_labels': [every.index(label) for _, label in table]}))
  assert prepare(with_images, tmp_path / 'out') == 0
  assert hashes(tmp_path / 'out') == expected


def test_a_list_of_archives_is_read(zips, tmp_path, with_images):
  for split in SPLITS:
    with zipfile.ZipFile(tmp_path / f'{split}.zip', 'w') as archive:
      archive.write(zips / f'{split}.csv', f'{split}.csv')
  source = ', '.join(str(path) for split in SPLITS for path in (
      zips / f'images-{split}.zip', tmp_path / f'{split}.zip'))
  assert prepare(source, tmp_path / 'out') == 0
  assert hashes(tmp_path / 'out') == expected_hashes(with_images, tmp_path)


def with_names_of_imagenet(with_images, target):
  """The images as ImageNet names them: numbers that are not sorted as text."""
  for split in SPLITS:
    for name, label in rows(with_images, split):
      (target / 'images' / label).mkdir(parents=True, exist_ok=True)
      number = 7 * int(name[len(label):-4]) + 88
      shutil.copy(with_images / 'images' / name,
                  target / 'images' / label / f'{label}_{number}.JPEG')
    shutil.copy(with_images / f'{split}.csv', target)
  return target


def test_imagenets_own_names_are_taken_by_position(with_images, tmp_path, capsys):
  source = with_names_of_imagenet(with_images, tmp_path / 'own_names')
  expected = expected_hashes(with_images, tmp_path)
  assert prepare(source, tmp_path / 'out') == 0
  assert 'Taken from class folders by their order (28 images)' in capsys.readouterr().out
  assert hashes(tmp_path / 'out') == expected


def test_of_complete_class_folders_the_wanted_images_are_taken(with_images, tmp_path, capsys):
  """As mini-imagenet-tools takes them: by the position, sorted by number and not by text."""
  source = tmp_path / 'ilsvrc'
  for split, labels in labels_of(with_images).items():
    lines = []
    for label in labels:
      (source / label).mkdir(parents=True)
      for number in (5, 40, 9, 1000, 77, 300, 12):
        Image.new('RGB', (84, 84), (number % 251, 0, 0)).save(
            source / label / f'{label}_{number}.JPEG', quality=100)
      lines += [f'{label}{position:08}.jpg,{label}' for position in (2, 3, 5, 7)]
    (source / f'{split}.csv').write_text('\n'.join(['filename,label', *lines]))
  assert prepare(source, tmp_path / 'out') == 0
  for loaded in whole_set(tmp_path / 'out').values():
    red = loaded.images[:, 0, 0, 0].reshape(-1, 4).astype(int)
    np.testing.assert_allclose(red, np.tile([9, 12, 77, 1000 % 251], (len(red), 1)), atol=3)
  assert 'in no CSV file: n90000000/n90000000_300.JPEG' in capsys.readouterr().out


def test_other_names_that_say_nothing_are_refused_once_a_class(with_images, tmp_path, capsys):
  source = with_names_of_imagenet(with_images, tmp_path / 'own_names')
  for folder in (source / 'images').iterdir():
    shutil.copy(next(folder.iterdir()), folder / 'one_more.JPEG')
  message = failure(capsys, source, tmp_path / 'out')
  assert '5 files of other names than the 4 in train.csv' in message
  assert message.count('\n') < 20 and 'complete class folders of ILSVRC 2012' in message


@pytest.mark.parametrize('change', [
    lambda text: text.replace('filename,label', 'Filename,Label'),
    lambda text: text.replace('filename,label\n', ''),
    lambda text: text.replace(',', ';'), lambda text: text.replace(',', '\t'),
    lambda text: text.replace('.jpg', '.JPG'), lambda text: text.replace('.jpg', ''),
    lambda text: text.replace('.jpg', '.JPEG'),
    lambda text: text.replace('\nn', '\nimages/n'),
    lambda text: text.replace('\nn', '\nC:\\data\\images\\n'),
    lambda text: '\n'.join(','.join(line.split(',')[::-1]) for line in text.splitlines()),
    lambda text: '\n'.join(f'{number},{line}' if number else f',{line}' for number, line
                           in enumerate(text.splitlines()))])
def test_dialects_of_the_tables(with_images, tmp_path, change):
  expected = expected_hashes(with_images, tmp_path)
  for split, name in zip(SPLITS, ('train.csv', 'Validation.csv', 'test.csv')):
    text = (with_images / f'{split}.csv').read_text()
    (with_images / f'{split}.csv').unlink()
    (with_images / name).write_text(change(text))
  assert prepare(with_images, tmp_path / 'out') == 0
  assert hashes(tmp_path / 'out') == expected


def test_of_a_table_that_cannot_be_read_nothing_else_is_said(with_images, tmp_path, capsys):
  (with_images / 'train.csv').write_text('picture,size\n1,2\n')
  message = failure(capsys, with_images, tmp_path / 'out')
  assert len(message.splitlines()) == 2 and 'its first line is "picture,size"' in message
  assert 'write it as a table with the columns filename,label' in message


def test_a_cause_is_not_buried_by_what_follows(with_images, tmp_path, capsys):
  shutil.move(with_images / 'images', tmp_path / 'elsewhere')
  (with_images / 'images').mkdir()
  Image.new('RGB', (84, 84)).save(with_images / 'images' / 'n999.jpg')
  with open(with_images / 'test.csv', 'a') as file:
    file.write('only-one-cell\n')
  message = failure(capsys, with_images, tmp_path / 'out')
  assert "test.csv line 10: ['only-one-cell']" in message.splitlines()[1]
  assert 'n9000000000000001.jpg has no file' in message


def test_missing_and_extra_images_are_taken_and_named_if_asked(with_images, tmp_path, capsys,
                                                               monkeypatch):
  monkeypatch.setattr(prepare_miniimagenet, 'LEAST_PER_CLASS', 2)
  monkeypatch.setattr(plan, '_MOST_EXTRA', 1.25)
  folders = class_folders(with_images, tmp_path / 'folders')
  missing = rows(with_images, 'train')[0][0]
  (with_images / 'images' / missing).unlink()
  labels = labels_of(with_images)
  next((folders / 'train' / labels['train'][0]).iterdir()).unlink()
  Image.new('RGB', (84, 84)).save(folders / 'val' / labels['val'][0] / 'one_more.jpg')
  for number, source in enumerate((with_images, folders)):
    assert 'or leave them out with --skip_damaged' in failure(capsys, source, tmp_path / 'out')
    assert prepare(source, tmp_path / f'out{number}', '--skip_damaged') == 0
    assert 'Taken although not complete' in capsys.readouterr().out
  assert preparation_of(tmp_path / 'out0')['skipped_files'] == [
      f'train.csv: {missing} has no file',
      f'class {labels["train"][0]}: 3 images, expected 4']
  loaded = whole_set(tmp_path / 'out1')
  assert loaded['train'].class_counts.tolist() == [3, 4, 4]
  assert loaded['val'].class_counts.tolist() == [5, 4]
  for path in list((folders / 'train' / labels['train'][0]).iterdir())[1:]:
    path.unlink()
  message = failure(capsys, folders, tmp_path / 'out', '--skip_damaged')
  assert f'class {labels["train"][0]}: 1 image, expected 4' in message


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
  assert '1 image was stored as L' in printed and '1 image was stored as CMYK' in printed
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
  assert 'split test: 1 class, expected 2' in failure(capsys, with_images, tmp_path / 'out')


def test_a_class_in_two_splits_is_reported(with_images, tmp_path, capsys):
  folders = class_folders(with_images, tmp_path / 'folders')
  label = rows(with_images, 'val')[0][1]
  (folders / 'val' / label).rename(folders / 'test' / label)
  other = rows(with_images, 'train')[0][1]
  (folders / 'train' / other).rename(folders / 'val' / 'moved')
  shutil.copytree(folders / 'val' / 'moved', folders / 'test' / 'moved')
  message = failure(capsys, folders, tmp_path / 'out')
  assert 'class moved: both in val and in test' in message
  assert 'split train: 2 classes, expected 3' in message
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


def category_splits(with_images, target, **changes):
  """The second widespread form of the pickles."""
  target.mkdir()
  for number, split in enumerate(SPLITS):
    table = rows(with_images, split)
    labels = sorted({label for _, label in table})
    images = [np.asarray(Image.open(with_images / 'images' / name)) for name, _ in table]
    numbers = [100 * number + labels.index(label) for _, label in table]
    content = {'data': np.stack(images), 'labels': numbers,
               'catname2label': {label: 100 * number + k for k, label in enumerate(labels)},
               'label2catname': {100 * number + k: label for k, label in enumerate(labels)}}
    content.update(changes)
    content = {key: value for key, value in content.items() if value is not None}
    phase = 'train_phase_' if split == 'train' else ''
    (target / f'miniImageNet_category_split_{phase}{split}.pickle').write_bytes(
        pickle.dumps(content, 2))
  (target / 'miniImageNet_category_split_train_phase_val.pickle').write_bytes(b'passed over')
  return target


@pytest.mark.parametrize('changes', [{}, {'label2catname': None}, {'catname2label': None}])
def test_pickles_with_a_label_for_each_image(with_images, tmp_path, changes):
  source = category_splits(with_images, tmp_path / 'pickles', **changes)
  assert prepare(source, tmp_path / 'out') == 0
  assert hashes(tmp_path / 'out') == expected_hashes(with_images, tmp_path)
  assert prepare(packed(source, tmp_path / 'pickles.zip'), tmp_path / 'packed') == 0
  assert hashes(tmp_path / 'packed') == hashes(tmp_path / 'out')


def test_labels_without_names_are_named_for_their_split(with_images, tmp_path):
  source = category_splits(with_images, tmp_path / 'pickles', label2catname=None,
                           catname2label=None)
  assert prepare(source, tmp_path / 'out') == 0
  assert whole_set(tmp_path / 'out')['val'].class_names == ('val 100', 'val 101')
  assert hashes(tmp_path / 'out') == expected_hashes(with_images, tmp_path)


@pytest.mark.parametrize('changes, message', [
    ({'labels': [0, 1]}, 'labels that are not 12 numbers'),
    ({'labels': ['a'] * 12}, 'labels that are not 12 numbers'),
    ({'labels': None}, "it holds ['catname2label', 'data', 'label2catname']")])
def test_labels_that_are_none_are_refused(with_images, tmp_path, capsys, changes, message):
  source = category_splits(with_images, tmp_path / 'pickles', **changes)
  assert message in failure(capsys, source, tmp_path / 'out')


def test_pickles_in_a_tar_and_twice_are_named(with_images, tmp_path, capsys):
  source = category_splits(with_images, tmp_path / 'pickles')
  message = failure(capsys, packed(source, tmp_path / 'pickles.tar'), tmp_path / 'out')
  assert 'unpack the archive, and name the folder' in message
  shutil.copy(source / 'miniImageNet_category_split_val.pickle', source / 'val.pkl')
  assert 'are both of the split val' in failure(capsys, source, tmp_path / 'out')


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
