"""TF1 checkpoints: reading, writing, converting, testing and training with them."""

from __future__ import annotations

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from maml_tf import application, command_line, experiment
from maml_tf.config import ConfigError, resolve
from maml_tf.errors import CheckpointError
from maml_tf.legacy import checkpoint, convert
from maml_tf.legacy.names import to_legacy
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.run_data import require_same_data
from maml_tf.training.run_folder import experiment_folder, prepare_folder

LEGACY = pathlib.Path(__file__).parents[2] / 'shared' / 'legacy'
needs_released = pytest.mark.skipif(
    not (LEGACY / 'model59000.index').exists(),
    reason='the released checkpoint is not in ../shared/legacy')
NETS = [{'datasource': datasource, 'conv': conv, 'norm': norm}
        for datasource, conv in (('omniglot', True), ('omniglot', False),
                                 ('sinusoid', False))
        for norm in ('batch_norm', 'layer_norm', 'None')]
NETS += [{'datasource': 'miniimagenet'}, {'datasource': 'sinusoid', 'baseline': 'oracle'}]


def save(path, tensors):
  """A checkpoint of these tensors, as a Saver of TF1 writes it."""
  os.makedirs(os.path.dirname(path), exist_ok=True)
  tf.raw_ops.SaveV2(prefix=str(path), tensor_names=list(tensors),
                    shape_and_slices=[''] * len(tensors), tensors=list(tensors.values()))
  return str(path)


@pytest.fixture
def net(generic_values):
  """A learner, its parameters under this project's names, and under TF1's."""
  learner = experiment.build_learner(resolve({'datasource': 'omniglot', 'num_filters': 3}))
  values = generic_values(learner, dtype='float32')
  return learner, values, to_legacy(learner, values)


def message_of(path, learner, **kwargs) -> str:
  """The refusal, checked to be one sentence."""
  with pytest.raises(CheckpointError) as caught:
    checkpoint.read(str(path), learner, **kwargs)
  message = str(caught.value)
  assert '\n' not in message and message.endswith('.') and '. ' not in message
  return message


@pytest.mark.parametrize('datasource, another_split', [
    ('omniglot', True), ('sinusoid', False)])
def test_a_net_that_may_know_the_tested_classes_is_not_tested_in_silence(
    datasource, another_split, tmp_path, generic_values, capsys):
  path = str(tmp_path / 'model1')
  config = resolve({'datasource': datasource, 'train': False, 'legacy_checkpoint': path})
  model = experiment.build_model(config)
  checkpoint.write(path, model.learner, generic_values(model.learner, dtype='float32'))
  assert checkpoint.load(config, model) == path
  said = capsys.readouterr().out
  assert ('the net was trained on' in said) == another_split
  assert said.count('\n') == another_split


@pytest.mark.parametrize('given', NETS, ids=str)
def test_round_trip_of_every_net(given, tmp_path, generic_values):
  learner = experiment.build_learner(resolve(given))
  values = generic_values(learner, dtype='float32')
  checkpoint.write(str(tmp_path / 'model7'), learner, values)
  again = checkpoint.read(str(tmp_path / 'model7'), learner)
  assert list(again) == [spec.name for spec in learner.parameter_specs]
  for name, value in values.items():
    assert again[name].dtype == value.dtype and again[name].tobytes() == value.tobytes()
  reader = tf.train.load_checkpoint(str(tmp_path / 'model7'))
  assert sorted(reader.get_variable_to_shape_map()) == sorted(to_legacy(learner, values))
  # What the TF1 code looks for when it resumes.
  assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / 'model7')


@needs_released
def test_the_released_checkpoint_comes_back_byte_for_byte(tmp_path):
  learner = experiment.build_learner(resolve({'datasource': 'miniimagenet'}))
  values = checkpoint.read(str(LEGACY / 'model59000'), learner)
  assert sum(value.size for value in values.values()) == 32773
  checkpoint.write(str(tmp_path / 'model59000'), learner, values)
  for name in ('model59000.index', 'model59000.data-00000-of-00001'):
    assert (tmp_path / name).read_bytes() == (LEGACY / name).read_bytes()


@pytest.mark.parametrize('name', ['model7', 'model7.index', 'model7.data-00000-of-00001',
                                  'model7.meta', ''])
def test_path_forms(net, tmp_path, name):
  learner, values, tensors = net
  save(tmp_path / 'model7', tensors)
  assert checkpoint.resolve_path(str(tmp_path / name)).rstrip('/') == str(tmp_path / 'model7')
  read = checkpoint.read(str(tmp_path / name), learner)
  np.testing.assert_array_equal(read['conv1/kernel'], values['conv1/kernel'])


