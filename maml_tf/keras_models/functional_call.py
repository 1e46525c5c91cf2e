"""What is written with Keras variables, evaluated with tensors in their place.

Adapted parameters must be tensors that flow through the forward pass. Keras 3 has a public
way, `keras.StatelessScope`. Keras 2.15, which is frozen, has none: there the variables are
of another class within `replaced`, whose reads give the tensor. Every read of a variable
goes by a method of its class, but only while a graph is traced: eager operations read a
variable by its handle.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Tuple

import tensorflow as tf

KERAS3 = hasattr(tf.keras, 'StatelessScope')

Read = Callable[[Any], tf.Tensor]


class _Scope(NamedTuple):
  """What variables of Keras 2 are replaced by, and who is told of it."""
  values: Dict[int, tf.Tensor]
  on_read: Callable[[Any], None]


_LOCK = threading.RLock()        # the other class is seen by all threads
_SCOPES: List[_Scope] = []
_CLASSES: Dict[type, type] = {}


@contextlib.contextmanager
def replaced(pairs: Iterable[Tuple[Any, tf.Tensor]],
             on_read: Callable[[Any], None] = lambda variable: None) -> Iterator[Read]:
  """Within, each variable has the value beside it, and what is assigned to it is forgotten
  behind.

  Args:
    pairs: variables of Keras, and tensors of their shapes.
    on_read: called with a variable whenever it is read.

  Yields:
    A function: a variable of `pairs` -> its value now, that assigned last.

  Raises:
    RuntimeError: in eager mode.

  Example:
    >>> import tensorflow as tf
    >>> dense = tf.keras.layers.Dense(1, use_bias=False, kernel_initializer='zeros')
    >>> dense.build((None, 1))
    >>> @tf.function
    ... def outputs(kernel):
    ...   with replaced([(dense.trainable_variables[0], kernel)]):
    ...     return dense(tf.constant([[2.0]]))
    >>> outputs(tf.constant([[3.0]])).numpy().tolist()
    [[6.0]]
  """
  if tf.executing_eagerly():
    raise RuntimeError('Variables can be replaced only while a graph is traced: call this '
                       'in a tf.function.')
  pairs = [(variable, tf.convert_to_tensor(value)) for variable, value in pairs]
  scope = _scope_of_keras_3 if KERAS3 else _classes_changed
  with scope(pairs, on_read) as read:
    yield read


@contextlib.contextmanager
def _scope_of_keras_3(pairs, on_read):
  scope = tf.keras.StatelessScope(state_mapping=pairs, collect_losses=True)
  current = scope.get_current_value

  def read(variable):
    on_read(variable)
    return current(variable)
  scope.get_current_value = read   # which variables ask
  with scope:
    yield current


@contextlib.contextmanager
def _classes_changed(pairs, on_read):
  """Args: pairs: of variables of Keras 2."""
  values = {id(variable): value for variable, value in pairs}
  classes = [(variable, type(variable)) for variable, _ in pairs]
  with _LOCK:
    _SCOPES.append(_Scope(values, on_read))
    try:
      for variable, kind in classes:
        variable.__class__ = _substituted(kind)
      yield lambda variable: values[id(variable)]
    finally:
      for variable, kind in classes:
        variable.__class__ = kind
      _SCOPES.pop()


def _substituted(kind: type) -> type:
  """The class of a replaced variable of the class `kind`."""
  if issubclass(kind, tuple(_CLASSES.values())):
    return kind                  # replaced within a replacement
  if kind not in _CLASSES:
    _CLASSES[kind] = type(f'Substituted{kind.__name__}', (kind,), dict(_METHODS))
  return _CLASSES[kind]


def _current(variable) -> tf.Tensor:
  for scope in reversed(_SCOPES):
    if id(variable) in scope.values:
      scope.on_read(variable)
      return scope.values[id(variable)]
  raise RuntimeError(f'{variable.name} is read behind the scope in which it was replaced.')


def _value(variable, *_, **__) -> tf.Tensor:
  # Of the variables of mixed precision, in the type of the layer that reads: the one name
  # used here that is not public.
  # Looked for in its class, since a distributed variable looks in its parts: by reading them.
  cast = variable._cast_dtype if hasattr(type(variable), '_cast_dtype') else None
  value = _current(variable)
  return value if cast is None else tf.cast(value, cast)


def _to_tensor(variable, dtype=None, name=None) -> tf.Tensor:
  value = _value(variable)
  return value if dtype is None else tf.cast(value, dtype)


def _assign(variable, value, *_, **__):
  value = tf.ensure_shape(tf.cast(value, variable.dtype), variable.shape)
  _SCOPES[-1].values[id(variable)] = value
  return variable


def _operator(name: str):
  return lambda variable, *others: getattr(_value(variable), name)(*others)


# Those of a distributed variable read its part in the replica, without any of the others.
_OPERATORS = {name: _operator(name)
              for name in tf.Tensor.OVERLOADABLE_OPERATORS - {'__eq__', '__ne__'}}
_METHODS = dict(
    _OPERATORS, value=_value, read_value=_value, __tf_tensor__=_to_tensor, assign=_assign,
    sparse_read=lambda variable, indices, name=None: tf.gather(_value(variable), indices),
    gather_nd=lambda variable, indices, name=None: tf.gather_nd(_value(variable), indices),
    assign_add=lambda variable, delta, *_, **__: _assign(
        variable, _current(variable) + tf.cast(delta, variable.dtype)),
    assign_sub=lambda variable, delta, *_, **__: _assign(
        variable, _current(variable) - tf.cast(delta, variable.dtype)))
