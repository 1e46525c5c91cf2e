"""The command line: every flag, every flagfile, every mistake."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

import flags
from maml_tf import config, problems
from maml_tf.config import ConfigError

ROOT = Path(__file__).resolve().parent.parent
FLAGFILES = sorted((ROOT / 'flags').glob('*.flags'))

TF1_FLAGS = [
    'datasource', 'num_classes', 'baseline', 'pretrain_iterations',
    'metatrain_iterations', 'meta_batch_size', 'meta_lr', 'update_batch_size',
    'update_lr', 'num_updates', 'norm', 'num_filters', 'conv', 'max_pool', 'stop_grad',
    'log', 'logdir', 'resume', 'train', 'test_iter', 'test_set',
    'train_update_batch_size', 'train_update_lr']


def parse(*arguments):
  return flags.parse(['main.py', *arguments])


def flagfile(name):
  return f'--flagfile={ROOT / "flags" / name}.flags'


def run(*arguments):
  """A real process with this command line: what `main.py` does first."""
  program = 'import sys, flags; flags.main_config(sys.argv)'
  return subprocess.run([sys.executable, '-c', program, *arguments], cwd=ROOT,
                        capture_output=True, text=True, check=False)


def mistake(*arguments):
  """The exit code and what is on stderr, in this process."""
  stderr = io.StringIO()
  with contextlib.redirect_stderr(stderr), pytest.raises(SystemExit) as caught:
    flags.main_config(['main.py', *arguments])
  return caught.value.code, stderr.getvalue()


# --- the set of flags -------------------------------------------------------


def test_one_flag_for_each_field_of_the_configuration():
  assert sorted(flags.flag_names()) == sorted(config.field_types())


def test_sections_of_the_help_are_those_of_the_configuration():
  from flags import definitions
  assert list(definitions.MEANINGS) == list(config.SECTIONS)
  for section, (_, meanings) in definitions.MEANINGS.items():
    assert list(meanings) == list(config.SECTIONS[section].__dataclass_fields__)


def test_every_flag_of_the_tf1_code_exists():
  assert set(TF1_FLAGS) <= set(flags.flag_names())


def test_nothing_below_the_entry_point_reads_flags():
  reads_flags = re.compile(
      r'^\s*(from absl import .*\bflags\b|(from|import) absl\.flags|(from|import) flags\b)',
      re.MULTILINE)
  assert reads_flags.search('from absl import app, flags')
  # A module that is itself a command may hand its command line to `flags`, and the one that
  # reads the flagfiles of rows hands it these.
  texts = {str(path): path.read_text(encoding='utf-8')
           for path in sorted((ROOT / 'maml_tf').rglob('*.py'))}
  offenders = [path for path, text in texts.items()
               if reads_flags.search(text) and "if __name__ == '__main__':" not in text
               and not path.endswith(os.path.join('paper', 'flagfiles.py'))]
  assert offenders == []


def test_importing_and_parsing_leave_absls_flags_alone():
  from absl import flags as absl_flags
  parse('--seed=1')
  parse('--seed=2')
  assert 'num_classes' not in absl_flags.FLAGS


# --- values -----------------------------------------------------------------

# A value for each flag, other than the preset where that fits; any subset of them fits
# together, but for the three that name the parameters to test.
GIVEN = {
    '--data_dir=elsewhere/data': ('data_dir', 'elsewhere/data'),
    '--num_classes=7': ('num_classes', 7),
    '--update_batch_size=3': ('update_batch_size', 3),
    '--train_query_size=4': ('train_query_size', 4),
    '--test_query_size=2': ('test_query_size', 2),
    '--seed=12': ('seed', 12),
    '--norm=None': ('norm', 'None'),
    '--num_filters=8': ('num_filters', 8),
    '--noconv': ('conv', False),
    '--max_pool=false': ('max_pool', False),
    '--dtype=float64': ('dtype', 'float64'),
    '--mixed_precision': ('mixed_precision', True),
    '--update_lr=1e-2': ('update_lr', 0.01),
    '--num_updates=2': ('num_updates', 2),
    '--stop_grad': ('stop_grad', True),
    '--inner_optimizer=sgd': ('inner_optimizer', 'sgd'),
    '--inner_batch_size=0': ('inner_batch_size', 0),
    '--context_size=0': ('context_size', 0),
    '--multi_step_iterations=0': ('multi_step_iterations', 0),
    '--first_order_iterations=0': ('first_order_iterations', 0),
    '--per_step_norm=False': ('per_step_norm', False),
    '--proximal_weight=0': ('proximal_weight', 0.0),
    '--imaml_cg_iterations=0': ('imaml_cg_iterations', 0),
    '--full_context=False': ('full_context', False),
    '--cosine_scale=1': ('cosine_scale', 1.0),
    '--distance_scale=1': ('distance_scale', 1.0),
    '--model=paper': ('model', 'paper'),
    '--train_num_classes=-1': ('train_num_classes', -1),
    '--learned_step_sizes=None': ('learned_step_sizes', 'None'),
    '--method=maml': ('method', 'maml'),
    '--meta_lr_schedule=constant': ('meta_lr_schedule', 'constant'),
    '--meta_lr_half_life=2000': ('meta_lr_half_life', 2000),
    '--test_inner_batch_size=0': ('test_inner_batch_size', 0),
    '--baseline=': ('baseline', 'None'),
    '--num_averaged_nets=500': ('num_averaged_nets', 500),
    '--averaged_regulariser=None': ('averaged_regulariser', 'None'),
    '--regulariser_weight=0': ('regulariser_weight', 0.0),
    '--tune_update_lr': ('tune_update_lr', True),
    '--pretrain_iterations=100': ('pretrain_iterations', 100),
    '--metatrain_iterations=0': ('metatrain_iterations', 0),
    '--meta_batch_size=9': ('meta_batch_size', 9),
    '--meta_lr=1': ('meta_lr', 1.0),
    '--meta_optimizer=sgd': ('meta_optimizer', 'sgd'),
    '--meta_gradient_clip=.5': ('meta_gradient_clip', 0.5),
    '--tasks_at_once=2': ('tasks_at_once', 2),
    '--recompute_inner_steps': ('recompute_inner_steps', True),
    '--xla=off': ('xla', 'off'),
    '--validation_interval=10': ('validation_interval', 10),
    '--num_validation_tasks=3': ('num_validation_tasks', 3),
    '--test_set=t': ('test_set', True),
    '--test_iter=1000': ('test_iter', 1000),
    '--test_checkpoint=best': ('test_checkpoint', 'best'),
    '--num_test_tasks=6000': ('num_test_tasks', 6000),
    '--test_num_updates=4': ('test_num_updates', 4),
    '--train_update_batch_size=2': ('train_update_batch_size', 2),
    '--train_update_lr=0.3': ('train_update_lr', 0.3),
    '--resume=False': ('resume', False),
    '--nolog': ('log', False),
    '--logdir=runs/': ('logdir', 'runs/'),
    '--legacy_checkpoint=tf1/model1': ('legacy_checkpoint', 'tf1/model1'),
    '--pretrained=sinusoid_5shot:1': ('pretrained', 'sinusoid_5shot:1'),
    '--distribution_strategy=multi_worker_mirrored':
        ('distribution_strategy', 'multi_worker_mirrored'),
    '--num_gpus=1': ('num_gpus', 1),
    '--worker_hosts=a:1,b:1': ('worker_hosts', 'a:1,b:1'),
    '--task_index=1': ('task_index', 1),
    '--worker_timeout=60': ('worker_timeout', 60),
}


# The same where a policy acts.
GIVEN_IN_CONTROL = {
    '--env=my_file.py:Env': ('env', 'my_file.py:Env'),
    '--horizon=50': ('horizon', 50),
    '--discount=0.9': ('discount', 0.9),
    '--gae_lambda=0.95': ('gae_lambda', 0.95),
    '--pretrain_rollouts=3': ('pretrain_rollouts', 3),
    '--max_kl=0.02': ('max_kl', 0.02),
    '--cg_iterations=5': ('cg_iterations', 5),
    '--cg_damping=1e-3': ('cg_damping', 1e-3),
    '--hessian=secant': ('hessian', 'secant'),
    '--hessian_every=4': ('hessian_every', 4),
    '--rollout_budget=steps': ('rollout_budget', 'steps'),
    '--inner_loss=ratio': ('inner_loss', 'ratio'),
    '--test_later_step=0.25': ('test_later_step', 0.25),
    '--simulation_threads=2': ('simulation_threads', 2),
    '--simulation_processes=2': ('simulation_processes', 2),
}


def test_the_table_of_given_values_is_complete():
  given = {name for name, _ in [*GIVEN.values(), *GIVEN_IN_CONTROL.values()]}
  given |= {'datasource', 'train'}
  assert given == set(config.field_types())


@hypothesis.given(st.sets(st.sampled_from(sorted(GIVEN))))
def test_given_flags_arrive_and_win_over_the_presets(arguments):
  if '--test_iter=1000' in arguments:
    arguments -= {'--legacy_checkpoint=tf1/model1', '--pretrained=sinusoid_5shot:1'}
  if '--legacy_checkpoint=tf1/model1' in arguments:
    arguments -= {'--pretrained=sinusoid_5shot:1'}
  if '--dtype=float64' in arguments:
    arguments -= {'--mixed_precision'}
  if '--noconv' in arguments:
    arguments -= {'--num_filters=8'}
  if '--distribution_strategy=multi_worker_mirrored' not in arguments:
    arguments -= {'--worker_hosts=a:1,b:1', '--task_index=1'}
  resolved = parse('--datasource=omniglot', '--train=False', *arguments).to_values()
  assert resolved['datasource'] == 'omniglot' and resolved['train'] is False
  for argument in arguments:
    name, value = GIVEN[argument]
    assert resolved[name] == value and type(resolved[name]) is type(value)


@hypothesis.given(st.sets(st.sampled_from(sorted(GIVEN_IN_CONTROL))))
def test_the_same_with_flags_of_reinforcement_learning(arguments):
  given = ['--pretrain_iterations=1']   # with which all of them have a meaning
  if '--simulation_threads=2' in arguments:   # of environments that are not one's own
    arguments -= {'--env=my_file.py:Env', '--simulation_processes=2'}
    given += ['--datasource=point_navigation']
  else:
    arguments |= {'--env=my_file.py:Env'}
    given += ['--datasource=gym']
  resolved = parse(*given, *arguments).to_values()
  for argument in arguments:
    name, value = GIVEN_IN_CONTROL[argument]
    assert resolved[name] == value and type(resolved[name]) is type(value)


@pytest.mark.parametrize('arguments, name, value', [
    (['--max_pool', '--datasource=omniglot'], 'max_pool', True),
    (['--max_pool=True', '--datasource=omniglot'], 'max_pool', True),
    (['--nomax_pool', '--datasource=omniglot'], 'max_pool', False),
    (['-seed=3'], 'seed', 3),
    (['--seed', '3'], 'seed', 3),
    (['--seed=3', '--seed=4'], 'seed', 4),
    (['--baseline=oracle'], 'baseline', 'oracle'),
    (['--baseline=None'], 'baseline', 'None'),
    (['--norm=None'], 'norm', 'None'),
    (['--test_iter=-1'], 'test_iter', -1),
    (['--train_update_batch_size=-1'], 'train_update_batch_size', -1),
    (['--train_update_lr=-1'], 'train_update_lr', -1.0),
    (['--logdir=a=b c'], 'logdir', 'a=b c'),
    ([], 'datasource', 'sinusoid'),
])
def test_spellings_of_the_tf1_commands(arguments, name, value):
  assert parse(*arguments).to_values()[name] == value


# The commands in the header of the TF1 code, and the folders that it wrote to.
TF1_COMMANDS = {
    'cls_5.mbs_25.ubs_10.numstep1.updatelr0.001nonorm':
        '--datasource=sinusoid --logdir=logs/sine/ --metatrain_iterations=70000 '
        '--norm=None --update_batch_size=10',
    'cls_5.mbs_32.ubs_1.numstep1.updatelr0.4batchnorm':
        '--datasource=omniglot --metatrain_iterations=60000 --meta_batch_size=32 '
        '--update_batch_size=1 --update_lr=0.4 --num_updates=1 --logdir=logs/omniglot5way/',
    'cls_20.mbs_16.ubs_1.numstep5.updatelr0.1batchnorm':
        '--datasource=omniglot --metatrain_iterations=60000 --meta_batch_size=16 '
        '--update_batch_size=1 --num_classes=20 --update_lr=0.1 --num_updates=5 '
        '--logdir=logs/omniglot20way/',
    'cls_5.mbs_4.ubs_1.numstep5.updatelr0.01hidden32maxpoolbatchnorm':
        '--datasource=miniimagenet --metatrain_iterations=60000 --meta_batch_size=4 '
        '--update_batch_size=1 --update_lr=0.01 --num_updates=5 --num_classes=5 '
        '--logdir=logs/miniimagenet1shot/ --num_filters=32 --max_pool=True',
    'cls_5.mbs_4.ubs_5.numstep5.updatelr0.01hidden32maxpoolbatchnorm':
        '--datasource=miniimagenet --metatrain_iterations=60000 --meta_batch_size=4 '
        '--update_batch_size=5 --update_lr=0.01 --num_updates=5 --num_classes=5 '
        '--logdir=logs/miniimagenet5shot/ --num_filters=32 --max_pool=True',
    'cls_5.mbs_4.ubs_1.numstep5.updatelr0.01hidden32maxpoolstopgradbatchnorm':
        '--datasource=miniimagenet --max_pool=True --stop_grad=True',
    'cls_5.mbs_32.ubs_1.numstep1.updatelr0.4layernorm':
        '--datasource=omniglot --norm=layer_norm',
    # The two baselines: the TF1 code gave the pre-trained net the folder of MAML.
    'cls_5.mbs_25.ubs_10.numstep1.updatelr0.001nonorm.pretrain70000':
        '--datasource=sinusoid --pretrain_iterations=70000 --metatrain_iterations=0 '
        '--norm=None --update_batch_size=10 --baseline=',
    'cls_5.mbs_25.ubs_10.numstep1.updatelr0.001oraclenonorm.pretrain70000':
        '--datasource=sinusoid --pretrain_iterations=70000 --metatrain_iterations=0 '
        '--norm=None --update_batch_size=10 --baseline=oracle',
}


@pytest.mark.parametrize('name', TF1_COMMANDS)
def test_tf1_commands_keep_the_name_of_their_folder(name):
  command = TF1_COMMANDS[name].split()
  assert parse(*command).experiment_name == name
  assert parse(*command, '--train=False').experiment_name == name


@pytest.mark.parametrize('argument', [
    '--seed=1', '--meta_lr=0.01', '--meta_optimizer=sgd', '--meta_gradient_clip=1',
    '--dtype=float64', '--train_query_size=15', '--noconv', '--pretrain_iterations=5',
    '--meta_lr_schedule=linear', '--meta_lr_schedule=halving', '--method=anil',
    '--method=context_vector', '--learned_step_sizes=layer'])
def test_runs_that_differ_have_folders_of_their_own(argument):
  usual = parse('--datasource=omniglot').experiment_name
  other = parse('--datasource=omniglot', argument).experiment_name
  assert other != usual and other.startswith(usual)


# --- flagfiles: table 1, table 2 and figure 3 of the paper --------------------

_SINUSOID = {
    'datasource': 'sinusoid', 'norm': 'None', 'update_lr': 0.001, 'num_updates': 1,
    'stop_grad': False, 'meta_batch_size': 25, 'meta_lr': 0.001, 'meta_optimizer': 'adam',
    'meta_gradient_clip': 0.0, 'num_test_tasks': 600, 'test_num_updates': 10}
_MAML = {'baseline': 'None', 'pretrain_iterations': 0, 'metatrain_iterations': 70000}
_PRETRAINED = {'baseline': 'None', 'pretrain_iterations': 70000, 'metatrain_iterations': 0}
_ORACLE = dict(_PRETRAINED, baseline='oracle')
_TUNED = {'tune_update_lr': True}


def _averaged(regulariser, weight):
  return {**_TUNED, 'baseline': 'averaged', 'num_averaged_nets': 500,
          'averaged_regulariser': regulariser, 'regulariser_weight': weight,
          'pretrain_iterations': 10000, 'metatrain_iterations': 0, 'meta_batch_size': 10,
          'meta_lr': 0.002}


_IMAGES = {
    'norm': 'batch_norm', 'metatrain_iterations': 60000, 'meta_lr': 0.001,
    'meta_optimizer': 'adam', 'test_set': True, 'test_checkpoint': 'best',
    'num_test_tasks': 600, 'test_num_updates': 10}
_OMNIGLOT = dict(_IMAGES, datasource='omniglot', conv=True, num_filters=64, max_pool=False,
                 stop_grad=False, meta_gradient_clip=0.0)
_OMNIGLOT_NOCONV = {**_OMNIGLOT, 'conv': False}
del _OMNIGLOT_NOCONV['num_filters']
_5WAY = {'num_classes': 5, 'update_lr': 0.4, 'num_updates': 1, 'meta_batch_size': 32}
_20WAY = {'num_classes': 20, 'update_lr': 0.1, 'num_updates': 5, 'meta_batch_size': 16}
_MINIIMAGENET = dict(
    _IMAGES, datasource='miniimagenet', num_classes=5, conv=True, num_filters=32,
    max_pool=True, update_lr=0.01, num_updates=5, meta_gradient_clip=10.0)
_CLASSIFIER = {
    'datasource': 'miniimagenet', 'num_classes': 5, 'norm': 'batch_norm', 'conv': True,
    'num_filters': 32, 'max_pool': True, 'pretrain_iterations': 12000,
    'metatrain_iterations': 0, 'meta_batch_size': 64, 'meta_lr': 0.001,
    'meta_optimizer': 'adam', 'meta_gradient_clip': 0.0, 'test_set': True,
    'test_checkpoint': 'best', 'num_test_tasks': 600}


def _classifier(baseline, number):
  own = dict(_TUNED) if baseline == 'fine_tuning' else {}
  if number != 1:
    own['train_update_batch_size'] = 1
  return {**_CLASSIFIER, **own, 'baseline': baseline, 'update_batch_size': number,
          'test_query_size': number,
          'test_num_updates': 10 if baseline == 'fine_tuning' else 1}


_ANIL = {'method': 'anil', 'meta_lr_schedule': 'constant'}
_CONTEXT = {'method': 'context_vector', 'meta_lr_schedule': 'constant', 'context_size': 1}
_REPTILE = {
    'method': 'reptile', 'update_lr': 0.001, 'inner_optimizer': 'adam', 'inner_batch_size': 10,
    'meta_batch_size': 5, 'meta_lr': 1.0, 'meta_lr_schedule': 'linear',
    'meta_optimizer': 'sgd', 'meta_gradient_clip': 0.0, 'metatrain_iterations': 100000,
    'test_num_updates': 50, 'test_inner_batch_size': 5}


def _without_stop_grad(values):
  return {name: value for name, value in values.items() if name != 'stop_grad'}


def _shots(number, train_query_size=None):
  return {'update_batch_size': number, 'test_query_size': number,
          'train_query_size': train_query_size or number}


# {flagfile: (what its comment quotes of the paper, its values)}.
EXPERIMENTS = {
    'sinusoid_5shot': ('0.67 / 0.38 / 0.35', {**_SINUSOID, **_MAML, **_shots(5)}),
    'sinusoid_5shot_pretrained': (
        '2.41 / 2.23 / 2.19', {**_SINUSOID, **_PRETRAINED, **_TUNED, **_shots(5)}),
    'sinusoid_5shot_averaged': (
        '4.19 / 3.85 / 3.69', {**_SINUSOID, **_averaged('None', 0.0), **_shots(5)}),
    'sinusoid_5shot_averaged_l2': (
        '7.18 / 5.69 / 5.60', {**_SINUSOID, **_averaged('l2', 0.001), **_shots(5)}),
    'sinusoid_5shot_averaged_to_mean': (
        '2.91 / 2.72 / 2.71', {**_SINUSOID, **_averaged('mean', 0.001), **_shots(5)}),
    'sinusoid_5shot_oracle': ('figure 3', {**_SINUSOID, **_ORACLE, **_shots(5)}),
    'sinusoid_10shot': ('figures 2 and 3', {**_SINUSOID, **_MAML, **_shots(10)}),
    'sinusoid_10shot_pretrained': (
        'figures 2 and 3', {**_SINUSOID, **_PRETRAINED, **_TUNED, **_shots(10)}),
    'sinusoid_10shot_oracle': ('figure 3', {**_SINUSOID, **_ORACLE, **_shots(10)}),
    'omniglot_5way_1shot': ('98.7 +- 0.4', {**_OMNIGLOT, **_5WAY, **_shots(1)}),
    'omniglot_5way_5shot': ('99.9 +- 0.1', {**_OMNIGLOT, **_5WAY, **_shots(5)}),
    'omniglot_20way_1shot': ('95.8 +- 0.3', {**_OMNIGLOT, **_20WAY, **_shots(1)}),
    'omniglot_20way_5shot': ('98.9 +- 0.2', {**_OMNIGLOT, **_20WAY, **_shots(5)}),
    'omniglot_5way_1shot_noconv': (
        '89.7 +- 1.1', {**_OMNIGLOT_NOCONV, **_5WAY, **_shots(1)}),
    'omniglot_5way_5shot_noconv': (
        '97.5 +- 0.6', {**_OMNIGLOT_NOCONV, **_5WAY, **_shots(5)}),
    'omniglot_5way_1shot_first_order': (
        'no such row', {**_OMNIGLOT, **_5WAY, **_shots(1), 'stop_grad': True}),
    'omniglot_5way_1shot_noconv_first_order': (
        'no such row', {**_OMNIGLOT_NOCONV, **_5WAY, **_shots(1), 'stop_grad': True}),
    'omniglot_20way_1shot_noconv': (
        'no such row', {**_OMNIGLOT_NOCONV, **_20WAY, **_shots(1)}),
    'omniglot_20way_5shot_noconv': (
        'no such row', {**_OMNIGLOT_NOCONV, **_20WAY, **_shots(5)}),
    'miniimagenet_5way_1shot': (
        '48.70 +- 1.84',
        {**_MINIIMAGENET, **_shots(1, 15), 'meta_batch_size': 4, 'stop_grad': False}),
    'miniimagenet_5way_5shot': (
        '63.11 +- 0.92',
        {**_MINIIMAGENET, **_shots(5, 15), 'meta_batch_size': 2, 'stop_grad': False}),
    'miniimagenet_5way_1shot_first_order': (
        '48.07 +- 1.75',
        {**_MINIIMAGENET, **_shots(1, 15), 'meta_batch_size': 4, 'stop_grad': True}),
    'miniimagenet_5way_5shot_first_order': (
        '63.15 +- 0.91',
        {**_MINIIMAGENET, **_shots(5, 15), 'meta_batch_size': 2, 'stop_grad': True}),
    'omniglot_5way_1shot_anil': (
        'no such row', {**_OMNIGLOT, **_5WAY, **_shots(1), **_ANIL}),
    'miniimagenet_5way_1shot_anil': (
        '46.7 +- 0.4', {**_MINIIMAGENET, **_shots(1, 15), 'meta_batch_size': 4,
                        'stop_grad': False, **_ANIL}),
    'omniglot_5way_1shot_reptile': (
        '97.68 +- 0.04', {**_without_stop_grad(_OMNIGLOT), 'num_classes': 5,
                          **_shots(1, 9), **_REPTILE, 'num_updates': 5}),
    'miniimagenet_5way_1shot_reptile': (
        '49.97 +- 0.32', {**_MINIIMAGENET, **_shots(1, 14), **_REPTILE, 'num_updates': 8}),
    'omniglot_5way_1shot_context_vector': (
        '94.9 +- 0.9', {**_OMNIGLOT, **_5WAY, **_shots(1), **_CONTEXT}),
    'omniglot_5way_5shot_context_vector': (
        '97.7 +- 0.3', {**_OMNIGLOT, **_5WAY, **_shots(5), **_CONTEXT}),
    'miniimagenet_5way_1shot_fine_tuning': ('28.86 +- 0.54', _classifier('fine_tuning', 1)),
    'miniimagenet_5way_5shot_fine_tuning': ('49.79 +- 0.79', _classifier('fine_tuning', 5)),
    'miniimagenet_5way_1shot_nearest_neighbour': (
        '41.08 +- 0.70', _classifier('nearest_neighbour', 1)),
    'miniimagenet_5way_5shot_nearest_neighbour': (
        '51.04 +- 0.65', _classifier('nearest_neighbour', 5)),
}
_OF_OTHERS = {name: _IMAGES[name] for name in (
    'norm', 'meta_optimizer', 'test_set', 'test_checkpoint', 'num_test_tasks', 'meta_lr')}
_OF_OTHERS['conv'] = True
# Methods of other papers: {flagfile: (what its comment quotes, its values)}.
OF_OTHER_PAPERS = {
    'omniglot_5way_1shot_prototypical': (
        '98.8', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': True, 'meta_lr_schedule': 'halving',
            'meta_lr_half_life': 2000, 'distance_scale': 1.0,
            'train_num_classes': 60, 'meta_batch_size': 1, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'prototypical'}),
    'omniglot_5way_5shot_prototypical': (
        '99.7', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': True, 'meta_lr_schedule': 'halving',
            'meta_lr_half_life': 2000, 'distance_scale': 1.0,
            'train_num_classes': 60, 'meta_batch_size': 1, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'prototypical'}),
    'omniglot_20way_1shot_prototypical': (
        '96.0', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 1, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': True, 'meta_lr_schedule': 'halving',
            'meta_lr_half_life': 2000, 'distance_scale': 1.0,
            'train_num_classes': 60, 'meta_batch_size': 1, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'prototypical'}),
    'omniglot_20way_5shot_prototypical': (
        '98.9', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 5, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': True, 'meta_lr_schedule': 'halving',
            'meta_lr_half_life': 2000, 'distance_scale': 1.0,
            'train_num_classes': 60, 'meta_batch_size': 1, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'prototypical'}),
    'miniimagenet_5way_1shot_prototypical': (
        '49.42 +- 0.78', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 64, 'max_pool': True, 'meta_lr_schedule': 'halving',
            'meta_lr_half_life': 2000, 'distance_scale': 1.0,
            'train_num_classes': 30, 'meta_batch_size': 1, 'metatrain_iterations': 10000,
            'meta_gradient_clip': 0.0, 'method': 'prototypical'}),
    'miniimagenet_5way_1shot_prototypical_scaled': (
        '49.42 +- 0.78', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 64, 'max_pool': True, 'meta_lr_schedule': 'halving',
            'meta_lr_half_life': 2000, 'distance_scale': 0.01,
            'train_num_classes': 30, 'meta_batch_size': 1, 'metatrain_iterations': 10000,
            'meta_gradient_clip': 0.0, 'method': 'prototypical'}),
    'miniimagenet_5way_5shot_prototypical': (
        '68.20 +- 0.66', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 64, 'max_pool': True, 'meta_lr_schedule': 'halving',
            'meta_lr_half_life': 2000, 'distance_scale': 1.0,
            'train_num_classes': 20, 'meta_batch_size': 1, 'metatrain_iterations': 10000,
            'meta_gradient_clip': 0.0, 'method': 'prototypical'}),
    'miniimagenet_5way_5shot_prototypical_scaled': (
        '68.20 +- 0.66', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 64, 'max_pool': True, 'meta_lr_schedule': 'halving',
            'meta_lr_half_life': 2000, 'distance_scale': 0.01,
            'train_num_classes': 20, 'meta_batch_size': 1, 'metatrain_iterations': 10000,
            'meta_gradient_clip': 0.0, 'method': 'prototypical'}),
    'omniglot_5way_1shot_matching': (
        '98.1', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'full_context': False, 'cosine_scale': 1.0,
            'meta_batch_size': 8, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'omniglot_5way_5shot_matching': (
        '98.9', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'full_context': False, 'cosine_scale': 1.0,
            'meta_batch_size': 8, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'omniglot_20way_1shot_matching': (
        '93.8', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 1, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'full_context': False, 'cosine_scale': 1.0,
            'meta_batch_size': 4, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'omniglot_20way_5shot_matching': (
        '98.5', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 5, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'full_context': False, 'cosine_scale': 1.0,
            'meta_batch_size': 4, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'miniimagenet_5way_1shot_matching': (
        '43.40 +- 0.78', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 32, 'max_pool': True, 'meta_lr_schedule': 'constant',
            'full_context': False, 'cosine_scale': 1.0,
            'meta_batch_size': 4, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'miniimagenet_5way_5shot_matching': (
        '51.09 +- 0.71', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 32, 'max_pool': True, 'meta_lr_schedule': 'constant',
            'full_context': False, 'cosine_scale': 1.0,
            'meta_batch_size': 4, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'omniglot_5way_1shot_matching_scaled': (
        '98.1', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'full_context': False, 'cosine_scale': 30.0,
            'meta_batch_size': 8, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'omniglot_5way_5shot_matching_scaled': (
        '98.9', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'full_context': False, 'cosine_scale': 30.0,
            'meta_batch_size': 8, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'omniglot_20way_1shot_matching_scaled': (
        '93.8', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 1, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'full_context': False, 'cosine_scale': 30.0,
            'meta_batch_size': 4, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'omniglot_20way_5shot_matching_scaled': (
        '98.5', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 5, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'full_context': False, 'cosine_scale': 30.0,
            'meta_batch_size': 4, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'miniimagenet_5way_1shot_matching_scaled': (
        '43.40 +- 0.78', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 32, 'max_pool': True, 'meta_lr_schedule': 'constant',
            'full_context': False, 'cosine_scale': 30.0,
            'meta_batch_size': 4, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'miniimagenet_5way_1shot_matching_full_context': (
        '43.56 +- 0.84', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 32, 'max_pool': True, 'meta_lr_schedule': 'constant',
            'full_context': True, 'cosine_scale': 30.0,
            'meta_batch_size': 4, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'miniimagenet_5way_5shot_matching_scaled': (
        '51.09 +- 0.71', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 32, 'max_pool': True, 'meta_lr_schedule': 'constant',
            'full_context': False, 'cosine_scale': 30.0,
            'meta_batch_size': 4, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'miniimagenet_5way_5shot_matching_full_context': (
        '55.31 +- 0.73', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 32, 'max_pool': True, 'meta_lr_schedule': 'constant',
            'full_context': True, 'cosine_scale': 30.0,
            'meta_batch_size': 4, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'omniglot_20way_5shot_matching_pooled': (
        '98.5', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 5, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': True, 'meta_lr_schedule': 'halving',
            'meta_lr_half_life': 2000,
            'full_context': False, 'cosine_scale': 30.0,
            'meta_batch_size': 4, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'matching'}),
    'omniglot_5way_1shot_siamese': (
        '97.3', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 1, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'train_num_classes': 20, 'meta_batch_size': 8, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'siamese'}),
    'omniglot_5way_5shot_siamese': (
        '98.4', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 1, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'train_num_classes': 20, 'meta_batch_size': 8, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'siamese'}),
    'omniglot_20way_1shot_siamese': (
        '88.2', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 1, 'train_query_size': 1, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'train_num_classes': 20, 'meta_batch_size': 8, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'siamese'}),
    'omniglot_20way_5shot_siamese': (
        '97.0', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 5, 'train_query_size': 1, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'train_num_classes': 20, 'meta_batch_size': 8, 'metatrain_iterations': 20000,
            'meta_gradient_clip': 0.0, 'method': 'siamese'}),
    'omniglot_5way_1shot_meta_sgd': (
        '99.53', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 1, 'test_query_size': 1,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'update_lr': 0.4, 'num_updates': 1, 'stop_grad': False, 'meta_batch_size': 32,
            'metatrain_iterations': 60000, 'meta_gradient_clip': 0.0, 'test_num_updates': 10,
            'method': 'meta_sgd'}),
    'omniglot_5way_5shot_meta_sgd': (
        '99.93', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'update_lr': 0.4, 'num_updates': 1, 'stop_grad': False, 'meta_batch_size': 32,
            'metatrain_iterations': 60000, 'meta_gradient_clip': 0.0, 'test_num_updates': 10,
            'method': 'meta_sgd'}),
    'omniglot_20way_1shot_meta_sgd': (
        '95.93', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 1, 'train_query_size': 1, 'test_query_size': 1,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'update_lr': 0.1, 'num_updates': 1, 'stop_grad': False, 'meta_batch_size': 16,
            'metatrain_iterations': 60000, 'meta_gradient_clip': 0.0, 'test_num_updates': 10,
            'method': 'meta_sgd'}),
    'omniglot_20way_5shot_meta_sgd': (
        '98.97', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 5, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'update_lr': 0.1, 'num_updates': 1, 'stop_grad': False, 'meta_batch_size': 16,
            'metatrain_iterations': 60000, 'meta_gradient_clip': 0.0, 'test_num_updates': 10,
            'method': 'meta_sgd'}),
    'miniimagenet_5way_1shot_meta_sgd': (
        '50.47 +- 1.87', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 15, 'test_query_size': 1,
            'num_filters': 32, 'max_pool': True, 'meta_lr_schedule': 'constant',
            'update_lr': 0.01, 'num_updates': 1, 'stop_grad': False, 'meta_batch_size': 4,
            'metatrain_iterations': 60000, 'meta_gradient_clip': 10.0, 'test_num_updates': 10,
            'method': 'meta_sgd'}),
    'miniimagenet_5way_5shot_meta_sgd': (
        '64.03 +- 0.94', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 15, 'test_query_size': 5,
            'num_filters': 32, 'max_pool': True, 'meta_lr_schedule': 'constant',
            'update_lr': 0.01, 'num_updates': 1, 'stop_grad': False, 'meta_batch_size': 2,
            'metatrain_iterations': 60000, 'meta_gradient_clip': 10.0, 'test_num_updates': 10,
            'method': 'meta_sgd'}),
    'miniimagenet_5way_1shot_boil': (
        '49.61', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 64, 'max_pool': True, 'meta_lr_schedule': 'constant',
            'update_lr': 0.1, 'num_updates': 1, 'stop_grad': False,
            'learned_step_sizes': 'None', 'meta_batch_size': 4, 'metatrain_iterations': 30000,
            'meta_gradient_clip': 0.0, 'test_num_updates': 10, 'method': 'boil'}),
    'miniimagenet_5way_5shot_boil': (
        '66.45', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 64, 'max_pool': True, 'meta_lr_schedule': 'constant',
            'update_lr': 0.1, 'num_updates': 1, 'stop_grad': False,
            'learned_step_sizes': 'None', 'meta_batch_size': 4, 'metatrain_iterations': 30000,
            'meta_gradient_clip': 0.0, 'test_num_updates': 10, 'method': 'boil'}),
    'omniglot_5way_1shot_imaml': (
        '99.50', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 1, 'test_query_size': 1,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'update_lr': 0.02, 'num_updates': 16, 'proximal_weight': 10.0,
            'imaml_cg_iterations': 5, 'meta_batch_size': 32, 'metatrain_iterations': 30000,
            'meta_gradient_clip': 0.0, 'test_num_updates': 16, 'method': 'imaml'}),
    'omniglot_5way_5shot_imaml': (
        '99.74', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'update_lr': 0.02, 'num_updates': 16, 'proximal_weight': 10.0,
            'imaml_cg_iterations': 5, 'meta_batch_size': 32, 'metatrain_iterations': 30000,
            'meta_gradient_clip': 0.0, 'test_num_updates': 16, 'method': 'imaml'}),
    'omniglot_20way_1shot_imaml': (
        '96.18', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 1, 'train_query_size': 1, 'test_query_size': 1,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'update_lr': 0.005, 'num_updates': 25, 'proximal_weight': 40.0,
            'imaml_cg_iterations': 5, 'meta_batch_size': 16, 'metatrain_iterations': 30000,
            'meta_gradient_clip': 0.0, 'test_num_updates': 25, 'method': 'imaml'}),
    'omniglot_20way_5shot_imaml': (
        '99.14', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 5, 'train_query_size': 5, 'test_query_size': 5,
            'num_filters': 64, 'max_pool': False, 'meta_lr_schedule': 'constant',
            'update_lr': 0.005, 'num_updates': 25, 'proximal_weight': 40.0,
            'imaml_cg_iterations': 5, 'meta_batch_size': 16, 'metatrain_iterations': 30000,
            'meta_gradient_clip': 0.0, 'test_num_updates': 25, 'method': 'imaml'}),
    'miniimagenet_5way_1shot_imaml': (
        '49.30 +- 1.88', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 15, 'test_query_size': 1,
            'num_filters': 32, 'max_pool': True, 'meta_lr_schedule': 'constant',
            'update_lr': 0.05, 'num_updates': 10, 'proximal_weight': 0.5,
            'imaml_cg_iterations': 5, 'meta_batch_size': 4, 'metatrain_iterations': 30000,
            'meta_gradient_clip': 10.0, 'test_num_updates': 10, 'method': 'imaml'}),
    'omniglot_20way_1shot_maml_plus_plus': (
        '97.65', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 1, 'train_query_size': 1, 'test_query_size': 1,
            'num_filters': 64, 'max_pool': True, 'meta_lr_schedule': 'cosine',
            'update_lr': 0.005, 'num_updates': 5, 'stop_grad': False,
            'learned_step_sizes': 'layer_and_step', 'multi_step_iterations': 5000,
            'first_order_iterations': 0, 'per_step_norm': True, 'meta_batch_size': 8,
            'metatrain_iterations': 50000, 'meta_gradient_clip': 0.0, 'test_num_updates': 5,
            'method': 'maml_plus_plus'}),
    'omniglot_20way_5shot_maml_plus_plus': (
        '99.33', {**_OF_OTHERS, 'datasource': 'omniglot', 'num_classes': 20,
            'update_batch_size': 5, 'train_query_size': 1, 'test_query_size': 1,
            'num_filters': 64, 'max_pool': True, 'meta_lr_schedule': 'cosine',
            'update_lr': 0.005, 'num_updates': 5, 'stop_grad': False,
            'learned_step_sizes': 'layer_and_step', 'multi_step_iterations': 5000,
            'first_order_iterations': 0, 'per_step_norm': True, 'meta_batch_size': 8,
            'metatrain_iterations': 50000, 'meta_gradient_clip': 0.0, 'test_num_updates': 5,
            'method': 'maml_plus_plus'}),
    'miniimagenet_5way_1shot_maml_plus_plus': (
        '52.15 +- 0.26', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 1, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 48, 'max_pool': True, 'meta_lr_schedule': 'constant',
            'update_lr': 0.002, 'num_updates': 5, 'stop_grad': False,
            'learned_step_sizes': 'layer_and_step', 'multi_step_iterations': 7500,
            'first_order_iterations': 0, 'per_step_norm': True, 'meta_batch_size': 2,
            'metatrain_iterations': 50000, 'meta_gradient_clip': 750.0, 'test_num_updates': 5,
            'method': 'maml_plus_plus'}),
    'miniimagenet_5way_5shot_maml_plus_plus': (
        '68.32 +- 0.44', {**_OF_OTHERS, 'datasource': 'miniimagenet', 'num_classes': 5,
            'update_batch_size': 5, 'train_query_size': 15, 'test_query_size': 15,
            'num_filters': 48, 'max_pool': True, 'meta_lr_schedule': 'constant',
            'update_lr': 0.002, 'num_updates': 5, 'stop_grad': False,
            'learned_step_sizes': 'layer_and_step', 'multi_step_iterations': 7500,
            'first_order_iterations': 0, 'per_step_norm': True, 'meta_batch_size': 2,
            'metatrain_iterations': 50000, 'meta_gradient_clip': 150.0, 'test_num_updates': 5,
            'method': 'maml_plus_plus'}),
}
EXPERIMENTS.update(OF_OTHER_PAPERS)

# --- and figures 4 and 5 ------------------------------------------------------


def _control(name, alpha=0.1, tasks=40, rollouts=20, iterations=100, delta=0.01, every=5,
             test_rollouts=20, later_step=0.5, **more):
  """What the runs of an environment share; the paper tests the last iteration."""
  return dict(dict(
      datasource=name, update_batch_size=rollouts, test_query_size=test_rollouts,
      update_lr=alpha, num_updates=1, stop_grad=False, method='maml', baseline='None',
      metatrain_iterations=iterations, meta_batch_size=tasks, discount=0.99, gae_lambda=1.0,
      max_kl=delta, cg_iterations=10, cg_damping=1e-5, hessian='exact', hessian_every=every,
      rollout_budget='rollouts', inner_loss='log_likelihood', test_set=True,
      test_checkpoint='latest', num_test_tasks=40, test_num_updates=3,
      test_later_step=later_step), **more)


_CONTROL = {
    'point_navigation': dict(tasks=20, every=1, test_rollouts=40),
    'cheetah_direction': dict(delta=0.02),
    'cheetah_velocity': dict(rollouts=10, iterations=475),
    'ant_direction': dict(rollouts=40, iterations=575, test_rollouts=40, later_step=0.01),
    'ant_velocity': dict(iterations=375)}
# Of the baselines pretrained and oracle: iterations and what else differs from MAML's; step
# sizes of pretrained and random.
_ALL = dict(every=1)
_STEPS = dict(rollout_budget='steps')
_CONTROL_BASELINES = {
    'point_navigation': (
        dict(alpha=0.5, pretrain_iterations=100, tasks=20, pretrain_rollouts=20,
             meta_optimizer='adam', meta_lr=0.001), 0.5,
        dict(pretrain_iterations=100, tasks=10, **_STEPS)),
    'cheetah_direction': (dict(alpha=0.2, pretrain_iterations=500, delta=0.01, **_ALL), 0.5,
                          dict(pretrain_iterations=500, delta=0.01, **_ALL)),
    'cheetah_velocity': (dict(alpha=0.02, pretrain_iterations=475), 0.1,
                         dict(pretrain_iterations=1000)),
    'ant_direction': (dict(alpha=0.2, pretrain_iterations=2000, **_STEPS, **_ALL), 1.0,
                      dict(pretrain_iterations=1975, **_STEPS, **_ALL)),
    'ant_velocity': (dict(alpha=0.2, pretrain_iterations=575, **_STEPS, **_ALL), 1.0,
                     dict(pretrain_iterations=550, **_STEPS, **_ALL))}
_RETURNS = {
    'point_navigation': ('-40.4 / -11.7 / -3.3 / -3.2', '-40.8 / -19.7 / -11.7 / -8.5',
                         '-82.7 / -58.0 / -53.8 / -46.8', '-2.3 without'),
    'cheetah_direction': ('-50.7 / 293.2 / 313.5 / 315.7', '-43.0 / -24.7 / -12.8 / 19.6',
                          '-35.7 / 21.8 / 62.3 / 86.2', '442.7 without'),
    'cheetah_velocity': ('-129.5 / -78.6 / -66.6 / -60.8',
                         '-158.0 / -135.4 / -128.5 / -133.6',
                         '-254.8 / -254.3 / -246.8 / -230.8', '-54.5 without'),
    'ant_direction': ('8.7 / 499.1 / 500.7 / 499.1', '3.2 / 1.3 / 6.5 / 6.9',
                      '3.1 / 9.2 / 16.0 / 26.1', '524.8 without'),
    'ant_velocity': ('30.6 / 96.7 / 100.1 / 101.4', '-1.8 / 6.1 / 8.5 / 9.5',
                     '-78.6 / -62.8 / -48.5 / -35.6', '107.9 without')}
for _name, _of in _CONTROL.items():
  _pre, _fresh, _sees = _CONTROL_BASELINES[_name]
  _maml, _trained_before, _random, _seen = _RETURNS[_name]
  _fixed = dict(_of, iterations=0)
  EXPERIMENTS.update({
      _name: (_maml, _control(_name, **_of)),
      f'{_name}_pretrained': (_trained_before, _control(
          _name, baseline='pretrained', **{**_fixed, 'tasks': 100, **_pre})),
      f'{_name}_random': (_random, _control(
          _name, alpha=_fresh, baseline='random', **_fixed)),
      f'{_name}_oracle': (_seen, _control(
          _name, baseline='oracle', **{**_fixed, 'tasks': 100, **_sees}))})
for _field in ('max_kl', 'cg_iterations', 'cg_damping', 'hessian', 'hessian_every'):
  del EXPERIMENTS['point_navigation_pretrained'][1][_field]   # Adam has no trust region
EXPERIMENTS['point_navigation_context_vector'] = (
    '-42.4 / -13.9 / -5.2 / -3.2', _control('point_navigation', method='context_vector',
                                           context_size=5, **_CONTROL['point_navigation']))
EXPERIMENTS['cheetah_direction_context_vector'] = (
    '-40.5 / -44.1 / -38.3 / -42.5', _control(
        'cheetah_direction', method='context_vector', context_size=5,
        **_CONTROL['cheetah_direction']))


def test_every_flagfile_has_its_row():
  assert {path.stem for path in FLAGFILES} == set(EXPERIMENTS)


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_flagfile_has_the_values_of_the_paper(name):
  _, expected = EXPERIMENTS[name]
  resolved = parse(flagfile(name))
  values = resolved.to_values()
  assert {field: values[field] for field in expected} == expected
  assert resolved.run.train


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_flagfile_documents_itself(name):
  quoted, expected = EXPERIMENTS[name]
  text = (ROOT / 'flags' / f'{name}.flags').read_text(encoding='utf-8')
  comment = ' '.join(line.lstrip('# ') for line in text.splitlines()
                     if line.startswith('#'))
  written = re.findall(r'^--(\w+)=', text, re.MULTILINE)
  assert sorted(written) == sorted(expected)
  assert quoted in comment
  assert f'python main.py --flagfile=flags/{name}.flags' in comment


def test_each_experiment_has_a_folder_of_its_own():
  """But for the uses of one classifier, and for ways that are those of a test alone."""
  def folder(name):
    resolved = parse(flagfile(name))
    return resolved.run.logdir, resolved.experiment_name
  sharing = [[name for name, (_, values) in EXPERIMENTS.items()
              if values.get('baseline') in ('fine_tuning', 'nearest_neighbour')]]
  sharing += [[f'omniglot_{ways}way_{shots}shot_{method}' for ways in (5, 20)]
              for method in ('prototypical', 'siamese') for shots in (1, 5)]
  assert len(sharing[0]) == 4
  for names in sharing:
    assert len({folder(name) for name in names}) == 1
  assert len({folder(name) for name in EXPERIMENTS}) == len(EXPERIMENTS) - 3 - 4


@pytest.mark.parametrize('path', FLAGFILES, ids=lambda path: path.stem)
def test_commands_in_the_comments_of_flagfiles_can_be_run(path, monkeypatch):
  monkeypatch.chdir(ROOT)
  text = re.sub(r'\\\n#', '', path.read_text(encoding='utf-8'))
  commands = re.findall(r'^#\s+python main\.py (.*)$', text, re.MULTILINE)
  trained = parse(f'--flagfile={path}').experiment_name
  assert commands
  for command in commands:
    resolved = parse(*command.split())
    if str(path.relative_to(ROOT)) in command:
      assert resolved.experiment_name == trained


def test_command_line_wins_over_the_flagfile_before_it():
  resolved = parse(flagfile('omniglot_5way_1shot'), '--seed=5', '--meta_batch_size=8')
  assert (resolved.task.seed, resolved.training.meta_batch_size) == (5, 8)


@pytest.mark.parametrize('form', [['--flagfile={}'], ['--flagfile', '{}'], ['-flagfile={}']])
def test_flagfile_with_comments_blank_lines_and_windows_line_ends(tmp_path, form):
  path = tmp_path / 'my run.flags'
  path.write_bytes('\ufeff# comment\r\n\r\n// comment\r\n  --seed=4\r\n--nolog\r\n'
                   '--logdir=caf\u00e9\r\n'.encode())
  resolved = parse(*[part.format(path) for part in form])
  assert resolved.task.seed == 4 and not resolved.run.log
  assert resolved.run.logdir == 'caf\u00e9'


@pytest.mark.parametrize('content, shown', [
    (b'--flagfile=other.flags', 'names another flagfile in line 1'),
    (b'--seed=1\n--flagfile other.flags', 'names another flagfile in line 2'),
    (b'# x\nseed=1', "'seed=1' in line 2"),
    (b'--seed 1', "'--seed 1' in line 1"),
    (b'--sed=1', '--sed=1'),
    (b'--seed=one', '--seed=one'),
    (b'--seed=1   # my seed', '--seed=1   # my seed'),
    # A folder was made whose name had all of it.
    (b'--logdir=runs  # mine', 'a comment a line of its own'),
    (b'--logdir="my runs"', 'no shell reads it, so leave quotes'),
    (b"--logdir='my runs'", 'no shell reads it, so leave quotes'),
    (b'--logdir=runs \\', 'a backslash behind it'),
    (b'--logdir= runs', 'blanks around the value'),
    (b'--seed = 3', "'--seed = 3' in line 1"),
    (b'--help', 'give --help on the command line'),
    (b'--version', 'give --version on the command line'),
    (b'--', 'line 1'),
    (b'\xff\xfe\x00', 'not a text file'),
    (b'#' * (2**16 + 1), 'larger than 64 KiB'),
    (b'--logdir=a\0b', 'null character'),
])
def test_damaged_flagfiles_are_refused(tmp_path, content, shown):
  path = tmp_path / 'x.flags'
  path.write_bytes(content)
  with pytest.raises(ConfigError, match=re.escape(shown)):
    parse(f'--flagfile={path}')


@pytest.mark.parametrize('argument, shown', [
    (['--flagfile=nowhere.flags'], '--flagfile=nowhere.flags cannot be read'),
    (['--flagfile=nowhere.flags'], 'flags/ has one for each experiment'),
    (['--flagfile=omniglot_5way1shot.flags'], 'flags/omniglot_5way_1shot.flags?'),
    ([f'--flagfile={ROOT}'], 'cannot be read'),
    # Not like any but for the extension.
    (['--flagfile=mine.flags'], 'flags/ has one for each experiment'),
    (['--flagfile=a\0b'], 'cannot be read'),
    (['--flagfile='], 'lacks a value'),
    (['--flagfile'], 'lacks a value'),
])
def test_missing_flagfiles_are_refused(argument, shown):
  with pytest.raises(ConfigError, match=re.escape(shown)):
    parse(*argument)


# --- mistakes ---------------------------------------------------------------

MISTAKES = [
    # no such flag
    (['--num_clases=5'], '--num_clases=5', 'did you mean --num_classes?'),
    (['--nomaxpool'], '--nomaxpool', 'did you mean --nomax_pool?'),
    # Of those that a sinusoid has, and else of all.
    (['--iterations=100'], '--iterations=100',
     'did you mean --pretrain_iterations or --metatrain_iterations?'),
    (['--iterations=100', '--datasource=point_navigation', '--method=maml'],
     '--iterations=100', '--cg_iterations'),
    (['--max_iterations=100'], '--max_iterations=100', 'did you mean --metatrain_iterations?'),
    (['--inner_batch=5', '--method=reptile'], '--inner_batch=5', '--inner_batch_size'),
    (['--cg_iteration=5'], '--cg_iteration=5', 'did you mean --cg_iterations?'),
    (['--noseed'], '--noseed', 'did you mean'),
    (['--META_LR=1'], '--META_LR=1', 'did you mean --meta_lr?'),
    (['--help=train'], '--help=train', 'without a value'),
    (['--version=1'], '--version=1', 'without a value'),
    (['--qqqqqqqq'], '--qqqqqqqq', '--help'),
    (['---seed=1'], '---seed=1', '--seed'),
    (['--undefok=sed', '--sed=1'], '--undefok=sed', '--help'),
    # wrong types
    (['--num_classes=five'], '--num_classes=five', 'a whole number'),
    (['--num_classes=5.0'], '--num_classes=5.0', 'a whole number'),
    (['--num_classes='], '--num_classes=', 'a whole number'),
    (['--update_lr=fast'], '--update_lr=fast', 'a number'),
    (['--train=maybe'], '--train=maybe', 'True or False'),
    (['--notrain=3'], '--notrain=3', 'does not take an argument'),
    (['--seed'], '--seed', 'Missing value'),
    (['--logdir', '--train=False'], '--train=False', 'lacks a value'),
    # arguments without a flag
    (['--train', 'False'], 'False', '--train=False'),
    (['--train', 'False', '--seed=3'], 'False', '--train=False'),
    (['--logdir', 'False', '--train', 'False'], 'False', '--train=False'),
    (['sinusoid'], "'sinusoid'", '--FLAG=VALUE'),
    ([''], "''", '--FLAG=VALUE'),
    (['-'], "'-'", '--FLAG=VALUE'),
    (['--', '--seed=3'], "'--seed=3'", '--FLAG=VALUE'),
    (['--=3'], "'--=3'", '--FLAG=VALUE'),
    # wrong values
    (['--datasource=mnist'], 'mnist', 'sinusoid, omniglot, miniimagenet'),
    (['--datasource='], '--datasource=', 'sinusoid, omniglot, miniimagenet'),
    (['--datasource=a\nb\u2028c'], '--datasource=a b c', 'sinusoid'),
    (['--norm=none'], '--norm=none', 'batch_norm, layer_norm, None'),
    (['--baseline=nearest'], '--baseline=nearest', 'None, oracle, averaged'),
    (['--num_classes=1'], '--num_classes=1', 'between 2'),
    (['--update_lr=0'], '--update_lr=0.0', 'above 0'),
    (['--update_lr=nan'], '--update_lr=nan', 'finite'),
    (['--meta_lr=1e999'], '--meta_lr=inf', 'finite'),
    (['--logdir='], '--logdir', 'must name a folder'),
    # combinations
    (['--conv'], '--conv=True', 'leave --conv out'),
    (['--method=maml++'], '--method=maml++', 'maml, reptile, anil, context_vector'),
    (['--method=reptile', '--stop_grad'], '--stop_grad=True', 'leave it out'),
    (['--inner_batch_size=5'], '--inner_batch_size=5', '--method=reptile'),
    (['--learned_step_sizes=layer', '--tune_update_lr'], '--tune_update_lr=True', 'learned'),
    (['--method=meta_sgd', '--learned_step_sizes=layer'], '--learned_step_sizes=layer',
     '--method=maml'),
    (['--datasource=omniglot', '--baseline=oracle'], '--baseline=oracle', 'sinusoid'),
    (['--datasource=miniimagenet', '--nomax_pool'], '--max_pool=False', 'leave'),
    (['--datasource=miniimagenet', '--num_classes=20'], '--num_classes=20', 'at most 16'),
    (['--test_iter=1000'], '--test_iter=1000', '--train=False'),
    (['--method=mine.MyMethod'], '--method=mine.MyMethod', 'or FILE.py:CLASS'),
    (['--method=imaml', '--imaml_cg_iterations=99999999999'],
     '--imaml_cg_iterations=99999999999', '2147483647'),
    (['--num_averaged_nets=7'], '--num_averaged_nets=7', '--baseline=averaged'),
    # What changes nothing, and was taken without a word.
    (['--num_filters=8'], '--num_filters=8', 'leave'),
    (['--datasource=omniglot', '--noconv', '--num_filters=8'], '--num_filters=8', 'leave'),
    (['--baseline=averaged', '--stop_grad'], '--stop_grad=True', 'leave it out'),
    (['--baseline=fine_tuning', '--datasource=omniglot', '--learned_step_sizes=layer'],
     '--learned_step_sizes=layer', 'leave it out'),
    (['--baseline=averaged', '--recompute_inner_steps'], '--recompute_inner_steps=True',
     'leave it out'),
    (['--model=resnet12'], '--datasource=sinusoid', 'for images'),
]


@pytest.mark.parametrize('arguments, received, allowed', MISTAKES,
                         ids=[' '.join(arguments) for arguments, _, _ in MISTAKES])
def test_mistakes_end_with_one_sentence(arguments, received, allowed):
  with pytest.raises(ConfigError):
    parse(*arguments)
  code, stderr = mistake(*arguments)
  assert code == 2
  assert stderr.startswith('main.py: ') and len(stderr.splitlines()) == 1
  assert received in stderr and allowed in stderr


_NASTY = ['', ' ', '-1', '0', '1', '2', 'nan', '-inf', '1e999', '1_0', '0x10', '\u0663',
          'True', 'None', '--seed=1', '-', 'a\nb', '\0', '9' * 5000, '2147483648', '1e-320']


@hypothesis.given(st.sampled_from(flags.flag_names()),
                  st.sampled_from(_NASTY) | st.text(max_size=12),
                  st.sampled_from(problems.names()), st.booleans(), st.booleans())
def test_any_text_is_a_value_or_a_mistake(name, text, datasource, train, separate):
  arguments = [f'--datasource={datasource}', f'--train={train}']
  arguments += [f'--{name}', text] if separate else [f'--{name}={text}']
  try:
    resolved = parse(*arguments)
  except ConfigError:
    code, stderr = mistake(*arguments)
    assert code == 2 and len(stderr.splitlines()) == 1
  else:
    assert config.Config.from_json(resolved.to_json()) == resolved


_NAMES = st.sampled_from([*flags.flag_names(), 'nolog', 'noconv', 'flagfile', 'undefok',
                          'helpfull', 'num_clases', 'f', '', '=', 'flagfile.x'])
_VALUES = (st.sampled_from(_NASTY) | st.text(max_size=8) | st.integers().map(str)
           | st.floats().map(str) | st.sampled_from(problems.names())
           | st.sampled_from([str(path) for path in FLAGFILES[:3]]))
_ARGUMENTS = st.one_of(
    st.builds('--{}={}'.format, _NAMES, _VALUES), st.builds('--{}'.format, _NAMES),
    st.builds('-{}={}'.format, _NAMES, _VALUES), _VALUES)


@hypothesis.given(st.lists(_ARGUMENTS, max_size=6))
def test_any_command_line_is_a_configuration_or_a_mistake(arguments):
  check_command_line(arguments)


@hypothesis.given(st.lists(st.builds('--{}={}'.format, st.sampled_from(flags.flag_names()),
                                     _VALUES) | st.sampled_from(sorted(GIVEN)), max_size=4))
def test_any_flagfile_is_a_configuration_or_a_mistake(tmp_path_factory, lines):
  path = tmp_path_factory.mktemp('any') / 'x.flags'
  path.write_bytes('\n'.join(lines).encode('utf-8', 'surrogatepass'))
  check_command_line([f'--flagfile={path}'])


def check_command_line(arguments):
  """It ends as a configuration, as the help, or as one sentence and exit code 2."""
  stdout, stderr = io.StringIO(), io.StringIO()
  try:
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
      resolved = flags.main_config(['main.py', *arguments])
  except SystemExit as caught:
    if caught.code == 0:
      assert stdout.getvalue() == flags.help_text()
    else:
      assert caught.code == 2 and stdout.getvalue() == ''
      message = stderr.getvalue()
      assert message.startswith('main.py: ') and message.endswith(('.\n', '?\n'))
      assert message.count('\n') == 1 and message[:-1].isprintable()
      assert len(message) < 5000
  else:
    assert stderr.getvalue() == ''
    assert config.Config.from_json(resolved.to_json()) == resolved


def test_a_message_quotes_no_more_than_fits():
  code, stderr = mistake(f'--{"x" * 10**6}=\x1b[2J')
  assert code == 2 and len(stderr) < 1000 and '\x1b' not in stderr
  code, stderr = mistake('--norm=\x1b[2J\udcff')
  assert code == 2 and r'--norm=\x1b[2J\udcff' in stderr


def test_a_long_name_in_a_flagfile_is_refused(tmp_path):
  (tmp_path / 'x.flags').write_text(f'--{"x" * 60_000}\n')
  code, stderr = mistake(f'--flagfile={tmp_path / "x.flags"}')
  assert code == 2 and 'is unknown' in stderr and len(stderr) < 1000


def test_a_flagfile_may_be_full_of_flags(tmp_path):
  (tmp_path / 'x.flags').write_text('--seed=7\n' * (2**16 // 9))
  assert parse(f'--flagfile={tmp_path / "x.flags"}').task.seed == 7


def test_a_flagfile_that_names_itself_is_refused(tmp_path):
  path = tmp_path / 'x.flags'
  path.write_text(f'--seed=1\n--flagfile={path}\n')
  code, stderr = mistake(f'--flagfile={path}')
  assert code == 2 and 'names another flagfile in line 2' in stderr


# --- as a process -----------------------------------------------------------


@pytest.mark.parametrize('arguments', [
    ['--num_clases=5'], ['--train', 'False'], ['--update_lr=fast'],
    ['--flagfile=nowhere.flags']], ids=' '.join)
def test_process_ends_with_code_2_and_one_line(arguments):
  finished = run(*arguments)
  assert finished.returncode == 2
  assert finished.stdout == ''
  assert finished.stderr.startswith('main.py: ') and finished.stderr.count('\n') == 1


def test_process_accepts_a_flagfile():
  finished = run('--flagfile=flags/sinusoid_10shot.flags')
  assert (finished.returncode, finished.stdout, finished.stderr) == (0, '', '')


def test_tensorflow_is_not_imported():
  program = ('import sys, flags; flags.parse(sys.argv); flags.help_text(); '
             'sys.exit("tensorflow" in sys.modules)')
  finished = subprocess.run([sys.executable, '-c', program], cwd=ROOT, check=False)
  assert finished.returncode == 0


def test_a_file_of_ones_own_is_loaded_in_the_environment_for_tensorflow(tmp_path, monkeypatch):
  """It loads it: with all of its own log, and another choice of kernels."""
  monkeypatch.delenv('TF_CPP_MIN_LOG_LEVEL')
  path = tmp_path / 'own.py'
  path.write_text("import os\nraise ValueError(os.environ.get('TF_CPP_MIN_LOG_LEVEL'))\n")
  assert 'cannot be imported (ValueError: 3)' in mistake(f'--method={path}:Own')[1]


# --- help -------------------------------------------------------------------


def test_help_of_the_process_lists_every_flag():
  finished = run('--help')
  assert finished.returncode == 0 and finished.stderr == ''
  for name, written_type in config.field_types().items():
    head = f'  --[no]{name}\n' if written_type == 'bool' else f'  --{name}='
    assert head in finished.stdout
  assert max(map(len, finished.stdout.splitlines())) <= 80


@pytest.mark.parametrize('arguments', [
    ['-h'], ['--helpfull'], ['--helpshort'], ['--seed=x', '--help']], ids=' '.join)
def test_forms_of_help(arguments, capsys):
  with pytest.raises(SystemExit) as caught:
    flags.main_config(['main.py', *arguments])
  assert caught.value.code == 0
  assert capsys.readouterr().out == flags.help_text()


def test_help_that_nobody_reads_any_more_is_no_traceback():
  reading, writing = os.pipe()
  os.close(reading)
  with open(writing, 'wb') as stream:
    done = subprocess.run([sys.executable, 'main.py', '--help'], cwd=ROOT, stdout=stream,
                          stderr=subprocess.PIPE, text=True, check=False)
  assert (done.returncode, done.stderr) == (0, '')


@pytest.mark.parametrize('name, default', [
    ('update_lr', 'sinusoid 0.001; omniglot 0.4 (20 classes or more: 0.1); '
     'miniimagenet, images 0.01'),
    ('meta_batch_size',
     'sinusoid 25; omniglot 32 (20 classes or more: 16); miniimagenet, images 4 '
     '(5 shots or more: 2)'),
    ('pretrain_iterations', '0; with --baseline=oracle sinusoid 15000, point_navigation 100'),
    ('meta_lr', '0.001; with --method=reptile 1.0; with --baseline=averaged 0.002'),
    ('tune_update_lr', 'False; with --baseline=fine_tuning True'),
    ('method', 'maml'),
    ('train_query_size', 'the value of --update_batch_size; miniimagenet 15'),
])
def test_help_states_the_presets(name, default):
  blocks = re.split(r'\n  --', ' '.join(flags.help_text().split(' ')))
  block, = [block for block in blocks if block.startswith((f'{name}=', f'[no]{name}\n'))]
  assert f'Default: {default}' in ' '.join(block.split('\n\n')[0].split())
