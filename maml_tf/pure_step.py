"""A meta-step as a pure function: state and indices in, state and loss out.

For compilers and runtimes that know no variables and no input pipeline: the images stay
where the step runs, and an episode comes as the indices of its images. Exported by
`maml_tf.export_step`.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Tuple

import tensorflow as tf

from maml_tf.config import Config, ConfigError
from maml_tf.config.models import PAPER
from maml_tf.learners.base import Parameters
from maml_tf.meta_learner import MetaLearner
from maml_tf.meta_learners import known_method
from maml_tf.outer_step import all_finite
from maml_tf.sources.source import Recipes
from maml_tf.training.optimizers import (
  ADAM_BETAS,
  ADAM_EPSILON,
  decay_iterations,
  float32_constant,
  step_sizes,
)


class TrainingState(NamedTuple):
  """Everything that a step changes.

  Attributes:
    parameters: {name: theta}.
    first_moments, second_moments: Adam's, {name: array}.
    iteration: steps done, an int32 scalar.
  """
  parameters: Parameters
  first_moments: Parameters
  second_moments: Parameters
  iteration: tf.Tensor


PureStep = Callable[[TrainingState, tf.Tensor, Recipes],
                    Tuple[TrainingState, tf.Tensor, tf.Tensor]]


def initial_state(model: MetaLearner) -> TrainingState:
  """Of a run that starts from the parameters that `model` has now."""
  parameters = model.meta_parameters.tensors()
  def zeros():
    return {name: tf.zeros_like(value) for name, value in parameters.items()}
  return TrainingState(parameters, zeros(), zeros(), tf.constant(0, tf.int32))


def build_pure_step(config: Config, model: MetaLearner) -> PureStep:
  """The meta-step of a run of images, with Adam.

  Args:
    config: of the run.
    model: made of it; its variables are not read.

  Returns:
    step(state, images, recipes) -> (state, mean loss, mean accuracy). `images`: uint8
    `[images, height, width, channels]`, the prepared training images; `recipes`: as
    `DataGenerator.recipes` gives them for one meta-batch. A step whose loss or gradient
    is not finite changes nothing.

  Raises:
    ConfigError: for sinusoids, a Keras model, another optimizer, a method whose steps have a
      state of their own, or a run that does not begin with new parameters.
  """
  require_supported(config)
  episodes_of = config.problem.episodes_on_device(config)

  def step(state: TrainingState, images: tf.Tensor, recipes: Recipes):
    with model.with_constant_step_size():
      means, gradients = model.meta_gradient(episodes_of(images, recipes),
                                             parameters=state.parameters)
    finite = all_finite(means['loss'], gradients)
    after = _adam(state, model.outer_step.clipped(gradients), config)
    state = tf.nest.map_structure(lambda new, old: tf.where(finite, new, old), after, state)
    return state, means['loss'], means['accuracy']
  return step


def _adam(state: TrainingState, gradients: Parameters, config: Config) -> TrainingState:
  """As in TF1 and Keras: the correction of the bias is part of the step size."""
  training, dtype = config.training, config.learner.dtype
  epsilon, beta_1, beta_2 = (tf.constant(float32_constant(value, dtype), dtype)
                             for value in (ADAM_EPSILON, *ADAM_BETAS))
  sizes = step_sizes(training.meta_lr, dtype, decay_iterations(training),
                     training.meta_lr_schedule)
  learning_rate = tf.cast(sizes(state.iteration) if callable(sizes) else sizes, dtype)
  iteration = state.iteration + 1
  steps = tf.cast(iteration, dtype)
  rate = learning_rate * tf.sqrt(1 - tf.pow(beta_2, steps)) / (1 - tf.pow(beta_1, steps))
  first, second, parameters = {}, {}, {}
  for name, gradient in gradients.items():
    first[name] = beta_1 * state.first_moments[name] + (1 - beta_1) * gradient
    second[name] = beta_2 * state.second_moments[name] + (1 - beta_2) * gradient ** 2
    parameters[name] = state.parameters[name] - rate * first[name] / (
        tf.sqrt(second[name]) + epsilon)
  return TrainingState(parameters, first, second, iteration)


def require_supported(config: Config) -> None:
  """Raises: ConfigError: for a run that is more than one pure function of new parameters."""
  training = config.training
  config.problem.episodes_on_device(config)   # which refuses what has no images
  if not config.baseline.trains_on_tasks:
    raise ConfigError(f'--baseline={training.baseline} trains on no tasks, and has no '
                      'meta-step to export: leave it out.')
  if config.learner.model != PAPER:
    raise ConfigError(f'--model={config.learner.model} is a Keras model, whose dropout and '
                      'state are not written as a pure function: leave it out.')
  for name in ('pretrained', 'legacy_checkpoint'):
    value = getattr(config.run, name)
    if value is not None:
      raise ConfigError(f'--{name}={value} does not fit an exported step, which starts from '
                        'new parameters: leave it out.')
  if training.pretrain_iterations:
    raise ConfigError(f'--pretrain_iterations={training.pretrain_iterations} does not fit an '
                      'exported step, which is one of meta-training alone: leave it at 0.')
  if known_method(training.method) == 'reptile':
    raise ConfigError('--method=reptile keeps a state between meta-batches and is not '
                      'written as a pure function: take another method.')
  inner_loop = config.inner_loop
  if inner_loop.multi_step_iterations or inner_loop.first_order_iterations:
    raise ConfigError('Losses and orders that change with the iteration are not written as a '
                      'pure function: leave --multi_step_iterations and '
                      '--first_order_iterations at 0.')
  if training.meta_optimizer != 'adam':
    raise ConfigError(f'--meta_optimizer={training.meta_optimizer} is not written as a pure '
                      'function: take adam.')
