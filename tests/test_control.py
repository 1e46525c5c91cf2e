"""Reinforcement learning by the flags: trained, stopped, resumed, tested, reported."""

from __future__ import annotations

import csv
import json
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import flags
from maml_tf import application, benchmark, experiment, render
from maml_tf.config import ConfigError, resolve
from maml_tf.paper import records
from maml_tf.paper.flagfiles import row_config
from maml_tf.paper.rows import ROWS, row_named
from maml_tf.reports import animation
from maml_tf.reports.paths import paths_figure
from maml_tf.rl.errors import Diverged
from maml_tf.rl.evaluation import adapted_rollouts
from maml_tf.training.run_folder import experiment_folder
from maml_tf.verification import returns_plot, runs

SMALL = dict(
    datasource='point_navigation', meta_batch_size=2, update_batch_size=2, test_query_size=2,
    horizon=8, cg_iterations=2, num_test_tasks=3, num_validation_tasks=2,
    validation_interval=2, metatrain_iterations=3)
SHORT = dict(metatrain_iterations=0, pretrain_iterations=2, meta_batch_size=4)
BASELINES = {
    'pretrained': dict(SHORT, baseline='pretrained', meta_optimizer='trpo',
                       pretrain_rollouts=0),
    'pretrained by Adam': dict(SHORT, baseline='pretrained', cg_iterations=0),
    'random': dict(baseline='random', metatrain_iterations=0),
    'oracle': dict(SHORT, baseline='oracle')}


def small(tmp_path, **more):
  return resolve({**SMALL, 'logdir': str(tmp_path), **more})


def trained(config, until=None):
  """The model after training in the configuration's folder."""
  model = experiment.build_model(config)
  application.train_or_resume(config, model, until)
  return model


def history(config):
  with open(os.path.join(experiment_folder(config), 'history.csv'), encoding='utf-8') as file:
    return list(csv.DictReader(file))


def test_a_run_that_was_stopped_goes_on_to_the_last_bit(tmp_path, capsys):
  whole, parts = small(tmp_path / 'whole'), small(tmp_path / 'parts')
  expected = trained(whole).state()
  trained(parts, until=1)
  received = trained(parts).state()
  assert 'Resumed at iteration 1 of 3' in capsys.readouterr().out
  for name, value in expected.items():
    np.testing.assert_array_equal(value, received[name], err_msg=name)
  columns = ('iteration', 'return', 'loss', 'kl', 'val_return_0', 'val_return_1')
  one, other = ([[line[column] for column in columns] for line in history(config)]
                for config in (whole, parts))
  assert one == other and [line[0] for line in one] == ['2', '3']


def test_a_test_gives_returns_a_table_and_the_picture_of_paths(tmp_path, capsys):
  assert application.run(small(tmp_path)) == 0
  out = capsys.readouterr().out
  assert 'PolicyLearner, GaussianPolicy: 10,604 parameters' in out
  lines = out[out.index('updates  '):].splitlines()
  assert lines[0].split()[:2] == ['updates', 'return']
  assert [line.split()[0] for line in lines[1:5]] == ['0', '1', '2', '3']
  folder = experiment_folder(small(tmp_path))
  with open(os.path.join(folder, 'test_ubs2_stepsize0.1.json'), encoding='utf-8') as file:
    stored = json.load(file)
  assert list(stored['updates']) == ['update0_query', 'update1', 'update2', 'update3']
  assert stored['num_tasks'] == 3
  assert stored['updates']['update1']['return']['mean'] < 0
  with open(os.path.join(folder, 'test_ubs2_stepsize0.1.csv'), encoding='utf-8') as file:
    means = [float(value) for value in list(csv.reader(file))[1]]
  assert means == [stored['updates'][name]['return']['mean'] for name in stored['updates']]
  with open(os.path.join(folder, 'paths.png'), 'rb') as file:
    assert file.read(4) == b'\x89PNG'


