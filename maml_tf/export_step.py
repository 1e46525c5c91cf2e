"""Writes the compiled meta-step for a machine that has XLA and no TensorFlow.

  python -m maml_tf.export_step --out=FOLDER [--steps=N] [FLAGS]

FLAGS are those of `main.py`. Writes into FOLDER

  step.hlo: the step as a serialised HLO module (`maml_tf.pure_step`);
  step.json: configuration, and names, shapes and types of what goes in and comes out,
    in order;
  inputs.npz: the state at the start of the run and the recipes of its first N
    meta-batches (default 1000).

`maml_tf/run_exported.py` runs it by JAX and needs NumPy and JAX alone. The images are
those of the prepared data: `data/DATASOURCE/train.npy`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Dict, List, Sequence, Tuple

if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

import numpy as np

import flags
from maml_tf import paths
from maml_tf.argument_types import whole
from maml_tf.before_tensorflow import load_tensorflow
from maml_tf.command_line import OneSentenceParser, exit_code
from maml_tf.config import Config, from_values

load_tensorflow()

import tensorflow as tf  # noqa: E402

from maml_tf import experiment, pure_step  # noqa: E402
from maml_tf.files import reported, write_whole  # noqa: E402
from maml_tf.sources.image_set import load_split  # noqa: E402


def main(argv: Sequence[str]) -> int:
  """The exit code: 0 done, 1 the files cannot be written, 2 refused."""
  parser = OneSentenceParser(prog='python -m maml_tf.export_step', allow_abbrev=False,
                             description=__doc__.split('\n')[0])
  parser.add_argument('--out', type=paths.argument, required=True, metavar='FOLDER')
  parser.add_argument('--steps', type=whole(1), default=1000, metavar='N')
  options, rest = parser.parse_known_args(argv[1:])
  config = flags.main_config(['main.py', *rest], 'maml_tf.export_step')

  def action():
    with reported(options.out):
      for path in export(config, options.out, options.steps):
        print(f'Written: {path}')
  return exit_code('maml_tf.export_step', action)


def export(config: Config, folder: str, steps: int) -> List[str]:
  """Writes the files; their paths.

  Args:
    config: of the run.
    folder: is made if need be.
    steps: meta-batches whose recipes are written.

  Raises:
    ConfigError: for what `pure_step` does not support.
    DataError: where the data are not prepared.
  """
  pure_step.require_supported(config)   # before a baseline's model reads the data
  # The forms that are exact under XLA.
  config = from_values({**config.to_values(), 'xla': 'on'})
  model = experiment.build_model(config)
  step = pure_step.build_pure_step(config, model)
  generator = experiment.training_generator(config)
  images = load_split(config.data_dir, config.task.datasource, 'train').images
  tasks = config.training.meta_batch_size
  recipes = generator.recipes(0, steps * tasks)
  batch = {name: value[:tasks] for name, value in recipes.items()}
  state = pure_step.initial_state(model)
  hlo, outputs = _compiled(step, state, tf.TensorSpec(images.shape, tf.uint8), batch)
  os.makedirs(folder, exist_ok=True)
  description = {
      'config': config.to_dict(),
      'state': [_described(*item) for item in _named_state(state)],
      'images': {'shape': list(images.shape), 'dtype': 'uint8',
                 'sha256': config.problem.data_hashes(config)['train']},
      'recipes': [_described(name, batch[name]) for name in sorted(batch)],
      'outputs': [*(name for name, _ in _named_state(state)), 'loss', 'accuracy'],
  }
  if len(outputs) != len(description['outputs']):
    raise RuntimeError(f'The compiled step has {len(outputs)} results; expected are '
                       f'{len(description["outputs"])}.')
  arrays = {f'state/{index:03}': value.numpy()
            for index, (_, value) in enumerate(_named_state(state))}
  arrays.update({f'recipes/{name}': np.reshape(value, [steps, *batch[name].shape])
                 for name, value in recipes.items()})
  paths = [os.path.join(folder, name) for name in ('step.hlo', 'step.json', 'inputs.npz')]
  write_whole(paths[0], hlo)
  write_whole(paths[1], json.dumps(description, indent=1) + '\n')
  np.savez_compressed(paths[2], **arrays)
  return paths


def _compiled(step, state, images: tf.TensorSpec, batch) -> Tuple[bytes, List[Any]]:
  """The HLO module, whose arguments are the flattened (state, images, recipes)."""
  specs = tf.nest.map_structure(lambda value: tf.TensorSpec(value.shape, value.dtype),
                                (state, images, batch))
  def flat_step(*arguments):
    return tf.nest.flatten(step(*tf.nest.pack_sequence_as(specs, arguments)))
  function = tf.function(flat_step, jit_compile=True, autograph=False)
  concrete = function.get_concrete_function(*tf.nest.flatten(specs))
  if concrete.captured_inputs:
    raise RuntimeError('The step is not pure: it captures '
                       f'{[value.shape.as_list() for value in concrete.captured_inputs]}.')
  hlo = function.experimental_get_compiler_ir(*tf.nest.flatten(specs))(
      stage='hlo_serialized')
  return hlo, concrete.structured_outputs


def _named_state(state: pure_step.TrainingState) -> List[Tuple[str, tf.Tensor]]:
  """In the order in which TensorFlow flattens it: dictionaries by sorted names."""
  named = []
  for kind, values in zip(state._fields, state):
    if isinstance(values, dict):
      named += [(f'{kind}/{name}', values[name]) for name in sorted(values)]
    else:
      named.append((kind, values))
  return named


def _described(name: str, value: tf.Tensor) -> Dict[str, Any]:
  return {'name': name, 'shape': value.shape.as_list(), 'dtype': value.dtype.name}


if __name__ == '__main__':
  sys.exit(main(sys.argv))
