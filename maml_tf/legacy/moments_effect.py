"""What `tf.nn.moments` does to the meta-gradient.

  python -m maml_tf.legacy.moments_effect FILE.npz [...]

Its variance stops the gradient of the mean. First derivatives do not notice; second
derivatives do. For each golden file whose net has a norm, the gradients are computed
with it in the place of `maml_tf.learners.moments`, and compared with the file.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Dict, List, NamedTuple, Optional, Sequence

if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

import numpy as np

from maml_tf import paths
from maml_tf.before_tensorflow import load_tensorflow
from maml_tf.command_line import REFUSED, OneSentenceParser, exit_code
from maml_tf.errors import UserError
from maml_tf.legacy.golden import Golden, GoldenError, read
from maml_tf.legacy.golden_config import config_of
from maml_tf.tensorflow_log import quiet_tensorflow

DONE, UNUSABLE = 0, REFUSED


class Effect(NamedTuple):
  """Relative errors, |received - expected| / |expected| over all parameters together
  (Euclidean norm), with the exact moments and with `tf.nn.moments`.

  Attributes:
    meta_gradient_exact, meta_gradient: of the meta-gradient.
    pretrain_gradient: of the first-order gradient, with `tf.nn.moments`.
    largest_element: the largest absolute element of the wrong meta-gradient, divided by
      that of the right one.
  """
  meta_gradient_exact: float
  meta_gradient: float
  pretrain_gradient: float
  largest_element: float


def effect(golden: Golden) -> Optional[Effect]:
  """The effect on a golden file; None where the net has no norm.

  Raises:
    GoldenError: for a file without gradients, or that does not fit its flags.
  """
  from maml_tf.legacy import comparison
  config = config_of(golden, dtype='float64')
  if config.learner.norm == 'None':
    return None
  for name in ('meta_gradient', 'pretrain_gradient'):
    if name not in golden.tensors:
      raise GoldenError(f'{golden.path} has no {name} to compare with.')
  exact = comparison.gradients(golden, config)
  with _tensorflows_moments():
    wrong = comparison.gradients(golden, config)
  return Effect(
      _relative(exact['meta_gradient'], golden.tensors['meta_gradient']),
      _relative(wrong['meta_gradient'], golden.tensors['meta_gradient']),
      _relative(wrong['pretrain_gradient'], golden.tensors['pretrain_gradient']),
      _largest(wrong['meta_gradient']) / _largest(golden.tensors['meta_gradient']))


def main(argv: Optional[List[str]] = None) -> int:
  """Prints the table; the exit code."""
  parser = OneSentenceParser(
      prog='python -m maml_tf.legacy.moments_effect', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('files', type=paths.argument, nargs='+', metavar='FILE.npz',
                      help='golden files')
  options = parser.parse_args(argv)
  load_tensorflow()
  with quiet_tensorflow():   # every file needs functions of its own
    return exit_code('maml_tf.legacy.moments_effect', lambda: _print_table(options.files))


def _print_table(paths: Sequence[str]) -> int:
  code = DONE
  print('Relative errors (float64):')
  print(f'{"golden file":<50} {"meta-gradient":>15} {"with nn.moments":>16} '
        f'{"largest element":>16} {"first order":>12}')
  for path in paths:
    try:
      found = effect(read(path))
    except UserError as error:
      print(f'maml_tf.legacy.moments_effect: {error}', file=sys.stderr)
      code = UNUSABLE
      continue
    name = os.path.basename(path)
    if found is None:
      print(f'{name:<50} {"no norm":>15}')
      continue
    print(f'{name:<50} {found.meta_gradient_exact:>15.1e} {found.meta_gradient:>16.1%} '
          f'{found.largest_element:>15.1f}x {found.pretrain_gradient:>12.1e}', flush=True)
  return code


@contextlib.contextmanager
def _tensorflows_moments():
  import tensorflow as tf

  from maml_tf.learners import normalisation
  exact = normalisation.moments
  normalisation.moments = lambda inputs, axes: tf.nn.moments(inputs, list(axes),
                                                             keepdims=True)
  try:
    yield
  finally:
    normalisation.moments = exact


def _relative(received: Dict[str, np.ndarray], expected: Dict[str, np.ndarray]) -> float:
  difference = sum(np.sum(np.square(received[name] - expected[name])) for name in expected)
  return float(np.sqrt(difference / sum(np.sum(np.square(value))
                                        for value in expected.values())))


def _largest(gradients: Dict[str, np.ndarray]) -> float:
  return max(float(np.abs(value).max()) for value in gradients.values())


if __name__ == '__main__':
  sys.exit(main())