def test_without_the_test_set_validation_tasks_are_tested(tmp_path, capsys):
  """They were the test tasks all the same, and the paper's values stood beside them."""
  config = small(tmp_path, test_set=False, metatrain_iterations=1)
  assert application.run(config) == 0
  with open(os.path.join(experiment_folder(config), 'val_ubs2_stepsize0.1.json'),
            encoding='utf-8') as file:
    tested = json.load(file)['episodes_fingerprint']
  expected = experiment.evaluation_generator(config, 'val', 3)
  assert tested == expected.fingerprint(3)
  assert tested != experiment.evaluation_generator(config, 'test', 3).fingerprint(3)
  assert 'paper' not in capsys.readouterr().out


def test_figure_4_shows_the_paths_of_each_task(tmp_path):
  config = small(tmp_path)
  model = experiment.build_model(config)
  generator = experiment.evaluation_generator(config, 'test', 3)
  figure = paths_figure(model, generator, 'title')
  assert len(figure.axes) == 3
  for axes, goal in zip(figure.axes, generator.batch(0).tasks):
    *paths, star = axes.lines
    assert len(paths) == 4 * 2   # before, and after 1, 2, 3 updates, two rollouts each
    assert all(tuple(path.get_xydata()[0]) == (0, 0) for path in paths)
    np.testing.assert_array_equal(star.get_xydata()[0], goal)
    assert re.fullmatch(r'returns -\d+, -\d+, -\d+, -\d+', axes.get_title())


def test_the_paths_of_figure_4_end_where_the_last_action_leads(tmp_path):
  """They ended one step before: a reward is of the place behind its action."""
  config = small(tmp_path)
  model = experiment.build_model(config)
  generator = experiment.evaluation_generator(config, 'test', 3)
  held_out = generator.first(3)
  before = next(adapted_rollouts(model.learning, model.theta(), held_out.tasks,
                                 model.protocol(held_out, 3)))
  figure = paths_figure(model, generator, 'title')
  for task, (axes, goal) in enumerate(zip(figure.axes, held_out.tasks)):
    for rollout, path in enumerate(axes.lines[:2]):
      rewards = before.rewards[task, rollout, :before.lengths[task, rollout]]
      np.testing.assert_allclose(
          -np.linalg.norm(path.get_xydata()[1:] - goal, axis=1), rewards, rtol=1e-12)


@pytest.mark.parametrize('baseline', BASELINES)
def test_baselines_are_trained_and_tested(baseline, tmp_path, capsys):
  config = small(tmp_path, **BASELINES[baseline])
  assert config.training.metatrain_iterations == 0
  model = trained(config)
  initial = experiment.build_model(config)
  is_trained = not np.array_equal(model.theta(), initial.theta())
  assert is_trained == (baseline != 'random')
  goal = 2 if baseline == 'oracle' else 0   # numbers of the goal in an observation
  assert model.learner.observation_size == 2 + goal
  test = application.test(config, model, experiment_folder(config))
  assert test.results.query['return'].shape == (3, 4)


def test_the_best_checkpoint_of_an_oracle_is_chosen_before_any_update(tmp_path):
  """Updates spoil what has the goal before its eyes, so that they would choose at random."""
  config = small(tmp_path, validation_interval=1, **BASELINES['oracle'])
  trained(config)
  scores = {row['iteration']: float(row['val_return_0']) for row in history(config)}
  assert len(scores) == 2 and not any('val_return_1' in row for row in history(config))
  best = max(scores, key=scores.get)
  assert os.path.exists(os.path.join(experiment_folder(config), 'best', f'model-{best}.index'))


