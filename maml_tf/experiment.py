"""From a configuration to the objects that it describes."""

from __future__ import annotations

import math
from typing import Optional, Tuple, Union

import tensorflow as tf

from maml_tf import devices
from maml_tf.baselines.averaged_nets import AveragedNets
from maml_tf.baselines.classifier import ClassifierTraining
from maml_tf.baselines.fine_tuning import FineTuning
from maml_tf.baselines.nearest_neighbour import NearestNeighbour
from maml_tf.baselines.pretraining import Pretraining
from maml_tf.batch_generator import BatchGenerator
from maml_tf.config import Config, ConfigError
from maml_tf.data_generator import DataGenerator
from maml_tf.learners import Convolutional, FullyConnected, Learner, WithContext
from maml_tf.meta_learner import MetaLearner
from maml_tf.meta_learners import meta_learner_class
from maml_tf.objectives import MeanSquaredError, Objective, ScaledCrossEntropy
from maml_tf.sources.image_set import ImageSplit, load_split, read_manifest
from maml_tf.sources.images import ImageSource
from maml_tf.sources.labelled_images import LabelledImages, num_labels
from maml_tf.sources.single_sinusoids import SingleSinusoids
from maml_tf.sources.sinusoid import SinusoidSource
from maml_tf.sources.source import EpisodeSource
from maml_tf.task_groups import (
  SMALL_EXAMPLE,
  available_cores,
  divides,
  keeps_cores_busy,
  task_groups,
)

IMAGE_SHAPES = {'omniglot': (28, 28, 1), 'miniimagenet': (84, 84, 3)}
SINUSOID_HIDDEN = (40, 40)
IMAGE_HIDDEN = (256, 128, 64, 64)
# Images of a batch that a classifier baseline is tested on, which bounds its memory.
CLASSIFIED_AT_ONCE = 250

# Validation and test episodes do not follow the run's seed: they are the same for
# every run and every checkpoint, so that their scores can be compared.
EVALUATION_SEED = 0
# The step size is tuned on validation tasks that are not those either.
TUNING_SEED = 1


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
  outputs = config.task.num_classes
  if config.uses_classifier:
    training_classes = read_manifest(config.data_dir, config.task.datasource)[
        'splits']['train']['classes']
    outputs = num_labels(len(training_classes), has_rotations(config))
  if not learner.conv:
    return FullyConnected(*input_shape, IMAGE_HIDDEN, outputs, learner.norm,
                          learner.mixed_precision)
  return Convolutional(
      input_shape, learner.num_filters, outputs, learner.norm,
      learner.max_pool, spatial_mean=config.task.datasource == 'omniglot',
      compiled_by_xla=use_xla(config), mixed_precision=learner.mixed_precision)


def build_objective(config: Config) -> Objective:
  if config.is_classification:
    return ScaledCrossEntropy(config.task.update_batch_size)
  return MeanSquaredError()


def build_model(config: Config) -> MetaLearner:
  """What is tested, with new parameters, not compiled: a meta-learner, or a baseline."""
  _check_grouping(config)
  if config.uses_classifier:
    return _build_classifier_baseline(config, config.training.baseline)
  method = meta_learner_class(config.training.method)
  return method(
      build_learner(config), build_objective(config), step_size=config.inner_loop.update_lr,
      num_updates=config.inner_loop.num_updates, seed=config.task.seed,
      dtype=config.learner.dtype, gradient_clip=config.training.meta_gradient_clip,
      tasks_at_once=config.training.tasks_at_once,
      recompute_inner_steps=config.training.recompute_inner_steps,
      cores=None if use_xla(config) else devices.cores_for_tasks(),
      **method.options(config))


def build_pretraining(config: Config, model: MetaLearner) -> MetaLearner:
  """The pre-training phase, which trains the parameters of `model`."""
  training = config.training
  common = dict(step_size=config.inner_loop.update_lr,
                num_updates=config.inner_loop.num_updates)
  if training.baseline == 'averaged':
    return AveragedNets(
        model.learner, model.objective, num_nets=training.num_averaged_nets,
        regulariser=training.averaged_regulariser, weight=training.regulariser_weight,
        averaged=model.meta_parameters, seed=config.task.seed,
        dtype=config.learner.dtype, gradient_clip=training.meta_gradient_clip, **common)
  if config.uses_classifier:
    # Divided by the images of a mini-batch, the sum is their mean.
    return ClassifierTraining(
        model.learner, ScaledCrossEntropy(training.meta_batch_size),
        parameters=model.meta_parameters, gradient_clip=training.meta_gradient_clip,
        **common)
  return Pretraining(model.learner, model.objective, parameters=model.meta_parameters,
                     tasks_at_once=training.tasks_at_once, **common)


def build_validated(config: Config, model: MetaLearner) -> MetaLearner:
  """What is scored on validation tasks in training: `model`, but for classifiers.

  Both of their baselines choose the checkpoint by the nearest neighbour, which has no
  step size, so that they share one training.
  """
  if not config.uses_classifier:
    return model
  return _build_classifier_baseline(config, 'nearest_neighbour', model)


