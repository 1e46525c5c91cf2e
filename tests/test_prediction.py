"""Predicting and exporting: the adaptation is the run's own, in every form of it."""

from __future__ import annotations

import argparse
import builtins
import csv
import errno
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from maml_tf import application, experiment, export, predict
from maml_tf.config import ConfigError, resolve
from maml_tf.episodes import Episodes
from maml_tf.errors import CheckpointError, DataError
from maml_tf.meta_learners.maml import MAML
from maml_tf.prediction import expectation, files, photos, task_net, trained
from maml_tf.prediction.expectation import Measured
from maml_tf.training.run_folder import experiment_folder

WAYS = 3


def task(counts=(2, 2, 2), side=12, dtype='float64'):
  """(support images, labels, query images), random."""
  random = np.random.RandomState(0)
  labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
  def images(number):
    return tf.constant(random.uniform(size=(number, side, side, 1)), dtype)
  return images(len(labels)), labels, images(4)


def net_of(method='maml', updates=2, **given):
  small = dict(num_filters=4) if given.get('conv', True) else {}
  config = resolve(dict(datasource='omniglot', num_classes=WAYS, update_batch_size=2,
                        dtype='float64', method=method, update_lr=0.1, **small, **given))
  model = experiment.build_model(config)
  return config, model, task_net.TaskNet(model, WAYS, updates)


@pytest.mark.parametrize('method', ['maml', 'anil', 'reptile', 'context_vector', 'meta_sgd',
                                    'maml_plus_plus', 'boil', 'imaml'])
def test_it_adapts_as_the_test_does_with_the_support_set_s_statistics(method):
  config, model, _ = net_of(method)
  objective = config.problem.objective(config)
  images, labels, query = task(side=28)
  episodes = Episodes.of(images[tf.newaxis], labels[tf.newaxis], images[tf.newaxis],
                         labels[tf.newaxis])
  model.objective = objective
  *_, adapted = model.adaptation(model.meta_parameters.tensors(), episodes, 2, True)
  both = tf.concat([images, query], axis=0)[tf.newaxis]
  expected = model.learner(adapted, both, statistics_size=len(images))[0, len(images):]
  net = task_net.TaskNet(model, WAYS, 2)
  values = net.adapt_in_graph(images, labels)
  np.testing.assert_allclose(net.logits_in_graph(values, query), expected, rtol=1e-8,
                             atol=1e-10)
  # One image alone gets what it gets beside others.
  np.testing.assert_allclose(net.logits_in_graph(values, query[:1]), expected[:1], rtol=1e-8,
                             atol=1e-10)
  # The paper's: the query batch's own statistics.
  np.testing.assert_allclose(
      net.logits_in_graph(net.without_statistics(values), query),
      model.learner(adapted, query[tf.newaxis])[0], rtol=1e-8, atol=1e-10)


def test_a_class_of_many_photos_counts_as_one_of_few():
  _, _, net = net_of()
  images, labels, query = task((1, 1, 1), side=28)
  more = tf.concat([images, *[images[:1]] * 5], axis=0)
  repeated = np.concatenate([labels, [0] * 5]).astype(np.int32)
  loss = task_net.ClassBalanced().loss
  outputs = tf.constant(np.random.RandomState(1).normal(size=(3, WAYS)))
  def of(labels, outputs):
    return loss(outputs[tf.newaxis], (labels[tf.newaxis],
                                      task_net.class_weights(labels, WAYS)[tf.newaxis]))
  np.testing.assert_allclose(of(labels, outputs),
                             of(repeated, tf.gather(outputs, [0, 1, 2, 0, 0, 0, 0, 0])),
                             rtol=1e-6)
  assert net.logits_in_graph(net.adapt_in_graph(more, repeated), query).shape == (4, WAYS)


@pytest.mark.parametrize('given', [
    dict(), dict(max_pool=True, num_updates=1), dict(conv=False), dict(norm='layer_norm'),
    dict(norm='None')], ids=str)
