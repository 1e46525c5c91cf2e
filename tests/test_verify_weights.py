"""Weights as files: exact, checked, and loaded by `main.py`."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import flags
from data_scripts import make_sample_data
from data_scripts.plan import Layout
from maml_tf import application, command_line, experiment, verify
from maml_tf.config import ConfigError
from maml_tf.errors import CheckpointError, DataError
from maml_tf.evaluation.protocol import Evaluator
from maml_tf.measures import ACCURACY
from maml_tf.paper import records, weights
from maml_tf.paper.rows import ROWS, row_named
from maml_tf.rl.errors import MissingLibrary
from maml_tf.training import phases
from maml_tf.training.run_folder import experiment_folder

COMMITTED = [(row, seed) for row in ROWS for seed in records.seeds(row, '.npz')]
RECORDED = [(row, seed) for row in ROWS for seed in records.seeds(row, '.json')]


@pytest.fixture
def saved(small_config, generic_values, tmp_path):
  """(path, shapes, values) of a file of weights."""
  learner = experiment.build_learner(small_config())
  values = generic_values(learner, dtype='float32')
  path = tmp_path / 'seed0.npz'
  path.write_bytes(weights.to_bytes(values))
  return str(path), {name: value.shape for name, value in values.items()}, values


def write_npz(path, **arrays):
  with open(path, 'wb') as file:
    np.savez(file, **arrays)


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_weights_are_read_as_they_were(saved, dtype):
  path, shapes, values = saved
  read = weights.read(path, shapes, dtype)
  assert read.keys() == values.keys()
  for name, value in read.items():
    assert value.dtype == dtype
    np.testing.assert_array_equal(value, values[name])


def test_the_same_values_are_the_same_bytes(saved):
  path, _, values = saved
  assert weights.to_bytes(values) == Path(path).read_bytes()
  changed = {**values, next(iter(values)): next(iter(values.values())) + 1}
  assert weights.to_bytes(changed) != Path(path).read_bytes()


@pytest.mark.parametrize('change', [
    lambda values: values.pop('w1'), lambda values: values.update(w9=np.zeros(3, 'float32')),
    lambda values: values.update(w1=np.zeros([2, 2], 'float32'))],
    ids=['missing', 'left over', 'another shape'])
def test_weights_of_another_net_are_refused(saved, change):
  path, shapes, values = saved
  names = list(values)
  renamed = {f'w{index + 1}': value for index, value in enumerate(values.values())}
  change(renamed)
  write_npz(path, **{names[int(key[1:]) - 1] if int(key[1:]) <= len(names) else key: value
                     for key, value in renamed.items()})
  with pytest.raises(CheckpointError, match='does not fit what the flags') as error:
    weights.read(path, shapes)
  assert 'flagfile' in str(error.value) and '\n' not in str(error.value)


def test_values_that_are_not_finite_or_lose_digits_are_refused(saved):
  path, shapes, values = saved
  name = next(iter(values))
  broken = values[name].copy()
  broken.flat[0] = np.nan
  write_npz(path, **{**values, name: broken})
  with pytest.raises(CheckpointError, match='not finite'):
    weights.read(path, shapes)
  write_npz(path, **{**values, name: values[name].astype('float64') + 1e-12})
  with pytest.raises(CheckpointError, match='--dtype=float64'):
    weights.read(path, shapes)
  weights.read(path, shapes, 'float64')


def test_files_that_are_no_weights_are_refused(saved, tmp_path):
  path, shapes, values = saved
  whole = Path(path).read_bytes()
  np.save(tmp_path / 'one.npy', np.zeros(3))
  with zipfile.ZipFile(tmp_path / 'text.zip', 'w') as archive:
    archive.writestr('a.txt', 'text')
  with open(tmp_path / 'pickle.npz', 'wb') as file:
    np.savez(file, x=np.array([{}], dtype=object))
  promise = io.BytesIO()   # in a header, of more than any memory has
  np.lib.format.write_array_header_1_0(
      promise, {'descr': '<f4', 'fortran_order': False, 'shape': (1 << 45,)})
  with zipfile.ZipFile(tmp_path / 'promise.npz', 'w') as archive:
    archive.writestr('w1.npy', promise.getvalue())
  with zipfile.ZipFile(tmp_path / 'many.npz', 'w') as archive:   # hours, with more of them
    for number in range(10_001):
      archive.writestr(str(number), b'')
  contents = [b'', b'PK', whole[:200], whole[:-30], (tmp_path / 'one.npy').read_bytes(),
              *((tmp_path / name).read_bytes() for name in (
                  'text.zip', 'pickle.npz', 'promise.npz', 'many.npz'))]
  for content in contents:
    Path(path).write_bytes(content)
    with pytest.raises(CheckpointError, match='cannot be read as a file of weights') as error:
      weights.read(path, shapes)
    assert '\n' not in str(error.value)


def test_the_hash_of_the_record_is_checked(saved, make_record):
  path, shapes, values = saved
  row = ROWS[0]
  content = Path(path).read_bytes()
  results = make_record(row, weights={'sha256': hashlib.sha256(content).hexdigest(),
                                      'parameters': 1})
  kept = Path(results) / row.name / 'seed0.npz'
  kept.write_bytes(content)
  weights.read(str(kept), shapes)
  other = {name: value + 1 for name, value in values.items()}
  kept.write_bytes(weights.to_bytes(other))
  with pytest.raises(CheckpointError, match='is not the file that .*seed0.json records'):
    weights.read(str(kept), shapes)


@pytest.mark.parametrize('datasource', ['sinusoid', 'omniglot'])
def test_a_test_goes_on_from_what_reptile_remembers(datasource, small_config, tmp_path):
  """The second moments of its inner Adam decide how far a test's updates go."""
  config = small_config(datasource, method='reptile', inner_optimizer='adam')
  model = experiment.build_model(config)
  phases.compile_model(config, model)
  generator = experiment.training_generator(config)
  for number in range(3):
    model.train_step(generator.batch(number))
  path = tmp_path / 'seed0.npz'
  path.write_bytes(weights.to_bytes(model.state()))
  loaded, parameters_alone = (experiment.build_model(config) for _ in range(2))
  weights.load(str(path), loaded)
  parameters_alone.meta_parameters.assign(model.meta_parameters.arrays())
  episodes = experiment.evaluation_generator(config, 'test', 4).batch(0)
  expected, found, other = (tested.task_results(episodes, 3).query['loss'].numpy()
                            for tested in (model, loaded, parameters_alone))
  np.testing.assert_array_equal(found, expected)
  np.testing.assert_array_equal(other[:, 0], expected[:, 0])
  assert np.any(other[:, 1:] != expected[:, 1:])

  path.write_bytes(weights.to_bytes(model.meta_parameters.arrays()))
  with pytest.raises(CheckpointError, match='inner_steps has shape none in the file'):
    weights.load(str(path), loaded)


