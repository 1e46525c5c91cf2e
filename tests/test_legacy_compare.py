"""Golden files: the TF1 code's own, and others of a plain computation."""

from __future__ import annotations

import json
import logging
import pathlib
import pickle
import zipfile

import legacy_reference
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.legacy import (
  compare,
  comparison,
  golden,
  golden_config,
  moments_effect,
  quantities,
)

GOLDEN = pathlib.Path(__file__).parents[2] / 'shared' / 'legacy' / 'golden'
NAMES = {   # {file of the TF1 code: whether it takes long}
    'sinusoid_10shot': False, 'omniglot_5way_1shot_conv': False,
    'omniglot_5way_1shot_noconv': False, 'omniglot_20way_1shot_layer_norm': True,
    'miniimagenet_5way_1shot_conv': True,
    'miniimagenet_5way_1shot_first_order_no_norm': True,
    'released_checkpoint_miniimagenet_5way_1shot': True}


def original(name: str) -> str:
  path = GOLDEN / f'{name}.npz'
  if not path.exists():
    pytest.skip(f'{path.name} is not in ../shared/legacy/golden')
  return str(path)


def run(capsys, *arguments, xla='off'):
  """(exit code, table, lines of JSON, stderr) of the command.

  TensorFlow keeps what XLA has compiled as long as the process lives: 40 MB a file.
  """
  try:
    code = compare.main([*(str(argument) for argument in arguments), f'--xla={xla}'])
  except SystemExit as caught:
    code = caught.code
  out, err = capsys.readouterr()
  lines = out.splitlines()
  summaries = [json.loads(line) for line in lines if line.startswith('{')]
  return code, '\n'.join(lines[:len(lines) - len(summaries)]), summaries, err


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """A golden file that is computed fast."""
  path = tmp_path_factory.mktemp('golden') / 'small.npz'
  return legacy_reference.golden_file(path, {'norm': 'None', 'update_batch_size': 3})


def changed(source, target, change) -> str:
  """A copy of a golden file whose {name: array} went through `change`."""
  with np.load(source) as file:
    arrays = {name: file[name] for name in file.files}
  change(arrays)
  np.savez(target, **arrays)
  return str(target)


# --- what must pass ---------------------------------------------------------

@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[pytest.mark.slow] if slow else []) for name, slow
    in NAMES.items()])
def test_golden_files_of_the_tf1_code(name, capsys):
  path = original(name)
  code, table, [summary], _ = run(capsys, path, xla='auto')
  assert code == compare.PASSED
  assert summary['file'] == path and summary['passed'] is True
  assert summary['max_relative_error'] < 1e-8
  with np.load(path) as file:
    stored = {key.split('/')[0] for key in file.files}
  stored -= {'flags', 'test_num_updates', 'init', 'labela', 'labelb', 'inputa', 'inputb',
             'inputa_uint8', 'inputb_uint8'}
  assert {quantity.split(',')[0] for quantity in summary['quantities']} == stored
  assert 'passed' in table


# Configurations that the TF1 code's own golden files do not have.
OTHERS = {
    'fully connected, layer norm': dict(
        datasource='omniglot', conv=False, norm='layer_norm', num_classes=3,
        update_batch_size=2, update_lr=0.1, num_updates=2, max_pool=True),
    'TF1 defaults: sinusoid with batch norm': dict(datasource='sinusoid'),
    'oracle': dict(datasource='sinusoid', baseline='oracle', norm='None', update_lr=0.01),
    'oracle, first order': dict(
        datasource='sinusoid', baseline='oracle', norm='None', update_lr=0.01, stop_grad=True),
    'sinusoid, layer norm, first order': dict(
        norm='layer_norm', stop_grad=True, num_updates=2, update_lr=0.01, meta_lr=0.01),
    'one point, batch norm': dict(update_batch_size=1),
    'max-pool on Omniglot': dict(
        datasource='omniglot', max_pool=True, norm='None', num_filters=3, num_classes=2,
        update_batch_size=1, update_lr=0.1, train=False, metatrain_iterations=100,
        logdir='/tmp/data', baseline=None),
    'one filter, layer norm': dict(
        datasource='omniglot', norm='layer_norm', num_filters=1, num_classes=2,
        update_batch_size=1, update_lr=0.1),
    'mini-ImageNet, layer norm, clipped': dict(
        datasource='miniimagenet', norm='layer_norm', num_filters=2, num_classes=3,
        update_batch_size=1, update_lr=0.01, num_updates=2, max_pool=True),
    'fully connected without norm': dict(
        datasource='omniglot', conv=False, norm='None', num_classes=4, stop_grad=True,
        update_batch_size=1, update_lr=0.1),
}


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[] if name == 'one point, batch norm' else [pytest.mark.slow])
    for name in OTHERS])
