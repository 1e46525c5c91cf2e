"""This project's results beside the TF1 code's, for everything in a golden file.

Nothing is computed by a second implementation: the model comes from
`maml_tf.experiment`, and what is compared are `task_results` (testing),
`meta_gradient` of MAML and of pre-training, and `fit` (training), batched over tasks.
"""

from __future__ import annotations

import contextlib
import math
from typing import Dict, List, Mapping, Optional, Tuple

import numpy as np
import tensorflow as tf

from maml_tf import experiment
from maml_tf.config import Config
from maml_tf.episodes import Episodes
from maml_tf.errors import NotFiniteError
from maml_tf.learners.base import Learner
from maml_tf.legacy.golden import Golden, GoldenError, GoldenTask, class_indices
from maml_tf.legacy.golden_config import config_of, is_classification
from maml_tf.legacy.names import OUTPUT, from_legacy, legacy_names, mismatch, to_legacy
from maml_tf.legacy.quantities import (
  Comparison,
  Quantity,
  absolute_error,
  judged,
  largest,
  relative_error,
)
from maml_tf.meta_learner import MetaLearner
from maml_tf.training.optimizers import build_optimizer

_LOSSES = ('pre_loss', 'post_losses')


def compare(golden: Golden, **overrides) -> Comparison:
  """Computes everything that the file has, and compares.

  Args:
    golden: the file.
    **overrides: fields of `maml_tf.config`: 'dtype', 'tasks_at_once', 'xla'.

  Raises:
    GoldenError: for a file whose tensors do not fit the net of its flags, and for one of
      which nothing is judged.
    maml_tf.config.ConfigError: for overrides that cannot be run.
  """
  config = config_of(golden, **{'dtype': 'float64', **overrides})
  model = _model(golden, config)
  steps = [_episodes(golden, step, config) for step in golden.steps]
  quantities = _measured(golden, config, model, steps[0])
  quantities += _gradients(golden, config, model, steps[0])
  quantities += _trained(golden, config, model, steps)
  dtype = config.learner.dtype
  return Comparison(golden.path, _title(config), dtype,
                    judged(golden.path, quantities, dtype, _LOSSES), golden.others)


def gradients(golden: Golden, config: Config) -> Dict[str, Dict[str, np.ndarray]]:
  """{'meta_gradient', 'pretrain_gradient': {TF1 name: gradient}} at the file's
  parameters and first meta-batch.

  Raises:
    GoldenError: for a file whose tensors do not fit the net of its flags.
  """
  model = _model(golden, config)
  episodes = _episodes(golden, golden.steps[0], config)
  phases = {'meta_gradient': model,
            'pretrain_gradient': experiment.build_pretraining(config, model)}
  return {name: to_legacy(model.learner, _gradient(phase, config, episodes))
          for name, phase in phases.items()}


def zero_gradients(learner: Learner, norm: str, examples: int) -> Tuple[str, ...]:
  """The parameters whose gradient is zero in exact arithmetic, and round-off here.

  A norm subtracts a mean over everything that a bias in front of it is added to: batch
  norm does so channel by channel, layer norm where there is one channel alone. In a
  batch of one example there is nothing but the mean.

  Args:
    learner: the net.
    norm: 'batch_norm', 'layer_norm' or 'None'.
    examples: in each task's batch.
  """
  found = []
  for spec in learner.parameter_specs:
    layer, _, kind = spec.name.rpartition('/')
    if layer == OUTPUT or kind not in ('bias', 'kernel'):
      continue
    if kind == 'bias' and (norm == 'batch_norm'
                           or (norm == 'layer_norm' and spec.shape == (1,))):
      found.append(spec.name)
    if kind == 'kernel' and norm == 'batch_norm' and len(spec.shape) == 2 and examples == 1:
      found.append(spec.name)
  return tuple(found)


