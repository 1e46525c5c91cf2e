"""The variables of a learner's initialisation."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.learners.base import Learner, Parameters, ParameterSpec, drawn


class MetaParameters(tf.keras.layers.Layer):
  """The variables of a learner's initialisation, theta.

  A layer of its own, so that two phases of training can share them.

  Args:
    learner: the net whose parameters these are.
    seed: of the initial values.
    dtype: 'float32' or 'float64'.
    own_specs: what a method learns beside them.
    are_counted: see `attribute_names`.
  """

  def __init__(self, learner: Learner, seed: int = 0, dtype: str = 'float32',
               own_specs: Sequence[ParameterSpec] = (), are_counted: bool = False):
    specs = learner.parameter_specs
    initial = {**learner.initial_values(seed, dtype),
               **drawn(own_specs, seed, dtype, first=len(specs))}
    super().__init__(name='parameters', dtype=dtype)
    attributes = attribute_names(initial, self, are_counted)
    self._by_name = {
        spec.name: self.add_weight(
            name=attributes[spec.name], shape=spec.shape, dtype=dtype,
            initializer=tf.keras.initializers.Zeros(), trainable=True)
        for spec in (*specs, *own_specs)}
    for name, variable in self._by_name.items():
      # In Keras 3 a checkpoint holds attributes only, and not what is in a dictionary.
      setattr(self, attributes[name], variable)
    self.built = True
    self.assign(initial)

  def tensors(self) -> Parameters:
    """{name: current value}, as tensors."""
    return {name: tf.convert_to_tensor(value) for name, value in self._by_name.items()}

  def arrays(self) -> Dict[str, np.ndarray]:
    """{name: current value}, as arrays."""
    return {name: value.numpy() for name, value in self._by_name.items()}

  def variables_in_order(self, names) -> List:
    return [self._by_name[name] for name in names]

  def assign(self, values: Mapping[str, np.ndarray]) -> None:
    """Sets every parameter.

    Raises:
      ValueError: when names or shapes differ from the learner's.
    """
    require_shapes(values, self._by_name)
    for name, variable in self._by_name.items():
      variable.assign(values[name])


class Extended(tf.keras.layers.Layer):
  """The variables of a Keras model, and what a method learns beside them, as one.

  Args:
    of_model: `ModelParameters`, or what else is like `MetaParameters`.
    own_specs: of the others.
    seed: of their initial values.

  Raises:
    ConfigError: where one of the model has the name of one of the others.
  """

  def __init__(self, of_model: Any, own_specs: Sequence[ParameterSpec], seed: int):
    super().__init__(name='parameters', dtype=of_model.dtype)
    self.of_model = of_model
    self.own = MetaParameters(NoNet(), seed, of_model.dtype, own_specs, are_counted=True)
    taken = sorted(set(of_model.tensors()) & set(self.own.tensors()))
    if taken:
      raise ConfigError(
          f'The model has variables of the names {", ".join(taken)}, which the method has for '
          'what it learns itself: give these layers of the model other names.')
    self.built = True

  def tensors(self) -> Parameters:
    return {**self.of_model.tensors(), **self.own.tensors()}

  def arrays(self) -> Dict[str, np.ndarray]:
    return {**self.of_model.arrays(), **self.own.arrays()}

  def variables_in_order(self, names) -> List:
    own = self.own.tensors()
    return [(self.own if name in own else self.of_model).variables_in_order([name])[0]
            for name in names]

  def assign(self, values: Mapping[str, np.ndarray]) -> None:
    """Raises: ValueError: when names or shapes differ from the model's and the method's."""
    require_shapes(values, self.tensors())
    own = self.own.tensors()
    self.own.assign({name: values[name] for name in own})
    self.of_model.assign({name: value for name, value in values.items() if name not in own})


class NoNet(Learner):
  """Without parameters."""
  parameter_specs = ()

  def __call__(self, parameters: Mapping[str, tf.Tensor], inputs: Any) -> Any:
    return inputs


def require_shapes(values: Mapping[str, np.ndarray], of: Mapping[str, Any],
                   what: str = 'Parameters do not fit the net') -> None:
  """Raises: ValueError: where names or shapes are not those `of` the variables."""
  expected = {name: tuple(variable.shape) for name, variable in of.items()}
  received = {name: tuple(np.shape(value)) for name, value in values.items()}
  if received != expected:
    raise ValueError(f'{what}. Received: {received}; expected: {expected}.')


def attribute_names(names: Iterable[str], layer: tf.keras.layers.Layer,
                    are_counted: bool = False) -> Dict[str, str]:
  """{name: attribute of `layer` for it}, by which checkpoints find a variable.

  'conv1/kernel' is `conv1_kernel`, as in all checkpoints. What would be that of two
  names, or is one that the layer has already, is spelt out.

  Args:
    are_counted: the names have numbers that Keras gave in this process, and another one, with
      other nets before this one, would not find what is named by them: see `counted_from_0`.

  Example:
    >>> attribute_names(['a/b_c', 'a_b/c', 'name'], tf.keras.layers.Layer())
    {'a/b_c': 'parameter_a_sb_uc', 'a_b/c': 'parameter_a_ub_sc', 'name': 'parameter_name'}
  """
  names = list(names)
  own = counted_from_0(names) if are_counted else names
  plain = [one.replace('/', '_') for one in own]
  return {name: _spelt_out(one) if plain.count(attribute) > 1 or hasattr(layer, attribute)
          or attribute.startswith('parameter_') else attribute
          for name, one, attribute in zip(names, own, plain)}


def counted_from_0(names: Iterable[str]) -> List[str]:
  """Names of Keras's, without the layers that it numbered before.

  Example:
    >>> counted_from_0(['a_7/w', 'b/w', 'a_9/w'])
    ['a/w', 'b/w', 'a_2/w']
  """
  split = [name.split('/') for name in names]
  first: Dict[str, int] = {}
  for part in (part for parts in split for part in parts):
    base, number = _numbered(part)
    first[base] = min(first.get(base, number), number)

  def counted(part: str) -> str:
    base, number = _numbered(part)
    return f'{base}_{number - first[base]}' if number > first[base] else base
  return ['/'.join(map(counted, parts)) for parts in split]


def _numbered(part: str) -> Tuple[str, int]:
  """('dense', 3) of 'dense_3', ('dense', 0) of 'dense'."""
  base, number = re.fullmatch(r'(.*?)(?:_([1-9]\d*))?', part).groups()
  return base, int(number or 0)


def _spelt_out(name: str) -> str:
  return 'parameter_' + name.replace('_', '_u').replace('/', '_s')
