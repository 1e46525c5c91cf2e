"""The names of a run's folder, and of what is written into it."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, List, Tuple

from maml_tf.config.models import PAPER, name_of_model
from maml_tf.config.presets import preset
from maml_tf.meta_learners import short_name

if TYPE_CHECKING:
  from maml_tf.config.schema import Config

_DIGITS_OF_A_PATH = 8
_NORMS = {'batch_norm': 'batchnorm', 'layer_norm': 'layernorm', 'None': 'nonorm'}


def experiment_name(config: 'Config') -> str:
  """The TF1 code's folder name, and what that does not tell apart.

  The TF1 name does not say which seed, query size, optimizer or precision a run had, so
  two such runs overwrote each other. Those parts are added only where they differ from
  the preset, which keeps the TF1 names for TF1's runs. The classes are those of a task in
  training: runs that differ in those of a test alone are one run.
  """
  return _legacy_name(config) + ''.join(
      f'.{text}' for text, differs in _additions(config) if differs)


def of_named_file(config: 'Config') -> str:
  """What tells a test of other parameters than the folder's own from one of these: the end of
  the names of its files."""
  run = config.run
  named = None if run.train else run.pretrained or run.legacy_checkpoint
  if named is None:
    return ''
  digits = ''
  if run.legacy_checkpoint is not None or named.endswith('.npz'):   # no row
    named = os.path.abspath(named)
    digits = '-' + hashlib.sha256(os.fsencode(named)).hexdigest()[:_DIGITS_OF_A_PATH]
  name = re.sub(r'\.npz$', '', os.path.basename(named))
  return '_of_' + re.sub(r'[^\w.-]', '-', name) + digits


def of_pictures(config: 'Config') -> str:
  """The end of the names of a test's pictures, so that those of a run's own test stay: what
  its tables' names say that is not as in training."""
  shots, evaluation = config.task.update_batch_size, config.evaluation
  step_size = 'tuned' if evaluation.tune_update_lr else config.inner_loop.update_lr
  parts = ((config.split, config.split != 'test'),
           (f'ubs{shots}', shots != config.trained_shots),
           (f'stepsize{step_size}', step_size != config.trained_step_size))
  return ''.join(f'_{text}' for text, differs in parts if differs) + config.of_named_file


def _legacy_name(config: 'Config') -> str:
  learner, training = config.learner, config.training
  name = (f'cls_{config.trained_classes}.mbs_{training.meta_batch_size}'
          f'.ubs_{config.trained_shots}'
          f'.numstep{config.inner_loop.num_updates}'
          f'.updatelr{config.trained_step_size}')
  if learner.num_filters != 64:
    name += f'hidden{learner.num_filters}'
  if learner.max_pool:
    name += 'maxpool'
  if config.inner_loop.stop_grad:
    name += 'stopgrad'
  return name + config.baseline.folder + _NORMS[learner.norm]


def _additions(config: 'Config') -> List[Tuple[str, bool]]:
  """(text, whether it is part of the name)."""
  task, learner, training = config.task, config.learner, config.training
  inner_loop = config.inner_loop
  usual = preset(task.datasource, task.num_classes, config.trained_shots, training.method,
                 config.data_dir)
  if learner.norm == 'None':
    usual['per_step_norm'] = False
  return [
      (short_name(training.method), training.method != 'maml'),
      (f'inner{inner_loop.inner_optimizer}',
       inner_loop.inner_optimizer != usual['inner_optimizer']),
      (f'innerbatch{inner_loop.inner_batch_size}',
       inner_loop.inner_batch_size != usual['inner_batch_size']),
      (f'learned{inner_loop.learned_step_sizes}',
       inner_loop.learned_step_sizes != usual['learned_step_sizes']),
      *((f'{text}{getattr(inner_loop, name)}', getattr(inner_loop, name) != usual[name])
        for text, name in (('msl', 'multi_step_iterations'), ('da', 'first_order_iterations'),
                           ('bnwb', 'per_step_norm'))),
      (f'lambda{inner_loop.proximal_weight}',
       inner_loop.proximal_weight != usual['proximal_weight']),
      (f'cg{inner_loop.imaml_cg_iterations}',
       inner_loop.imaml_cg_iterations != usual['imaml_cg_iterations']),
      (f'context{learner.context_size}', learner.context_size != usual['context_size']),
      ('fullcontext', learner.full_context),
      (f'cosinescale{learner.cosine_scale}', learner.cosine_scale != usual['cosine_scale']),
      (name_of_model(learner.model), learner.model != PAPER),
      ('noconv', usual['conv'] and not learner.conv),
      *config.baseline.additions_to_the_name(config, usual),
      *config.problem.additions_to_the_name(config, usual),
      (f'pretrain{training.pretrain_iterations}', training.pretrain_iterations > 0),
      (f'query{task.train_query_size}', task.train_query_size != usual['train_query_size']),
      (training.meta_optimizer, training.meta_optimizer != usual['meta_optimizer']),
      (f'metalr{training.meta_lr}', training.meta_lr != usual['meta_lr']),
      (training.meta_lr_schedule, training.meta_lr_schedule != usual['meta_lr_schedule']),
      (f'halflife{training.meta_lr_half_life}',
       training.meta_lr_half_life != usual['meta_lr_half_life']),
      (f'clip{training.meta_gradient_clip}',
       training.meta_gradient_clip != usual['meta_gradient_clip']),
      (learner.dtype, learner.dtype != usual['dtype']),
      ('bfloat16', learner.mixed_precision),
      (f'seed{task.seed}', task.seed != usual['seed']),
  ]
