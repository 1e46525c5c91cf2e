"""The paper's values, the checks, and JSON."""

import json
import math

import hypothesis
import pytest
from hypothesis import strategies as st

from maml_tf import config, problems
from maml_tf.config import ConfigError
from maml_tf.config.summary import summary
from maml_tf.meta_learners import WITHOUT_INNER_LOOP
from maml_tf.problems.classifier import FineTuned, Nearest

# Section 5.1, 5.2 and A.1 of the paper, and the TF1 code where it is silent.
PRESETS = {
    ('sinusoid', None, None): {
        'num_classes': 5, 'update_batch_size': 5, 'train_query_size': 5, 'test_query_size': 5,
        'norm': 'None', 'conv': False, 'max_pool': False, 'update_lr': 0.001, 'num_updates': 1,
        'meta_batch_size': 25, 'meta_lr': 0.001, 'metatrain_iterations': 15000,
        'meta_gradient_clip': 0.0, 'logdir': 'logs/sinusoid'},
    ('sinusoid', None, 10): {
        'update_batch_size': 10, 'train_query_size': 10, 'test_query_size': 10,
        'meta_batch_size': 25},
    ('omniglot', None, None): {
        'num_classes': 5, 'update_batch_size': 1, 'train_query_size': 1, 'test_query_size': 1,
        'norm': 'batch_norm', 'conv': True, 'max_pool': False, 'num_filters': 64,
        'update_lr': 0.4, 'num_updates': 1, 'meta_batch_size': 32, 'meta_lr': 0.001,
        'metatrain_iterations': 60000, 'meta_gradient_clip': 0.0,
        'logdir': 'logs/omniglot'},
    ('omniglot', 5, 5): {
        'update_batch_size': 5, 'train_query_size': 5, 'test_query_size': 5, 'update_lr': 0.4,
        'num_updates': 1, 'meta_batch_size': 32},
    ('omniglot', 20, 1): {
        'num_classes': 20, 'update_batch_size': 1, 'update_lr': 0.1, 'num_updates': 5,
        'meta_batch_size': 16, 'metatrain_iterations': 60000},
    ('omniglot', 20, 5): {
        'num_classes': 20, 'update_batch_size': 5, 'train_query_size': 5, 'update_lr': 0.1,
        'num_updates': 5, 'meta_batch_size': 16},
    ('miniimagenet', None, None): {
        'num_classes': 5, 'update_batch_size': 1, 'train_query_size': 15, 'test_query_size': 1,
        'norm': 'batch_norm', 'conv': True, 'max_pool': True, 'num_filters': 32,
        'update_lr': 0.01, 'num_updates': 5, 'meta_batch_size': 4, 'meta_lr': 0.001,
        'metatrain_iterations': 60000, 'meta_gradient_clip': 10.0,
        'logdir': 'logs/miniimagenet'},
    ('miniimagenet', 5, 5): {
        'update_batch_size': 5, 'train_query_size': 15, 'test_query_size': 5,
        'update_lr': 0.01, 'num_updates': 5, 'meta_batch_size': 2},
}
# (data source, N, K, method): Nichol et al. 2018; table 3 of the MAML paper.
PRESETS_OF_METHODS = {
    ('omniglot', None, None, 'reptile'): {
        'update_lr': 0.001, 'num_updates': 5, 'inner_optimizer': 'adam',
        'inner_batch_size': 10, 'meta_batch_size': 5, 'meta_lr': 1.0,
        'meta_lr_schedule': 'linear', 'meta_optimizer': 'sgd', 'train_query_size': 9,
        'metatrain_iterations': 100000, 'test_num_updates': 50, 'test_inner_batch_size': 5},
    ('omniglot', 20, 5, 'reptile'): {
        'update_lr': 0.0005, 'num_updates': 10, 'inner_batch_size': 20, 'meta_batch_size': 5,
        'train_query_size': 5, 'metatrain_iterations': 200000, 'test_num_updates': 50,
        'test_inner_batch_size': 10},
    ('miniimagenet', 5, 5, 'reptile'): {
        'update_lr': 0.001, 'num_updates': 8, 'inner_batch_size': 10, 'meta_batch_size': 5,
        'train_query_size': 10, 'metatrain_iterations': 100000, 'test_num_updates': 50,
        'test_inner_batch_size': 15, 'meta_gradient_clip': 0.0},
    ('sinusoid', None, None, 'reptile'): {
        'inner_optimizer': 'sgd', 'train_query_size': 45, 'test_query_size': 5},
    ('omniglot', 20, 1, 'anil'): {'update_lr': 0.1, 'num_updates': 5, 'meta_batch_size': 16},
    ('omniglot', 5, 5, 'context_vector'): {
        'context_size': 1, 'update_lr': 0.4, 'num_updates': 1, 'meta_batch_size': 32},
}
# The same for every data source: the TF1 code's defaults and its test protocol.
COMMON = {
    'stop_grad': False, 'baseline': 'None', 'num_averaged_nets': 500,
    'averaged_regulariser': 'None', 'regulariser_weight': 0.0, 'tune_update_lr': False,
    'pretrain_iterations': 0, 'meta_optimizer': 'adam',
    'dtype': 'float32', 'mixed_precision': False, 'recompute_inner_steps': False,
    'test_set': False, 'test_iter': -1, 'num_test_tasks': 600, 'test_num_updates': 10,
    'train_update_batch_size': -1, 'train_update_lr': -1.0, 'method': 'maml',
    'context_size': 0, 'inner_optimizer': 'sgd', 'inner_batch_size': 0,
    'learned_step_sizes': 'None',
    'meta_lr_schedule': 'constant', 'test_inner_batch_size': 0, 'train': True,
    'resume': True, 'log': True, 'seed': 0, 'legacy_checkpoint': None, 'pretrained': None,
    'distribution_strategy': 'off', 'num_gpus': -1, 'worker_hosts': None, 'task_index': -1,
    'worker_timeout': 300}

