"""Reads arrays out of a pickle that nobody has to trust.

Unpickling calls whatever functions a pickle names. Here it can name nothing but
the few functions with which NumPy writes a plain array, and gets not even those:
stand-ins note what they are called with, and the array is made from that afterwards,
from a checked type, a checked shape, and bytes. (NumPy's own functions can be made
to misuse memory by a hostile type description.)
"""

from __future__ import annotations

import math
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union

import numpy as np

from data_scripts import archives
from maml_tf.sources.image_set import DataError

_DAMAGE = (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError,
           IndexError, KeyError, MemoryError, OverflowError, RecursionError, struct.error,
           ImportError)
_NUMBER_TYPE = re.compile(r'[<>|=]?[buif][1248]')
_BYTE_ORDERS = ('<', '>', '|', '=')
_PLAIN = (str, bytes, bytearray, int, float, bool, type(None))
_MOST_NESTED = 8


def load(path: Union[str, Path]) -> Any:
  """What a pickle holds, if that is plain.

  Args:
    path: a pickle of protocol 0 to 5, written by Python 2 (strings are decoded as
      Latin-1) or 3, with arrays of NumPy 1 or 2.

  Returns:
    Dicts, lists, tuples, strings, bytes, numbers, None, and arrays of numbers. The
    arrays may be read-only.

  Raises:
    DataError: for a file that is no pickle, is damaged, or asks for anything else.
      Nothing that it names is imported or called.
  """
  try:
    with open(path, 'rb') as file:
      instead = archives.what_it_is_instead(file.read(512))
      if instead:
        raise DataError(f'{str(path)!r} is {instead} and not a pickle: fetch it again.')
      file.seek(0)
      return _plain(_RestrictedUnpickler(file, encoding='latin1').load(), 0, {})
  except _DAMAGE as error:
    raise DataError(f'{str(path)!r} is not a pickle of plain arrays, dicts and lists, or is '
                    f'damaged ({error}): nothing in it was executed; fetch it again from a '
                    'source that you trust.') from error


class _RestrictedUnpickler(pickle.Unpickler):

  def find_class(self, module: str, name: str) -> Callable:
    function = _FUNCTIONS.get((module, name))
    if function is None:
      raise pickle.UnpicklingError(f'it asks for {module}.{name}')
    return _StandIn(function)

  def persistent_load(self, pid: Any) -> Any:
    raise pickle.UnpicklingError('it refers to objects outside of itself')


class _StandIn:
  """What a pickle gets for a function. An instance, so that it cannot be altered."""
  __slots__ = ('_function',)

  def __init__(self, function: Callable):
    object.__setattr__(self, '_function', function)

  def __call__(self, *arguments):
    return self._function(*arguments)

  def __setattr__(self, name, value):
    raise pickle.UnpicklingError('it alters a function')

  def __setstate__(self, state):
    raise pickle.UnpicklingError('it alters a function')


class _NumberType:
  """Stands for a numpy.dtype of plain numbers."""
  __slots__ = ('text',)

  def __init__(self, text: Any, *_):
    if not (isinstance(text, str) and _NUMBER_TYPE.fullmatch(text)):
      raise pickle.UnpicklingError(f'it has an array of the type {text!r}')
    self.text = text

  def __setstate__(self, state):
    # (version, byte order, subarray, names, fields, ...)
    if not (isinstance(state, tuple) and len(state) >= 5 and state[1] in _BYTE_ORDERS
            and state[2] is None and state[3] is None and state[4] is None):
      raise pickle.UnpicklingError('it has an array of a compound type')
    self.text = state[1] + self.text.lstrip(''.join(_BYTE_ORDERS))


class _Array:
  """Stands for a numpy.ndarray."""
  __slots__ = ('_content',)

  def __init__(self, content=None):
    self._content = content   # (shape, type, whether the order is Fortran's, bytes)

  def __setstate__(self, state):
    if not (isinstance(state, tuple) and len(state) == 5):
      raise pickle.UnpicklingError('it has an array of an unknown form')
    self._content = state[1:]

  def to_numpy(self) -> np.ndarray:
    if self._content is None:
      raise pickle.UnpicklingError('it has an array without content')
    shape, number_type, is_fortran, content = self._content
    # The protocols of Python 2 leave the bytes as a string.
    content = content.encode('latin1') if isinstance(content, str) else content
    if not (isinstance(number_type, _NumberType) and isinstance(content, (bytes, bytearray))
            and isinstance(shape, tuple)
            and all(type(size) is int and size >= 0 for size in shape)):
      raise pickle.UnpicklingError('it has an array of an unknown form')
    dtype = np.dtype(number_type.text)
    if math.prod(shape) * dtype.itemsize != len(content):
      raise pickle.UnpicklingError(f'it has an array of shape {shape} with '
                                   f'{len(content)} bytes')
    return np.frombuffer(content, dtype).reshape(shape, order='F' if is_fortran else 'C')


class _Number:
  """Stands for a NumPy scalar."""
  __slots__ = ('_array',)

  def __init__(self, number_type: Any, content: Any):
    self._array = _Array(((), number_type, False, content))

  def to_number(self) -> Union[int, float, bool]:
    return self._array.to_numpy().item()


def _array_of_buffer(content: Any, number_type: Any, shape: Any, order: Any) -> _Array:
  return _Array((shape, number_type, order == 'F', content))


def _encoded(text: Any, encoding: Any = 'utf-8') -> bytes:
  if not isinstance(text, str) or encoding not in ('latin1', 'latin-1', 'utf-8'):
    raise pickle.UnpicklingError('it encodes something else than a string')
  return text.encode(encoding)


def _no_bytes(*arguments) -> bytes:
  # Python 3 writes b'' as a call without arguments up to protocol 2.
  if arguments:
    raise pickle.UnpicklingError('it makes bytes of something')
  return b''


def _refused(*_):
  raise pickle.UnpicklingError('it makes an array in an unknown way')


def _functions() -> dict[tuple[str, str], Callable]:
  functions = {('numpy', 'ndarray'): _refused, ('numpy', 'dtype'): _NumberType,
               ('_codecs', 'encode'): _encoded, ('__builtin__', 'bytes'): _no_bytes}
  for package in ('numpy.core', 'numpy._core'):   # before and from NumPy 2
    functions[f'{package}.multiarray', '_reconstruct'] = lambda *_: _Array()
    functions[f'{package}.multiarray', 'scalar'] = _Number
    functions[f'{package}.numeric', '_frombuffer'] = _array_of_buffer
  return functions


_FUNCTIONS = _functions()


def _plain(value: Any, depth: int, done: dict[int, Any]) -> Any:
  """`value` with the stand-ins replaced by what they stand for.

  Args:
    value: what the pickle made.
    depth: containers around `value`.
    done: {id: result} of the containers so far. A pickle can refer to one list many
      times, and to that list of lists many times, so each is treated once.
  """
  if isinstance(value, _PLAIN):
    return value
  if id(value) not in done:
    if depth > _MOST_NESTED:
      raise pickle.UnpicklingError('it is nested too deeply')
    done[id(value)] = _plain_container(value, depth + 1, done)
  return done[id(value)]


def _plain_container(value: Any, depth: int, done: dict[int, Any]) -> Any:
  if isinstance(value, _Array):
    return value.to_numpy()
  if isinstance(value, _Number):
    return value.to_number()
  if type(value) in (list, tuple):
    return type(value)([_plain(each, depth, done) for each in value])
  if type(value) is dict:
    return {_plain(key, depth, done): _plain(each, depth, done)
            for key, each in value.items()}
  raise pickle.UnpicklingError(f'it holds a {type(value).__name__}')
