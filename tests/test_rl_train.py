"""The command: from nothing to a table, on from where it was, and what it refuses."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from maml_tf.rl import catalogue, paper, train
from maml_tf.rl.evaluation import Protocol
from maml_tf.rl.policy import GaussianPolicy
from maml_tf.rl.training import Settings
from maml_tf.rl.trpo import TrustRegion


@pytest.fixture(autouse=True)
def small(monkeypatch):
  """The paper's run in small: its net, horizon and table stay."""
  run = paper.RUNS['point_navigation']
  settings = Settings(tasks=2, rollouts=2, trust_region=TrustRegion(cg_iterations=2))
  monkeypatch.setitem(paper.RUNS, 'point_navigation', run._replace(
      settings=settings, iterations=3,
      protocol=Protocol(tasks=4, rollouts=2, step_sizes=(0.1, 0.05, 0.05))))


def run(capsys, *arguments):
  try:
    code = train.main([str(argument) for argument in arguments])
  except SystemExit as caught:
    code = caught.code
  return (code, *capsys.readouterr())


def state(folder):
  with np.load(folder / 'state.npz') as found:
    return {name: found[name] for name in found.files}


def history(folder):
  with open(folder / 'history.csv', encoding='utf-8', newline='') as file:
    return list(csv.DictReader(file))


def test_a_run_and_one_that_was_stopped_are_the_same(capsys, tmp_path):
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  code, out, err = run(capsys, f'--folder={whole}')
  assert (code, err) == (0, '')
  assert '4 held-out tasks, parameters before iteration 3' in out and '-40.4' in out
  run(capsys, f'--folder={parts}', '--iterations=1')
  # As if it had been killed between both files.
  rows = history(parts)
  with open(parts / 'history.csv', 'a', encoding='utf-8') as file:
    file.write(','.join(['1', *list(rows[0].values())[1:]]) + '\n')
  code, out, _ = run(capsys, f'--folder={parts}', '--tested=best')
  assert code == 0 and 'goes on from iteration 1' in out
  first, second = state(whole), state(parts)
  assert first.keys() == second.keys()
  for name, value in first.items():
    np.testing.assert_array_equal(value, second[name], err_msg=name)
  assert [row['iteration'] for row in history(parts)] == ['0', '1', '2']
  for one, other in zip(history(whole), history(parts)):
    assert one['return_1'] == other['return_1']
  result = json.loads((whole / 'result.json').read_text())
  assert np.mean(result['tasks'], axis=0) == pytest.approx(result['means'])
  # The same once more: nothing is left to train.
  before = (whole / 'result.json').read_text().split('"seconds"')[0]
  code, out, _ = run(capsys, f'--folder={whole}')
  assert 'surrogate' not in out
  assert (whole / 'result.json').read_text().split('"seconds"')[0] == before


def test_another_run_in_the_same_folder_is_refused(capsys, tmp_path):
  run(capsys, f'--folder={tmp_path}', '--iterations=0')
  code, _, err = run(capsys, f'--folder={tmp_path}', '--seed=1', '--iterations=0')
  assert code == 2 and 'holds another run' in err and err.count('\n') == 1


@pytest.mark.parametrize('arguments, sentence', [
    (['--environment=walker'], 'environment must be one of'),
    (['--hessian=half'], 'invalid choice'), (['--iterations=few'], 'invalid int')])
def test_what_does_not_exist_is_refused(capsys, tmp_path, arguments, sentence):
  code, _, err = run(capsys, f'--folder={tmp_path / "run"}', *arguments)
  assert code == 2 and sentence in err and err.count('\n') == 1
  assert not (tmp_path / 'run').exists()


def test_a_run_that_diverges_is_one_sentence(capsys, tmp_path):
  code, _, err = run(capsys, f'--folder={tmp_path}', '--step_size=nan')
  assert code == 1 and 'not finite' in err and err.count('\n') == 1
  assert not (tmp_path / 'state.npz').exists()


def test_the_papers_runs_are_complete():
  for name, found in paper.RUNS.items():
    assert len(found.returns) == len(found.protocol.step_sizes) + 1, name
    found.settings.check()
  assert paper.RUNS.keys() == set(catalogue.NAMES)
  assert GaussianPolicy(2, 2).num_parameters == 10604
