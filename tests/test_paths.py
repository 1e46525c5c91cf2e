"""One rule for every path that a user gives."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from pathlib import Path

import pytest

import flags
from maml_tf import paths
from maml_tf.config import ConfigError, resolve
from maml_tf.sources import image_set

FIELDS = ('logdir', 'data_dir', 'legacy_checkpoint', 'pretrained')


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.setenv('USERPROFILE', str(tmp_path))
  return str(tmp_path)


@pytest.mark.parametrize('name', FIELDS)
def test_a_tilde_is_the_home_in_every_path_of_main(name, home):
  """A shell leaves it behind '='; nothing replaced it in a flagfile."""
  value = resolve({name: '~/x.npz'}).to_values()[name]
  assert value == os.path.join(home, 'x.npz')


def test_the_presets_of_own_images_see_the_same_folder(home):
  """They are made of what the folder holds, before all values are known."""
  classes = [[{'name': f'{split}{number}', 'count': 9} for number in range(6)]
             for split in image_set.SPLITS]
  manifest = {'format': image_set.FORMAT, 'version': image_set.VERSION, 'name': 'images',
              'image_shape': [20, 20, 3], 'preparation': {}, 'splits': {
                  split: {'file': f'{split}.npy', 'sha256': 64 * '0', 'classes': of_split}
                  for split, of_split in zip(image_set.SPLITS, classes)}}
  os.mkdir(os.path.join(home, 'mine'))
  with open(os.path.join(home, 'mine', 'manifest.json'), 'w', encoding='utf-8') as file:
    json.dump(manifest, file)
  config = resolve(dict(datasource='images', data_dir='~/mine'))
  assert config.run.logdir == 'logs/mine' and not config.learner.max_pool   # small images


def test_in_a_flagfile_too(home, tmp_path):
  (tmp_path / 'mine.flags').write_text('--logdir=~/runs\n')
  config = flags.parse(['main.py', '--flagfile=~/mine.flags'])
  assert config.run.logdir == os.path.join(home, 'runs')


@pytest.mark.parametrize('name', FIELDS)
def test_a_user_that_is_not_there_is_refused(name):
  with pytest.raises(ConfigError, match=f"--{name}=.*no user '~nobody-of-that-name'"):
    resolve({name: '~nobody-of-that-name/x.npz'})
  assert resolve({name: './~nobody-of-that-name/x.npz'})


def commands():
  """{command: (its parser, arguments with a path)}."""
  from maml_tf import export, predict, retest, verify
  from maml_tf.legacy import compare, convert
  support, query = '--support=a', '--query=b'
  return {
      'predict --run': (predict._parser(), ['--run=~/x', support, query]),
      'predict --support': (predict._parser(), ['--support=~/x', query]),
      'predict --query': (predict._parser(), [support, '--query', '~/x', 'c']),
      'predict --out': (predict._parser(), [support, query, '--out=~/x']),
      'export --run': (export._parser(), ['--run=~/x', '--out=a']),
      'export --support': (export._parser(), ['--support=~/x', '--out=a']),
      'export --out': (export._parser(), ['--out=~/x']),
      'retest --run': (retest._parser(), ['--run=~/x']),
      'retest --data_dir': (retest._parser(), ['--run=a', '--data_dir=~/x']),
      'verify --logdir': (verify._parser(), ['--logdir=~/x']),
      'verify --results': (verify._parser(), ['--results=~/x']),
      'verify --data_dir': (verify._parser(), ['--data_dir=~/x']),
      'verify --plan': (verify._parser(), ['--plan=~/x']),
      'convert': (convert._parser(), ['--out=~/x']),
      'compare': (compare._parser(), ['~/x'])}


def test_in_the_commands_as_in_main(home):
  for command, (parser, arguments) in commands().items():
    values = vars(parser.parse_args(arguments)).values()
    assert os.path.join(home, 'x') in [
        value[0] if isinstance(value, list) and value else value for value in values], command


def test_an_empty_path_is_refused():
  for text in ('', '  '):
    with pytest.raises(argparse.ArgumentTypeError, match='a path is missing'):
      paths.argument(text)


@pytest.mark.parametrize('name', ['runs/lr=[0.1,1]', 'maml [1]/logs', 'back\\slash',
                                  'bad\udcff\udcfe'])
@pytest.mark.parametrize('field', ['logdir', 'legacy_checkpoint'])
def test_what_tensorflow_cannot_have_in_a_checkpoint_s_path_is_refused_at_the_start(
    field, name):
  """It failed at the first checkpoint, after hours, and said that the disk was full."""
  if os.sep == '\\' and '\\' in name:
    pytest.skip('a separator here')
  with pytest.raises(ConfigError, match=f'--{field}=.*(brackets|backslash|UTF-8)'):
    resolve({field: name})


@pytest.mark.parametrize('field', ['logdir', 'legacy_checkpoint'])
@pytest.mark.parametrize('url', ['gs://bucket/runs', 'file:///tmp/runs', 'hdfs://host/runs'])
def test_a_url_is_no_folder(field, url):
  """TensorFlow wrote its files there, all else into a folder 'gs:' of this machine, and the
  first checkpoint failed for want of space."""
  with pytest.raises(ConfigError, match=f'--{field}={url}.*folders of this machine'):
    resolve({field: url})


@pytest.mark.parametrize('field', ['logdir', 'data_dir'])
@pytest.mark.parametrize('blank', ['', '  '])
def test_a_blank_is_no_folder(field, blank):
  with pytest.raises(ConfigError, match=f'--{field} is empty'):
    resolve({field: blank})


@pytest.mark.parametrize('command', ['predict --run', 'export --out'])
def test_commands_that_read_or_write_checkpoints_refuse_it_likewise(command, capsys):
  with pytest.raises(argparse.ArgumentTypeError, match='UTF-8'):
    paths.of_checkpoints('bad\udcff')
  parser, arguments = commands()[command]
  with pytest.raises(SystemExit):
    parser.parse_args([argument.replace('~/x', 'lr=[0.1,1]') for argument in arguments])
  error = capsys.readouterr().err
  assert 'which TensorFlow does not take' in error and len(error.splitlines()) == 1


@pytest.mark.parametrize('name', ['a[b', 'a]b[', 'löc é日本', 'a blank', 'a*b', 'q?', "it's"])
def test_other_names_are_taken(name):
  assert resolve({'logdir': name}).run.logdir == name


def test_a_script_is_named_as_it_can_be_called_from_here(tmp_path, monkeypatch):
  own = Path(paths.__file__).parents[1] / 'main.py'
  monkeypatch.chdir(own.parent)
  assert paths.of_script('main.py') == 'main.py'
  monkeypatch.chdir(tmp_path)
  assert paths.of_script('main.py') == shlex.quote(str(own))
  (tmp_path / 'main.py').touch()   # of somebody else
  assert paths.of_script('main.py') == shlex.quote(str(own))
  monkeypatch.chdir(own.parent)
  assert paths.of_script('no_such.py') == 'no_such.py'