def bias_correction_of_tf1(step: int) -> float:
  """TF1's bias correction of Adam's step `step` (1, ...), relative to Keras's.

  The correction is sqrt(1 - beta2^step) / (1 - beta1^step). TF1 keeps both powers as
  float32 variables whatever the parameters' type, multiplied once per step; Keras
  computes them in the parameters' type. It scales the step, so in float64 a changed
  step size makes Keras's Adam TF1's (from step 2 on: 2e-7 without, round-off with).
  """
  def correction(dtype):
    beta1, beta2 = (np.full(step, np.float32(beta), dtype) for beta in (0.9, 0.999))
    power1, power2 = (np.float64(np.cumprod(beta)[-1]) for beta in (beta1, beta2))
    return np.sqrt(1 - power2) / (1 - power1)
  return float(correction(np.float32) / correction(np.float64))


def _title(config: Config) -> str:
  task, learner, inner = config.task, config.learner, config.inner_loop
  words = [task.datasource]
  if is_classification(config):
    words.append(f'{task.num_classes}-way')
    if learner.conv:
      words.append(f'{learner.num_filters} filters')
      words.append('max-pool' if learner.max_pool else 'strides')
    else:
      words.append('fully connected')
  words += [f'{task.update_batch_size}-shot', f'norm {learner.norm}',
            f'{inner.num_updates} inner steps of {inner.update_lr}']
  if inner.stop_grad:
    words.append('first order')
  if config.training.baseline != 'None':
    words.append(config.training.baseline)
  return ', '.join([*words, learner.dtype])


def _model(golden: Golden, config: Config) -> MetaLearner:
  # Before there is room for the net: that is as large as the file's flags say.
  _check_tensors(golden, experiment.build_learner(config))
  _check_inputs(golden, config)
  model = experiment.build_model(config)
  model.meta_parameters.assign({
      name: value.astype(config.learner.dtype)
      for name, value in from_legacy(model.learner, golden.init).items()})
  return model


def _check_tensors(golden: Golden, learner: Learner) -> None:
  for group, tensors in {'init': golden.init, **golden.tensors}.items():
    problem = mismatch(learner, {name: value.shape for name, value in tensors.items()})
    if problem:
      raise GoldenError(f'{golden.path} does not fit the net that its flags describe: '
                        f'{group} {problem}.')


def _check_inputs(golden: Golden, config: Config) -> None:
  if is_classification(config):
    wanted = math.prod(config.problem.input_shape(config))
  else:
    wanted = 3 if config.training.baseline == 'oracle' else 1
  step = golden.steps[0]
  for name, inputs in (('inputa', step.support_inputs), ('inputb', step.query_inputs)):
    if inputs.shape[-1] != wanted:
      raise GoldenError(f'{golden.path} has {inputs.shape[-1]} values per example in '
                        f'{name}, and the net of its flags takes {wanted}.')
  if not is_classification(config) and step.query_labels.shape[-1] != 1:
    raise GoldenError(f'{golden.path} has {step.query_labels.shape[-1]} targets per point, '
                      'and a sinusoid has one.')


def _episodes(golden: Golden, step: GoldenTask, config: Config) -> Episodes:
  dtype = config.learner.dtype
  def inputs(values):
    tensor = tf.cast(tf.constant(values), dtype)
    return tensor / 255 if values.dtype == np.uint8 else tensor
  def labels(values, what):
    if is_classification(config):
      return tf.constant(class_indices(golden.path, values, what))
    return tf.constant(values, dtype)
  return Episodes.of(inputs(step.support_inputs), labels(step.support_labels, 'labela'),
                     inputs(step.query_inputs), labels(step.query_labels, 'labelb'))


