"""What all meta-learners share: how tasks are adapted to, measured, and learned from."""

from __future__ import annotations

import abc
import functools
import math
from typing import (
  Any,
  Callable,
  ContextManager,
  Dict,
  Iterable,
  List,
  Mapping,
  Optional,
  Sequence,
  Tuple,
)

import numpy as np
import tensorflow as tf

from maml_tf.counts import require_count, require_updates
from maml_tf.episodes import (
  Batch,
  Episodes,
  as_episodes,
  as_tensors,
  merged,
  num_examples,
  num_tasks,
  require_consistent,
  require_examples,
)
from maml_tf.errors import ConfigError
from maml_tf.in_groups import InGroups
from maml_tf.inner_loop import adaptation, after, after_each
from maml_tf.inner_optimizers import InnerOptimizer, StepSize, StepSizes, sgd
from maml_tf.keras_fit import require_finite_parameters, user_errors
from maml_tf.keras_interface import KerasInterface
from maml_tf.keras_models.front import learner_and_objective
from maml_tf.keras_models.probabilities import require_probabilities
from maml_tf.keras_models.refusals import missing_derivatives
from maml_tf.learners.base import Learner, Parameters, ParameterSpec
from maml_tf.measures import Measure, all_in_order, in_order
from maml_tf.meta_parameters import Extended, MetaParameters
from maml_tf.objectives import of_each_task
from maml_tf.outer_step import GradientStep, OuterStep, apply_reduced, variables_of
from maml_tf.task_groups import TaskGroups, available_cores, task_groups
from maml_tf.task_results import TaskResults


