"""The step size is chosen on validation tasks, and on nothing else."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from maml_tf import application, experiment
from maml_tf.errors import NotFiniteError
from maml_tf.evaluation import tuning
from maml_tf.evaluation.protocol import Evaluator, score
from maml_tf.measures import MEAN_SQUARED_ERROR
from maml_tf.training.run_folder import experiment_folder

STEP_SIZES = (1e-9, 0.02, 1e30)


@pytest.fixture
def config(small_config):
  return small_config(pretrain_iterations=0, metatrain_iterations=0, tune_update_lr=True,
                      num_validation_tasks=6, update_lr=0.005, log=False)


def test_the_best_after_the_last_update_is_chosen_and_kept(config, monkeypatch):
  model = experiment.build_model(config)
  generator = experiment.evaluation_generator(config, 'val', 10, experiment.TUNING_SEED)
  scores = {}
  for step_size in (1e-9, 0.02):
    model.step_size = step_size
    scores[step_size] = score(Evaluator(model, generator, 10, 3)(), model.measure)
  best = max(scores, key=scores.get)
  monkeypatch.setattr(tuning, 'STEP_SIZES', STEP_SIZES)
  found = tuning.tune_step_size(model, generator, 10, 3)
  assert found.step_size == model.step_size == best
  for step_size, value in scores.items():
    np.testing.assert_allclose(found.measured[step_size][-1], -value, rtol=1e-5)
    assert len(found.measured[step_size]) == 4
  assert found.measured[1e30][-1] is None   # not finite, and never the best
  assert 'not finite' in found.describe(MEAN_SQUARED_ERROR)
  json.dumps(found.as_dict(), allow_nan=False)


def test_where_no_step_size_gives_a_finite_result_it_is_said(config, monkeypatch):
  model = experiment.build_model(config)
  generator = experiment.evaluation_generator(config, 'val', 10, experiment.TUNING_SEED)
  monkeypatch.setattr(tuning, 'STEP_SIZES', (1e30, 1e32))
  with pytest.raises(NotFiniteError, match=r'No step size of 1e\+30, 1e\+32 gives a finite'):
    tuning.tune_step_size(model, generator, 10, 3)


def test_it_is_recorded_and_uses_validation_tasks_alone(config, monkeypatch, capsys):
  monkeypatch.setattr(tuning, 'STEP_SIZES', STEP_SIZES)
  drawn = []
  original = experiment.evaluation_generator

  def spy(config, split, num_tasks, seed=experiment.EVALUATION_SEED, replicas=1):
    generator = original(config, split, num_tasks, seed, replicas)
    drawn.append((split, seed, generator.fingerprint(num_tasks)))
    return generator
  monkeypatch.setattr(experiment, 'evaluation_generator', spy)
  chosen = []
  tune = tuning.tune_step_size
  monkeypatch.setattr(
      application, 'tune_step_size',
      lambda *args, **kwargs: chosen.append(list(drawn)) or tune(*args, **kwargs))
  assert application.run(config) == 0
  # Up to the choice: validation tasks for the checkpoint, others for the step size.
  assert [entry[:2] for entry in chosen[0]] == [('val', 0), ('val', 1)]
  assert [entry[:2] for entry in drawn] == [('val', 0), ('val', 1), ('test', 0)]
  assert len({fingerprint for _, _, fingerprint in drawn}) == 3
  with open(os.path.join(experiment_folder(config), 'test_ubs5_stepsizetuned.json'),
            encoding='utf-8') as file:
    stored = json.load(file)
  assert stored['episodes_fingerprint'] == drawn[2][2]
  assert stored['tuning']['fingerprint'] == drawn[1][2]
  assert stored['tuning']['num_tasks'] == 6 and stored['tuning']['split'] == 'val'
  listed = [row['step_size'] for row in stored['tuning']['measured']]
  assert stored['tuning']['step_size'] in listed
  assert f'Step size of the fine-tuning: {stored["tuning"]["step_size"]:g}, ' in (
      capsys.readouterr().out)


def test_the_test_is_made_with_the_chosen_step_size(small_config, config, monkeypatch):
  monkeypatch.setattr(tuning, 'STEP_SIZES', (0.03,))
  model = experiment.build_model(config)
  assert application.run(config) == 0
  folder = experiment_folder(config)
  with open(os.path.join(folder, 'test_ubs5_stepsizetuned.json'), encoding='utf-8') as file:
    tuned = json.load(file)['updates']
  model.step_size = 0.03
  generator = experiment.evaluation_generator(config, 'test', 6)
  expected = Evaluator(model, generator, 6, 2)().query['loss'].mean(axis=0)
  for update in (1, 2):
    np.testing.assert_allclose(tuned[f'update{update}']['loss']['mean'], expected[update],
                               rtol=1e-5)


def test_without_the_flag_the_step_size_is_that_of_the_flags(small_config):
  config = small_config(metatrain_iterations=0, log=False)
  assert application.run(config) == 0
  folder = experiment_folder(config)
  with open(os.path.join(folder, 'test_ubs5_stepsize0.01.json'), encoding='utf-8') as file:
    assert json.load(file)['tuning'] is None
