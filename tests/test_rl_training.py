"""Meta-iterations: resuming to the bit, faults that change nothing, what each option does."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from rl_problems import Line

from maml_tf.errors import ConfigError
from maml_tf.outer_step import variables_of
from maml_tf.replicas import values_of
from maml_tf.rl.environments import DiscreteActions
from maml_tf.rl.errors import Diverged, EnvironmentFault
from maml_tf.rl.evaluation import Protocol, later_steps, returns_on
from maml_tf.rl.goal_in_observation import GoalInObservation
from maml_tf.rl.point_navigation import PointNavigation
from maml_tf.rl.policy import CategoricalPolicy, GaussianPolicy
from maml_tf.rl.policy_learner import PolicyLearner
from maml_tf.rl.settings import Settings
from maml_tf.rl.streams import EVALUATION
from maml_tf.rl.task_streams import HeldOutTasks, Iterations
from maml_tf.rl.trajectories import Trajectories, packed
from maml_tf.rl.trpo import TrustRegion
from maml_tf.training.optimizers import build_optimizer

SMALL = Settings(tasks=3, rollouts=4, trust_region=TrustRegion(cg_iterations=3))


def make(environment=None, settings=SMALL, seed=0, hidden=(6,)):
  environment = environment or Line()
  model = PolicyLearner(environment, GaussianPolicy(environment.observation_size,
                                                    environment.actions.size, hidden),
                        settings, seed=seed)
  model.compile()
  return model


def step(model, iteration=0):
  """What a meta-iteration logged."""
  return {name: float(value)
          for name, value in model.train_step(Iterations().batch(iteration)).items()}


def same_state(first, second):
  first, second = first.state(), second.state()
  return first.keys() == second.keys() and all(
      np.array_equal(value, second[name]) for name, value in first.items())


@pytest.fixture(scope='module')
def after_one():
  """A model after an iteration; not to be changed."""
  model = make()
  step(model)
  return model


@pytest.mark.slow
def test_two_and_two_iterations_are_four_to_the_last_bit():
  whole, half = make(), make()
  for iteration in range(4):
    last = step(whole, iteration)
  for iteration in range(2):
    step(half, iteration)
  rest = make()
  rest.assign_state({name: np.copy(value) for name, value in half.state().items()})
  step(rest, 2)
  again = step(rest, 3)
  assert same_state(whole, rest)
  for name in ('return_0', 'return', 'kl', 'loss', 'steps'):
    assert last[name] == again[name], name


def test_fit_does_the_iterations_in_their_order():
  by_hand, by_fit = make(), make()
  logs = [step(by_hand, iteration) for iteration in (3, 4)]
  history = by_fit.fit(Iterations().dataset(3, 2), verbose=0, shuffle=False).history
  assert same_state(by_hand, by_fit)
  assert history['return'] == pytest.approx([logs[-1]['return']])   # of its last one
  assert int(by_fit.optimizer.iterations) == 2


def test_an_iteration_improves_within_the_trust_region():
  model = make()
  before = model.theta()
  done = step(model)
  assert done['accepted'] >= 0 and 0 < done['kl'] <= 0.01 and done['loss'] < 0
  assert not np.array_equal(before, model.theta())
  seconds = {name for name in done if name.startswith('seconds_')}
  assert seconds == {'seconds_sampling', 'seconds_advantages', 'seconds_inner',
                     'seconds_outer'}
  assert done['return'] == done['return_1'] and 'return_2' not in done and done['steps'] > 0


def test_seeds_differ(after_one):
  first, second = make(seed=0), make(seed=1)
  assert not np.array_equal(first.theta(), second.theta())
  second.assign_state(first.state())
  step(second)
  assert not np.array_equal(after_one.theta(), second.theta())


@pytest.mark.parametrize('options', [
    {'num_updates': 0}, {'num_updates': 2, 'first_order': True, 'budget': 'steps'},
    {'hessian': 'secant'}, {'hessian_every': 2}, {'inner_loss': 'ratio'}],
    ids=lambda options: '-'.join(options))
def test_each_option_gives_another_step(options, after_one):
  other = make(settings=SMALL._replace(**options))
  done = step(other)
  updates = other.learning.settings.num_updates
  assert done[f'return_{updates}'] == done['return'] and f'return_{updates + 1}' not in done
  assert np.isfinite(list(done.values())).all() and np.isfinite(other.theta()).all()
  assert not np.array_equal(after_one.theta(), other.theta())


def test_rollouts_of_all_tasks_can_be_judged_as_those_of_one():
  """As pre-training does: a baseline and a mean over all of them."""
  model = make(settings=SMALL._replace(num_updates=0, one_task=True, rollouts=1))
  assert step(model)['kl'] > 0


@pytest.mark.parametrize('options, sentence', [
    ({'hessian': 'half'}, "hessian must be one of exact, secant. Received: 'half'"),
    ({'budget': 'step', 'num_updates': 0, 'one_task': True},
     "budget must be one of rollouts, steps. Received: 'step'"),
    ({'tasks': 0}, 'tasks must be at least 1. Received: 0'),
    ({'num_updates': -1}, 'num_updates must be at least 0. Received: -1'),
    ({'hessian_every': 0}, 'hessian_every must be at least 1'),
    ({'one_task': True}, 'one_task is for policies that adapt to no task'),
    ({'inner_loss': 'x'}, 'inner_loss must be one of')])
def test_settings_that_cannot_be_run_are_named(options, sentence):
  with pytest.raises(ConfigError, match=sentence):
    make(settings=SMALL._replace(**options))


@pytest.mark.parametrize('environment, error', [
    (Line(bad_step=1), EnvironmentFault), (Line(bad_step=1, bad_value=1e200), Diverged)])
@pytest.mark.parametrize('by', [step, lambda model: model.fit(
    Iterations().dataset(0, 1), verbose=0, shuffle=False)], ids=['step', 'fit'])
def test_a_fault_changes_nothing(environment, error, by, after_one):
  broken = make(environment)
  broken.assign_state(after_one.state())
  with pytest.raises(error):
    by(broken)
  assert same_state(after_one, broken) and int(broken.optimizer.iterations) == 0


@pytest.mark.parametrize('step_size, sentence', [
    (1e30, 'not finite|collapsed'), (np.nan, 'after an inner step are not finite')])
def test_an_inner_step_too_large_is_one_sentence(step_size, sentence):
  model = make(settings=SMALL._replace(step_size=step_size))
  before = model.state()
  with np.errstate(all='ignore'), pytest.raises(Diverged, match=sentence):
    step(model)
  np.testing.assert_array_equal(before['log_std'], model.state()['log_std'])


def test_a_deviation_that_collapses_is_one_sentence():
  model = make()
  model.assign_state({**model.state(), 'log_std': np.array([-13.9])})
  with pytest.raises(Diverged, match='collapsed'):
    step(model)


@pytest.mark.parametrize('options', [dict(jit_compile=True), dict(steps_per_execution=5)])
def test_what_a_step_cannot_be_is_refused(options):
  with pytest.raises(ConfigError, match='runs its steps eagerly, one at a time'):
    make().compile(**options)


# --- evaluation -------------------------------------------------------------
HELD_OUT = HeldOutTasks(Line(), drawn=5, num_tasks=5, seed=1, rollouts=3)


def test_the_step_sizes_of_the_papers_evaluations():
  assert later_steps(0.5, 3) == (0.5, 0.25, 0.25) and later_steps(0.5, 0) == ()
  assert later_steps(0.1, 2, 0.01) == (0.1, 0.001)


def test_updates_that_are_trained_are_tested_with_the_step_size_of_training():
  for trained, expected in ((0, (0.1, 0.05, 0.05)), (1, (0.1, 0.05, 0.05)),
                            (2, (0.1, 0.1, 0.05)), (5, (0.1, 0.1, 0.1))):
    assert make(settings=SMALL._replace(num_updates=trained)).step_sizes(3) == expected


@pytest.mark.parametrize('step_sizes, finite', [((1e30, 0.1), 1), ((0.1, np.nan), 2)])
def test_a_test_that_diverges_keeps_what_came_before(after_one, step_sizes, finite):
  with np.errstate(all='ignore'):
    received = returns_on(after_one.learning, after_one.theta(), HELD_OUT.batch(0).tasks,
                          Protocol(rollouts=3, step_sizes=step_sizes))
  assert np.isfinite(received[:, :finite]).all() and np.isnan(received[:, finite:]).all()


def test_returns_of_held_out_tasks_before_and_after_updates(after_one):
  """Beside the same steps, one after the other."""
  results = after_one.task_results(HELD_OUT.batch(0), 2)
  assert results.support == {} and set(results.query) == {'return'}
  received = results.query['return'].numpy()
  assert received.shape == (5, 3)
  learning = after_one.learning
  tasks = learning.environment.test_tasks(5, 1)
  points = np.tile(after_one.theta(), (5, 1))
  for update, step_size in enumerate((0.1, 0.05, 0.0)):
    phase = learning.sampler.sample(points, tasks, 3, (EVALUATION, 1, update), 'steps')
    np.testing.assert_array_equal(received[:, update], phase.mean_returns())
    _, gradients = learning.meta_policy.inner_gradient(
        points, packed(phase, learning.judged(phase)))
    points = points - step_size * gradients


def test_the_first_tasks_are_the_same_however_many_there_are(after_one):
  few = HeldOutTasks(Line(), drawn=5, num_tasks=2, seed=1, rollouts=3)
  all_of_them = after_one.task_results(HELD_OUT.batch(0), 1).query['return'].numpy()
  np.testing.assert_allclose(   # adapted in groups of other sizes, in float32
      all_of_them[:2], after_one.task_results(few.batch(0), 1).query['return'].numpy(),
      rtol=1e-5)
  assert few.fingerprint(2) == HELD_OUT.fingerprint(2) != HELD_OUT.fingerprint(3)
  other = HeldOutTasks(Line(), drawn=5, num_tasks=2, seed=2, rollouts=3)
  assert other.fingerprint(2) != few.fingerprint(2)
  with pytest.raises(ConfigError, match='held-out tasks. Received: batches 1 to 2'):
    few.dataset(1, 2)


def held_out_fingerprint(*tasks):
  class Given(Line):
    def test_tasks(self, count, seed):
      return list(tasks)
  return HeldOutTasks(Given(), drawn=1, num_tasks=1, seed=1, rollouts=3).fingerprint(1)


class Raising:
  """A sequence, as NumPy sees it, that cannot be read."""

  def __len__(self):
    raise RuntimeError('no length')

  def __getitem__(self, index):
    raise RuntimeError('no item')

  def __array__(self, *_):
    raise RuntimeError('no array')


def test_tasks_of_any_kind_have_a_fingerprint():
  kinds = [(np.arange(2.0), 3.0), (np.arange(2.0), 4.0), (np.arange(3.0), 3.0),
           [np.arange(2.0), {'mass': 3.0}], (np.arange(2.0), 1e-12 + np.arange(3.0)),
           (np.arange(2.0), np.arange(3.0)), [[1.0, 2.0], [3.0]], {'mass': np.arange(2.0)},
           'left', 3.0, None, Raising()]
  found = [held_out_fingerprint(kind) for kind in kinds]
  assert len(set(found)) == len(kinds)
  again = [held_out_fingerprint(kind) for kind in (*copy.deepcopy(kinds[:-1]), Raising())]
  assert again == found


def test_evaluating_does_not_change_training(after_one):
  model = make()
  model.task_results(HELD_OUT.batch(0), 1)
  step(model)
  assert same_state(model, after_one)


def test_a_policy_adapts_to_tasks_of_ones_own(after_one):
  tasks = np.array([1.5, 2.5])
  received = returns_on(after_one.learning, after_one.theta(), tasks,
                        Protocol(rollouts=3, step_sizes=()))
  assert received.shape == (2, 1)


def test_adapt_is_the_inner_steps_of_one_task(after_one):
  before = after_one.theta()
  adapted = after_one.adapt(1.5, rollouts=4, num_updates=2)
  again = after_one.adapt(1.5, rollouts=4, num_updates=2)
  np.testing.assert_array_equal(adapted.vector, again.vector)
  np.testing.assert_array_equal(before, after_one.theta())
  assert not np.array_equal(adapted.vector, before)
  assert not np.array_equal(adapted.vector, after_one.adapt(1.5, 4, 2, seed=1).vector)
  likely = adapted.act(np.zeros(1))
  drawn = [adapted.act(np.zeros(1), np.random.default_rng(seed)) for seed in range(200)]
  std = np.exp(adapted.policy.split(adapted.vector)['log_std'])
  assert likely.shape == (1,) and np.mean(drawn) == pytest.approx(likely[0], abs=0.3 * std[0])
  assert np.std(drawn) == pytest.approx(std[0], rel=0.2)


def test_rollouts_made_elsewhere_adapt_a_policy(after_one):
  sampler = after_one.learning.sampler
  phase = sampler.sample(after_one.theta()[np.newaxis], [2.0], 4, (9,))
  adapted = after_one.adapt_to(phase)
  batch = packed(phase, after_one.learning.judged(phase))
  _, gradients = after_one.learning.meta_policy.inner_gradient(
      after_one.theta()[np.newaxis], batch)
  np.testing.assert_array_equal(adapted.vector, after_one.theta() - 0.1 * gradients[0])


def test_rollouts_may_come_as_lists(after_one):
  phase = after_one.learning.sampler.sample(after_one.theta()[np.newaxis], [2.0], 4, (9,))
  lists = Trajectories(*(value.tolist() for value in phase))
  np.testing.assert_array_equal(after_one.adapt_to(lists).vector,
                                after_one.adapt_to(phase).vector)


def test_discrete_actions_may_be_integers_of_any_kind():
  class Turns(Line):
    actions = DiscreteActions(3)
  settings = SMALL._replace(num_updates=1)
  model = PolicyLearner(Turns(), CategoricalPolicy(1, 3, (6,)), settings)
  random = np.random.RandomState(0)
  actions = random.randint(0, 3, (1, 2, 5))
  phases = [Trajectories(random.normal(size=(1, 2, 5, 1)), actions.astype(kind),
                         random.normal(size=(1, 2, 5)), np.full((1, 2), 5))
            for kind in (np.int64, np.int32)]
  vectors = [model.adapt_to(phases[0]._replace(actions=phase.actions)).vector
             for phase in phases]
  np.testing.assert_array_equal(*vectors)
  assert not np.array_equal(vectors[0], model.theta())


def test_an_action_that_a_policy_does_not_have_is_one_sentence():
  """As the environment's own are, where a `Discrete` has another `start`."""
  class Turns(Line):
    actions = DiscreteActions(3)
  model = PolicyLearner(Turns(), CategoricalPolicy(1, 3, (6,)), SMALL)
  phase = Trajectories(np.ones((1, 1, 3, 1)), np.array([[[1, 3, -1]]]), np.ones((1, 1, 3)),
                       np.array([[3]]))
  with pytest.raises(ConfigError, match='in step 1 of rollout 0: .*, 3[.]$'):
    model.adapt_to(phase)
  with pytest.raises(ConfigError, match='in step 2 of rollout 0: .*, -1[.]$'):
    model.adapt_to(phase._replace(actions=np.array([[[1, 2, -1]]])))
  model.adapt_to(phase._replace(lengths=np.array([[1]])))   # what is behind does not count


