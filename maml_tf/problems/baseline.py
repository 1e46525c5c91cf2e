"""How theta is made: by meta-training, or by what the paper compares that with.

A baseline is a value of `--baseline`; each problem has its own. No TensorFlow here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, FrozenSet, List, Mapping, Optional, Tuple, Union

from maml_tf import from_file
from maml_tf.problems.refused import Refused

if TYPE_CHECKING:
  from maml_tf.batch_generator import BatchGenerator
  from maml_tf.config import Config
  from maml_tf.data_generator import DataGenerator
  from maml_tf.meta_learner import MetaLearner


class Baseline:
  """What a value of `--baseline` changes; this is how a run without one is.

  Attributes:
    name: the value.
    why_alone: why other problems do not have it, for a message.
    folder: what the name of the run's folder says; runs of the same one share a training.
    refused: fields without a meaning with it.
    has_step_size: whether the test depends on the inner step size.
    trains_on_tasks: whether a training batch is one of tasks, with a support and a query
      set, which are computed in groups.
    shared_out: whether replicas can share its batches.
    any_shots: whether the checkpoint may be chosen by other shots than are tested.
    own_statistics: whether batch norm takes the statistics of a task's own examples.
    in_legacy_code: whether the TF1 code has it, and so checkpoints of it.
    validation_label: of its learning curve; None: as of meta-training.
    validated_before_updates: whether validation, which chooses the best checkpoint, is of
      what is there before any update.
  """

  name = 'None'
  why_alone = ''
  folder = ''
  refused: Tuple[Refused, ...] = ()
  has_step_size = True
  trains_on_tasks = True
  shared_out = True
  any_shots = False
  own_statistics = True
  in_legacy_code = True
  validation_label: Optional[str] = None
  validated_before_updates = False

  def preset(self, values: Mapping[str, Any], given: Mapping[str, Any]) -> Dict[str, Any]:
    """What it has in place of the preset's `values`; `given`: what the user gave."""
    return {}

  def additions_to_the_name(self, config: 'Config', usual: Mapping[str, Any]
                            ) -> List[Tuple[str, bool]]:
    """(text, whether it is part of the folder's name)."""
    return []

  def may_differ_from(self, other: 'Baseline') -> FrozenSet[str]:
    """Fields that may differ between runs of the two which share their training."""
    return frozenset()

  def model(self, config: 'Config') -> 'MetaLearner':
    """What is tested, with new parameters, not compiled."""
    from maml_tf import devices
    from maml_tf.meta_learners import meta_learner_class
    problem = config.problem
    method = meta_learner_class(config.training.method)
    inner_loop = dict(
        step_size=config.inner_loop.update_lr, num_updates=config.inner_loop.num_updates,
        recompute_inner_steps=config.training.recompute_inner_steps)
    return from_file.called(
        config.training.method, '--method', method,
        problem.learner(config), problem.objective(config),
        **(inner_loop if method.has_inner_loop else {}),
        seed=config.task.seed, dtype=config.learner.dtype,
        gradient_clip=config.training.meta_gradient_clip,
        tasks_at_once=config.training.tasks_at_once,
        cores=None if problem.use_xla(config) else devices.cores_for_tasks(),
        device_memory=devices.gpu_memory(),
        **config.method_arguments(method.own_arguments))

  def pretraining(self, config: 'Config', model: 'MetaLearner') -> 'MetaLearner':
    """The pre-training phase, which trains the parameters of `model`."""
    from maml_tf.baselines.pretraining import Pretraining
    return Pretraining(
        model.learner, model.objective, parameters=model.meta_parameters,
        tasks_at_once=config.training.tasks_at_once,
        step_size=config.inner_loop.update_lr, num_updates=config.inner_loop.num_updates)

  def validated(self, config: 'Config', model: 'MetaLearner') -> 'MetaLearner':
    """What is scored on validation tasks in training."""
    return model

  def training_generator(self, config: 'Config'
                         ) -> Union['DataGenerator', 'BatchGenerator']:
    """The training episodes of the run, or its batches where nothing is adapted."""
    from maml_tf.data_generator import DataGenerator
    config = config.with_trained_classes()
    source = config.problem.source(config, 'train', config.task.train_query_size)
    return DataGenerator(source, config.training.meta_batch_size, config.task.seed, 'train')

  def most_tasks_evaluated_at_once(self, config: 'Config') -> int:
    return config.problem.most_tasks_evaluated_at_once(config)


# Of what is trained without adaptation.
NOT_META_TRAINED = (
    Refused('method', 'maml', 'which is trained without a meta-learner',
            'leave one of them out'),
    Refused('metatrain_iterations', 0, 'which is trained without adaptation',
            'leave it out, and give --pretrain_iterations'),
    *(Refused(field, nothing, 'which is trained without adaptation') for field, nothing in (
        ('stop_grad', False), ('recompute_inner_steps', False),
        ('learned_step_sizes', 'None'))))