CLASSIFIER_BASELINES = (FineTuned.name, Nearest.name)


@pytest.mark.parametrize('case', PRESETS, ids=str)
def test_preset_has_the_papers_values(case):
  values = config.preset(*case)
  expected = {**COMMON, **PRESETS[case]}
  assert {name: values[name] for name in expected} == expected
  assert set(values) == set(config.field_types())
  config.from_values(values)


@pytest.mark.parametrize('case', PRESETS_OF_METHODS, ids=str)
def test_preset_has_the_methods_own_values(case):
  values = config.preset(*case)
  expected = {**PRESETS_OF_METHODS[case], 'method': case[-1]}
  assert {name: values[name] for name in expected} == expected
  resolved = config.from_values(values)
  assert resolved.experiment_name.endswith(f'.{case[-1]}')


@pytest.mark.parametrize('given', [
    {'inner_optimizer': 'sgd'}, {'inner_batch_size': 5}, {'meta_lr_schedule': 'constant'},
    {'update_lr': 0.01}, {'meta_lr': 0.5}, {'train_query_size': 5}], ids=str)
def test_runs_of_reptile_that_differ_have_folders_of_their_own(given):
  usual = config.resolve({'datasource': 'omniglot', 'method': 'reptile'})
  other = config.resolve({'datasource': 'omniglot', 'method': 'reptile', **given})
  assert other.experiment_name != usual.experiment_name


def test_reptile_validates_as_it_tests():
  assert config.resolve({'method': 'reptile'}).validation_num_updates == 32
  assert config.resolve({'method': 'anil', 'num_updates': 3}).validation_num_updates == 3


def test_an_oracle_that_is_not_adapted_is_validated_before_any_update():
  control = config.resolve({'datasource': 'point_navigation', 'baseline': 'oracle'})
  sinusoid = config.resolve({'datasource': 'sinusoid', 'baseline': 'oracle'})
  assert (control.validation_num_updates, sinusoid.validation_num_updates) == (0, 1)


def test_a_configuration_from_before_there_were_methods_is_that_of_maml():
  expected = config.resolve({'datasource': 'omniglot', 'num_classes': 20})
  sections = json.loads(expected.to_json())
  for section, name in (('training', 'method'), ('training', 'meta_lr_schedule'),
                        ('learner', 'context_size'), ('inner_loop', 'inner_optimizer'),
                        ('inner_loop', 'inner_batch_size'),
                        ('inner_loop', 'learned_step_sizes'),
                        ('evaluation', 'test_inner_batch_size')):
    del sections[section][name]
  assert config.Config.from_json(json.dumps(sections)) == expected


def test_field_names_are_unique():
  number_of_fields = sum(len(section.__dataclass_fields__)
                         for section in config.SECTIONS.values())
  assert len(config.field_types()) == number_of_fields


_POSITIVE = st.floats(min_value=1e-9, max_value=1e3)
_COUNTS = st.integers(1, 10**6)
_FOLDERS = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0[\\~'),
                   min_size=1, max_size=10).filter(
                       lambda name: name.strip() and '://' not in name)
# Values that fit every data source and each other; 8 + 12 examples are all of Omniglot's.
_ALWAYS_VALID = {
    'data_dir': _FOLDERS, 'num_classes': st.integers(2, 16),
    'update_batch_size': st.integers(1, 8), 'train_query_size': st.integers(1, 12),
    'test_query_size': st.integers(1, 12), 'seed': st.integers(0, 2**31 - 1),
    'norm': st.sampled_from(config.NORMS), 'num_filters': _COUNTS,
    'dtype': st.sampled_from(config.DTYPES), 'mixed_precision': st.booleans(),
    'update_lr': _POSITIVE,
    'num_updates': _COUNTS, 'stop_grad': st.booleans(),
    'tune_update_lr': st.booleans(),
    'pretrain_iterations': st.integers(0, 10**6),
    'metatrain_iterations': st.integers(0, 10**6), 'meta_batch_size': _COUNTS,
    'meta_lr': _POSITIVE, 'meta_optimizer': st.sampled_from(
        [name for name in config.META_OPTIMIZERS if name != config.TRUST_REGION]),
    'meta_gradient_clip': st.floats(0, 1e6), 'tasks_at_once': st.integers(0, 1000),
    'recompute_inner_steps': st.booleans(),
    'xla': st.sampled_from(config.XLA_CHOICES), 'validation_interval': _COUNTS,
    'num_validation_tasks': _COUNTS, 'test_set': st.booleans(),
    'test_checkpoint': st.sampled_from(config.CHECKPOINTS),
    'num_test_tasks': st.integers(2, 10**6), 'test_num_updates': _COUNTS,
    'resume': st.booleans(), 'log': st.booleans(), 'logdir': _FOLDERS,
    'legacy_checkpoint': _FOLDERS, 'pretrained': _FOLDERS,
    'num_gpus': st.integers(-1, 1), 'worker_timeout': _COUNTS}
