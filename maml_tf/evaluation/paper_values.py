"""The paper's own numbers, as it writes them: tables 1 and 2.

These are the only results in the repository that were typed in.
"""

from __future__ import annotations

from typing import Dict, Optional

from maml_tf.config import Config

# Table 2: 5-shot sinusoid, mean squared error after 1, 5 and 10 updates.
SINUSOID_MAML = {1: '0.67', 5: '0.38', 10: '0.35'}
SINUSOID_PRETRAINED = {1: '2.41', 5: '2.23', 10: '2.19'}
# "Multi-task": 500 nets averaged, by their regulariser.
SINUSOID_AVERAGED = {
    'None': {1: '4.19', 5: '3.85', 10: '3.69'},
    'l2': {1: '7.18', 5: '5.69', 10: '5.60'},
    'mean': {1: '2.91', 5: '2.72', 10: '2.71'},
}

# Table 1: {(datasource, ways, shots, convolutional, first order): accuracy in %},
# and the number of updates after which the paper tests.
ACCURACIES = {
    ('omniglot', 5, 1, True, False): '98.7 +- 0.4',
    ('omniglot', 5, 5, True, False): '99.9 +- 0.1',
    ('omniglot', 20, 1, True, False): '95.8 +- 0.3',
    ('omniglot', 20, 5, True, False): '98.9 +- 0.2',
    ('omniglot', 5, 1, False, False): '89.7 +- 1.1',
    ('omniglot', 5, 5, False, False): '97.5 +- 0.6',
    ('miniimagenet', 5, 1, True, False): '48.70 +- 1.84',
    ('miniimagenet', 5, 5, True, False): '63.11 +- 0.92',
    ('miniimagenet', 5, 1, True, True): '48.07 +- 1.75',
    ('miniimagenet', 5, 5, True, True): '63.15 +- 0.91',
}
# Table 3: Omniglot 5-way, {shots: accuracy in %}.
CONTEXT_VECTOR = {1: '94.9 +- 0.9', 5: '97.7 +- 0.3'}
# Table 1, from Ravi and Larochelle 2017: {(baseline, datasource, ways, shots): ...}.
BASELINE_ACCURACIES = {
    ('fine_tuning', 'miniimagenet', 5, 1): '28.86 +- 0.54',
    ('fine_tuning', 'miniimagenet', 5, 5): '49.79 +- 0.79',
    ('nearest_neighbour', 'miniimagenet', 5, 1): '41.08 +- 0.70',
    ('nearest_neighbour', 'miniimagenet', 5, 5): '51.04 +- 0.65',
}
TEST_UPDATES = {('omniglot', 5): 3, ('omniglot', 20): 5, ('miniimagenet', 5): 10}


def paper_values(config: Config) -> Dict[int, str]:
  """{updates: the paper's value} of the row that this configuration is; may be empty.

  The paper's accuracies are those of the test classes: a test on others has none.
  """
  if config.training.method == 'context_vector':
    return _context_values(config)
  if config.training.method != 'maml':
    return {}
  if config.is_classification:
    return _image_values(config) if config.evaluation.test_set else {}
  return _sinusoid_values(config) or {}


def _image_values(config: Config) -> Dict[int, str]:
  task = config.task
  if config.uses_classifier:
    value = BASELINE_ACCURACIES.get((config.training.baseline, task.datasource,
                                     task.num_classes, task.update_batch_size))
    if value is None or not config.learner.conv:
      return {}
    return {config.evaluation.test_num_updates: value}
  value = ACCURACIES.get((task.datasource, task.num_classes, task.update_batch_size,
                          config.learner.conv, config.inner_loop.stop_grad))
  return {} if value is None else {TEST_UPDATES[task.datasource, task.num_classes]: value}


def _context_values(config: Config) -> Dict[int, str]:
  task = config.task
  if (task.datasource, task.num_classes) != ('omniglot', 5) or not (
      config.evaluation.test_set and config.learner.conv):
    return {}
  value = CONTEXT_VECTOR.get(task.update_batch_size)
  return {} if value is None else {TEST_UPDATES['omniglot', 5]: value}


def _sinusoid_values(config: Config) -> Optional[Dict[int, str]]:
  training = config.training
  if config.task.update_batch_size != 5 or training.baseline == 'oracle':
    return None
  if training.baseline == 'averaged':
    return SINUSOID_AVERAGED[training.averaged_regulariser]
  if training.metatrain_iterations == 0:
    return SINUSOID_PRETRAINED
  return None if config.inner_loop.stop_grad else SINUSOID_MAML
