"""A trained run, or a row's weights, as a meta-learner for a task of so many classes."""

from __future__ import annotations

import dataclasses
import os
from typing import Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from maml_tf import experiment
from maml_tf.bounded import read_json
from maml_tf.config import LARGEST_JSON, Config
from maml_tf.errors import CheckpointError, ConfigError
from maml_tf.meta_learner import MetaLearner
from maml_tf.meta_learners import METHODS, meta_learner_class
from maml_tf.paper import records, weights
from maml_tf.prediction import expectation
from maml_tf.prediction.expectation import Measured
from maml_tf.sources.image_set import MANIFEST
from maml_tf.training.checkpoint_files import CheckpointFiles, best_of, iteration_of
from maml_tf.training.checkpoint_for_test import require_whole, restore_for_test
from maml_tf.training.run_code import require_same_code
from maml_tf.training.run_data import DATA_FILE, read_hashes
from maml_tf.training.run_folder import CONFIG_FILE, stored_config


class Trained(NamedTuple):
  """What was trained, for tasks of `ways` classes.

  Attributes:
    config: of the training; with the ways of the task.
    model: with the trained parameters.
    source: the checkpoint or the file of weights.
    tests: what is known about how well it does.
  """
  config: Config
  model: MetaLearner
  source: str
  tests: List[Measured]


def config_of_run(run: str) -> Config:
  """The configuration in a run's folder, or in the only one of a folder of runs; its data
  need not be there any more.

  Raises:
    ConfigError: where there is no run, or more than one.
    CheckpointError: where its configuration cannot be read, or is none.
  """
  folder = folder_of_run(run)
  path = os.path.join(folder, CONFIG_FILE)
  try:
    sections = read_json(path, most=LARGEST_JSON)
    sections['run'].update(train=False)
    if os.path.isfile(os.path.join(folder, MANIFEST)):
      sections['task'].update(data_dir=folder)   # which has the size of the images
  except OSError as error:
    raise CheckpointError(f'{path} cannot be read ({error.strerror}): make it readable, or '
                          'give the folder of another run.') from error
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise CheckpointError(f'{path} is not the configuration of a run: give the folder of a '
                          'trained run.') from error
  return Config.from_dict(sections)


def data_dir_of_run(run: str) -> str:
  """Where the data of a run were when it was trained."""
  return stored_config(folder_of_run(run)).data_dir


def other_data(folder: str, config: Config) -> Optional[str]:
  """The folder of the data of `config`, where they are not known to be those that the run in
  `folder` was trained on; else None."""
  now = config.problem.data_hashes(config)
  is_same = now == read_hashes(os.path.join(folder, DATA_FILE))
  return None if is_same else config.data_dir


def folder_of_run(run: str) -> str:
  """`run`, or the only folder in it that has a run's configuration."""
  if os.path.isfile(os.path.join(run, CONFIG_FILE)):
    return run
  runs = [folder for folder in _within(run)
          if os.path.isfile(os.path.join(folder, CONFIG_FILE))]
  if len(runs) != 1:
    found = f'{len(runs)} runs ({", ".join(runs[:5])})' if runs else 'no run'
    raise ConfigError(f'--run={run} has {found}: give the folder of one, which training '
                      "prints as 'Experiment folder'.")
  return runs[0]


def _within(folder: str) -> List[str]:
  """The paths of what is in a folder; none where it is none."""
  try:
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
  except (FileNotFoundError, NotADirectoryError):
    return []
  except OSError as error:
    raise ConfigError(f'--run={folder} cannot be read ({error.strerror}): make it readable, '
                      'or give the folder of another run.') from error


