"""Does it work here? What a report of trouble should begin with.

  python -m maml_tf.doctor

Prints versions, device, environment and data, and computes one meta-step in float64, which
must give the stored values. Exits 1 where something does not work, and says what.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Dict, List, Optional, Tuple

if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

from maml_tf import paths
from maml_tf.before_tensorflow import set_environment
from maml_tf.command_line import DONE, FAILED, OneSentenceParser
from maml_tf.errors import DataError
from maml_tf.sources.image_set import IMAGE_SHAPES, read_manifest
from maml_tf.verification import provenance

PACKAGES = ('tensorflow', 'keras', 'tensorflow-addons', 'numpy', 'absl-py', 'matplotlib',
            'pillow', 'tqdm')
# What changes TensorFlow's behaviour, name by name: others that begin with TF_ are of other
# programs, and hold tokens.
VARIABLES = (
    'CUDA_VISIBLE_DEVICES', 'KERAS_BACKEND', 'NVIDIA_TF32_OVERRIDE', 'OMP_NUM_THREADS',
    'TF_CPP_MIN_LOG_LEVEL', 'TF_DETERMINISTIC_OPS', 'TF_ENABLE_ONEDNN_OPTS',
    'TF_FORCE_GPU_ALLOW_GROWTH', 'TF_GPU_ALLOCATOR', 'TF_NUM_INTEROP_THREADS',
    'TF_NUM_INTRAOP_THREADS', 'TF_USE_LEGACY_KERAS', 'TF_XLA_FLAGS', 'XLA_FLAGS')
# Of `meta_step`. tests/test_doctor.py computes them without TensorFlow.
STORED = {'loss': 0.3616371575304032, 'gradient norm': 0.5692121697673923,
          'loss after the step': 0.3584097724238607}
TOLERANCE = 1e-10   # relative; in float64, sums in another order stay far below
OUTER_STEP_SIZE = 0.01


def main(argv: Optional[List[str]] = None) -> int:
  """The command. Args: argv, None: those of the process. Returns: the exit code."""
  parser = OneSentenceParser(prog='python -m maml_tf.doctor',
                             description=__doc__.split('\n')[0])
  parser.add_argument('--data_dir', type=paths.argument, metavar='FOLDER', default='data',
                      help='where the prepared sets are; default %(default)s')
  options = parser.parse_args(argv)
  set_environment()
  sets, damaged = data(options.data_dir)
  for title, lines in (('Python', [_python()]), ('Packages', _packages()),
                       ('Machine', [provenance.machine_text(provenance.machine())]),
                       ('Commit', [provenance.commit()]), ('Environment', _environment()),
                       ('Data', sets)):
    _print(title, lines)
  code = _check_tensorflow()
  if damaged:
    print(f'maml_tf.doctor: {" and ".join(damaged)} cannot be used: its line above says what '
          'to do.', file=sys.stderr)
    return FAILED
  if code == DONE:
    print('All is well.')
  return code


def data(folder: str) -> Tuple[List[str], List[str]]:
  """A line for each set of images: what is prepared in `folder`, or what is wrong; and the
  folders of those with which something is wrong."""
  lines, damaged = [], []
  for name in sorted(IMAGE_SHAPES):
    path = os.path.join(folder, name)
    if not os.path.isdir(path):
      lines.append(f'{path}: not there')
      continue
    try:
      splits = read_manifest(path, name)['splits']
      lines.append(f'{path}: classes ' + ', '.join(
          f'{split} {len(entry["classes"])}' for split, entry in splits.items()))
    except DataError as error:
      lines.append(f'{path}: {error}')
      damaged.append(path)
  return lines, damaged


def meta_step() -> Dict[str, float]:
  """One outer step of MAML through `fit`, on numbers that no generator draws: the query
  loss before it, the norm of the meta-gradient, and the query loss after it.

  Two tasks of three support and three query points, a net of one hidden layer of four,
  two inner steps, all in float64.
  """
  import numpy as np
  import tensorflow as tf

  from maml_tf.learners import FullyConnected
  from maml_tf.meta_learners.maml import MAML
  from maml_tf.objectives import MeanSquaredError
  from maml_tf.sources.sinusoid import SinusoidSource
  episodes = SinusoidSource(3, 3, dtype='float64').materialise(
      {name: tf.constant(value) for name, value in sinusoids().items()})
  model = MAML(FullyConnected(1, (4,), 1, norm='None'), MeanSquaredError(), step_size=0.05,
               num_updates=2, dtype='float64')
  model.meta_parameters.assign({name: numbers(np.shape(value))
                                for name, value in model.meta_parameters.arrays().items()})
  model.compile(tf.keras.optimizers.SGD(OUTER_STEP_SIZE), jit_compile=False)
  means, gradients = model.meta_gradient(episodes)
  model.fit(tf.data.Dataset.from_tensors(episodes), shuffle=False, verbose=0)
  norm = tf.linalg.global_norm(list(gradients.values()))
  after, _ = model.meta_gradient(episodes)
  return {'loss': float(means['loss']), 'gradient norm': float(norm),
          'loss after the step': float(after['loss'])}


def sinusoids():
  """{name: array} of two sinusoids with six points each, as a `SinusoidSource` draws."""
  import numpy as np
  return {'amplitude': np.array([1.5, 0.75]), 'phase': np.array([0.5, 2.0]),
          'x': np.array([[-2.5, -0.75, 1.0, -1.5, 0.25, 2.0],
                         [-1.75, 0.5, 2.25, -0.5, 1.25, 2.75]])}


def numbers(shape):
  """Parameters of that shape: no two alike, none zero, of both signs."""
  import numpy as np
  size = int(np.prod(shape))
  return (0.7 * np.cos(2.0 * np.arange(1, size + 1))).reshape(shape)


def _check_tensorflow() -> int:
  try:
    from maml_tf import devices
    _print('Device', [devices.set_up()])
    found = meta_step()
  except Exception as error:   # whatever is wrong with an installation is what is asked for
    _print('Meta-step', [f'failed: {type(error).__name__}: {error}'])
    return FAILED
  errors = {name: abs(found[name] / value - 1) for name, value in STORED.items()}
  _print('Meta-step', [
      f'{name} {found[name]!r}, ' + (
          'as stored' if errors[name] <= TOLERANCE else f'WRONG: it must be {STORED[name]!r}')
      for name in STORED])
  # `not <=`: a NaN is wrong, too.
  if not max(errors.values()) <= TOLERANCE:
    print('maml_tf.doctor: the meta-step is wrong here: send all of this.', file=sys.stderr)
    return FAILED
  return DONE


def _python() -> str:
  return f'{platform.python_version()}, {platform.platform()}'


def _packages() -> List[str]:
  lines = []
  for name in PACKAGES:
    try:
      lines.append(f'{name} {importlib.metadata.version(name)}')
    except importlib.metadata.PackageNotFoundError:
      lines.append(f'{name}: not installed')
  return lines


def _environment() -> List[str]:
  return [f'{name}={os.environ[name]}' for name in VARIABLES if name in os.environ] or [
      'nothing set']


def _print(title: str, lines: List[str]) -> None:
  for number, line in enumerate(lines):
    print(f'{title if number == 0 else "":12}{line}', flush=True)


if __name__ == '__main__':
  sys.exit(main())
