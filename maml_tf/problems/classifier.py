"""One classifier of all training classes, used in two ways (table 1's image baselines)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, FrozenSet, Mapping, Optional, Tuple

from maml_tf.problems import registry
from maml_tf.problems.baseline import NOT_META_TRAINED, Baseline
from maml_tf.problems.refused import Refused

if TYPE_CHECKING:
  from maml_tf.config import Config
  from maml_tf.meta_learner import MetaLearner

BATCH = 64   # images; the papers do not give it
# Images of a batch that a classifier baseline is tested on, which bounds its memory.
CLASSIFIED_AT_ONCE = 250


class Classifier(Baseline):
  """What both ways share: the training, and by what its checkpoint is chosen."""

  why_alone = 'only images have classes'
  folder = 'classifier'   # one training for both ways to use it
  refused: Tuple[Refused, ...] = NOT_META_TRAINED
  trains_on_tasks = False
  shared_out = False
  any_shots = True
  own_statistics = False
  in_legacy_code = False
  validation_label = 'validation, nearest neighbour'   # whatever is tested

  def preset(self, values: Mapping[str, Any], given: Mapping[str, Any]) -> Dict[str, Any]:
    iterations = registry.named(values['datasource']).classifier_iterations
    return dict(pretrain_iterations=iterations, metatrain_iterations=0,
                meta_batch_size=BATCH, meta_gradient_clip=0.0)

  def may_differ_from(self, other: Baseline) -> FrozenSet[str]:
    # Another use of the same classifier; the shots that it is validated with are in the
    # folder's name.
    return frozenset(['baseline', 'update_batch_size'] if isinstance(other, Classifier)
                     else [])

  def model(self, config: 'Config') -> 'MetaLearner':
    return self.over(config, None)

  def over(self, config: 'Config', trained: Optional['MetaLearner']) -> 'MetaLearner':
    """This use of a classifier; with the parameters of `trained`, or new ones."""
    raise NotImplementedError

  def pretraining(self, config: 'Config', model: 'MetaLearner') -> 'MetaLearner':
    from maml_tf.baselines.classifier import ClassifierTraining
    from maml_tf.objectives import ScaledCrossEntropy
    # Divided by the images of a mini-batch, the sum is their mean.
    return ClassifierTraining(
        model.learner, ScaledCrossEntropy(config.training.meta_batch_size),
        parameters=model.meta_parameters,
        gradient_clip=config.training.meta_gradient_clip,
        step_size=config.inner_loop.update_lr, num_updates=config.inner_loop.num_updates)

  def validated(self, config: 'Config', model: 'MetaLearner') -> 'MetaLearner':
    # The nearest neighbour has no step size, so that both uses share one training.
    return Nearest().over(config, model)

  def training_generator(self, config: 'Config'):
    from maml_tf.batch_generator import BatchGenerator
    from maml_tf.sources.labelled_images import LabelledImages
    problem = config.problem
    source = LabelledImages(problem.images(config, 'train'), config.training.meta_batch_size,
                            problem.rotations, config.learner.dtype)
    return BatchGenerator(source, config.task.seed)

  def most_tasks_evaluated_at_once(self, config: 'Config') -> int:
    """All tasks of a batch at once, beside its reference images."""
    task = config.task
    images = task.num_classes * (task.update_batch_size + task.test_query_size)
    return min(25, max(1, CLASSIFIED_AT_ONCE // images))

  def _learner(self, config: 'Config'):
    from maml_tf.sources.image_set import read_manifest
    from maml_tf.sources.labelled_images import num_labels
    problem = config.problem
    classes = read_manifest(config.data_dir, problem.name)['splits']['train']['classes']
    return problem.net_with_outputs(config, problem.input_shape(config),
                                    num_labels(len(classes), problem.rotations))

  def _common(self, config: 'Config', trained: Optional['MetaLearner']) -> Dict[str, Any]:
    reference = None
    if config.learner.norm == 'batch_norm':
      reference = self.training_generator(config).batch(0).support.inputs[0]
    return dict(
        learner=self._learner(config), objective=config.problem.objective(config),
        reference=reference, step_size=config.inner_loop.update_lr,
        num_updates=config.inner_loop.num_updates, seed=config.task.seed,
        dtype=config.learner.dtype,
        parameters=None if trained is None else trained.meta_parameters)


class FineTuned(Classifier):
  """Its last layer is replaced and fine-tuned."""

  name = 'fine_tuning'

  def preset(self, values: Mapping[str, Any], given: Mapping[str, Any]) -> Dict[str, Any]:
    return dict(super().preset(values, given), tune_update_lr=True)

  def over(self, config: 'Config', trained: Optional['MetaLearner']) -> 'MetaLearner':
    from maml_tf.baselines.fine_tuning import FineTuning
    return FineTuning(num_classes=config.task.num_classes, **self._common(config, trained))


class Nearest(Classifier):
  """The nearest support image in its features."""

  name = 'nearest_neighbour'
  has_step_size = False
  refused = (
      *NOT_META_TRAINED,
      Refused('test_num_updates', 1,
              'which stores the support set once and has no further updates'),
      Refused('tune_update_lr', False, 'which has no step size'))

  def preset(self, values: Mapping[str, Any], given: Mapping[str, Any]) -> Dict[str, Any]:
    return dict(super().preset(values, given), test_num_updates=1)

  def over(self, config: 'Config', trained: Optional['MetaLearner']) -> 'MetaLearner':
    from maml_tf.baselines.nearest_neighbour import NearestNeighbour
    return NearestNeighbour(**self._common(config, trained))