@pytest.mark.parametrize('changes, sentence', [
    (dict(lengths=[[0]]), 'from 0 to the 6 steps .* Received: ..0..'),
    (dict(lengths=[[7]]), 'from 0 to the 6 steps'),
    (dict(lengths=[[-1]]), 'from 0 to the 6 steps'),
    (dict(observations=np.full((1, 1, 6, 1), np.nan)), 'step 0 of rollout 0: .nan., 0.0'),
    (dict(actions=np.full((1, 1, 6, 1), np.inf)), 'step 0 of rollout 0: .*inf'),
    (dict(rewards=np.full((1, 1, 6), np.inf)), 'step 0 of rollout 0: .0.., inf')])
def test_steps_that_could_not_have_been_are_one_sentence(after_one, changes, sentence):
  phase = Trajectories(np.zeros((1, 1, 6, 1)), np.zeros((1, 1, 6, 1)), np.zeros((1, 1, 6)),
                       np.array([[6]]))
  with pytest.raises(ConfigError, match=sentence):
    after_one.adapt_to(phase._replace(**changes))


@pytest.mark.parametrize('changes', [
    dict(lengths=np.array([6])), dict(rewards=np.zeros((2, 1, 6))),
    dict(observations=np.zeros((1, 1, 6, 2))), dict(actions=np.zeros((1, 1, 5, 1))),
    dict(rewards=0.0)])
