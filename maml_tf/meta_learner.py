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
  NamedTuple,
  Optional,
  Sequence,
  Tuple,
)

import numpy as np
import tensorflow as tf

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
from maml_tf.keras_fit import (
  EndWhenNotFinite,
  refuse_weights,
  require_finite_parameters,
  require_finite_steps,
  user_errors,
  with_callback,
)
from maml_tf.keras_models.front import learner_and_objective
from maml_tf.keras_models.objective import KerasObjective, require_probabilities
from maml_tf.keras_models.refusals import missing_derivatives
from maml_tf.learners.base import Learner, Parameters, ParameterSpec
from maml_tf.measures import Measure
from maml_tf.meta_parameters import Extended, MetaParameters
from maml_tf.objectives import of_each_task
from maml_tf.outer_step import (
  GradientStep,
  OuterStep,
  apply_reduced,
  make_state,
  variables_of,
)
from maml_tf.task_groups import TaskGroups, available_cores, task_groups


class TaskResults(NamedTuple):
  """How well each task was solved, by the name of the measure.

  Attributes:
    support: `[tasks]`, on the support set before any update (the TF1 code's 'pre-update'
      values).
    query: `[tasks, updates + 1]`, on the query set before the first update and after
      each one.
  """
  support: Dict[str, tf.Tensor]
  query: Dict[str, tf.Tensor]


