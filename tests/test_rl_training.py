"""Meta-iterations: resuming to the bit, faults that change nothing, what each option does."""

from __future__ import annotations

import numpy as np
import pytest
from rl_problems import Line

from maml_tf.rl.errors import Diverged, EnvironmentFault
from maml_tf.rl.evaluation import Protocol, halved, returns_on, task_returns
from maml_tf.rl.point_navigation import PointNavigation
from maml_tf.rl.policy import GaussianPolicy
from maml_tf.rl.rollouts import Trajectories, packed
from maml_tf.rl.streams import EVALUATION
from maml_tf.rl.training import Settings, Training
from maml_tf.rl.trpo import TrustRegion

SMALL = Settings(tasks=3, rollouts=4, trust_region=TrustRegion(cg_iterations=3))


def make(environment=None, settings=SMALL, seed=0, hidden=(6,)):
  environment = environment or Line()
  return Training(environment, GaussianPolicy(environment.observation_size,
                                              environment.actions.size, hidden),
                  settings, seed)


def same_state(first, second):
  first, second = first.state(), second.state()
  return first.keys() == second.keys() and all(
      np.array_equal(value, second[name]) for name, value in first.items())


@pytest.fixture(scope='module')
def after_one():
  """A training after an iteration; not to be changed."""
  training = make()
  training.iterate()
  return training


def test_two_and_two_iterations_are_four_to_the_last_bit():
  whole, half = make(), make()
  for _ in range(4):
    last = whole.iterate()
  for _ in range(2):
    half.iterate()
  rest = make(seed=0)
  rest.assign_state({name: np.copy(value) for name, value in half.state().items()})
  rest.iterate()
  again = rest.iterate()
  assert same_state(whole, rest) and rest.iteration == 4
  np.testing.assert_array_equal(last.returns, again.returns)
  assert (last.kl, last.surrogate, last.steps) == (again.kl, again.surrogate, again.steps)


def test_an_iteration_improves_within_the_trust_region():
  training = make()
  before = training.parameters
  done = training.iterate()
  assert done.number == 0 and training.iteration == 1
  assert done.accepted >= 0 and 0 < done.kl <= 0.01 and done.surrogate < 0
  assert not np.array_equal(before, training.parameters)
  assert set(done.seconds) == {'sampling', 'advantages', 'inner', 'outer'}
  assert done.returns.shape == (2,) and done.steps > 0


def test_seeds_differ(after_one):
  first, second = make(seed=0), make(seed=1)
  assert not np.array_equal(first.parameters, second.parameters)
  second.assign_state(first.state())
  second.iterate()
  assert not np.array_equal(after_one.parameters, second.parameters)


def test_the_best_parameters_are_those_that_sampled():
  training = make()
  thetas, scores = [], []
  for _ in range(4):
    thetas.append(training.parameters)
    scores.append(training.iterate().returns[-1])
  best = int(np.argmax(scores))
  assert training.best.iteration == best and training.best.score == scores[best]
  np.testing.assert_array_equal(training.best.parameters, thetas[best])


@pytest.mark.parametrize('options', [
    {'num_updates': 0}, {'num_updates': 2, 'first_order': True, 'budget': 'steps'},
    {'hessian': 'secant'}, {'hessian_every': 2}, {'inner_loss': 'ratio'}],
    ids=lambda options: '-'.join(options))
def test_each_option_gives_another_step(options, after_one):
  other = make(settings=SMALL._replace(**options))
  done = other.iterate()
  assert len(done.returns) == 1 + other.learning.settings.num_updates
  assert np.isfinite(done.returns).all() and np.isfinite(other.parameters).all()
  assert not np.array_equal(after_one.parameters, other.parameters)


def test_rollouts_of_all_tasks_can_be_judged_as_those_of_one():
  """As pre-training does: a baseline and a mean over all of them."""
  training = make(settings=SMALL._replace(num_updates=0, one_task=True, rollouts=1))
  assert training.iterate().kl > 0


@pytest.mark.parametrize('options, sentence', [
    ({'hessian': 'half'}, "hessian must be one of exact, secant. Received: 'half'"),
    ({'tasks': 0}, 'tasks must be at least 1. Received: 0'),
    ({'num_updates': -1}, 'num_updates must be at least 0. Received: -1'),
    ({'hessian_every': 0}, 'hessian_every must be at least 1'),
    ({'one_task': True}, 'one_task is for policies that adapt to no task'),
    ({'inner_loss': 'x'}, 'inner_loss must be one of')])
def test_settings_that_cannot_be_run_are_named(options, sentence):
  with pytest.raises(ValueError, match=sentence):
    make(settings=SMALL._replace(**options))