_ONLY_TESTING = {
    'test_iter': st.integers(-1, 10**6), 'train_update_batch_size': st.integers(1, 8),
    'train_update_lr': _POSITIVE}


_ALWAYS_VALID_IN_CONTROL = {
    'seed': st.integers(0, 2**31 - 1), 'test_query_size': st.integers(1, 12),
    'dtype': st.sampled_from(config.DTYPES), 'update_lr': _POSITIVE, 'num_updates': _COUNTS,
    'stop_grad': st.booleans(), 'meta_batch_size': _COUNTS,
    'tasks_at_once': st.integers(0, 1000), 'validation_interval': _COUNTS,
    'num_test_tasks': st.integers(2, 10**6), 'logdir': _FOLDERS, 'pretrained': _FOLDERS,
    'horizon': st.integers(0, 1000), 'discount': st.floats(0, 1),
    'gae_lambda': st.floats(0, 1), 'rollout_budget': st.sampled_from(['rollouts', 'steps']),
    'inner_loss': st.sampled_from(['log_likelihood', 'ratio']),
    'test_later_step': st.floats(0, 1000)}
_OF_A_TRUST_REGION = {
    'max_kl': _POSITIVE, 'cg_iterations': st.integers(1, 1000),
    'cg_damping': st.floats(0, 1000), 'hessian': st.sampled_from(['exact', 'secant']),
    'hessian_every': _COUNTS}
_OF_OPTIMIZERS = {
    'meta_optimizer': st.sampled_from(config.KERAS_OPTIMIZERS), 'meta_lr': _POSITIVE}


def control_values(datasource):
  """The same of environments, whose fields are others."""
  required = {'datasource': st.just(datasource)}
  side_by_side = 'simulation_threads'
  if datasource == 'gym':
    required['env'], side_by_side = st.just('file.py:Env'), 'simulation_processes'
  optional = {**_ALWAYS_VALID_IN_CONTROL, side_by_side: st.integers(0, 1024)}
  bounded = {**optional, **_OF_A_TRUST_REGION}
  # What is not meta-trained has no order.
  of_baselines = {name: values for name, values in optional.items() if name != 'stop_grad'}
  baselines = ['random', 'oracle', 'pretrained']
  if datasource == 'point_navigation':
    baselines.remove('pretrained')   # whose steps an optimizer makes
  return st.one_of(
      st.fixed_dictionaries(required, optional=bounded),
      st.fixed_dictionaries({**required, **_OF_OPTIMIZERS}, optional=optional),
      st.fixed_dictionaries({**required, 'method': st.just('context_vector')},
                            optional=bounded),
      st.fixed_dictionaries({**required, 'baseline': st.sampled_from(baselines)},
                            optional={**of_baselines, **_OF_A_TRUST_REGION}),
      st.fixed_dictionaries(
          {**required, 'baseline': st.just('pretrained'),
           'pretrain_rollouts': st.integers(0, 100), **_OF_OPTIMIZERS},
          optional=of_baselines))


