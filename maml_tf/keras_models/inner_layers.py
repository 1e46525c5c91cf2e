"""The layers of a model, however deep they are."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, Iterable, Iterator, List, Mapping, Optional, Tuple

import tensorflow as tf

_LOCK = threading.RLock()   # what is changed is seen by all threads


def layers_of(model: tf.keras.layers.Layer) -> List[tf.keras.layers.Layer]:
  """`model` and every layer in it, each once: those in attributes, lists and dictionaries
  of layers too, and the layers that others wrap."""
  found: List[tf.keras.layers.Layer] = []
  seen = set()

  def visit(value: Any) -> None:
    if id(value) in seen:
      return
    if isinstance(value, tf.keras.layers.Layer):
      seen.add(id(value))
      found.append(value)
      for one in [*getattr(value, 'layers', []), *vars(value).values()]:
        visit(one)
    elif isinstance(value, Mapping):
      for one in list(value.values()):
        visit(one)
    elif isinstance(value, (list, tuple)):
      for one in value:
        visit(one)
  visit(model)
  return found


def is_of_keras(layer: tf.keras.layers.Layer) -> bool:
  """And not somebody's own, of whatever name: `keras_layers.py`, `tensorflow_addons`."""
  return type(layer).__module__.split('.')[0] in ('keras', 'tf_keras', 'tensorflow')


def output_layer(net: tf.keras.Model) -> Optional[tf.keras.layers.Layer]:
  """The last layer, where it gives the first output. Keras knows the places of layers in its
  own models alone, and one place of each."""
  try:
    last = net.layers[-1]
    return last if net.inputs and last.output is net.outputs[0] else None
  except (AttributeError, IndexError, TypeError, ValueError):
    return None


@contextlib.contextmanager
def attributes(changes: Iterable[Tuple[Any, str, Any]]) -> Iterator[None]:
  """Within, objects have other values of attributes: (object, name, value). Another thread
  waits before its own: it would take these for what was there, and leave them behind."""
  with _LOCK, contextlib.ExitStack() as stack:
    for owner, name, value in changes:
      stack.callback(_restore(owner, name))
      setattr(owner, name, value)
    yield


def _restore(owner: Any, name: str) -> Callable[[], None]:
  if name in vars(owner):
    before = vars(owner)[name]
    return lambda: setattr(owner, name, before)
  if isinstance(getattr(type(owner), name, None), property):
    before = getattr(owner, name)
    return lambda: setattr(owner, name, before)
  return lambda: delattr(owner, name)