def test_other_configurations(name, tmp_path, capsys):
  queries = 1 if name == 'one point, batch norm' else 2
  path = legacy_reference.golden_file(tmp_path / 'other.npz', OTHERS[name], queries=queries)
  code, table, [summary], error = run(capsys, path)
  assert code == compare.PASSED, table + error
  assert len(summary['quantities']) >= 6


@pytest.mark.slow
def test_mini_imagenet_without_convolutions(tmp_path, capsys):
  path = legacy_reference.golden_file(
      tmp_path / 'large.npz', dict(datasource='miniimagenet', conv=False,
                                   update_batch_size=1, update_lr=0.1), tasks=1, steps=1)
  code, table, _, error = run(capsys, path)
  assert code == compare.PASSED, table + error


def test_the_reference_gradient_is_the_slope(tmp_path):
  """The plain computation itself, by finite differences."""
  flags = {**legacy_reference.DEFAULTS, 'norm': 'layer_norm', 'num_updates': 2,
           'update_lr': 0.05}
  net = legacy_reference.Net(flags)
  random = np.random.RandomState(3)
  theta, batch = net.random_parameters(random), net.random_batch(random, 2, 5)
  gradient = net.meta_gradient(theta, batch)
  direction = {name: random.normal(size=value.shape) for name, value in theta.items()}
  def loss(step):
    moved = {name: value + step * direction[name] for name, value in theta.items()}
    return net.results(moved, batch, 2)['post_losses'][1]
  slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
  expected = sum(np.sum(gradient[name] * direction[name]) for name in theta)
  assert slope == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_several_files_and_options(small, capsys):
  code, table, summaries, error = run(capsys, small, small, '--tasks_at_once=1',
                                      '--tolerance=1e-9')
  assert code == compare.PASSED and error == ''
  assert [summary['file'] for summary in summaries] == [small, small]
  assert table.count('meta_gradient') == 2


@pytest.mark.slow
def test_float32_judges_the_losses(small, capsys):
  code, table, [summary], _ = run(capsys, small, '--dtype=float32')
  assert code == compare.PASSED and summary['dtype'] == 'float32'
  assert 'not judged' in table
  assert summary['max_relative_error'] == max(
      summary['quantities'][name] for name in ('pre_loss', 'post_losses'))
  code, *_ = run(capsys, small, '--dtype=float32', '--tolerance=0')
  assert code == compare.FAILED


def test_a_part_of_the_results_is_enough(small, tmp_path, capsys):
  def only_gradients(arrays):
    for name in list(arrays):
      if name.startswith(('after_', 'pre_', 'post_', 'pretrain_')):
        del arrays[name]
    arrays['comment'] = np.array('what else')
  path = changed(small, tmp_path / 'part.npz', only_gradients)
  code, table, [summary], _ = run(capsys, path)
  assert code == compare.PASSED and list(summary['quantities']) == ['meta_gradient']
  assert 'comment' in table


# --- what must not pass -----------------------------------------------------

def test_a_file_without_losses_is_not_passed_in_float32(small, tmp_path, capsys):
  def no_losses(arrays):
    for name in ('pre_loss', 'post_losses'):
      del arrays[name]
  path = changed(small, tmp_path / 'gradients.npz', no_losses)
  code, table, summaries, error = run(capsys, path, '--dtype=float32')
  assert code == compare.UNUSABLE and table == '' and summaries == []
  assert error.count('\n') == 1 and f'{path} has nothing to judge in float32' in error
  assert 'where pre_loss, post_losses alone are judged: leave --dtype=float32 out' in error


