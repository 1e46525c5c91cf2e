"""How exact the second derivative of every Keras layer is: measured, not believed.

`python -m maml_tf.keras_models.layer_table --out=docs/keras_layers.md` adds the columns of
the installed TensorFlow to the table; run it under each. Of a scalar function of a layer's
outputs, in float64, the Hessian times a vector (weights, and a factor for each input) by
tape over tape is compared with the difference quotient of the gradient.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.keras_models import refusals, under_xla
from maml_tf.keras_models.functional_call import KERAS3
from maml_tf.keras_models.layer_cases import Case, cases, losses
from maml_tf.keras_models.learner import KerasLearner
from maml_tf.keras_models.nets import layers_of_dtype
from maml_tf.keras_models.randomness import Seeded

EXAMPLES = 4
STEP = 1e-6
# Of layers that compute in float32 whatever they are given.
FLOAT32_STEPS = 1e-2, 1e-3
# Above it a second derivative counts as wrong; round-off is some 1e-9, in float32 1e-5.
EXACT, EXACT_IN_FLOAT32 = 1e-6, 2e-4

Value = Any   # an error, or why there is none


class Scaled(tf.keras.layers.Layer):
  """Inputs times a weight for each of their numbers, so that a derivative is taken by them,
  too."""

  def build(self, input_shape):
    self.factor = self.add_weight(name='factor', shape=tuple(input_shape)[1:],
                                  initializer='ones')

  def call(self, inputs):
    return inputs * self.factor


class AsFloats(tf.keras.layers.Layer):
  """What a layer makes of integers, without its mask, as inputs of others."""

  def __init__(self):
    super().__init__()
    self.supports_masking = True

  def compute_mask(self, inputs, mask=None):
    return None

  def call(self, inputs):
    return tf.cast(inputs, 'float64')


def hessian_error(function: Callable, values: Dict[str, np.ndarray], jit_compile=False
                  ) -> Value:
  """Relative, of the Hessian of `function({name: tensor})` times a random vector."""
  random = np.random.RandomState(2)
  vector = {name: random.normal(size=value.shape) for name, value in values.items()}

  def derivatives(values, vector):
    with tf.GradientTape() as outer:
      outer.watch(values)
      with tf.GradientTape() as inner:
        inner.watch(values)
        value = function(values)
      gradient = inner.gradient(value, values,
                                unconnected_gradients=tf.UnconnectedGradients.ZERO)
      gradient = {name: tf.convert_to_tensor(one) for name, one in gradient.items()}
      along = tf.add_n([tf.reduce_sum(gradient[name] * vector[name]) for name in gradient])
    product = outer.gradient(along, values,
                             unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return gradient, {name: tf.convert_to_tensor(one) for name, one in product.items()}
  derivatives = tf.function(derivatives, autograph=False, jit_compile=jit_compile)
  vector_tensors = _tensors(vector)
  refusals.refuse_inexact(
      derivatives.get_concrete_function(_tensors(values), vector_tensors).graph)
  _, product = derivatives(_tensors(values), vector_tensors)

  def gradient(step):
    moved = {name: value + step * vector[name] for name, value in values.items()}
    return _flat(derivatives(_tensors(moved), vector_tensors)[0])
  return _error(_flat(product), gradient)


def _error(product: np.ndarray, gradient: Callable[[float], np.ndarray]) -> float:
  """Of the Hessian times a vector, against differences of the gradient along it: of float64,
  or of fourth order and steps for float32 where these fit better."""
  def difference(step):
    return (gradient(step) - gradient(-step)) / (2 * step)
  quotients = [difference(STEP), *((4 * difference(step) - difference(2 * step)) / 3
                                   for step in FLOAT32_STEPS)]
  return min(float(np.linalg.norm(product - one) / max(np.linalg.norm(one), 1e-3))
             for one in quotients)


def measure_layer(case: Case, jit_compile: bool = False) -> Value:
  """The error of a layer as it is computed here; or 'refused: ...', 'fails: ...'."""
  with layers_of_dtype('float64'):
    try:
      model, inputs = _model(case)
      learner = KerasLearner(model)
    except Exception as error:
      return _reason(error)
    if jit_compile and under_xla.has_max_pooling(model.layers):
      return 'refused: by compile, as it is wrong for some values'

    def function(values):
      return _scalar(learner(values, inputs).outputs)
    return _error_or_reason(function, _generic_values(learner), jit_compile)


def measure_stock(case: Case) -> Value:
  """The error of a layer in TensorFlow's own form, in eager mode."""
  if case.random:
    return None
  with layers_of_dtype('float64'):
    try:
      model, inputs = _model(case)
      values = _generic_values(KerasLearner(model))
      inputs = tf.nest.map_structure(lambda value: value[0], inputs)
      return _stock_error(model, inputs, list(values.values()))
    except Exception as error:
      return _reason(error)


