"""Which nets `--model` names, and what does not fit them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, Mapping

from maml_tf import from_file
from maml_tf.config.presets import preset
from maml_tf.errors import ConfigError
from maml_tf.meta_learners import known_method

if TYPE_CHECKING:
  from maml_tf.config.schema import Config

PAPER = 'paper'
MODELS = (PAPER, 'resnet12', 'resnet18')
# {field: the only value}, and what is meant by that.
_NOT_OF_KERAS: Dict[str, Any] = {
    'baseline': 'None', 'mixed_precision': False, 'legacy_checkpoint': None}
_OF_THE_PAPERS_NET = ('norm', 'num_filters', 'conv', 'max_pool')
_OF_CONVOLUTIONS = ('num_filters',)
_OF_AN_IMAGE = 3   # axes


def name_of_model(model: str) -> str:
  """In a folder's name: 'resnet12', or 'my_net-build' of 'nets/my_net.py:build'."""
  path, _, name = model.rpartition(':')
  return f'{os.path.basename(path)[:-len(".py")]}-{name}' if path else name


def check_model(config: 'Config') -> None:
  """Raises: ConfigError: for a net that there is not, or what it does not fit."""
  model, values = config.learner.model, config.to_values()
  if model == PAPER:
    return
  if model not in MODELS:
    if not from_file.is_spec(model):
      raise ConfigError(f'--model={model} is not known; allowed: {", ".join(MODELS)}, or '
                        'FILE.py:NAME.')
    from_file.parts(model, '--model')
  fits = f'does not fit --model={model}'
  if config.problem.outputs(config) is None:
    raise ConfigError(f'--datasource={config.task.datasource} {fits}: its nets are of its own '
                      'kind, so leave one of them out.')
  if known_method(config.training.method) == 'context_vector':
    raise ConfigError(f'--method={config.training.method} {fits}: its context is a further '
                      'input of the paper\'s nets, which a Keras model does not have, so '
                      'leave one of them out.')
  if model in MODELS and len(config.problem.input_shape(config)) != _OF_AN_IMAGE:
    raise ConfigError(f'--datasource={config.task.datasource} {fits}, which is for images: '
                      'give the --datasource of some, or a net of your own, '
                      '--model=FILE.py:NAME.')
  for name, only in _NOT_OF_KERAS.items():
    if values[name] != only:
      raise ConfigError(f'--{name}={values[name]} {fits}, a Keras model, which has no '
                        'baselines and no TF1 checkpoints, and says itself what is in '
                        'bfloat16: leave one of them out.')


def check_given_net(given: Mapping[str, Any], config: 'Config') -> None:
  """Raises: ConfigError: for what is given of a net, and the one that is taken lacks.

  Of a run on disk nothing is given, and the presets of then are not known where its own
  images are gone.
  """
  learner = config.learner
  if learner.model != PAPER:
    fields, why = _OF_THE_PAPERS_NET, f'--model={learner.model}, which has layers of its own'
  elif not learner.conv:
    fields, why = _OF_CONVOLUTIONS, 'a net without convolutions, which has no filters'
  else:
    return
  usual = preset(config.task.datasource, config.task.num_classes,
                 config.task.update_batch_size, config.training.method, config.data_dir)
  for name in fields:
    if name in given and given[name] != usual[name]:
      raise ConfigError(f'--{name}={given[name]} does not fit {why}: leave one of them out.')