# Which weights.

@pytest.fixture
def two_seeds(make_record):
  row = ROWS[0]
  for seed in (3, 12):
    results = make_record(row, seed, trained=seed)
    (Path(results) / row.name / f'seed{seed}.npz').write_bytes(b'')
  return row.name, results


def test_a_row_stands_for_its_first_seed(two_seeds):
  name, results = two_seeds
  for given, seed in ((name, 3), (f'{name}:12', 12), (f'{name}:3', 3)):
    assert weights.resolve(given, results) == (
        os.path.join(results, name, f'seed{seed}.npz'), seed)


@pytest.mark.parametrize('given, shown', [
    ('{}:5', 'seeds \\[3, 12\\]'), ('{}:x', 'whole number'), ('{}:', 'whole number'),
    ('nowhere', "'nowhere' is unknown"), ('omniglot_5way_5shot', '--train'),
    ('nowhere/seed0.npz', 'no file nowhere/seed0.npz')])
def test_weights_that_are_not_there_are_refused(given, shown, two_seeds):
  name, results = two_seeds
  with pytest.raises((ConfigError, CheckpointError), match=shown):
    weights.resolve(given.format(name), results)


# In `main.py`.

def test_main_tests_and_trains_from_weights(small_config, saved, capsys):
  path, _, values = saved
  config = small_config(train=False, pretrained=path)
  assert application.run(config) == command_line.DONE
  out = capsys.readouterr().out
  assert path in out
  [result] = Path(experiment_folder(config)).glob('*.json')
  tested = json.loads(result.read_text())
  model = experiment.build_model(config)
  model.meta_parameters.assign(values)
  generator = experiment.evaluation_generator(config, 'test', 6)
  expected = Evaluator(model, generator, 6, 2)()
  assert tested['checkpoint'] == path and tested['iteration'] is None
  assert tested['updates']['update2']['loss']['mean'] == pytest.approx(
      float(expected.query['loss'][:, 2].mean()), rel=1e-5)

  config = small_config(pretrained=path, metatrain_iterations=0)
  assert application.run(config) == command_line.DONE
  assert f'Parameters of a new run: from {path}' in capsys.readouterr().out
  trained = small_config(train=False, metatrain_iterations=0)
  application.load_for_test(trained, model, experiment_folder(trained))
  for name, value in model.meta_parameters.arrays().items():
    np.testing.assert_array_equal(value, values[name])
  # What was trained from scratch is something else.
  assert application.run(small_config(metatrain_iterations=0)) == command_line.REFUSED
  assert 'run.pretrained' in capsys.readouterr().err


