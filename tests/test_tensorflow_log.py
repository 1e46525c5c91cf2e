"""TensorFlow's own log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent

PROGRAM = """
import os, sys
import tensorflow as tf   # which says things of its own, from 2.16 on
from maml_tf.tensorflow_log import compile_unheard
os.write(2, b'imported\\n')
if sys.argv[1] == 'before':
  compile_unheard()
tf.function(lambda: tf.ones([3]) * 2, jit_compile=True)()
os.write(2, b'what is said later\\n')
"""


def said(when):
  return subprocess.run([sys.executable, '-c', PROGRAM, when], cwd=REPOSITORY, check=True,
                        capture_output=True, text=True).stderr


def test_xla_s_first_compilation_says_nothing():
  assert said('before').endswith('imported\nwhat is said later\n')


def test_without_standard_error_it_compiles_all_the_same():
  done = subprocess.run(
      [sys.executable, '-c', 'import os; from maml_tf.tensorflow_log import compile_unheard; '
       'import tensorflow; os.close(2); compile_unheard(); print("compiled")'],
      cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
  assert done.stdout == 'compiled\n'