def test_presets_of_the_baselines():
  def of(baseline, name='point_navigation'):
    values = resolve({'datasource': name, 'baseline': baseline}).to_values()
    return tuple(values[field] for field in ('pretrain_iterations', 'meta_batch_size',
                                             'update_lr', 'max_kl', 'hessian_every',
                                             'rollout_budget'))
  assert of('pretrained') == (100, 20, 0.5, 0.0, 0, 'rollouts')
  assert of('oracle') == (100, 10, 0.1, 0.01, 1, 'steps')
  for baseline, step_size in (('pretrained', 0.2), ('oracle', 0.1)):
    assert of(baseline, 'cheetah_direction') == (500, 100, step_size, 0.01, 1, 'rollouts')
  assert of('pretrained', 'cheetah_velocity') == (475, 100, 0.02, 0.01, 5, 'rollouts')
  assert of('pretrained', 'ant_direction') == (2000, 100, 0.2, 0.01, 1, 'steps')
  assert of('oracle', 'ant_velocity') == (550, 100, 0.1, 0.01, 1, 'steps')
  assert of('random', 'ant_velocity')[2] == 1.0 and of('random', 'cheetah_direction')[2] == 0.5


def test_the_points_policy_is_pre_trained_as_its_original_was():
  """One step of Adam on 20 rollouts of each of 20 goals, judged goal by goal."""
  config = resolve({'datasource': 'point_navigation', 'baseline': 'pretrained'})
  values = config.to_values()
  assert (values['meta_optimizer'], values['meta_lr']) == ('adam', 0.001)
  model = experiment.build_model(config)
  settings = experiment.build_pretraining(config, model).learning.settings
  assert (settings.tasks, settings.rollouts, settings.num_updates, settings.one_task,
          settings.trust_region) == (20, 20, 0, False, None)


def test_a_run_of_adam_that_was_stopped_goes_on_to_the_last_bit(tmp_path):
  """With its moments."""
  def of(name):
    return small(tmp_path / name, **dict(BASELINES['pretrained by Adam'],
                                         pretrain_iterations=4))
  expected = trained(of('whole')).state()
  trained(of('parts'), until=2)
  received = trained(of('parts')).state()
  for name, value in expected.items():
    np.testing.assert_array_equal(value, received[name], err_msg=name)


@pytest.mark.parametrize('baseline, interval', [
    ('None', 10), ('pretrained', 50), ('oracle', 50)])
def test_a_validation_does_not_act_for_longer_than_what_is_between_two(baseline, interval):
  values = resolve({'datasource': 'ant_velocity', 'baseline': baseline}).to_values()
  assert values['validation_interval'] == interval
  given = dict(baseline=baseline, validation_interval=3)
  assert resolve({'datasource': 'ant_velocity', **given}).training.validation_interval == 3


def test_only_the_context_is_adapted(tmp_path):
  config = small(tmp_path, method='context_vector')
  model = experiment.build_model(config)
  adapted = model.adapt(np.array([0.3, 0.3]), rollouts=2)
  before, after = (model.learner.split(vector) for vector in (model.theta(), adapted.vector))
  changed = {name for name in before if not np.array_equal(before[name], after[name])}
  assert changed == {'context'} and before['context'].shape == (5,)


def test_settings_are_those_of_the_flags(tmp_path):
  config = small(tmp_path, discount=0.9, gae_lambda=0.8, max_kl=0.05, cg_damping=0.1,
                 hessian='secant', hessian_every=3, rollout_budget='steps', stop_grad=True,
                 inner_loss='ratio', num_updates=2, update_lr=0.3, dtype='float64', seed=4)
  model = experiment.build_model(config)
  settings, region = model.learning.settings, model.learning.settings.trust_region
  assert settings[:6] == (2, 2, 2, 0.3, 0.9, 0.8)
  assert (region.max_kl, region.cg_iterations, region.cg_damping) == (0.05, 2, 0.1)
  assert (settings.hessian, settings.hessian_every, settings.budget, settings.first_order,
          settings.inner_loss, settings.dtype) == ('secant', 3, 'steps', True, 'ratio',
                                                   'float64')
  assert model.learning.environment.horizon == 8 and model.learning.seed == 4
  assert model.step_sizes(3) == (0.3, 0.3, 0.15)


