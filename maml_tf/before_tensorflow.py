"""What TensorFlow reads from the environment while it is loaded. No TensorFlow here."""

from __future__ import annotations

import os
import platform
import sys

from maml_tf.command_line import REFUSED

NEWEST_PYTHON = (3, 13)   # that has a TensorFlow
_X86 = ('x86_64', 'AMD64')


def set_environment() -> None:
  """For an entry point, before anything imports TensorFlow; what the user has set stays.

  - TensorFlow's own log is noise here, since errors arrive as exceptions.
  - Of oneDNN's kernels, which are in every TensorFlow for x86, TensorFlow takes its own
    choice: only on processors with AVX512-VNNI or later. They are faster without, too:
    nearly twice as fast with AVX2 on mini-ImageNet, and the same within a machine's noise
    on Omniglot (docs/speed.md has the times).
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  if platform.machine() in _X86:
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')


def load_tensorflow() -> None:
  """`set_environment`, and the import, for an entry point.

  Raises:
    SystemExit: with code 2, after one sentence on stderr, where there is no TensorFlow.
  """
  set_environment()
  try:
    import tensorflow  # noqa: F401
  except ImportError as error:
    print(f'{os.path.basename(sys.argv[0])}: {without(error)}', file=sys.stderr)
    raise SystemExit(REFUSED) from None


def without(error: ImportError) -> str:
  """What to do where a package cannot be imported, in one sentence."""
  if sys.version_info[:2] > NEWEST_PYTHON:
    newest = '.'.join(map(str, NEWEST_PYTHON))
    return (f'There is no TensorFlow for Python {platform.python_version()}: make the '
            f'environment with Python 3.9 to {newest}.')
  what = ' '.join(str(error).split())
  return (f'A package that is needed cannot be imported ({what}): install the requirements '
          'with `pip install -r requirements.txt`, and start the Python that has them.')
