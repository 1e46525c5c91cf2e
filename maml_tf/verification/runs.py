"""Training and testing a row.

The test split is for one look per row and seed, at the checkpoint that the validation
tasks chose. So the record of a complete run is final: another test of it is refused, or
counted where it is forced.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Optional

import tensorflow as tf

from maml_tf import application, experiment
from maml_tf.config import Config, ConfigError
from maml_tf.errors import CheckpointError, NotFiniteError
from maml_tf.evaluation.protocol import where_not_finite
from maml_tf.files import reported
from maml_tf.interruptions import put_off
from maml_tf.paper import records
from maml_tf.paper.records import Record
from maml_tf.paper.rows import Row
from maml_tf.training import scoring, trainer
from maml_tf.training.checkpoint_files import CheckpointFiles, best_of, iteration_of
from maml_tf.training.checkpoint_for_test import require_whole
from maml_tf.training.run_folder import (
  differences_of_run,
  experiment_folder,
  has_checkpoints,
  stored_config,
  training_folder,
)
from maml_tf.training.trainer import TrainingResult, Watch
from maml_tf.verification import kept_runs, provenance, recording, spans
from maml_tf.verification.spans import Span

_ANEW = '--row=NAME --train --anew'


def train_row(row: Row, config: Config, until: Optional[int] = None,
              results: str = records.RESULTS, again: bool = False, anew: bool = False
             ) -> Optional[Record]:
  """Trains a row, or goes on with it, tests it and writes its record.

  It goes on from what the experiment's folder has, or else from the run that a partial
  result has kept (`kept_runs`).

  Args:
    row: the row.
    config: of its flagfile, with the seed.
    until: iterations to train, fewer than planned: the record is then a partial one.
    results: folder of the result files.
    again: test although the record of a complete run is there.
    anew: start at iteration 0; a run in the experiment's folder is moved aside.

  Returns:
    The record; None where a signal ended the training, which is saved then.

  Raises:
    ConfigError: where the record that is there is final, or has as many iterations;
      for more iterations than are planned.
  """
  planned = config.total_iterations
  if until is not None and until > planned:
    raise ConfigError(f'--iterations={until} is not allowed: {row.name} has {planned} by its '
                      'flagfile, and --iterations stops it before; leave it out to train the '
                      'row whole.')
  goal = planned if until is None else until
  _require_news(row, config, goal, results, again)
  commit = provenance.commit()   # it is this one's code that trains and tests
  if anew:
    _move_aside(config)
  else:
    go_on_with_what_was_kept(row, config, results)
  if train(config, goal).interrupted_by is not None:
    return None
  return test_row(row, config, results, again, commit=commit)


def train(config: Config, until: int, watch: Optional[Watch] = None) -> TrainingResult:
  """Trains up to an iteration, as `application.train_or_resume` does; the experiment's folder
  then says which commit did. It does not of a start that was refused."""
  _require_readable(experiment_folder(config))
  _require_same_training(config, experiment_folder(config))
  model = experiment.build_model(config)
  with training_folder(config) as folder:   # whose lock nobody else has now
    print(f'Experiment folder: {folder}', flush=True)
    config.problem.keep_beside(folder, config)
    spans.begin(folder, Span(provenance.commit(), done(folder), None,
                             config.training.num_validation_tasks, tf.__version__,
                             validated_on(config)))
    training = trainer.train(config, model, folder, until, watch)
    spans.end(folder, training.iteration)
  application.say_where_it_stopped(config, training)
  return training


def validated_on(config: Config) -> str:
  """What tells the validation tasks of a run from others, as in its checkpoints."""
  config = config.with_trained_shots()
  return scoring.what_tells(config, experiment.evaluation_generator(
      config, 'val', config.training.num_validation_tasks))


def done(folder: str) -> int:
  """The iteration that training in a folder goes on from."""
  path = kept_runs.last_whole(folder)
  return 0 if path is None else iteration_of(path)


def tested(row: Row, seed: int, results: str) -> int:
  """After how many iterations the run was tested; 0 where it was not."""
  record = records.read(row, seed, results)
  return 0 if record is None else record.trained


def _move_aside(config: Config) -> None:
  """So that nothing is there to go on with."""
  with training_folder(dataclasses.replace(
      config, run=dataclasses.replace(config.run, resume=False))):
    pass


def go_on_with_what_was_kept(row: Row, config: Config, results: str,
                             further: bool = False) -> None:
  """Puts the kept run into the experiment's folder, where that has none.

  Args:
    row, config, results: see `train_row`.
    further: see `kept_runs.go_on_with`.
  """
  kept = records.file_of(row, config.task.seed, records.KEPT_RUN, results)
  kept_runs.recover(kept)
  record = records.read(row, config.task.seed, results)
  known = [span.tensorflow for span in spans.read(kept) if span.tensorflow]
  if record is not None and os.path.isdir(kept):
    known = known or [record.fields['versions']['tensorflow']]
  folder = experiment_folder(config)
  if known and _has_keras_3(known[-1]) != _has_keras_3(tf.__version__):
    if not done(folder):
      print(f'Starting at iteration 0: {kept} was written by TensorFlow {known[-1]}, the '
            f'state of whose optimizers TensorFlow {tf.__version__} cannot read.')
    return
  iteration = kept_runs.go_on_with(kept, folder, config, further)
  if iteration is not None:
    print(f'Going on from iteration {iteration}, which {kept} has kept (--anew starts at 0)')


def _has_keras_3(tensorflow: str) -> bool:
  """Whether that version of TensorFlow does: its optimizers are other ones."""
  major, minor = tensorflow.split('.')[:2]
  return (int(major), int(minor)) >= (2, 16)


def keep_row(row: Row, config: Config, results: str = records.RESULTS) -> None:
  """Keeps the run of a row without testing it.

  One that got further, which could not be gone on with (it has other flags, or is of another
  Keras), stays until this one is as far.

  Raises:
    WriteError: where that is not possible.
  """
  kept = records.file_of(row, config.task.seed, records.KEPT_RUN, results)
  if _keep_run(experiment_folder(config), kept):
    print(f'Kept: {kept}, without a look at the test tasks', flush=True)


def _keep_run(folder: str, kept: str) -> bool:
  """Keeps the run in a folder, see `keep_row`; whether it did."""
  kept_runs.recover(kept)
  further = done(kept)   # 0 where it is damaged
  if further > done(folder):
    print(f'Not kept yet: {kept} has another run, of {further} iterations. This one is in '
          f'{folder}.', flush=True)
    return False
  if not further and CheckpointFiles(kept).paths:
    print(f'{kept} has a damaged run, which this one replaces.', flush=True)
  with reported(kept):
    kept_runs.keep(folder, kept)
  return True


def test_row(row: Row, config: Config, results: str = records.RESULTS,
             again: bool = False, ended_early: bool = False, commit: Optional[str] = None
             ) -> Record:
  """Tests what has been trained of a row so far, and writes its record.

  Args:
    ended_early: the training was ended by the rule of `early_end`; the record says so.
    commit: whose code tests; None: that of now.
    row, config, results, again: see `train_row`.

  Raises: see `train_row`; also
    CheckpointError: where nothing has been trained.
    NotFiniteError: where a result is not finite; there is no record then.
  """
  commit = commit or provenance.commit()
  folder = experiment_folder(config)
  config = _for_test(config, folder)
  latest = tf.train.latest_checkpoint(folder)
  if latest is None:
    raise CheckpointError(f'There is no checkpoint in {folder}: train the row first '
                          f'(--row={row.name} --train), or name its --logdir.')
  # An earlier one in its place would be recorded as trained for as long.
  require_whole(latest, f'train the row on from the one before it (--row={row.name} --train)')
  _require_same_training(config, folder)
  trained = iteration_of(latest)
  _require_news(row, config, trained, results, again)
  model = experiment.build_model(config)
  test = application.test(config, model, folder)
  not_finite = where_not_finite(test.results)
  if not_finite is not None:
    raise NotFiniteError(f'{row.name} has no result: {not_finite} is not finite.')
  with put_off():   # weights and record belong together
    record = recording.write(row, test, model, trained, folder, results, ended_early, commit)
    kept = records.file_of(row, record.seed, records.KEPT_RUN, results)
    if record.is_finished:
      kept_runs.forget(kept)
    else:
      _keep_run(folder, kept)
    print(f'Written: {record.path}, with its weights')
  return record


def _require_news(row: Row, config: Config, trained: int, results: str, again: bool) -> None:
  """Refuses a test that would look at the test split without need, or whose result would
  replace one of more iterations that is final."""
  record = records.read(row, config.task.seed, results)
  if record is not None and record.is_finished and trained < record.trained:
    raise ConfigError(
        f'{row.name} with seed {record.seed} has a result of {record.trained} iterations '
        f'({record.path}), and this would be one of {trained}, in its place: train it as far, '
        'or choose another --results.')
  if record is None or again:
    return
  if record.is_complete:
    raise ConfigError(
        f'{row.name} with seed {record.seed} is trained and tested, and that result is '
        f'final ({record.path}): another look at the test tasks has to be asked for with '
        '--again, and is counted in the file.')
  if trained <= record.trained:
    raise ConfigError(
        f'{row.name} with seed {record.seed} was tested after {record.trained} iterations '
        f'already ({record.path}), and this would be a test after {trained}: train it '
        'further (--train, with more --iterations), or repeat the test with --again, which '
        'is counted in the file.')


def _for_test(config: Config, folder: str) -> Config:
  """To test what the folder has: the last checkpoint where no validation chose one yet."""
  evaluation = config.evaluation
  if evaluation.test_checkpoint == 'best':
    best = best_of(folder).last_written
    if best is None:
      print('No validation has been made yet: the last checkpoint is tested.')
      evaluation = dataclasses.replace(evaluation, test_checkpoint='latest')
    else:
      require_whole(best, f'nothing stands in for it: put it back, or start over with {_ANEW}')
  return dataclasses.replace(config, evaluation=evaluation,
                             run=dataclasses.replace(config.run, train=False))


def _require_same_training(config: Config, folder: str) -> None:
  """A folder is named after the flags but for a few, so a look into it is needed."""
  stored = stored_config(folder) if has_checkpoints(folder) else None
  listed = '' if stored is None else differences_of_run(stored, config)
  if listed:
    raise ConfigError(
        f'{folder} holds a run of another configuration ({listed}): repeat its values, choose '
        f'another --logdir, or start over with {_ANEW}.')


def _require_readable(folder: str) -> None:
  """Before training, which would advise what `main.py` has options for."""
  files = CheckpointFiles(folder)
  if (files.paths or files.listed) and kept_runs.last_whole(folder) is None:
    newest = (files.paths or files.listed)[-1]
    raise CheckpointError(
        f'The checkpoint {newest}, like all before it, is missing or is damaged: put them '
        f'back, or start over with {_ANEW}.')