def test_a_keras_model_of_the_task_gives_the_same(given):
  _, _, net = net_of(**given)
  images, labels, query = task(side=28)
  values = net.adapt_in_graph(images, labels)
  model = net.as_model(values, images)
  np.testing.assert_allclose(model(query), tf.nn.softmax(net.logits_in_graph(values, query)),
                             rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('method', ['anil', 'reptile'])
def test_a_new_head_prefers_no_class(method):
  config, model, _ = net_of(method)
  other = experiment.build_model(resolve({**config.to_values(), 'num_classes': 5}))
  other.assign_state(trained.fitted(model.state(), other))
  images, labels, query = task((1,) * 5, side=28)
  net = task_net.TaskNet(other, 5, 2)
  np.testing.assert_allclose(np.ptp(net.logits_in_graph({}, query), axis=1), 0, atol=1e-12)
  adapted = net.logits_in_graph(net.adapt_in_graph(images, labels), query)
  assert np.ptp(adapted, axis=1).min() > 1e-6


def test_other_ways_are_refused_where_they_cannot_be():
  config, _, _ = net_of()
  trained.require_adaptable(config, WAYS)
  with pytest.raises(ConfigError, match='trained for 3 classes, and 4 are asked for'):
    trained.require_adaptable(config, 4)
  with pytest.raises(ConfigError, match='has no images'):
    trained.require_adaptable(resolve({'datasource': 'sinusoid'}))
  with pytest.raises(ConfigError, match='what the paper compares with'):
    trained.require_adaptable(resolve({'datasource': 'omniglot', 'baseline': 'fine_tuning'}))


@pytest.mark.parametrize('base, fits', [('ANIL', True), ('Reptile', True), ('Matching', True),
                                        ('MAML', False), ('BOIL', False)])
def test_a_method_in_a_file_takes_other_ways_where_what_it_is_derived_from_does(
    base, fits, tmp_path):
  path = tmp_path / 'own_methods.py'
  path.write_text(f'from maml_tf import {base}\nclass Own({base}):\n  pass\n')
  config = resolve({'datasource': 'omniglot', 'num_classes': WAYS, 'method': f'{path}:Own'})
  if fits:
    trained.require_adaptable(config, WAYS + 1)
    return
  with pytest.raises(ConfigError, match='or a run of --method=reptile or anil or prototypical '
                                        'or matching or siamese.$'):
    trained.require_adaptable(config, WAYS + 1)


# --- how sure one may be

TESTS = [Measured(5, 1, 10, 0.5, 0.01, 600, 'test'), Measured(5, 1, 5, 0.4, 0.01, 600, 'test')]


def test_what_was_measured_is_expected():
  text = expectation.sentence(TESTS, [1] * 5, 10)
  assert '50.0% +- 1.0 of the answers right' in text and '5 ways and 1 shot after 10' in text


@pytest.mark.parametrize('counts, updates', [([1] * 4, 10), ([2] * 5, 10), ([1] * 5, 3),
                                             ([1, 1, 1, 1, 2], 10)])
def test_what_was_not_is_not_known(counts, updates):
  text = expectation.sentence(TESTS, counts, updates)
  nearest = 5 if updates == 3 else 10
  assert 'is not known' in text
  assert f'tested with 5 ways and 1 shot after {nearest} updates (' in text


def test_a_test_of_other_weights_or_values_is_not_what_is_expected(tmp_path):
  """The latest checkpoint is what a run tests, and the best one what classifies."""
  config = resolve({'datasource': 'omniglot'})
  fields = {'config': config.to_dict(), 'num_tasks': 6, 'split': 'test', 'tuning': None,
            'checkpoint': 'logs/model-60', 'updates': {'update10': {
                'accuracy': {'mean': 0.5, 'ci95': 0.01}}}}
  def sentence(**changed):
    (tmp_path / 'test_ubs1.json').write_text(json.dumps({**fields, **changed}))
    tests = expectation.of_run(str(tmp_path), 'logs/best/model-60', config)
    return expectation.sentence(tests, [1] * 5, 10)
  assert 'Expected of 5 ways and 1 shot after 10 updates: 50.0%' in sentence()
  other_step = resolve({'datasource': 'omniglot', 'update_lr': 0.1}).to_dict()
  other_set = resolve({'datasource': 'miniimagenet', 'update_lr': 0.4}).to_dict()
  for changed, words in ((dict(checkpoint='logs/model-40'), 'of model-40'),
                         (dict(tuning={'step_size': 1}), 'with a tuned step size'),
                         (dict(config=other_step), 'with the step size 0.1'),
                         (dict(config=other_set), 'on miniimagenet'),
                         (dict(other_data='data/more'), 'on data/more')):
    text = sentence(**changed)
    assert 'is not known' in text and f'as in its test {words} on 6 tasks' in text


# --- the commands

def draw(folder, classes, images=2, side=20):
  """Class folders of noise of many formats and modes."""
  random = np.random.RandomState(len(classes))
  kinds = [('png', 'RGB'), ('jpg', 'L'), ('gif', 'P'), ('png', 'RGBA'), ('tif', 'CMYK')]
  for number, name in enumerate(classes):
    (folder / name).mkdir(parents=True)
    for index in range(images + number % 2):
      suffix, mode = kinds[(number + index) % len(kinds)]
      pixels = random.randint(0, 256, (side + index, side, 3)).astype(np.uint8)
      image = Image.fromarray(pixels)
      image.convert(mode).save(folder / name / f'{index}.{suffix}')
  return folder


@pytest.fixture(scope='module')
def run(tmp_path_factory, sample_data):
  """The folder of a short run of Omniglot's shape, tested."""
  logs = tmp_path_factory.mktemp('logs')
  config = resolve(dict(
      datasource='omniglot', data_dir=sample_data('omniglot'), num_classes=WAYS,
      num_filters=4, meta_batch_size=2, metatrain_iterations=2, validation_interval=1,
      num_validation_tasks=2, num_test_tasks=4, test_num_updates=2, test_set=True,
      log=False, logdir=str(logs)))
  assert application.run(config) == 0
  return experiment_folder(config)


def test_photos_are_classified(run, tmp_path, capsys):
  support = draw(tmp_path / 'support', ['ant', 'bee', 'cat'])
  query = draw(tmp_path / 'query', ['some', 'more'])
  out = tmp_path / 'predictions.csv'
  arguments = [f'--run={run}', f'--support={support}', '--query', str(query),
               str(query / 'more' / '0.jpg'), f'--out={out}']
  assert predict.main(arguments) == 0
  printed = capsys.readouterr().out
  assert '7 photos of 3 classes by 2 updates' in printed
  assert 'with 2 to 3 shots after 2 updates are classified right is not known' in printed
  with open(out, encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 6 and rows[0]['file'].endswith('more/0.jpg')
  for row in rows:
    values = [float(row[name]) for name in ('ant', 'bee', 'cat')]
    assert sum(values) == pytest.approx(1, abs=1e-5)
    assert float(row['probability']) == max(values)
    assert f'{row["class"]}  {100 * max(values):.1f}%' in printed
  # The folder of the run's folder is enough, as there is one run in it.
  assert predict.main([f'--run={run}/..', *arguments[1:], '--statistics=query']) == 0


@pytest.mark.parametrize('command, more', [(predict, ['--query={0}/ant']), (export, [])])
def test_what_is_not_finite_is_no_class(run, tmp_path, capsys, monkeypatch, command, more):
  """The likeliest of no numbers was the first one."""
  support, out = draw(tmp_path / 'support', ['ant', 'bee', 'cat']), tmp_path / 'out'
  monkeypatch.setattr('maml_tf.prediction.task_net.as_inputs', lambda pixels, dtype:
                      tf.constant(np.full(pixels.shape, np.nan, dtype)))
  assert command.main([f'--run={run}', f'--support={support}', f'--out={out}',
                       *(each.format(support) for each in more)]) == 1
  assert ('not finite: test with fewer --updates, or test another checkpoint with --iteration'
          in capsys.readouterr().err)
  assert not out.is_file() and not (out.is_dir() and list(out.iterdir()))


def test_names_that_are_no_text_are_escaped(tmp_path):
  path = tmp_path / 'predictions.csv'
  predict.write(str(path), [predict.Prediction('bad\udcff.png', [0.25, 0.75])], ['a', 'b'])
  with open(path, encoding='utf-8') as file:
    [row] = csv.DictReader(file)
  assert row['file'] == 'bad\\udcff.png' and row['class'] == 'b'


@pytest.mark.parametrize('change, message', [
    (['--support=nowhere'], '--support=nowhere is not a folder'),
    (['--query=nowhere'], '--query=nowhere does not exist'),
    (['--run=nowhere'], '--run=nowhere has no run'),
    (['--pretrained=omniglot_5way_1shot'], 'Give one of --run=LOGDIR'),
    (['--iteration=7'], '--iteration=7 has no checkpoint in'),
    (['--out=no/such.csv'], 'there is no folder no: make it'),
    (['--out=.'], '--out=. is a folder: name a file in it')])
def test_mistakes_are_one_sentence(run, tmp_path, capsys, change, message):
  support = draw(tmp_path / 'support', ['a', 'b', 'c'])
  assert predict.main([f'--run={run}', f'--support={support}', f'--query={support}',
                       *change]) == 2
  error = capsys.readouterr().err
  assert error.startswith('maml_tf.predict: ') and message in error
  assert len(error.splitlines()) == 1


@pytest.mark.parametrize('given, message', [
    (['--pretrained=omniglot_5way_1shot', '--iteration=7'],
     '--iteration=7 does not fit --pretrained'),
    (['--pretrained=point_navigation'], '--datasource=point_navigation has no images'),
    (['--pretrained=miniimagenet_5way_1shot_nearest_neighbour'],
     '--baseline=nearest_neighbour is what the paper compares with')])
def test_rows_that_do_not_fit_are_one_sentence(tmp_path, capsys, given, message):
  assert predict.main([f'--support={tmp_path}', f'--query={tmp_path}', *given]) == 2
  error = capsys.readouterr().err
  assert message in error and len(error.splitlines()) == 1


def test_photos_that_cannot_be_read_are_all_named(tmp_path):
  config = resolve({'datasource': 'omniglot'})
  folder = draw(tmp_path / 'support', ['a', 'b'])
  (folder / 'a' / 'broken.png').write_bytes(b'nothing')
  (folder / 'b' / 'empty.jpg').write_bytes(b'')
  with pytest.raises(DataError, match='2 of 7 images cannot be read.*broken.*empty'):
    photos.read_support(str(folder), config)
  (folder / 'c').mkdir()
  with pytest.raises(DataError, match='no image in c'):
    photos.read_support(str(folder), config)


def test_photos_of_a_task_come_in_the_order_of_an_episode(tmp_path):
  """One of each class after the other, as `ImageSource` has them: matching nets with full
  context go by the order, and were trained with this one."""
  folder = tmp_path / 'support'
  for name, greys in (('a', (10, 20, 30)), ('b', (40,)), ('c', (50, 60))):
    (folder / name).mkdir(parents=True)
    for place, grey in enumerate(greys):
      Image.new('L', (28, 28), grey).save(folder / name / f'{place}.png')
  read = photos.read_support(str(folder), resolve({'datasource': 'omniglot'}))
  assert read.labels.tolist() == [0, 1, 2, 0, 2, 0] and read.labels.dtype == np.int32
  assert (255 - read.pixels[:, 14, 14, 0]).tolist() == [10, 40, 50, 20, 60, 30]
  assert read.counts == [3, 1, 2]


def refused(monkeypatch, call, path):
  """Makes `os.call` of a path fail, as it would for another user; root may read everything."""
  original = getattr(os, call)
  def as_another(place):
    if str(place) == str(path):
      raise PermissionError(errno.EACCES, 'Permission denied', str(path))
    return original(place)
  monkeypatch.setattr(os, call, as_another)


@pytest.mark.parametrize('unreadable', ['.', 'a'])
def test_photos_in_a_folder_that_cannot_be_read_are_not_passed_over(tmp_path, monkeypatch,
                                                                    unreadable):
  config = resolve({'datasource': 'omniglot'})
  folder = draw(tmp_path / 'support', ['a', 'b', 'c'])
  refused(monkeypatch, 'scandir', folder / unreadable)
  for read in (lambda: photos.read_support(str(folder), config),
               lambda: photos.read_query([str(folder)], config)):
    with pytest.raises(DataError, match=r'cannot be read \(Permission denied\): make it'):
      read()


def test_a_run_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch):
  with pytest.raises(ConfigError, match='has no run'):
    trained.config_of_run(str(tmp_path))
  path = tmp_path / 'config.json'
  for text in ('[' * 100_000, '{}', ' ' * (2 << 20)):
    path.write_text(text)
    with pytest.raises(CheckpointError, match='is not the configuration of a run'):
      trained.config_of_run(str(tmp_path))
  path.unlink()
  refused(monkeypatch, 'listdir', tmp_path)
  with pytest.raises(ConfigError, match=r'cannot be read \(Permission denied\): make it'):
    trained.config_of_run(str(tmp_path))


def test_a_configuration_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch):
  (tmp_path / 'config.json').write_text('{}')
  def refuse(*_, **__):
    raise PermissionError(errno.EACCES, 'Permission denied')
  monkeypatch.setattr(builtins, 'open', refuse)
  with pytest.raises(CheckpointError, match=r'cannot be read \(Permission denied\): make it'):
    trained.config_of_run(str(tmp_path))


