"""A kind of task from outside the package: one registration, and everything knows it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

import flags
from maml_tf import application, measures, problems, verify
from maml_tf.config import ConfigError, preset, resolve
from maml_tf.episodes import Episodes
from maml_tf.learners import FullyConnected
from maml_tf.measures import LOSS, Measure
from maml_tf.objectives import Objective
from maml_tf.paper import records
from maml_tf.paper.rows import Row
from maml_tf.problems import Problem
from maml_tf.sources.source import BLOCK, Draws, EpisodeSource
from maml_tf.training import history
from maml_tf.training.run_folder import experiment_folder

# Larger is better, and it is never above 0: as a return is.
CLOSENESS = Measure('closeness', 'closeness', larger_is_better=True, unit='cm', scale=10,
                    digits=1)


class Closeness(Objective):
  """Judged by minus the mean distance."""

  measures = (LOSS, CLOSENESS)

  def loss(self, outputs, labels):
    return tf.reduce_mean(tf.square(outputs - tf.cast(labels, outputs.dtype)), axis=[1, 2])

  def measured(self, outputs, labels):
    distance = tf.abs(outputs - tf.cast(labels, outputs.dtype))
    return {'loss': self.loss(outputs, labels),
            'closeness': -tf.reduce_mean(distance, axis=[1, 2])}


class Lines(EpisodeSource):
  """y = slope * x."""

  def __init__(self, support_size, query_size):
    self._support_size, self._query_size = support_size, query_size

  @property
  def data_identity(self):
    return f'lines/{self._support_size}'

  def draw(self, seed):
    draws = Draws(seed)
    points = self._support_size + self._query_size
    return {'slope': draws.uniform([BLOCK, 1, 1], 1.0, 2.0),
            'x': draws.uniform([BLOCK, points, 1], -1.0, 1.0)}

  def materialise(self, recipes):
    x, y = recipes['x'], recipes['slope'] * recipes['x']
    support = self._support_size
    return Episodes.of(x[:, :support], y[:, :support], x[:, support:], y[:, support:])


class LineProblem(Problem):
  """The least that a problem has to say."""

  name = 'lines'
  measure = CLOSENESS

  def preset(self, num_classes, shots):
    return dict(update_batch_size=shots or 3, norm='None', conv=False, update_lr=0.1,
                metatrain_iterations=60, meta_batch_size=4, validation_interval=20,
                num_validation_tasks=8, num_test_tasks=10, test_num_updates=2)

  def input_shape(self, config):
    return (1,)

  def net(self, config, input_shape):
    return FullyConnected(*input_shape, (5,), 1, config.learner.norm)

  def objective(self, config):
    return Closeness()

  def source(self, config, split, query_size):
    return Lines(config.task.update_batch_size, query_size)


@pytest.fixture(autouse=True)
def lines():
  problem = problems.register(LineProblem())
  yield problem
  problems.unregister('lines')


def configured(tmp_path, *arguments):
  return flags.parse(['main.py', '--datasource=lines', f'--logdir={tmp_path / "runs"}',
                      '--test_checkpoint=best', *arguments])


def test_it_is_trained_resumed_tested_and_reported(tmp_path, capsys):
  config = configured(tmp_path, '--metatrain_iterations=30')
  assert application.run(config) == 0
  assert application.run(configured(tmp_path)) == 0
  output = capsys.readouterr().out
  assert 'Resumed at iteration 30 of 60' in output
  assert 'closeness, cm' in output
  folder = experiment_folder(config)
  with open(f'{folder}/test_ubs3_stepsize0.1.json', encoding='utf-8') as file:
    tested = json.load(file)
  for update in ('update0_support', 'update0_query', 'update1', 'update2'):
    assert list(tested['updates'][update]) == ['loss', 'closeness']
    assert tested['updates'][update]['closeness']['mean'] < 0
  # The value is shown in its unit.
  assert f'{10 * tested["updates"]["update2"]["closeness"]["mean"]:.1f}' in output
  lines_of_history = history.read(f'{folder}/history.csv')
  assert [line['iteration'] for line in lines_of_history] == [20, 40, 60]
  assert all(line['closeness'] < 0 and line['val_closeness_1'] < 0
             for line in lines_of_history)


def test_the_best_checkpoint_is_that_of_the_largest_value(tmp_path):
  config = configured(tmp_path)
  assert application.run(config) == 0
  folder = experiment_folder(config)
  scores = {line['iteration']: line['val_closeness_1']
            for line in history.read(f'{folder}/history.csv')}
  with open(f'{folder}/test_ubs3_stepsize0.1.json', encoding='utf-8') as file:
    assert json.load(file)['iteration'] == max(scores, key=scores.get)


def test_verify_trains_and_reports_a_row_of_it(tmp_path, capsys):
  flagfile = tmp_path / 'lines.flags'
  flagfile.write_text('--datasource=lines\n--test_checkpoint=best\n')
  row = Row('lines', 'nowhere', 'Lines', {'datasource': 'lines'}, {1: '-90.0'}, 1,
            flagfile=str(flagfile))
  results = tmp_path / 'results'
  code = verify.main(['--row=lines', '--train', f'--logdir={tmp_path / "runs"}',
                      f'--results={results}'], [row])
  assert code == 0
  [record] = records.read_all(row, str(results))
  assert record.measure is CLOSENESS and -9 < record.after(1).mean < 0
  assert 'above (better)' in capsys.readouterr().out
  assert verify.main(['--report', f'--results={results}'], [row]) == 0
  assert 'above (better)' in (results / 'README.md').read_text()
  assert (results / 'lines' / 'learning_curves.png').stat().st_size > 1000


def test_the_help_and_the_messages_know_it(capsys):
  assert 'lines' in flags.help_text()
  with pytest.raises(ConfigError, match='sinusoid, omniglot, miniimagenet, .*, lines'):
    resolve({'datasource': 'line'})
  with pytest.raises(ConfigError, match='--baseline=oracle does not fit --datasource=lines'):
    resolve({'datasource': 'lines', 'baseline': 'oracle'})
  assert preset('lines')['meta_batch_size'] == 4


def test_a_name_is_given_once(lines):
  with pytest.raises(ConfigError, match="already: choose another"):
    problems.register(lines)
  with pytest.raises(ConfigError, match='another measure'):
    measures.register(dataclasses.replace(CLOSENESS, scale=1))


@pytest.mark.parametrize('problem', ['sinusoid', 'omniglot', 'miniimagenet'])
def test_every_problem_s_objective_has_its_measure(problem):
  config = resolve({'datasource': problem})
  assert config.problem.objective(config).measures[-1] == config.problem.measure


def test_scores_and_texts():
  assert CLOSENESS.is_better(-1.0, -2.0) and not LOSS.is_better(2.0, 1.0)
  assert LOSS.score(2.0) == -2.0 and CLOSENESS.text(-0.123) == '-1.2'
  assert np.isclose(measures.ACCURACY.score(0.5), 0.5)