def test_rollouts_of_other_sizes_are_one_sentence(after_one, changes):
  phase = Trajectories(np.zeros((1, 1, 6, 1)), np.zeros((1, 1, 6, 1)), np.zeros((1, 1, 6)),
                       np.array([[6]]))
  with pytest.raises(ConfigError, match=r'observations \[1, rollouts, steps, 1\], actions'):
    after_one.adapt_to(phase._replace(**changes))


def test_what_a_policy_cannot_adapt_by_or_act_on_is_one_sentence(after_one):
  with pytest.raises(ConfigError, match='rollouts must be at least 1. Received: 0'):
    after_one.adapt(1.5, rollouts=0)
  policy = after_one.adapt(1.5, rollouts=0, num_updates=0)
  with pytest.raises(ConfigError, match='An observation has 1 numbers. Received: 3'):
    policy.act(np.zeros(3))


def test_inner_steps_on_a_known_advantage_do_what_they_should():
  """Where one action is better than another, it becomes more likely."""
  model = make(settings=SMALL._replace(step_size=0.5))
  actions = np.array([1.0, -1.0] * 3).reshape(1, 1, 6, 1)
  phase = Trajectories(np.zeros((1, 1, 6, 1)), actions, np.zeros((1, 1, 6)), np.array([[6]]))
  batch = packed(phase, actions[..., 0])
  points = model.theta()[np.newaxis]
  adapted = model.learning.adapted(points, batch)
  mean = model.learning.meta_policy.outputs(adapted, batch)[0]
  # d/d mean of log pi x A, averaged, is 1, and of the output's bias, too.
  assert mean[0, 0, 0] == pytest.approx(0.5, abs=0.01)