def measure_loss(name: str, jit_compile: bool = False) -> Value:
  """The error of a loss, by the outputs."""
  from maml_tf.keras_models.objective import KerasObjective
  label_kind, output_kind = losses()[name]
  random = np.random.RandomState(4)
  with layers_of_dtype('float64'):
    objective = KerasObjective(getattr(tf.keras.losses, name)())
    labels = tf.constant(_of_kind(label_kind, random)[np.newaxis])
    start = _of_kind(output_kind, random)

    def function(values):
      return tf.reduce_sum(objective.loss(values['outputs'][tf.newaxis], labels))
    return _error_or_reason(function, {'outputs': start}, jit_compile)


def _of_kind(kind: str, random) -> np.ndarray:
  values = random.normal(size=(EXAMPLES, 3))
  return {'floats': values, 'probabilities': np.exp(values) / np.exp(values).sum(
              axis=1, keepdims=True),
          'one hot': np.eye(3)[[0, 2, 1, 1]], 'classes': np.array([0, 1, 1, 0]),
          'unit': values / np.linalg.norm(values, axis=1, keepdims=True)}[kind]


def _model(case: Case) -> Tuple[tf.keras.Model, Any]:
  """A model of one layer, with what makes every input differentiable; and inputs."""
  random = np.random.RandomState(1)
  layers = tf.keras.layers
  integers = case.inputs != 'floats'
  symbols = [layers.Input(shape, dtype='int32' if case.inputs == 'words' else None)
             for shape in case.shapes]
  given = symbols if integers else [Scaled()(symbol) for symbol in symbols]
  layer = case.make()
  merged = len(given) > 1 and isinstance(layer, layers.Layer)
  outputs = layer(list(given)) if merged else layer(*given)
  if integers:
    outputs = layers.Dense(2)(layers.Flatten()(AsFloats()(outputs)))
  model = tf.keras.Model(symbols, outputs)
  values = [random.randint(0, 7, (1, EXAMPLES, *shape)).astype('int32')
            if case.inputs == 'words' else random.normal(size=(1, EXAMPLES, *shape))
            for shape in case.shapes]
  inputs = [tf.constant(value) for value in values]
  inputs = inputs if len(inputs) > 1 else inputs[0]
  if case.random:
    inputs = Seeded(inputs, tf.constant([[[3, 5]] * EXAMPLES], tf.int32))
  return model, inputs


def _generic_values(learner: KerasLearner) -> Dict[str, np.ndarray]:
  random = np.random.RandomState(0)
  return {name: value + 0.3 * random.normal(size=value.shape)
          for name, value in learner.initial_values(0).items()}


def _scalar(outputs: Any) -> tf.Tensor:
  """A function without symmetries, whose second derivative is not 0."""
  random = np.random.RandomState(3)
  total = 0.0
  for output in tf.nest.flatten(outputs):
    factors = random.normal(size=[size or EXAMPLES for size in output.shape])
    total += tf.reduce_sum(tf.constant(factors, output.dtype) * tf.sin(output + 0.3))
  return total


def _stock_error(model, inputs, values) -> float:
  variables = model.trainable_variables
  random = np.random.RandomState(2)
  vector = [random.normal(size=value.shape) for value in values]

  def derivatives(step):
    for variable, value, direction in zip(variables, values, vector):
      variable.assign(value + step * direction)
    watched = [one.value if KERAS3 else one for one in variables]
    with tf.GradientTape() as outer:
      with tf.GradientTape() as inner:
        loss = _scalar(model(inputs, training=True))
      gradient = inner.gradient(loss, watched, unconnected_gradients='zero')
      gradient = [tf.convert_to_tensor(one) for one in gradient]
      along = tf.add_n([tf.reduce_sum(one * direction)
                        for one, direction in zip(gradient, vector)])
    product = outer.gradient(along, watched, unconnected_gradients='zero')
    flat = (np.concatenate([np.ravel(one) for one in nest]) for nest in
            (gradient, map(tf.convert_to_tensor, product)))
    return list(flat)
  return _error(derivatives(0.0)[1], lambda step: derivatives(step)[0])


def _error_or_reason(function, values, jit_compile: bool) -> Value:
  try:
    with refusals.missing_derivatives():
      return hessian_error(function, values, jit_compile)
  except ConfigError as error:
    return f'refused: {error}'
  except Exception as error:
    return _reason(error)


def _reason(error: Exception) -> str:
  lines = [line for line in str(error).split('\n') if line.strip()] or ['']
  return f'fails: {type(error).__name__}: {lines[0][:90]}'


