"""The meta-learners, by their `--method`.

A new one is a module here, with a subclass of `MetaLearner`, and a line in
`_CLASSES`. TensorFlow is not loaded before a class is asked for: the flags know
the names alone.
"""

from __future__ import annotations

import importlib
import os

from maml_tf import from_file
from maml_tf.errors import ConfigError

_CLASSES = {   # {method: 'module.Class'}
    'maml': 'maml.MAML',
    'reptile': 'reptile.Reptile',
    'anil': 'anil.ANIL',
    'context_vector': 'context_vector.ContextVector',
    'meta_sgd': 'meta_sgd.MetaSGD',
    'maml_plus_plus': 'maml_plus_plus.MAMLPlusPlus',
    'boil': 'boil.BOIL',
    'imaml': 'imaml.IMAML',
    'prototypical': 'prototypical.Prototypical',
    'matching': 'matching.Matching',
    'siamese': 'siamese.Siamese',
}

METHODS = tuple(_CLASSES)
# Those that compare in place of adapting, for what must know it without TensorFlow.
WITHOUT_INNER_LOOP = ('prototypical', 'matching', 'siamese')
LARGEST_COSINE_SCALE = 80   # of matching nets: float32 holds e^80


def meta_learner_class(method: str):
  """The subclass of `MetaLearner` that `method` names: one of `METHODS`, or FILE.py:NAME.

  Raises:
    ConfigError: for a file or a name in it that is none.
  """
  if from_file.is_spec(method):
    return _of_file(method)
  module, _, name = _CLASSES[method].partition('.')
  return getattr(importlib.import_module(f'{__name__}.{module}'), name)


def known_method(method: str) -> str:
  """The one of `METHODS` whose flags and presets `method` has: itself; for a class in a file
  the nearest one that it is derived from, or else MAML's."""
  if not from_file.is_spec(method):
    return method
  kind = meta_learner_class(method)
  for base in kind.__mro__:
    path = f'{base.__module__.rpartition(".")[2]}.{base.__name__}'
    for known, place in _CLASSES.items():
      if place == path and base.__module__.startswith(f'{__name__}.'):
        return known
  return 'maml' if kind.has_inner_loop else WITHOUT_INNER_LOOP[0]


def short_name(method: str) -> str:
  """As a part of a folder's name: 'my_file.MyMethod' of 'folder/my_file.py:MyMethod'."""
  if not from_file.is_spec(method):
    return method
  path, name = from_file.split(method, '--method')
  return f'{os.path.basename(path)[:-len(".py")]}.{name}'


def _of_file(spec: str):
  kind = from_file.load(spec, '--method')
  from maml_tf.meta_learner import MetaLearner
  if not (isinstance(kind, type) and issubclass(kind, MetaLearner)):
    raise ConfigError(f'--method={spec} is not a method: it must be a subclass of '
                      f'maml_tf.MetaLearner, or of one of {", ".join(METHODS)}.')
  return kind
