"""Tests a trained run on other tasks than it was trained for.

  python -m maml_tf.retest --run=LOGDIR [--ways=N] [--shots=K] [--queries=Q]
      [--datasource=NAME --data_dir=FOLDER] [--split=test] [--tasks=600]

Other shots are possible for every method; other ways for those whose last layer can be a new
one (ANIL, Reptile) and those that have none (prototypical, matching, Siamese), and refused for
others; another set where its images have the size that the net takes. What is not given is as
in the run; the step size is that of its training, as `predict` takes it, also where the run's
own test had a tuned one. The result is written into the run's folder, and `python -m
maml_tf.predict` knows of it. The file says how often such tasks were tested (`times_tested`):
who chooses by what is seen here has chosen by the test classes. The records of `python -m
maml_tf.verify` count their own tests alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Optional, Sequence

if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

from maml_tf import outputs, paths
from maml_tf.argument_types import whole
from maml_tf.before_tensorflow import load_tensorflow
from maml_tf.command_line import DONE, FAILED, OneSentenceParser, exit_code
from maml_tf.errors import ConfigError
from maml_tf.files import as_json, reported, write_whole
from maml_tf.predict import add_trained_run, updates_of

_DIGITS_OF_DATA = 8


def main(argv: Optional[Sequence[str]] = None) -> int:
  """The exit code: 0 done, 1 the file cannot be written or results are not finite, 2
  refused."""
  options = _parser().parse_args(sys.argv[1:] if argv is None else argv)
  load_tensorflow()
  return exit_code('maml_tf.retest', lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
  from maml_tf.evaluation.results_files import read_times_tested, table
  from maml_tf.measures import counted
  from maml_tf.prediction import trained
  from maml_tf.training.run_data import require_same_data
  found = trained.of_run(options.run, trained.config_of_run(options.run), options.ways,
                         options.iteration)
  config = tested_config(found.config, options)
  if not (options.datasource or options.data_dir):
    require_same_data(trained.folder_of_run(options.run), config)
  run = measured(found, config, updates_of(options, config))
  task = config.task
  print(f'{task.datasource}, {config.split} classes, {task.num_classes} ways, '
        f'{counted(task.update_batch_size, "shot")}, {run.checkpoint}')
  print(table(run, {}))
  folder = trained.folder_of_run(options.run)
  other_data = trained.other_data(folder, config)
  if other_data and task.datasource == found.config.task.datasource:
    print(f'The data in {other_data} are not known to be those that the run was trained on: '
          'if they are the same set, divided in another way, classes here may be ones that it '
          'was trained on, and then scores say nothing of new ones.')
  differing = _differing(options, found.config, config, other_data)
  with reported(folder):
    path = write(folder, run, other_data, differing)
  print(f'Written: {path}')
  times = read_times_tested(path)
  if config.split == 'test' and times > 1:
    print(f'The test classes were looked at {times} times by such tasks.')
  return FAILED if _say_where_not_finite(run) else DONE


def _differing(options: argparse.Namespace, trained, config, other_data: Optional[str]) -> str:
  """What the file's name says of how the test differs from the run's own, beside its tasks.

  Args:
    trained, config: the configurations of the run and of the test.
    other_data: see `write`.
  """
  parts = []
  if config.task.test_query_size != trained.task.test_query_size:
    parts.append(f'queries{config.task.test_query_size}')
  if updates_of(options, config) != trained.evaluation.test_num_updates:
    parts.append(f'updates{options.updates}')
  if options.iteration is not None:
    parts.append(f'iteration{options.iteration}')
  if other_data:
    name = os.path.basename(os.path.abspath(other_data))
    digest = config.problem.data_hashes(config)[config.split]
    parts.append(f'of_{name}-{digest[:_DIGITS_OF_DATA]}')   # many are called the same
  return ''.join(f'_{part}' for part in parts)


def _say_where_not_finite(run) -> bool:
  """Whether there are results that are not finite."""
  from maml_tf.evaluation.protocol import where_not_finite
  not_finite = where_not_finite(run.results)
  if not_finite is not None:
    from maml_tf.training.divergence import fewer_or_another
    outputs.say(f'Not all results are finite: {not_finite} is not, in at least one task: '
                f'{fewer_or_another(run.config, "updates", "iteration")}.')
  return not_finite is not None


def tested_config(config, options: argparse.Namespace):
  """The configuration of the tasks that are asked for.

  Args:
    config: of the run, with the ways of these tasks.

  Raises:
    ConfigError: for a set whose images do not fit the net.
    DataError: where it is not prepared.
  """
  from maml_tf import problems
  from maml_tf.config import from_values
  from maml_tf.config.schema import default_data_dir
  from maml_tf.prediction import trained
  from maml_tf.sources.image_set import read_manifest
  shots = options.shots or config.task.update_batch_size
  given = dict(
      update_batch_size=shots, train_update_batch_size=-1, train=False, test_iter=-1,
      test_query_size=options.queries or config.task.test_query_size,
      num_test_tasks=options.tasks, test_set=options.split == 'test',
      tune_update_lr=False)   # `predict` knows of the result, and takes no tuned step size
  name = options.datasource or config.task.datasource
  folder = options.data_dir or (
      default_data_dir(name) if options.datasource else trained.data_dir_of_run(options.run))
  # Before the net's values are checked, which are of its own images.
  problem = problems.named(name)
  problem.require_images()
  read_manifest(folder, name)   # or `with_data` would take another shape for a missing one
  problem = problem.with_data(folder)
  if problem.shape != config.problem.shape:
    raise ConfigError(
        f'The images of {folder} have the shape {list(problem.shape)}, and the net was '
        f'trained on {list(config.problem.shape)}: prepare them in that size.')
  return from_values({**config.to_values(), **given, 'datasource': name, 'data_dir': folder})


def measured(found, config, updates: int):
  """The test protocol on the tasks of `config`."""
  from maml_tf import bars, experiment
  from maml_tf.evaluation.protocol import Evaluator
  from maml_tf.evaluation.results_files import ProtocolRun
  from maml_tf.keras_models.front import learner_and_objective
  from maml_tf.prediction import trained
  from maml_tf.training.checkpoint_files import iteration_of
  model, tasks = trained.model_for(found, config), config.evaluation.num_test_tasks
  _, model.objective = learner_and_objective(model.learner, config.problem.objective(config))
  generator = experiment.evaluation_generator(config, config.split, tasks)
  started = time.monotonic()
  results = Evaluator(model, generator, tasks, updates)(progress=bars.of_a_test)
  return ProtocolRun(
      config=config, results=results, checkpoint=found.source,
      iteration=iteration_of(found.source), fingerprint=generator.fingerprint(tasks),
      seconds=time.monotonic() - started)


def write(folder: str, run, other_data: Optional[str] = None, differing: str = '') -> str:
  """Writes the JSON file, which counts how often it was written; its path.

  Args:
    other_data: their folder, where they are not those that the run was trained on.
    differing: the end of the file's name.
  """
  from maml_tf.evaluation.results_files import as_dict, read_times_tested
  task = run.config.task
  path = os.path.join(folder, f'{run.config.split}_on_{task.datasource}_{task.num_classes}ways'
                              f'_ubs{task.update_batch_size}{differing}.json')
  more = {'other_data': other_data} if other_data else {}
  times_tested = 1 + read_times_tested(path)
  write_whole(path, as_json({**as_dict(run), 'times_tested': times_tested, **more}, indent=2))
  return path


def _parser() -> argparse.ArgumentParser:
  parser = OneSentenceParser(
      prog='python -m maml_tf.retest', description=__doc__, allow_abbrev=False,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  add_trained_run(parser, required=True)
  parser.add_argument('--ways', type=whole(2), metavar='N', help='classes of a task')
  parser.add_argument('--shots', type=whole(1), metavar='K', help='support images of a class')
  parser.add_argument('--queries', type=whole(1), metavar='Q', help='query images of a class')
  parser.add_argument('--tasks', type=whole(2), metavar='N', default=600,
                      help='how many; default %(default)s')
  parser.add_argument('--split', choices=('test', 'val'), default='test',
                      help='classes that are tested; default %(default)s')
  parser.add_argument('--datasource', metavar='NAME', help='another set')
  parser.add_argument('--data_dir', type=paths.argument, metavar='FOLDER',
                      help='its prepared folder, or where the one of the run is now')
  return parser


if __name__ == '__main__':
  sys.exit(main())