@pytest.mark.slow
def test_a_point_learns_to_find_its_goal():
  environment = PointNavigation()
  model = PolicyLearner(environment, GaussianPolicy(2, 2), Settings())
  model.compile()
  model.fit(Iterations().dataset(0, 25), verbose=0, shuffle=False)
  tasks = HeldOutTasks(environment, drawn=40, num_tasks=40, seed=1, rollouts=20)
  returns = model.task_results(tasks.batch(0), 1).query['return'].numpy().mean(axis=0)
  assert returns[0] < -35 and returns[1] > -16


WITHOUT_REGION = SMALL._replace(num_updates=0, trust_region=None, dtype='float64')


def test_without_a_trust_region_the_optimizer_follows_the_gradient():
  """The mean over tasks of the policy gradient, by Adam as TF1 had it."""
  model, other = make(settings=WITHOUT_REGION), make(settings=WITHOUT_REGION)
  model.compile(build_optimizer('adam', 0.01, 'float64'))
  theta, mean, square = model.theta(), 0.0, 0.0
  for number in range(1, 4):
    done = step(model, number)
    samples = other.learning.sampled(theta, number)
    _, gradients = other.learning.meta_policy.inner_gradient(
        samples.points[0], samples.batches[0])
    gradient = gradients.mean(axis=0)
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient ** 2
    rate = 0.01 * np.sqrt(1 - 0.999 ** number) / (1 - 0.9 ** number)
    theta = theta - rate * mean / (np.sqrt(square) + 1e-8)
    np.testing.assert_allclose(model.theta(), theta, rtol=0, atol=1e-7)
    assert done['loss'] < 0 < done['kl'] and 'accepted' not in done
  assert int(model.optimizer.iterations) == 3