def test_main_refuses_weights_that_do_not_fit(small_config, saved, capsys):
  config = small_config(train=False, pretrained=saved[0], norm='batch_norm')
  assert application.run(config) == command_line.REFUSED
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and 'does not fit what the flags' in error
  assert not os.path.exists(experiment_folder(config))


def test_weights_say_how_far_they_were_trained(capsys, tmp_path):
  """These are whole ones, beside which the paper's values stand."""
  row = ('--datasource=sinusoid', '--train=False', f'--logdir={tmp_path}',
         '--num_test_tasks=4', '--test_num_updates=1', '--pretrained=sinusoid_5shot:0')
  config = flags.parse(['main.py', *row])
  assert application.run(config) == command_line.DONE
  out = capsys.readouterr().out
  assert 'Weights of sinusoid_5shot, seed 0, trained for 70,000 of 70,000 iterations' in out
  assert 'paper' in out and '0.67' in out
  names = {path.name for path in Path(experiment_folder(config)).iterdir()}
  assert 'test_ubs5_stepsize0.001_of_sinusoid_5shot-0.json' in names


def test_the_paper_s_values_do_not_stand_beside_weights_of_another_row(capsys, tmp_path):
  """Those of the pre-trained net have the shapes and the length of MAML's."""
  config = flags.parse(['main.py', '--datasource=sinusoid', '--train=False',
                        f'--logdir={tmp_path}', '--num_test_tasks=4', '--test_num_updates=1',
                        '--pretrained=sinusoid_5shot_pretrained'])
  assert application.run(config) == command_line.DONE
  out = capsys.readouterr().out
  assert '0.67' not in out and (
      "The paper's values are of sinusoid_5shot, and the weights of "
      'sinusoid_5shot_pretrained.') in out


def test_weights_of_other_shots_are_refused_unless_it_is_said(small_config, capsys):
  config = small_config(train=False, pretrained='sinusoid_5shot', update_batch_size=10)
  assert application.run(config) == command_line.REFUSED
  error = capsys.readouterr().err
  assert '5-shot' in error and '--update_batch_size=5' in error
  assert '--train_update_batch_size=5 to test them on 10-shot tasks' in error
  config = small_config(train=False, pretrained='sinusoid_5shot', update_batch_size=10,
                        train_update_batch_size=5)
  assert application.run(config) == command_line.DONE


@pytest.mark.parametrize('train', [False, True])
def test_weights_of_a_net_with_another_pooling_are_refused(train, small_config, capsys):
  """On Omniglot they have the same shapes, and would be tested, and trained on, in silence."""
  given = dict(train=train, method='prototypical', num_filters=64, max_pool=True,
               pretrained='omniglot_5way_1shot_prototypical')
  pooled, strided = (small_config('omniglot', **{**given, 'max_pool': max_pool})
                     for max_pool in (True, False))
  application._load_named(pooled, experiment.build_model(pooled))
  assert (f'were tested on other data than those in {pooled.data_dir}, ' in
          capsys.readouterr().out)
  with pytest.raises(ConfigError, match='max_pool=False: give --max_pool=True .or --flagfile='
                                        'flags/omniglot_5way_1shot_prototypical.flags'):
    application._load_named(strided, experiment.build_model(strided))