@st.composite
def given_values(draw):
  """What a user may give: any subset of the fields, with values that fit together."""
  datasource = draw(st.sampled_from(problems.names()))
  if problems.named(datasource).acts:
    return draw(control_values(datasource))
  optional = dict(_ALWAYS_VALID)
  required = {'datasource': st.just(datasource)}
  if datasource == 'sinusoid':
    optional.update(baseline=st.sampled_from(['None', 'oracle', 'averaged']),
                    conv=st.just(False), max_pool=st.just(False))
  else:
    optional.update(baseline=st.sampled_from(['None', *CLASSIFIER_BASELINES]),
                    conv=st.booleans())
  method = draw(st.sampled_from(config.METHODS))
  if method != 'maml':
    required.update(method=st.just(method))
    optional.pop('baseline', None)
  if method == 'maml_plus_plus':
    for name in ('legacy_checkpoint', 'tune_update_lr', 'pretrain_iterations'):
      optional.pop(name, None)
  if method == 'imaml':
    del optional['stop_grad']
  if method in ('reptile', 'anil', 'imaml'):
    del optional['recompute_inner_steps']
  if method in WITHOUT_INNER_LOOP:
    required['datasource'] = st.just('omniglot')
    for name in ('update_lr', 'num_updates', 'test_num_updates', 'stop_grad',
                 'recompute_inner_steps', 'tune_update_lr', 'pretrain_iterations',
                 'legacy_checkpoint'):
      optional.pop(name, None)
    optional.update(train_num_classes=st.integers(2, 60))
  if method == 'reptile':
    for name in ('stop_grad', 'pretrain_iterations', 'meta_gradient_clip'):
      del optional[name]
    optional.update(inner_optimizer=st.sampled_from(config.INNER_OPTIMIZERS),
                    inner_batch_size=st.integers(0, 1000),
                    test_inner_batch_size=st.integers(0, 1000),
                    meta_lr_schedule=st.sampled_from(config.SCHEDULES))
  elif method == 'meta_sgd':
    for name in ('legacy_checkpoint', 'tune_update_lr'):
      optional.pop(name, None)
  elif method == 'context_vector':
    for name in ('legacy_checkpoint', 'norm'):
      optional.pop(name)
    required.update(norm=st.sampled_from(['layer_norm', 'None']))
    optional.update(context_size=st.integers(1, 9))
  if draw(st.booleans()):
    required.update(train=st.just(False))
    optional.update(_ONLY_TESTING)
    if method in (*WITHOUT_INNER_LOOP, 'meta_sgd', 'maml_plus_plus'):
      optional.pop('train_update_lr')   # there is none, or it is in the checkpoint
  given = draw(st.fixed_dictionaries(required, optional=optional))
  if given.get('dtype') == 'float64':
    given.pop('mixed_precision', None)
  if datasource == 'sinusoid' or given.get('conv') is False:
    given.pop('num_filters', None)
  if given.get('test_iter', -1) != -1:
    given.pop('legacy_checkpoint', None)   # both name the checkpoint to test
    given.pop('pretrained', None)
  if 'legacy_checkpoint' in given:
    given.pop('pretrained', None)
  baseline = given.get('baseline', 'None')
  if baseline != 'None':
    for name in ('metatrain_iterations', 'stop_grad', 'recompute_inner_steps'):
      given.pop(name, None)   # all of its training is pre-training
  if baseline == 'oracle':
    given.pop('meta_gradient_clip', None)   # which pre-training does not do
  if baseline not in ('None', 'oracle'):
    given.pop('legacy_checkpoint', None)   # the TF1 code does not have them
  if baseline == 'averaged':
    given['averaged_regulariser'] = draw(st.sampled_from(config.REGULARISERS))
    given['num_averaged_nets'] = draw(_COUNTS)
    if given['averaged_regulariser'] != 'None' and draw(st.booleans()):
      given['regulariser_weight'] = draw(_POSITIVE)
  if baseline == 'nearest_neighbour':   # nothing to tune, one "update"
    given.pop('tune_update_lr', None)
    given.pop('test_num_updates', None)
  return given


@hypothesis.given(given_values())
def test_what_is_given_always_wins(given):
  resolved = config.resolve(given).to_values()
  assert {name: resolved[name] for name in given} == given


@hypothesis.given(given_values())
def test_json_gives_the_same_configuration_back(given):
  resolved = config.resolve(given)
  again = config.Config.from_json(resolved.to_json())
  assert again == resolved
  assert again.experiment_name == resolved.experiment_name
  assert config.differences(resolved, again) == {}


def test_a_file_of_an_earlier_version_is_read():
  resolved = config.resolve({'datasource': 'omniglot', 'seed': 3})
  sections = resolved.to_dict()
  del sections['learner']['mixed_precision'], sections['training']['recompute_inner_steps']
  del sections['run']['pretrained']
  for name in ('num_averaged_nets', 'averaged_regulariser', 'regulariser_weight'):
    del sections['training'][name]
  del sections['evaluation']['tune_update_lr'], sections['control']
  assert config.Config.from_dict(sections) == resolved


def test_differences_names_section_and_both_values():
  one = config.resolve({})
  other = config.resolve({'meta_lr': 0.1, 'seed': 3})
  assert config.differences(one, other, ignore=['seed']) == {
      'training.meta_lr': (0.001, 0.1)}


@pytest.mark.parametrize('given, expected', [
    (dict(baseline='oracle'), dict(pretrain_iterations=15000, metatrain_iterations=0)),
    (dict(baseline='averaged'), dict(
        pretrain_iterations=10000, metatrain_iterations=0, meta_batch_size=10, meta_lr=0.002,
        regulariser_weight=0.0)),
    (dict(baseline='averaged', averaged_regulariser='l2'), dict(regulariser_weight=0.001)),
    (dict(baseline='averaged', averaged_regulariser='mean'), dict(regulariser_weight=0.001)),
    (dict(baseline='fine_tuning', datasource='miniimagenet'), dict(
        pretrain_iterations=12000, metatrain_iterations=0, meta_batch_size=64,
        tune_update_lr=True, test_num_updates=10)),
    (dict(baseline='nearest_neighbour', datasource='omniglot'), dict(
        pretrain_iterations=30000, metatrain_iterations=0, meta_batch_size=64,
        tune_update_lr=False, test_num_updates=1)),
])
def test_presets_of_the_baselines(given, expected):
  resolved = config.resolve(given).to_values()
  assert {name: resolved[name] for name in expected} == expected