def test_a_step_of_an_optimizer_that_leads_nowhere_changes_nothing(monkeypatch):
  def of_no_use(*_):
    raise Diverged('of no use')
  model, before = make(settings=WITHOUT_REGION), make(settings=WITHOUT_REGION)
  model.compile(build_optimizer('adam', 0.01, 'float64'))
  kept = values_of(variables_of(model.optimizer))
  monkeypatch.setattr(model.learner, 'check', of_no_use)
  with pytest.raises(Diverged, match='of no use'):
    step(model)
  assert same_state(before, model)
  for old, new in zip(kept, values_of(variables_of(model.optimizer))):
    np.testing.assert_array_equal(old, new)


def test_as_one_task_further_rollouts_are_of_further_tasks():
  """Whole rollouts until all of them together have as many steps as full ones."""
  settings = SMALL._replace(num_updates=0, one_task=True, rollouts=1)
  def acted(budget):
    model = make(GoalInObservation(Line()), settings._replace(budget=budget))
    [found] = model.learning.sampled(model.theta(), 0).phases
    return found
  found, fixed = acted('steps'), acted('rollouts')
  lengths, wanted = found.lengths[0], settings.tasks * Line().horizon
  assert len(lengths) > settings.tasks and lengths.min() > 0
  assert lengths[:-1].sum() < wanted <= lengths.sum()
  assert len(set(found.observations[0, :, 0, 1])) == len(lengths)
  assert fixed.lengths.shape == (1, settings.tasks)
  np.testing.assert_array_equal(fixed.lengths[0], lengths[:settings.tasks])
