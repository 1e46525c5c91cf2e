"""What a kind of task is: everything that depends on the kind is asked here.

No TensorFlow is loaded with this module: flags and configurations ask for presets and
limits before anything is built.
"""

from __future__ import annotations

import abc
import math
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Dict, List, Mapping, Optional, Tuple

from maml_tf.errors import ConfigError
from maml_tf.measures import Measure
from maml_tf.meta_learners import known_method
from maml_tf.problems import registry
from maml_tf.problems.baseline import Baseline
from maml_tf.problems.refused import Refused

if TYPE_CHECKING:
  from maml_tf.config import Config
  from maml_tf.data_generator import DataGenerator
  from maml_tf.episodes import Episodes
  from maml_tf.learners import Learner
  from maml_tf.meta_learner import MetaLearner
  from maml_tf.objectives import Objective
  from maml_tf.sources.source import EpisodeSource


class Problem(abc.ABC):
  """One kind of task: a value of `--datasource`.

  Attributes:
    name: the value.
    measure: what tasks are judged by.
    baselines: {value of `--baseline`: what it changes}.
    refused: fields without a meaning here.
    special_presets: (condition in words, ways, shots) with other presets than usual, for
      the help.
    has_classes: whether a task is to tell classes apart, by K examples of each.
    most_steps_per_execution: training steps that go into one execution: many where a step
      takes less than what Keras does around it.
    acts: whether a policy acts in environments: reinforcement learning.
    split_of_tf1: whether the TF1 code had the same classes to train on, and to test on.
    may_test_validation: whether `test_set` chooses between test and validation tasks.
    methods: of `--method` that it can be learned by; None: all.
    save_interval: iterations between two checkpoints; None: the TF1 code's.
    early_end_tasks: validation tasks that it takes to end a run before its plan does
      (`verification.early_end`).
    usual_ways: N where nobody says it.
    xla_pays: whether the step is faster compiled by XLA on a CPU, too. Measured on CPUs in
      docs/speed.md.
  """

  name: str
  measure: Measure
  baselines: Mapping[str, Baseline] = {'None': Baseline()}
  refused: Tuple[Refused, ...] = ()
  special_presets: Tuple[Tuple[str, int, Optional[int]], ...] = ()
  has_classes: bool = False
  most_steps_per_execution: int = 1
  usual_ways: int = 5
  xla_pays: bool = False
  acts: bool = False
  split_of_tf1: bool = True
  may_test_validation: bool = False
  methods: Optional[Tuple[str, ...]] = None
  save_interval: Optional[int] = None
  early_end_tasks: int = 600
  # For messages: what has the baselines that this problem lacks.
  plural: ClassVar[str] = 'other data'

  def with_data(self, data_dir: str) -> 'Problem':
    """The problem for the data in that folder, where its shape or limits are theirs."""
    return self

  def keep_beside(self, folder: str, config: 'Config') -> None:   # noqa: B027
    """Puts what tests of a run need of its data into the run's folder."""

  # --- presets and limits

  @abc.abstractmethod
  def preset(self, num_classes: int, shots: Optional[int]) -> Dict[str, Any]:
    """{field: value} where it differs from `config.presets.COMMON`.

    Args:
      num_classes: N.
      shots: K; None: the problem's usual one, which is among the values then.
    """

  def method_preset(self, method: str, num_classes: int, shots: int) -> Dict[str, Any]:
    """What another method than MAML has in place of that."""
    return {}

  def baseline(self, name: str) -> Baseline:
    """Raises: ConfigError: for one that this problem does not have."""
    if name in self.baselines:
      return self.baselines[name]
    known = registry.baseline_named(name)
    raise ConfigError(f'--baseline={name} does not fit --datasource={self.name}: '
                      f'{known.why_alone}, so it is allowed with '
                      f'{registry.with_baseline(name)} alone.')

  def check(self, config: 'Config') -> None:   # noqa: B027  there need not be anything
    """Raises: ConfigError: for a combination that this problem cannot run."""

  def additions_to_the_name(self, config: 'Config', usual: Mapping[str, Any]
                            ) -> List[Tuple[str, bool]]:
    """(text, whether it is part of the folder's name), of fields of its own."""
    return []

  def groups(self, config: 'Config') -> int:
    """How many times K examples a support set has: the classes of a classification."""
    return 1

  def task_in_words(self, config: 'Config') -> str:
    """`5-way 1-shot`: how large a task is."""
    return f'{config.task.update_batch_size}-shot'

  def tested_split(self, config: 'Config') -> str:
    """'test' or 'val', of the test protocol: of sinusoids, which are drawn from one
    distribution, there is nothing but the stream of random numbers to hold back."""
    return 'test' if config.evaluation.test_set or not self.may_test_validation else 'val'

  def recorded_split(self, config: 'Config') -> Optional[str]:
    """The same for records: None where there are no splits."""
    return None

  def is_papers_test(self, config: 'Config') -> bool:
    """Whether the paper's values are of the tasks that are tested."""
    return self.tested_split(config) == 'test'

  def require_data(self, config: 'Config') -> None:   # noqa: B027  there need not be any
    """Raises: DataError: where the data are not prepared; they are not read."""

  def data_hashes(self, config: 'Config') -> Mapping[str, str]:
    """{split: SHA-256} of the data that a run reads; empty where it reads none, or where
    they are not there, which who reads them says."""
    return {}

  def name_of_data(self, config: 'Config') -> str:
    """What tells runs and files on these data from those on others."""
    return self.name

  def most_test_queries(self, config: 'Config') -> float:
    """Query examples of a class that a test can ask for; infinity where they are drawn."""
    return math.inf

  def require_query_conditions(self, config: 'Config') -> None:
    """Raises: ConfigError: where the evaluation matrix has no meaning."""
    raise ConfigError(f'--datasource={self.name} has no query images to classify: the '
                      'matrix is of images.')

  def episodes_on_device(self, config: 'Config') -> Callable[..., 'Episodes']:
    """For `pure_step`: a function (images of the training split, recipes) -> episodes.

    Raises:
      ConfigError: where there are no images to keep where the step runs.
    """
    raise ConfigError(f'--datasource={self.name} has no images to keep where the step runs: '
                      'take omniglot or miniimagenet.')

  def pixels(self, data: bytes, config: 'Config') -> Any:
    """A photo as training saw its images: uint8 `[height, width, channels]`.

    Args:
      data: an image file of any format, size and mode, see `data_scripts.images`.

    Raises:
      ConfigError: where the tasks are not made of images.
      DataError: for a file that is not a whole image; the text is a phrase.
    """
    self.require_images()

  def require_images(self) -> None:
    """Raises: ConfigError: where the tasks are not made of images."""
    raise ConfigError(f'--datasource={self.name} has no images: photos can be classified by a '
                      'run of images alone.')

  # --- objects

  @abc.abstractmethod
  def input_shape(self, config: 'Config') -> Tuple[int, ...]:
    """Of one example."""

  @abc.abstractmethod
  def net(self, config: 'Config', input_shape: Tuple[int, ...]) -> 'Learner':
    """The paper's net for inputs of that shape."""

  @abc.abstractmethod
  def objective(self, config: 'Config') -> 'Objective':
    """Loss and measures of a task."""

  @abc.abstractmethod
  def source(self, config: 'Config', split: str, query_size: int) -> 'EpisodeSource':
    """Tasks of a split.

    Raises:
      DataError: where the data are not prepared.
    """

  def held_out(self, config: 'Config', split: str, num_tasks: int, seed: int,
               replicas: int = 1) -> 'DataGenerator':
    """Validation or test episodes, in batches that groups of `tasks_at_once` divide, and of
    whose last one as little as possible is not used.

    Args:
      config: the configuration.
      split: 'val' or 'test'.
      num_tasks: how many episodes will be used.
      seed: of the episodes.
      replicas: that share the batches.
    """
    from maml_tf.data_generator import DataGenerator
    source = self.source(config, split, config.task.test_query_size)
    largest = min(-(-num_tasks // replicas),
                  config.baseline.most_tasks_evaluated_at_once(config))
    group = config.training.tasks_at_once or 1
    sizes = [size for size in range(-(-largest // 2), largest + 1)
             if size <= group or size % group == 0]
    batch = min(sizes, key=lambda size: (-num_tasks % size, -size))
    return DataGenerator(source, batch, seed, split)

  def stand_in_source(self, config: 'Config') -> 'EpisodeSource':
    """Training tasks of the same shapes, for measuring speed without the data."""
    return self.source(config, 'train', config.task.train_query_size)

  def outputs(self, config: 'Config') -> Optional[int]:
    """Of a net, that --model may name; None: its nets are of its own kind."""
    return None

  def learner(self, config: 'Config') -> 'Learner':
    """The net, with a context where there is one; or the Keras model that --model names."""
    if config.learner.model != 'paper':
      from maml_tf.keras_models.nets import learner_of
      return learner_of(config.learner.model, self.input_shape(config), self.outputs(config),
                        config.task.seed, config.learner.dtype,
                        known_method(config.training.method))
    input_shape, context = self.input_shape(config), config.learner.context_size
    net = self.net(config, (*input_shape[:-1], input_shape[-1] + context))
    if not context:
      return net
    from maml_tf.learners import WithContext
    return WithContext(net, input_shape, context)

  def use_xla(self, config: 'Config') -> bool:
    """Whether the step is compiled by XLA; 'auto': where that is faster."""
    if config.training.xla != 'auto':
      return config.training.xla == 'on'
    import tensorflow as tf
    return self.xla_pays or bool(tf.config.list_physical_devices('GPU'))

  def most_tasks_evaluated_at_once(self, config: 'Config') -> int:
    from maml_tf.task_groups import SMALL_EXAMPLE
    return 25 if math.prod(self.input_shape(config)) <= SMALL_EXAMPLE else 8

  # --- pictures

  def sample_tasks(self, episodes: 'Episodes') -> Optional[bytes]:
    """A PNG file that shows what the net is asked; None: there is none."""
    return None

  def draw_results(self, folder: str, config: 'Config', model: 'MetaLearner',
                   generator: 'DataGenerator', title: str) -> List[str]:
    """Draws what a test gave into `folder`; the paths."""
    return []
