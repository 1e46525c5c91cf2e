"""A Keras model as a pure function of its variables' values."""

from __future__ import annotations

import collections
import weakref
from typing import (
  Any,
  Callable,
  Dict,
  List,
  Mapping,
  NamedTuple,
  Optional,
  Sequence,
  Tuple,
)

import numpy as np
import tensorflow as tf

from maml_tf.episodes import Batch, Episodes, num_tasks
from maml_tf.errors import ConfigError
from maml_tf.inner_loop import copies_per_task
from maml_tf.keras_models import (
  batch_statistics,
  copies,
  randomness,
  refusals,
  under_xla,
)
from maml_tf.keras_models.adapted_layers import Adapted, adapted_names
from maml_tf.keras_models.inner_layers import layers_of
from maml_tf.keras_models.parameters import ModelParameters, names_of
from maml_tf.keras_models.pure_model import PureModel
from maml_tf.learners.base import Learner, Parameters, ParameterSpec
from maml_tf.outer_step import raw
from maml_tf.replicas import replica_number


class ModelOutputs(NamedTuple):
  """What a model gives for each task.

  Attributes:
    outputs: of its last layers, `[tasks, examples, ...]` or a nest.
    added: `[tasks]`: the sum of what it adds to the loss: regularisers, `add_loss`.
    masks: flat list for the outputs: `[tasks, ...]` of booleans, or None.
    logits: flat list: what an output is the softmax or sigmoid of, or None.
  """
  outputs: Any
  added: tf.Tensor
  masks: List[Optional[tf.Tensor]]
  logits: Sequence[Optional[tf.Tensor]] = ()