@pytest.mark.parametrize('given', [
    dict(num_averaged_nets=7), dict(averaged_regulariser='l2'),
    dict(averaged_regulariser='mean'),
    dict(averaged_regulariser='l2', regulariser_weight=0.5), dict(meta_batch_size=3)])
def test_averaged_nets_that_differ_have_folders_of_their_own(given):
  usual = config.resolve(dict(baseline='averaged')).experiment_name
  assert config.resolve(dict(baseline='averaged', **given)).experiment_name != usual


def test_the_folder_does_not_depend_on_how_the_classifier_is_used():
  images = dict(datasource='miniimagenet')
  names = {config.resolve(dict(baseline=baseline, **images)).experiment_name
           for baseline in CLASSIFIER_BASELINES}
  assert len(names) == 1
  assert config.resolve(images).experiment_name not in names


@pytest.mark.parametrize('given, line', [
    (dict(datasource='sinusoid', metatrain_iterations=3),
     'sinusoid, maml: 5-shot, 1 update of 0.001, 25 tasks a step, 3 iterations, seed 0'),
    (dict(datasource='miniimagenet', num_classes=5, stop_grad=True, seed=2),
     'miniimagenet, maml: 5-way 1-shot, 5 updates of 0.01 in first order, 4 tasks a step, '
     '60,000 iterations, seed 2'),
    (dict(datasource='omniglot', method='prototypical'),
     'omniglot, prototypical: 5-way 1-shot, 20,000 iterations, seed 0'),
    (dict(datasource='omniglot', baseline='nearest_neighbour'),
     'omniglot, nearest_neighbour: 5-way 1-shot, 30,000 iterations, seed 0'),
    (dict(datasource='point_navigation'),
     'point_navigation, maml: 20 rollouts an update, 1 update of 0.1, 20 tasks a step, '
     '100 iterations, seed 0'),
])
def test_a_line_says_what_a_run_is(given, line):
  assert summary(config.resolve(given)) == line


def test_net_without_convolutions_pools_only_on_request():
  resolved = config.resolve({'datasource': 'miniimagenet', 'conv': False})
  assert not resolved.learner.max_pool


@pytest.mark.parametrize('datasource', [
    name for name in problems.names() if not problems.named(name).acts])
def test_other_shots_are_tested_in_the_folder_of_the_trained_shots(datasource):
  trained = config.resolve({'datasource': datasource, 'update_batch_size': 1})
  tested = config.resolve({'datasource': datasource, 'update_batch_size': 5,
                           'train_update_batch_size': 1, 'train': False})
  assert tested.experiment_name == trained.experiment_name
  assert tested.task.update_batch_size == tested.task.test_query_size == 5


@pytest.mark.parametrize('trained, tested', [
    (dict(method='matching'), dict(num_classes=20, train_num_classes=5)),
    (dict(method='matching', num_classes=20), dict(train_num_classes=20)),
    (dict(method='siamese'), dict(num_classes=5, train_num_classes=20)),
    (dict(method='matching', update_batch_size=5),
     dict(num_classes=20, train_num_classes=5, train_update_batch_size=5)),
    (dict(method='prototypical', datasource='miniimagenet'),
     dict(update_batch_size=5, train_update_batch_size=1)),
    (dict(method='prototypical', datasource='miniimagenet', update_batch_size=5),
     dict(update_batch_size=1, train_update_batch_size=5))])
def test_other_ways_and_shots_are_tested_in_the_folder_of_the_trained_ones(trained, tested):
  trained = config.resolve({'datasource': 'omniglot', **trained})
  assert config.resolve({
      'datasource': trained.task.datasource, 'method': trained.training.method,
      'train': False, **tested}).experiment_name == trained.experiment_name


def test_more_rollouts_are_tested_in_the_folder_of_the_trained_ones():
  trained = config.resolve({'datasource': 'point_navigation', 'update_batch_size': 1})
  tested = config.resolve({'datasource': 'point_navigation', 'update_batch_size': 5,
                           'train_update_batch_size': 1, 'train': False})
  assert tested.experiment_name == trained.experiment_name
  assert tested.task.test_query_size == 40   # the rollouts of a test have a flag of their own


def test_other_step_size_is_tested_in_the_folder_of_the_trained_one():
  trained = config.resolve({'update_lr': 0.001})
  tested = config.resolve({'update_lr': 0.01, 'train_update_lr': 0.001, 'train': False})
  assert tested.experiment_name == trained.experiment_name