def test_runs_of_other_settings_have_other_folders(tmp_path):
  names = {small(tmp_path, **more).experiment_name for more in (
      {}, dict(discount=0.9), dict(max_kl=0.1), dict(hessian='secant'), dict(horizon=9),
      dict(inner_loss='ratio'), dict(rollout_budget='steps'),
      dict(baseline='random', metatrain_iterations=0),
      *BASELINES.values(),
      dict(BASELINES['pretrained by Adam'], meta_lr=0.01),
      dict(method='context_vector'), dict(seed=1))}
  assert len(names) == 14
  assert not any('cg_iterations0' in name for name in names)
  assert (small(tmp_path, simulation_threads=2).experiment_name
          == small(tmp_path).experiment_name)


@pytest.mark.parametrize('given, sentence', [
    (dict(norm='batch_norm'), '--norm=batch_norm does not fit --datasource=point_navigation, '
                              'whose policy has two hidden layers of 100: leave it out.'),
    (dict(conv=True), '--conv=True does not fit'),
    (dict(method='reptile'), '--method=reptile does not fit --datasource=point_navigation, '
                             'which is learned by maml or context_vector'),
    (dict(meta_optimizer='adam', max_kl=0.1),
     '--max_kl=0.1 does not fit --meta_optimizer=adam, which has no trust region: leave it '
     'out, or give --meta_optimizer=trpo.'),
    (dict(meta_lr=0.1), '--meta_lr=0.1 does not fit --meta_optimizer=trpo, whose steps a '
                        'trust region bounds: give --max_kl'),
    (dict(meta_gradient_clip=1.0), 'whose gradients are not clipped'),
    (dict(learned_step_sizes='layer'), 'whose inner steps all have --update_lr: leave it out'),
    (dict(pretrain_rollouts=3), '--pretrain_rollouts=3 does not fit --pretrain_iterations=0, '
                                'in which nothing is pre-trained: leave it out.'),
    (dict(pretrain_rollouts=-1, pretrain_iterations=1), '--pretrain_rollouts=-1 is not'),
    (dict(train_query_size=3), 'rollouts before each update and behind the last one'),
    (dict(baseline='averaged'), 'its nets each learn one sinusoid'),
    (dict(hessian='half'), '--hessian=half is not known; allowed: exact, secant'),
    (dict(discount=1.5), '--discount=1.5 is not allowed: it must be between 0 and 1'),
    (dict(max_kl=0.0), '--max_kl=0.0 is not allowed'),
    (dict(env='x.py:Y'), 'which has an environment already'),
    (dict(datasource='gym'), 'lacks --env=FILE.py:CLASS'),
    *((dict(datasource='gym', env=env), f'--env={env} is not allowed: it must be FILE.py:NAME')
      for env in ('x.py', 'package.Class', 'x.py:')),
    (dict(simulation_processes=2), 'which simulates in threads: give --simulation_threads'),
    (dict(datasource='gym', env='x.py:Y', simulation_threads=2),
     'which is stepped in Python: give --simulation_processes'),
    (dict(baseline='random', pretrain_iterations=3), 'which is not trained'),
    (dict(baseline='pretrained', metatrain_iterations=3), 'trained without adaptation')])
def test_what_has_no_meaning_is_one_sentence(given, sentence):
  with pytest.raises(ConfigError, match=None) as caught:
    resolve({'datasource': 'point_navigation', **given})
  assert sentence in str(caught.value)


@pytest.mark.parametrize('given, sentence', [
    (dict(discount=0.9), '--discount=0.9 does not fit --datasource=omniglot, in which no '
                         'policy acts: leave it out, or give one of point_navigation'),
    (dict(meta_optimizer='trpo'), 'which has no policies'),
    (dict(max_kl=0.1), 'in which no policy acts'),
    (dict(env='x.py:Y'), 'in which no policy acts'),
    (dict(method='imaml', cg_iterations=3), 'in which no policy acts: --method=imaml has '
                                            '--imaml_cg_iterations.'),
    (dict(baseline='random'), 'it is allowed with reinforcement learning alone')])
