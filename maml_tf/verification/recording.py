"""What is kept of a row's test: its record, the weights, and the learning curve."""

from __future__ import annotations

import os
from typing import Any, Dict, List

from maml_tf import experiment
from maml_tf.evaluation import results_files
from maml_tf.evaluation.results_files import ProtocolRun
from maml_tf.files import sha256_of_file
from maml_tf.meta_learner import MetaLearner
from maml_tf.paper import records, weights
from maml_tf.paper.records import Record
from maml_tf.paper.rows import Row
from maml_tf.training import history
from maml_tf.training.checkpoint_files import BEST_FOLDER
from maml_tf.verification import early_end, provenance, spans

# Test episodes whose values are kept one by one, to check the weights by.
FIRST_EPISODES = 5


def write(row: Row, test: ProtocolRun, model: MetaLearner, trained: int, folder: str,
          results: str, ended_early: bool, commit: str) -> Record:
  """Writes weights, history and record.

  Args:
    row: that was tested.
    test: of its run.
    model: that was tested.
    trained: iterations of the run.
    folder: of the experiment.
    results: folder of the result files.
    ended_early, commit: see `runs.test_row`.
  """
  config = test.config
  seed = config.task.seed
  previous = records.read(row, seed, results)
  content = weights.to_bytes(model.state())
  lines = history.of_run(folder)
  fields = as_record(row, test, trained, lines, commit)
  trained_by = spans.read(folder)
  fields['training'].update(
      by_commit=spans.by('commit', trained_by, trained),
      validation_tasks=spans.by('validation_tasks', trained_by, trained))
  if ended_early:
    tasks = config.problem.early_end_tasks
    fields['ended_early'] = {'rule': early_end.rule(tasks), 'validation_tasks': tasks}
  stem = os.path.join(folder, results_files.file_stem(config))
  # What `main.py` tested in this folder counts, too.
  fields['times_tested'] = max(results_files.read_times_tested(stem + '.json'),
                               1 + (previous.fields['times_tested'] if previous else 0))
  weights_file = records.file_of(row, seed, '.npz', results)
  records.write_bytes(weights_file, content)
  fields['weights'] = {'sha256': sha256_of_file(weights_file),
                       'parameters': sum(array.size for array in
                                         model.meta_parameters.arrays().values())}
  if lines:
    with open(os.path.join(folder, history.HISTORY_FILE), encoding='utf-8') as file:
      records.write_text(records.file_of(row, seed, '.history.csv', results), file.read())
  return records.read_file(records.write(row, fields, results))


def as_record(row: Row, test: ProtocolRun, trained: int, lines: List[history.Line],
              commit: str) -> Dict[str, Any]:
  """The fields of a record, but for what is known of its files and of earlier tests."""
  config = test.config
  stored = results_files.as_dict(test)
  inside = os.path.basename(os.path.dirname(test.checkpoint)) == BEST_FOLDER
  name = os.path.basename(test.checkpoint)
  settings = {section: dict(fields) for section, fields in stored['config'].items()
              if section != 'run'}
  del settings['task']['data_dir']   # of this machine
  return {
      'row': row.name, 'seed': config.task.seed, 'measure': config.problem.measure.name,
      'iterations': {'trained': trained, 'planned': config.total_iterations},
      'tested': {'checkpoint': f'{BEST_FOLDER}/{name}' if inside else name,
                 'chosen_by': 'validation score' if inside else 'being the last',
                 'iteration': test.iteration, 'split': stored['split'],
                 'episodes_fingerprint': test.fingerprint,
                 'seconds': stored['seconds']},
      'times_tested': 1, 'num_tasks': stored['num_tasks'], 'updates': stored['updates'],
      'first_episodes': first_episodes(test), 'tuning': stored['tuning'],
      'weights': {},
      'training': {'seconds': round(sum(line['seconds'] or 0 for line in lines), 1),
                   'iterations': int(sum(line['iterations'] or 0 for line in lines))},
      **provenance.stamp(commit), 'config': settings,
  }


def first_episodes(test: ProtocolRun) -> Dict[str, Any]:
  """The values of the first test episodes, and the fingerprint of these.

  values: `[episodes][updates + 1]`: accuracy (0 to 1), or the loss of a regression.
  """
  config = test.config
  count = min(FIRST_EPISODES, config.evaluation.num_test_tasks)
  generator = experiment.evaluation_generator(config, config.split, count)
  values = test.results.query[config.problem.measure.name][:count].astype(float)
  return {'count': count, 'episodes_fingerprint': generator.fingerprint(count),
          'values': [[float(f'{value:.6g}') for value in task] for task in values]}
