"""A trained policy in a task, before and after each update, as an animated GIF.

  python -m maml_tf.render --out=FILE.gif [--task=0] FLAGS OF main.py

The flags name the run whose checkpoint is shown, as for `main.py --train=False`; or give
--pretrained=ROW with the row's --flagfile. --task is the number of a held-out task, --updates
how many updates are shown (default --test_num_updates). Needs no display.
"""

from __future__ import annotations

import argparse
import sys
from typing import Optional, Sequence

if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

import flags
from maml_tf import paths
from maml_tf.argument_types import whole
from maml_tf.before_tensorflow import load_tensorflow
from maml_tf.command_line import OneSentenceParser, exit_code
from maml_tf.config import Config, ConfigError

PROGRAM = 'maml_tf.render'


def main(argv: Sequence[str]) -> int:
  """The exit code: 0, 1 for what failed, 2 for what was refused."""
  options, rest = _parser().parse_known_args(argv[1:])
  config = flags.main_config([argv[0], *rest, '--train=False'], PROGRAM)
  load_tensorflow()
  return exit_code(PROGRAM, lambda: _render(config, options.out, options.task,
                                            options.updates))


def _render(config: Config, path: str, task: int, updates: Optional[int]) -> None:
  from maml_tf import application, experiment
  from maml_tf.files import reported
  from maml_tf.reports.animation import save_animation
  from maml_tf.training.run_folder import experiment_folder
  if not config.problem.acts:
    raise ConfigError(f'--datasource={config.problem.name} has no policy to be seen acting: '
                      'give one of reinforcement learning.')
  if not 0 <= task < config.evaluation.num_test_tasks:
    raise ConfigError(f'--task={task} is not allowed: it must be from 0 to '
                      f'{config.evaluation.num_test_tasks - 1}, the held-out tasks.')
  if not path.lower().endswith('.gif'):
    raise ConfigError(f'--out={path} is not allowed: it must be a FILE.gif, as an '
                      'animated GIF is what is written.')
  paths.require_place_of_file(path)
  experiment.set_up(config)
  model = experiment.build_model(config)
  checkpoint, _ = application.load_for_test(config, model, experiment_folder(config))
  generator = experiment.evaluation_generator(config, config.split,
                                              config.evaluation.num_test_tasks)
  held_out = generator.batch(0)
  with reported(path):
    frames = save_animation(
        path, model, held_out.tasks[task], held_out.rollouts,
        config.evaluation.test_num_updates if updates is None else updates)
  print(f'Written: {path}, {frames} frames, of {checkpoint}')


def _parser() -> argparse.ArgumentParser:
  parser = OneSentenceParser(
      prog=f'python -m {PROGRAM}', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
  parser.add_argument('--out', type=paths.argument, required=True, metavar='FILE.gif',
                      help='where to write')
  parser.add_argument('--task', type=whole(0), default=0, metavar='N',
                      help='the number of a held-out task; default 0')
  parser.add_argument('--updates', type=whole(0), metavar='N',
                      help='how many are shown; default --test_num_updates')
  return parser


if __name__ == '__main__':
  sys.exit(main(sys.argv))
