"""What a user wrote in a file of their own: `FILE.py:NAME`, of --model and --method.

No TensorFlow here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import traceback
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from maml_tf.errors import ConfigError, UserError
from maml_tf.files import sha256_of_file

FLAGS = ('model', 'method', 'env')   # those that may be FILE.py:NAME
_LONGEST_TEXT = 400   # of a message that is quoted
# {package: how it is installed}, where this project asks for a version.
_INSTALL = {'gymnasium': "pip install 'gymnasium>=1.0'"}


def is_spec(text: str) -> bool:
  """Whether it is of the form FILE.py:NAME, and not the name of something known."""
  return '.py' in text and (':' in text or text.endswith('.py'))


def load(spec: str, what: str) -> Any:
  """The attribute NAME of the Python file of FILE.py:NAME.

  The file is run once in a process, as a module of its own; its folder is searched for what
  it imports.

  Args:
    spec: FILE.py:NAME.
    what: for messages: the flag, as in '--model'.

  Raises:
    ConfigError: where there is no such file or name, or the file cannot be run.
  """
  path, name = split(spec, what)
  module = _module(path, f'{what}={spec}')
  if not hasattr(module, name):
    there = ', '.join(sorted(known for known in vars(module) if not known.startswith('_')))
    raise ConfigError(f'{what}={spec}: {path} has no {name}: choose from '
                      f'{there or "nothing"}.')
  return getattr(module, name)


def called(spec: str, what: str, function: Callable, *arguments: Any, **kwargs: Any) -> Any:
  """What a function or class of FILE.py:NAME returns, or one of the project by its name.

  Raises:
    ConfigError: for what one of a file raises, with the place in it.
  """
  if not is_spec(spec):
    return function(*arguments, **kwargs)
  try:
    return function(*arguments, **kwargs)
  except UserError:
    raise
  except (Exception, SystemExit) as error:   # whatever is wrong with the user's code
    path = os.path.realpath(os.path.expanduser(spec.rpartition(':')[0]))
    missing = _missing_package(error)
    if missing is not None:
      raise ConfigError(f'{what}={spec} {_to_install(missing)}') from error
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
             if os.path.realpath(frame.filename) == path]
    place = f' in line {lines[-1]}' if lines else ''
    text = ' '.join(str(error).split())
    raise ConfigError(f'{what}={spec} raised {type(error).__name__}{place}'
                      f'{": " * bool(text)}{text[:_LONGEST_TEXT]}: mend the file.') from error


def split(spec: str, what: str) -> Tuple[str, str]:
  """(path of the file, name).

  Raises:
    ConfigError: for another form, or where there is no such file.
  """
  path, name = parts(spec, what)
  path = os.path.expanduser(path)
  if not os.path.isfile(path):
    raise ConfigError(f'{what}={spec}: there is no file {path} in {os.getcwd()}: give its '
                      'path.')
  return path, name


def digests(values: Mapping[str, Any]) -> Dict[str, str]:
  """{flag: SHA-256 of its file}, of a configuration's values."""
  return {flag: digest(values[flag], f'--{flag}') for flag in FLAGS
          if is_spec(values[flag] or '')}


def digest(spec: str, what: str) -> str:
  """The SHA-256 of the file of FILE.py:NAME, in hexadecimal; what it imports does not count.

  Raises:
    ConfigError: see `split`.
  """
  path, _ = split(spec, what)
  return sha256_of_file(path)


def parts(spec: str, what: str) -> Tuple[str, str]:
  """(path, name) as they are written, whether there is such a file or not.

  Raises:
    ConfigError: for another form.
  """
  # From the right: a path of Windows begins with C:.
  path, colon, name = spec.rpartition(':')
  if not colon or not path.endswith('.py') or not name.isidentifier():
    raise ConfigError(f'{what}={spec} is not allowed: it must be FILE.py:NAME, a Python file '
                      'and a name in it.')
  return path, name


def _module(path: str, given: str):
  path = os.path.realpath(path)
  name = f'from_file_{hashlib.sha256(path.encode()).hexdigest()[:12]}'
  if name in sys.modules:
    return sys.modules[name]
  if os.path.dirname(path) not in sys.path:
    sys.path.append(os.path.dirname(path))
  specification = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(specification)
  sys.modules[name] = module   # pickling, and dataclasses, look their module up
  try:
    specification.loader.exec_module(module)
  except SystemExit as error:
    del sys.modules[name]
    raise ConfigError(f'{given}: {path} ends the program when it is imported: put what it '
                      "does as a script below `if __name__ == '__main__':`.") from error
  except Exception as error:   # whatever is wrong with the user's file is what they must hear
    del sys.modules[name]
    missing = _missing_package(error)
    if missing is not None:
      raise ConfigError(f'{given}: {path} {_to_install(missing)}') from error
    text = ' '.join(str(error).split())
    raise ConfigError(f'{given}: {path} cannot be imported ({type(error).__name__}: {text}): '
                      f'mend the file; `python {path}` shows where it stops.') from error
  return module


def _missing_package(error: BaseException) -> Optional[str]:
  """The package that an import has not found; None for what is wrong with the file itself,
  as where the package is there, and has no such module."""
  if not isinstance(error, ModuleNotFoundError) or not error.name:
    return None
  package = error.name.partition('.')[0]
  try:
    is_there = importlib.util.find_spec(package) is not None
  except (ImportError, ValueError):   # of a module that was not made by an import
    is_there = True
  return None if is_there else package


def _to_install(package: str) -> str:
  how = _INSTALL.get(package, f'install it, or put {package}.py beside the file')
  return f'needs the package {package}, which is not installed: {how}.'
