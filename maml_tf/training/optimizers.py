"""The optimizers of the outer loop, by name."""

from __future__ import annotations

import contextlib
from typing import Any, Dict

import numpy as np
import tensorflow as tf

from maml_tf.config import ADDONS_OPTIMIZERS, TRUST_REGION, ConfigError
from maml_tf.config.sections import TrainingConfig
from maml_tf.training.optional_addons import tensorflow_addons

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8   # TF1's; Keras has 1e-7


def build_optimizer(name: str, learning_rate: float, dtype: str = 'float32',
                    decay_iterations: int = 0, schedule: str = 'linear'):
  """A Keras optimizer.

  Args:
    name: 'adam' (the paper's), 'sgd', 'momentum' (0.9), 'rmsprop', 'adamw', and of
      TensorFlow Addons 'lamb', 'rectified_adam', 'yogi', 'novograd'; 'trpo', whose steps
      are made by `rl.policy_learner` and are counted by what is returned.
    learning_rate: beta, the meta step size.
    dtype: of the variables that it will update. In float64 Keras's own constants
      would pass through float32 in some places and not in others, and lose 1e-5 of
      a step; here they are rounded to float32 first, as TF1's optimizer did, and
      exact from there on.
    decay_iterations: over which the step size falls to 0, or after each of which it is
      halved; 0: it is constant.
    schedule: how it falls: 'linear', 'cosine', or 'halving'.

  Raises:
    ConfigError: for an optimizer of TensorFlow Addons where that is not installed.
  """
  def constant(value):
    return float32_constant(value, dtype)
  rate = step_sizes(learning_rate, dtype, decay_iterations, schedule)
  if name in ADDONS_OPTIMIZERS:
    return _addons_optimizer(name, rate)
  beta_1, beta_2 = map(constant, ADAM_BETAS)
  adam: Dict[str, Any] = dict(beta_1=beta_1, beta_2=beta_2, epsilon=constant(ADAM_EPSILON))
  optimizers = tf.keras.optimizers
  builders = {
      'adam': lambda rate: optimizers.Adam(rate, **adam),
      'adamw': lambda rate: optimizers.AdamW(rate, **adam),
      'sgd': optimizers.SGD,
      TRUST_REGION: lambda rate: optimizers.SGD(1.0),   # it counts the steps, no more
      'momentum': lambda rate: optimizers.SGD(rate, momentum=constant(0.9)),
      'rmsprop': lambda rate: optimizers.RMSprop(rate, rho=constant(0.9)),
  }
  with _default_float(dtype):
    return builders[name](rate)


def step_sizes(learning_rate: float, dtype: str, decay_iterations: int, schedule: str):
  """A number, or what gives one for each iteration; see `build_optimizer`."""
  rate = float32_constant(learning_rate, dtype)
  if not decay_iterations:
    return rate
  schedules = tf.keras.optimizers.schedules
  zero, half = float32_constant(0.0, dtype), float32_constant(0.5, dtype)
  return {
      'linear': schedules.PolynomialDecay(rate, decay_iterations, end_learning_rate=zero),
      'cosine': schedules.CosineDecay(rate, decay_iterations),
      'halving': schedules.ExponentialDecay(rate, decay_iterations, half, staircase=True),
  }[schedule]


def decay_iterations(training: TrainingConfig) -> int:
  """What `build_optimizer` takes of that name."""
  if training.meta_lr_schedule == 'constant':
    return 0
  if training.meta_lr_schedule == 'halving':
    return training.meta_lr_half_life
  return max(1, training.metatrain_iterations)


def float32_constant(value: float, dtype: str):
  """`value` as it is in float32; in float64 rounded to float32, and exact from there."""
  return value if dtype == 'float32' else np.float64(np.float32(value))


def _addons_optimizer(name: str, learning_rate):
  addons = tensorflow_addons()
  if addons is None:
    raise ConfigError(
        f'--meta_optimizer={name} comes from TensorFlow Addons, which is not installed '
        f'or does not fit TensorFlow {tf.__version__}: choose another one, or use '
        'TensorFlow 2.15 with tensorflow-addons 0.23.')
  optimizers = addons.optimizers
  return {'lamb': optimizers.LAMB, 'rectified_adam': optimizers.RectifiedAdam,
          'yogi': optimizers.Yogi, 'novograd': optimizers.NovoGrad}[name](learning_rate)


@contextlib.contextmanager
def _default_float(dtype: str):
  """Keras keeps the learning rate in its default float type."""
  before = tf.keras.backend.floatx()
  tf.keras.backend.set_floatx(dtype)
  try:
    yield
  finally:
    tf.keras.backend.set_floatx(before)
