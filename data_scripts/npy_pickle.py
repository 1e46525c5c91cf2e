"""Reads arrays out of a pickle that nobody has to trust.

Unpickling calls whatever functions a pickle names. Here it can name nothing but
the few functions with which NumPy writes a plain array, and gets not even those:
stand-ins note what they are called with, and the array is made from that afterwards,
from a checked type, a checked shape, and bytes. (NumPy's own functions can be made
to misuse memory by a hostile type description.)

A pickle is also a program that can ask for memory: ten bytes of it for a table of
32 GiB. So its instructions are counted and checked before any of them is followed.
Reading takes three times the size of the file and 256 MiB at most.
"""

from __future__ import annotations

import functools
import math
import os
import pickle
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Union

import numpy as np

from data_scripts.folder_source import FolderSource
from data_scripts.source_items import what_it_is_instead
from maml_tf.errors import DataError

_DAMAGE = (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError,
           IndexError, KeyError, MemoryError, OverflowError, RecursionError, struct.error,
           ImportError, zipfile.BadZipFile, zlib.error)
_NUMBER_TYPE = re.compile(r'[<>|=]?[buif][1248]')
_BYTE_ORDERS = ('<', '>', '|', '=')
_PLAIN = (str, bytes, bytearray, int, float, bool, type(None))
_MOST_NESTED = 8

# The training images of mini-ImageNet have 0.8 GB, and some 50,000 instructions.
MOST_BYTES = 2 << 30
_MOST_INSTRUCTIONS = 1_000_000
# Of what is short in an honest pickle: numbers, names; and how long a text may be
# before it has to be Latin-1, which takes one byte a character.
_MOST_DIGITS = 1000
_SHORT_TEXT = 1 << 16
_MOST_SHORT_TEXT_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_NEVER_NEEDED = {'EMPTY_SET', 'ADDITEMS', 'FROZENSET', 'NEXT_BUFFER', 'READONLY_BUFFER',
                 'PERSID', 'BINPERSID', 'EXT1', 'EXT2', 'EXT4', 'INST', 'OBJ', 'NEWOBJ',
                 'NEWOBJ_EX'}
_TEXTS = {'UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8'}
# A character above U+00FF: in UTF-8, and in the escapes of protocol 0.
_NOT_LATIN1 = re.compile(rb'[\xc4-\xff]')
_NOT_LATIN1_ESCAPE = re.compile(rb'\\U|\\u(?=..)(?!00)', re.DOTALL)
_LENGTH_FORMATS = {pickletools.TAKEN_FROM_ARGUMENT1: '<B',
                   pickletools.TAKEN_FROM_ARGUMENT4: '<i',
                   pickletools.TAKEN_FROM_ARGUMENT4U: '<I',
                   pickletools.TAKEN_FROM_ARGUMENT8U: '<Q'}


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
  with FolderSource(Path(path).parent).opened(Path(path).name) as (file, size):
    return load_file(file, size, str(path))


def load_file(file: BinaryIO, size: int, name: str) -> Any:
  """As `load`, of an open file that can be sought in.

  Args:
    file: the pickle, at its start.
    size: its bytes.
    name: for messages.
  """
  try:
    instead = what_it_is_instead(file.read(512))
    if instead:
      raise DataError(f'{name!r} is {instead} and not a pickle: fetch it again.')
    if size > MOST_BYTES:
      raise DataError(f'{name!r} has {size >> 20} MiB, and no pickle of the data set '
                      f'has more than {MOST_BYTES >> 20} MiB: fetch it again.')
    file.seek(0)
    _InstructionCheck(file, size).run()
    file.seek(0)
    return _plain(_RestrictedUnpickler(file, _Budget(size)).load(), 0, {})
  except _DAMAGE as error:
    raise DataError(f'{name!r} is not a pickle of plain arrays, dicts and lists, or is '
                    f'damaged ({error}): nothing in it was executed; fetch it again from a '
                    'source that you trust.') from error


