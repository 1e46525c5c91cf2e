"""N-way K-shot classification of images (section 5.2): Omniglot and mini-ImageNet."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Tuple

from maml_tf.errors import ConfigError, DataError
from maml_tf.measures import ACCURACY
from maml_tf.meta_learners import WITHOUT_INNER_LOOP
from maml_tf.problems.base import Problem
from maml_tf.problems.baseline import Baseline
from maml_tf.problems.classifier import FineTuned, Nearest

if TYPE_CHECKING:
  from maml_tf.config import Config

HIDDEN = (256, 128, 64, 64)   # without convolutions (A.1)


@dataclass(frozen=True)
class Images(Problem):
  """An image set with train, val and test classes.

  Args:
    name: of the set.
    shape: (height, width, channels).
    classes: {split: classes that it has}, an upper bound for N that is known before the
      data are read.
    examples: of a class.
    rotations: whether the classes of a task are turned by random multiples of 90 degrees.
    spatial_mean: whether the classifier sees the mean over the last feature map.
    needs_pooling: whether the convolutional net needs max-pooling.
    classifier_iterations: of the classifier baselines.
    own_preset: (ways, shots) -> {field: value} where it differs from `presets.COMMON`.
    reptile_preset: (ways, shots) -> the same for Reptile.
    comparing_preset: (method, shots) -> the same for methods without an inner loop.
    inverted: whether the set is stored inverted, so that ink is 255.
    special_presets, split_of_tf1: see `Problem`.
  """
  name: str
  shape: Tuple[int, int, int]
  classes: Mapping[str, int]
  examples: int
  rotations: bool
  spatial_mean: bool
  needs_pooling: bool
  classifier_iterations: int
  own_preset: Callable[[int, int], Dict[str, Any]]
  reptile_preset: Callable[[int, int], Dict[str, Any]]
  comparing_preset: Callable[[str, int], Dict[str, Any]] = lambda method, shots: {}
  special_presets: Tuple[Tuple[str, int, Optional[int]], ...] = ()
  inverted: bool = False
  split_of_tf1: bool = True
  measure = ACCURACY
  has_classes = True
  may_test_validation = True
  plural = 'images'
  baselines: Mapping[str, Baseline] = field(default_factory=lambda: {
      baseline.name: baseline for baseline in (Baseline(), FineTuned(), Nearest())})

  def preset(self, num_classes: int, shots: Optional[int]) -> Dict[str, Any]:
    shots = 1 if shots is None else shots
    return dict(self.own_preset(num_classes, shots), update_batch_size=shots)

  def method_preset(self, method: str, num_classes: int, shots: int) -> Dict[str, Any]:
    if method == 'reptile':
      return self.reptile_preset(num_classes, shots)
    if method in WITHOUT_INNER_LOOP:
      return self.comparing_preset(method, shots)
    return dict(context_size=1) if method == 'context_vector' else {}

  def check(self, config: 'Config') -> None:
    self._check_net(config)
    self._check_classes(config)
    self._check_examples(config)

  def groups(self, config: 'Config') -> int:
    return config.task.num_classes

  def task_in_words(self, config: 'Config') -> str:
    return f'{config.task.num_classes}-way {super().task_in_words(config)}'

  def recorded_split(self, config: 'Config') -> str:
    return self.tested_split(config)

  def require_data(self, config: 'Config') -> None:
    from maml_tf.sources.image_set import read_manifest
    read_manifest(config.data_dir, self.name)

  def data_hashes(self, config: 'Config') -> Mapping[str, str]:
    from maml_tf.sources.image_set import read_manifest
    try:
      splits = read_manifest(config.data_dir, self.name)['splits']
    except DataError:
      return {}
    return {split: entry['sha256'] for split, entry in splits.items()}

  def require_query_conditions(self, config: 'Config') -> None:
    if not config.baseline.own_statistics:
      raise ConfigError(f'--baseline={config.training.baseline} has fixed batch statistics: '
                        'the matrix is of nets that use those of a task, so leave it out.')
    if config.learner.model != 'paper':
      raise ConfigError(f'--model={config.learner.model} takes the batch statistics of one '
                        'set alone: the matrix is of the paper\'s nets, so leave it out.')
    if config.evaluation.tune_update_lr:
      raise ConfigError('--tune_update_lr=True does not fit the matrix, which tests with the '
                        'trained step size: leave it out.')
    if not config.has_inner_loop:
      raise ConfigError(f'--method={config.training.method} has no inner steps after which '
                        'the matrix could measure: take a method that adapts.')

  def episodes_on_device(self, config: 'Config'):
    from maml_tf.sources.images import episodes_of
    support = config.trained_classes * config.task.update_batch_size
    return lambda images, recipes: episodes_of(
        images, recipes, support, config.learner.dtype, self.rotations)

  def require_images(self) -> None:
    pass

  def pixels(self, data: bytes, config: 'Config'):
    from data_scripts.images import ImageError, own_pixels
    height, width, channels = self.shape
    try:
      image, _ = own_pixels(data, height, channels, width)
    except ImageError as error:
      raise DataError(str(error)) from error
    return 255 - image if self.inverted else image

  def outputs(self, config: 'Config') -> int:
    return config.task.num_classes

  def input_shape(self, config: 'Config') -> Tuple[int, ...]:
    return self.shape if config.learner.conv else (math.prod(self.shape),)

  def net(self, config: 'Config', input_shape: Tuple[int, ...]):
    return self.net_with_outputs(config, input_shape, config.task.num_classes)

  def net_with_outputs(self, config: 'Config', input_shape: Tuple[int, ...], outputs: int):
    """The paper's net with that many classes."""
    from maml_tf.learners import Convolutional, FullyConnected
    learner = config.learner
    if not learner.conv:
      return FullyConnected(*input_shape, HIDDEN, outputs, learner.norm,
                            learner.mixed_precision)
    return Convolutional(
        input_shape, learner.num_filters, outputs, learner.norm, learner.max_pool,
        spatial_mean=self.spatial_mean, compiled_by_xla=self.use_xla(config),
        mixed_precision=learner.mixed_precision)

  def objective(self, config: 'Config'):
    from maml_tf.objectives import MeanCrossEntropy, ScaledCrossEntropy
    if not config.has_inner_loop:
      return MeanCrossEntropy()
    return ScaledCrossEntropy(config.task.update_batch_size)

  def source(self, config: 'Config', split: str, query_size: int):
    return self.source_of(config, self.images(config, split), query_size)

  def images(self, config: 'Config', split: str):
    """The prepared images of a split."""
    from maml_tf.sources.image_set import load_split
    return load_split(config.data_dir, self.name, split)

  def source_of(self, config: 'Config', images, query_size: int):
    """Tasks of `images`, with the configuration's ways, shots and precision."""
    from maml_tf.sources.images import ImageSource
    task = config.task
    is_of_training = images.split == 'train' and task.train_num_classes != -1
    return ImageSource(
        images, task.num_classes, task.update_batch_size, query_size,
        rotations=self.rotations, dtype=config.learner.dtype,
        ways_argument='train_num_classes' if is_of_training else 'num_classes')

  def stand_in_source(self, config: 'Config'):
    from maml_tf.sources.image_set import random_images
    config = config.with_trained_classes()
    task = config.task
    images = random_images(self.name, self.shape, classes=max(64, task.num_classes),
                           per_class=max(20, task.update_batch_size + task.train_query_size))
    return self.source_of(config, images, task.train_query_size)

  def sample_tasks(self, episodes) -> bytes:
    from maml_tf.reports.sample_tasks import sample_tasks_png
    return sample_tasks_png(episodes, self.inverted)

  def _check_net(self, config: 'Config') -> None:
    learner = config.learner
    if learner.max_pool and not learner.conv:
      raise ConfigError('--max_pool=True does not fit --conv=False: a net without '
                        'convolutions has nothing to pool, so leave one of them out.')
    if self.needs_pooling and learner.conv and not learner.max_pool:
      raise ConfigError(f'--max_pool=False does not fit --datasource={self.name}: its '
                        'classifier takes 5 x 5 x num_filters features, which only '
                        'max-pooling leaves, so leave --max_pool out or set it to True.')

  def _check_classes(self, config: 'Config') -> None:
    used = {split: classes for split, classes in self.classes.items()
            if self._is_used(config, split)}
    has_own = config.task.train_num_classes != -1
    for flag, splits in (
        ('num_classes', [split for split in used if split != 'train' or not has_own]),
        ('train_num_classes', ['train'] if has_own and 'train' in used else [])):
      # Of the smallest one: what is said to be allowed must not be refused by another.
      split = min(splits, key=used.get, default=None)
      ways = getattr(config.task, flag)
      if split is not None and ways > used[split]:
        raise ConfigError(f'--{flag}={ways} is larger than the {split} split of '
                          f'{self.name}, which has {used[split]} classes: at most '
                          f'{used[split]} are allowed.')

  def _is_used(self, config: 'Config', split: str) -> bool:
    """Training reads `train` and `val`, and every run tests on one."""
    return split == self.tested_split(config) or (config.run.train
                                                  and split in ('train', 'val'))

  def _check_examples(self, config: 'Config') -> None:
    task = config.task
    query_sizes = {'test_query_size': task.test_query_size}
    if config.run.train:
      query_sizes['train_query_size'] = task.train_query_size
    for name, query_size in query_sizes.items():
      needed = task.update_batch_size + query_size
      if needed > self.examples:
        raise ConfigError(
            f'--update_batch_size={task.update_batch_size} and --{name}={query_size} need '
            f'{needed} examples of a class, and {self.name} has {self.examples}: take '
            'fewer.')