class MetaLearner(tf.keras.Model, abc.ABC):
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
    has_inner_loop: whether it adapts parameters to a task, by steps of some size.
    takes_other_ways: whether what it trained adapts to tasks of other ways: a new last layer,
      the same for all classes, does it no harm, or there is none.
    can_clip: whether its outer step follows a gradient, which `gradient_clip` can bound.
    keeps_inner_steps: whether a derivative is taken through them, for which
      `recompute_inner_steps` computes them again.
    outer_step: what a meta-batch changes, see `OuterStep`.
    steps_of_an_execution: `steps_per_execution`, once it is compiled.
  """

  own_arguments: Tuple[str, ...] = ()
  logs_are_summaries: bool = False
  in_graphs = True
  has_inner_loop = True
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
    # Keras casts what `call` gets to this type.
    super().__init__(dtype=dtype if parameters is None else parameters.dtype)
    self.learner = learner
    self.objective = objective
    self.meta_parameters = (MetaParameters(learner, seed, dtype, own_specs)
                            if parameters is None else parameters)
    self.built = True
    # What a step logs is the mean over all replicas, in each of them: Keras 2 adds that up.
    self.distribute_reduction_method = 'first'
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
    in_a_graph = self.learner.one_task_at_a_time
    self._gradients_in_groups = InGroups(self._group_gradient, in_a_graph)
    self._results_in_groups = InGroups(self._group_results, in_a_graph)
    self._outputs_in_groups = InGroups(self._group_outputs, in_a_graph)
    self._means: Dict[str, tf.keras.metrics.Mean] = {}

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

  @property
  def diverged(self) -> tf.Variable:
    """Whether a step met a loss or gradient that is not finite."""
    return self.outer_step.diverged

  @property
  def latest_loss(self) -> tf.Variable:
    """Of that step, or else of the latest one."""
    return self.outer_step.latest_loss

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

  def compile(self, optimizer, loss: None = None, metrics: Optional[Sequence] = None, *,
              jit_compile: bool = False, steps_per_execution: int = 1,
              run_eagerly: bool = False, **others) -> None:
    """As in Keras; the optimizer's state exists from here on.

    Args:
      optimizer: of the outer step.
      loss: none, as the meta-learner was made with one.
      metrics: of Keras, for a task, where the loss is one of Keras, too.
      jit_compile: compile by XLA. Never chosen by Keras: max-pooling has a wrong second
        derivative there.
      steps_per_execution, run_eagerly: as in Keras.

    Raises:
      ConfigError: for a loss, or metrics beside an `Objective`, which is in their place;
        for XLA and a learner that is not exact under it.
    """
    if isinstance(self.objective, KerasObjective) and metrics is not None:
      self.objective = self.objective.with_metrics(metrics)
      metrics = None
    _refuse(dict(loss=loss, metrics=metrics, **others))
    self.steps_of_an_execution = steps_per_execution
    if jit_compile and not self.learner.exact_under_xla:
      raise ConfigError(
          f'jit_compile={jit_compile} is not possible with a {type(self.learner).__name__} '
          'that does not say that it is exact under XLA (exact_under_xla): leave it out. A '
          'Convolutional with max-pooling is exact with compiled_by_xla=True.')
    self._forget_graphs()   # a method may read how many steps the optimizer made
    super().compile(optimizer=optimizer, jit_compile=bool(jit_compile),
                    steps_per_execution=steps_per_execution, run_eagerly=run_eagerly)
    make_state(self.optimizer, self.trainable_variables)

  def fit(self, *arguments, **kwargs):
    """As in Keras, of meta-batches.

    Raises:
      NotFiniteError: behind an epoch in which a loss or a meta-gradient was not finite; the
        variables are those before it, and a further `fit` goes on from there.
    """
    self.diverged.assign(False)
    fit = super().fit
    refuse_weights(fit, arguments, kwargs)
    given = with_callback(fit, arguments, kwargs, EndWhenNotFinite())
    with user_errors():
      history = fit(*given.args, **given.kwargs)
    require_finite_steps(self)
    return history

  def evaluate(self, *arguments, **kwargs):
    """As in Keras, of meta-batches."""
    evaluate = super().evaluate
    refuse_weights(evaluate, arguments, kwargs)
    try:
      with user_errors():
        return evaluate(*arguments, **kwargs)
    except BaseException:
      # The means are made in the first call of its graph, which a second one may not do.
      self.test_function = None
      raise

  def predict(self, *_, **__) -> None:
    """Raises: ConfigError: there is a net for each task."""
    raise ConfigError(
        f'A {type(self).__name__} predicts nothing before it is adapted to a task: '
        'adapt(support_inputs, support_labels).predict(inputs), or of many tasks '
        'adapted_outputs(tasks, num_updates).' if self.has_inner_loop else
        f'A {type(self).__name__} predicts nothing without a support set: take '
        'adapted_outputs(tasks), the logits of the query examples.')

  def predict_on_batch(self, *_, **__) -> None:
    """Raises: ConfigError: as `predict` does."""
    self.predict()

  def train_on_batch(self, *arguments, return_dict: bool = False, **kwargs):
    """As in Keras, of a meta-batch: the loss, or a list with the loss first.

    Raises:
      NotFiniteError: where the loss or the meta-gradient is not finite; nothing was changed,
        and a further call goes on from there.
    """
    self.diverged.assign(False)
    with user_errors():
      logs = super().train_on_batch(*arguments, return_dict=True, **kwargs)
    require_finite_steps(self)
    if return_dict:
      return logs
    # Keras sorts those whose means no evaluation has made yet: accuracy would be the first.
    values = [logs[name] for name in self._all_in_order(logs)]
    return values if len(values) > 1 else values[0]

  def test_on_batch(self, *arguments, **kwargs):
    """As in Keras, of a meta-batch."""
    with user_errors():
      return super().test_on_batch(*arguments, **kwargs)

  def get_config(self) -> Dict[str, Any]:
    """Its name alone, as it is not saved as one model: Keras's would warn at every
    `save_weights`."""
    return {'name': self.name}

  def save(self, *_, **__) -> None:
    """Raises: ConfigError: what Keras would write could not be loaded."""
    raise ConfigError(
        f'A {type(self).__name__} cannot be saved as one model, since it could not be loaded '
        'again: save its net (model.save), or its variables (save_weights; of ModelCheckpoint '
        'save_weights_only=True).')

  def export(self, *_, **__) -> None:
    """Raises: ConfigError: what Keras would write is not adapted to any task."""
    in_python = ('export the Keras model that adapt(...) makes for a task; '
                 if self.has_inner_loop else '')
    raise ConfigError(
        f'A {type(self).__name__} as such is not exported, since it belongs to no task: '
        f'{in_python}runs of the command line are exported by python -m maml_tf.export.')

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
    return ({name: tf.reduce_mean(measured[name]) for name in self._all_in_order(measured)},
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

  @tf.autograph.experimental.do_not_convert
  def test_step(self, episodes: Any) -> Dict[str, tf.Tensor]:
    """The mean over tasks of everything in `TaskResults`, named as in the TF1 code."""
    results = self.task_results(episodes, self._num_updates)
    keras = isinstance(self.objective, KerasObjective)
    # The last meta-batch may have fewer tasks than the others, and so a replica of it none,
    # and no mean.
    tasks = tf.shape(next(iter(results.query.values())))[0]
    for name, value in (plainly_named_means if keras else named_means)(results).items():
      if name not in self._means:
        self._means[name] = tf.keras.metrics.Mean(name=name,
                                                  dtype=self.meta_parameters.dtype)
      self._means[name].update_state(tf.where(tasks > 0, value, 0), sample_weight=tasks)
    return {name: mean.result() for name, mean in self._means.items()}

  @property
  def metrics(self) -> List[tf.keras.metrics.Metric]:
    return list(self._means.values())

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
    return TaskResults(*({name: merged(values[name]) for name in self._in_order(values)}
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
        names=self.learner.adapted_names, num_updates=num_updates, first_order=first_order,
        recompute=self._recompute_inner_steps)

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

  def _in_order(self, measured: Mapping[str, Any]) -> List[str]:
    """The names, in the objective's order, which a graph does not keep."""
    return [measure.name for measure in self.objective.measures if measure.name in measured]

  def _all_in_order(self, measured: Mapping[str, Any]) -> List[str]:
    """And behind them those that are none of its measures."""
    return list(dict.fromkeys([*self._in_order(measured), *sorted(measured)]))

  def _cast(self, episodes: Any) -> Episodes:
    given = as_episodes(episodes)
    dtype = self.meta_parameters.dtype
    cast = Episodes.of(*(as_tensors(part, dtype) for batch in given for part in batch))
    require_consistent(cast)
    return cast