def test_other_data_have_none_of_it(given, sentence):
  with pytest.raises(ConfigError) as caught:
    resolve({'datasource': 'omniglot', **given})
  assert sentence in str(caught.value)


def test_a_run_that_diverges_ends_in_a_sentence_and_keeps_its_last_checkpoint(tmp_path):
  config = small(tmp_path)
  trained(config, until=2)
  model = experiment.build_model(config)
  model.learning.settings = model.learning.settings._replace(step_size=float('nan'))
  model.learning.meta_policy.step_size = float('nan')
  with pytest.raises(Diverged, match='not finite'):
    application.train_or_resume(config, model)
  names = os.listdir(experiment_folder(config))
  assert 'model-2.index' in names and 'model-3.index' not in names


def test_a_validation_that_diverges_lets_the_training_go_on(tmp_path, capsys, monkeypatch):
  def diverged(*_):
    raise Diverged('nothing of use')
  config = small(tmp_path)
  model = experiment.build_model(config)
  monkeypatch.setattr(model.learning, 'adapted_to', diverged)   # of validations alone
  application.train_or_resume(config, model)
  assert 'Validation after iteration 2: the return' in capsys.readouterr().err
  assert 'model-3.index' in os.listdir(experiment_folder(config))


def test_a_test_that_diverges_is_told_with_what_came_before(tmp_path, capsys):
  assert application.run(small(tmp_path, baseline='random', update_lr=1e20,
                               metatrain_iterations=0)) == 1
  read = capsys.readouterr()
  assert 'after 1 update is not' in read.err and 'lower --update_lr' in read.err
  rows = [line.split()[:2] for line in read.out.splitlines() if re.match('[0-3] ', line)]
  assert float(rows[0][1]) < 0 and {row[1] for row in rows[1:]} == {'nan'}


@pytest.mark.slow
def test_a_row_is_trained_tested_and_recorded(tmp_path):
  """By the machinery that all rows have; in small."""
  row = row_named('point_navigation')
  config = small(tmp_path / 'logs', test_checkpoint='best')
  results = str(tmp_path / 'results')
  assert runs.train_row(row, config, until=2, results=results).trained == 2
  record = runs.train_row(row, config, results=results)
  assert record.is_complete and record.measure.name == 'return'
  assert record.updates == [0, 1, 2, 3] and record.after(1).mean < 0
  first = record.fields['first_episodes']
  assert len(first['values']) == 3 and len(first['values'][0]) == 4
  assert records.read(row, 0, results).fields == record.fields
  again = experiment.build_model(config)
  with np.load(os.path.join(results, row.name, 'seed0.npz')) as kept:
    again.assign_state({name: kept[name] for name in kept.files})
  generator = experiment.evaluation_generator(config, 'test', 3)
  assert generator.fingerprint(3) == first['episodes_fingerprint']
  values = again.task_results(generator.batch(0), 3).query['return'].numpy()
  np.testing.assert_allclose(values, first['values'], rtol=1e-5)


@pytest.mark.parametrize('row', [row for row in ROWS if row.problem.acts],
                         ids=lambda row: row.name)
def test_flagfiles_describe_their_rows(row):
  config = row_config(row)
  assert row.fits(config) and not [
      other.name for other in ROWS if other is not row and other.fits(config)]
  by_adam = row.name == 'point_navigation_pretrained'
  assert config.training.meta_optimizer == ('adam' if by_adam else 'trpo')
  assert config.split == 'test'


def test_flags_give_the_same(tmp_path):
  config = flags.parse(['main.py', *(f'--{name}={value}' for name, value in SMALL.items()),
                        f'--logdir={tmp_path}'])
  assert config == small(tmp_path)