def _omniglot(ways: int, shots: int) -> Dict[str, Any]:
  if ways < 20:
    return dict(num_validation_tasks=400)
  return dict(update_lr=0.1, num_updates=5, meta_batch_size=16, num_validation_tasks=100)


def _omniglot_by_reptile(ways: int, shots: int) -> Dict[str, Any]:
  values: Dict[str, Any] = dict(train_query_size=max(1, 10 - shots))
  if ways >= 20:
    values.update(update_lr=0.0005, inner_batch_size=20, num_updates=10,
                  metatrain_iterations=200000, test_inner_batch_size=10)
  return values


def _miniimagenet(ways: int, shots: int) -> Dict[str, Any]:
  return dict(num_filters=32, max_pool=True, update_lr=0.01, num_updates=5,
              meta_batch_size=2 if shots >= 5 else 4, train_query_size=15,
              meta_gradient_clip=10.0)


def _miniimagenet_by_reptile(ways: int, shots: int) -> Dict[str, Any]:
  values: Dict[str, Any] = dict(num_updates=8, train_query_size=max(1, 15 - shots))
  if shots >= 5:
    values.update(test_inner_batch_size=15)
  return values


# One task a step; its size is halved every 2,000 tasks (Snell et al. 2017, section 3). The
# number of tasks is this project's: at their end the steps are small.
_LIKE_SNELL = dict(meta_batch_size=1, meta_lr_schedule='halving')