QUANTITIES = ['pre_loss', 'post_losses', 'meta_gradient/model/Variable_2',
              'pretrain_gradient/model/Variable_5', 'after_2_meta_steps/model/Variable_1',
              'init/model/Variable_4', 'inputb', 'labela']


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[] if number < 2 else [pytest.mark.slow])
    for number, name in enumerate(QUANTITIES)])
def test_a_changed_value_fails(small, tmp_path, capsys, name):
  def change(arrays):
    arrays[name] = arrays[name].copy()
    arrays[name].reshape(-1)[0] += 1e-5 * np.abs(arrays[name]).max()
  code, table, [summary], _ = run(capsys, changed(small, tmp_path / 'changed.npz', change))
  assert code == compare.FAILED
  assert summary['passed'] is False and summary['max_relative_error'] > 1e-8
  assert 'FAILED' in table


@pytest.mark.parametrize('name', ['pre_loss', 'post_losses', 'init/model/Variable'])
@pytest.mark.parametrize('value', [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)])
def test_a_value_that_is_not_finite_fails(small, tmp_path, capsys, name, value):
  def change(arrays):
    arrays[name] = np.full_like(arrays[name], value)
  code, _, [summary], _ = run(capsys, changed(small, tmp_path / 'nan.npz', change))
  assert code == compare.FAILED and summary['passed'] is False
  assert summary['max_relative_error'] is None


@pytest.mark.slow
def test_a_gradient_that_must_be_zero_is_compared(tmp_path, capsys):
  source = legacy_reference.golden_file(tmp_path / 'norm.npz', {})
  code, table, [summary], _ = run(capsys, source)
  assert code == compare.PASSED and summary['quantities']['meta_gradient, zero'] < 1e-12
  def change(arrays):
    arrays['meta_gradient/model/Variable_1'][0] = 1e-6
  code, *_ = run(capsys, changed(source, tmp_path / 'changed.npz', change))
  assert code == compare.FAILED


def test_other_flags_fail(small, tmp_path, capsys):
  def change(arrays):
    arrays['flags'] = json.dumps({'norm': 'None', 'update_batch_size': 3,
                                  'update_lr': 0.0011})
  code, *_ = run(capsys, changed(small, tmp_path / 'flags.npz', change))
  assert code == compare.FAILED


# --- what cannot be used ----------------------------------------------------

def flags_of(**values):
  text = json.dumps({'norm': 'None', 'update_batch_size': 3, **values})
  return lambda arrays: arrays.update(flags=text)


def replaced(name, value):
  return lambda arrays: arrays.update({name: value})


UNUSABLE = {
    'no flags': (lambda arrays: arrays.pop('flags'), 'lacks flags'),
    'flags are no JSON': (replaced('flags', '{'), 'JSON'),
    'flags are deep': (replaced('flags', '[' * 100000), 'JSON'),
    'flags are a list': (replaced('flags', '[]'), 'object'),
    'flags are numbers': (replaced('flags', np.zeros(3)), 'text'),
    'unknown flag': (flags_of(bogus=1), 'bogus'),
    'unknown norm': (flags_of(norm='instance_norm'), 'instance_norm'),
    'flag of a wrong type': (flags_of(num_updates='five'), 'num_updates'),
    'flag is a list': (flags_of(norm=['None']), 'norm'),
    'other net': (flags_of(norm='batch_norm'), 'model/0/beta'),
    'other source': (flags_of(datasource='omniglot'), 'labels of 1 classes'),
    'oracle of images': (flags_of(datasource='omniglot', baseline='oracle'), 'oracle'),
    'no inputs': (lambda arrays: arrays.pop('inputa'), 'inputa'),
    'no labels': (lambda arrays: arrays.pop('labelb'), 'labelb'),
    'labels are texts': (replaced('labela', np.array(['a'])), 'labela'),
    'inputs of another rank': (replaced('inputa', np.zeros((2, 3))), 'inputa'),
    'inputs of other tasks': (replaced('inputa', np.zeros((2, 5, 3, 1))), 'disagree'),
    'inputs are too wide': (replaced('inputb', np.zeros((2, 2, 3, 2))), '2 values'),
    'pixels are floats': (replaced('inputa_uint8', np.zeros((2, 2, 3, 1))), 'uint8'),
    'no parameters': (lambda arrays: [arrays.pop(name) for name in list(arrays)
                                      if name.startswith('init/')], 'init'),
    'nothing to compare': (lambda arrays: [
        arrays.pop(name) for name in list(arrays)
        if name.startswith(('after', 'pre', 'post', 'meta'))], 'nothing'),
    'parameter missing': (lambda arrays: arrays.pop('init/model/Variable_3'),
                          'lacks model/Variable_3'),
    'parameter left over': (replaced('init/model/w5', np.zeros(3)), 'model/w5'),
    'gradient missing': (lambda arrays: arrays.pop('meta_gradient/model/Variable'),
                         'meta_gradient lacks model/Variable'),
    'gradient of another shape': (replaced('pretrain_gradient/model/Variable_1',
                                           np.zeros(41)), '[41] instead of [40]'),
    'too few inputs': (lambda arrays: arrays.update({
        name.replace('after_2', 'after_3'): value for name, value in list(arrays.items())
        if name.startswith('after_2')}), 'after 3 meta-steps'),
    'losses of another rank': (replaced('post_losses', np.zeros((2, 2))), 'post_losses'),
    'accuracies of a regression': (replaced('pre_accuracy', np.array(0.5)), 'accuracy'),
    'an object': (replaced('pre_loss', np.array([{}])), 'npz'),
}