class _InstructionCheck:
  """Goes through a pickle without following it.

  Args:
    file: the pickle, at its start.
    size: of the file in bytes.
  """

  def __init__(self, file: BinaryIO, size: int):
    self._file, self._size = file, size
    self._count = 0
    self._short_text_bytes = 0

  def run(self) -> None:
    """Raises UnpicklingError where following the pickle could take much memory."""
    while self._count < _MOST_INSTRUCTIONS:
      instruction = pickletools.code2op.get(self._file.read(1).decode('latin1'))
      if instruction is None:
        raise pickle.UnpicklingError('it breaks off, or has an unknown instruction')
      if instruction.name in _NEVER_NEEDED:
        raise pickle.UnpicklingError(f'it has the instruction {instruction.name}')
      if instruction.name == 'STOP':
        return
      if instruction.arg is not None:
        self._pass_argument(instruction.name, instruction.arg.n)
      self._count += 1
    raise pickle.UnpicklingError(f'it has more than {_MOST_INSTRUCTIONS} instructions')

  def _pass_argument(self, name: str, form: int) -> None:
    if name in ('PUT', 'BINPUT', 'LONG_BINPUT'):
      self._check_place(int(self._short_line()) if name == 'PUT'
                        else int.from_bytes(self._bytes(form), 'little'))
    elif name == 'FRAME':
      self._check_length(struct.unpack('<Q', self._bytes(8))[0])
    elif form in _LENGTH_FORMATS:
      layout = _LENGTH_FORMATS[form]
      self._pass_content(name, struct.unpack(layout, self._bytes(struct.calcsize(layout)))[0])
    elif form != pickletools.UP_TO_NEWLINE:
      self._bytes(form)
    elif name in ('STRING', 'UNICODE'):
      self._pass_text_line(has_escapes=name == 'UNICODE')
    else:
      for _ in range(2 if name == 'GLOBAL' else 1):
        self._short_line()

  def _check_place(self, place: int) -> None:
    # The table of what can be referred to is made as large as the largest place in it.
    if not 0 <= place <= self._count:
      raise pickle.UnpicklingError(f'it refers to the place {place}, before it can have one')

  def _check_length(self, length: int) -> None:
    if not 0 <= length <= self._size - self._file.tell():
      raise pickle.UnpicklingError(f'it breaks off: {length} bytes should follow')

  def _pass_content(self, name: str, length: int) -> None:
    self._check_length(length)
    if name in ('LONG1', 'LONG4') and length > _MOST_DIGITS:
      raise pickle.UnpicklingError(f'it has a number of {length} bytes')
    if name not in _TEXTS:
      self._file.seek(length, os.SEEK_CUR)
    elif length <= _SHORT_TEXT:
      self._file.seek(length, os.SEEK_CUR)
      self._note_short_text(length)
    else:
      while length:
        chunk = self._bytes(min(length, _CHUNK_BYTES))
        _require_latin1(_NOT_LATIN1, chunk)
        length -= len(chunk)

  def _note_short_text(self, length: int) -> None:
    self._short_text_bytes += length
    if self._short_text_bytes > _MOST_SHORT_TEXT_BYTES:
      raise pickle.UnpicklingError('it is made of texts')

  def _pass_text_line(self, has_escapes: bool) -> None:
    text = self._file.readline(_SHORT_TEXT)
    if text.endswith(b'\n'):
      self._note_short_text(len(text))
      return
    while True:
      if has_escapes:
        _require_latin1(_NOT_LATIN1_ESCAPE, text)
      if text.endswith(b'\n'):
        return
      more = self._file.readline(_CHUNK_BYTES)
      if not more:
        raise EOFError('it breaks off')
      text = text[-8:] + more   # an escape may stand across the two

  def _short_line(self) -> bytes:
    line = self._file.readline(_MOST_DIGITS)
    if not line.endswith(b'\n'):
      raise pickle.UnpicklingError('it breaks off, or has a very long number or name')
    return line

  def _bytes(self, count: int) -> bytes:
    data = self._file.read(count)
    if len(data) < count:
      raise EOFError('it breaks off')
    return data


def _require_latin1(other_characters: 're.Pattern[bytes]', text: bytes) -> None:
  if other_characters.search(text):
    raise pickle.UnpicklingError('it has a long text that is no Latin-1')


class _Budget:
  """How many bytes may still be copied: an honest pickle refers to its arrays' bytes once.

  Without it one long text could be made into bytes a thousand times.
  """

  def __init__(self, size: int):
    self._left = size

  def encoded(self, text: str, encoding: str) -> bytes:
    self._left -= len(text)
    if self._left < 0:
      raise pickle.UnpicklingError('it uses the same bytes many times')
    return text.encode(encoding)


class _RestrictedUnpickler(pickle.Unpickler):

  def __init__(self, file: BinaryIO, budget: _Budget):
    super().__init__(file, encoding='latin1')
    self._functions = _functions(budget)

  def find_class(self, module: str, name: str) -> Callable:
    function = self._functions.get((module, name))
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
  __slots__ = ('_budget', '_content')

  def __init__(self, budget: _Budget, content=None):
    self._budget = budget
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
    if isinstance(content, str):
      content = self._budget.encoded(content, 'latin1')
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

  def __init__(self, budget: _Budget, number_type: Any, content: Any):
    self._array = _Array(budget, ((), number_type, False, content))

  def to_number(self) -> Union[int, float, bool]:
    return self._array.to_numpy().item()


def _array_of_buffer(budget: _Budget, content: Any, number_type: Any, shape: Any, order: Any
                     ) -> _Array:
  return _Array(budget, (shape, number_type, order == 'F', content))


def _encoded(budget: _Budget, text: Any, encoding: Any = 'utf-8') -> bytes:
  if not isinstance(text, str) or encoding not in ('latin1', 'latin-1', 'utf-8'):
    raise pickle.UnpicklingError('it encodes something else than a string')
  return budget.encoded(text, encoding)


def _no_bytes(*arguments) -> bytes:
  # Python 3 writes b'' as a call without arguments up to protocol 2.
  if arguments:
    raise pickle.UnpicklingError('it makes bytes of something')
  return b''


def _refused(*_):
  raise pickle.UnpicklingError('it makes an array in an unknown way')


def _functions(budget: _Budget) -> dict[tuple[str, str], Callable]:
  functions = {('numpy', 'ndarray'): _refused, ('numpy', 'dtype'): _NumberType,
               ('_codecs', 'encode'): functools.partial(_encoded, budget),
               ('__builtin__', 'bytes'): _no_bytes}
  for package in ('numpy.core', 'numpy._core'):   # before and from NumPy 2
    functions[f'{package}.multiarray', '_reconstruct'] = lambda *_: _Array(budget)
    functions[f'{package}.multiarray', 'scalar'] = functools.partial(_Number, budget)
    functions[f'{package}.numeric', '_frombuffer'] = functools.partial(_array_of_buffer,
                                                                       budget)
  return functions


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
