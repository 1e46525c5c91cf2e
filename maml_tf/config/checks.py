"""What can be run: each value by itself, and the values together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Dict

from maml_tf.argument_types import MOST
from maml_tf.config.choices import TRUST_REGION, choices, require_choice
from maml_tf.config.fits import check_fits
from maml_tf.config.models import check_model
from maml_tf.errors import ConfigError
from maml_tf.meta_learners import LARGEST_COSINE_SCALE, WITHOUT_INNER_LOOP, known_method
from maml_tf.paths import require_usable_for_checkpoints

if TYPE_CHECKING:
  from maml_tf.config.schema import Config

_AT_LEAST = {
    'num_classes': 2, 'update_batch_size': 1, 'train_query_size': 1,
    'test_query_size': 1, 'seed': 0, 'num_filters': 1, 'context_size': 0,
    'multi_step_iterations': 0, 'first_order_iterations': 0,
    'num_updates': 1, 'inner_batch_size': 0, 'test_inner_batch_size': 0,
    'pretrain_iterations': 0, 'metatrain_iterations': 0, 'meta_batch_size': 1,
    'meta_lr_half_life': 1,
    'tasks_at_once': 0, 'validation_interval': 1, 'num_validation_tasks': 1,
    'num_test_tasks': 2, 'test_num_updates': 1, 'num_averaged_nets': 1, 'num_gpus': -1,
    'task_index': -1, 'worker_timeout': 1,
}
_OF_AN_INNER_LOOP = ('update_lr', 'num_updates', 'test_num_updates')
_OR_MINUS_ONE = {
    'test_iter': (0, 'an iteration (0 or more), or -1 for the checkpoint that '
                     '--test_checkpoint names'),
    'train_update_batch_size': (1, '1 or more, or -1 for the value of --update_batch_size'),
    'train_num_classes': (2, '2 or more, or -1 for the value of --num_classes'),
}


def check(config: 'Config') -> None:
  """Raises: ConfigError: for a wrong value or an impossible combination."""
  values = config.to_values()
  for name in choices():
    require_choice(name, values[name])
  known = known_method(values['method'])
  _check_counts(values, known)
  _check_numbers(values, known)
  _check_imaml(values, known)
  _check_matching(values, known)
  _check_prototypical(values, known)
  _check_paths(values)
  _check_precision(config)
  _check_method(config)
  check_model(config)
  check_fits(config)
  _check_outer_step(config)
  _check_classes(config)
  config.problem.check(config)
  _check_context(config)
  _check_regulariser(config)
  _check_tested_checkpoint(config)
  _check_named_parameters(config)
  _check_strategy(config)


def _check_counts(values: Dict[str, Any], known: str) -> None:
  for name, least in _AT_LEAST.items():
    if name in _OF_AN_INNER_LOOP and known in WITHOUT_INNER_LOOP:
      least = 0   # and nothing else, which `check_fits` says
    if not least <= values[name] <= MOST:
      raise ConfigError(f'--{name}={values[name]} is not allowed: it must be between '
                        f'{least} and {MOST}.')
  for name, (least, allowed) in _OR_MINUS_ONE.items():
    if values[name] != -1 and not least <= values[name] <= MOST:
      raise ConfigError(f'--{name}={values[name]} is not allowed: it must be {allowed}.')


def _check_numbers(values: Dict[str, Any], known: str) -> None:
  for name in ('update_lr', 'meta_lr'):
    if name in _OF_AN_INNER_LOOP and known in WITHOUT_INNER_LOOP:
      continue
    if not (math.isfinite(values[name]) and values[name] > 0):
      raise ConfigError(f'--{name}={values[name]} is not allowed: a step size must be '
                        'a finite number above 0.')
  for name, nothing in (('meta_gradient_clip', 'no clipping'),
                        ('regulariser_weight', 'none')):
    if not (math.isfinite(values[name]) and values[name] >= 0):
      raise ConfigError(f'--{name}={values[name]} is not allowed: it must be a finite '
                        f'number above 0, or 0 for {nothing}.')
  step_size = values['train_update_lr']
  if step_size != -1 and not (math.isfinite(step_size) and step_size > 0):
    raise ConfigError(f'--train_update_lr={step_size} is not allowed: it must be a finite '
                      'number above 0, or -1 for the value of --update_lr.')


def _check_imaml(values: Dict[str, Any], known: str) -> None:
  if known != 'imaml':
    return
  if not (math.isfinite(values['proximal_weight']) and values['proximal_weight'] > 0):
    raise ConfigError(f'--proximal_weight={values["proximal_weight"]} is not allowed: it must '
                      'be a finite number above 0.')
  if not 1 <= values['imaml_cg_iterations'] <= MOST:
    raise ConfigError(f'--imaml_cg_iterations={values["imaml_cg_iterations"]} is not allowed: '
                      f'it must be between 1 and {MOST}.')


def _check_matching(values: Dict[str, Any], known: str) -> None:
  if known == 'matching' and not 0 < values['cosine_scale'] <= LARGEST_COSINE_SCALE:
    raise ConfigError(f'--cosine_scale={values["cosine_scale"]} is not allowed: it must be '
                      f'above 0, and {LARGEST_COSINE_SCALE} at most.')


def _check_prototypical(values: Dict[str, Any], known: str) -> None:
  scale = values['distance_scale']
  if known == 'prototypical' and not (math.isfinite(scale) and scale > 0):
    raise ConfigError(f'--distance_scale={scale} is not allowed: it must be a finite number '
                      'above 0.')


def _check_paths(values: Dict[str, Any]) -> None:
  for name in ('logdir', 'data_dir'):
    if values[name] is not None and not values[name].strip():
      raise ConfigError(f'--{name} is empty: it must name a folder.')
    if '\0' in (values[name] or ''):
      raise ConfigError(f'--{name}={values[name]!r} is not allowed: the name of a folder '
                        'has no null character.')
  for name in ('logdir', 'legacy_checkpoint'):
    require_usable_for_checkpoints(values[name] or '', name)
  for name, what in (
      ('legacy_checkpoint', 'name a checkpoint of the TF1 code'),
      ('pretrained', 'be ROW or ROW:SEED of `python -m maml_tf.verify`, or a file of '
                     'weights (.npz)')):
    value = values[name]
    if value is not None and (not value or '\0' in value):
      raise ConfigError(f'--{name}={value!r} is not allowed: it must {what}.')


def _check_precision(config: 'Config') -> None:
  if config.learner.mixed_precision and config.learner.dtype != 'float32':
    raise ConfigError(f'--mixed_precision=True does not fit --dtype={config.learner.dtype}: '
                      'products in bfloat16 would make its precision pointless, so leave '
                      'one of them out.')


def _check_method(config: 'Config') -> None:
  method, problem = config.training.method, config.problem
  if problem.methods is not None and method not in problem.methods:
    raise ConfigError(f'--method={method} does not fit --datasource={problem.name}, which is '
                      f'learned by {" or ".join(problem.methods)}: choose one of these, or '
                      'leave it out.')


def _check_outer_step(config: 'Config') -> None:
  optimizer, problem = config.training.meta_optimizer, config.problem
  if optimizer == TRUST_REGION and not problem.acts:
    raise ConfigError(
        f'--meta_optimizer={optimizer} does not fit --datasource={problem.name}, which has no '
        'policies, and it is for these: leave it out, or choose another one.')


def _check_classes(config: 'Config') -> None:
  method = config.training.method
  if not (config.has_inner_loop or config.problem.has_classes):
    raise ConfigError(f'--method={method} does not fit --datasource='
                      f'{config.task.datasource}, which has no classes to compare with: '
                      'take one of images, or another method.')


def _check_context(config: 'Config') -> None:
  learner, method = config.learner, config.training.method
  if known_method(method) != 'context_vector':
    return
  if learner.context_size == 0:
    raise ConfigError(f'--context_size=0 does not fit --method={method}, which adapts '
                      'nothing else: it must be 1 or more.')
  if learner.norm == 'batch_norm' and not learner.conv:
    raise ConfigError(f'--norm=batch_norm does not fit --method={method} in a net '
                      'without convolutions, where batch norm removes all of the '
                      'context: use --norm=layer_norm or --norm=None.')
  if config.run.legacy_checkpoint is not None:
    raise ConfigError(f'--legacy_checkpoint does not fit --method={method}, whose net has '
                      'more inputs than any of the TF1 code: leave one of them out.')


def _check_regulariser(config: 'Config') -> None:
  training = config.training
  if (training.averaged_regulariser == 'None') != (training.regulariser_weight == 0):
    raise ConfigError(f'--regulariser_weight={training.regulariser_weight} does not fit '
                      f'--averaged_regulariser={training.averaged_regulariser}: l2 and mean '
                      'need a weight above 0, and None has none.')


def _check_tested_checkpoint(config: 'Config') -> None:
  evaluation = config.evaluation
  if not config.run.train:
    return
  if not config.baseline.any_shots and config.trained_shots != config.task.update_batch_size:
    raise ConfigError(
        f'--train_update_batch_size={evaluation.train_update_batch_size} differs from '
        f'--update_batch_size={config.task.update_batch_size} while training: it names '
        'a checkpoint trained with another value, so give it with --train=False only.')
  if evaluation.train_update_lr not in (-1.0, config.inner_loop.update_lr):
    raise ConfigError(
        f'--train_update_lr={evaluation.train_update_lr} differs from '
        f'--update_lr={config.inner_loop.update_lr} while training: it names a '
        'checkpoint trained with another value, so give it with --train=False only.')
  if evaluation.test_iter != -1:
    raise ConfigError(
        f'--test_iter={evaluation.test_iter} is given while training: it chooses the '
        'checkpoint to test, so give it with --train=False only.')


def _check_strategy(config: 'Config') -> None:
  run = config.run
  strategy = run.distribution_strategy
  if strategy == 'off' and run.num_gpus > 1:
    raise ConfigError(f'--num_gpus={run.num_gpus} does not fit --distribution_strategy=off, '
                      'which uses one: choose mirrored.')
  for name, nothing in (('worker_hosts', None), ('task_index', -1)):
    value = getattr(run, name)
    if strategy != 'multi_worker_mirrored' and value != nothing:
      raise ConfigError(f'--{name}={value} does not fit --distribution_strategy={strategy}, '
                        'which is of one process: choose multi_worker_mirrored.')
  if strategy != 'off' and not config.baseline.shared_out:
    raise ConfigError(
        f'--distribution_strategy={strategy} does not fit --baseline={config.baseline.name}, '
        'whose batches are not of tasks that replicas could share: leave it out.')


def _check_named_parameters(config: 'Config') -> None:
  run, test_iter = config.run, config.evaluation.test_iter
  if run.legacy_checkpoint is not None and not config.baseline.in_legacy_code:
    raise ConfigError(f'--legacy_checkpoint does not fit --baseline={config.baseline.name}, '
                      'which the TF1 code does not have: leave one of them out.')
  if run.legacy_checkpoint is not None and test_iter != -1:
    raise ConfigError(f'--test_iter={test_iter} does not fit --legacy_checkpoint, which '
                      'names the checkpoint to test: leave one of them out.')
  if run.pretrained is not None and test_iter != -1:
    raise ConfigError(f'--test_iter={test_iter} does not fit --pretrained, which names the '
                      'weights to test: leave one of them out.')
  if run.pretrained is not None and run.legacy_checkpoint is not None:
    raise ConfigError(
        f'--pretrained={run.pretrained} does not fit --legacy_checkpoint, since both '
        'name the parameters to take: leave one of them out.')