def _tensors(values):
  return {name: tf.constant(value) for name, value in values.items()}


def _flat(values) -> np.ndarray:
  return np.concatenate([np.ravel(values[name]) for name in sorted(values)])


def measured_rows(columns: List[str], done: Dict[str, Dict[str, Value]]
                  ) -> Iterator[Tuple[str, Dict[str, Value]]]:
  """(row, {column: value}) of what is not `done`; columns 'stock', 'here', 'xla'."""
  ways = {'stock': measure_stock, 'here': measure_layer,
          'xla': lambda case: measure_layer(case, jit_compile=True)}
  for name, case in cases().items():
    missing = [column for column in columns if column not in done.get(name, {})]
    if missing:
      yield name, {column: ways[column](case) for column in missing}
      tf.keras.backend.clear_session()
  for name in losses():
    for column in columns:
      if column != 'stock' and column not in done.get(f'loss {name}', {}):
        yield f'loss {name}', {column: measure_loss(name, column == 'xla')}


_BEGIN, _END = '<!-- measured: ', ' -->'


def main(arguments: Optional[List[str]] = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', default='docs/keras_layers.md')
  parser.add_argument('--columns', default='stock,here,xla')
  given = parser.parse_args(arguments)
  done = read(given.out).get(tf.__version__, {})
  for name, values in measured_rows(given.columns.split(','), done):
    print(name, values, flush=True)
    write(given.out, tf.__version__, name, values)


def is_exact(value: Value) -> bool:
  return not isinstance(value, str) and value < EXACT_IN_FLOAT32


def read(path: str) -> Dict[str, Any]:
  """{version: {row: {column: value}}} of a page; of none, where there is none."""
  if not os.path.exists(path):
    return {}
  with open(path, encoding='utf-8') as file:
    return json.loads(re.search(re.escape(_BEGIN) + '(.*)' + re.escape(_END),
                                file.read(), re.DOTALL).group(1))


def write(path: str, version: str, name: str, values: Dict[str, Value]) -> None:
  """Puts a row of a version into the page, beside what is there."""
  measured = read(path)
  measured.setdefault(version, {}).setdefault(name, {}).update(values)
  with open(path, 'w', encoding='utf-8') as file:
    file.write(page(measured))


def page(measured: Dict[str, Dict[str, Dict[str, Value]]]) -> str:
  """The page: {version: {row: {column: value}}}."""
  versions = sorted(measured, key=lambda version: [int(n) for n in version.split('.')])
  names = list(dict.fromkeys(name for version in versions for name in measured[version]))
  header = ['layer']
  for version in versions:
    header += [f'{version}: as it is', 'here', 'here, XLA']
  lines = ['| ' + ' | '.join(header) + ' |', '|---' * len(header) + '|']
  for name in names:
    cells = [name]
    for version in versions:
      row = measured[version].get(name, {})
      cells += [_cell(row.get(column), bool(row)) for column in ('stock', 'here', 'xla')]
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join([_PREFACE, *lines, '', _BEGIN + json.dumps(measured, indent=0) + _END, ''])


def _cell(value: Value, exists: bool) -> str:
  if not exists:
    return ''      # this version of Keras has no such layer
  if value is None:
    return 'not measured'
  if isinstance(value, str):
    return value.split(':')[0]
  if is_exact(value):
    return 'exact' if value < EXACT else 'exact (float32)'
  return f'**{value:.1g}**'


_PREFACE = """# Keras layers: how exact their second derivatives are

Written by `python -m maml_tf.keras_models.layer_table` under each TensorFlow, which adds what
is missing; the numbers are in a comment at the end. Relative error of the Hessian times a
vector, in float64, against the difference quotient of the gradient: 'exact' is below 1e-6,
'exact (float32)' below 2e-4, of layers that compute in float32 whatever they are given.

- As it is: the layer in TensorFlow's own form, in eager mode, in training.
- Here: as MAML computes it, in a graph, and compiled by XLA. There max-pooling by windows is
  right for some values and wrong for others, in float32 (in float64 it does not compile), so
  `compile(jit_compile=True)` refuses it: of 60 draws of inputs MaxPooling1D was wrong in 3,
  MaxPooling2D in 22, MaxPooling3D in 10, by up to 0.6, in both versions; global max-pooling
  in none. Of recurrent layers some are not measured: XLA takes long to compile them, RNN of
  GRUCell and of StackedRNNCells 12 and 20 s of processor time under 2.15.1, and minutes where
  others use the processor.
- 'refused': no meta-gradient of second order; a sentence says what to use instead. 'fails':
  TensorFlow raises an error, with float64 or at all.

First order and Reptile take every layer that has a first derivative.
"""


if __name__ == '__main__':
  main()