_PLUS_PLUS = dict(method='maml_plus_plus', datasource='omniglot')
# What is given, and beside what it would change nothing.
POINTLESS = [
    (dict(_PLUS_PLUS, norm='None', per_step_norm=True),
     '--per_step_norm=True does not fit --norm=None, with which there are no'),
    (dict(method='maml_plus_plus', per_step_norm=True),   # sinusoids
     '--per_step_norm=True does not fit --norm=None, with which there are no'),
    (dict(_PLUS_PLUS, stop_grad=True, first_order_iterations=100),
     '--first_order_iterations=100 does not fit --stop_grad=True, with which all'),
    (dict(_PLUS_PLUS, num_updates=1, multi_step_iterations=100),
     '--multi_step_iterations=100 does not fit --num_updates=1, after which'),
    *((dict(given, train=False, update_lr=0.2, train_update_lr=0.1),
       f'--train_update_lr=0.1 does not fit --{beside}, whose step sizes a test takes from')
      for given, beside in ((dict(method='meta_sgd'), 'method=meta_sgd'),
                            (dict(learned_step_sizes='layer'), 'learned_step_sizes=layer'),
                            (_PLUS_PLUS, 'learned_step_sizes=layer_and_step')))]


@pytest.mark.parametrize('given, message', POINTLESS)
def test_what_would_change_nothing_is_refused_where_it_is_given(given, message):
  with pytest.raises(config.ConfigError, match=message):
    config.resolve(given)


@pytest.mark.parametrize('given', [
    dict(norm='None'), dict(stop_grad=True), dict(num_updates=1),
    dict(num_updates=1, multi_step_iterations=0), dict(norm='None', per_step_norm=False),
    dict(stop_grad=True, first_order_iterations=0),
    dict(learned_step_sizes='None', train=False, update_lr=0.2, train_update_lr=0.1)], ids=str)
def test_what_the_preset_has_of_it_is_not(given):
  resolved = config.resolve({**_PLUS_PLUS, **given})
  assert config.Config.from_json(resolved.to_json()) == resolved


@pytest.mark.parametrize('given, folder', [
    (dict(datasource='sinusoid'),
     'cls_5.mbs_25.ubs_5.numstep5.updatelr0.001nonorm.maml_plus_plus'),
    (dict(norm='None'), 'cls_5.mbs_32.ubs_1.numstep5.updatelr0.4nonorm.maml_plus_plus')])
def test_without_norms_there_are_none_of_a_step(given, folder):
  resolved = config.resolve({**_PLUS_PLUS, **given})
  assert not resolved.inner_loop.per_step_norm and resolved.experiment_name == folder
  sections = resolved.to_dict()
  sections['inner_loop']['per_step_norm'] = True   # as runs of earlier versions have it
  assert config.Config.from_dict(sections) == resolved
  assert config.resolve(_PLUS_PLUS).inner_loop.per_step_norm