def _measured(golden: Golden, config: Config, model: MetaLearner,
              episodes: Episodes) -> List[Quantity]:
  """Losses and accuracies before and after the updates, as testing computes them."""
  if not golden.results:
    return []
  updates = max(golden.num_updates_measured, 1)
  results = _compiled(lambda batch: model.task_results(batch, updates), config)(episodes)
  received: Dict[str, Optional[tf.Tensor]] = {
      'pre_loss': results.support['loss'], 'pre_accuracy': results.support.get('accuracy'),
      'post_losses': results.query['loss'],
      'post_accuracies': results.query.get('accuracy')}
  quantities = []
  for name, expected in golden.results.items():
    if received[name] is None:
      raise GoldenError(f'{golden.path} has {name}, and a regression has no accuracy.')
    mean = received[name].numpy().mean(axis=0)
    if expected.ndim:
      mean = mean[1:1 + expected.size]   # [0] is before the first update
    quantities.append(Quantity(name, 1, relative_error(mean, expected)))
  return quantities


def _gradients(golden: Golden, config: Config, model: MetaLearner,
               episodes: Episodes) -> List[Quantity]:
  """The meta-gradient and the pre-training gradient, before clipping."""
  phases = {'meta_gradient': (model, episodes.query.inputs.shape[1]),
            'pretrain_gradient': (experiment.build_pretraining(config, model),
                                  episodes.support.inputs.shape[1])}
  quantities = []
  for name, (phase, examples) in phases.items():
    if name not in golden.tensors:
      continue
    received = _gradient(phase, config, episodes)
    zero = zero_gradients(model.learner, config.learner.norm, examples)
    quantities += _tensor_quantities(name, model.learner, received, golden.tensors[name],
                                     zero)
  return quantities


def _gradient(phase: MetaLearner, config: Config, episodes: Episodes
              ) -> Dict[str, np.ndarray]:
  function = _compiled(lambda batch: phase.meta_gradient(batch)[1], config)
  return {name: value.numpy() for name, value in function(episodes).items()}


def _trained(golden: Golden, config: Config, model: MetaLearner,
             steps: List[Episodes]) -> List[Quantity]:
  """The parameters after the meta-steps, as training does them."""
  expected = golden.meta_steps
  if not expected:
    return []
  model.compile(build_optimizer('adam', config.training.meta_lr, config.learner.dtype),
                jit_compile=experiment.use_xla(config))
  rate = np.float64(np.float32(config.training.meta_lr))
  # Adam turns the round-off of a gradient that is zero into a step of full size.
  without = zero_gradients(model.learner, config.learner.norm, 2)
  quantities = []
  for index in range(max(expected)):
    if config.learner.dtype == 'float64':
      model.optimizer.learning_rate = rate * bias_correction_of_tf1(index + 1)
    with contextlib.suppress(NotFiniteError):   # the values say so, too
      model.fit(tf.data.Dataset.from_tensors(steps[index]), verbose=0, shuffle=False)
    if index + 1 in expected:
      quantities += _tensor_quantities(
          f'after_{index + 1}_meta_steps', model.learner, model.meta_parameters.arrays(),
          expected[index + 1], without, compare_zero=False)
  return quantities


def _tensor_quantities(group: str, learner: Learner, received: Mapping[str, np.ndarray],
                       expected: Mapping[str, np.ndarray], zero, compare_zero: bool = True
                       ) -> List[Quantity]:
  names = legacy_names(learner)
  relative, absolute = {}, {}
  for name, value in from_legacy(learner, expected).items():
    if name not in zero:
      relative[names[name]] = relative_error(received[name], value)
    elif compare_zero:
      absolute[names[name]] = absolute_error(received[name], value)
  quantities = [_worst(group, relative)]
  if absolute:
    quantities.append(_worst(f'{group}, zero', absolute)._replace(absolute=True))
  return quantities


def _worst(group: str, errors: Mapping[str, float]) -> Quantity:
  worst = largest(list(errors.values()))
  where = next(name for name, error in errors.items()
               if error == worst or math.isnan(error))
  return Quantity(group, len(errors), worst, where=where)


def _compiled(function, config: Config):
  return tf.function(function, autograph=False, jit_compile=experiment.use_xla(config))