def test_what_is_passed_over_is_said(tmp_path):
  config = resolve({'datasource': 'omniglot'})
  folder = draw(tmp_path / 'support', ['a', 'b'])
  (folder / '__MACOSX' / 'a').mkdir(parents=True)
  read = photos.read_support(str(folder), config)
  assert read.classes == ['a', 'b'] and not read.left_out
  (folder / 'a' / 'phone.HEIC').write_bytes(b'')
  (folder / 'a' / 'deeper').mkdir()
  for stray in (folder, folder / 'a' / 'deeper'):
    Image.new('L', (8, 8)).save(stray / 'stray.png')
  read = photos.read_support(str(folder), config)
  assert len(read.labels) == 5
  other_kind, not_there = read.left_out
  assert 'save them as JPEG or PNG' in other_kind and 'phone.HEIC' in other_kind
  assert 'do not lie in a class folder' in not_there and not_there.count('stray.png') == 2
  query = photos.read_query([str(folder)], config)
  assert len(query.names) == 7 and query.left_out == [other_kind]


def test_linked_folders_are_read_once(tmp_path):
  folder = draw(tmp_path / 'photos', ['a', 'b'])
  (tmp_path / 'links').mkdir()
  (tmp_path / 'links' / 'there').symlink_to(folder)
  for name in ('a', 'a, too'):
    (tmp_path / 'links' / name).symlink_to(folder / 'a')
  (folder / 'a' / 'round').symlink_to(tmp_path / 'links')
  read = photos.read_query([str(tmp_path / 'links')], resolve({'datasource': 'omniglot'}))
  assert len(read.names) == 5


