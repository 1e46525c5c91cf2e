"""What people call the splits of a data set."""

from __future__ import annotations

import re
from typing import Optional

_SPLITS = {
    'train': 'train', 'training': 'train', 'base': 'train',
    'val': 'val', 'valid': 'val', 'validate': 'val', 'validation': 'val', 'dev': 'val',
    'test': 'test', 'testing': 'test', 'novel': 'test', 'eval': 'test', 'evaluation': 'test'}
# Words beside it that change nothing: of the set, of the form.
_BESIDE = {'mini', 'imagenet', 'image', 'images', 'img', 'imgs', 'net', 'meta', 'set', 'split',
           'phase', 'category', 'cache', 'data', 'class', 'classes', 'few', 'shot', 'fewshot',
           'miniimagenet', 'ilsvrc', 'fs', 'label', 'labels', 'list', 'file', 'files',
           'names', 'table', 'original', 'resized', 'raw'}
_WORD = re.compile(r'[A-Z]{2,}(?![a-z])|[A-Z]?[a-z]+')
_JOINED = re.compile(r'^(meta|mini)(?=.)|(?<=.)(set|data|images)$')


def split_of(name: str) -> Optional[str]:
  """'train', 'val' or 'test', where a folder's or a file's name means one of them.

  `Validation`, `valset`, `meta-val`, `images_valid` and `mini-imagenet-cache-val` are 'val';
  'train_phase_val', which is of the training classes, is none, as 'trainval' is.

  Args:
    name: of a folder, or of a file without its suffix.
  """
  words = {_JOINED.sub('', word.lower()) for word in _WORD.findall(name)} - _BESIDE
  splits = {_SPLITS.get(word) for word in words}
  return splits.pop() if len(splits) == 1 else None
