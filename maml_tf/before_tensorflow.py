"""What TensorFlow reads from the environment while it is loaded. No TensorFlow here."""

from __future__ import annotations

import os
import platform
import sys
from typing import Optional

from maml_tf.command_line import REFUSED

NEWEST_PYTHON = (3, 13)   # that has a TensorFlow
# Of address space. With 2 cores the smallest run ends by a signal at 1.9 GiB, and is done at
# 2.4 GiB. TensorFlow's threads reserve far more than they use; more cores have more of them.
ENOUGH = 3 << 30
_X86 = ('x86_64', 'AMD64')
_OWN = ('maml_tf', 'data_scripts', 'flags')


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
  """`set_environment`, and the import, for an entry point. Where the system allows little
  memory, standard error says so before: TensorFlow ends by a signal where it gets none.

  Raises:
    SystemExit: with code 2, after one sentence on stderr, where there is no TensorFlow.
  """
  set_environment()
  limit = address_space()
  if limit is not None and limit < ENOUGH:
    print(f'{os.path.basename(sys.argv[0])}: This process may have {limit >> 20:,} MiB of '
          f'address space (ulimit -v), and TensorFlow wants some {ENOUGH >> 20:,} MiB, most '
          'of which it never uses: without them it may end by a signal, and without a word. '
          'Raise that limit, or limit the memory itself (a control group).', file=sys.stderr)
  try:
    import tensorflow  # noqa: F401
  except ImportError as error:
    print(f'{os.path.basename(sys.argv[0])}: {without(error)}', file=sys.stderr)
    raise SystemExit(REFUSED) from None


def explain_missing_packages() -> None:
  """For a command, before it imports what is not Python's own: a package that is missing is
  one sentence on stderr and exit code 2, as most often the environment was forgotten."""
  def hook(kind, error, trace):
    if not isinstance(error, ModuleNotFoundError) or _is_own(error.name):
      sys.__excepthook__(kind, error, trace)
      return
    print(f'{os.path.basename(sys.argv[0])}: {without(error)}', file=sys.stderr)
    raise SystemExit(REFUSED)   # Python exits with the code that its hook raises
  sys.excepthook = hook


def address_space() -> Optional[int]:
  """Bytes of it that this process may have; None: as many as it wants, or not known."""
  try:
    import resource
  except ImportError:   # Windows
    return None
  limit, _ = resource.getrlimit(resource.RLIMIT_AS)
  return None if limit == resource.RLIM_INFINITY else limit


def peak_memory() -> Optional[float]:
  """MiB, the most that this process has had at once; None: not known."""
  try:
    import resource
  except ImportError:   # Windows
    return None
  unit = 1 if sys.platform == 'darwin' else 1 << 10   # bytes: what the system counts in
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 20)


def without(error: ImportError) -> str:
  """What to do where a package cannot be imported, in one sentence."""
  if sys.version_info[:2] > NEWEST_PYTHON:
    newest = '.'.join(map(str, NEWEST_PYTHON))
    return (f'There is no TensorFlow for Python {platform.python_version()}: make the '
            f'environment with Python 3.9 to {newest}.')
  what = ' '.join(str(error).split())
  return (f'A package that is needed cannot be imported ({what}): install the requirements '
          'with `pip install -r requirements.txt`, and start the Python that has them.')


def _is_own(module: Optional[str]) -> bool:
  return (module or '').partition('.')[0] in _OWN