def test_a_class_is_no_column_of_another_kind(tmp_path):
  path = tmp_path / 'predictions.csv'
  predict.write(str(path), [predict.Prediction('a.png', [0.25, 0.75])], ['class', 'file'])
  with open(path, encoding='utf-8') as file:
    [row] = csv.DictReader(file)
  assert row == {'file': 'a.png', 'class': 'file', 'probability': '0.750000',
                 'class class': '0.250000', 'class file': '0.750000'}


def test_omniglot_s_photos_are_inverted_as_its_set_is(tmp_path):
  Image.new('L', (40, 40), 255).save(tmp_path / 'paper.png')
  read = photos.read_query([str(tmp_path)], resolve({'datasource': 'omniglot'}))
  assert read.pixels.shape == (1, 28, 28, 1) and read.pixels.max() == 0


def test_exported_nets_have_float32_products_whatever_training_had(tmp_path):
  """Or they would not give the numbers of what they were made of."""
  trained = resolve(dict(datasource='omniglot', mixed_precision=True))
  (tmp_path / 'config.json').write_text(trained.to_json(), encoding='utf-8')
  config = predict.config_of(argparse.Namespace(run=str(tmp_path), pretrained=None))
  assert trained.learner.mixed_precision and not config.learner.mixed_precision


@pytest.mark.slow
def test_exports_give_the_same_numbers_without_this_package(run, tmp_path, capfd):
  support = draw(tmp_path / 'support', ['a', 'b', 'c'], images=1)
  out = tmp_path / 'exported'
  arguments = [f'--run={run}', f'--support={support}', f'--out={out}']
  assert export.main(arguments) == 0
  printed = capfd.readouterr().out
  assert 'Loaded again in a process without maml_tf' in printed
  for name in ('adaptation', 'adapted.keras', 'adapted_saved_model'):
    assert (out / name).exists() and f'{name} ' in printed.splitlines()[-1]
  # TensorFlow 2.21 converts to numbers that are none.
  assert ((out / 'adapted.tflite').exists() and 'adapted.tflite ' in printed.splitlines()[-1]
          ) != ('adapted.tflite is taken away again' in printed)
  assert (out / 'adapted.onnx').exists() != ('adapted.onnx is not written' in printed)
  described = json.loads((out / 'export.json').read_text())
  assert described['classes'] == ['a', 'b', 'c'] and described['image_shape'] == [28, 28, 1]
  # What is there is not written over.
  assert export.main(arguments) == 2
  assert 'is not empty: choose another folder' in capfd.readouterr().err