# What is given, and what the message must show.
WRONG = [
    ({'datasource': 'imagenet'}, 'imagenet'),
    ({'norm': 'instance_norm'}, 'instance_norm'),
    ({'dtype': 'float16'}, 'float16'),
    ({'baseline': 'other'}, 'other'),
    ({'meta_optimizer': 'adamx'}, 'adamx'),
    ({'test_checkpoint': 'first'}, 'first'),
    ({'xla': 'maybe'}, 'maybe'),
    ({'num_classes': 1}, 'num_classes=1'),
    ({'update_batch_size': 0}, 'update_batch_size=0'),
    ({'train_query_size': 0}, 'train_query_size=0'),
    ({'test_query_size': -2}, 'test_query_size=-2'),
    ({'seed': -1}, 'seed=-1'),
    ({'seed': 2**31}, str(2**31)),
    ({'num_filters': 0}, 'num_filters=0'),
    ({'num_updates': 0}, 'num_updates=0'),
    ({'pretrain_iterations': -1}, 'pretrain_iterations=-1'),
    ({'metatrain_iterations': -5}, 'metatrain_iterations=-5'),
    ({'meta_batch_size': 0}, 'meta_batch_size=0'),
    ({'tasks_at_once': -1}, 'tasks_at_once=-1'),
    ({'validation_interval': 0}, 'validation_interval=0'),
    ({'num_validation_tasks': 0}, 'num_validation_tasks=0'),
    ({'num_test_tasks': 1}, 'num_test_tasks=1'),
    ({'test_num_updates': 0}, 'test_num_updates=0'),
    ({'update_lr': 0.0}, 'update_lr=0.0'),
    ({'update_lr': math.nan}, 'update_lr=nan'),
    ({'meta_lr': math.inf}, 'meta_lr=inf'),
    ({'meta_lr': 10**400}, 'meta_lr=inf'),
    ({'meta_lr': -0.1}, 'meta_lr=-0.1'),
    ({'meta_gradient_clip': -1}, 'meta_gradient_clip=-1'),
    ({'meta_gradient_clip': math.nan}, 'meta_gradient_clip=nan'),
    ({'test_iter': -2, 'train': False}, 'test_iter=-2'),
    ({'train_update_batch_size': 0, 'train': False}, 'train_update_batch_size=0'),
    ({'train_update_lr': -2.0, 'train': False}, 'train_update_lr=-2.0'),
    ({'logdir': ''}, 'logdir is empty'),
    ({'data_dir': ''}, 'data_dir is empty'),
    ({'logdir': 'a\0b'}, 'logdir='),
    ({'legacy_checkpoint': ''}, "legacy_checkpoint=''"),
    ({'pretrained': ''}, "pretrained=''"),
    ({'pretrained': 'a\0b'}, 'pretrained='),
    ({'method': 'protonet'}, 'method=protonet'),
    ({'inner_optimizer': 'rmsprop', 'method': 'reptile'}, 'inner_optimizer=rmsprop'),
    ({'meta_lr_schedule': 'steps'}, 'meta_lr_schedule=steps'),
    ({'meta_lr_schedule': 'halving', 'meta_lr_half_life': 0}, 'meta_lr_half_life=0'),
    ({'meta_lr_half_life': 500},
     'meta_lr_half_life=500 does not fit --meta_lr_schedule=constant, which halves nothing'),
    ({'context_size': -1}, 'context_size=-1'),
    ({'inner_batch_size': -1, 'method': 'reptile'}, 'inner_batch_size=-1'),
    ({'num_averaged_nets': 0}, 'num_averaged_nets=0'),
    ({'baseline': 'averaged', 'averaged_regulariser': 'l1'}, 'averaged_regulariser=l1'),
    ({'baseline': 'averaged', 'averaged_regulariser': 'l2', 'regulariser_weight': -1},
     'regulariser_weight=-1'),
    ({'baseline': 'averaged', 'averaged_regulariser': 'l2', 'regulariser_weight': math.nan},
     'regulariser_weight=nan'),
    # wrong types
    ({'num_classes': '5'}, "num_classes='5'"),
    ({'update_batch_size': '5', 'datasource': 'miniimagenet'}, "update_batch_size='5'"),
    ({'num_updates': 1.5}, 'num_updates=1.5'),
    ({'train': 1}, 'train=1'),
    ({'seed': True}, 'seed=True'),
    ({'logdir': None}, 'logdir=None'),
    ({'datasource': ['sinusoid']}, "datasource=['sinusoid']"),
    ({'number_of_classes': 5}, 'number_of_classes'),
    # combinations
    ({'mixed_precision': True, 'dtype': 'float64'}, 'dtype=float64'),
    ({'conv': True}, 'conv=True'),
    ({'max_pool': True}, 'max_pool=True'),
    ({'datasource': 'omniglot', 'baseline': 'oracle'}, 'datasource=omniglot'),
    ({'datasource': 'omniglot', 'conv': False, 'max_pool': True}, 'max_pool=True'),
    ({'datasource': 'miniimagenet', 'max_pool': False}, 'max_pool=False'),
    ({'datasource': 'omniglot', 'num_classes': 101}, 'num_classes=101'),
    ({'datasource': 'omniglot', 'num_classes': 2000}, 'at most 100 are allowed'),
    ({'datasource': 'omniglot', 'num_classes': 2000, 'test_set': True, 'train': False},
     'at most 423 are allowed'),
    ({'datasource': 'omniglot', 'method': 'prototypical', 'num_classes': 2000},
     'at most 100 are allowed'),
    ({'datasource': 'omniglot', 'method': 'prototypical', 'train_num_classes': 2000},
     'train_num_classes=2000 is larger than the train split'),
    ({'datasource': 'omniglot', 'num_classes': 424, 'train': False, 'test_set': True},
     'num_classes=424'),
    ({'datasource': 'miniimagenet', 'num_classes': 17}, 'num_classes=17'),
    ({'datasource': 'miniimagenet', 'num_classes': 21, 'train': False, 'test_set': True},
     'num_classes=21'),
    ({'datasource': 'omniglot', 'update_batch_size': 11}, 'update_batch_size=11'),
    ({'datasource': 'omniglot', 'train_query_size': 20}, 'train_query_size=20'),
    ({'datasource': 'miniimagenet', 'test_query_size': 600}, 'test_query_size=600'),
    ({'averaged_regulariser': 'l2'}, 'averaged_regulariser=l2'),
    ({'regulariser_weight': 0.5}, 'regulariser_weight=0.5'),
    ({'baseline': 'averaged', 'averaged_regulariser': 'l2', 'regulariser_weight': 0},
     'regulariser_weight=0'),
    ({'baseline': 'averaged', 'metatrain_iterations': 5}, 'metatrain_iterations=5'),
    ({'baseline': 'averaged', 'legacy_checkpoint': 'x'}, 'legacy_checkpoint'),
    ({'baseline': 'averaged', 'datasource': 'omniglot'}, 'datasource=omniglot'),
    ({'baseline': 'fine_tuning'}, 'datasource=sinusoid'),
    ({'baseline': 'nearest_neighbour'}, 'datasource=sinusoid'),
    ({'datasource': 'omniglot', 'baseline': 'fine_tuning', 'metatrain_iterations': 5},
     'metatrain_iterations=5'),
    ({'datasource': 'omniglot', 'baseline': 'fine_tuning', 'legacy_checkpoint': 'x'},
     'legacy_checkpoint'),
    ({'datasource': 'omniglot', 'baseline': 'nearest_neighbour', 'test_num_updates': 2},
     'test_num_updates=2'),
    ({'datasource': 'omniglot', 'baseline': 'nearest_neighbour', 'tune_update_lr': True},
     'tune_update_lr=True'),
    ({'test_iter': 1000}, 'test_iter=1000'),
    ({'test_iter': 1000, 'train': False, 'legacy_checkpoint': 'x'}, 'legacy_checkpoint'),
    ({'test_iter': 1000, 'train': False, 'pretrained': 'x'}, '--pretrained'),
    ({'legacy_checkpoint': 'x', 'pretrained': 'y'}, '--pretrained=y'),
    ({'distribution_strategy': 'tpu'}, 'distribution_strategy=tpu'),
    ({'num_gpus': -2}, 'num_gpus=-2'),
    ({'num_gpus': 2}, 'choose mirrored'),
    ({'worker_timeout': 0}, 'worker_timeout=0'),
    ({'worker_hosts': 'a:1'}, '--distribution_strategy=off'),
    ({'task_index': 1, 'distribution_strategy': 'mirrored'},
     '--distribution_strategy=mirrored'),
    ({'baseline': 'averaged', 'distribution_strategy': 'mirrored'}, '--baseline=averaged'),
    ({'baseline': 'fine_tuning', 'datasource': 'omniglot', 'distribution_strategy': 'auto'},
     '--baseline=fine_tuning'),
    ({'train_update_batch_size': 10}, 'train_update_batch_size=10'),
    ({'train_update_lr': 0.5}, 'train_update_lr=0.5'),
    ({'method': 'reptile', 'baseline': 'oracle'}, '--baseline=oracle'),
    ({'method': 'anil', 'baseline': 'oracle'}, '--method=anil'),
    ({'baseline': 'oracle', 'meta_gradient_clip': 10.0}, 'meta_gradient_clip=10.0'),
    ({'method': 'reptile', 'stop_grad': True}, 'stop_grad=True'),
    ({'method': 'reptile', 'meta_gradient_clip': 10.0}, 'meta_gradient_clip=10.0'),
    ({'method': 'reptile', 'pretrain_iterations': 5, 'meta_lr_schedule': 'constant'},
     'pretrain_iterations=5'),
    ({'meta_lr_schedule': 'linear', 'pretrain_iterations': 5}, 'meta_lr_schedule=linear'),
    ({'meta_lr_schedule': 'halving', 'pretrain_iterations': 5}, 'meta_lr_schedule=halving'),
    ({'inner_optimizer': 'adam'}, '--method=maml'),
    ({'method': 'anil', 'recompute_inner_steps': True}, 'recompute_inner_steps=True'),
    ({'inner_batch_size': 5, 'method': 'anil'}, 'inner_batch_size=5'),
    ({'test_inner_batch_size': 5}, 'test_inner_batch_size=5'),
    ({'context_size': 3}, 'context_size=3'),
    ({'method': 'context_vector', 'context_size': 0}, 'context_size=0'),
    ({'method': 'context_vector', 'norm': 'batch_norm'}, 'norm=batch_norm'),
    ({'method': 'context_vector', 'datasource': 'omniglot', 'conv': False}, 'norm=batch_norm'),
    ({'method': 'context_vector', 'legacy_checkpoint': 'x'}, 'legacy_checkpoint'),
]