def test_folder_of_several_checkpoints(net, tmp_path):
  learner, values, tensors = net
  save(tmp_path / 'model1000', tensors)
  save(tmp_path / 'model2000', tensors)
  assert 'model1000, model2000' in message_of(tmp_path, learner)
  # The TF1 code wrote this file, perhaps on another machine.
  (tmp_path / 'checkpoint').write_text(
      'model_checkpoint_path: "/elsewhere/model2000"\n'
      'all_model_checkpoint_paths: "/elsewhere/model1000"\n')
  assert checkpoint.resolve_path(str(tmp_path)) == str(tmp_path / 'model2000')
  (tmp_path / 'checkpoint').write_bytes(b'\xff\x00 not a state')
  assert 'model1000, model2000' in message_of(tmp_path, learner)


@pytest.mark.parametrize('path, iteration', [
    ('a/model59000', 59000), ('model0', 0), ('a12/final', None), ('model10.ckpt', 10),
    ('model.ckpt-300', 300)])
def test_iteration(path, iteration):
  assert checkpoint.iteration_of(path) == iteration


def test_what_a_saver_of_all_variables_adds_is_left_out(net, tmp_path):
  learner, values, tensors = net
  zeros = {f'{name}/{slot}': np.zeros_like(value) for name, value in tensors.items()
           for slot in ('Adam', 'Adam_1', 'Adam_2', 'Adam_3')}
  powers = {f'beta{i}_power{suffix}': np.float32(0.9) for i in (1, 2)
            for suffix in ('', '_1')}
  averages = {f'model/{i}/moving_{kind}': np.ones(3, np.float32) for i in range(4)
              for kind in ('mean', 'variance')}
  path = save(tmp_path / 'all', {**tensors, **zeros, **powers, **averages,
                                 'global_step': np.int64(5)})
  read = checkpoint.read(path, learner)
  for name, value in values.items():
    np.testing.assert_array_equal(read[name], value)


@pytest.mark.parametrize('extra', ['model/w6', 'other/conv1', 'model/conv1/Adamant',
                                   'model/9/moving_mean', 'beta3_power'])
def test_anything_else_left_over_is_named(net, tmp_path, extra):
  learner, _, tensors = net
  path = save(tmp_path / 'more', {**tensors, extra: np.zeros(3, np.float32)})
  assert extra in message_of(path, learner)


def test_missing_and_misshapen_tensors_are_named(net, tmp_path):
  learner, _, tensors = net
  for name in tensors:
    path = save(tmp_path / 'less', {key: value for key, value in tensors.items()
                                    if key != name})
    assert f'lacks {name}' in message_of(path, learner)
    wrong = {**tensors, name: np.zeros((2, *tensors[name].shape), np.float32)}
    message = message_of(save(tmp_path / 'wrong', wrong), learner)
    assert name in message and '--num_filters' in message


@pytest.mark.parametrize('value, shown', [
    (np.zeros(3, np.int32), 'int32'), (np.array([1, np.nan, 2], np.float32), 'not finite'),
    (np.array([0.1, 0.2, 0.3]), '--dtype=float64'), (np.array([1e300, 0, 0]), 'float64')])
def test_values_that_cannot_be_parameters(net, tmp_path, value, shown):
  learner, _, tensors = net
  path = save(tmp_path / 'odd', {**tensors, 'model/0/beta': value})
  message = message_of(path, learner)
  assert 'model/0/beta' in message and shown in message


def test_float64_holds_both_precisions(net, tmp_path):
  learner, values, tensors = net
  path = save(tmp_path / 'single', tensors)
  read = checkpoint.read(path, learner, dtype='float64')
  assert all(value.dtype == np.float64 for value in read.values())
  np.testing.assert_array_equal(read['conv2/kernel'], values['conv2/kernel'])