def test_the_benchmark_splits_an_iteration(tmp_path, capsys):
  arguments = [f'--{name}={value}' for name, value in SMALL.items()]
  assert benchmark.main(['benchmark', '--steps=2', *arguments]) == 0
  figures = json.loads(capsys.readouterr().out.splitlines()[-1])
  parts = [figures[f'seconds_{part}'] for part in ('sampling', 'advantages', 'inner', 'outer')]
  assert 0 < max(parts) < figures['iteration_seconds']
  assert figures['steps'] == 2 * 2 * 2 * 8 and figures['physics_steps_per_second'] is None
  assert figures['steps_per_second'] < figures['sampled_steps_per_second']


def test_a_policy_is_seen_before_and_after_each_update(tmp_path, capsys):
  trained(small(tmp_path), until=1)
  arguments = [f'--{name}={value}' for name, value in SMALL.items()]
  path = str(tmp_path / 'seen.gif')
  assert render.main(['render', f'--out={path}', '--task=1', f'--logdir={tmp_path}',
                      *arguments]) == 0
  assert f'Written: {path}, 9 frames, of ' in capsys.readouterr().out
  with Image.open(path) as image:
    assert image.n_frames == 9 and image.size == (4 * 240, 258)
    first = np.asarray(image.convert('RGB'))
    image.seek(8)
    last = np.asarray(image.convert('RGB'))
  panels = np.split(np.any(first != last, axis=2), 4, axis=1)
  assert all(panel.any() for panel in panels)   # something moves in each


@pytest.mark.parametrize('scenes', [2, 9, 100, 101, 201, 1001])
def test_the_last_frame_is_the_end_with_the_return_over_it(scenes, monkeypatch):
  monkeypatch.setattr(animation, '_frame', lambda panels, titles, time: time)
  times = animation._frames([range(scenes), range(2)], None)
  assert times[0] == 0 and times[-1] == scenes - 1
  assert times == sorted(set(times)) and len(times) <= animation.MOST_FRAMES


def test_what_cannot_be_seen_is_one_sentence(tmp_path, capsys):
  for arguments, sentence in (
      (['--datasource=sinusoid'], 'has no policy to be seen acting'),
      (['--datasource=point_navigation', '--task=40'], '--task=40 is not allowed: it must be '
                                                       'from 0 to 39'),
      (['--datasource=point_navigation'], 'There is no checkpoint to test'),
      (['--datasource=point_navigation', f'--out={tmp_path}/x.png'], 'must be a FILE.gif'),
      (['--datasource=point_navigation', f'--out={tmp_path}/none/x.gif'],
       'there is no folder')):
    code = render.main(['render', f'--out={tmp_path}/x.gif', f'--logdir={tmp_path}/none',
                        *arguments])
    error = capsys.readouterr().err
    assert code in (1, 2) and sentence in error and error.count('\n') == 1


def test_figure_5_has_a_panel_for_each_environment_with_results(tmp_path):
  results = str(tmp_path / 'results')
  assert returns_plot.figure_5(returns_plot.panels_of(ROWS, results), ROWS) is None
  for name, more in (('point_navigation', {}),
                     ('point_navigation_random', dict(baseline='random',
                                                      metatrain_iterations=0))):
    runs.train_row(row_named(name), small(tmp_path / 'logs', **more), results=results)
  panels = returns_plot.panels_of(ROWS, results)
  assert list(panels) == ['point_navigation']
  assert list(panels['point_navigation']) == ['MAML', 'random']
  assert returns_plot.figure_5(panels, ROWS).startswith(b'\x89PNG')


@pytest.mark.parametrize('trained, ended_early, label', [
    (475, False, 'MAML'), (9, False, 'MAML (partial: 9 of 475)'),
    (240, True, 'MAML (ended early: 240 of 475)')])
def test_the_legend_of_figure_5_says_how_much_of_a_run_there_is(trained, ended_early, label):
  record = SimpleNamespace(trained=trained, planned=475, is_complete=trained == 475,
                           ended_early=ended_early)
  assert returns_plot.label_of('MAML', record) == label
