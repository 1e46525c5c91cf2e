"""From a configuration to the objects that it describes."""

from __future__ import annotations

import math
from typing import Tuple

import tensorflow as tf

from maml_tf.baselines.pretraining import Pretraining
from maml_tf.config import Config, ConfigError
from maml_tf.data_generator import DataGenerator
from maml_tf.learners import Convolutional, FullyConnected, Learner, WithContext
from maml_tf.meta_learner import MetaLearner
from maml_tf.meta_learners import meta_learner_class
from maml_tf.objectives import MeanSquaredError, Objective, ScaledCrossEntropy
from maml_tf.sources.image_set import ImageSplit, load_split
from maml_tf.sources.images import ImageSource
from maml_tf.sources.sinusoid import SinusoidSource
from maml_tf.sources.source import EpisodeSource

IMAGE_SHAPES = {'omniglot': (28, 28, 1), 'miniimagenet': (84, 84, 3)}
SINUSOID_HIDDEN = (40, 40)
IMAGE_HIDDEN = (256, 128, 64, 64)

# Validation and test episodes do not follow the run's seed: they are the same for
# every run and every checkpoint, so that their scores can be compared.
EVALUATION_SEED = 0


def build_learner(config: Config) -> Learner:
  """The paper's net for the data source, with a context where there is one."""
  input_shape = _input_shape(config)
  context_size = config.learner.context_size
  net = _build_net(config, (*input_shape[:-1], input_shape[-1] + context_size))
  return WithContext(net, input_shape, context_size) if context_size else net


def _input_shape(config: Config) -> Tuple[int, ...]:
  if not config.is_classification:
    return (3,) if config.training.baseline == 'oracle' else (1,)
  image_shape = IMAGE_SHAPES[config.task.datasource]
  return image_shape if config.learner.conv else (math.prod(image_shape),)


def _build_net(config: Config, input_shape: Tuple[int, ...]) -> Learner:
  learner = config.learner
  if not config.is_classification:
    return FullyConnected(*input_shape, SINUSOID_HIDDEN, 1, learner.norm,
                          learner.mixed_precision)
  if not learner.conv:
    return FullyConnected(*input_shape, IMAGE_HIDDEN, config.task.num_classes, learner.norm,
                          learner.mixed_precision)
  return Convolutional(
      input_shape, learner.num_filters, config.task.num_classes, learner.norm,
      learner.max_pool, spatial_mean=config.task.datasource == 'omniglot',
      compiled_by_xla=use_xla(config), mixed_precision=learner.mixed_precision)


def build_objective(config: Config) -> Objective:
  if config.is_classification:
    return ScaledCrossEntropy(config.task.update_batch_size)
  return MeanSquaredError()


def build_model(config: Config) -> MetaLearner:
  """The meta-learner of the configuration with new parameters, not compiled."""
  _check_grouping(config)
  method = meta_learner_class(config.training.method)
  return method(
      build_learner(config), build_objective(config), step_size=config.inner_loop.update_lr,
      num_updates=config.inner_loop.num_updates, seed=config.task.seed,
      dtype=config.learner.dtype, gradient_clip=config.training.meta_gradient_clip,
      tasks_at_once=config.training.tasks_at_once,
      recompute_inner_steps=config.training.recompute_inner_steps, **method.options(config))


def build_pretraining(config: Config, model: MetaLearner) -> MetaLearner:
  """The pre-training phase, over the same parameters as `model`."""
  return Pretraining(
      model.learner, model.objective, step_size=config.inner_loop.update_lr,
      num_updates=config.inner_loop.num_updates, parameters=model.meta_parameters,
      tasks_at_once=config.training.tasks_at_once)


def training_generator(config: Config) -> DataGenerator:
  """The training episodes of the run."""
  source = _build_source(config, 'train', config.task.train_query_size)
  return DataGenerator(source, config.training.meta_batch_size, config.task.seed, 'train')


def evaluation_generator(config: Config, split: str, num_tasks: int) -> DataGenerator:
  """Validation or test episodes, in batches that divide `num_tasks`.

  Args:
    config: the configuration.
    split: 'val' or 'test'.
    num_tasks: how many episodes will be used.
  """
  source = _build_source(config, split, config.task.test_query_size)
  largest = 25 if build_learner(config).prefers_all_tasks_at_once else 5
  batch = max(size for size in range(1, largest + 1) if num_tasks % size == 0)
  return DataGenerator(source, batch, EVALUATION_SEED, split)


def build_image_source(config: Config, images: ImageSplit, query_size: int) -> ImageSource:
  """Tasks of `images`, with the configuration's ways, shots and precision."""
  task = config.task
  return ImageSource(images, task.num_classes, task.update_batch_size, query_size,
                     rotations=task.datasource == 'omniglot', dtype=config.learner.dtype)


def use_xla(config: Config) -> bool:
  """Whether the step is compiled by XLA: 'auto' means where there is a GPU."""
  if config.training.xla == 'auto':
    return bool(tf.config.list_physical_devices('GPU'))
  return config.training.xla == 'on'


def _build_source(config: Config, split: str, query_size: int) -> EpisodeSource:
  task = config.task
  if not config.is_classification:
    return SinusoidSource(task.update_batch_size, query_size,
                          oracle=config.training.baseline == 'oracle',
                          dtype=config.learner.dtype)
  return build_image_source(config, load_split(config.data_dir, task.datasource, split),
                            query_size)


def _check_grouping(config: Config) -> None:
  tasks, group = config.training.meta_batch_size, config.training.tasks_at_once
  if 0 < group < tasks and tasks % group:
    raise ConfigError(f'--tasks_at_once={group} does not divide '
                      f'--meta_batch_size={tasks}: choose a divisor, or 0.')