class MetaLearner(KerasInterface):
  """A Keras model whose batches are meta-batches of tasks (`Episodes`).

  Train it through `compile` and `fit`; `fit` and callbacks are Keras's own. A subclass
  says what is minimised, in `task_objectives`.

  Args:
    learner: the net, as a pure function of its parameters; or a built Keras model, which
      is trained in place (`KerasLearner` has more to choose).
    objective: what a task minimises, and is judged by; or a Keras loss, or a function of
      (labels, outputs).
    step_size: alpha, the inner loop's step size: a number, one for each update, or these
      by parameter (see `inner_optimizers.sgd`).
    num_updates: inner steps in training.
    parameters: the variables to train; None: new ones.
    seed: of the initial values of new ones.
    dtype: of new ones: 'float32' or 'float64'. All arithmetic is done in it.
    gradient_clip: elementwise bound of the meta-gradient; 0: none.
    tasks_at_once: tasks whose activations are in memory together; the
      meta-gradient is accumulated over them. 0: chosen by `task_groups`. A meta-batch
      that it does not divide is refused.
    recompute_inner_steps: compute inner steps a second time in the backward pass
      instead of keeping their activations.
    cores: that compute groups of tasks side by side; None: one after the other.
    device_memory: bytes of a device without caches, for `task_groups`; None: a CPU.
    own_specs: what a method meta-learns beside the net: among its `parameters`, and handed
      to the net, which takes no notice.

  Attributes:
    own_arguments: the names of the arguments that a method has beyond these.
    logs_are_summaries: whether TensorBoard is shown what steps gave, since their batches
      cannot be measured by themselves.
    in_graphs: whether its steps are parts of graphs.
    takes_other_ways: whether what it trained adapts to tasks of other ways: a new last layer,
      the same for all classes, does it no harm, or there is none.
    can_clip: whether its outer step follows a gradient, which `gradient_clip` can bound.
    keeps_inner_steps: whether a derivative is taken through them, for which
      `recompute_inner_steps` computes them again.
  """

  own_arguments: Tuple[str, ...] = ()
  logs_are_summaries: bool = False
  in_graphs = True
  takes_other_ways = False
  can_clip = True
  keeps_inner_steps = True

  def __init__(self, learner: Any, objective: Any, *, step_size: StepSize,
               num_updates: int, parameters: Optional[MetaParameters] = None,
               seed: int = 0, dtype: str = 'float32', gradient_clip: float = 0.0,
               tasks_at_once: int = 0, recompute_inner_steps: bool = False,
               cores: Optional[int] = None, device_memory: Optional[int] = None,
               own_specs: Sequence[ParameterSpec] = ()):
    learner, objective = learner_and_objective(learner, objective)
    if objective.of_probabilities:
      require_probabilities(learner)
    if parameters is None:
      parameters = learner.own_parameters()
      if parameters is not None and own_specs:
        parameters = Extended(parameters, own_specs, seed)
    if recompute_inner_steps:
      self._require_recomputable(learner)
    super().__init__(dtype if parameters is None else parameters.dtype)
    self.learner = learner
    self.objective = objective
    self.meta_parameters = (MetaParameters(learner, seed, dtype, own_specs)
                            if parameters is None else parameters)
    dtype = self.meta_parameters.dtype
    self.outer_step: OuterStep = GradientStep(gradient_clip, dtype)
    _require_named(step_size, learner)
    self._step_sizes = StepSizes(step_size, dtype)
    self._num_updates = require_updates(num_updates)
    self._seed = seed
    self._recompute_inner_steps = recompute_inner_steps
    self._tasks_at_once = require_count('tasks_at_once', tasks_at_once)
    self._task_groups = functools.partial(task_groups, at_once=tasks_at_once, cores=cores,
                                          memory=device_memory)
    self._forget_graphs()

  def _forget_graphs(self) -> None:
    super()._forget_graphs()
    in_a_graph = self.learner.one_task_at_a_time
    self._gradients_in_groups = InGroups(self._group_gradient, in_a_graph)
    self._results_in_groups = InGroups(self._group_results, in_a_graph)
    self._outputs_in_groups = InGroups(self._group_outputs, in_a_graph)

  def _require_recomputable(self, learner: Learner) -> None:
    if not self.keeps_inner_steps:
      raise ConfigError('recompute_inner_steps=True would change nothing: a '
                        f'{type(self).__name__} keeps no inner steps. Leave it out.',
                        'recompute_inner_steps')
    if learner.is_random:
      raise ConfigError('recompute_inner_steps would draw other dropout masks the second '
                        'time: leave it out, or make the model without dropout and noise.',
                        'recompute_inner_steps')

  @property
  def measure(self) -> Measure:
    """What tasks are judged by."""
    return self.objective.measure

  @property
  def step_size(self) -> StepSize:
    """Of the inner loop, alpha. What is set acts on all that has been traced, too.

    Raises:
      ConfigError: where it is set, and none is read.
    """
    return self._step_sizes.value

  @step_size.setter
  def step_size(self, value: StepSize) -> None:
    if not self.has_step_size:
      reason = ('learns its step sizes, which are among its parameters (state, assign_state)'
                if self.has_inner_loop else 'has no inner loop')
      raise ConfigError(f'step_size={value!r} would change nothing: this '
                        f'{type(self).__name__} {reason}. Leave it out.', 'step_size')
    self._step_sizes.value = value

  @property
  def has_step_size(self) -> bool:
    """Whether the inner loop reads `step_size`."""
    return self.has_inner_loop

  def with_constant_step_size(self) -> ContextManager[None]:
    """What is traced meanwhile reads no variable of the step sizes."""
    return self._step_sizes.as_constants()

  def state(self) -> Dict[str, np.ndarray]:
    """{name: array} of all that a test depends on: the parameters, and what a method keeps
    beside them. It is what a file of weights holds."""
    return self.meta_parameters.arrays()

  def assign_state(self, values: Mapping[str, np.ndarray]) -> None:
    """Sets all of `state`.

    Raises:
      ValueError: when names or shapes differ from its own.
    """
    self.meta_parameters.assign(values)

  def start_from_parameters(self) -> None:   # noqa: B027  most methods have nothing of that
    """Sets what a method learns beside the net, and what starts from the net's values: when
    it is made, and after steps of a pre-training."""

  @abc.abstractmethod
  def task_objectives(self, parameters: Parameters, episodes: Episodes
                      ) -> Dict[str, tf.Tensor]:
    """{name of a measure: `[tasks]`}, as functions of theta.

    The mean of 'loss' is what the outer step minimises. The means of all are logged, those
    of other names than the objective's measures, too.
    """

  def forward_passes(self, support_examples: int, query_examples: int) -> Optional[int]:
    """What the meta-gradient of a task costs, in forward passes of one example.

    Convolutions and matrix products alone: differentiating a pass costs two of them.
    None: it was not counted.
    """
    return None

  def examples_of_loss(self, support_examples: int, query_examples: int) -> int:
    """Over how many of a task's examples the loss is that a step of training logs."""
    return query_examples

  def call(self, inputs):
    """The initialisation's outputs, without adaptation. `[tasks, examples, ...]`."""
    return self.learner.outputs(self.meta_parameters.tensors(), inputs)

  def meta_gradient(self, episodes: Any, query: Any = None, *,
                    parameters: Optional[Parameters] = None) -> Tuple[Any, Any]:
    """{measure: mean over tasks} and {name: gradient of the mean loss}, unclipped.

    Or, of a batch of tasks in two arguments, `meta_gradient(support, query)`: the mean
    loss, and a list of gradients in the order of the trainable variables of the model.

    Memory grows with the tasks that are computed at once, not with the meta-batch.

    Args:
      episodes: the meta-batch, `Episodes` or what `as_episodes` makes them of; or its
        (support inputs, support labels).
      query: its (query inputs, query labels), then.
      parameters: theta; None: the values of the variables.
    """
    if query is not None:
      means, gradients = self.meta_gradient(self._cast((episodes, query)),
                                            parameters=parameters)
      return means['loss'], [gradients[name] for name in self.meta_parameters.tensors()]
    episodes = self._cast(episodes)
    if parameters is None:
      parameters = self.meta_parameters.tensors()
    with user_errors():
      measured, gradients = self._gradients_in_groups(parameters, episodes,
                                                      self.groups(episodes))
    tasks = _number_of(measured['loss'])
    names = all_in_order(self.objective.measures, measured)
    return ({name: tf.reduce_mean(measured[name]) for name in names},
            {name: tf.reduce_sum(value, axis=0) / tasks for name, value in gradients.items()})

  # Autograph has nothing to convert here, and takes seconds to find that out.
  @tf.autograph.experimental.do_not_convert
  def train_step(self, episodes: Any) -> Dict[str, tf.Tensor]:
    """One outer step; the means over tasks of what was measured."""
    episodes = self.learner.in_training(self._cast(episodes), self._seed,
                                        self.optimizer.iterations)
    return self.outer_step(self, episodes)

  def apply_gradients(self, gradients: Parameters) -> None:
    """Changes the variables. The gradients are the same in all replicas."""
    apply_reduced(self.optimizer, list(gradients.values()),
                  self.meta_parameters.variables_in_order(gradients))

  def changed_variables(self) -> List:
    """All that `apply_gradients` changes."""
    return [*self.trainable_variables, *variables_of(self.optimizer)]

  def task_results(self, episodes: Any, num_updates: int) -> TaskResults:
    """Adapts to every task by `num_updates` steps, and measures on the way.

    A tape around it gives a gradient of first order; see `meta_gradient`, and `adaptation` for
    losses of one's own.
    """
    require_updates(num_updates)
    episodes = self._cast(episodes)
    with user_errors():
      results = self._results_in_groups(self.meta_parameters.tensors(), episodes,
                                        self.groups(episodes), num_updates)
    return TaskResults(*({name: merged(values[name])
                          for name in in_order(self.objective.measures, values)}
                         for values in results))

  def results_function(self, num_updates: int) -> Callable[[Any], TaskResults]:
    """`task_results` after so many updates, compiled, for many meta-batches."""
    # Autograph has nothing to convert here, and takes seconds to find that out.
    return tf.function(lambda episodes: self.task_results(episodes, num_updates),
                       autograph=False)

  def adapted_outputs(self, episodes: Any, num_updates: int) -> tf.Tensor:
    """Outputs for the query inputs before the first update and after each one.

    Query labels mean nothing here, and may be of any number.

    Returns:
      `[tasks, num_updates + 1, query examples, outputs]`.
    """
    support, query = as_episodes(episodes)
    # In the place of labels, inputs: as many, and there already.
    episodes = self._cast((support, Batch(query.inputs, query.inputs)))
    with user_errors():
      outputs = self._outputs_in_groups(self.meta_parameters.tensors(), episodes,
                                        self.groups(episodes), num_updates)
    return tf.nest.map_structure(merged, outputs)

  def adapt(self, support_inputs: Any, support_labels: Any,
            num_updates: Optional[int] = None, into: Optional[tf.keras.Model] = None
            ) -> tf.keras.Model:
    """The Keras model, adapted to one task; the initialisation does not change.

    Args:
      support_inputs, support_labels: of the task, `[examples, ...]` or nests.
      num_updates: None: as in training.
      into: a model of the same layers to be filled, which takes less time than a new one.

    Returns:
      A plain Keras model. Its batch normalisation has the statistics of the support set
      as moving averages, so that what `predict` gives for an input does not depend on the
      others beside it.

    Raises:
      ConfigError: for a net that is not a Keras model, support sets of other numbers of
        inputs and labels, and labels that are of no output.
      NotFiniteError: where the adapted parameters are not finite.
    """
    given = Batch(*(as_tensors(part, self.meta_parameters.dtype)
                    for part in (support_inputs, support_labels)))
    require_examples(given)
    batch = tf.nest.map_structure(lambda value: value[tf.newaxis], given)
    episodes = self._cast((batch, batch))
    updates = self._num_updates if num_updates is None else require_updates(num_updates)
    with user_errors():
      steps = self.adaptation(self.meta_parameters.tensors(), episodes, updates,
                              first_order=True)
      [adapted] = after(steps, [updates], dict)
    require_finite_parameters(adapted)
    shapes = {spec.name: spec.shape for spec in self.learner.parameter_specs}
    values = {name: tf.reshape(adapted[name], shape) for name, shape in shapes.items()}
    inputs = tf.nest.map_structure(lambda value: value[0], episodes.support.inputs)
    return self.learner.as_model(values, inputs, into)

  def task_loss(self, parameters: Parameters, batch: Batch) -> tf.Tensor:
    """`[tasks]`, of the learner's outputs."""
    return self.objective.loss(self.learner(parameters, batch.inputs), batch.labels)

  def adaptation(self, parameters: Parameters, episodes: Episodes, num_updates: int,
                 first_order: bool) -> Iterable[Parameters]:
    """See `inner_loop.adaptation`; where a method returns something else than that, its
    updates are unrolled in tests, too."""
    self.learner.check(self.task_loss, episodes.support, first_order)
    return adaptation(
        self.task_loss, parameters, episodes.support, self.inner_optimizer,
        names=self.adapted_names, num_updates=num_updates, first_order=first_order,
        recompute=self._recompute_inner_steps)

  @property
  def adapted_names(self) -> Sequence[str]:
    """The parameters that the inner loop changes."""
    return self.learner.adapted_names

  def inner_optimizer(self, parameters: Parameters) -> InnerOptimizer:
    """The rule of the inner loop, with the step sizes as they are; what a method learns of it
    is among the `parameters`, and its derivative is taken by those that it reads there."""
    return sgd(self._step_sizes.tensors())

  def groups(self, episodes: Episodes) -> TaskGroups:
    """How the tasks of `episodes` (or of what describes their shapes) are divided.

    Raises:
      ConfigError: when `tasks_at_once` does not divide their number.
    """
    if self.learner.one_task_at_a_time:
      return TaskGroups(1, self._tasks_at_once or available_cores())
    if not all(value.shape.is_fully_defined() for value in tf.nest.flatten(episodes)):
      return TaskGroups(num_tasks(episodes))
    example = sum(math.prod(value.shape[2:]) for value
                  in tf.nest.flatten(episodes.support.inputs))
    examples = num_examples(episodes.support) + num_examples(episodes.query)
    return self._task_groups(num_tasks(episodes), examples, example)

  def _group_gradient(self, parameters: Parameters, episodes: Episodes):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(parameters)
      measured = self.task_objectives(parameters, episodes)
      if not isinstance(measured, Mapping) or 'loss' not in measured:
        received = (', '.join(map(repr, measured)) if isinstance(measured, Mapping)
                    else type(measured).__name__)
        raise ConfigError(f'{type(self).__name__}.task_objectives must give the loss of each '
                          f"task as 'loss' of a dictionary. Received: {received}.")
      loss = tf.reduce_sum(of_each_task(measured['loss']))
    with missing_derivatives():
      gradients = tape.gradient(loss, parameters)
    self._require_connected(gradients)
    # A bias in front of batch norm is not connected to the loss.
    return measured, {name: tf.zeros_like(parameters[name]) if value is None
                      else tf.convert_to_tensor(value) for name, value in gradients.items()}

  def _require_connected(self, gradients: Mapping[str, Optional[tf.Tensor]]) -> None:
    """Raises: ConfigError: where the loss depends on no parameter of the net."""
    of_net = [gradients[spec.name] for spec in self.learner.parameter_specs]
    if of_net and all(value is None for value in of_net):
      raise ConfigError(
          f'The loss of {type(self).__name__} depends on no parameter of the net, of '
          'which nothing would be learned: an argmax, tf.stop_gradient, a tf.function around '
          'call, or labels in the place of outputs are what usually cuts the gradient.')

  def _group_results(self, parameters: Parameters, episodes: Episodes, num_updates: int
                     ) -> TaskResults:
    # First order: nothing is differentiated through the updates here.
    steps = self.adaptation(parameters, episodes, num_updates, first_order=True)
    return self._measured(self.learner, parameters, steps, episodes)

  def _group_outputs(self, parameters: Parameters, episodes: Episodes, num_updates: int
                     ) -> tf.Tensor:
    steps = self.adaptation(parameters, episodes, num_updates, first_order=True)
    return after_each(
        steps, lambda adapted: self.learner.outputs(adapted, episodes.query.inputs))

  def _measured(self, learner: Learner, parameters: Parameters,
                steps: Iterable[Parameters], episodes: Episodes) -> TaskResults:
    """Of `learner`: with `parameters` on the support set, and with the parameters of each
    of `steps` on the query set."""
    def measured(values, batch):
      return self.objective.measured(learner(values, batch.inputs), batch.labels)
    return TaskResults(
        measured(parameters, episodes.support),
        after_each(steps, lambda adapted: measured(adapted, episodes.query)))

  def _cast(self, episodes: Any) -> Episodes:
    given = as_episodes(episodes)
    dtype = self.meta_parameters.dtype
    cast = Episodes.of(*(as_tensors(part, dtype) for batch in given for part in batch))
    require_consistent(cast)
    return cast


def _require_named(step_size: Any, learner: Learner) -> None:
  """Raises: ConfigError: for step sizes by parameter of others than those that adapt."""
  adapted = set(learner.adapted_names)
  if isinstance(step_size, Mapping) and not adapted <= set(step_size) <= {
      spec.name for spec in learner.parameter_specs}:
    raise ConfigError('step_size must be given for each parameter that adapts: '
                      f'{", ".join(sorted(adapted))}. Received: '
                      f'{", ".join(map(str, step_size))}.', 'step_size')


def _number_of(values: tf.Tensor):
  """How many elements: as a number where it is known."""
  known = values.shape.num_elements()
  return tf.cast(tf.size(values), values.dtype) if known is None else known
