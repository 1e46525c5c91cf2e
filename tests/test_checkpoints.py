"""What a run keeps on disk, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import faults
import numpy as np
import pytest
import tensorflow as tf

from maml_tf import experiment
from maml_tf.config import ConfigError, from_values
from maml_tf.errors import CheckpointError
from maml_tf.files import WriteError
from maml_tf.training import callbacks, checkpoint_files, checkpoint_for_test, run_folder
from maml_tf.training.checkpoint_files import iteration_of
from maml_tf.training.checkpoints import Checkpoints

ADVICE = 'train first'


@pytest.fixture
def kept(tmp_path):
  """(checkpoints, the variable that is saved, the folder)."""
  variable = tf.Variable(0.0)
  return Checkpoints(str(tmp_path), value=variable), variable, tmp_path


def names(folder):
  return sorted((path.stem for path in Path(folder).glob('model-*.index')),
                key=iteration_of)


def value_in(prefix):
  return float(tf.train.load_checkpoint(str(prefix)).get_tensor(
      'value/.ATTRIBUTES/VARIABLE_VALUE'))


def test_the_paper_s_code_saves_every_thousand_iterations_and_keeps_ten():
  assert (callbacks.SAVE_INTERVAL, checkpoint_files.KEPT) == (1000, 10)


def test_the_last_ten_checkpoints_are_kept(kept):
  saved, variable, folder = kept
  for iteration in range(1, 14):
    variable.assign(iteration)
    assert saved.save(iteration * 1000) == os.path.join(folder, f'model-{iteration}000')
  assert names(folder) == [f'model-{iteration}000' for iteration in range(4, 14)]
  assert saved.iterations == [iteration * 1000 for iteration in range(4, 14)]
  assert [value_in(folder / name) for name in names(folder)] == list(range(4, 14))


def test_an_iteration_is_saved_once(kept):
  saved, variable, _ = kept
  first = saved.save(5)
  variable.assign(1.0)
  assert saved.save(5) == first
  assert value_in(first) == 0.0


def test_a_new_process_knows_what_was_saved_before_it(kept):
  saved, variable, folder = kept
  for iteration in range(1, 10):
    saved.save(iteration)
  again = Checkpoints(str(folder), value=variable)
  again.save(10)
  again.save(11)
  assert names(folder) == [f'model-{iteration}' for iteration in range(2, 12)]


def test_the_best_is_kept_apart_and_no_worse_one_replaces_it(kept):
  saved, variable, folder = kept
  offers = [(10, 0.3), (20, 0.5), (30, 0.4), (40, 0.5), (50, float('nan'))]
  accepted = []
  for iteration, score in offers:
    variable.assign(iteration)
    accepted.append(saved.offer_best(iteration, score))
  assert accepted == [True, True, False, False, False]
  assert names(folder / 'best') == ['model-20']
  assert value_in(folder / 'best' / 'model-20') == 20
  assert names(folder) == []


def test_the_best_outlives_the_last_ten(kept):
  saved, _, folder = kept
  saved.offer_best(1, 0.9)
  for iteration in range(2, 14):
    saved.offer_best(iteration, 0.1)
    saved.save(iteration)
  assert names(folder / 'best') == ['model-1']


def test_the_best_score_is_remembered_after_a_resume(kept):
  saved, variable, folder = kept
  saved.offer_best(10, 0.5)
  saved.save(11)
  again = Checkpoints(str(folder), value=variable)
  assert again.restore_latest() == 11
  assert not again.offer_best(20, 0.4)
  assert names(folder / 'best') == ['model-10']
  assert again.offer_best(30, 0.6)
  assert names(folder / 'best') == ['model-30']


@pytest.fixture
def best_of(kept):
  """A function that makes a run of best score 0.5 on some tasks; its checkpoints as the next
  start finds them."""
  saved, variable, folder = kept

  def make(tasks):
    saved.score_on(lambda: tasks, pytest.fail)
    saved.offer_best(10, 0.5)
    saved.save(11)
    again = Checkpoints(str(folder), value=variable)
    assert again.restore_latest() == 11
    return again, folder
  return make


def test_a_score_of_the_same_tasks_is_compared(best_of):
  again, _ = best_of('600 tasks')
  again.score_on(lambda: '600 tasks', pytest.fail)
  assert not again.offer_best(20, 0.4)
  assert again.offer_best(30, 0.6)


@pytest.mark.parametrize('before, said', [
    ('600 tasks', 'is of other validation tasks'),
    ('', 'does not say of which tasks it is')])   # one of an earlier version
def test_a_score_of_other_tasks_is_not_compared(before, said, best_of, capsys):
  """0.4 is above the 0.3 that the best one has on the new tasks."""
  again, folder = best_of(before)
  scored = []
  again.score_on(lambda: '3 tasks', lambda path: scored.append(path) or 0.3)
  assert scored == [str(folder / 'best' / 'model-10')]
  assert capsys.readouterr().out == (
      f'The best checkpoint so far (iteration 10) is scored again: its score {said}.\n')
  assert not again.offer_best(20, 0.2)
  assert again.offer_best(20, 0.4)
  again.save(20)
  third = Checkpoints(str(folder), value=tf.Variable(0.0))
  third.restore_latest()
  third.score_on(lambda: '3 tasks', pytest.fail)


@pytest.mark.parametrize('tasks', ['3 tasks', '600 tasks'])
@pytest.mark.parametrize('is_missing', [False, True])
def test_a_best_one_that_cannot_be_read_has_no_score(tasks, is_missing, best_of, capsys):
  """Or nothing after it would be the best one, and none could be tested."""
  again, folder = best_of('600 tasks')
  if is_missing:
    shutil.rmtree(folder / 'best')
  else:
    DAMAGES['short data'](str(folder / 'best' / 'model-10'))
  again.score_on(lambda: tasks, pytest.fail)
  assert 'the next validation is the best one so far' in capsys.readouterr().out
  assert again.offer_best(20, 0.1)


def test_where_nothing_was_scored_yet_the_tasks_are_not_even_looked_at(kept):
  kept[0].score_on(pytest.fail, pytest.fail)


def test_there_is_nothing_to_restore_in_a_new_folder(kept):
  saved, variable, _ = kept
  assert saved.restore_latest() == 0
  assert float(variable.numpy()) == 0.0


def test_the_newest_checkpoint_is_restored(kept):
  saved, variable, folder = kept
  for iteration in (900, 1000):   # as text '900' is above '1000'
    variable.assign(iteration)
    saved.save(iteration)
  other = tf.Variable(0.0)
  assert Checkpoints(str(folder), value=other).restore_latest() == 1000
  assert float(other.numpy()) == 1000.0


def test_the_folder_may_be_moved(kept, tmp_path):
  saved, variable, folder = kept
  variable.assign(7.0)
  saved.save(3)
  saved.offer_best(3, 1.0)
  moved = tmp_path / 'elsewhere'
  moved.mkdir()
  for entry in folder.iterdir():
    if entry != moved:
      shutil.move(str(entry), moved)
  other = tf.Variable(0.0)
  assert Checkpoints(str(moved), value=other).restore_latest() == 3
  assert float(other.numpy()) == 7.0
  assert tf.train.latest_checkpoint(str(moved / 'best')) == str(moved / 'best' / 'model-3')


@pytest.mark.parametrize('objects', [
    dict(value=tf.Variable([0.0, 0.0])),                    # another shape
    dict(value=tf.Variable(0.0), more=tf.Variable(0.0)),    # something that is not there
    dict(other=tf.Variable(0.0)),                           # something that is left over
])
def test_a_checkpoint_that_does_not_fit_is_refused(kept, objects):
  saved, _, folder = kept
  saved.save(1)
  with pytest.raises(CheckpointError, match='model-1 does not fit') as error:
    Checkpoints(str(folder), **objects).restore_latest()
  assert '\n' not in str(error.value)


def test_what_an_earlier_version_saved_beside_is_read_and_not_saved_again(tmp_path):
  tf.train.CheckpointManager(
      tf.train.Checkpoint(best_score=tf.Variable(0.5, dtype=tf.float64),
                          value=tf.Variable(7.0), more=tf.Variable(8.0)),
      str(tmp_path), max_to_keep=10, checkpoint_name='model').save(checkpoint_number=5)
  value, more = tf.Variable(0.0), tf.Variable(0.0)
  saved = Checkpoints(str(tmp_path), lambda: dict(more=more), value=value)
  assert saved.restore_latest() == 5
  assert (float(value.numpy()), float(more.numpy())) == (7.0, 8.0)
  saved.save(6)
  again = Checkpoints(str(tmp_path), pytest.fail, value=value)
  assert again.restore_latest() == 6


# Damage.

DATA = '.data-00000-of-00001'


def cut(path, size):
  os.truncate(path, size if size >= 0 else os.path.getsize(path) + size)


def flip(path, position):
  content = bytearray(Path(path).read_bytes())
  content[position] ^= 16
  Path(path).write_bytes(content)


DAMAGES = {
    'empty index': lambda path: cut(f'{path}.index', 0),
    'short index': lambda path: cut(f'{path}.index', -20),
    'index of something else': lambda path: Path(f'{path}.index').write_text('<html>' * 99),
    'one bit in the index': lambda path: flip(f'{path}.index', 40),
    'empty data': lambda path: cut(path + DATA, 0),
    'short data': lambda path: cut(path + DATA, -20),
    'one bit in the data': lambda path: flip(path + DATA, 5),
    'no data': lambda path: os.remove(path + DATA),
}


@pytest.fixture
def several(tmp_path):
  """(folder, paths of checkpoints 10, 20 and 30, each with its number as the value)."""
  folder = tmp_path / 'run'
  variable = tf.Variable(0.0)
  saved, paths = Checkpoints(str(folder), value=variable), []
  for iteration in (10, 20, 30):
    variable.assign(iteration)
    paths.append(saved.save(iteration))
  return folder, paths


def restored(folder):
  """(iteration, value, the checkpoints)."""
  variable = tf.Variable(0.0)
  saved = Checkpoints(str(folder), value=variable)
  iteration = saved.restore_latest()
  return iteration, float(variable.numpy()), saved


@pytest.mark.parametrize('kind', DAMAGES)
def test_the_one_before_a_damaged_checkpoint_is_gone_on_with(kind, several, capsys):
  folder, paths = several
  DAMAGES[kind](paths[2])
  iteration, value, saved = restored(folder)
  assert (iteration, value) == (20, 20.0)
  [sentence] = capsys.readouterr().err.splitlines()
  assert sentence.startswith(f'The checkpoint {paths[2]} is damaged (')
  assert sentence.endswith('): going on from model-20.')
  # It is not taken for one again, and its iteration can be saved.
  assert saved.iterations == [10, 20]
  assert tf.train.latest_checkpoint(str(folder)) == paths[1]
  assert Path(f'{paths[2]}.index.damaged').exists()
  assert restored(folder)[:2] == (20, 20.0)
  assert capsys.readouterr().err == ''
  assert saved.save(30) == paths[2]
  assert restored(folder)[:2] == (30, 20.0)


def test_a_missing_newest_checkpoint_is_named(several, capsys):
  folder, paths = several
  for path in folder.glob('model-30.*'):
    path.unlink()
  assert restored(folder)[:2] == (20, 20.0)
  assert capsys.readouterr().err == (
      f'The checkpoint {paths[2]} is missing: going on from model-20.\n')
  assert restored(folder)[0] == 20
  assert capsys.readouterr().err == ''


def test_two_damaged_ones_are_both_named(several, capsys):
  folder, paths = several
  for path in paths[1:]:
    DAMAGES['short data'](path)
  assert restored(folder)[:2] == (10, 10.0)
  assert [line.split(' is ')[0] for line in capsys.readouterr().err.splitlines()] == [
      f'The checkpoint {path}' for path in reversed(paths[1:])]


@pytest.mark.parametrize('kind', [*DAMAGES, 'missing'])
def test_without_any_that_can_be_read_the_run_is_refused_and_left_as_it_is(kind, several):
  """Starting anew would remove the ten before it."""
  folder, paths = several
  for path in paths:
    if kind == 'missing':
      os.remove(f'{path}.index')
      os.remove(path + DATA)
    else:
      DAMAGES[kind](path)
  before = sorted(path for path in folder.iterdir() if DATA not in path.name)
  with pytest.raises(CheckpointError, match=r'model-30.* is missing or is damaged .*'
                                            r'--resume=False') as error:
    restored(folder)
  assert '\n' not in str(error.value)
  assert sorted(path for path in folder.iterdir() if DATA not in path.name) == before


@pytest.mark.parametrize('content', [None, b'', b'\0' * 90, b'model_checkpoint_path: "mod',
                                     b'model_checkpoint_path: "nowhere"'])
def test_tensorflow_s_list_may_be_lost(content, several):
  folder, paths = several
  if content is None:
    (folder / 'checkpoint').unlink()
  else:
    (folder / 'checkpoint').write_bytes(content)
  iteration, value, saved = restored(folder)
  assert (iteration, value) == (30, 30.0)
  saved.save(40)
  assert saved.iterations == [10, 20, 30, 40]
  assert tf.train.latest_checkpoint(str(folder)) == str(folder / 'model-40')


def test_every_changed_bit_is_noticed_or_changes_nothing(tmp_path):
  """Checksums cover all but the unused bytes at the end of the index."""
  value = np.random.RandomState(0).normal(size=50).astype(np.float32)
  path = Checkpoints(str(tmp_path), value=tf.Variable(value)).save(1)
  unnoticed = 0
  for ending, every in (('.index', 1), (DATA, 7)):
    size = os.path.getsize(path + ending)
    for position in range(0, size, every):
      flip(path + ending, position)
      if checkpoint_files.damage(path) is None:
        unnoticed += 1
        assert ending == '.index' and position > size - 100
        np.testing.assert_array_equal(tf.train.load_checkpoint(path).get_tensor(
            'value/.ATTRIBUTES/VARIABLE_VALUE'), value)
      flip(path + ending, position)
  assert unnoticed < 60
  assert checkpoint_files.damage(path) is None


def test_checkpoints_of_tensorflow_s_own_manager_are_gone_on_with(tmp_path):
  """Earlier versions of this project wrote them so."""
  manager = tf.train.CheckpointManager(
      tf.train.Checkpoint(best_score=tf.Variable(0.5, dtype=tf.float64),
                          value=tf.Variable(7.0)),
      str(tmp_path), max_to_keep=10, checkpoint_name='model')
  manager.save(checkpoint_number=5)
  (tmp_path / 'model-6_temp').mkdir()
  iteration, value, saved = restored(tmp_path)
  assert (iteration, value, float(saved.best_score.numpy())) == (5, 7.0, 0.5)
  assert not (tmp_path / 'model-6_temp').exists()


# Killed while it writes.

@pytest.fixture(scope='module')
def killed(forks, tmp_path_factory):
  """{(stage, best): folder}: each of a process that was killed while it wrote checkpoint 3."""
  top = tmp_path_factory.mktemp('killed')
  kinds = [(stage, False) for stage in faults.STAGES] + [
      ('before the index is renamed', True), ('while it is listed', True),
      ('before the old one is removed', True)]
  folders = {}
  for number, (stage, best) in enumerate(kinds):
    folder = top / str(number)
    process = forks.start('faults:killed_while_writing', top / f'{number}.txt', str(folder),
                          stage, best)
    assert process.wait() == -signal.SIGKILL, process.output.read_text()
    folders[stage, best] = folder / 'best' if best else folder
  return folders


@pytest.mark.parametrize('stage', faults.STAGES)
def test_a_process_that_is_killed_in_a_write_loses_that_checkpoint_at_most(stage, killed,
                                                                           capsys):
  folder = killed[stage, False]
  expected = 3 if stage in faults.COMPLETE else 2
  saved, value = faults.checkpoints_of(str(folder))
  assert saved.restore_latest() == expected
  assert (value.numpy() == expected).all()
  assert capsys.readouterr().err == ''   # nothing is damaged
  files = {'checkpoint'} | {f'model-{iteration}{ending}' for ending in ('.index', DATA)
                            for iteration in range(1, expected + 1)}
  assert set(os.listdir(folder)) == files
  value.assign(np.full(faults.SIZE, 3.0))
  saved.save(3)
  saved.save(4)
  assert names(folder) == ['model-1', 'model-2', 'model-3', 'model-4']
  assert tf.train.latest_checkpoint(str(folder)) == str(folder / 'model-4')


@pytest.mark.parametrize('stage', ['before the index is renamed', 'while it is listed',
                                   'before the old one is removed'])
def test_the_best_one_is_there_until_a_better_one_is_whole(stage, killed):
  folder = killed[stage, True]
  path = checkpoint_files.CheckpointFiles(str(folder), 1).last_written
  assert checkpoint_files.damage(path) is None
  expected = 3 if stage == 'before the old one is removed' else 2
  assert iteration_of(path) == expected
  assert (tf.train.load_checkpoint(path).get_tensor(
      'value/.ATTRIBUTES/VARIABLE_VALUE') == expected).all()
  saved, _ = faults.checkpoints_of(str(folder.parent))
  saved.offer_best(3, 3.0)
  assert names(folder) == ['model-3']


# The folder changes under a run.

@pytest.mark.parametrize('happens', ['moved', 'removed', 'replaced'])
@pytest.mark.parametrize('write', [lambda saved: saved.save(40),
                                   lambda saved: saved.offer_best(40, 1.0)])
def test_a_run_does_not_go_on_in_another_folder_of_its_name(happens, write, several,
                                                            tmp_path):
  """A new one has no configuration, no lock, and nothing of what was before."""
  folder, _ = several
  saved = Checkpoints(str(folder), value=tf.Variable(40.0))
  os.replace(folder, tmp_path / 'moved')
  if happens == 'removed':
    shutil.rmtree(tmp_path / 'moved')
  elif happens == 'replaced':
    folder.mkdir()
  with pytest.raises(WriteError, match='moved or removed .* iteration 40 is not saved'):
    write(saved)
  assert not folder.exists() or not os.listdir(folder)


# A full disk.

@pytest.mark.parametrize('size', [0, 50, 200])
def test_a_full_disk_leaves_the_checkpoints_as_they_were(size, several, disk_limit):
  folder, paths = several
  before = {path: path.read_bytes() for path in folder.iterdir()}
  variable = tf.Variable(40.0)
  saved = Checkpoints(str(folder), value=variable)
  with disk_limit(size):
    with pytest.raises(WriteError) as error:
      saved.save(40)
    with pytest.raises(WriteError, match='the last one there is none'):
      saved.offer_best(40, 1.0)
  message = str(error.value)
  assert 'iteration 40 cannot be written' in message and 'File too large' in message
  assert 'the last one there is model-30. Free some space' in message
  assert '\n' not in message and 'function_node' not in message
  assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
  assert os.listdir(folder / 'best') == []
  assert saved.save(40) == str(folder / 'model-40')
  assert restored(folder)[:2] == (40, 40.0)


def test_what_cannot_be_read_back_is_not_kept(several, monkeypatch):
  folder, paths = several
  monkeypatch.setattr(checkpoint_files, 'damage', lambda path: 'checksum')
  with pytest.raises(WriteError, match='read back, it is damaged: checksum'):
    Checkpoints(str(folder), value=tf.Variable(0.0)).save(40)
  assert names(folder) == ['model-10', 'model-20', 'model-30']


@pytest.mark.parametrize('path, iteration', [('model-7', 7), ('a-3/model-12000', 12000)])
def test_the_iteration_is_in_the_name(path, iteration):
  assert iteration_of(path) == iteration


def test_the_parameters_are_saved_under_their_own_names(small_config, tmp_path):
  """Not through the optimizer only, which knows them too: a test restores them alone."""
  model = experiment.build_model(small_config())
  path = Checkpoints(str(tmp_path), parameters=model.meta_parameters).save(1)
  reader = tf.train.load_checkpoint(path)
  arrays = model.meta_parameters.arrays()
  assert len(arrays) == 6
  for name, array in arrays.items():
    key = f'parameters/{name.replace("/", "_")}/.ATTRIBUTES/VARIABLE_VALUE'
    np.testing.assert_array_equal(reader.get_tensor(key), array)


# The experiment's folder.

def changed(config, **values):
  return from_values({**config.to_values(), **values})


def test_the_configuration_is_written_beside_the_checkpoints(small_config):
  config = small_config()
  folder = run_folder.prepare_folder(config)
  assert folder == os.path.join(config.run.logdir, config.experiment_name)
  with open(os.path.join(folder, 'config.json'), encoding='utf-8') as file:
    assert json.load(file) == config.to_dict()
  assert run_folder.stored_config(folder) == config
  assert os.listdir(folder) == ['config.json']


@pytest.mark.parametrize('values, named', [
    (dict(seed=3), 'task.seed 3 -> 0'),
    (dict(seed=3, test_num_updates=7), 'task.seed 3 -> 0'),
    (dict(xla='on', meta_lr=0.5), 'training.meta_lr 0.5 -> 0.001, training.xla on -> off'),
])
def test_a_run_of_another_configuration_is_refused(values, named, small_config):
  config = small_config()
  folder = run_folder.prepare_folder(config)
  stored = changed(config, **values).to_json()
  Path(folder, 'config.json').write_text(stored)
  Path(folder, 'model-1.index').touch()
  with pytest.raises(ConfigError) as error:
    run_folder.prepare_folder(config)
  assert f'another configuration ({named}):' in str(error.value)
  assert '--resume=False' in str(error.value)
  assert Path(folder, 'config.json').read_text() == stored


def test_another_data_source_is_not_gone_on_with(small_config):
  """Its folder may have the same name, where the values happen to be equal."""
  values = dict(meta_batch_size=2, num_updates=2, update_lr=0.01, max_pool=True,
                train_query_size=1)
  mini = small_config('miniimagenet', **{**values, 'train_query_size': 15,
                                         'update_batch_size': 1})
  folder = run_folder.prepare_folder(mini)
  Path(folder, 'model-1.index').touch()
  omniglot = small_config('omniglot', **values)
  assert run_folder.experiment_folder(omniglot) == folder
  with pytest.raises(ConfigError, match='task.datasource miniimagenet -> omniglot'):
    run_folder.prepare_folder(omniglot)


MAY_CHANGE = {
    'data_dir': 'elsewhere', 'metatrain_iterations': 77, 'tasks_at_once': 2,
    'recompute_inner_steps': True,
    'validation_interval': 3, 'num_validation_tasks': 9, 'test_query_size': 3,
    'test_set': True, 'test_checkpoint': 'best', 'num_test_tasks': 99,
    'test_num_updates': 4, 'tune_update_lr': True,
    'log': False}   # and 'test_inner_batch_size', for Reptile


@pytest.mark.parametrize('name', MAY_CHANGE)
def test_what_does_not_change_the_training_may_change(name, small_config):
  config = small_config()
  folder = run_folder.prepare_folder(config)
  Path(folder, 'model-1.index').touch()
  other = changed(config, **{name: MAY_CHANGE[name]})
  assert run_folder.prepare_folder(other) == folder
  assert run_folder.stored_config(folder) == other


def test_another_length_is_another_run_where_the_step_size_depends_on_it(small_config):
  values = dict(meta_lr_schedule='linear')
  folder = run_folder.prepare_folder(small_config(metatrain_iterations=50, **values))
  Path(folder, 'model-1.index').touch()
  with pytest.raises(ConfigError, match='training.metatrain_iterations 50 -> 60'):
    run_folder.prepare_folder(small_config(metatrain_iterations=60, **values))


def test_halving_does_not_depend_on_the_length(small_config):
  values = dict(meta_lr_schedule='halving')
  folder = run_folder.prepare_folder(small_config(metatrain_iterations=50, **values))
  Path(folder, 'model-1.index').touch()
  longer = small_config(metatrain_iterations=60, **values)
  assert run_folder.prepare_folder(longer) == folder
  half_life = changed(longer, meta_lr_half_life=500)
  assert run_folder.experiment_folder(half_life) == folder + '.halflife500'


def test_another_use_of_the_same_classifier_is_the_same_run(small_config):
  given = dict(baseline='fine_tuning', meta_lr=0.01)
  folder = run_folder.prepare_folder(small_config('omniglot', **given))
  Path(folder, 'model-1.index').touch()
  other = small_config('omniglot', **{**given, 'baseline': 'nearest_neighbour',
                                      'test_num_updates': 1})
  assert run_folder.prepare_folder(other) == folder
  assert run_folder.stored_config(folder) == other
  with pytest.raises(ConfigError, match='xla auto -> on'):
    run_folder.prepare_folder(changed(other, xla='on'))


def test_all_that_may_change_is_a_field_of_the_configuration(small_config):
  fields = {field.name for section in small_config().to_dict()
            for field in dataclasses.fields(getattr(small_config(), section))}
  assert fields >= run_folder.MAY_DIFFER
  computing = {'seed', 'norm', 'num_filters', 'conv', 'dtype', 'mixed_precision',
               'update_lr', 'num_updates', 'stop_grad', 'baseline', 'pretrain_iterations',
               'meta_batch_size', 'meta_lr', 'meta_optimizer', 'meta_gradient_clip',
               'train_query_size', 'method', 'meta_lr_schedule', 'meta_lr_half_life',
               'inner_optimizer', 'inner_batch_size', 'context_size'}
  assert not computing & run_folder.MAY_DIFFER


def test_without_resume_the_earlier_run_is_moved_aside(small_config, capsys):
  config = small_config(resume=False)
  folder = Path(run_folder.prepare_folder(config))
  for number in (1, 2):
    (folder / 'model-3.index').write_text(f'run {number}')
    assert run_folder.prepare_folder(config) == str(folder)
    assert os.listdir(folder) == ['config.json']
    aside = Path(f'{folder}.previous{number}')
    assert sorted(os.listdir(aside)) == ['config.json', 'model-3.index']
    assert (aside / 'model-3.index').read_text() == f'run {number}'
    assert f'moved to {aside}' in capsys.readouterr().out


@pytest.mark.parametrize('left', [
    'model-3.index', 'best/model-3.index', 'model-3.index.damaged', 'history.csv',
    'test_ubs5_stepsize0.01.json'])
def test_a_run_without_a_configuration_is_moved_aside_too(left, small_config, capsys):
  """Its checkpoints, curve and results would be taken for those of the new run."""
  config = small_config(resume=False)
  folder = Path(run_folder.experiment_folder(config))
  (folder / left).parent.mkdir(parents=True)
  (folder / left).write_text('of the earlier run')
  run_folder.prepare_folder(config)
  assert os.listdir(folder) == ['config.json']
  assert (Path(f'{folder}.previous1') / left).read_text() == 'of the earlier run'
  assert 'The earlier run was moved to' in capsys.readouterr().out


def test_an_empty_folder_is_no_run(small_config):
  config = small_config(resume=False)
  os.makedirs(run_folder.experiment_folder(config))
  folder = run_folder.prepare_folder(config)
  assert os.listdir(config.run.logdir) == [os.path.basename(folder)]


def test_whether_a_run_is_gone_on_with(small_config):
  config = small_config()
  folder = Path(run_folder.prepare_folder(config))
  assert not run_folder.goes_on(config)
  Checkpoints(str(folder), value=tf.Variable(0.0)).offer_best(3, 1.0)
  assert not run_folder.goes_on(config)   # training begins at 0
  (folder / 'model-3.index').touch()
  assert run_folder.goes_on(config)
  assert not run_folder.goes_on(small_config(resume=False))


def test_with_resume_nothing_is_moved(small_config):
  config = small_config()
  folder = Path(run_folder.prepare_folder(config))
  (folder / 'model-3.index').write_text('kept')
  run_folder.prepare_folder(config)
  assert (folder / 'model-3.index').read_text() == 'kept'
  assert os.listdir(config.run.logdir) == [folder.name]


@pytest.mark.parametrize('text', ['', '{', '[]', '{"task": {}}', '\udce4'])
def test_a_damaged_configuration_is_refused(text, small_config):
  config = small_config()
  folder = Path(run_folder.prepare_folder(config))
  (folder / 'model-1.index').touch()
  (folder / 'config.json').write_bytes(text.encode('utf-8', 'surrogateescape'))
  with pytest.raises(CheckpointError, match='is not the configuration of a run') as error:
    run_folder.prepare_folder(config)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('text', ['', '{', None])
def test_the_configuration_of_a_start_without_a_checkpoint_binds_nobody(text, small_config):
  """As where the data were missing: the corrected command needs no other flag."""
  config = small_config()
  folder = run_folder.prepare_folder(config)
  Path(folder, 'config.json').write_text(
      changed(config, seed=3).to_json() if text is None else text)
  assert run_folder.prepare_folder(config) == folder
  assert run_folder.stored_config(folder) == config


def test_the_best_checkpoint_alone_is_a_run_too(small_config):
  config = small_config()
  folder = run_folder.prepare_folder(config)
  Checkpoints(folder, value=tf.Variable(0.0)).offer_best(3, 1.0)
  with pytest.raises(ConfigError, match='another configuration'):
    run_folder.prepare_folder(changed(config, xla='on'))


def test_without_room_for_the_configuration_the_old_one_stays(small_config, disk_limit):
  config = small_config()
  folder = run_folder.prepare_folder(config)
  before = Path(folder, 'config.json').read_bytes()
  with disk_limit(100), pytest.raises(ConfigError, match='cannot be written .File too large.'):
    run_folder.prepare_folder(changed(config, metatrain_iterations=3))
  assert Path(folder, 'config.json').read_bytes() == before
  assert os.listdir(folder) == ['config.json']


def test_a_folder_that_cannot_be_written_is_refused(small_config, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(ConfigError, match='cannot be written .* choose another --logdir'):
    run_folder.prepare_folder(small_config(logdir=str(tmp_path / 'file')))


# The checkpoint to test.

@pytest.fixture
def trained(small_config):
  """(folder, config): checkpoints of iterations 1 to 3, whose first bias is the
  iteration; 2 is the best."""
  config = small_config(train=False)
  folder = run_folder.prepare_folder(config)
  model = experiment.build_model(config)
  saved = Checkpoints(folder, parameters=model.meta_parameters)
  for iteration, score in ((1, 0.1), (2, 0.9), (3, 0.5)):
    arrays = model.meta_parameters.arrays()
    first = next(name for name, array in arrays.items() if array.ndim == 1)
    model.meta_parameters.assign({**arrays, first: np.full_like(arrays[first], iteration)})
    saved.offer_best(iteration, score)
    saved.save(iteration)
  return folder, config


@pytest.mark.parametrize('given, iteration', [
    (dict(), 3), (dict(test_checkpoint='latest'), 3), (dict(test_checkpoint='best'), 2),
    (dict(test_iter=1), 1), (dict(test_iter=1, test_checkpoint='best'), 1)])
def test_the_checkpoint_that_was_asked_for_is_restored(trained, given, iteration):
  folder, config = trained
  config = changed(config, **given)
  model = experiment.build_model(config)
  path = checkpoint_for_test.restore_for_test(folder, config, parameters=model.meta_parameters)
  inside = 'best' if given == dict(test_checkpoint='best') else ''
  assert path == os.path.join(folder, inside, f'model-{iteration}')
  first = next(array for array in model.meta_parameters.arrays().values() if array.ndim == 1)
  assert (first == iteration).all()


def test_an_iteration_that_was_not_kept_is_refused_with_those_that_were(trained):
  folder, config = trained
  config = changed(config, test_iter=700)
  with pytest.raises(CheckpointError, match=r'--test_iter=700: .* which has \[1, 2, 3\]'):
    checkpoint_for_test.restore_for_test(folder, config)


@pytest.mark.parametrize('given', [dict(), dict(test_checkpoint='best'), dict(test_iter=5)])
def test_without_a_checkpoint_the_test_is_refused(given, small_config, tmp_path):
  config = small_config(train=False, **given)
  for folder in (tmp_path, tmp_path / 'nowhere'):
    with pytest.raises(CheckpointError, match=ADVICE) as error:
      checkpoint_for_test.restore_for_test(str(folder), config)
    assert '\n' not in str(error.value)


def test_a_checkpoint_of_another_net_is_refused(trained, small_config):
  folder, _ = trained
  config = small_config('omniglot', train=False)
  model = experiment.build_model(config)
  with pytest.raises(CheckpointError, match='model-3 does not fit this net'):
    checkpoint_for_test.restore_for_test(folder, config, parameters=model.meta_parameters)


def test_the_newest_one_that_can_be_read_is_tested(trained, capsys):
  """And nothing in the folder is changed: a run may be going on in it."""
  folder, config = trained
  DAMAGES['one bit in the data'](os.path.join(folder, 'model-3'))
  before = sorted(os.listdir(folder))
  path = checkpoint_for_test.restore_for_test(
      folder, config, parameters=experiment.build_model(config).meta_parameters)
  assert path == os.path.join(folder, 'model-2')
  assert capsys.readouterr().err.endswith(': testing model-2.\n')
  assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize('given, inside, advice', [
    (dict(test_checkpoint='best'), 'best/model-2', '--test_checkpoint=latest'),
    (dict(test_iter=2), 'model-2', 'leave --test_iter out')])
def test_nothing_stands_in_for_what_was_asked_for(given, inside, advice, trained):
  folder, config = trained
  DAMAGES['short data'](os.path.join(folder, inside))
  with pytest.raises(CheckpointError, match=f'{inside} is damaged .*{advice}'):
    checkpoint_for_test.restore_for_test(folder, changed(config, **given))


def test_without_any_that_can_be_read_there_is_nothing_to_test(trained):
  folder, config = trained
  for iteration in (1, 2, 3):
    DAMAGES['short data'](os.path.join(folder, f'model-{iteration}'))
  with pytest.raises(CheckpointError, match='model-3 is damaged .*train again'):
    checkpoint_for_test.restore_for_test(folder, config)
