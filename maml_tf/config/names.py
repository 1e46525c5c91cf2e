"""The names of a run's folder, and of what is written into it."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, List, Tuple, Union

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


def tested_step_size(config: 'Config') -> Union[float, str]:
  """That of a test, as the names of its files have it."""
  return 'tuned' if config.evaluation.tune_update_lr else config.inner_loop.update_lr


def of_pictures(config: 'Config') -> str:
  """The end of the names of a test's pictures, so that those of a run's own test stay: what
  its tables' names say that is not as in training."""
  shots, step_size = config.task.update_batch_size, tested_step_size(config)
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
  values = config.to_values()
  usual = preset(task.datasource, task.num_classes, config.trained_shots, training.method,
                 config.data_dir)
  if learner.norm == 'None':
    usual['per_step_norm'] = False

  def unusual(text: str, name: str) -> Tuple[str, bool]:
    return f'{text}{values[name]}', values[name] != usual[name]
  return [
      (short_name(training.method), training.method != 'maml'),
      unusual('inner', 'inner_optimizer'),
      unusual('innerbatch', 'inner_batch_size'),
      unusual('learned', 'learned_step_sizes'),
      unusual('msl', 'multi_step_iterations'),
      unusual('da', 'first_order_iterations'),
      unusual('bnwb', 'per_step_norm'),
      unusual('lambda', 'proximal_weight'),
      unusual('cg', 'imaml_cg_iterations'),
      unusual('context', 'context_size'),
      ('fullcontext', learner.full_context),
      unusual('cosinescale', 'cosine_scale'),
      unusual('distancescale', 'distance_scale'),
      (name_of_model(learner.model), learner.model != PAPER),
      ('noconv', usual['conv'] and not learner.conv),
      *config.baseline.additions_to_the_name(config, usual),
      *config.problem.additions_to_the_name(config, usual),
      (f'pretrain{training.pretrain_iterations}', training.pretrain_iterations > 0),
      unusual('query', 'train_query_size'),
      unusual('', 'meta_optimizer'),
      unusual('metalr', 'meta_lr'),
      unusual('', 'meta_lr_schedule'),
      unusual('halflife', 'meta_lr_half_life'),
      unusual('clip', 'meta_gradient_clip'),
      unusual('', 'dtype'),
      ('bfloat16', learner.mixed_precision),
      unusual('seed', 'seed'),
  ]
