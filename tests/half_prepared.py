"""A preparation script in a process of its own, caught in the middle of its work."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
LONGEST = 300   # seconds until it is half done, on a busy machine

_SLOWLY = '''
import sys, time
from data_scripts import images, prepare_{name}
from data_scripts.plan import Layout
decode = images.{name}_pixels
def slowly(*arguments):
  time.sleep(0.1)
  return decode(*arguments)
images.{name}_pixels = slowly
sys.exit(prepare_{name}.main(sys.argv[1:], {layout!r}))
'''


def interrupted(name, layout, source, out, signal_number, *flags):
  """Sends a signal to a preparation when it has written a part; (exit code, stderr).

  Args:
    name: of the set.
    layout: the counts of the source.
    source, out: as the script's flags.
    signal_number: what is sent.
    *flags: of the script.
  """
  child = subprocess.Popen(
      [sys.executable, '-c', _SLOWLY.format(name=name, layout=layout), f'--source={source}',
       f'--out={out}', *flags], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
  deadline = time.monotonic() + LONGEST
  while not (out.parent / f'.{out.name}.preparing' / 'test.npy').exists():
    assert time.monotonic() < deadline and child.poll() is None
    time.sleep(0.01)
  child.send_signal(signal_number)
  message = child.communicate(timeout=LONGEST)[1]
  assert 'Traceback' not in message
  return child.returncode, message