def test_an_export_says_what_it_passes_over(tmp_path, monkeypatch, capsys):
  """Its net would be of fewer photos than somebody thinks."""
  support = draw(tmp_path / 'support', ['a', 'b', 'c'])
  (support / 'a' / 'phone.HEIC').write_bytes(b'')
  config = resolve({'datasource': 'omniglot'})
  monkeypatch.setattr(export, 'config_of', lambda _: config)
  monkeypatch.setattr(export, 'trained_of', lambda *_: trained.Trained(config, None, 'it', []))
  def end(*_):
    raise ConfigError('The rest is not of interest.')
  monkeypatch.setattr(task_net, 'task_net', end)
  assert export.main([f'--run={tmp_path}', f'--support={support}',
                      f'--out={tmp_path / "out"}']) == 2
  assert 'phone.HEIC' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, message', [
    (['--ways=1'], '--ways=1 is not allowed: it must be 2 or more'),
    (['--ways=4', '--support=SUPPORT'], 'which has 3 class folders: leave it out'),
    (['--out=FILE'], 'is a file: name a folder')])
def test_what_cannot_be_exported_is_one_sentence(run, tmp_path, capsys, arguments, message):
  places = {'SUPPORT': draw(tmp_path / 'support', ['a', 'b', 'c']), 'FILE': tmp_path / 'file'}
  places['FILE'].write_text('')
  for name, place in places.items():
    arguments = [argument.replace(name, str(place)) for argument in arguments]
  assert export.main([f'--run={run}', f'--out={tmp_path / "out"}', *arguments]) == 2
  assert message in capsys.readouterr().err and not (tmp_path / 'out').exists()


