"""TensorFlow Addons, where it can be had.

Its last release needs Keras 2. With a newer TensorFlow it is not installed, and its
optimizers, which are all that is taken of it, are refused.
"""

from __future__ import annotations

import functools
import warnings


@functools.cache
def tensorflow_addons():
  """The module, or None where it is not installed or does not fit TensorFlow."""
  try:
    with warnings.catch_warnings():
      # It announces its end of life, and warns of versions it has not been tried with.
      warnings.simplefilter('ignore')
      import tensorflow_addons as addons
  except (ImportError, AttributeError):   # AttributeError: under Keras 3
    return None
  return addons
