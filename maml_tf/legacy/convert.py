"""Converts checkpoints between the TF1 code and this project, bit for bit.

  python -m maml_tf.legacy.convert --legacy_checkpoint=PATH --out=FOLDER [FLAGS]
  python -m maml_tf.legacy.convert --to_legacy --out=FOLDER [FLAGS]

FLAGS are those of `main.py` that describe the net and the run. The first command
writes a run of this project below FOLDER, which `main.py --logdir=FOLDER FLAGS` tests
or goes on training (with a new state of the optimizer: the TF1 code saves none). The
second writes the run that FLAGS (and --logdir, --test_iter, --test_checkpoint) name as
FOLDER/modelITERATION. Exits 2, with one sentence, where that is not possible.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shlex
import sys
from typing import List, Optional

if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

import flags
from maml_tf import paths
from maml_tf.before_tensorflow import load_tensorflow
from maml_tf.command_line import OneSentenceParser, exit_code
from maml_tf.config import Config, ConfigError, from_values
from maml_tf.errors import CheckpointError


def main(argv: Optional[List[str]] = None) -> int:
  """The exit code: 0 done, 1 the checkpoint cannot be written, 2 refused."""
  options, rest = _parser().parse_known_args(sys.argv[1:] if argv is None else argv)
  # Nothing is trained here, so --test_iter is allowed.
  config = flags.main_config(['main.py', '--train=False', *rest], 'maml_tf.legacy.convert')
  load_tensorflow()

  def action():
    write = to_legacy if options.to_legacy else from_legacy
    print(f'Written: {write(config, options.out)}')
    if not options.to_legacy:
      print(f'Test it with the same flags: python {paths.of_script("main.py")} --train=False '
            f'{shlex.quote(f"--logdir={options.out}")} ...')
  return exit_code('maml_tf.legacy.convert', action)


def from_legacy(config: Config, out: str) -> str:
  """Writes a TF1 checkpoint as a run of this project; the path of its checkpoint.

  Args:
    config: the net, the run, and in `run.legacy_checkpoint` the TF1 checkpoint.
    out: the `logdir` of the new run.

  Raises:
    ConfigError: without a TF1 checkpoint, or where `out` cannot be written.
    CheckpointError: where the TF1 checkpoint cannot be read or does not fit, or where
      the run exists.
  """
  from maml_tf import experiment
  from maml_tf.legacy import checkpoint
  from maml_tf.training import checkpoints, phases, run_data, run_folder
  if config.run.legacy_checkpoint is None:
    raise ConfigError('--legacy_checkpoint is not given: it must name the checkpoint of '
                      'the TF1 code to convert; for the other direction give --to_legacy.')
  model = experiment.build_model(config)
  source = checkpoint.load(config, model)
  run = dataclasses.replace(config.run, logdir=out, legacy_checkpoint=None)
  config = dataclasses.replace(config, run=run)
  folder = run_folder.experiment_folder(config)
  if os.path.exists(folder) and os.listdir(folder):
    raise CheckpointError(f'{folder} is there already: choose another --out.')
  # All that training saves, so that it can go on from here.
  _, saved = phases.compile_phases(config, model)
  with run_folder.training_folder(config):
    # Which data the TF1 code trained on is not known: those that are there may be others.
    with contextlib.suppress(FileNotFoundError):
      os.remove(os.path.join(folder, run_data.DATA_FILE))
    written = checkpoints.Checkpoints(folder, **saved)
    return written.save(checkpoint.iteration_of(source) or 0)


def to_legacy(config: Config, out: str) -> str:
  """Writes the checkpoint that `main.py` would test as one of the TF1 code; its path.

  Args:
    config: of the run.
    out: folder of the TF1 checkpoint.

  Raises:
    ConfigError: for a TF1 checkpoint or --pretrained among the flags, or a net or method
      that the TF1 code does not have.
    CheckpointError: where there is no such checkpoint, it does not fit, or `out` has a
      checkpoint of that iteration or cannot be written.
  """
  from maml_tf import experiment
  from maml_tf.legacy import checkpoint
  from maml_tf.training import checkpoint_files, checkpoint_for_test, run_folder
  if config.run.legacy_checkpoint is not None:
    raise ConfigError('--legacy_checkpoint does not fit --to_legacy, which converts a run '
                      'of this project: leave one of them out.')
  if config.run.pretrained is not None:
    raise ConfigError('--pretrained does not fit --to_legacy, which converts a run in '
                      '--logdir: leave one of them out.')
  _require_in_legacy_code(config)
  model = experiment.build_model(config)
  checkpoint.require_net_alone(config, model, 'to_legacy')
  source = checkpoint_for_test.restore_for_test(run_folder.experiment_folder(config), config,
                                        parameters=model.meta_parameters)
  path = os.path.join(out, f'model{checkpoint_files.iteration_of(source)}')
  if os.path.exists(path + '.index'):
    raise CheckpointError(f'{path} is there already: choose another --out.')
  checkpoint.write(path, model.learner, model.meta_parameters.arrays())
  return path


def _require_in_legacy_code(config: Config) -> None:
  """Raises: ConfigError: for what could not read a checkpoint of the TF1 code, either."""
  flag, stand_in = '--legacy_checkpoint', 'any'
  try:
    from_values({**config.to_values(), 'test_iter': -1, flag[2:]: stand_in})
  except ConfigError as error:
    text = str(error).replace(f'{flag}={stand_in}', flag).replace(flag, '--to_legacy')
    raise ConfigError(text) from error


def _parser() -> argparse.ArgumentParser:
  parser = OneSentenceParser(
      prog='python -m maml_tf.legacy.convert', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
  parser.add_argument('--out', type=paths.of_checkpoints, required=True, metavar='FOLDER',
                      help='where to write')
  parser.add_argument('--to_legacy', action='store_true',
                      help="from this project to the TF1 code's format")
  return parser


if __name__ == '__main__':
  sys.exit(main())