def _omniglot_by_comparing(method: str, shots: int) -> Dict[str, Any]:
  return {
      # 60 classes, 5 query images of each (their section 3.1).
      'prototypical': dict(train_num_classes=60, train_query_size=5,
                           metatrain_iterations=20000, **_LIKE_SNELL),
      # This project's: of 20 classes there are 20 times as many pairs.
      'siamese': dict(train_num_classes=20, meta_batch_size=8)}.get(method, {})


def _miniimagenet_by_comparing(method: str, shots: int) -> Dict[str, Any]:
  if method != 'prototypical':
    return {}
  # 30 classes for 1 shot, 20 for 5, 15 query images of each (their section 3.2).
  return dict(train_num_classes=20 if shots >= 5 else 30, metatrain_iterations=10000,
              **_LIKE_SNELL)


OMNIGLOT = Images(
    'omniglot', (28, 28, 1), {'train': 1100, 'val': 100, 'test': 423}, examples=20,
    rotations=True, spatial_mean=True, needs_pooling=False, classifier_iterations=30000,
    own_preset=_omniglot, reptile_preset=_omniglot_by_reptile,
    comparing_preset=_omniglot_by_comparing,
    special_presets=(('20 classes or more', 20, None),), inverted=True, split_of_tf1=False)
MINIIMAGENET = Images(
    'miniimagenet', (84, 84, 3), {'train': 64, 'val': 16, 'test': 20}, examples=600,
    rotations=False, spatial_mean=False, needs_pooling=True, classifier_iterations=12000,
    own_preset=_miniimagenet, reptile_preset=_miniimagenet_by_reptile,
    comparing_preset=_miniimagenet_by_comparing,
    special_presets=(('5 shots or more', 5, 5),))