@pytest.mark.slow
@pytest.mark.parametrize('norm', ['batch_norm', 'layer_norm'])
def test_onnx_gives_the_same_numbers(norm, tmp_path):
  pytest.importorskip('tf2onnx')
  config = resolve(dict(datasource='omniglot', num_classes=WAYS, update_batch_size=2,
                        num_filters=4, norm=norm))
  net = task_net.task_net(experiment.build_model(config), WAYS, 2)
  images, labels, _ = task(side=28, dtype='float32')
  values = net.adapt_in_graph(images, labels)
  paths, left_out = files.write_adapted(str(tmp_path), net.as_model(values, images))
  assert not left_out and str(tmp_path / 'adapted.onnx') in paths
  np.savez(tmp_path / 'check.npz', images=images,
           probabilities=tf.nn.softmax(net.logits_in_graph(values, images)))
  assert files.differences(str(tmp_path))['adapted.onnx'] < 1e-5


def test_an_export_is_checked_wherever_the_folder_of_the_command_is(tmp_path, monkeypatch):
  """TensorFlow takes a path for a pattern: from there it is one without brackets."""
  (tmp_path / 'maml [1]').mkdir()
  monkeypatch.chdir(tmp_path / 'maml [1]')
  module = tf.Module()
  module.weights = tf.Variable([[1.0], [2.0]])
  spec = tf.TensorSpec([None, 2], tf.float32, 'images')
  call = tf.function(lambda images: {'probabilities': images @ module.weights},
                     autograph=False).get_concrete_function(spec)
  tf.saved_model.save(module, 'out/adapted_saved_model', signatures=call)
  np.savez('out/check.npz', images=np.ones([1, 2], np.float32), probabilities=[[3.0]])
  assert files.differences('out') == {'adapted_saved_model': 0.0}