@pytest.mark.parametrize('name', UNUSABLE)
def test_unusable_content(small, tmp_path, capsys, name):
  change, shown = UNUSABLE[name]
  path = changed(small, tmp_path / 'unusable.npz', change)
  code, table, summaries, error = run(capsys, path)
  assert code == compare.UNUSABLE and summaries == [] and table == ''
  assert error.count('\n') == 1 and shown in error and path in error


def test_labels_that_are_not_one_hot_and_nets_that_are_too_large(tmp_path, capsys):
  source = legacy_reference.golden_file(
      tmp_path / 'images.npz', dict(datasource='omniglot', num_filters=1, num_classes=2,
                                    update_batch_size=1), steps=1)
  def change(arrays):
    arrays['labela'] = np.full_like(arrays['labela'], 0.5)
  code, _, _, error = run(capsys, changed(source, tmp_path / 'soft.npz', change))
  assert code == compare.UNUSABLE and 'one-hot' in error

  def of_a_large_net(arrays):   # for which there is no room
    flags = json.loads(str(arrays['flags']))
    arrays['flags'] = json.dumps({**flags, 'num_filters': 10**6})
  code, _, _, error = run(capsys, changed(source, tmp_path / 'large.npz', of_a_large_net))
  assert code == compare.UNUSABLE and '[3, 3, 1, 1] instead of [3, 3, 1, 1000000]' in error


