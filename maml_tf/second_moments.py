"""What Adam remembers between the inner steps of one meta-batch and those of the next."""

from __future__ import annotations

from typing import Dict, Mapping, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.inner_optimizers import AdamState
from maml_tf.meta_parameters import attribute_names
from maml_tf.outer_step import assign, raw

_MOMENT = 'second_moment/'
_STEPS = 'inner_steps'


class SecondMoments(tf.keras.layers.Layer):
  """What Adam with beta_1 = 0 remembers, as variables.

  Args:
    shapes: {parameter: shape}.
    dtype: of the parameters.
    are_counted: see `attribute_names`.
  """

  def __init__(self, shapes: Mapping[str, Tuple[int, ...]], dtype: str,
               are_counted: bool = False):
    super().__init__(name='second_moments', dtype=dtype, trainable=False)
    names = attribute_names(shapes, self, are_counted)
    self._variables_by_name = {_MOMENT + name: self._new(names[name], shape, dtype)
                               for name, shape in shapes.items()}
    self._variables_by_name[_STEPS] = self._new('steps', (), dtype)
    attributes = attribute_names(self._variables_by_name, self, are_counted)
    for name, variable in self._variables_by_name.items():
      # In Keras 3 a checkpoint holds attributes only, and not what is in a dictionary.
      setattr(self, attributes[name], variable)
    self.built = True

  def state(self) -> AdamState:
    values = {name: tf.convert_to_tensor(value)
              for name, value in self._variables_by_name.items()}
    steps = values.pop(_STEPS)
    return AdamState({name[len(_MOMENT):]: value for name, value in values.items()}, steps)

  def arrays(self) -> Dict[str, np.ndarray]:
    """{name: current value}, as arrays."""
    return {name: variable.numpy() for name, variable in self._variables_by_name.items()}

  def assign(self, values: Mapping[str, np.ndarray]) -> None:
    """Sets every variable.

    Raises:
      ValueError: when a name is missing or left over, or a shape differs.
    """
    if values.keys() != self._variables_by_name.keys():
      raise ValueError(f'Second moments do not fit the net. Received: {sorted(values)}; '
                       f'expected: {sorted(self._variables_by_name)}.')
    for name, variable in self._variables_by_name.items():
      variable.assign(values[name])

  def move(self, changes: Mapping[str, tf.Tensor]) -> None:
    """Subtracts the mean over tasks of (before - after), which `changes` has among others."""
    assign((raw(variable), variable - changes[name])
           for name, variable in self._variables_by_name.items())

  def _new(self, name: str, shape: Tuple[int, ...], dtype: str):
    return self.add_weight(name=name, shape=shape, dtype=dtype, trainable=False,
                           initializer=tf.keras.initializers.Zeros())


def named(state: AdamState) -> Dict[str, tf.Tensor]:
  """{name that its variable has in `SecondMoments`: value}."""
  return {**{_MOMENT + name: value for name, value in state.moments.items()},
          _STEPS: state.steps}
