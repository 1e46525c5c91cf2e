"""The resolved configuration of a run: plain values, checked, and JSON.

A `Config` is built once, at the entry point (`flags/`), from the paper's values
for a problem (`preset`) and what the user gave. Nothing here knows flags or
TensorFlow. Everything below the entry point receives values from it.
"""

from maml_tf.config.choices import (
  ADDONS_OPTIMIZERS,
  CHECKPOINTS,
  DTYPES,
  INNER_OPTIMIZERS,
  KERAS_OPTIMIZERS,
  LEARNED_STEP_SIZES,
  META_OPTIMIZERS,
  NORMS,
  REGULARISERS,
  SCHEDULES,
  STRATEGIES,
  TO_ZERO,
  TRUST_REGION,
  XLA_CHOICES,
)
from maml_tf.config.differences import differences
from maml_tf.config.models import MODELS
from maml_tf.config.presets import preset
from maml_tf.config.resolve import resolve
from maml_tf.config.schema import LARGEST_JSON, Config, from_values
from maml_tf.config.sections import SECTIONS, field_types, section_fields
from maml_tf.errors import ConfigError
from maml_tf.meta_learners import METHODS

__all__ = [
    'ADDONS_OPTIMIZERS', 'CHECKPOINTS', 'DTYPES', 'INNER_OPTIMIZERS', 'KERAS_OPTIMIZERS',
    'LARGEST_JSON', 'LEARNED_STEP_SIZES', 'META_OPTIMIZERS', 'METHODS', 'MODELS', 'NORMS',
    'REGULARISERS', 'SCHEDULES', 'SECTIONS', 'STRATEGIES', 'TO_ZERO', 'TRUST_REGION',
    'XLA_CHOICES', 'Config', 'ConfigError', 'differences', 'field_types', 'from_values',
    'preset', 'resolve', 'section_fields']
