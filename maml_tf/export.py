"""Writes a trained run for use without this package: TensorFlow Serving, C++, Java, phones.

  python -m maml_tf.export --run=LOGDIR --out=FOLDER [--support=FOLDER_WITH_CLASS_FOLDERS]

Writes into --out

  adaptation/: a SavedModel with two signatures: `adapt` (images, labels) gives what the task
    has of its own, parameters and batch statistics; `predict` (images, and all of that)
    gives probabilities. So adaptation itself runs where the SavedModel does;
  export.json: shapes, classes and versions.

and, for the fixed task of the photos in --support,

  adapted.keras, adapted_saved_model/, adapted.tflite, adapted.onnx: the adapted net, images
    to probabilities, as far as the converters are installed.

Everything is loaded again in a process that cannot import maml_tf, and must give the same
numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Optional, Sequence

if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

from maml_tf import paths
from maml_tf.argument_types import whole
from maml_tf.before_tensorflow import load_tensorflow
from maml_tf.command_line import OneSentenceParser, exit_code
from maml_tf.errors import ConfigError
from maml_tf.files import reported, write_whole
from maml_tf.interruptions import leaving
from maml_tf.predict import add_trained, config_of, require_finite, trained_of, updates_of


def main(argv: Optional[Sequence[str]] = None) -> int:
  """The exit code: 0 done, 1 something cannot be written, is not the same or not finite, 2
  refused."""
  options = _parser().parse_args(sys.argv[1:] if argv is None else argv)
  load_tensorflow()
  def action() -> None:
    with leaving(lambda: f'what is in {options.out} is not to be used: empty it, and start '
                         'again'):
      _run(options)
  return exit_code('maml_tf.export', action)


def _run(options: argparse.Namespace) -> None:
  import tensorflow as tf

  from maml_tf.prediction import files, photos, task_net
  config = config_of(options)
  support = photos.read_support(options.support, config) if options.support else None
  updates = updates_of(options, config)
  ways = _ways(options, config, support)
  _require_empty(options.out)
  trained = trained_of(options, config, ways)
  config = trained.config
  print(f'Exporting {trained.source}; this takes a while.', flush=True)
  for sentence in support.left_out if support else ():
    print(sentence)
  net = task_net.task_net(trained.model, ways, updates)
  with reported(options.out):
    os.makedirs(options.out, exist_ok=True)
    example = _example(config, ways) if support is None else support
    images = task_net.as_inputs(example.pixels, net.dtype)
    values = net.adapt_in_graph(images, example.labels)
    found = tf.nn.softmax(net.logits_in_graph(values, images)).numpy()
    require_finite(found, options, config)
    # Mini-batches are drawn once, of a known number of examples.
    fixed = len(example.labels) if config.evaluation.test_inner_batch_size else None
    paths = [files.write_adaptation(options.out, files.Served(
        net, config.problem.shape, fixed))]
    left_out = []
    if support is not None:
      more, left_out = files.write_adapted(options.out, net.as_model(values, images))
      paths += more
    paths.append(os.path.join(options.out, 'export.json'))
    write_whole(paths[-1], json.dumps(_description(trained, ways, updates, fixed, support),
                                      indent=1) + '\n')
    _write_check(options.out, images, example.labels, found)
  for path in paths:
    print(f'Written: {path}')
  for sentence in left_out:
    print(sentence)
  tolerance = files.tolerance_of(net)
  found = files.differences(options.out, tolerance)
  os.unlink(os.path.join(options.out, 'check.npz'))
  for name, what in files.take_out_misconverted(options.out, found, tolerance).items():
    print(f'{name} is taken away again: {what}.')
  print('Loaded again in a process without maml_tf; largest difference of a probability: '
        + ', '.join(f'{name} {value:.2g}' for name, value in found.items()))


def _ways(options: argparse.Namespace, config, support) -> int:
  """Classes of a task: those of --support, or as asked for, or as trained.

  Raises:
    ConfigError: for less than two, or others than the photos are of.
  """
  classes = config.task.num_classes if support is None else len(support.classes)
  if options.ways == 1:
    raise ConfigError('--ways=1 is not allowed: it must be 2 or more.')
  if support is not None and options.ways not in (None, classes):
    raise ConfigError(f'--ways={options.ways} does not fit --support={options.support}, which '
                      f'has {classes} class folders: leave it out.')
  return options.ways or classes


def _require_empty(folder: str) -> None:
  if os.path.isdir(folder) and os.listdir(folder):
    raise ConfigError(f'--out={folder} is not empty: choose another folder.')
  if os.path.lexists(folder) and not os.path.isdir(folder):
    raise ConfigError(f'--out={folder} is a file: name a folder.')


def _example(config, ways: int):
  """A task of noise, to try the export on where there are no photos."""
  import numpy as np

  from maml_tf.prediction.photos import Support
  labels = np.tile(np.arange(ways), config.task.update_batch_size).astype(np.int32)
  pixels = np.random.default_rng(0).integers(
      0, 256, (len(labels), *config.problem.shape), np.uint8)
  return Support([f'class {number}' for number in range(ways)], labels, pixels)


def _write_check(folder: str, images, labels, probabilities) -> None:
  """What `check_exported` compares with: the support set's own images, classified."""
  import numpy as np
  np.savez(os.path.join(folder, 'check.npz'), support_images=images.numpy(),
           support_labels=labels, images=images.numpy(), probabilities=probabilities)


def _description(trained, ways: int, updates: int, fixed: Optional[int], support):
  from maml_tf.evaluation.results_files import versions
  return {
      'source': trained.source, 'ways': ways, 'updates': updates,
      'support_images': fixed or 'any number',
      'classes': support.classes if support else None,
      'image_shape': list(trained.config.problem.shape), 'values': 'from 0 to 1',
      'inverted': getattr(trained.config.problem, 'inverted', False),
      'config': trained.config.to_dict(), 'versions': versions()}


def _parser() -> argparse.ArgumentParser:
  parser = OneSentenceParser(
      prog='python -m maml_tf.export', description=__doc__, allow_abbrev=False,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  add_trained(parser)
  parser.add_argument('--out', type=paths.of_checkpoints, required=True, metavar='FOLDER',
                      help='a new or an empty folder')
  parser.add_argument('--support', type=paths.argument, metavar='FOLDER',
                      help='a folder with a folder of photos for each class: writes the net '
                      'of this task, too')
  parser.add_argument('--ways', type=whole(1), metavar='N',
                      help='classes of a task; default: as in --support, or as trained')
  return parser


if __name__ == '__main__':
  sys.exit(main())
