"""What the fields that are one of a few words may be."""

from __future__ import annotations

from typing import Dict, Tuple

from maml_tf import from_file, problems
from maml_tf.errors import ConfigError
from maml_tf.meta_learners import METHODS, meta_learner_class
from maml_tf.problems.control import TRUST_REGION

NORMS = ('batch_norm', 'layer_norm', 'None')
DTYPES = ('float32', 'float64')
REGULARISERS = ('None', 'l2', 'mean')
CHECKPOINTS = ('latest', 'best')
INNER_OPTIMIZERS = ('sgd', 'adam')
TO_ZERO = ('linear', 'cosine')   # schedules that depend on how long the training is
SCHEDULES = ('constant', *TO_ZERO, 'halving')
XLA_CHOICES = ('auto', 'on', 'off')
LEARNED_STEP_SIZES = ('None', 'layer', 'layer_and_step', 'element')
STRATEGIES = ('off', 'mirrored', 'multi_worker_mirrored', 'auto')

# Optimizers of Keras, and of TensorFlow Addons where it is installed.
KERAS_OPTIMIZERS = ('adam', 'sgd', 'momentum', 'rmsprop', 'adamw')
ADDONS_OPTIMIZERS = ('lamb', 'rectified_adam', 'yogi', 'novograd')
META_OPTIMIZERS = (*KERAS_OPTIMIZERS, *ADDONS_OPTIMIZERS, TRUST_REGION)


def choices() -> Dict[str, Tuple[str, ...]]:
  """{field: what it may be}."""
  return {
      'datasource': problems.names(), 'norm': NORMS, 'dtype': DTYPES,
      'baseline': problems.baseline_names(), 'method': METHODS,
      'inner_optimizer': INNER_OPTIMIZERS, 'learned_step_sizes': LEARNED_STEP_SIZES,
      'meta_lr_schedule': SCHEDULES,
      'meta_optimizer': META_OPTIMIZERS, 'test_checkpoint': CHECKPOINTS,
      'xla': XLA_CHOICES, 'averaged_regulariser': REGULARISERS,
      'distribution_strategy': STRATEGIES,
  }


def require_choice(name: str, received) -> None:
  """Raises: ConfigError: for a value that the field may not have."""
  allowed = choices()[name]
  if name == 'method' and from_file.is_spec(received):
    meta_learner_class(received)   # which says what is wrong with it
    return
  if received not in allowed:
    own = ', or FILE.py:CLASS' if name == 'method' else ''
    raise ConfigError(f'--{name}={received} is not known; allowed: {", ".join(allowed)}{own}.')
