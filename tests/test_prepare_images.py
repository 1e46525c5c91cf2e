"""Preparing anybody's own images: forms of the source, kinds of pixels, what is refused."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tracemalloc
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from data_scripts import class_files, image_files, images, prepare_images
from data_scripts.folder_source import FolderSource
from data_scripts.problems import Problems
from maml_tf.errors import DataError
from maml_tf.sources.image_set import SPLITS, load_split, read_manifest

REPOSITORY = Path(__file__).resolve().parent.parent
COUNTS = {'train': 4, 'val': 2, 'test': 2}


def picture(seed, size=(20, 16), mode='RGB'):
  pixels = np.random.RandomState(seed).randint(0, 256, (*size[::-1], 3)).astype(np.uint8)
  return Image.fromarray(pixels).resize(size).convert(mode)


def saved(path, image, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  image.save(path, **options)


def class_folders(root, per_class=3, names=SPLITS):
  """Class folders below folders of the splits; without `names`, alone."""
  seed = 0
  for split, name in zip(SPLITS, names or ('',) * 3):
    for number in range(COUNTS[split]):
      for index in range(per_class):
        seed += 1
        saved(root / name / f'{split} {number}' / f'{index}.png', picture(seed))
  return root


def prepare(source, out, *flags) -> int:
  return prepare_images.main([f'--source={source}', f'--out={out}', '--size=8', *flags])


def failure(capsys, source, out, *flags) -> str:
  assert prepare(source, out, *flags) == 2
  assert not out.exists()
  return capsys.readouterr().err


def whole_set(out):
  return {split: load_split(out, 'images', split) for split in SPLITS}


def classes_of(out):
  return {split: list(loaded.class_names) for split, loaded in whole_set(out).items()}


EXPECTED = {split: [f'{split} {number}' for number in range(count)]
            for split, count in COUNTS.items()}


def test_the_images_are_those_of_the_files(tmp_path, capsys):
  source = class_folders(tmp_path / 'own')
  assert prepare(source, tmp_path / 'out') == 0
  assert 'Next: python main.py --datasource=images' in capsys.readouterr().out
  for split, loaded in whole_set(tmp_path / 'out').items():
    assert list(loaded.class_names) == EXPECTED[split]
    assert loaded.images.shape == (3 * COUNTS[split], 8, 8, 3)
    with Image.open(source / split / EXPECTED[split][0] / '1.png') as image:
      np.testing.assert_array_equal(
          loaded.images[1], np.asarray(image.resize((8, 8), Image.Resampling.LANCZOS)))


@pytest.mark.parametrize('names', [('Training', 'VALID', 'testing'), ('base', 'val', 'novel'),
                                   ('meta-train', 'meta_val', 'metatest')])
def test_splits_may_have_their_usual_names(tmp_path, names):
  class_folders(tmp_path / 'own', names=names)
  assert prepare(tmp_path / 'own', tmp_path / 'out') == 0
  assert classes_of(tmp_path / 'out') == EXPECTED


def test_class_folders_alone_are_divided_and_it_is_written_down(tmp_path, capsys):
  source = class_folders(tmp_path / 'own' / 'photos', names=None)
  saved(tmp_path / 'own' / 'cover.png', picture(0))
  assert prepare(tmp_path / 'own', tmp_path / 'out', '--shares=2,1,1', '--seed=3') == 0
  found = classes_of(tmp_path / 'out')
  assert sorted(sum(found.values(), [])) == sorted(sum(EXPECTED.values(), []))
  assert [len(found[split]) for split in SPLITS] == [4, 2, 2]
  preparation = read_manifest(tmp_path / 'out', 'images')['preparation']
  assert preparation['options']['seed'] == 3 and preparation['options']['shares'] == [2, 1, 1]
  assert preparation['source_form'] == 'class folders, divided at random'
  printed = capsys.readouterr().out
  assert 'not in a class folder: cover.png' in printed
  assert 'The classes were divided at random (--shares, --seed)' in printed
  assert prepare(source, tmp_path / 'same', '--shares=2,1,1', '--seed=3') == 0
  assert classes_of(tmp_path / 'same') == found
  assert prepare(source, tmp_path / 'other', '--shares=2,1,1', '--seed=4') == 0
  assert classes_of(tmp_path / 'other') != found


def test_folders_of_splits_may_be_named_one_by_one(tmp_path, capsys):
  source = class_folders(tmp_path / 'own', names=('training', 'linked', 'test'))
  (tmp_path / 'val').symlink_to(source / 'linked')
  folders = [source / 'training', tmp_path / 'val', source / 'test']
  assert prepare(','.join(map(str, folders)), tmp_path / 'out') == 0
  assert classes_of(tmp_path / 'out') == EXPECTED
  assert 'at random' not in capsys.readouterr().out


@pytest.mark.parametrize('name', ['train', 'evaluation', 'base'])
def test_a_folder_that_alone_means_a_split_means_none(tmp_path, name):
  source = class_folders(tmp_path / 'own' / name, names=None)
  assert prepare(tmp_path / 'own', tmp_path / 'out') == 0
  assert prepare(source, tmp_path / 'expected') == 0
  assert classes_of(tmp_path / 'out') == classes_of(tmp_path / 'expected')


def test_every_split_has_classes_enough(tmp_path):
  for total in range(6, 30):
    divided = prepare_images._divided([f'{n}' for n in range(total)], (98, 1, 1), 0)
    assert min(map(len, divided.values())) >= 2
    assert sum(map(len, divided.values())) == total


def test_tables_name_files_in_class_folders(tmp_path):
  """Files of the same name in each class, as cameras number them."""
  source = class_folders(tmp_path / 'own', names=None)
  for split, labels in EXPECTED.items():
    lines = [f'{label}/{index}.png;{label}' for label in labels for index in range(3)]
    (source / f'{split}.csv').write_text('\n'.join(['Image;Class', *lines]))
  assert prepare(source, tmp_path / 'out') == 0
  assert classes_of(tmp_path / 'out') == EXPECTED
  (source / 'train 0' / '1.png').unlink()   # that of another class is not taken for it
  assert prepare(source, tmp_path / 'less', '--skip_damaged') == 0
  train = load_split(tmp_path / 'less', 'images', 'train')
  assert train.class_counts.tolist() == [2, 3, 3, 3]


def test_tables_may_have_another_unicode_form_than_files(tmp_path):
  """As archives made by macOS have it; a table of Windows does not."""
  source = tmp_path / 'own'
  for number, split in enumerate(SPLITS):
    rows = ['filename,label']
    for label in (f'Bär {number}', f'café {number}'):
      for index in range(2):
        name = f'{label}/é{index}.png'
        saved(source / unicodedata.normalize('NFD', name), picture(10 * number + index))
        rows.append(f'{name},{label}')
    (source / f'{split}.csv').write_text('\n'.join(rows), encoding='utf-8')
  assert prepare(source, tmp_path / 'out') == 0
  assert classes_of(tmp_path / 'out')['test'] == ['Bär 2', 'café 2']


def test_files_that_format_alone_tells_apart_are_two_images(tmp_path):
  source = class_folders(tmp_path / 'own', names=None)
  for seed, name in enumerate(('0.bmp', '0.jpg')):
    saved(source / 'train 0' / name, picture(100 + seed))
  for split, labels in EXPECTED.items():
    lines = [f'{path.relative_to(source)},{label}' for label in labels
             for path in (source / label).iterdir()]
    (source / f'{split}.csv').write_text('\n'.join(['filename,label', *lines]))
  assert prepare(source, tmp_path / 'out') == 0
  train = load_split(tmp_path / 'out', 'images', 'train')
  assert train.class_counts.tolist() == [5, 3, 3, 3]


def with_numbered_classes(source, first):
  """Tables beside class folders, as programs write them; {split: its first number}."""
  for split, labels in EXPECTED.items():
    lines = [f'{label}/{index}.png,{first[split] + number}'
             for number, label in enumerate(labels) for index in range(3)]
    (source / f'{split}.csv').write_text('\n'.join(['filename,label', *lines]))


def test_numbers_of_several_tables_may_be_the_same_classes(tmp_path, capsys):
  source = class_folders(tmp_path / 'own', names=None)
  with_numbered_classes(source, {'train': 0, 'val': 4, 'test': 6})
  assert prepare(source, tmp_path / 'out') == 0
  assert 'Numbers of classes' not in capsys.readouterr().out
  with_numbered_classes(source, {'train': 0, 'val': 4, 'test': 3})
  assert prepare(source, tmp_path / 'shared') == 0
  assert 'different classes in each (3, 4): where the same' in capsys.readouterr().out
  [note] = read_manifest(tmp_path / 'shared', 'images')['preparation']['notes']
  assert 'the set cannot be used' in note


@pytest.mark.parametrize('name', ['scan{:09}.png', 'n{:08}.png'])
def test_names_that_look_like_imagenet_s_by_chance_make_no_classes(tmp_path, name):
  """Ten files scan00000001?.png have n00000001 in their names."""
  source = tmp_path / 'own'
  for place, split in enumerate(SPLITS):
    numbers = range(8 * place, 8 * place + 8)
    for number in numbers:
      saved(source / name.format(number), picture(number))
    rows = [f'{name.format(number)},{number // 4}' for number in numbers]
    (source / f'{split}.csv').write_text('\n'.join(['filename,label', *rows]))
  assert prepare(source, tmp_path / 'out') == 0
  assert classes_of(tmp_path / 'out') == {
      split: [f'{split} {2 * place + number:03}' for number in (0, 1)]
      for place, split in enumerate(SPLITS)}


def test_another_image_of_the_same_name_is_not_taken_for_a_missing_one(tmp_path, capsys):
  source = class_folders(tmp_path / 'own', names=None)
  with_numbered_classes(source, {'train': 0, 'val': 4, 'test': 6})
  saved(source / 'unlabelled' / '7.png', picture(99))
  (source / 'train 0' / '1.png').rename(source / 'train 0' / '7.png')
  table = source / 'train.csv'
  table.write_text(table.read_text().replace('train 0/1.png', './train 0/7.png'))
  assert prepare(source, tmp_path / 'out') == 0
  (source / 'train 0' / '7.png').unlink()
  assert 'train.csv: ./train 0/7.png has no file' in failure(capsys, source, tmp_path / 'less')


def test_a_table_may_name_folders_that_are_not_there_or_are_around_others(tmp_path):
  source = class_folders(tmp_path / 'own' / 'images', names=None).parent
  saved(source / 'images' / 'cover.png', picture(0))
  for old, number in (('elsewhere', 1), ('images', 2)):
    for split, labels in EXPECTED.items():
      lines = [f'{old}/{label} {index}.png,{label}' for label in labels for index in range(3)]
      (source / f'{split}.csv').write_text('\n'.join(['filename,label', *lines]))
    for path in source.glob('images/*/?.png'):
      path.rename(path.with_name(f'{path.parent.name} {path.name}'))
    assert prepare(source, tmp_path / f'out{number}') == 0
    assert classes_of(tmp_path / f'out{number}') == EXPECTED


def with_another_spelling(tmp_path, names, other):
  """A source, and the first name of the class that is called `other`, too."""
  source = class_folders(tmp_path / 'own', names=names)
  first = 'train 0' if other == 'TRAIN 0' else 'caf\xe9'
  for index in range(3):
    saved(source / (names[0] if names else '') / first / f'{index}.png', picture(100 + index))
    saved(source / (names[2] if names else '') / other / f'{index}.png', picture(200 + index))
  return source, first


@pytest.mark.parametrize('other', ['TRAIN 0', 'cafe\u0301'])
def test_other_spellings_in_another_split_are_the_same_class(tmp_path, capsys, other):
  source, first = with_another_spelling(tmp_path, SPLITS, other)
  message = failure(capsys, source, tmp_path / 'out')
  assert '1 problem was found' in message
  assert f'class {other}: both in train, as {first}, and in test' in message


@pytest.mark.parametrize('other', ['TRAIN 0', 'cafe\u0301'])
@pytest.mark.parametrize('names', [None, SPLITS])
def test_other_spellings_in_a_split_or_without_are_noted(tmp_path, capsys, other, names):
  """Handwritten letters have an a and an A."""
  source, _ = with_another_spelling(tmp_path, names, other)
  if names:
    (source / 'test' / other).rename(source / 'train' / other)
  assert prepare_images.main([f'--source={source}', f'--out={tmp_path / "out"}',
                              '--shares=3,3,3']) == 0
  assert 'only case or Unicode form tells them apart' in capsys.readouterr().out


def test_a_zip_is_as_the_folder(tmp_path):
  source = class_folders(tmp_path / 'own', names=None)
  with zipfile.ZipFile(tmp_path / 'own.zip', 'w') as archive:
    for path in sorted(source.rglob('*.png')):
      archive.write(path, f'top/{path.relative_to(source)}')
  for name in ('own', 'own.zip'):
    assert prepare(tmp_path / name, tmp_path / f'out {name}') == 0
  assert [whole_set(tmp_path / 'out own')[split].sha256 for split in SPLITS] == [
      whole_set(tmp_path / 'out own.zip')[split].sha256 for split in SPLITS]


def file_of(image, form, **options) -> bytes:
  buffer = io.BytesIO()
  image.save(buffer, form, **options)
  return buffer.getvalue()


@pytest.mark.parametrize('mode, form, note', [
    ('RGB', 'PNG', None), ('RGB', 'BMP', None), ('RGB', 'TIFF', None), ('RGB', 'PPM', None),
    ('L', 'PNG', 'L'), ('1', 'PNG', '1'), ('P', 'PNG', 'P'), ('P', 'GIF', 'P'),
    ('CMYK', 'TIFF', 'CMYK'), ('CMYK', 'JPEG', 'CMYK'), ('RGBA', 'PNG', 'RGBA'),
    ('LA', 'PNG', 'LA')])
def test_all_kinds_of_pixels_become_colour(mode, form, note):
  original = picture(1, (8, 8)).convert(mode)
  options = {'quality': 100} if form == 'JPEG' else {}
  pixels, stored = images.own_pixels(file_of(original, form, **options), 8, 3)
  assert stored == note
  np.testing.assert_allclose(pixels.astype(int), np.asarray(original.convert('RGB')),
                             atol=40 if form == 'JPEG' else 0)


def test_webp_is_read():
  original = picture(1, (8, 8))
  pixels, stored = images.own_pixels(file_of(original, 'WEBP', lossless=True), 8, 3)
  assert stored is None
  np.testing.assert_array_equal(pixels, np.asarray(original))


def test_grey_is_one_channel():
  pixels, stored = images.own_pixels(file_of(picture(1, (8, 8)), 'PNG'), 8, 1)
  assert pixels.shape == (8, 8, 1) and stored == 'RGB'
  np.testing.assert_array_equal(pixels[:, :, 0], np.asarray(picture(1, (8, 8)).convert('L')))


@pytest.mark.parametrize('form', ['PNG', 'TIFF', 'PPM'])
def test_16_bits_become_8(form):
  """Pillow itself makes 255 of all that is above 255."""
  levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024
  pixels, stored = images.own_pixels(file_of(Image.fromarray(levels), form), 8, 3)
  assert stored.startswith('I')
  np.testing.assert_allclose(pixels[:, :, 0], levels >> 8, atol=1)


def test_16_bits_are_resized_as_8_are():
  levels = np.random.RandomState(0).randint(0, 256, (20, 24)).astype(np.uint16)
  pixels, _ = images.own_pixels(file_of(Image.fromarray(levels * 257), 'PNG'), 8, 1)
  expected = Image.fromarray(levels.astype(np.uint8)).resize((8, 8), Image.Resampling.LANCZOS)
  np.testing.assert_allclose(pixels[:, :, 0].astype(int), np.asarray(expected), atol=2)


def test_16_bits_of_which_few_are_used_are_named(tmp_path, capsys):
  """As of cameras with 12: 16 levels are left of 4096, and of 8 bits in 32 none."""
  source = class_folders(tmp_path / 'own')
  for name, brightest, dtype in (('0.tif', 4095, np.uint16), ('1.tif', 255, np.int32),
                                 ('2.tif', 65535, np.uint16)):
    levels = np.linspace(0, brightest, 64).astype(dtype).reshape(8, 8)
    saved(source / 'train' / 'train 0' / name, Image.fromarray(levels))
  assert prepare(source, tmp_path / 'out') == 0
  printed = capsys.readouterr().out
  for mode in ('I', 'I;16'):
    assert f'1 image was stored as {mode} with no value above 4095' in printed
  assert '1 image was stored as I;16 and was converted to RGB' in printed


def test_more_than_16_bits_are_refused():
  levels = np.full((8, 8), 1 << 20, np.int32)
  with pytest.raises(images.ImageError, match='more than 16 bits'):
    images.own_pixels(file_of(Image.fromarray(levels), 'TIFF'), 8, 3)
  with pytest.raises(images.ImageError, match="kind 'F'"):
    images.own_pixels(file_of(Image.new('F', (8, 8)), 'TIFF'), 8, 3)


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P'])
def test_what_is_transparent_is_white(mode):
  image = Image.new('RGBA', (8, 8), (255, 0, 0, 0)).convert('RGBA')
  image.paste((0, 0, 0, 255), (0, 0, 4, 8))
  if mode == 'P':   # as in a GIF: one colour of the palette is none
    image = Image.new('P', (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(0, (0, 0, 4, 8))
    data = file_of(image, 'PNG', transparency=1)
  else:
    data = file_of(image.convert(mode), 'PNG')
  for pixels, _ in (images.own_pixels(data, 8, 3), images.miniimagenet_pixels(data, 8)):
    assert not pixels[:, :4].any() and (pixels[:, 4:] == 255).all()


@pytest.mark.parametrize('orientation', range(1, 9))
def test_an_image_is_turned_as_its_exif_says(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = file_of(picture(1, (24, 12)), 'JPEG', exif=exif, quality=95)
  pixels, stored = images.own_pixels(data, 8, 3)
  with Image.open(io.BytesIO(data)) as image:
    expected = ImageOps.exif_transpose(image).resize((8, 8), Image.Resampling.LANCZOS)
  np.testing.assert_allclose(pixels.astype(int), np.asarray(expected).astype(int), atol=2)
  assert stored == (None if orientation == 1 else 'RGB turned by its Exif')


def test_everything_that_is_wrong_is_reported_together(tmp_path, capsys):
  source = class_folders(tmp_path / 'own')
  (source / 'train' / 'train 0' / '0.png').write_bytes(b'')
  (source / 'train' / 'train 1' / '0.png').write_bytes(b'<html>')
  for index in (1, 2):
    (source / 'val' / 'val 0' / f'{index}.png').unlink()
  (source / 'test' / 'test 0').rename(source / 'train' / 'val 1')
  message = failure(capsys, source, tmp_path / 'out')
  for expected in ('0.png: an empty file', '0.png: a web page',
                   'class val 0: 1 image, at least 2 are needed',
                   'class val 1: both in train and in val', 'split test: 1 class, at least'):
    assert expected in message


def test_damaged_images_are_left_out_if_asked(tmp_path, capsys):
  source = class_folders(tmp_path / 'own')
  (source / 'train' / 'train 0' / '0.png').write_bytes(b'')
  assert 'leave them out with --skip_damaged' in failure(capsys, source, tmp_path / 'out')
  assert prepare(source, tmp_path / 'out', '--skip_damaged') == 0
  assert load_split(tmp_path / 'out', 'images', 'train').class_counts.tolist() == [2, 3, 3, 3]
  (source / 'train' / 'train 0' / '1.png').write_bytes(b'')
  assert '1 undamaged images' in failure(capsys, source, tmp_path / 'less', '--skip_damaged')


def test_formats_that_are_not_read_are_named(tmp_path, capsys):
  source = class_folders(tmp_path / 'own')
  (source / 'train' / 'train 0' / 'IMG_1.HEIC').write_bytes(b'heic')
  assert prepare(source, tmp_path / 'out') == 0
  assert 'save them as JPEG or PNG): train/train 0/IMG_1.HEIC' in capsys.readouterr().out


def test_files_that_are_not_taken_for_images_are_named(tmp_path, capsys):
  """As what is fetched from the web: a class or a part of it was gone without a word."""
  source = class_folders(tmp_path / 'own')
  for name in ('README', 'train/train 0/notes.txt'):   # not in a folder; no image by any name
    (source / name).write_text('')
  for number in range(2):
    saved(source / 'train' / 'gone' / f'{number}', picture(number), format='PNG')
  saved(source / 'train' / 'train 0' / '9.jpg_large', picture(2), format='JPEG')
  assert prepare(source, tmp_path / 'out') == 0
  printed = capsys.readouterr().out
  assert ('do not end as those of images: train/gone/0, train/gone/1, '
          'train/train 0/9.jpg_large.\n' in printed)
  assert 'no file in them is an image that is read: train/gone.\n' in printed


@pytest.mark.parametrize('names', [SPLITS, None])
def test_folders_in_class_folders_are_of_the_class_and_named(tmp_path, capsys, names):
  source = class_folders(tmp_path / 'own', names=names)
  genus = f'{names[0]}/genus' if names else 'genus'
  for index in range(2):   # usual in sets that are there to be fetched
    saved(source / genus / 'images' / f'{index}.png', picture(100 + index))
  assert prepare(source, tmp_path / 'flat') == 0
  assert 'folders in class folders' not in capsys.readouterr().out
  for seed, inner in enumerate(('species a', 'species b')):
    saved(source / genus / inner / 'new.png', picture(200 + seed))
  assert prepare(source, tmp_path / 'nested') == 0
  assert ('2 folders in class folders were taken as a part of their class, as '
          f'{genus}/species a' in capsys.readouterr().out)
  assert classes_of(tmp_path / 'nested') == classes_of(tmp_path / 'flat')


@pytest.mark.parametrize('around', ['', 'data/', 'images/'])
def test_folders_in_class_folders_are_of_the_class_in_archives_too(tmp_path, capsys, around):
  for place, split in enumerate(SPLITS):
    with zipfile.ZipFile(tmp_path / f'{split}.zip', 'w') as archive:
      for number in range(8):
        folder = f'{around}genus {split} {number % 2}/species {number // 2}'
        archive.writestr(f'{folder}/{number}.png',
                         file_of(picture(8 * place + number), 'PNG'))
  source = ','.join(str(tmp_path / f'{split}.zip') for split in SPLITS)
  assert prepare(source, tmp_path / 'out') == 0
  assert classes_of(tmp_path / 'out') == {
      split: [f'genus {split} 0', f'genus {split} 1'] for split in SPLITS}
  assert ('24 folders in class folders were taken as a part of their class'
          in capsys.readouterr().out)


def test_folders_take_as_much_memory_as_their_names():
  """All ends and all starts of their paths took a hundred times as much."""
  names = ['a/' * 240 + f'{number:03}/1.png' for number in range(100)]
  tracemalloc.start()
  try:
    image_files.ImageFiles([FolderSource('none')], [names])
    class_files.note_other_files([names], Problems())
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert peak < 10 * sum(map(len, names))


def test_archives_beside_class_folders_are_named(tmp_path, capsys):
  source = class_folders(tmp_path / 'own', names=None)
  with zipfile.ZipFile(source / 'more.zip', 'w') as archive:
    archive.writestr('more/0.png', file_of(picture(0), 'PNG'))
  assert prepare(source, tmp_path / 'out') == 0
  assert 'are not opened (unpack what belongs to the set): more.zip' in capsys.readouterr().out
  (tmp_path / 'packed').mkdir()
  (source / 'more.zip').rename(tmp_path / 'packed' / 'train.zip')   # read, and not enough
  assert 'are not opened' not in failure(capsys, tmp_path / 'packed', tmp_path / 'none')


def test_a_folder_may_have_the_images_of_tieredimagenet(tmp_path, capsys, monkeypatch):
  assert prepare_images.MOST_FILES > 779_165 * 1.1
  monkeypatch.setattr(prepare_images, 'MOST_FILES', 20)
  message = failure(capsys, class_folders(tmp_path / 'own'), tmp_path / 'out')
  assert 'more than 20 files and folders' in message


def test_where_inner_folders_are_the_classes_it_can_be_told(tmp_path, capsys):
  for number in range(6):
    saved(tmp_path / 'own' / f'genus {number % 2}' / f'species {number}' / '1.png',
          picture(number))
  message = failure(capsys, tmp_path / 'own', tmp_path / 'out')
  assert '2 class folders with images (genus 0, genus 1)' in message
  assert '6 folders in class folders were taken' in message and 'genus 0/species 0' in message


@pytest.mark.parametrize('inner', ['c0', 'top/c0', 'c0/images'])
def test_one_class_folder_is_one(tmp_path, capsys, inner):
  saved(tmp_path / 'own' / inner / '0.png', picture(0))
  message = failure(capsys, tmp_path / 'own', tmp_path / 'out')
  assert 'has 1 class folder with images (c0)' in message


def test_one_table_of_all_images_is_told_of(tmp_path, capsys):
  saved(tmp_path / 'own' / 'images' / '0.png', picture(0))
  (tmp_path / 'own' / 'labels.csv').write_text('filename,label\n0.png,cat\n')
  message = failure(capsys, tmp_path / 'own', tmp_path / 'out')
  assert 'train.csv, val.csv and test.csv are read, and not labels.csv: write these' in message


def test_a_class_in_two_splits_is_not_said_to_have_images_twice(tmp_path, capsys):
  source = class_folders(tmp_path / 'own')
  for index in range(3):   # other images of the same names
    saved(source / 'val' / 'train 0' / f'{index}.png', picture(100 + index))
  message = failure(capsys, source, tmp_path / 'out')
  assert 'class train 0: both in train and in val' in message
  assert 'there twice' not in message and '1 problem was found' in message


def test_too_few_classes_are_refused(tmp_path, capsys):
  for number in range(3):
    saved(tmp_path / 'own' / f'thing {number}' / '1.png', picture(number))
  message = failure(capsys, tmp_path / 'own', tmp_path / 'out')
  assert '3 class folders with images (thing 0, thing 1, thing 2)' in message
  (tmp_path / 'empty').mkdir()
  assert 'it holds no files' in failure(capsys, tmp_path / 'empty', tmp_path / 'out')


def test_a_second_run_finds_it_done_or_other_options(tmp_path, capsys):
  source = class_folders(tmp_path / 'own')
  assert prepare(source, tmp_path / 'out') == 0
  assert prepare(source, tmp_path / 'out') == 0
  assert 'already complete' in capsys.readouterr().out
  assert prepare(source, tmp_path / 'out', '--channels=1') == 2
  assert '--overwrite' in capsys.readouterr().err
  assert prepare(source, tmp_path / 'out', '--channels=1', '--overwrite') == 0
  assert load_split(tmp_path / 'out', 'images', 'val').images.shape[1:] == (8, 8, 1)


def test_a_second_run_of_other_files_is_no_second_run(tmp_path, capsys):
  source, out = class_folders(tmp_path / 'source'), tmp_path / 'out'
  assert prepare(source, out) == 0
  saved(source / 'train' / 'train 0' / 'new.png', picture(99))
  assert prepare(source, out) == 2
  error = capsys.readouterr().err
  assert 'prepared of other files' in error and 'train/train 0: 3 images, now 4' in error
  assert prepare(source, out, '--overwrite') == 0 and prepare(source, out) == 0
  source.rename(tmp_path / 'elsewhere')   # what is prepared does not need it
  assert prepare(source, out) == 0


def test_images_that_are_there_twice_are_named(tmp_path, capsys):
  source = class_folders(tmp_path / 'source')
  assert prepare(source, tmp_path / 'clean') == 0
  assert 'images are there' not in capsys.readouterr().out
  shared = (source / 'train' / 'train 0' / '0.png').read_bytes()
  (source / 'test' / 'test 1' / 'other.png').write_bytes(shared)
  (source / 'train' / 'train 1' / 'again.png').write_bytes(shared)
  assert prepare(source, tmp_path / 'out') == 0
  printed = capsys.readouterr().out
  assert '1 image is there in two splits, so that testing meets what training saw' in printed
  assert 'train/train 0/0.png and test/test 1/other.png' in printed
  assert 'train/train 0/0.png and train/train 1/again.png' in printed
  assert len(read_manifest(tmp_path / 'out', 'images')['preparation']['notes']) == 2


@pytest.mark.parametrize('flag', ['--size=x', '--size=0', '--size=5000', '--shares=a',
                                  '--shares=1,1', '--shares=0,1,1', '--seed=x', '--seed=-1'])
def test_a_wrong_flag_is_one_sentence(flag, capsys):
  with pytest.raises(SystemExit) as ended:
    prepare_images.main(['--source=nowhere', flag])
  [line] = capsys.readouterr().err.splitlines()
  assert ended.value.code == 2 and 'is not allowed: ' in line


@pytest.mark.parametrize('shape', [[8, 8], [8, 8, 2], [0, 8, 3], [8, 8.0, 3], [8, 1 << 20, 3],
                                   'x', None])
def test_a_manifest_with_another_shape_is_refused(tmp_path, shape):
  assert prepare(class_folders(tmp_path / 'own'), tmp_path / 'out') == 0
  manifest = json.loads((tmp_path / 'out' / 'manifest.json').read_text())
  manifest['image_shape'] = shape
  (tmp_path / 'out' / 'manifest.json').write_text(json.dumps(manifest))
  with pytest.raises(DataError, match='the shape .* must be .height'):
    load_split(tmp_path / 'out', 'images', 'train')


def test_wrong_flags_exit_with_2(capsys):
  for flags in [], ['--source=x', '--channels=2']:
    with pytest.raises(SystemExit) as error:
      prepare_images.main(flags)
    assert error.value.code == 2


def test_the_script_runs_by_itself(tmp_path):
  source = class_folders(tmp_path / os.fsdecode(b'caf\xe9 [1]'))   # printed, too
  done = subprocess.run(
      [sys.executable, 'data_scripts/prepare_images.py', f'--source={source}', '--size=8',
       f'--out={source}.out'], cwd=REPOSITORY, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert classes_of(f'{source}.out') == EXPECTED