@pytest.mark.parametrize('given, shown', WRONG, ids=[str(given) for given, _ in WRONG])
def test_wrong_values_are_refused_in_one_sentence(given, shown):
  with pytest.raises(ConfigError) as caught:
    config.resolve(given)
  message = str(caught.value)
  assert shown in message
  assert message.endswith('.') and '\n' not in message and '. ' not in message


def test_splits_that_the_run_does_not_read_set_no_limit():
  testing = {'train': False, 'test_set': True}
  config.resolve({'datasource': 'omniglot', 'num_classes': 423, **testing})
  config.resolve({'datasource': 'miniimagenet', 'num_classes': 20, **testing})


@pytest.mark.parametrize('text', [
    '', '{', '[]', '3', '{}', '{"task": {}}', '[' * 100000, '1' * 5000])
def test_text_that_is_no_configuration_is_refused(text):
  with pytest.raises(ConfigError):
    config.Config.from_json(text)


@pytest.mark.parametrize('change', [
    lambda sections: sections.update(extra={}),
    lambda sections: sections.pop('run'),
    lambda sections: sections.update(run=None),
    lambda sections: sections['run'].update(extra=1),
    lambda sections: sections['run'].pop('log'),
    lambda sections: sections['run'].update(log='yes'),
    lambda sections: sections['training'].update(meta_lr=10**400),
], ids=['extra section', 'section missing', 'section is null', 'extra field',
        'field missing', 'wrong type', 'number too large'])
def test_damaged_json_is_refused(change):
  sections = config.resolve({}).to_dict()
  change(sections)
  with pytest.raises(ConfigError):
    config.Config.from_json(json.dumps(sections))


@pytest.mark.parametrize('given', [
    {'datasource': 'point_navigation'},
    {'datasource': 'point_navigation', 'baseline': 'oracle'},
    {'model': 'resnet12', 'datasource': 'miniimagenet', 'dtype': 'float64'}])
def test_what_replicas_share_may_have_a_strategy(given):
  resolved = config.resolve({**given, 'distribution_strategy': 'mirrored'})
  assert resolved.run.distribution_strategy == 'mirrored'