def test_damaged_and_foreign_files(small, tmp_path, capsys):
  data = pathlib.Path(small).read_bytes()
  contents = [data[:size] for size in (0, 1, 10, 1000, len(data) // 2, len(data) - 30)]
  for place in range(40, len(data), len(data) // 12):
    flipped = bytearray(data)
    flipped[place] ^= 0x55
    contents.append(bytes(flipped))
  contents += [b'text\n', pickle.dumps({'flags': '{}'}), np.lib.format.magic(1, 0)]
  for number, content in enumerate(contents):
    path = tmp_path / f'{number}.npz'
    path.write_bytes(content)
    code, _, summaries, error = run(capsys, path)
    if code == compare.UNUSABLE:
      assert error.count('\n') == 1 and str(path) in error and summaries == []
    else:   # a bit that zip does not check, like a date
      assert error == ''
  with open(tmp_path / 'single.npz', 'wb') as file:
    np.save(file, np.zeros(3))
  with zipfile.ZipFile(tmp_path / 'huge.npz', 'w') as archive:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999999,), }"
    archive.writestr('flags.npy', np.lib.format.magic(1, 0) + bytes([len(header), 0]) + header)
  for name in ('single.npz', 'huge.npz', 'missing.npz', ''):
    code, _, _, error = run(capsys, tmp_path / name)
    assert code == compare.UNUSABLE and error.count('\n') == 1


def test_the_other_files_are_still_compared(small, tmp_path, capsys):
  code, table, summaries, error = run(capsys, tmp_path / 'missing.npz', small)
  assert code == compare.UNUSABLE
  assert [summary['passed'] for summary in summaries] == [True]
  assert error.count('\n') == 1 and 'meta_gradient' in table


@pytest.mark.parametrize('arguments', [
    [], ['--dtype=float16', 'x.npz'], ['--tolerance=-1', 'x.npz'],
    ['--tolerance=nan', 'x.npz'], ['--tasks_at_once=-1', 'x.npz'], ['--bogus', 'x.npz']])
def test_a_wrong_command_line(arguments, capsys):
  code, _, _, error = run(capsys, *arguments)
  assert code == compare.UNUSABLE and error.count('\n') == 1


def test_the_log_of_the_process_is_as_loud_as_before(small, capsys):
  level = tf.get_logger().level
  assert level < logging.ERROR
  run(capsys, small)
  assert tf.get_logger().level == level


def test_tasks_at_once_must_divide(small, capsys):
  path = legacy_reference.golden_file(pathlib.Path(small).parent / 'three.npz',
                                      {'norm': 'None'}, tasks=3)
  code, _, _, error = run(capsys, path, '--tasks_at_once=2')
  assert code == compare.UNUSABLE and '--tasks_at_once=2' in error


# --- parts ------------------------------------------------------------------

def test_relative_error():
  expected = np.array([1.0, -10.0])
  assert quantities.relative_error(np.array([1.0, -9.0]), expected) == pytest.approx(0.1)
  assert quantities.relative_error(np.array([0.5, 0.0]), np.zeros(2)) == 0.5
  assert np.isnan(quantities.relative_error(np.array([np.nan, 0]), expected))


def test_tf1_defaults_are_not_the_presets(small):
  config = golden_config.config_of(golden.read(small)._replace(flags={
      'datasource': 'omniglot', 'num_classes': 1 + 1}, steps=(golden.GoldenTask(
          *[np.zeros((3, 4, 2))] * 4),)))
  assert config.learner.num_filters == 64 and config.learner.norm == 'batch_norm'
  assert config.inner_loop.update_lr == 1e-3 and config.inner_loop.num_updates == 1
  assert config.task.update_batch_size == 5
  assert config.training.meta_batch_size == 3 and config.task.train_query_size == 2
  assert config.training.meta_gradient_clip == 0


def test_bias_correction_of_tf1():
  assert comparison.bias_correction_of_tf1(1) == 1.0
  assert 0 < abs(comparison.bias_correction_of_tf1(2) - 1) < 1e-5
  assert comparison.bias_correction_of_tf1(2000) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_effect_of_tensorflows_moments(tmp_path, capsys):
  path = legacy_reference.golden_file(tmp_path / 'norm.npz', {'update_lr': 0.1})
  without = legacy_reference.golden_file(tmp_path / 'none.npz', {'norm': 'None'})
  effect = moments_effect.effect(golden.read(path))
  assert effect.meta_gradient_exact < 1e-12 and effect.pretrain_gradient < 1e-12
  assert effect.meta_gradient > 0.01
  level = tf.get_logger().level
  assert moments_effect.main([path, without]) == moments_effect.DONE
  assert tf.get_logger().level == level
  out = capsys.readouterr().out
  assert 'norm.npz' in out and 'no norm' in out
  assert moments_effect.main([str(tmp_path / 'missing.npz')]) == moments_effect.UNUSABLE


def test_the_tolerance_is_shown_as_it_was_given():
  """Not rounded to 2e-05, which an error of 1.8e-05 beside FAILED would be below."""
  compared = quantities.Comparison('x.npz', '', 'float64', (), ())
  assert compared.limit(1.5e-5) == '1.5e-05' and compared.limit(None) == '1e-08'
  compared = compared._replace(quantities=(quantities.Quantity('cg', 1, 0.0, 1e-6),))
  assert compared.limit(1.5e-5) == '1.5e-05'
  assert compared.limit(None) == '1e-08, and 1e-06 behind conjugate gradients'