def test_what_cannot_be_run_counts_as_no_number(tmp_path):
  """As TensorFlow Lite of a net with layer norm; of the others it is an error."""
  from maml_tf.errors import FailedError
  np.savez(tmp_path / 'check.npz', images=np.zeros([1, 2], 'float32'), probabilities=[[1.0]])
  (tmp_path / 'adapted.tflite').write_bytes(b'nothing')
  found = files.differences(str(tmp_path))
  assert list(found) == ['adapted.tflite'] and np.isnan(found['adapted.tflite'])
  assert list(files.take_out_misconverted(str(tmp_path), found)) == ['adapted.tflite']
  (tmp_path / 'adapted_saved_model').write_bytes(b'nothing')
  with pytest.raises(FailedError, match='does not give the same numbers'):
    files.differences(str(tmp_path))


class OwnNet(tf.keras.Model):
  """Of which Keras knows no inputs, and whose code is here alone."""

  def __init__(self):
    super().__init__()
    self.flat, self.norm = tf.keras.layers.Flatten(), tf.keras.layers.BatchNormalization()
    self.dense = tf.keras.layers.Dense(WAYS)

  def call(self, inputs, training=None):
    return self.dense(self.norm(self.flat(inputs), training=training))

  def get_config(self):
    return {}


def test_a_net_with_code_of_its_own_is_written_as_what_it_computes(tmp_path):
  images, labels, _ = task(side=6, dtype='float32')
  net = OwnNet()
  net(images)
  adapted = task_net.task_net(MAML(net, task_net.ClassBalanced(),
                                   step_size=0.1, num_updates=1), WAYS, 1)
  values = adapted.adapt_in_graph(images, labels)
  files.write_adapted(str(tmp_path), adapted.as_model(values, images))
  np.savez(tmp_path / 'check.npz', images=images,
           probabilities=tf.nn.softmax(adapted.logits_in_graph(values, images)))
  found = files.differences(str(tmp_path))
  assert found['adapted_saved_model'] < 1e-5
  assert 'without the code' in files.take_out_misconverted(str(tmp_path), found)[files.KERAS]
  assert not (tmp_path / files.KERAS).exists()


def test_what_a_converter_got_wrong_is_taken_away(tmp_path):
  for name in ('adapted.tflite', 'adapted.onnx', 'adapted.keras'):
    (tmp_path / name).write_text(name)
  found = {'adapted.tflite': float('nan'), 'adapted.onnx': 1e-7, 'adapted.keras': 1e-7}
  assert list(files.take_out_misconverted(str(tmp_path), found)) == ['adapted.tflite']
  assert set(found) == {'adapted.onnx', 'adapted.keras'}
  assert sorted(path.name for path in tmp_path.iterdir()) == ['adapted.keras', 'adapted.onnx']
  assert not files.take_out_misconverted(str(tmp_path), {'adapted.onnx': 0.01}, tolerance=0.1)


def test_a_full_disk_ends_an_export_as_it_ends_any_file(tmp_path, disk_limit):
  """TensorFlow has errors of its own for it, which no sentence was made of."""
  served = tf.Module()
  served.start = tf.Variable(tf.zeros([1000]))
  served.concrete = tf.function(lambda: served.start + 1).get_concrete_function()
  with disk_limit(100), pytest.raises(OSError):
    files.write_adaptation(str(tmp_path), served)