def of_run(run: str, config: Config, ways: Optional[int] = None,
           iteration: Optional[int] = None) -> Trained:
  """The best checkpoint of a run, by its validation, or else the latest.

  Args:
    run: folder.
    config: `config_of_run` of it.
    ways: N of the task; None: as trained.
    iteration: takes that checkpoint; None: see above.

  Raises:
    ConfigError: where the method has no other ways, or the file of the net or the method
      was edited since.
    CheckpointError: where there is none that can be read.
  """
  folder = folder_of_run(run)
  require_same_code(folder, config)
  require_adaptable(config, ways)
  best = best_of(folder).last_written
  chosen = best if iteration is None else _checkpoint_of(folder, iteration)
  if chosen is not None:   # the advice is of other flags than those of a test
    require_whole(chosen, 'take another one by --iteration')
  which = dataclasses.replace(
      config.evaluation, test_iter=-1 if iteration is None else iteration,
      test_checkpoint='best' if best else 'latest')
  model = experiment.build_model(config)
  source = restore_for_test(folder, dataclasses.replace(config, evaluation=which),
                            parameters=model.meta_parameters)
  return _for_ways(config, model, source, expectation.of_run(folder, source, config), ways)


def _checkpoint_of(folder: str, iteration: int) -> str:
  kept = {iteration_of(path): path for path in CheckpointFiles(folder).paths}
  if iteration not in kept:
    raise ConfigError(f'--iteration={iteration} has no checkpoint in {folder}, which has '
                      f'those of {", ".join(map(str, kept)) or "none"}: choose one of these, '
                      'or leave it out.')
  return kept[iteration]


def of_weights(pretrained: str, config: Config, ways: Optional[int] = None) -> Trained:
  """The weights of a row of the repository.

  Args:
    pretrained: ROW or ROW:SEED.
    config: of the row's flagfile.
    ways: N of the task; None: as trained.
  """
  require_adaptable(config, ways)
  path, _ = weights.resolve(pretrained)
  model = experiment.build_model(config)
  weights.load(path, model)
  fields = records.read_file(path[:-len('.npz')] + '.json').fields
  tests = expectation.of_fields(
      {**fields, 'config': config.to_dict()}, fields['num_tasks'], fields['tested']['split'])
  return _for_ways(config, model, path, tests, ways)


def require_adaptable(config: Config, ways: Optional[int] = None) -> None:
  """Raises: ConfigError: where nothing can be adapted to so many classes."""
  config.problem.require_images()
  if not config.baseline.trains_on_tasks:
    raise ConfigError(f'--baseline={config.baseline.name} is what the paper compares with, '
                      'and is not adapted: take a run of a meta-learner.')
  trained, method = config.task.num_classes, config.training.method
  if ways not in (None, trained) and not _takes_other_ways(method):
    raise ConfigError(
        f'The run was trained for {trained} classes, and {ways} are asked for: with '
        f'--method={method} the outputs are meta-learned together with the net below them, '
        'and new ones would pass it no gradient in the first update. Give as many classes, '
        f'or a run of --method={" or ".join(filter(_takes_other_ways, METHODS))}.')


def _takes_other_ways(method: str) -> bool:
  return meta_learner_class(method).takes_other_ways


def _for_ways(config: Config, model: MetaLearner, source: str, tests: List[Measured],
              ways: Optional[int]) -> Trained:
  if ways in (None, config.task.num_classes):
    return Trained(config, model, source, tests)
  # Not checked: one's own photos may have more classes than the set's test split.
  other = dataclasses.replace(config, task=dataclasses.replace(config.task, num_classes=ways))
  new = experiment.build_model(other)
  new.assign_state(fitted(model.state(), new))
  return Trained(other, new, source, tests)


def model_for(found: Trained, config: Config) -> MetaLearner:
  """What was trained, for tasks of the shots of `config`, which a method that compares must
  know."""
  if config.has_inner_loop:
    return found.model
  model = experiment.build_model(config)
  model.assign_state(fitted(found.model.state(), model))
  return model


def fitted(state: Mapping[str, np.ndarray], model: MetaLearner) -> Dict[str, np.ndarray]:
  """The state of another model of the same net, which may have other outputs: each of these is
  the mean of the trained ones, so that what is meta-learned about a class as such is kept, and
  no new class is preferred.

  Values go by their order: where a net is built twice, Keras numbers its names.
  """
  return {name: value if np.shape(value) == np.shape(own) else with_new_outputs(
              value, np.shape(own)[-1])
          for (name, own), value in zip(model.state().items(), state.values())}


def with_new_outputs(value: np.ndarray, outputs: int) -> np.ndarray:
  mean = value.mean(axis=-1, keepdims=True)
  return np.repeat(mean, outputs, axis=-1).astype(value.dtype)
