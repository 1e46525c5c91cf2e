"""Which variables a model reads within functions with a derivative of somebody's own
(`tf.custom_gradient`)."""

from __future__ import annotations

import functools
from typing import Any, Iterator, Set, Tuple

from tensorflow.python.ops import custom_gradient as of_tensorflow


class Reads:
  """Of such functions: TensorFlow hands variables that they read to their gradient functions,
  and knows nothing of tensors that are in their place, which get no gradient.

  Attributes:
    found: the `id` of each variable.
  """

  def __init__(self):
    self.found: Set[int] = set()
    self._depth = 0

  def changes(self) -> Iterator[Tuple[Any, str, Any]]:
    """(module, attribute, value), see `inner_layers.attributes`. All such functions are called
    by that attribute, which is not public, wherever they were decorated: nothing is found
    with a TensorFlow that has no such one."""
    name = '_graph_mode_decorator'
    if hasattr(of_tensorflow, name):
      yield of_tensorflow, name, functools.partial(self._called, getattr(of_tensorflow, name))

  def on_read(self, variable: Any) -> None:
    """To be told of all reads, see `functional_call.replaced`."""
    if self._depth:
      self.found.add(id(variable))

  def _called(self, original, function, arguments, kwargs):
    @functools.wraps(function)
    def within(*given):
      self._depth += 1
      try:
        return function(*given)
      finally:
        self._depth -= 1
    return original(within, arguments, kwargs)
