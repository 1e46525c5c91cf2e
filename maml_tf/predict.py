"""Adapts a trained run to the photos in class folders, and classifies others.

  python -m maml_tf.predict --run=LOGDIR --support=FOLDER --query FOLDER_OR_FILES
      [--out=predictions.csv]

--support has a folder of photos for each class, as many photos as there are, not of each
class the same number; --query is a folder, or files. Photos may be of any format, size and
mode that `data_scripts/prepare_images.py` takes, and are treated as there. Prints a line for
each photo, and how often the run was right in its own test. In place of --run a row of the
repository may be named, --pretrained=ROW.

Each photo is classified by itself, with the batch statistics of the support set.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
from typing import List, NamedTuple, Optional, Sequence

if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

from maml_tf import paths
from maml_tf.argument_types import whole
from maml_tf.before_tensorflow import load_tensorflow
from maml_tf.command_line import OneSentenceParser, exit_code
from maml_tf.errors import ConfigError, NotFiniteError
from maml_tf.files import reported, whole_file


class Prediction(NamedTuple):
  """Of one photo.

  Attributes:
    file: its path.
    probabilities: of each class, in their order.
  """
  file: str
  probabilities: List[float]

  @property
  def best(self) -> int:
    """The likeliest class."""
    return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)


def main(argv: Optional[Sequence[str]] = None) -> int:
  """The exit code: 0 done, 1 the file cannot be written or the net gives no numbers, 2
  refused."""
  options = _parser().parse_args(sys.argv[1:] if argv is None else argv)
  load_tensorflow()
  return exit_code('maml_tf.predict', lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
  from maml_tf.prediction import expectation, photos, task_net
  config = config_of(options)
  paths.require_place_of_file(options.out)
  support = photos.read_support(options.support, config)
  query = photos.read_query(options.query, config)
  trained = trained_of(options, config, len(support.classes))
  updates = updates_of(options, config)
  does, by = (('adapting to', f' by {expectation.counted(updates, "update")}')
              if config.has_inner_loop else ('comparing with', ''))
  print(f'{trained.source}: {does} {len(support.labels)} photos of {len(support.classes)} '
        f'classes{by}', flush=True)
  for sentence in (*support.left_out, *query.left_out):
    print(sentence)
  net = task_net.task_net(trained.model, len(support.classes), updates)
  values = net.adapt_in_graph(task_net.as_inputs(support.pixels, net.dtype), support.labels)
  if options.statistics == 'query':
    found = task_net.probabilities_together(net, values, support, query.pixels)
  else:
    found = task_net.probabilities(net, values, query.pixels)
  require_finite(found, options, config)
  predictions = [Prediction(name, row.tolist()) for name, row in zip(query.names, found)]
  print(table(predictions, support.classes))
  print(expectation.sentence(trained.tests, support.counts, updates))
  if options.out:
    with reported(options.out):
      write(options.out, predictions, support.classes)
    print(f'Written: {options.out}')


def require_finite(found, options: argparse.Namespace, config) -> None:
  """Of what is not, the first class would be the likeliest.

  Args:
    found: probabilities `[images, N]`, an array.
    options, config: what gave them.

  Raises:
    NotFiniteError: saying what may help.
  """
  import numpy as np
  if not np.isfinite(found).all():
    from maml_tf.training.divergence import fewer_or_another
    another = 'pretrained' if options.pretrained else 'iteration'
    raise NotFiniteError('The net that was adapted to these photos gives probabilities that '
                         f'are not finite: {fewer_or_another(config, "updates", another)}.')


def table(predictions: Sequence[Prediction], classes: Sequence[str]) -> str:
  """A line for each photo: file, class, its probability."""
  width = max(len(prediction.file) for prediction in predictions)
  lines = []
  for prediction in predictions:
    file, values = prediction
    lines.append(f'{file:<{width}}  {classes[prediction.best]}  '
                 f'{100 * values[prediction.best]:.1f}%')
  return '\n'.join(lines)


def write(path: str, predictions: Sequence[Prediction], classes: Sequence[str]) -> None:
  """A CSV file: file, class, probability, and that of every class; names that are not text
  are escaped, as where they are printed."""
  with whole_file(path, newline='', errors='backslashreplace') as file:
    writer = csv.writer(file)
    writer.writerow([*_COLUMNS, *map(_column, classes)])
    for prediction in predictions:
      name, values = prediction
      writer.writerow([name, classes[prediction.best], *(f'{value:.6f}' for value in (
          values[prediction.best], *values))])


_COLUMNS = ('file', 'class', 'probability')


def _column(name: str) -> str:
  """The column of a class, which is none of the others."""
  return f'class {name}' if name in _COLUMNS else name


def config_of(options: argparse.Namespace):
  """The configuration of what --run or --pretrained names; before anything is built.

  Products are of float32, as exported nets have them, also where training had bfloat16."""
  from maml_tf.prediction import trained
  if (options.run is None) == (options.pretrained is None):
    raise ConfigError('Give one of --run=LOGDIR, a folder of a trained run, and '
                      '--pretrained=ROW, a row of the repository.')
  if options.pretrained is not None and options.iteration is not None:
    raise ConfigError(f'--iteration={options.iteration} does not fit --pretrained, which '
                      'names weights of one iteration: leave it out.')
  config = (trained.config_of_run(options.run) if options.run else
            _config_of_row(options.pretrained))
  trained.require_adaptable(config)
  return dataclasses.replace(config, learner=dataclasses.replace(config.learner,
                                                                 mixed_precision=False))


def updates_of(options: argparse.Namespace, config) -> int:
  """Inner updates: as asked for, or else those of the run's test.

  Raises:
    ConfigError: for a method that has none.
  """
  if options.updates and not config.has_inner_loop:
    raise ConfigError(f'--updates={options.updates} does not fit '
                      f'--method={config.training.method}, which has no inner updates: leave '
                      'it out.')
  return options.updates or config.evaluation.test_num_updates


def trained_of(options: argparse.Namespace, config, ways: Optional[int]):
  """What --run or --pretrained names, for that many classes; `config`: see `config_of`."""
  from maml_tf.prediction import trained
  if options.run:
    return trained.of_run(options.run, config, ways, options.iteration)
  return trained.of_weights(options.pretrained, config, ways)


def _config_of_row(pretrained: str):
  from maml_tf.paper.flagfiles import row_config
  from maml_tf.paper.rows import row_named
  return row_config(row_named(pretrained.partition(':')[0]), train=False)


def add_trained(parser: argparse.ArgumentParser) -> None:
  """The arguments that say what was trained, and how it adapts."""
  add_trained_run(parser)
  parser.add_argument('--pretrained', metavar='ROW',
                      help='in place of --run: ROW or ROW:SEED of `python -m maml_tf.verify`')


def add_trained_run(parser: argparse.ArgumentParser, required: bool = False) -> None:
  """Those that say it of a run alone."""
  parser.add_argument('--run', type=paths.of_checkpoints, required=required, metavar='LOGDIR',
                      help="a trained run's folder, or a folder with one run in it")
  parser.add_argument('--iteration', type=whole(1), metavar='N',
                      help='checkpoint of that iteration; default: the best one, or the '
                      'latest where none was validated')
  parser.add_argument('--updates', type=whole(1), metavar='N',
                      help="inner updates; default: those of the run's test")


def _parser() -> argparse.ArgumentParser:
  parser = OneSentenceParser(
      prog='python -m maml_tf.predict', description=__doc__, allow_abbrev=False,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  add_trained(parser)
  parser.add_argument('--support', type=paths.argument, required=True, metavar='FOLDER',
                      help='a folder with a folder of photos for each class')
  parser.add_argument('--query', type=paths.argument, required=True, nargs='+',
                      metavar='FOLDER_OR_FILE', help='photos to classify')
  parser.add_argument('--out', type=paths.argument, metavar='FILE',
                      help='write the predictions as CSV')
  parser.add_argument('--statistics', choices=('support', 'query'), default='support',
                      help="batch norm's: of the support set (default), or as in the paper's "
                      'tests of all query photos together, which fails where most are of one '
                      'class')
  return parser


if __name__ == '__main__':
  sys.exit(main())
