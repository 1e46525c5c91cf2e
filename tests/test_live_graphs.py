"""What has been traced is let go with the model that it was traced for."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.custom_gradients import custom_gradient
from maml_tf.episodes import Episodes
from maml_tf.learners import Convolutional, FullyConnected
from maml_tf.meta_learners import METHODS, WITHOUT_INNER_LOOP, meta_learner_class
from maml_tf.meta_learners.maml import MAML
from maml_tf.objectives import MeanSquaredError, ScaledCrossEntropy

SHAPES = 3


def live_graphs() -> int:
  gc.collect()
  # By type, and not by `isinstance`, which asks weak proxies whose object is gone.
  return sum(type(one).__name__ == 'FuncGraph' for one in gc.get_objects())


def sinusoid(method, **kwargs):
  return method(FullyConnected(1, (4,), 1, 'None'), MeanSquaredError(), step_size=0.1,
                num_updates=1, **kwargs)


def convolutional(**kwargs):
  return MAML(Convolutional((16, 16, 1), 2, 2, 'batch_norm', max_pool=True,
                            spatial_mean=False), ScaledCrossEntropy(1), step_size=0.1,
              num_updates=1, **kwargs)


def regression(examples):
  values = tf.zeros([2, examples, 1])
  return Episodes.of(values, values, values, values)


def images(examples):
  values, labels = tf.zeros([2, examples, 16, 16, 1]), tf.zeros([2, examples], tf.int32)
  return Episodes.of(values, labels, values, labels)


def in_a_graph(function, episodes):
  tf.function(function, autograph=False)(episodes)


def train_and_test(model, episodes):
  model.compile(tf.keras.optimizers.SGD(0.1))
  dataset = tf.data.Dataset.from_tensors(episodes)
  model.fit(dataset, verbose=0, shuffle=False)
  model.evaluate(dataset, verbose=0)


def adapt(model, episodes):
  in_a_graph(lambda episodes: model.adapted_outputs(episodes, 2), episodes)
  in_a_graph(lambda episodes: model.task_results(episodes, 2), episodes)


def differentiate(model, episodes):
  in_a_graph(model.meta_gradient, episodes)


@pytest.mark.parametrize('make, episodes_of, use', [
    (lambda: sinusoid(MAML), regression, train_and_test),
    (lambda: sinusoid(MAML, tasks_at_once=1), regression, adapt),
    pytest.param(convolutional, images, differentiate, marks=pytest.mark.slow),
    pytest.param(lambda: convolutional(tasks_at_once=1), images, differentiate,
                 marks=pytest.mark.slow),
    (lambda: sinusoid(MAML, recompute_inner_steps=True), regression, differentiate),
    *((lambda method=method: sinusoid(meta_learner_class(method)), regression,
       differentiate) for method in METHODS
         if method not in ('context_vector', *WITHOUT_INNER_LOOP))])
def test_no_graph_outlives_its_model(make, episodes_of, use):
  before = live_graphs()
  for examples in range(2, 2 + SHAPES):
    use(make(), episodes_of(examples))
  assert live_graphs() == before


@pytest.mark.slow
def test_a_model_keeps_the_graphs_of_few_shapes():
  """Called eagerly it makes one for each shape, where the tasks are in groups."""
  model, before = sinusoid(MAML, tasks_at_once=1), live_graphs()
  counts = []
  for examples in range(2, 24):
    model.task_results(regression(examples), 1)
    counts.append(live_graphs() - before)
  assert counts[-1] == counts[10] > 0
  model.task_results(regression(23), 1)
  assert live_graphs() - before == counts[-1]


def cube(inputs):
  """With a derivative that says that it was written out: three times too large."""
  @custom_gradient
  def forward(values):
    return values ** 3, lambda upstream: 9 * values ** 2 * upstream
  return forward(inputs)


def gradient_by_tape(inputs):
  with tf.GradientTape() as tape:
    tape.watch(inputs)
    outputs = tf.reduce_sum(cube(inputs))
  return tape.gradient(outputs, inputs)


def second_by_tapes(inputs):
  with tf.GradientTape() as tape:
    tape.watch(inputs)
    gradient = tf.reduce_sum(gradient_by_tape(inputs))
  return tape.gradient(gradient, inputs) / 2


def by_map(inputs):
  return tf.map_fn(gradient_by_tape, inputs)


def by_symbols(inputs):
  return tf.gradients(tf.reduce_sum(cube(inputs)), inputs)[0]


def through_a_call(inputs):
  called = tf.function(cube, autograph=False)
  with tf.GradientTape() as tape:
    tape.watch(inputs)
    outputs = tf.reduce_sum(called(inputs))
  return tape.gradient(outputs, inputs)


@pytest.mark.parametrize('compute, power', [
    (gradient_by_tape, 2), (second_by_tapes, 1), (by_map, 2), (by_symbols, 2),
    (through_a_call, 2)])
@pytest.mark.parametrize('where', ['eager', 'graph', 'xla'])
def test_a_written_gradient_is_seen(compute, power, where):
  if where == 'eager' and compute is by_symbols:
    pytest.skip('tf.gradients is of graphs')
  values = np.array([2.0, -1.0, 0.5])
  function = compute if where == 'eager' else tf.function(
      compute, autograph=False, jit_compile=where == 'xla')
  np.testing.assert_allclose(function(tf.constant(values)), 9 * values ** power)


def test_gradients_are_there_as_long_as_the_graph():
  """Also for who differentiates a traced function later."""
  called = tf.function(cube, autograph=False)
  called(tf.constant(1.0))
  gc.collect()
  values = tf.constant(2.0)
  with tf.GradientTape() as tape:
    tape.watch(values)
    outputs = called(values)
  assert float(tape.gradient(outputs, values)) == 36
