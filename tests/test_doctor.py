"""The doctor: its stored values by NumPy alone, and what it says of what is wrong."""

import math
import sys

import numpy as np
import pytest

from maml_tf import doctor


def points():
  """(x, y), each `[tasks, 6]`: three of the support set, three of the query set."""
  drawn = doctor.sinusoids()
  amplitude, phase = (drawn[name][:, np.newaxis] for name in ('amplitude', 'phase'))
  return drawn['x'], amplitude * np.sin(drawn['x'] - phase)


def error_and_gradient(theta, x, y):
  """Mean squared error of a net 1-4-1 with ReLU, and its gradient, written out."""
  first, first_bias, second, second_bias = theta[:4], theta[4:8], theta[8:12], theta[12]
  hidden = x[:, np.newaxis] * first + first_bias
  active = np.maximum(hidden, 0)
  difference = active @ second + second_bias - y
  outer = 2 * difference / len(x)
  inner = outer[:, np.newaxis] * second * (hidden > 0)
  gradient = np.concatenate([x @ inner, inner.sum(0), outer @ active, [outer.sum()]])
  return (difference ** 2).mean(), gradient


def query_loss(theta):
  """The mean over tasks, after two steps of 0.05 on the support set."""
  losses = []
  for x, y in zip(*points()):
    adapted = theta
    for _ in range(2):
      adapted = adapted - 0.05 * error_and_gradient(adapted, x[:3], y[:3])[1]
    losses.append(error_and_gradient(adapted, x[3:], y[3:])[0])
  return np.mean(losses)


def slopes(theta, size=1e-5):
  """Central differences, of the fourth order."""
  def along(direction):
    return (8 * (query_loss(theta + size * direction) - query_loss(theta - size * direction))
            - query_loss(theta + 2 * size * direction)
            + query_loss(theta - 2 * size * direction)) / (12 * size)
  return np.array([along(direction) for direction in np.eye(len(theta))])


def test_the_stored_values_are_those_of_numpy():
  theta = np.concatenate([doctor.numbers(4), doctor.numbers(4), doctor.numbers(4),
                          doctor.numbers(1)])
  assert math.isclose(query_loss(theta), doctor.STORED['loss'], rel_tol=1e-13)
  gradient = slopes(theta)
  assert math.isclose(np.linalg.norm(gradient), doctor.STORED['gradient norm'], rel_tol=1e-8)
  after = query_loss(theta - doctor.OUTER_STEP_SIZE * gradient)
  assert math.isclose(after, doctor.STORED['loss after the step'], rel_tol=1e-9)


def test_all_is_well_here(capsys, tmp_path, monkeypatch):
  monkeypatch.setenv('OMP_NUM_THREADS', '3')
  monkeypatch.setenv('TF_TOKEN_MADE_UP', 'unknown')
  assert doctor.main([f'--data_dir={tmp_path}']) == doctor.DONE
  out, err = capsys.readouterr()
  assert out.count('as stored') == 3 and 'All is well.' in out and err == ''
  assert 'OMP_NUM_THREADS=3' in out and 'TOKEN' not in out
  assert 'tensorflow 2' in out and f'{tmp_path}/omniglot: not there' in out


def test_a_wrong_step_is_said(capsys, tmp_path, monkeypatch):
  wrong = {**doctor.STORED, 'gradient norm': doctor.STORED['gradient norm'] * (1 + 1e-9)}
  monkeypatch.setattr(doctor, 'meta_step', lambda: wrong)
  assert doctor.main([f'--data_dir={tmp_path}']) == doctor.FAILED
  out, err = capsys.readouterr()
  assert out.count('WRONG') == 1 and 'send all of this' in err
  monkeypatch.setattr(doctor, 'meta_step', lambda: {**doctor.STORED, 'loss': math.nan})
  assert doctor.main([f'--data_dir={tmp_path}']) == doctor.FAILED


def test_without_tensorflow_the_rest_is_said(capsys, tmp_path, monkeypatch):
  monkeypatch.delattr('maml_tf.devices', raising=False)
  monkeypatch.setitem(sys.modules, 'maml_tf.devices', None)
  assert doctor.main([f'--data_dir={tmp_path}']) == doctor.FAILED
  out = capsys.readouterr().out
  assert 'Packages' in out and 'Meta-step   failed: ' in out


def test_prepared_and_damaged_sets(sample_data, tmp_path):
  folder = sample_data('omniglot')
  (tmp_path / 'omniglot').symlink_to(folder)
  (tmp_path / 'miniimagenet').mkdir()
  (damaged, prepared), folders = doctor.data(str(tmp_path))
  assert 'miniimagenet' in damaged and 'manifest.json' in damaged
  assert folders == [str(tmp_path / 'miniimagenet')]
  assert prepared.endswith('omniglot: classes train 5, val 4, test 4')


def test_a_damaged_set_is_not_well(capsys, tmp_path, monkeypatch):
  monkeypatch.setattr(doctor, 'meta_step', lambda: doctor.STORED)
  (tmp_path / 'omniglot').mkdir()
  (tmp_path / 'omniglot' / 'manifest.json').write_text('{')
  assert doctor.main([f'--data_dir={tmp_path}']) == doctor.FAILED
  out, err = capsys.readouterr()
  assert 'as stored' in out and 'All is well.' not in out
  assert err.startswith(f'maml_tf.doctor: {tmp_path}/omniglot cannot be used')


def test_a_mistake_is_one_sentence(capsys):
  with pytest.raises(SystemExit) as caught:
    doctor.main(['--no_such_flag'])
  assert caught.value.code == 2
  assert capsys.readouterr().err.startswith('maml_tf.doctor: ')
