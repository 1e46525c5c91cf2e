"""The meta-learners, by their `--method`.

A new one is a module here, with a subclass of `MetaLearner`, and a line in
`_CLASSES`. TensorFlow is not loaded before a class is asked for: the flags know
the names alone.
"""

from __future__ import annotations

import importlib

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


def meta_learner_class(method: str):
  """The subclass of `MetaLearner` that `method`, one of `METHODS`, names."""
  module, _, name = _CLASSES[method].partition('.')
  return getattr(importlib.import_module(f'{__name__}.{module}'), name)