def require_updates(number: Any, least: int = 0) -> int:
  """Raises: ConfigError: for what is no number of updates, or fewer than `least`."""
  return require_count('num_updates', number, least)


def require_count(name: str, number: Any, least: int = 0) -> int:
  """Raises: ConfigError: where an argument is no integer, or below `least`."""
  if not is_integer(number) or number < least:
    raise ConfigError(f'{name} must be an integer, {least} or more. Received: {number!r}.',
                      name)
  return int(number)


def is_integer(value: Any) -> bool:
  return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _require_named(step_size: Any, learner: Learner) -> None:
  """Raises: ConfigError: for step sizes by parameter of others than those that adapt."""
  adapted = set(learner.adapted_names)
  if isinstance(step_size, Mapping) and not adapted <= set(step_size) <= {
      spec.name for spec in learner.parameter_specs}:
    raise ConfigError('step_size must be given for each parameter that adapts: '
                      f'{", ".join(sorted(adapted))}. Received: '
                      f'{", ".join(map(str, step_size))}.', 'step_size')


def named_means(results: TaskResults) -> Dict[str, tf.Tensor]:
  """{name: mean over tasks}, under the TF1 code's names without their prefix.

  'Pre-update' is the support set before any update, 'Post-update ..., step J' the
  query set after J updates. 'Query ... before update' is new here.
  """
  means = {f'Pre-update_{name}': tf.reduce_mean(values)
           for name, values in results.support.items()}
  for name, values in results.query.items():
    by_step = tf.unstack(tf.reduce_mean(values, axis=0))
    means[f'Query_{name}_before_update'] = by_step[0]
    # The TF1 code wrote 'Post-update loss, step 1'; TensorBoard showed this.
    means.update({f'Post-update_{name}__step_{step}': value
                  for step, value in enumerate(by_step) if step > 0})
  return means


def plainly_named_means(results: TaskResults) -> Dict[str, tf.Tensor]:
  """As in `named_means`, of the query set alone: 'loss' after the last update, as Keras
  names it, and 'loss_before_update'."""
  means = {name: tf.reduce_mean(values[:, -1]) for name, values in results.query.items()}
  means.update({f'{name}_before_update': tf.reduce_mean(values[:, 0])
                for name, values in results.query.items()})
  return means


def _number_of(values: tf.Tensor):
  """How many elements: as a number where it is known."""
  known = values.shape.num_elements()
  return tf.cast(tf.size(values), values.dtype) if known is None else known


def _refuse(arguments: Mapping[str, Any]) -> None:
  given = [name for name, value in arguments.items() if value is not None]
  if given:
    raise ConfigError(
        f'compile() has no {", ".join(given)}: what a task minimises and is judged by is '
        'what the meta-learner was made with, MAML(model, loss). A loss of Keras goes with '
        'metrics here; of an Objective they are its own (measures).', given[0])
