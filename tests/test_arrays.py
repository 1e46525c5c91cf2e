"""Tasks of arrays, folders and functions."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from maml_tf.errors import ConfigError, DataError
from maml_tf.numpy_calls import as_raised
from maml_tf.sources.arrays import tasks_from_arrays, tasks_from_folder, tasks_from_function

CLASSES, EACH = 6, 5


@pytest.fixture
def examples():
  """Each tells its class and its number: 10 * class + number."""
  classes = np.random.RandomState(0).permutation(np.repeat(np.arange(CLASSES), EACH))
  numbers = np.zeros(len(classes), int)
  for one in range(CLASSES):
    numbers[classes == one] = np.arange(EACH)
  return (10 * classes + numbers)[:, np.newaxis].astype('float32'), classes


def batches(dataset, count):
  return [tf.nest.map_structure(np.array, batch)
          for batch in itertools.islice(dataset, count)]


def test_a_task_has_different_examples_of_different_classes(examples):
  tasks = tasks_from_arrays(*examples, ways=4, shots=2, queries=3, meta_batch_size=5, seed=1)
  for (support, labels), (query, query_labels) in batches(tasks, 4):
    assert support.shape == (5, 8, 1) and query.shape == (5, 12, 1)
    assert labels.dtype == query_labels.dtype == np.int32
    for task in range(5):
      both = np.concatenate([support[task], query[task]])[:, 0]
      assert len(np.unique(both)) == 20
      classes_of = [set(both_[:, 0][which == label] // 10) for both_, which in
                    ((support[task], labels[task]), (query[task], query_labels[task]))
                    for label in range(4)]
      assert classes_of[:4] == classes_of[4:]
      assert len(set.union(*classes_of)) == 4


def test_all_classes_and_labels_come(examples):
  tasks = tasks_from_arrays(*examples, ways=2, shots=1, queries=1, meta_batch_size=50)
  (support, labels), _ = batches(tasks, 1)[0]
  pairs = set(zip(support.ravel() // 10, labels.ravel()))
  assert pairs == set(itertools.product(range(CLASSES), range(2)))


def test_a_task_depends_on_the_seed_and_its_number_alone(examples):
  def made(batch, count, seed=3):
    tasks = tasks_from_arrays(*examples, ways=3, shots=1, queries=1, meta_batch_size=batch,
                              seed=seed)
    return np.concatenate([support for (support, _), _ in batches(tasks, count)])
  np.testing.assert_array_equal(made(2, 3), made(3, 2))
  assert np.any(made(2, 3) != made(2, 3, seed=4))


def test_nests_and_strings(examples):
  x, y = examples
  names = np.array(['abcdef'[one] for one in y])
  tasks = tasks_from_arrays({'value': x, 'text': names}, names, 3, 1, 1)
  (support, _), _ = next(iter(tasks))
  assert support['value'].shape == (4, 3, 1) and support['text'].dtype == tf.string
  for value, text in zip(support['value'].numpy().ravel(), support['text'].numpy().ravel()):
    assert b'abcdef'[int(value) // 10:int(value) // 10 + 1] == text


@pytest.mark.parametrize('sizes, message', [
    (dict(ways=7), '6 classes'), (dict(shots=4), 'the smallest of 5'),
    (dict(queries=0), 'queries must be an integer, 1 or more'),
    (dict(shots=1.0), 'shots must be an integer'), (dict(ways='2'), 'ways must be an'),
    (dict(seed=-1), 'seed must be an integer, 0'), (dict(seed=None), 'seed must be an')])
def test_what_cannot_be_drawn_is_refused(examples, sizes, message):
  with pytest.raises(ConfigError, match=message):
    tasks_from_arrays(*examples, **{**dict(ways=2, shots=2, queries=2), **sizes})


def test_labels_that_do_not_fit_are_refused(examples):
  with pytest.raises(ConfigError, match='one class for each example'):
    tasks_from_arrays(examples[0], examples[1][1:], 2, 1, 1)


class NotAvailable:
  """As pandas.NA: whether it is something else than itself cannot be told."""

  def __ne__(self, other):
    return self

  def __bool__(self):
    raise TypeError


@pytest.mark.parametrize('labels', [
    ['ant', float('nan'), 'bee'], ['ant', None, 'bee'], [1, None, 2], [1.0, np.nan, 2.0],
    ['ant', NotAvailable(), 'bee']], ids=['NaN', 'None', 'number', 'float', 'NA'])
@pytest.mark.parametrize('kind', [list, lambda y: np.array(y, object)], ids=['list', 'array'])
def test_missing_labels_are_no_class(labels, kind):
  with pytest.raises(ConfigError, match='Received: 2 of 6 are missing') as caught:
    tasks_from_arrays(np.zeros([6, 1]), kind(labels * 2), 2, 1, 1)
  assert 'ant' not in str(caught.value)


def test_dates_that_are_missing_are_no_class():
  dates = np.array(['2020-01-01', 'NaT'] * 3, 'datetime64[D]')
  with pytest.raises(ConfigError, match='Received: 3 of 6 are missing'):
    tasks_from_arrays(np.zeros([6, 1]), dates, 2, 1, 1)


def test_missing_texts_are_no_examples():
  for texts in (['a', np.nan, 'b'], np.array(['a', np.nan, 'b'], object)):
    with pytest.raises(ConfigError, match='x must .* Received: 1 of 3 are missing'):
      tasks_from_arrays(texts, [0, 0, 0], 1, 1, 1)


def test_a_table_with_numbers_and_texts_is_refused():
  table = np.array([[1.5, 'a'], [2.5, 'b']], object)
  with pytest.raises(ConfigError, match='all of one kind.* 1.5'):
    tasks_from_arrays(table, [0, 0], 1, 1, 1)


def test_missing_numbers_are_the_net_s_affair():
  x = np.array([1.0, np.nan], object)
  (support, _), (query, _) = next(iter(tasks_from_arrays(x, [0, 0], 1, 1, 1)))
  assert np.isnan([*support.numpy().ravel(), *query.numpy().ravel()]).sum() == 4


@pytest.mark.parametrize('y, message', [
    (np.eye(6)[np.repeat(np.arange(6), 5)], r'argmax'), (np.full(30, np.nan), '30 of 30'),
    ([object()] * 30, 'Python objects'), ([1, '1'] * 15, 'all of one kind.* 1')],
    ids=['one-hot', 'NaN', 'objects', 'numbers among texts'])
def test_labels_that_are_none_are_refused(examples, y, message):
  with pytest.raises(ConfigError, match=message):
    tasks_from_arrays(examples[0], y, 2, 1, 1)


def test_examples_may_be_a_list(examples):
  x, y = examples
  expected = next(iter(tasks_from_arrays(x, y, 3, 1, 2)))
  for given in (list(x), x.tolist(), x.astype(object)):
    found = next(iter(tasks_from_arrays(given, y.tolist(), 3, 1, 2)))
    tf.nest.map_structure(np.testing.assert_array_equal, found, expected)
  with pytest.raises(ConfigError, match=r'of one shape.*\(1,\), \(2,\)'):
    tasks_from_arrays([np.zeros(2), *list(x)[1:]], y, 3, 1, 2)


def test_as_many_arrays_as_each_is_long_are_refused():
  """They were as many inputs in silence, and 28 examples of 28 x 28 pixels no examples."""
  with pytest.raises(ConfigError, match='list of 28 arrays of length 28 .*np.stack'):
    tasks_from_arrays(list(np.zeros([28, 28, 28])), np.repeat(range(4), 7), 2, 1, 1)


def test_labels_may_be_a_column(examples):
  """As those of `keras.datasets.cifar100`."""
  x, y = examples
  found, expected = (next(iter(tasks_from_arrays(x, labels, 3, 1, 2)))
                     for labels in (y[:, np.newaxis], y))
  tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


def test_several_inputs_may_be_a_list(examples):
  x, y = examples
  inputs = next(iter(tasks_from_arrays([x, 2 * x], y, 3, 1, 2)))[0][0]
  assert [value.shape.as_list() for value in inputs] == [[4, 3, 1]] * 2
  np.testing.assert_array_equal(inputs[1], 2 * inputs[0])


def test_the_paper_s_sizes_are_taken_where_none_are_said():
  y = np.repeat(np.arange(5), 16)
  (support, labels), (query, _) = next(iter(tasks_from_arrays(np.zeros([80, 2]), y)))
  assert support.shape == (4, 5, 2) and labels.shape == (4, 5) and query.shape == (4, 75, 2)


def test_functions(examples):
  def sine(random):
    phase = random.uniform()
    x = random.normal(size=(5, 1))
    return (x, np.sin(x + phase)), (x + 1, np.sin(x + 1 + phase))
  (x, y), (query, _) = next(iter(tasks_from_function(sine, 3, seed=1)))
  np.testing.assert_array_equal(query, x + 1)
  assert y.shape == (3, 5, 1)
  with pytest.raises(ConfigError, match='A task is'):
    tasks_from_function(lambda random: np.zeros(3))


def test_folders(tmp_path):
  for index, name in enumerate('abc'):
    (tmp_path / name).mkdir()
    for number in range(3):
      image = np.full((8, 6, 3), 20 * index + number, np.uint8)
      tf.io.write_file(str(tmp_path / name / f'{number}.png'), tf.io.encode_png(image))
  (tmp_path / 'a' / 'notes.txt').write_text('none')
  tasks = tasks_from_folder(str(tmp_path), 2, 1, 2, image_size=(4, 4), meta_batch_size=3)
  (support, labels), (query, _) = next(iter(tasks))
  assert support.shape == (3, 2, 4, 4, 3) and query.shape == (3, 4, 4, 4, 3)
  values = np.round(support.numpy()[..., 0, 0, 0] * 255)
  assert set(values.ravel() // 20) <= {0, 1, 2} and np.all(values % 20 < 3)
  broken = [f'{name}/{number}.png' for name in 'bc' for number in range(3, 7)]
  for name in broken:   # all of them are named
    (tmp_path / name).write_bytes(b'no image' if name < 'c' else b'')
  with pytest.raises(DataError, match='8 of 17 images cannot be read.*' + '.*'.join(broken)):
    tasks_from_folder(str(tmp_path), 2, 1, 2, image_size=(4, 4))
  with pytest.raises(DataError, match='no folder'):
    tasks_from_folder(str(tmp_path / 'none'), 2, 1, 2, image_size=(4, 4))


@pytest.fixture
def class_folders(tmp_path):
  """A folder of two classes with an image of each format that is read, white and black."""
  for colour in ('white', 'black'):
    (tmp_path / 'photos' / colour).mkdir(parents=True)
    for suffix in ('webp', 'tif', 'jpe', 'ppm', 'png'):
      Image.new('RGB', (6, 8), colour).save(tmp_path / 'photos' / colour / f'1.{suffix}')
  return tmp_path / 'photos'


def shades(folder, **options):
  """{shade: how many images of it} of all images of two classes of five."""
  (support, _), (query, _) = next(iter(tasks_from_folder(
      str(folder), 2, 1, 4, image_size=(4, 3), meta_batch_size=1, **options)))
  images = np.concatenate([support, query], axis=1)[0]
  assert all(np.ptp(image) == 0 for image in images)
  values, counts = np.unique(images[:, 0, 0, 0], return_counts=True)
  return dict(zip(values.tolist(), counts.tolist()))


@pytest.mark.parametrize('channels', [1, 3])
def test_every_format_is_read_that_is_prepared(class_folders, channels):
  assert shades(class_folders, channels=channels) == {0: 5, 1: 5}


def test_what_systems_leave_behind_is_no_class_and_no_image(class_folders):
  for name in ('.ipynb_checkpoints', '__MACOSX'):
    shutil.copytree(class_folders / 'white', class_folders / name)
  (class_folders / 'white' / '._1.jpg').write_bytes(b'of the Finder')
  assert shades(class_folders) == {0: 5, 1: 5}


def test_what_is_transparent_is_white(class_folders):
  Image.new('RGBA', (6, 8), (0, 0, 0, 0)).save(class_folders / 'white' / '1.png')
  assert shades(class_folders) == {0: 5, 1: 5}


def test_images_are_turned_as_their_exif_says_and_get_the_size(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6   # its left side is its top
  picture = Image.new('L', (40, 20), 'white')
  picture.paste(0, (0, 0, 20, 20))
  (tmp_path / 'only').mkdir()
  for name in '12':
    picture.save(tmp_path / 'only' / f'{name}.png', exif=exif)
  (support, _), _ = next(iter(tasks_from_folder(
      str(tmp_path), 1, 1, 1, image_size=(8, 3), meta_batch_size=1, channels=1)))
  image = support.numpy().reshape(8, 3)
  assert image[:3].max() < 0.02 and image[5:].min() > 0.98   # Lanczos overshoots


def test_a_class_without_an_image_that_is_read_is_refused(class_folders):
  (class_folders / 'grey').mkdir()
  (class_folders / 'grey' / '1.heic').write_bytes(b'of a telephone')
  with pytest.raises(DataError, match='no image in the class folders grey of .*webp'):
    shades(class_folders)


def test_images_that_are_left_out_are_named(class_folders):
  Image.new('L', (2, 2)).save(class_folders / 'cover.png')
  (class_folders / 'white' / '1.heic').write_bytes(b'of a telephone')
  (class_folders / 'white' / '2.jpg_large').write_bytes(b'of the web')
  with pytest.warns(UserWarning) as warned:
    assert shades(class_folders) == {0: 5, 1: 5}
  texts = ' '.join(str(one.message) for one in warned)
  assert '(cover.png)' in texts and '(white/1.heic)' in texts
  assert '(white/2.jpg_large)' in texts
  assert {one.filename for one in warned} == {__file__}


def test_images_of_which_16_bits_leave_nothing_are_named(class_folders):
  Image.fromarray(np.full((2, 2), 4095, np.uint16)).save(class_folders / 'black' / '12.png')
  with pytest.warns(UserWarning, match='nearly black .*: black/12.png') as warned:
    shades(class_folders)
  assert {one.filename for one in warned} == {__file__}


@pytest.mark.parametrize('wrong', [dict(image_size=4), dict(image_size=(4, 0)),
                                   dict(image_size=(4, 4, 3)), dict(channels=4)])
def test_an_image_that_cannot_be_made_is_refused(class_folders, wrong):
  with pytest.raises(ConfigError, match=f'{next(iter(wrong))} must be .* Received: '):
    tasks_from_folder(str(class_folders), 2, 1, 4, **{'image_size': (4, 4), **wrong})


def task_of(*parts):
  return parts[:2], parts[2:]


@pytest.mark.parametrize('other', [
    task_of({'b': np.zeros(3)}, np.zeros(3), {'b': np.zeros(3)}, np.zeros(3)),
    task_of({'a': np.zeros(4)}, np.zeros(3), {'a': np.zeros(3)}, np.zeros(3)),
    task_of({'a': np.zeros(3, int)}, np.zeros(3), {'a': np.zeros(3)}, np.zeros(3)),
    task_of({'a': np.zeros(3), 'b': np.zeros(3)}, np.zeros(3), {'a': np.zeros(3)},
            np.zeros(3))], ids=['name', 'shape', 'type', 'number'])
def test_tasks_of_another_structure_than_the_first_are_refused(other):
  first = task_of({'a': np.zeros(3)}, np.zeros(3), {'a': np.zeros(3)}, np.zeros(3))
  with pytest.raises(ConfigError, match='Received: task 1 with .*, task 0 with'), as_raised():
    next(iter(tasks_from_function(lambda random: other if is_task_1(random) else first, 2)))


def test_texts_of_tasks_may_be_of_other_lengths():
  def draw(random):
    texts = np.array(['ant', 'bumblebee'] if is_task_1(random) else ['ox', 'a'])
    return task_of(texts, np.arange(2), texts, np.arange(2))
  (texts, _), _ = next(iter(tasks_from_function(draw, 2)))
  assert texts.numpy().tolist() == [[b'ox', b'a'], [b'ant', b'bumblebee']]


def is_task_1(random):
  return random.integers(2**31) == np.random.default_rng([0, 1]).integers(2**31)


def test_what_the_function_raises_is_said_with_the_number_of_the_task():
  def draw(random):
    if is_task_1(random):
      raise KeyError('a')
    return task_of(*[np.zeros(3)] * 4)
  with pytest.raises(ConfigError, match="fails at task 1: KeyError: 'a'"), as_raised():
    next(iter(tasks_from_function(draw, 2)))


def test_lists_of_numbers_are_arrays_and_others_are_several():
  draw = lambda random: (([[0.0], [1.0]], [0, 1]), ([[2.0], [3.0]], [1, 0]))   # noqa: E731
  (inputs, labels), _ = next(iter(tasks_from_function(draw, 2)))
  assert inputs.shape == (2, 2, 1) and labels.shape == (2, 2)
  draw = lambda random: (([np.zeros(3), np.ones(3)], [0, 1, 2]),) * 2   # noqa: E731
  (inputs, labels), _ = next(iter(tasks_from_function(draw, 2)))
  assert [one.shape for one in inputs] == [(2, 3)] * 2 and labels.shape == (2, 3)