def test_damaged_files(net, tmp_path):
  learner, _, tensors = net
  save(tmp_path / 'whole', tensors)
  index = (tmp_path / 'whole.index').read_bytes()
  data = (tmp_path / 'whole.data-00000-of-00001').read_bytes()
  damaged = [(index[:size], data) for size in (0, 1, 50, len(index) // 2, len(index) - 1)]
  damaged += [(index, data[:size]) for size in (0, 1, len(data) // 2, len(data) - 1)]
  for part in range(0, len(index), 23):
    changed = bytearray(index)
    changed[part] ^= 0x10
    damaged.append((bytes(changed), data))
  changed = bytearray(data)
  changed[len(data) // 3] ^= 1
  damaged += [(index, bytes(changed)), (b'\0' * len(index), data), (index + index, data),
              (data, index), (index, None)]
  refused = 0
  for number, (index_bytes, data_bytes) in enumerate(damaged):
    path = tmp_path / f'damaged{number}'
    path.with_suffix('.index').write_bytes(index_bytes)
    if data_bytes is not None:
      path.with_suffix('.data-00000-of-00001').write_bytes(data_bytes)
    try:
      read = checkpoint.read(str(path), learner)
    except CheckpointError as error:
      assert str(path) in str(error)
      assert '\n' not in str(error) and '. ' not in str(error)
      refused += 1
    else:   # a byte of the index that means nothing
      assert all((read[name] == value).all() for name, value in
                 checkpoint.read(str(tmp_path / 'whole'), learner).items())
  assert refused >= len(damaged) - 3


def test_foreign_files(net, tmp_path):
  learner, _, tensors = net
  assert 'There is no checkpoint' in message_of(tmp_path / 'nothing', learner)
  assert 'There is no checkpoint' in message_of(tmp_path, learner)
  (tmp_path / 'text').write_text('hello\n')
  message_of(tmp_path / 'text', learner)
  np.savez(tmp_path / 'arrays.npz', **{'model/conv1': np.zeros(3)})
  message_of(tmp_path / 'arrays.npz', learner)
  model = experiment.build_model(resolve({'datasource': 'sinusoid'}))
  path = Checkpoints(str(tmp_path / 'run'), parameters=model.meta_parameters).save(10)
  message = message_of(path, learner)
  assert 'TensorFlow 2' in message and '--logdir' in message


def test_writing_where_that_is_not_possible(net, tmp_path):
  learner, values, _ = net
  (tmp_path / 'file').write_text('x')
  with pytest.raises(CheckpointError, match='cannot be written'):
    checkpoint.write(str(tmp_path / 'file' / 'model1'), learner, values)


# --- main.py and the conversion ---------------------------------------------

@pytest.fixture
def legacy_sinusoid(tmp_path, generic_values):
  """(path of a TF1 checkpoint of the sinusoid net, its parameters)."""
  learner = experiment.build_learner(resolve({}))
  values = generic_values(learner, dtype='float32')
  checkpoint.write(str(tmp_path / 'tf1' / 'model300'), learner, values)
  return str(tmp_path / 'tf1' / 'model300'), values


def test_main_tests_a_tf1_checkpoint(legacy_sinusoid, small_config, capsys):
  path, values = legacy_sinusoid
  config = small_config(train=False, legacy_checkpoint=path)
  assert application.run(config) == command_line.DONE
  assert path in capsys.readouterr().out
  [result] = pathlib.Path(experiment_folder(config)).glob('*.json')
  result = json.loads(result.read_text())
  assert result['checkpoint'] == path and result['iteration'] == 300
  model = experiment.build_model(config)
  model.meta_parameters.assign(values)
  expected = application.test(config, model, experiment_folder(config)).results
  assert result['updates']['update2']['loss']['mean'] == pytest.approx(
      float(expected.query['loss'][:, 2].mean()), rel=1e-6)


def test_main_starts_training_from_a_tf1_checkpoint(legacy_sinusoid, small_config):
  path, values = legacy_sinusoid
  config = small_config(legacy_checkpoint=path, metatrain_iterations=0)
  assert application.run(config) == command_line.DONE
  model = experiment.build_model(config)
  Checkpoints(experiment_folder(config), parameters=model.meta_parameters)
  tested = small_config(train=False, metatrain_iterations=0)
  application.load_for_test(tested, model, experiment_folder(tested))
  for name, value in model.meta_parameters.arrays().items():
    np.testing.assert_array_equal(value, values[name])


@pytest.mark.slow
def test_a_run_that_goes_on_does_not_read_what_it_began_with(
    legacy_sinusoid, small_config, tmp_path, capsys):
  config = small_config(legacy_checkpoint=legacy_sinusoid[0], metatrain_iterations=0)
  assert application.run(config) == command_line.DONE
  assert 'Parameters of a new run: from' in capsys.readouterr().out
  shutil.move(tmp_path / 'tf1', tmp_path / 'moved')
  config = small_config(legacy_checkpoint=legacy_sinusoid[0], metatrain_iterations=20)
  assert application.run(config) == command_line.DONE
  assert 'Parameters of a new run' not in capsys.readouterr().out
  # Nor is the run that begins anew allowed without it.
  config = small_config(legacy_checkpoint=legacy_sinusoid[0], resume=False)
  assert application.run(config) == command_line.REFUSED


def test_a_run_from_scratch_is_not_continued_from_a_tf1_checkpoint(
    legacy_sinusoid, small_config, capsys):
  assert application.run(small_config(metatrain_iterations=0)) == command_line.DONE
  config = small_config(metatrain_iterations=0, legacy_checkpoint=legacy_sinusoid[0])
  assert application.run(config) == command_line.REFUSED
  assert 'legacy_checkpoint' in capsys.readouterr().err


def test_a_run_of_the_tf1_code_is_neither_gone_on_with_nor_overwritten(
    legacy_sinusoid, small_config):
  """Its folder has the name that this project gives, and its command resumed there."""
  folder = pathlib.Path(experiment_folder(small_config()))
  shutil.copytree(os.path.dirname(legacy_sinusoid[0]), folder)
  before = {path.name: path.read_bytes() for path in folder.iterdir()}
  with pytest.raises(ConfigError, match=r'TF1 code, .*--legacy_checkpoint=.*/model300'):
    prepare_folder(small_config())
  assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
  prepare_folder(small_config(resume=False))
  assert (folder.parent / f'{folder.name}.previous1' / 'model300.index').exists()


@pytest.mark.parametrize('train', [True, False])
def test_main_refuses_a_checkpoint_that_does_not_fit(legacy_sinusoid, small_config, capsys,
                                                     train):
  config = small_config(norm='layer_norm', train=train,
                        legacy_checkpoint=legacy_sinusoid[0])
  assert application.run(config) == command_line.REFUSED
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and 'lacks model/0/beta' in error
  assert not os.path.exists(experiment_folder(config))


def test_conversion_there_and_back(legacy_sinusoid, tmp_path, capsys):
  path, values = legacy_sinusoid
  out = str(tmp_path / 'runs')
  assert convert.main([f'--legacy_checkpoint={path}', f'--out={out}']) == command_line.DONE
  assert 'model-300' in capsys.readouterr().out
  config = resolve({'train': False, 'logdir': out})
  model = experiment.build_model(config)
  restored, iteration = application.load_for_test(config, model, experiment_folder(config))
  assert iteration == 300 and restored.endswith('model-300')
  for name, value in model.meta_parameters.arrays().items():
    assert value.tobytes() == values[name].tobytes()
  back = str(tmp_path / 'back')
  assert convert.main(['--to_legacy', f'--out={back}', f'--logdir={out}']) == command_line.DONE
  for name in ('model300.index', 'model300.data-00000-of-00001', 'checkpoint'):
    assert (tmp_path / 'back' / name).read_bytes() == (tmp_path / 'tf1' / name).read_bytes()


@pytest.mark.slow
def test_a_converted_run_can_be_trained_on(legacy_sinusoid, tmp_path, small_config, capsys):
  path, _ = legacy_sinusoid
  config = small_config(metatrain_iterations=400)
  flags = ['--meta_batch_size=4', '--num_test_tasks=6', '--num_validation_tasks=4',
           '--update_lr=0.01', '--xla=off']
  assert convert.main([f'--legacy_checkpoint={path}', f'--out={config.run.logdir}',
                       *flags]) == command_line.DONE
  assert application.run(config) == command_line.DONE
  assert 'Resumed at iteration 300 of 400' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, shown', [
    ([], '--out'), (['--out=x'], '--legacy_checkpoint'),
    (['--out=x', '--legacy_checkpoint=missing/model1'], 'missing/model1'),
    (['--out=x', '--to_legacy', '--legacy_checkpoint=model1'], '--to_legacy'),
    (['--out=x', '--to_legacy', '--pretrained=sinusoid_5shot'], '--pretrained'),
    (['--out=x', '--to_legacy', '--logdir=missing'], 'no checkpoint'),
    (['--out=x', '--to_legacy', '--test_iter=7', '--logdir=missing'], '--test_iter=7'),
    (['--out=x[1]', '--to_legacy'], 'x[1] is not allowed: it has a pair of brackets'),
    (['--out=gs://x', '--legacy_checkpoint=model1'], 'gs://x is not allowed: it is a URL'),
    (['--out=x', '--bogus=1'], '--bogus')])
def test_conversions_that_are_refused(arguments, shown, capsys, monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  try:
    code = convert.main(arguments)
  except SystemExit as caught:
    code = caught.code
  error = capsys.readouterr().err
  assert code == command_line.REFUSED and error.count('\n') == 1 and shown in error
  assert not (tmp_path / 'x').exists()


METHOD_WITH_MORE = '''
from maml_tf.learners.base import ParameterSpec, zeros
from maml_tf.meta_learners.maml import MAML


class WithMore(MAML):

  def __init__(self, *args, **kwargs):
    super().__init__(*args, own_specs=[ParameterSpec('more', (2,), zeros)], **kwargs)
'''


@pytest.mark.parametrize('given, shown', [
    (['--method=context_vector', '--norm=layer_norm'], '--method=context_vector'),
    (['--method=meta_sgd'], '--method=meta_sgd'),
    (['--method=maml_plus_plus'], '--method=maml_plus_plus'),
    (['--learned_step_sizes=layer'], '--learned_step_sizes=layer'),
    (['--method=prototypical'], '--method=prototypical'),
    (['--model=resnet12'], '--model=resnet12'),
    (['--baseline=nearest_neighbour'], '--baseline=nearest_neighbour'),
    (['--datasource=point_navigation'], '--datasource=point_navigation'),
    (['--method=own.py:WithMore'], ':WithMore, which has other parameters')])
def test_what_the_tf1_code_does_not_have_is_not_written_for_it(given, shown, tmp_path, capsys,
                                                                monkeypatch):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('own.py').write_text(METHOD_WITH_MORE)
  assert convert.main(['--to_legacy', f'--out={tmp_path / "x"}', '--datasource=omniglot',
                       f'--logdir={tmp_path}', *given]) == command_line.REFUSED
  error = capsys.readouterr().err
  assert error.startswith('maml_tf.legacy.convert: --to_legacy does not fit ')
  assert shown in error and error.count('\n') == 1 and 'legacy_checkpoint' not in error
  assert not (tmp_path / 'x').exists()


def test_a_method_that_learns_more_starts_from_no_checkpoint_of_the_tf1_code(
    legacy_sinusoid, small_config, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('own.py').write_text(METHOD_WITH_MORE)
  legacy = dict(legacy_checkpoint=legacy_sinusoid[0], method='own.py:WithMore')
  assert application.run(small_config(train=False, **legacy)) == command_line.REFUSED
  assert convert.main([*(f'--{name}={value}' for name, value in legacy.items()),
                       '--out=runs']) == command_line.REFUSED
  errors = capsys.readouterr().err.splitlines()
  assert len(errors) == 2 and all(
      '--legacy_checkpoint does not fit --method=own.py:WithMore' in line for line in errors)
  assert not pathlib.Path('runs').exists()


def test_a_conversion_overwrites_nothing(legacy_sinusoid, tmp_path, capsys):
  arguments = [f'--legacy_checkpoint={legacy_sinusoid[0]}', f'--out={tmp_path / "runs"}']
  assert convert.main(arguments) == command_line.DONE
  assert convert.main(arguments) == command_line.REFUSED
  back = ['--to_legacy', f'--out={tmp_path / "tf1"}', f'--logdir={tmp_path / "runs"}']
  assert convert.main(back) == command_line.REFUSED
  assert 'is there already' in capsys.readouterr().err


def test_a_converted_run_does_not_say_that_it_was_trained_on_the_data_that_are_there(
    small_config, generic_values, tmp_path, capsys):
  """On Omniglot the TF1 code had other classes to train on, and perhaps those of the test."""
  config = small_config('omniglot', logdir=str(tmp_path / 'runs'))
  learner = experiment.build_learner(config)
  checkpoint.write(str(tmp_path / 'model300'), learner,
                   generic_values(learner, dtype='float32'))
  given = dict(datasource='omniglot', num_classes=3, num_filters=4, meta_batch_size=3,
               train_query_size=2, data_dir=config.data_dir)
  assert convert.main([*(f'--{name}={value}' for name, value in given.items()),
                       f'--legacy_checkpoint={tmp_path / "model300"}',
                       f'--out={tmp_path / "runs"}']) == command_line.DONE
  capsys.readouterr()
  require_same_data(experiment_folder(config), config)
  assert 'does not say on which data it was trained' in capsys.readouterr().err


@needs_released
def test_the_released_checkpoint_is_converted(tmp_path):
  copy = tmp_path / 'released'
  shutil.copytree(LEGACY, copy, ignore=shutil.ignore_patterns('golden'))
  flags = ['--datasource=miniimagenet']
  assert convert.main([f'--legacy_checkpoint={copy}', f'--out={tmp_path / "runs"}',
                       *flags]) == command_line.DONE
  assert convert.main(['--to_legacy', f'--out={tmp_path / "back"}',
                       f'--logdir={tmp_path / "runs"}', *flags]) == command_line.DONE
  for name in ('model59000.index', 'model59000.data-00000-of-00001'):
    assert (tmp_path / 'back' / name).read_bytes() == (LEGACY / name).read_bytes()
