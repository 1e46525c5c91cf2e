"""What a user wrote in a file of their own: `my_file.py:Name`."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from maml_tf.errors import ConfigError


def load(spec: str, flag: str) -> Any:
  """The function or class that a flag names.

  The file's folder can be imported from while it is loaded, as for a script.

  Args:
    spec: 'FILE.py:NAME'.
    flag: that names it, for messages: '--env'.

  Raises:
    ConfigError: for a value of another form, a file that is not there or fails, and a name
      that it does not have.
  """
  path, colon, name = spec.rpartition(':')
  if not colon or not path.endswith('.py') or not name.isidentifier():
    raise ConfigError(f'{flag}={spec} is not allowed: it must be FILE.py:NAME, a Python file '
                      'and what is defined in it.')
  path = os.path.abspath(os.path.expanduser(path))
  if not os.path.isfile(path):
    raise ConfigError(f'{flag}={spec}: there is no file {path}.')
  module = _module(path, f'{flag}={spec}')
  if not hasattr(module, name):
    known = sorted(known for known, value in vars(module).items()
                   if not known.startswith('_') and callable(value)
                   and getattr(value, '__module__', None) == module.__name__)
    raise ConfigError(f'{flag}={spec}: {path} defines no {name}; it defines '
                      f'{", ".join(known) or "nothing that could be called"}.')
  return getattr(module, name)


def _module(path: str, given: str) -> Any:
  """The file, executed once for a process: classes of two loads would be different ones."""
  stem = os.path.splitext(os.path.basename(path))[0]
  name = f'maml_tf_from_file_{stem}_{abs(hash(path)):x}'
  if name in sys.modules:
    return sys.modules[name]
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  sys.path.insert(0, os.path.dirname(path))
  try:
    spec.loader.exec_module(module)
  except Exception as error:   # noqa: BLE001  whatever a user's file does
    del sys.modules[name]
    line = _line_in(path, error)
    raise ConfigError(f'{given}: {path}{line} fails with {type(error).__name__}: '
                      f'{" ".join(str(error).split())}.') from error
  finally:
    sys.path.remove(os.path.dirname(path))
  return module


def _line_in(path: str, error: BaseException) -> str:
  """', line 12', the last one of the file that was being executed."""
  if isinstance(error, SyntaxError) and error.filename == path:
    return f', line {error.lineno},'
  line, trace = '', error.__traceback__
  while trace is not None:
    if trace.tb_frame.f_code.co_filename == path:
      line = f', line {trace.tb_lineno},'
    trace = trace.tb_next
  return line
