"""The meta-step without variables: the same steps as those of `fit`, and its export."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from maml_tf import experiment, export_step, pure_step, run_exported
from maml_tf.config import ConfigError, from_values, resolve
from maml_tf.sources.image_set import load_split
from maml_tf.training import phases

CASES = {
    'clipped': dict(datasource='omniglot', meta_gradient_clip=0.01),
    'anil': dict(datasource='omniglot', method='anil'),
    'miniimagenet': dict(datasource='miniimagenet', num_filters=2),
    **{schedule: dict(datasource='omniglot', method='anil', meta_lr_schedule=schedule, **given)
       for schedule, given in {
           'linear': dict(metatrain_iterations=4), 'cosine': dict(metatrain_iterations=4),
           'halving': dict(meta_lr_half_life=1)}.items()},
}
STEPS = 3


def training_images(config):
  return tf.constant(load_split(config.data_dir, config.task.datasource, 'train').images)


@pytest.mark.parametrize('case', [
    pytest.param(case, marks=[pytest.mark.slow] if case in ('miniimagenet', 'clipped') else [])
    for case in CASES])
def test_it_takes_the_steps_of_fit(case, small_config):
  config = small_config(dtype='float64', **CASES[case])
  model = phases.compile_model(config, experiment.build_model(config))
  generator = experiment.training_generator(config)
  step = tf.function(pure_step.build_pure_step(config, model), autograph=False)
  state, images = pure_step.initial_state(model), training_images(config)
  tasks = config.training.meta_batch_size
  for index in range(STEPS):
    state, loss, accuracy = step(state, images, generator.recipes(index * tasks, tasks))
  logs = model.fit(generator.dataset(0, STEPS), verbose=0, shuffle=False).history
  # Keras's value is that of the last step.
  np.testing.assert_allclose([loss, accuracy], [logs['loss'][0], logs['accuracy'][0]],
                             rtol=1e-9)
  assert int(state.iteration) == STEPS
  for name, expected in model.meta_parameters.arrays().items():
    np.testing.assert_allclose(state.parameters[name], expected, rtol=0, atol=1e-9,
                               err_msg=name)


def test_episodes_are_those_of_the_pipeline(small_config):
  config = small_config('omniglot', dtype='float64')
  generator = experiment.training_generator(config)
  recipes = generator.recipes(0, 8)
  assert len(np.unique(recipes['turns'])) == 4
  received = config.problem.episodes_on_device(config)(training_images(config), recipes)
  for value, expected in zip(*map(tf.nest.flatten, (received, generator.episodes(0, 8)))):
    np.testing.assert_allclose(value, expected, rtol=1e-15)


def test_a_step_that_is_not_finite_changes_nothing(small_config):
  config = small_config('omniglot')
  model = experiment.build_model(config)
  step = pure_step.build_pure_step(config, model)
  state = pure_step.initial_state(model)
  broken = {**state.parameters, 'output/bias': state.parameters['output/bias'] + np.inf}
  state = state._replace(parameters=broken)
  recipes = experiment.training_generator(config).recipes(
      0, config.training.meta_batch_size)
  after, loss, _ = step(state, training_images(config), recipes)
  assert not np.isfinite(loss)
  tf.nest.map_structure(np.testing.assert_array_equal, after, state)


@pytest.mark.parametrize('given, shown', [
    (dict(datasource='sinusoid'), '--datasource=sinusoid'),
    (dict(datasource='omniglot', meta_optimizer='sgd'), '--meta_optimizer=sgd'),
    (dict(datasource='omniglot', method='reptile'), '--method=reptile')])
def test_what_is_no_pure_function_is_refused(small_config, given, shown):
  config = small_config(**given)
  with pytest.raises(ConfigError, match=shown):
    pure_step.build_pure_step(config, experiment.build_model(config))


@pytest.mark.parametrize('given, shown', [
    (dict(pretrained='omniglot_5way_1shot'), '--pretrained=omniglot_5way_1shot does not fit'),
    (dict(legacy_checkpoint='to/model1'), '--legacy_checkpoint=to/model1 does not fit'),
    (dict(pretrain_iterations=5), '--pretrain_iterations=5 does not fit'),
    (dict(baseline='fine_tuning'), '--baseline=fine_tuning trains on no tasks')])
def test_a_run_that_begins_with_more_than_new_parameters_is_refused(
    given, shown, small_config, tmp_path):
  with pytest.raises(ConfigError, match=shown):
    export_step.export(small_config('omniglot', **given), str(tmp_path / 'step'), STEPS)
  assert not (tmp_path / 'step').exists()


def test_a_keras_model_is_refused_before_it_is_built(small_config):
  """Its dropout acts in `fit` alone, and its moving averages are variables."""
  config = from_values({**small_config('omniglot').to_values(), 'model': 'resnet12'})
  with pytest.raises(ConfigError, match='--model=resnet12 is a Keras model'):
    pure_step.require_supported(config)


def test_policies_are_refused_by_what_was_given(tmp_path):
  """And not by a baseline that nobody named."""
  with pytest.raises(ConfigError, match='--datasource=point_navigation has no images'):
    export_step.export(resolve(dict(datasource='point_navigation')), str(tmp_path), STEPS)


@pytest.fixture
def exported(small_config, tmp_path):
  config = small_config('omniglot')
  export_step.export(config, str(tmp_path / 'step'), STEPS)
  return config, tmp_path / 'step'


def test_the_export_describes_what_goes_in_and_comes_out(exported):
  config, folder = exported
  description = json.loads((folder / 'step.json').read_text())
  names = [item['name'] for item in description['state']]
  assert len(names) == len(set(names)) == len(description['outputs']) - 2
  assert description['outputs'] == [*names, 'loss', 'accuracy']
  assert (folder / 'step.hlo').stat().st_size > 1000
  with np.load(folder / 'inputs.npz') as arrays:
    for index, item in enumerate(description['state']):
      value = arrays[f'state/{index:03}']
      assert list(value.shape) == item['shape'] and value.dtype.name == item['dtype']
    for item in description['recipes']:
      assert arrays[f'recipes/{item["name"]}'].shape == (STEPS, *item['shape'])
    iteration = names.index('iteration')
    assert arrays[f'state/{iteration:03}'] == 0
  model = experiment.build_model(config)
  with np.load(folder / 'inputs.npz') as arrays:
    for name, value in model.meta_parameters.arrays().items():
      np.testing.assert_array_equal(
          arrays[f'state/{names.index("parameters/" + name):03}'], value)


@pytest.mark.skipif(importlib.util.find_spec('jax') is None, reason='needs JAX')
def test_jax_runs_what_was_exported(exported, capsys):
  config, folder = exported
  images = Path(config.data_dir) / 'train.npy'
  assert run_exported.main(
      ['run_exported', str(folder), f'--images={images}', f'--steps={STEPS}']) == 0
  figures = json.loads(capsys.readouterr().out.splitlines()[-1])
  model = phases.compile_model(config, experiment.build_model(config))
  logs = model.fit(experiment.training_generator(config).dataset(0, STEPS), verbose=0,
                   shuffle=False).history
  np.testing.assert_allclose(figures['last_loss'], logs['loss'][0], rtol=1e-4)


@pytest.mark.parametrize('change, message', [
    (lambda images: images.unlink(), 'No such file'),
    (lambda images: np.save(images, np.load(images)[:-1]), 'was exported for'),
    (lambda images: np.save(images, np.load(images)[::-1]), 'has other images')])
def test_other_images_are_refused(change, message, exported, tmp_path, capsys):
  config, folder = exported
  images = tmp_path / 'train.npy'
  shutil.copy(Path(config.data_dir) / 'train.npy', images)
  change(images)
  assert run_exported.main(['x', str(folder), f'--images={images}']) == 2
  assert message in capsys.readouterr().err


def test_a_copy_that_is_not_whole_is_refused_in_one_sentence(exported, capsys, monkeypatch):
  config, folder = exported
  def error():
    assert run_exported.main(['x', str(folder), f'--images={config.data_dir}/train.npy']) == 2
    sentence = capsys.readouterr().err
    assert sentence.count('\n') == 1
    return sentence
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  assert 'JAX is not installed' in error()
  (folder / 'inputs.npz').write_bytes((folder / 'inputs.npz').read_bytes()[:1000])
  assert 'FOLDER is what' in error()
  for name in ('inputs.npz', 'step.hlo', 'step.json'):
    (folder / name).unlink()
    assert name in error()


def test_the_figures_outlive_a_state_that_cannot_be_written(exported, capsys, monkeypatch):
  config, folder = exported
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
  monkeypatch.setattr(run_exported, 'run', lambda module, images, state, recipes, steps: (
      {'steps': steps}, state))
  (folder / 'state.npz').mkdir()
  assert run_exported.main(['x', str(folder), f'--images={config.data_dir}/train.npy']) == 1
  captured = capsys.readouterr()
  assert json.loads(captured.out) == {'steps': 100}
  assert 'state.npz cannot be written' in captured.err


def test_the_command_refuses_in_one_sentence(capsys, tmp_path):
  code = export_step.main(['x', f'--out={tmp_path}', '--datasource=sinusoid'])
  output = capsys.readouterr()
  assert code == 2
  assert output.err.startswith('maml_tf.export_step: --datasource=sinusoid has no')
  with pytest.raises(SystemExit):
    export_step.main(['x', f'--out={tmp_path}', '--steps=0'])
  assert "argument --steps: '0' is not allowed" in capsys.readouterr().err
