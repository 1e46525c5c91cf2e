"""Sinusoid regression (section 5.1), its oracle, and the averaged nets of table 2."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

from maml_tf.files import reported
from maml_tf.measures import MEAN_SQUARED_ERROR
from maml_tf.problems.base import Problem
from maml_tf.problems.baseline import NOT_META_TRAINED, Baseline
from maml_tf.problems.refused import Refused

if TYPE_CHECKING:
  from maml_tf.config import Config

HIDDEN = (40, 40)
# As large as the nets' own errors allow, see `maml_tf/baselines/averaged_nets.py`.
REGULARISER_WEIGHTS = {'None': 0.0, 'l2': 0.001, 'mean': 0.001}


class Oracle(Baseline):
  """A net that is given amplitude and phase (figure 3)."""

  name = folder = 'oracle'
  why_alone = 'only a sinusoid has an amplitude and a phase to give away'
  # Golden files of the TF1 code have its meta-gradient, too, of either order.
  refused = tuple(rule for rule in NOT_META_TRAINED if rule.field != 'stop_grad')

  def preset(self, values: Mapping[str, Any], given: Mapping[str, Any]) -> Dict[str, Any]:
    # It sees the task, so that there is nothing to adapt: all of it is pre-training.
    return dict(pretrain_iterations=values['metatrain_iterations'], metatrain_iterations=0)


class Averaged(Baseline):
  """The mean of the parameters of nets that each learned one sinusoid (table 2)."""

  name = folder = 'averaged'
  why_alone = 'its nets each learn one sinusoid'
  trains_on_tasks = False
  shared_out = False
  in_legacy_code = False
  refused = NOT_META_TRAINED

  def preset(self, values: Mapping[str, Any], given: Mapping[str, Any]) -> Dict[str, Any]:
    # The paper does not give these: iterations, and points of each net in one of them.
    return dict(
        pretrain_iterations=10000, metatrain_iterations=0, meta_batch_size=10, meta_lr=0.002,
        regulariser_weight=REGULARISER_WEIGHTS.get(
            given.get('averaged_regulariser', 'None'), 0.0))

  def additions_to_the_name(self, config: 'Config', usual: Mapping[str, Any]
                            ) -> List[Tuple[str, bool]]:
    training = config.training
    return [(f'nets{training.num_averaged_nets}',
             training.num_averaged_nets != usual['num_averaged_nets']),
            (f'{training.averaged_regulariser}{training.regulariser_weight}',
             training.averaged_regulariser != 'None')]

  def pretraining(self, config: 'Config', model):
    from maml_tf.baselines.averaged_nets import AveragedNets
    training = config.training
    return AveragedNets(
        model.learner, model.objective, num_nets=training.num_averaged_nets,
        regulariser=training.averaged_regulariser, weight=training.regulariser_weight,
        averaged=model.meta_parameters, seed=config.task.seed, dtype=config.learner.dtype,
        gradient_clip=training.meta_gradient_clip, step_size=config.inner_loop.update_lr,
        num_updates=config.inner_loop.num_updates)

  def training_generator(self, config: 'Config'):
    from maml_tf.batch_generator import BatchGenerator
    from maml_tf.sources.single_sinusoids import SingleSinusoids
    training = config.training
    source = SingleSinusoids(training.num_averaged_nets, training.meta_batch_size,
                             config.learner.dtype)
    return BatchGenerator(source, config.task.seed)


class Sinusoid(Problem):
  """y = amplitude * sin(x - phase), from a few points."""

  name = 'sinusoid'
  plural = '--datasource=sinusoid'
  measure = MEAN_SQUARED_ERROR
  baselines = {baseline.name: baseline
               for baseline in (Baseline(), Oracle(), Averaged())}
  refused = tuple(Refused(name, False, 'whose net has no convolutions', f'leave --{name} out')
                  for name in ('conv', 'max_pool'))
  # A step takes about a millisecond.
  most_steps_per_execution = 100
  xla_pays = True

  def preset(self, num_classes: int, shots: Optional[int]) -> Dict[str, Any]:
    return dict(update_batch_size=shots or 5, norm='None', conv=False, update_lr=0.001,
                metatrain_iterations=15000, meta_batch_size=25, validation_interval=2500,
                num_validation_tasks=600)

  def method_preset(self, method: str, num_classes: int, shots: int) -> Dict[str, Any]:
    # Chosen among a few by short runs. Where less of the net is adapted, steps are larger.
    return {
        'reptile': dict(inner_optimizer='sgd', update_lr=0.02, num_updates=10,
                        metatrain_iterations=30000, test_num_updates=32,
                        test_inner_batch_size=0, train_query_size=max(1, 50 - shots)),
        'anil': dict(update_lr=0.1),
        'context_vector': dict(update_lr=1.0, context_size=5),
    }.get(method, {})

  def outputs(self, config: 'Config') -> int:
    return 1

  def input_shape(self, config: 'Config') -> Tuple[int, ...]:
    return (3,) if config.training.baseline == Oracle.name else (1,)

  def net(self, config: 'Config', input_shape: Tuple[int, ...]):
    from maml_tf.learners import FullyConnected
    return FullyConnected(*input_shape, HIDDEN, 1, config.learner.norm,
                          config.learner.mixed_precision)

  def objective(self, config: 'Config'):
    from maml_tf.objectives import MeanSquaredError
    return MeanSquaredError()

  def source(self, config: 'Config', split: str, query_size: int):
    from maml_tf.sources.sinusoid import SinusoidSource
    return SinusoidSource(config.task.update_batch_size, query_size,
                          oracle=config.training.baseline == Oracle.name,
                          dtype=config.learner.dtype)

  def draw_results(self, folder: str, config: 'Config', model, generator, title: str
                   ) -> List[str]:
    """Figure 2."""
    from maml_tf.reports.fitted_curves import save_fitted_curves
    path = os.path.join(folder, f'fitted_curves{config.of_pictures}.png')
    with reported(path):
      save_fitted_curves(path, model, generator, title)
    return [path]
