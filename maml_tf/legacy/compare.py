"""Compares this code with golden files of the TF1 code, and of MAML-TRPO.

  python -m maml_tf.legacy.compare FILE.npz [...] [--dtype=float32] [--tolerance=1e-8]
      [--tasks_at_once=N] [--xla=on]

Prints a table per file, and at the end one line of JSON per file. Exits 1 where an
error is above the tolerance, and 2 for a file that cannot be used.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import List, Optional

if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

from maml_tf import paths
from maml_tf.argument_types import number, whole
from maml_tf.before_tensorflow import load_tensorflow
from maml_tf.command_line import REFUSED, OneSentenceParser, exit_code
from maml_tf.config import DTYPES, XLA_CHOICES
from maml_tf.errors import UserError
from maml_tf.legacy import golden as golden_files
from maml_tf.tensorflow_log import quiet_tensorflow

PASSED, FAILED, UNUSABLE = 0, 1, REFUSED


def main(argv: Optional[List[str]] = None) -> int:
  """The exit code: 0 all passed, 1 one did not, 2 one could not be used."""
  options = _parser().parse_args(argv)
  load_tensorflow()
  with quiet_tensorflow():   # every file needs functions of its own
    return exit_code('maml_tf.legacy.compare', lambda: _compare_files(options))


def _compare_files(options: argparse.Namespace) -> int:
  tolerance = options.tolerance
  summaries, codes = [], []
  for path in options.files:
    try:
      compared = _compared(path, options)
    except UserError as error:
      print(f'maml_tf.legacy.compare: {error}', file=sys.stderr)
      codes.append(UNUSABLE)
      continue
    print(table(compared, tolerance), end='\n\n', flush=True)
    summaries.append(summary(compared, tolerance))
    codes.append(PASSED if summaries[-1]['passed'] else FAILED)
  for line in summaries:
    print(json.dumps(line))
  return max(codes)


def _compared(path: str, options: argparse.Namespace):
  from maml_tf.legacy import comparison, policies
  from maml_tf.rl import golden as policy_files
  arrays = golden_files.arrays(path)
  if policy_files.is_golden(arrays):
    return policies.compare(path, arrays, options.dtype, options.tasks_at_once)
  return comparison.compare(
      golden_files.sorted_out(path, arrays), dtype=options.dtype,
      tasks_at_once=options.tasks_at_once, xla=options.xla)


def table(compared, tolerance: Optional[float]) -> str:
  """One line per quantity, with the largest error and the tensor that has it."""
  lines = [f'{compared.path}: {compared.title}',
           f'{"quantity":<28} {"tensors":>7}  {"largest error":>13}  where']
  for quantity in compared.quantities:
    notes = [quantity.where] if quantity.where else []
    if quantity.absolute:
      notes.append('(absolute)')
    if not quantity.judged:
      notes.append('(not judged)')
    lines.append(f'{quantity.name:<28} {quantity.tensors:>7}  {quantity.error:>13.1e}  '
                 f'{" ".join(notes)}'.rstrip())
  if compared.others:
    lines.append(f'not compared, since unknown: {", ".join(compared.others)}')
  verdict = 'passed' if compared.passed(tolerance) else 'FAILED'
  lines.append(f'{verdict}: largest error {compared.max_relative_error:.1e}, '
               f'tolerance {compared.limit(tolerance)}')
  return '\n'.join(lines)


def summary(compared, tolerance: Optional[float]) -> dict:
  """What the line of JSON holds; null stands for a number that is not finite."""
  def number(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None
  return {'file': compared.path,
          'max_relative_error': number(compared.max_relative_error),
          'quantities': {quantity.name: number(quantity.error)
                         for quantity in compared.quantities},
          'passed': compared.passed(tolerance),
          'tolerance': compared.largest_allowed(tolerance), 'dtype': compared.dtype}


def _parser() -> argparse.ArgumentParser:
  parser = OneSentenceParser(
      prog='python -m maml_tf.legacy.compare', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('files', type=paths.argument, nargs='+', metavar='FILE.npz',
                      help='golden files')
  parser.add_argument('--dtype', choices=DTYPES, default='float64',
                      help='precision of the computation; default float64')
  parser.add_argument('--tolerance', type=number(least=0), metavar='NUMBER',
                      help='largest error that passes; default 1e-8 in float64 (1e-6 behind '
                           'conjugate gradients), and 1e-3 '
                           'in float32, where the losses alone are judged')
  parser.add_argument('--tasks_at_once', type=whole(0), default=0, metavar='N',
                      help='tasks computed together; default 0: chosen for the net')
  parser.add_argument('--xla', choices=XLA_CHOICES, default='auto',
                      help='compilation with XLA; default auto: where there is a GPU')
  return parser


if __name__ == '__main__':
  sys.exit(main())
