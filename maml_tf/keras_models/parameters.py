"""The initialisation, where it is the variables of a Keras model."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Sequence

import numpy as np
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.learners.base import Parameters
from maml_tf.meta_parameters import counted_from_0, require_shapes


class ModelParameters(tf.keras.layers.Layer):
  """As `MetaParameters`, of a model's own variables: training changes the model.

  Args:
    model: built.
    names: of its trainable variables, in their order.

  Raises:
    ConfigError: on use, once other variables of the model are trainable.
  """

  def __init__(self, model: tf.keras.Model, names: Sequence[str]):
    variables = model.trainable_variables
    super().__init__(name='parameters', dtype=tf.as_dtype(variables[0].dtype).name)
    self.model = model
    self._names = tuple(names)
    self._identities = tuple(map(id, variables))
    self.built = True

  def tensors(self) -> Parameters:
    return {name: tf.convert_to_tensor(variable) for name, variable in self._items()}

  def arrays(self) -> Dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in self._items()}

  def variables_in_order(self, names) -> List:
    by_name = dict(self._items())
    return [by_name[name] for name in names]

  def assign(self, values: Mapping[str, np.ndarray]) -> None:
    """Raises: ValueError: when names or shapes differ from the model's."""
    require_shapes(values, dict(self._items()), 'Values do not fit the model')
    for name, variable in self._items():
      variable.assign(values[name])

  def _items(self):
    variables = self.model.trainable_variables
    if tuple(map(id, variables)) != self._identities:
      raise ConfigError(
          f'The trainable variables of {self.model.name!r} are other ones than when the '
          f'meta-learner was made. Received: {", ".join(names_of(variables))}; expected: '
          f'{", ".join(self._names)}. Freeze or add layers first, and make a new one of it '
          'then.')
    return zip(self._names, variables)


def names_of(variables: Iterable[Any]) -> List[str]:
  """Their paths, in Keras 2 their names; what two share is numbered."""
  names: List[str] = []
  for variable in variables:
    path = getattr(variable, 'path', None) or variable.name.split(':')[0]
    number = sum(name.split('#')[0] == path for name in names)
    names.append(f'{path}#{number}' if number else path)
  return names


def names_counted_from_0(variables: Iterable[Any]) -> List[str]:
  """`names_of`, without the layers that Keras numbered before: the same for a model that is
  built a second time in a process."""
  return counted_from_0(names_of(variables))