@pytest.mark.parametrize('environment, error', [
    (Line(bad_step=1), EnvironmentFault), (Line(bad_step=1, bad_value=1e200), Diverged)])
def test_a_fault_changes_nothing(environment, error, after_one):
  broken = make(environment)
  broken.assign_state(after_one.state())
  with pytest.raises(error):
    broken.iterate()
  assert same_state(after_one, broken)


@pytest.mark.parametrize('step_size, sentence', [
    (1e30, 'not finite|collapsed'), (np.nan, 'after an inner step are not finite')])
def test_an_inner_step_too_large_is_one_sentence(step_size, sentence):
  training = make(settings=SMALL._replace(step_size=step_size))
  before = training.state()
  with np.errstate(all='ignore'), pytest.raises(Diverged, match=sentence):
    training.iterate()
  assert training.iteration == 0
  np.testing.assert_array_equal(before['parameters/log_std'],
                                training.state()['parameters/log_std'])


def test_a_deviation_that_collapses_is_one_sentence():
  training = make()
  state = training.state()
  state['parameters/log_std'] = np.array([-13.9])
  training.assign_state(state)
  with pytest.raises(Diverged, match='collapsed'):
    training.iterate()
  assert training.iteration == 0


def test_a_state_of_another_policy_is_refused(after_one):
  other = make(hidden=(7,))
  before = other.state()
  with pytest.raises(ValueError, match='does not fit the policy. Received: .*expected'):
    other.assign_state(after_one.state())
  assert other.iteration == 0
  np.testing.assert_array_equal(before['parameters/output/kernel'],
                                other.state()['parameters/output/kernel'])


def test_a_state_goes_through_a_file(tmp_path, after_one):
  np.savez(tmp_path / 'state.npz', **after_one.state())
  other = make()
  with np.load(tmp_path / 'state.npz') as state:
    other.assign_state({name: state[name] for name in state.files})
  assert same_state(after_one, other)


# --- evaluation -------------------------------------------------------------
PROTOCOL = Protocol(tasks=5, rollouts=3, step_sizes=(0.1, 0.05))


def test_the_step_sizes_of_the_papers_evaluations():
  assert halved(0.5, 3) == (0.5, 0.25, 0.25) and halved(0.5, 0) == ()


def test_returns_of_held_out_tasks_before_and_after_updates(after_one):
  """Beside the same steps, one after the other."""
  training = after_one
  received = task_returns(training.learning, training.parameters, PROTOCOL)
  assert received.shape == (5, 3)
  learning = training.learning
  tasks = learning.environment.test_tasks(5, 1)
  points = np.tile(training.parameters, (5, 1))
  for update, step_size in enumerate((0.1, 0.05, 0.0)):
    phase = learning.sampler.sample(points, tasks, 3, (EVALUATION, 1, update), 'steps')
    np.testing.assert_array_equal(received[:, update], phase.mean_returns())
    _, gradients = learning.meta_policy.inner_gradient(
        points, packed(phase, learning.judged(phase)))
    points = points - step_size * gradients


def test_evaluating_does_not_change_training(after_one):
  training = make()
  task_returns(training.learning, training.parameters, PROTOCOL)
  training.iterate()
  assert same_state(training, after_one)


def test_a_policy_adapts_to_tasks_of_ones_own(after_one):
  tasks = np.array([1.5, 2.5])
  received = returns_on(after_one.learning, after_one.parameters, tasks,
                        Protocol(rollouts=3, step_sizes=()))
  assert received.shape == (2, 1)


def test_inner_steps_on_a_known_advantage_do_what_they_should():
  """Where one action is better than another, it becomes more likely."""
  training = make(settings=SMALL._replace(step_size=0.5))
  actions = np.array([1.0, -1.0] * 3).reshape(1, 1, 6, 1)
  phase = Trajectories(np.zeros((1, 1, 6, 1)), actions, np.zeros((1, 1, 6)), np.array([[6]]))
  batch = packed(phase, actions[..., 0])
  points = training.parameters[np.newaxis]
  adapted = training.learning.adapted(points, batch)
  mean = training.learning.meta_policy.outputs(adapted, batch)[0]
  # d/d mean of log pi x A, averaged, is 1, and of the output's bias, too.
  assert mean[0, 0, 0] == pytest.approx(0.5, abs=0.01)


@pytest.mark.slow
def test_a_point_learns_to_find_its_goal():
  training = Training(PointNavigation(), GaussianPolicy(2, 2),
                      Settings(tasks=20, rollouts=20, step_size=0.1), seed=0)
  for _ in range(25):
    training.iterate()
  returns = task_returns(training.learning, training.parameters, Protocol(
      rollouts=20, step_sizes=halved(0.1, 1))).mean(axis=0)
  assert returns[0] < -35 and returns[1] > -16