def test_whether_weights_are_of_other_data(small_config, tmp_path):
  """Another division of a set has classes to test that the weights were trained on."""
  config = small_config('omniglot', train=False)
  fields = records.read(row_named('omniglot_5way_1shot'), 0).fields
  fields['config'] = {name: values for name, values in config.to_dict().items()
                      if name != 'run'}
  del fields['config']['task']['data_dir']   # as records have it
  fields['first_episodes'].update(count=2, episodes_fingerprint=(
      experiment.evaluation_generator(config, config.split, 2).fingerprint(2)))
  (tmp_path / 'seed0.json').write_text(json.dumps(fields))
  path = str(tmp_path / 'seed0.npz')

  def on(folder, classes):
    make_sample_data.write_prepared('omniglot', str(tmp_path / folder),
                                    Layout(5, 4, classes, 5), seed=1)
    return dataclasses.replace(config, task=dataclasses.replace(
        config.task, data_dir=str(tmp_path / folder)))
  assert not weights.are_of_other_data(path, config)
  for other in (on('other', 4), on('few', 2), small_config('miniimagenet')):
    assert weights.are_of_other_data(path, other)
  gone = on('gone', 4)
  shutil.rmtree(gone.data_dir)
  for without in (gone, small_config()):   # what reads them will say it; sinusoids have none
    assert not weights.are_of_other_data(path, without)
  assert not weights.are_of_other_data(str(tmp_path / 'own.npz'), config)


def test_weights_of_other_data_are_not_said_to_lack_shots_alone(small_config, capsys):
  """`--update_batch_size`, which was the advice, would not have helped."""
  config = small_config(train=False, pretrained='omniglot_5way_1shot')
  assert application.run(config) == command_line.REFUSED
  error = capsys.readouterr().err
  assert 'are weights of omniglot, and the flags are of sinusoid' in error
  assert '--flagfile=flags/omniglot_5way_1shot.flags' in error
  assert '--update_batch_size' not in error


# The committed weights.

def test_each_committed_record_has_weights():
  assert RECORDED == COMMITTED


@pytest.mark.parametrize('row, seed', COMMITTED,
                         ids=[f'{row.name}-{seed}' for row, seed in COMMITTED])
def test_committed_weights_have_their_recorded_results(row, seed):
  """On the first test episodes; of images, where the data are."""
  fields = records.read(row, seed).fields
  config = verify.row_config(row, seed=seed)
  path, iteration = weights.resolve(f'{row.name}:{seed}')
  assert iteration == fields['tested']['iteration']
  first = fields['first_episodes']
  try:
    model = experiment.build_model(config)   # classifiers need the training images
    generator = experiment.evaluation_generator(config, 'test', first['count'])
  except (DataError, MissingLibrary) as error:
    pytest.skip(f'needs the data of {row.name}: {error}')
  assert fields['weights']['parameters'] == sum(
      array.size for array in model.meta_parameters.arrays().values())
  weights.load(path, model)
  if fields.get('tuning') is not None:
    model.step_size = fields['tuning']['step_size']
  if generator.fingerprint(first['count']) != first['episodes_fingerprint']:
    assert row.problem.measure is ACCURACY
    pytest.skip('the prepared data are other ones than those of the record')
  results = Evaluator(model, generator, first['count'],
                      config.evaluation.test_num_updates)()
  # Up to what the row is judged by: further updates of the oracle go astray.
  judged = slice(None, row.headline + 1)
  has_contacts = row.problem.acts and row.problem.name != 'point_navigation'
  if has_contacts and iteration == 0:
    judged = slice(None, 1)   # what an update makes of an untrained policy is chance
  found = results.query[model.measure.name][:, judged]
  recorded = np.array(first['values'])[:, judged]
  if row.problem.measure is ACCURACY:
    # Rounding may turn over an image, here and there.
    assert np.abs(found - recorded).mean() < 0.02
  elif has_contacts:
    # Bodies have contacts, with which rounding changes whole rollouts, and so the updates.
    # With weights changed by 3e-7 of themselves, two times a row, the returns before an update
    # moved by 4.7 at most, those behind one by 28 (and by 48 where nothing was trained).
    differences = np.abs(found - recorded).mean(axis=0)
    sizes = np.abs(recorded).mean(axis=0)
    assert differences[0] < 0.05 * sizes[0] + 5
    assert np.all(differences[1:] < 0.15 * sizes[1:] + 20)
  else:
    np.testing.assert_allclose(found, recorded, rtol=1e-3, atol=1e-4)
  assert np.abs(recorded).sum() > 0
