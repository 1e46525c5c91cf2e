"""`--datasource=images`: from a folder of photos to a tested run, by what its set is."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flags
from data_scripts import prepare_images
from maml_tf import application, problems
from maml_tf.config import Config, ConfigError
from maml_tf.errors import DataError, WriteError
from maml_tf.problems.own_images import OWN
from maml_tf.training.run_folder import experiment_folder, prepare_folder, stored_config

CLASSES, IMAGES = 9, 6


def draw_classes(folder, classes=CLASSES, images=IMAGES, side=12, name='class{:02}'):
  """Class folders of noise around a colour, which is the class."""
  random = np.random.RandomState(0)
  for number in range(classes):
    (folder / name.format(number)).mkdir(parents=True)
    colour = random.randint(0, 200, 3)
    for index in range(images):
      pixels = colour + random.randint(0, 50, (side, side, 3))
      Image.fromarray(pixels.astype(np.uint8)).save(
          folder / name.format(number) / f'{index}.png')


def test_a_photo_gets_the_shape_of_the_set(tmp_path):
  """A set of a script of one's own need not be square."""
  Image.new('RGB', (10, 10)).save(tmp_path / '1.png')
  problem = dataclasses.replace(OWN, shape=(4, 6, 3))
  assert problem.pixels((tmp_path / '1.png').read_bytes(), None).shape == (4, 6, 3)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A function that gives (folder of a set of that size, what preparing it printed)."""
  import contextlib
  import io
  folder = tmp_path_factory.mktemp('own')
  draw_classes(folder / 'photos')

  def of_size(size):
    out, printed = folder / f'set of {size}', io.StringIO()
    if not out.exists():
      with contextlib.redirect_stdout(printed):
        assert prepare_images.main([f'--source={folder / "photos"}', f'--out={out}',
                                    f'--size={size}', '--shares=3,3,3']) == 0
    return str(out), printed.getvalue()
  return of_size


def test_the_next_line_can_be_pasted(prepared, tmp_path_factory):
  folder, printed = prepared(16)
  line = next(line for line in printed.splitlines() if line.startswith('Next: '))
  python, script, *arguments = shlex.split(line[len('Next: '):])
  assert (python, script) == ('python', 'main.py')
  config = flags.parse([script, *arguments])
  assert config.data_dir == folder and config.problem.shape == (16, 16, 3)


@pytest.mark.parametrize('size, filters, pools, updates', [(16, 64, False, 1),
                                                           (40, 32, True, 5)])
def test_the_presets_are_those_of_its_images_and_classes(prepared, size, filters, pools,
                                                         updates):
  folder, _ = prepared(size)
  config = flags.parse(['main.py', '--datasource=images', f'--data_dir={folder}'])
  assert config.task.num_classes == 3
  assert config.task.train_query_size == (1 if updates == 1 else IMAGES - 1)
  assert (config.learner.num_filters, config.learner.max_pool) == (filters, pools)
  assert config.inner_loop.num_updates == updates
  assert config.problem.input_shape(config) == (size, size, 3)
  assert config.run.logdir == f'logs/set of {size}'
  # A run is named by what differs from this set's values.
  assert not {'query', 'clip', 'metalr'} & set(re.split('[^a-z]+', config.experiment_name))


@pytest.mark.parametrize('size, method', [(16, 'prototypical'), (16, 'siamese'),
                                          (40, 'prototypical')])
def test_tasks_of_training_have_no_more_classes_than_its_split(prepared, size, method):
  given = ['main.py', '--datasource=images', f'--data_dir={prepared(size)[0]}',
           f'--method={method}']
  assert flags.parse(given).task.train_num_classes == 3
  assert flags.parse([*given, '--train_num_classes=2']).task.train_num_classes == 2
  with pytest.raises(ConfigError, match='--train_num_classes=4 is larger than the train'):
    flags.parse([*given, '--train_num_classes=4'])


@pytest.mark.parametrize('given, message', [
    ('--num_classes=4', 'has 3 classes: at most 3 are allowed'),
    ('--train_query_size=6', 'smallest one of the train split in .* has 6: take fewer'),
    ('--update_batch_size=6', 'need 7 images of a class'),
    ('--test_query_size=6', 'smallest one of the val split')])
def test_what_the_set_has_not_is_refused_before_training(prepared, given, message):
  with pytest.raises(ConfigError, match=message):
    flags.parse(['main.py', '--datasource=images', f'--data_dir={prepared(16)[0]}', given])


@pytest.mark.slow
def test_a_run_is_trained_resumed_and_tested(prepared, tmp_path, capsys):
  folder, _ = prepared(16)
  def configured(iterations):
    return flags.parse([
        'main.py', '--datasource=images', f'--data_dir={folder}', '--num_filters=4',
        f'--logdir={tmp_path / "runs"}', f'--metatrain_iterations={iterations}',
        '--meta_batch_size=2', '--num_test_tasks=6', '--num_validation_tasks=4',
        '--validation_interval=2', '--test_num_updates=2', '--test_set=True'])
  assert application.run(configured(2)) == 0
  assert application.run(configured(4)) == 0
  output = capsys.readouterr().out
  assert 'Resumed at iteration 2 of 4' in output and 'of the test classes' in output
  run = experiment_folder(configured(4))
  with open(f'{run}/test_ubs1_stepsize0.4.json', encoding='utf-8') as file:
    assert json.load(file)['split'] == 'test'
  # Its configuration alone, with the data gone, describes the same net.
  with open(f'{run}/config.json', encoding='utf-8') as file:
    stored = json.load(file)
  stored['task']['data_dir'] = run
  assert Config.from_dict(stored).problem.shape == (16, 16, 3)


@pytest.mark.parametrize('size', [16, 40])
def test_a_run_of_another_net_goes_on_where_the_data_were_moved(size, prepared, tmp_path):
  def prepare(folder):
    return prepare_folder(flags.parse([
        'main.py', '--datasource=images', f'--data_dir={folder}', '--model=resnet12',
        f'--logdir={tmp_path / "runs"}']))
  shutil.copytree(prepared(size)[0], tmp_path / 'before')
  run = prepare(tmp_path / 'before')
  Path(run, 'model-1.index').touch()
  shutil.move(tmp_path / 'before', tmp_path / 'after')
  assert stored_config(run).learner.model == 'resnet12'
  assert prepare(tmp_path / 'after') == run


def test_a_manifest_that_cannot_be_kept_is_one_sentence(prepared, tmp_path, monkeypatch):
  folder, _ = prepared(16)
  config = flags.parse(['main.py', '--datasource=images', f'--data_dir={folder}'])
  config.problem.keep_beside(str(tmp_path), config)
  with open(f'{folder}/manifest.json', 'rb') as file:
    assert (tmp_path / 'manifest.json').read_bytes() == file.read()
  (tmp_path / 'manifest.json').unlink()
  def full(_):
    raise OSError(errno.ENOSPC, 'No space left on device')
  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(WriteError, match='manifest.json cannot be written .No space left'):
    config.problem.keep_beside(str(tmp_path), config)
  assert not list(tmp_path.iterdir())   # half a manifest would be taken for one


def test_without_the_data_it_is_said_how_to_prepare_them(tmp_path):
  config = flags.parse(['main.py', '--datasource=images', '--log=False',
                        f'--data_dir={tmp_path / "none"}', f'--logdir={tmp_path}'])
  assert config.problem is problems.named('images')
  with pytest.raises(DataError, match='prepare_images.py --source=SOURCE'):
    config.problem.keep_beside(str(tmp_path), config)
  with pytest.raises(DataError, match='prepare_images.py --source=SOURCE'):
    config.problem.source(config, 'train', 1)