class KerasLearner(Learner):
  """A built Keras model of any kind; theta are its own trainable variables.

  Non-trainable state is never written. Batch normalisation goes by `statistics`; dropout
  and noise act in `fit` alone (see `randomness`); everything else is a constant, and what
  a call assigns to it is forgotten behind the call.

  Args:
    model: built, its variables of float32 or float64 (also under 'mixed_bfloat16').
    adapt: what the inner loop changes, the rest being meta-learned only; None: all
      trainable variables. A pattern ('head*') or patterns, of names of variables or
      layers; a layer or layers; a function of a variable, or of a layer, which is asked
      where it fits no variable.
    statistics: of batch normalisation, see `batch_statistics`.
    names: of variables, in their order.

  Raises:
    ConfigError: for a model that cannot be adapted, or an `adapt` that fits nothing.

  Example:
    >>> import tensorflow as tf
    >>> model = tf.keras.Sequential([tf.keras.layers.Dense(4, activation='relu'),
    ...                              tf.keras.layers.Dense(1, name='head')])
    >>> _ = model(tf.zeros([1, 2]))
    >>> len(KerasLearner(model, adapt='head').adapted_names)
    2
  """

  one_task_at_a_time = True

  def __init__(self, model: tf.keras.Model, adapt: Adapted = None,
               statistics: str = 'batch',
               names: Callable[[List], List[str]] = names_of):
    _require_usable(model)
    if statistics not in batch_statistics.STATISTICS:
      raise ConfigError(f'statistics must be one of {batch_statistics.STATISTICS}. '
                        f'Received: {statistics!r}.')
    self.model = model
    self._layers = layers_of(model)
    if statistics == 'batch':
      batch_statistics.refuse_renormalisation(self._layers)
    self._variables = dict(zip(names(model.trainable_variables),
                               model.trainable_variables))
    adapted = adapted_names(self._variables, self._layers, adapt)
    self.adapts_all = adapt is None
    self._specs = tuple(
        ParameterSpec(name, tuple(variable.shape), _no_initializer, name in adapted)
        for name, variable in self._variables.items())
    self._pure = PureModel(model, self._layers, self._variables, statistics)
    self._in_graph = tf.function(self._of_task, autograph=False)
    self._statistics_in_graph = tf.function(self._pure.support_statistics, autograph=False)
    self._outputs_in_graph = tf.function(self._pure.with_statistics, autograph=False)
    self._checked: set = set()
    self._checked_losses: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
    self._passes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

  @property
  def parameter_specs(self) -> Tuple[ParameterSpec, ...]:
    return self._specs

  @property
  def exact_under_xla(self) -> bool:
    """See `under_xla`."""
    return under_xla.is_exact(self.model, self._layers)

  @property
  def is_random(self) -> bool:
    """Whether it draws random numbers in training."""
    return any(randomness.is_random(layer) for layer in self._layers)

  def initial_values(self, seed: int, dtype: str = 'float32') -> Dict[str, np.ndarray]:
    """The model's own, whatever the seed."""
    return {name: np.asarray(variable) for name, variable in self._variables.items()}

  def own_parameters(self) -> ModelParameters:
    return ModelParameters(self.model, list(self._variables))

  def in_training(self, episodes: Episodes, seed: int, iteration: tf.Tensor) -> Episodes:
    start = tf.constant([seed % 2**31, seed // 2**31 % 2**31], tf.int32)
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return randomness.seeded(episodes, randomness.fold_in(start, iteration), replica)

  def __call__(self, parameters: Mapping[str, tf.Tensor], inputs: Any) -> ModelOutputs:
    """As in `Learner`. Each task's examples are a batch of their own."""
    tasks = num_tasks(inputs)
    if tasks is None:
      raise ConfigError('A Keras model needs to know the number of tasks that are computed '
                        'in one graph. Received inputs with None tasks.')
    if isinstance(inputs, randomness.Seeded):
      inputs = randomness.of_pass(inputs, self._next_pass())
    results = []
    for task in range(tasks):
      values = {spec.name: _of_one_task(parameters[spec.name], spec, task)
                for spec in self._specs}
      results.append(self._call(values, *randomness.unseeded(
          tf.nest.map_structure(lambda value, task=task: value[task], inputs))))
    return tf.nest.map_structure(
        lambda *of_tasks: None if of_tasks[0] is None else tf.stack(of_tasks), *results)

  def outputs(self, parameters: Mapping[str, tf.Tensor], inputs: Any) -> Any:
    return self(parameters, inputs).outputs

  def check(self, task_loss, batch: Batch, first_order: bool) -> None:
    """Refuses what is not exact, or not adapted at all, before it is computed.

    Args:
      task_loss: (parameters, batch) -> `[tasks]`.
      batch: of support sets.
      first_order: no second derivative is wanted.

    Raises:
      ConfigError: with the operation or the variable that is in the way.
    """
    specs = tf.nest.map_structure(
        lambda value: tf.TensorSpec([1, *value.shape[1:]], value.dtype), batch)
    key = (first_order, *tf.nest.flatten(specs))
    # Not the method itself, which would keep its meta-learner.
    owner = getattr(task_loss, '__self__', task_loss)
    checked = self._checked_losses.setdefault(owner, set())
    if key not in checked:
      graph = tf.function(self._inner_gradient(task_loss), autograph=False)
      with refusals.missing_derivatives():
        traced = graph.get_concrete_function(self._value_specs(), specs)
      weights = {id(raw(variable)) for variable in self._variables.values()}
      refusals.refuse_captured([variable for variable in traced.graph.variables
                                if id(variable) in weights], self.model)
      if not first_order:
        refusals.refuse_inexact(traced.graph)
      checked.add(key)

  def as_model(self, values: Parameters, inputs: Any, into: Optional[tf.keras.Model]
               ) -> tf.keras.Model:
    """A copy of the model, with `values`, whose batch normalisation has the statistics of
    `inputs` as its moving averages.

    Args:
      values: {name: `shape`}.
      inputs: of the support set, nest of `[examples, ...]`.
      into: a model of the same layers, to be filled; None: a new one.
    """
    copy = copies.copy_of(self.model, inputs) if into is None else into
    copies.freeze_as(copy, self.model)
    copies.require_same(self.model, copy)
    statistics = {}
    if self._pure.has_statistics(inputs):
      statistics = self._statistics_in_graph(values, self._pure.state(), inputs)
    copies.fill(copy, self.model, list(values.values()), statistics)
    if into is None:
      expected = self._outputs_in_graph(values, self._pure.state(), statistics, inputs)
      copies.require_same_outputs(copy, self.model, inputs, expected)
    return copy

  def support_statistics(self, values: Parameters, inputs: Any) -> Dict[str, tf.Tensor]:
    """{index among the model's weights: value} of batch normalisation's moving averages, as
    the support set's statistics; in a graph. Arguments as of `as_model`."""
    if not self._pure.has_statistics(inputs):
      return {}
    return self._pure.support_statistics(values, self._pure.state(), inputs)

  def with_statistics(self, values: Parameters, statistics: Mapping[str, tf.Tensor],
                      inputs: Any) -> Any:
    """The outputs for `[examples, ...]` with such moving averages; in a graph."""
    return self._in_full(
        self._pure.with_statistics(values, self._pure.state(), statistics, inputs))

  def _call(self, values: Parameters, inputs: Any, seed) -> ModelOutputs:
    given = values, self._pure.state(), inputs, seed
    self._require_no_captures(*given)
    return self._in_graph(*given) if tf.executing_eagerly() else self._of_task(*given)

  def _of_task(self, values: Parameters, state: List[tf.Tensor], inputs: Any, seed
               ) -> ModelOutputs:
    return self._pure(values, state, inputs, seed, self._as_outputs)

  def _as_outputs(self, outputs: Any, read) -> ModelOutputs:
    dtype = self._specs_dtype()
    masks = [getattr(value, '_keras_mask', None) for value in tf.nest.flatten(outputs)]
    logits = [None if one is None else tf.cast(one, dtype)
              for one in map(_logits_of, tf.nest.flatten(outputs))]
    added = [tf.cast(tf.reduce_sum(loss), dtype) for loss in self.model.losses]
    return ModelOutputs(self._in_full(outputs), tf.add_n([tf.zeros([], dtype), *added]), masks,
                        logits)

  def _in_full(self, outputs: Any) -> Any:
    """In the type of the variables, which layers under 'mixed_bfloat16' do not give."""
    dtype = self._specs_dtype()
    return tf.nest.map_structure(
        lambda value: tf.cast(value, dtype) if value.dtype.is_floating else value, outputs)

  def _require_no_captures(self, *given: Any) -> None:
    """Args: given: the arguments of `_of_task`."""
    specs = tf.nest.map_structure(
        lambda value: None if value is None else tf.TensorSpec(value.shape, value.dtype),
        given)
    key = tuple(tf.nest.flatten(specs))
    if key not in self._checked:
      traced = tf.function(self._of_task, autograph=False).get_concrete_function(*specs)
      refusals.refuse_captured(traced.graph.variables, self.model)
      self._checked.add(key)

  def _inner_gradient(self, task_loss):
    names = self.adapted_names

    def gradient(values, batch):
      fast = copies_per_task({name: values[name] for name in names}, batch)
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(fast)
        loss = task_loss({**values, **fast}, batch)
      gradients = tape.gradient(loss, list(fast.values()))
      refusals.refuse_unconnected(gradients, self.model)
      return [value for value in gradients if value is not None]
    return gradient

  def _value_specs(self) -> Dict[str, tf.TensorSpec]:
    return {spec.name: tf.TensorSpec(spec.shape, self._variables[spec.name].dtype)
            for spec in self._specs}

  def _specs_dtype(self) -> tf.DType:
    return tf.as_dtype(self.model.trainable_variables[0].dtype)

  def _next_pass(self) -> int:
    """Another number for each pass that a graph makes; in a second trace the same again, and
    in each of the replicas that share a graph."""
    graph = tf.compat.v1.get_default_graph()
    passes = self._passes.setdefault(graph, collections.Counter())
    replica = replica_number()
    passes[replica] += 1
    return passes[replica]


def is_chosen(learner: Any) -> bool:
  """Whether it is a Keras model of which somebody chose what adapts."""
  return isinstance(learner, KerasLearner) and not learner.adapts_all


def _of_one_task(value: tf.Tensor, spec: ParameterSpec, task: int) -> tf.Tensor:
  return value if value.shape.rank == len(spec.shape) else value[task]


def _logits_of(output: tf.Tensor) -> Optional[tf.Tensor]:
  """In a graph. Keras remembers them where they were made by an activation of a layer."""
  of_operation = output.op.inputs[0] if output.op.type in ('Softmax', 'Sigmoid') else None
  return getattr(output, '_keras_logits', of_operation)


def _no_initializer(_: int):
  raise ConfigError('A Keras model has its own initial values.')


def _require_usable(model: tf.keras.Model) -> None:
  if not model.built:
    raise ConfigError(f'The model {model.name!r} has no variables yet: call it once on a '
                      'batch of inputs, or model.build(input_shape).')
  variables = model.trainable_variables
  if not variables:
    raise ConfigError(f'The model {model.name!r} has no trainable variables: nothing can '
                      'adapt. Set layer.trainable = True for some.')
  dtypes = sorted({tf.as_dtype(variable.dtype).name for variable in variables})
  if dtypes not in (['float32'], ['float64']):
    raise ConfigError(f'The trainable variables of {model.name!r} must be all of float32 or '
                      f'all of float64. Received: {", ".join(dtypes)}.')
  if any(getattr(layer, 'compute_dtype', None) == 'float16' for layer in layers_of(model)):
    raise ConfigError('In float16 an inner loop\'s gradients become 0, since their loss is '
                      'not scaled: use the policy mixed_bfloat16. Received: '
                      f'{model.name!r} with compute_dtype float16.')