def training_generator(config: Config) -> Union[DataGenerator, BatchGenerator]:
  """The training episodes of the run, or its batches where nothing is adapted."""
  training = config.training
  if training.baseline == 'averaged':
    source = SingleSinusoids(training.num_averaged_nets, training.meta_batch_size,
                             config.learner.dtype)
    return BatchGenerator(source, config.task.seed)
  if config.uses_classifier:
    images = load_split(config.data_dir, config.task.datasource, 'train')
    source = LabelledImages(images, training.meta_batch_size, has_rotations(config),
                            config.learner.dtype)
    return BatchGenerator(source, config.task.seed)
  source = _build_source(config, 'train', config.task.train_query_size)
  return DataGenerator(source, training.meta_batch_size, config.task.seed, 'train')


def evaluation_generator(config: Config, split: str, num_tasks: int,
                         seed: int = EVALUATION_SEED) -> DataGenerator:
  """Validation or test episodes, in batches that divide `num_tasks`, and that groups of
  `tasks_at_once` divide.

  Args:
    config: the configuration.
    split: 'val' or 'test'.
    num_tasks: how many episodes will be used.
    seed: of the episodes: `EVALUATION_SEED` or `TUNING_SEED`.
  """
  source = _build_source(config, split, config.task.test_query_size)
  largest = 25 if math.prod(_input_shape(config)) <= SMALL_EXAMPLE else 8
  if config.uses_classifier:   # all tasks of a batch at once, beside its reference images
    images = config.task.num_classes * (config.task.update_batch_size
                                        + config.task.test_query_size)
    largest = min(25, max(1, CLASSIFIED_AT_ONCE // images))
  group = config.training.tasks_at_once or 1
  batch = max(size for size in range(1, largest + 1)
              if num_tasks % size == 0 and (size <= group or size % group == 0))
  return DataGenerator(source, batch, seed, split)


def build_image_source(config: Config, images: ImageSplit, query_size: int) -> ImageSource:
  """Tasks of `images`, with the configuration's ways, shots and precision."""
  task = config.task
  return ImageSource(images, task.num_classes, task.update_batch_size, query_size,
                     rotations=has_rotations(config), dtype=config.learner.dtype)


def use_xla(config: Config) -> bool:
  """Whether the step is compiled by XLA.

  'auto' means where that is faster: on a GPU, and for sinusoids, whose step is many
  small operations. Measured on CPUs in docs/speed.md.
  """
  if config.training.xla == 'auto':
    return not config.is_classification or bool(tf.config.list_physical_devices('GPU'))
  return config.training.xla == 'on'


def side_by_side(config: Config) -> bool:
  """Whether training is faster with each core of a CPU at tasks of its own.

  See `task_groups`; for `devices.set_up`, before anything is built.
  """
  training, task = config.training, config.task
  if (use_xla(config) or tf.config.list_physical_devices('GPU') or config.uses_classifier
      or training.baseline == 'averaged'
      or not divides(training.tasks_at_once, training.meta_batch_size)):
    return False
  cores = available_cores()
  classes = task.num_classes if config.is_classification else 1
  groups = task_groups(
      training.meta_batch_size, classes * (task.update_batch_size + task.train_query_size),
      math.prod(_input_shape(config)), at_once=training.tasks_at_once, cores=cores)
  return keeps_cores_busy(training.meta_batch_size, groups, cores)


def _build_classifier_baseline(config: Config, baseline: str,
                               trained: Optional[MetaLearner] = None) -> MetaLearner:
  """Args: trained: the model whose parameters it has; None: new ones."""
  reference = None
  if config.learner.norm == 'batch_norm':
    reference = training_generator(config).batch(0).support_inputs[0]
  common = dict(
      reference=reference, step_size=config.inner_loop.update_lr,
      num_updates=config.inner_loop.num_updates, seed=config.task.seed,
      dtype=config.learner.dtype,
      parameters=None if trained is None else trained.meta_parameters)
  learner, objective = build_learner(config), build_objective(config)
  if baseline == 'nearest_neighbour':
    return NearestNeighbour(learner, objective, **common)
  return FineTuning(learner, objective, num_classes=config.task.num_classes, **common)


def has_rotations(config: Config) -> bool:
  """Whether the classes of a task are turned."""
  return config.task.datasource == 'omniglot'


def _build_source(config: Config, split: str, query_size: int) -> EpisodeSource:
  task = config.task
  if not config.is_classification:
    return SinusoidSource(task.update_batch_size, query_size,
                          oracle=config.training.baseline == 'oracle',
                          dtype=config.learner.dtype)
  return build_image_source(config, load_split(config.data_dir, task.datasource, split),
                            query_size)


def _check_grouping(config: Config) -> None:
  if config.training.baseline == 'averaged' or config.uses_classifier:
    return   # a batch is no group of tasks there
  tasks, group = config.training.meta_batch_size, config.training.tasks_at_once
  if not divides(group, tasks):
    raise ConfigError(f'--tasks_at_once={group} does not divide '
                      f'--meta_batch_size={tasks}: choose a divisor, or 0.')
