"""A Keras model as a pure function of all its variables' values."""

from __future__ import annotations

import itertools
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import tensorflow as tf

from maml_tf.keras_models import batch_statistics, copies, randomness, refusals
from maml_tf.keras_models.exact_forms import exact
from maml_tf.keras_models.functional_call import replaced
from maml_tf.keras_models.inner_layers import attributes
from maml_tf.keras_models.own_derivatives import Reads
from maml_tf.learners.base import Parameters


class PureModel:
  """A Keras model as a function of the values of its variables, none of which is written.

  Args:
    model: built.
    layers: all of its layers, see `layers_of`.
    variables: {name: trainable variable}; of a call's `values`.
    statistics: of batch normalisation, see `batch_statistics`.
  """

  def __init__(self, model: tf.keras.Model, layers: List,
               variables: Mapping[str, tf.Variable], statistics: str):
    self._model, self._layers, self._variables = model, layers, variables
    self._statistics = statistics
    self._others = [variable for variable in model.variables if copies.is_variable(variable)
                    and not any(variable is one for one in model.trainable_variables)]
    self._averaging: Optional[Tuple[List, List]] = None

  def state(self) -> List[tf.Tensor]:
    """The values of the variables that are not trainable, as they are now."""
    return [tf.convert_to_tensor(variable) for variable in self._others]

  def __call__(self, values: Parameters, state: List[tf.Tensor], inputs: Any, seed,
               result: Callable, statistics: Optional[str] = None):
    """`result(outputs of the model, read)`, see `replaced`.

    Args:
      values: {name: value} of the trainable variables.
      state: of the others, as of `state`.
      inputs: nest of `[examples, ...]`.
      seed: of what training draws, `[2]`; None: inference.
      statistics: in place of its own.
    """
    pairs = [(variable, tf.cast(values[name], variable.dtype))
             for name, variable in self._variables.items()]
    given = [value for _, value in pairs]
    state = {id(variable): (variable, value)
             for variable, value in zip(self._others, state)}
    own, _ = self._that_average(inputs)
    # Not looked at before `attributes` does, since another thread may have changed them.
    changes = batch_statistics.in_mode(self._layers, statistics or self._statistics, own)
    if seed is not None:
      changes = itertools.chain(changes, randomness.generators(self._layers, seed))
      state.update({id(variable): (variable, value) for variable, value
                    in randomness.seed_states(self._others, seed)})
    reads = Reads()
    changes = itertools.chain(changes, reads.changes())
    with exact(), attributes(changes), (
        replaced([*pairs, *state.values()], reads.on_read)) as read:
      # Within the call of another layer Keras 2 keeps those of the passes, and graphs, before.
      self._model._clear_losses()
      outputs = self._model(inputs, training=seed is not None)
      refusals.refuse_without_derivative(
          [name for name, variable in self._variables.items() if id(variable) in reads.found],
          self._model)
      refusals.refuse_assigned(
          [name for (name, variable), value in zip(self._variables.items(), given)
           if read(variable) is not value], self._model)
      return result(outputs, read)

  def with_statistics(self, values: Parameters, state: List[tf.Tensor],
                      statistics: Mapping[str, tf.Tensor], inputs: Any) -> Any:
    """The outputs with such moving averages, as of `support_statistics`."""
    places = {id(variable): str(index) for index, variable in enumerate(self._model.weights)}
    state = [statistics.get(places.get(id(variable)), value)
             for variable, value in zip(self._others, state)]
    return self(values, state, inputs, None, lambda outputs, _: outputs,
                statistics='moving' if statistics else self._statistics)

  def support_statistics(self, values: Parameters, state: List[tf.Tensor], inputs: Any
                         ) -> Dict[str, tf.Tensor]:
    """{index among the model's weights: value} of moving averages, as those of `inputs`."""
    own = {id(variable) for variable in self._that_average(inputs)[1]}
    moving = own.union(batch_statistics.moving_averages(self._layers))
    places = {str(index): variable for index, variable in enumerate(self._model.weights)
              if id(variable) in moving}

    def after(start: float) -> Dict[str, tf.Tensor]:
      """The values behind a pass from averages of one's own that are all `start`."""
      changed = [tf.fill(variable.shape, tf.cast(start, value.dtype))
                 if id(variable) in own else value
                 for variable, value in zip(self._others, state)]
      with attributes(batch_statistics.without_memory(self._layers)), (
          batch_statistics.warning_of_several_places(self._layers)):
        return self(values, changed, inputs, None, lambda _, read: {
            index: read(variable) for index, variable in places.items()})
    found = after(0.0)
    if own:
      # Of a x + b the value that it keeps, b / (1 - a): whatever the layer's momentum is.
      from_1, before = after(1.0), {id(variable): value
                                    for variable, value in zip(self._others, state)}
      for index, variable in places.items():
        if id(variable) in own:
          share = 1 - (from_1[index] - found[index])
          found[index] = tf.where(share == 0, before[id(variable)],
                                  tf.math.divide_no_nan(found[index], share))
    return found

  def has_statistics(self, inputs: Any) -> bool:
    """Whether its outputs for one example depend on the others'."""
    return self._statistics == 'batch' and bool(
        batch_statistics.normalisations(self._layers) or self._that_average(inputs)[0])

  def _that_average(self, inputs: Any) -> Tuple[List, List]:
    """(layers of somebody's own that do as batch normalisation does, their averages): in
    training they assign to what inference reads. Their mode is that of `statistics`, or
    `fit` would train another function than all else computes.

    Args:
      inputs: of the model, nest of `[examples, ...]`.
    """
    if self._averaging is None:
      self._averaging = [], []   # within this call
      may = batch_statistics.may_average(self._layers)
      if may:
        self._averaging = self._found_to_average(may, inputs)
    return self._averaging

  def _found_to_average(self, may: List, inputs: Any) -> Tuple[List, List]:
    known = batch_statistics.moving_averages(self._layers)
    wanted = [variable for variable in self._others if id(variable) not in known and any(
        variable is one for layer in may for one in layer.non_trainable_variables)]
    found: List = []

    def assigned(outputs, read):
      found.extend(variable for variable, value in zip(self._others, state)
                   if read(variable) is not value and any(variable is one for one in wanted))
      return outputs

    def probed(inputs):
      # Of no variable: it would be read by the graph around this one.
      state.extend(tf.zeros(variable.shape, variable.dtype) for variable in self._others)
      values = {name: tf.zeros(variable.shape, variable.dtype)
                for name, variable in self._variables.items()}
      return self(values, state, inputs, tf.constant([0, 0], tf.int32), assigned)
    state: List[tf.Tensor] = []
    tf.function(probed, autograph=False).get_concrete_function(tf.nest.map_structure(
        lambda value: tf.TensorSpec(value.shape, value.dtype), inputs))
    return batch_statistics.owners(may, found), found
