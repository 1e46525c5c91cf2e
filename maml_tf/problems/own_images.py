"""Anybody's own images, as `data_scripts/prepare_images.py` leaves them."""

from __future__ import annotations

import functools
import math
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Tuple

from maml_tf.errors import ConfigError, DataError
from maml_tf.files import as_json, reported, write_whole
from maml_tf.problems.images import MINIIMAGENET, OMNIGLOT, Images
from maml_tf.sources.image_set import MANIFEST, OWN_IMAGES, SPLITS, read_manifest

if TYPE_CHECKING:
  from maml_tf.config import Config

USUAL_WAYS = 5
_QUERY = 15         # as mini-ImageNet's
_LEAST_SIDE = 32    # of images that mini-ImageNet's net is taken for
_LONGEST_NAME = 50   # of a folder, in the name of a file


@dataclass(frozen=True)
class OwnImages(Images):
  """A set whose size, channels and classes are read from its prepared folder.

  Without the folder it is a set of mini-ImageNet's shape with nothing known of its classes;
  what needs the images says then what is missing.

  Args:
    fewest: {split: images of its smallest class}; empty where it is not known.
    folder: with the prepared set; None: not known.
  """
  fewest: Mapping[str, int] = field(default_factory=dict)
  folder: Optional[str] = None

  @property
  def usual_ways(self) -> int:
    return min([USUAL_WAYS, *self.classes.values()])

  def with_data(self, data_dir: str) -> 'OwnImages':
    try:
      changed = os.stat(os.path.join(data_dir, MANIFEST)).st_mtime_ns
      shape, counts = _described(os.path.realpath(data_dir), changed)
    except (DataError, OSError, ValueError):   # what reads the images will say it
      return self
    return replace(
        self, shape=shape, folder=data_dir,
        spatial_mean=min(shape[:2]) < _LEAST_SIDE,
        classes={split: len(of_split) for split, of_split in counts.items()},
        fewest={split: min(of_split) for split, of_split in counts.items()})

  def preset(self, num_classes: int, shots: Optional[int]) -> Dict[str, Any]:
    """The values of mini-ImageNet, or for images of less than 32 pixels of Omniglot, with no
    more query examples than the classes have, and a folder of runs of its own."""
    shots = 1 if shots is None else shots
    like = OMNIGLOT if self.spatial_mean else MINIIMAGENET
    values = like.preset(num_classes, shots)
    if self.folder is not None:
      name = os.path.basename(os.path.abspath(self.folder))
      values.update(logdir=f'logs/{name}')
    queries = values.get('train_query_size', shots)
    values.update(train_query_size=min(queries, self._left(shots, 'train')),
                  test_query_size=min(shots, self._left(shots, 'val', 'test')))
    return values

  def method_preset(self, method: str, num_classes: int, shots: int) -> Dict[str, Any]:
    """Those of the same set, with no more query examples and classes than there are."""
    like = OMNIGLOT if self.spatial_mean else MINIIMAGENET
    values = like.method_preset(method, num_classes, shots)
    most = {'train_query_size': self._left(shots, 'train')}
    if 'train' in self.classes:
      most['train_num_classes'] = self.classes['train']
    values.update({name: min(values[name], limit) for name, limit in most.items()
                   if name in values})
    return values

  def name_of_data(self, config: 'Config') -> str:
    """With the folder's name: there are as many such sets as users."""
    folder = os.path.basename(os.path.abspath(config.data_dir))
    folder = re.sub(r'[^\w.-]+', '_', folder)[:_LONGEST_NAME]
    return self.name if folder in ('', self.name) else f'{self.name}_{folder}'

  def most_test_queries(self, config: 'Config') -> float:
    return self.fewest.get(config.split, math.inf) - config.task.update_batch_size

  def keep_beside(self, folder: str, config: 'Config') -> None:
    """The manifest: predicting and exporting need the images' size, and no image.

    Raises:
      DataError: where the data are not prepared.
      WriteError: where it cannot be written.
    """
    manifest = read_manifest(config.data_dir, self.name)
    path = os.path.join(folder, MANIFEST)
    with reported(path):
      write_whole(path, as_json(manifest, indent=1))

  def _left(self, shots: int, *splits: str) -> int:
    """Query images that every class has beside its support images, at least 1."""
    return max(1, min(self.fewest.get(split, shots + _QUERY) for split in splits) - shots)

  def _check_examples(self, config: 'Config') -> None:
    task = config.task
    for split, fewest in self.fewest.items():
      name = 'train_query_size' if split == 'train' else 'test_query_size'
      needed = task.update_batch_size + getattr(task, name)
      if needed > fewest and self._is_used(config, split):
        raise ConfigError(
            f'--update_batch_size={task.update_batch_size} and --{name}={getattr(task, name)} '
            f'need {needed} images of a class, and the smallest one of the {split} split in '
            f'{config.data_dir} has {fewest}: take fewer, or add images to it.')


@functools.lru_cache(maxsize=16)
def _described(folder: str, changed: int) -> Tuple[Tuple[int, int, int], Dict[str, list]]:
  """(shape of an image, {split: images of each class}) of a prepared folder.

  Args:
    changed: when its manifest was.
  """
  manifest = read_manifest(folder, OWN_IMAGES)
  return tuple(manifest['image_shape']), {
      split: [row['count'] for row in manifest['splits'][split]['classes']]
      for split in SPLITS}


OWN = OwnImages(
    OWN_IMAGES, MINIIMAGENET.shape, classes={}, examples=0, rotations=False,
    spatial_mean=False, needs_pooling=False,
    classifier_iterations=MINIIMAGENET.classifier_iterations,
    own_preset=MINIIMAGENET.own_preset, reptile_preset=MINIIMAGENET.reptile_preset,
    special_presets=MINIIMAGENET.special_presets)
