"""MAML as a Keras model: the outer step, its guards, evaluation, precision."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.episodes import as_episodes
from maml_tf.errors import ConfigError, NotFiniteError
from maml_tf.learners import Convolutional, FullyConnected
from maml_tf.measures import LOSS
from maml_tf.meta_learners.maml import MAML
from maml_tf.meta_parameters import MetaParameters
from maml_tf.objectives import MeanSquaredError, Objective, ScaledCrossEntropy
from maml_tf.task_results import named_means
from maml_tf.training.optimizers import build_optimizer

TASKS, WAYS, SHOTS, IMAGE = 4, 3, 2, (9, 8, 1)


def regression_model(**kwargs):
  return MAML(FullyConnected(1, (6, 5), 1, 'None'), MeanSquaredError(),
              **{**dict(step_size=0.05, num_updates=1, dtype='float64'), **kwargs})


def image_model(norm='batch_norm', **kwargs):
  learner = Convolutional(IMAGE, 4, WAYS, norm, max_pool=False, spatial_mean=True)
  return MAML(learner, ScaledCrossEntropy(SHOTS),
              **{**dict(step_size=0.1, num_updates=2, dtype='float64'), **kwargs})


@pytest.fixture
def images(make_classification):
  return make_classification(TASKS, WAYS, SHOTS, IMAGE)


@pytest.fixture
def regressions(make_regression):
  """A function: a number of meta-batches -> a dataset of different ones."""
  def make(batches, first_seed=0, tasks=3, dtype='float64'):
    each = [make_regression(tasks, 5, seed=first_seed + index, dtype=dtype)
            for index in range(batches)]
    stacked = tf.nest.map_structure(lambda *values: tf.stack(values), *each)
    return tf.data.Dataset.from_tensor_slices(stacked)
  return make


def fit(model, dataset, **kwargs):
  return model.fit(dataset, verbose=0, shuffle=False, **kwargs)


def sgd(learning_rate=1.0):
  return build_optimizer('sgd', learning_rate, 'float64')


def arrays(model):
  return model.meta_parameters.arrays()


def assert_equal_arrays(received, expected):
  assert set(received) == set(expected)
  for name in expected:
    np.testing.assert_array_equal(received[name], expected[name], err_msg=name)


def assert_close_arrays(received, expected, tolerance):
  assert set(received) == set(expected)
  for name in expected:
    np.testing.assert_allclose(received[name], expected[name], rtol=0, atol=tolerance,
                               err_msg=name)


# The outer step


def test_a_step_of_sgd_goes_along_the_meta_gradient(images):
  model = image_model()
  model.compile(sgd(0.25))
  before = arrays(model)
  means, gradients = model.meta_gradient(images)
  logs = model.train_step(images)
  assert list(logs) == list(means) == ['loss', 'accuracy']
  for name, value in means.items():
    np.testing.assert_allclose(logs[name], value, rtol=1e-14)
  assert_close_arrays(arrays(model), {
      name: before[name] - 0.25 * gradients[name] for name in before}, 1e-14)


def test_the_loss_is_that_of_the_query_set_after_the_last_update(images):
  model = image_model()
  means, _ = model.meta_gradient(images)
  results = model.task_results(images, 2)
  assert results.query['loss'].shape == results.query['accuracy'].shape == (TASKS, 3)
  for name, value in means.items():
    np.testing.assert_allclose(value, np.mean(results.query[name][:, 2]), rtol=1e-12)


@pytest.mark.parametrize('same', [
    lambda images: tuple(map(tuple, images)),
    lambda images: as_episodes(tf.nest.map_structure(np.asarray, images)),
    lambda images: images.replaced(support_inputs=tf.cast(images.support.inputs, 'float32'))],
    ids=['tuples', 'arrays', 'float32'])
def test_a_meta_batch_may_be_of_plain_tuples_or_arrays(same, images):
  model = image_model()
  images = images.replaced(support_inputs=tf.round(images.support.inputs * 8) / 8)
  for one, other in zip(*map(model.meta_gradient, (images, same(images)))):
    for name, value in one.items():
      np.testing.assert_array_equal(value, other[name])


@pytest.mark.parametrize('norm, names', [
    ('batch_norm', ['beta']), ('layer_norm', ['beta', 'gamma'])])
def test_offsets_and_scales_have_a_meta_gradient(images, norm, names):
  _, gradients = image_model(norm).meta_gradient(images)
  for block in ('conv1', 'conv2', 'conv3', 'conv4'):
    for name in names:
      assert np.abs(gradients[f'{block}/{name}']).max() > 1e-4


def test_biases_before_batch_norm_have_no_meta_gradient(images):
  _, gradients = image_model().meta_gradient(images)
  for block in ('conv1', 'conv2', 'conv3', 'conv4'):
    assert np.abs(gradients[f'{block}/bias']).max() < 1e-12
  assert np.abs(gradients['output/bias']).max() > 1e-3


def test_every_parameter_is_one_trainable_variable():
  model = image_model()
  model.compile(sgd())
  assert len(model.trainable_variables) == len(model.learner.parameter_specs)
  shapes = [tuple(variable.shape) for variable in model.trainable_variables]
  assert shapes == [spec.shape for spec in model.learner.parameter_specs]


def test_training_through_fit_learns(regressions):
  model = regression_model(dtype='float32', step_size=0.02)
  model.compile(build_optimizer('adam', 0.01))
  dataset = regressions(1, tasks=4, dtype='float32')
  first = fit(model, dataset).history['loss'][0]
  last = fit(model, dataset.repeat(200)).history['loss'][0]
  assert last < 0.8 * first


@pytest.mark.parametrize('steps_per_execution', [1, 5])
def test_fit_does_one_step_per_meta_batch(regressions, steps_per_execution):
  """Also where the last execution has fewer steps; and they are the same steps."""
  expected = regression_model()
  expected.compile(sgd(0.1))
  for episodes in regressions(12):
    expected.train_step(episodes)
  model = regression_model()
  model.compile(sgd(0.1), steps_per_execution=steps_per_execution)
  fit(model, regressions(12))
  assert int(model.optimizer.iterations) == 12
  assert_close_arrays(arrays(model), arrays(expected), 1e-12)


def test_fit_compiled_by_xla_does_the_same_steps(regressions):
  models = [regression_model(), regression_model()]
  for model, jit_compile in zip(models, (False, True)):
    model.compile(sgd(0.1), jit_compile=jit_compile)
    fit(model, regressions(4))
  assert int(models[1].optimizer.iterations) == 4
  assert_close_arrays(arrays(models[1]), arrays(models[0]), 1e-12)


class CountingMAML(MAML):
  """Counts how often Python, and so a trace, goes through the objective."""
  calls = 0

  def task_objectives(self, parameters, episodes):
    CountingMAML.calls += 1
    return super().task_objectives(parameters, episodes)


@pytest.mark.parametrize('steps_per_execution', [1, 5])
@pytest.mark.parametrize('tasks_at_once', [0, 1])
def test_nothing_is_traced_again_after_the_first_fit(regressions, steps_per_execution,
                                                     tasks_at_once):
  CountingMAML.calls = 0
  model = CountingMAML(FullyConnected(1, (6,), 1, 'None'), MeanSquaredError(),
                       step_size=0.1, num_updates=1, dtype='float64',
                       tasks_at_once=tasks_at_once)
  model.compile(sgd(0.1), steps_per_execution=steps_per_execution)
  fit(model, regressions(10))
  traces = CountingMAML.calls
  assert 0 < traces < 10          # fewer than steps: not called for each
  for start in (10, 20):
    fit(model, regressions(10, first_seed=start))
  assert CountingMAML.calls == traces


def test_many_shapes_need_few_traces(make_regression):
  """Keras makes a graph for unknown sizes of the second one; all fit into that."""
  CountingMAML.calls = 0
  model = CountingMAML(FullyConnected(1, (6,), 1, 'None'), MeanSquaredError(),
                       step_size=0.1, num_updates=1, dtype='float64')
  model.compile(sgd(0.1))
  calls = []
  for tasks, examples in ((4, 3), (2, 5), (6, 7), (3, 4)):
    episodes = make_regression(tasks, examples)
    loss, _ = model.meta_gradient(episodes)
    CountingMAML.calls -= 1
    logged = fit(model, tf.data.Dataset.from_tensors(episodes)).history['loss'][0]
    np.testing.assert_allclose(logged, loss['loss'], rtol=1e-6)
    calls.append(CountingMAML.calls)
  assert calls[1] == calls[-1]


# Parameters


def test_the_seed_decides_the_initialisation():
  first, again, other = (arrays(regression_model(seed=seed)) for seed in (1, 1, 2))
  assert_equal_arrays(first, again)
  assert np.all(first['dense1/kernel'] != other['dense1/kernel'])


def test_parameters_can_be_shared_by_two_models(regressions):
  first = regression_model()
  second = MAML(first.learner, first.objective, step_size=0.1, num_updates=3,
                parameters=first.meta_parameters)
  second.compile(sgd(0.1))
  before = arrays(first)
  fit(second, regressions(1))
  assert np.any(arrays(first)['output/kernel'] != before['output/kernel'])


def test_values_that_do_not_fit_are_refused():
  parameters = MetaParameters(FullyConnected(1, (6,), 1, 'None'))
  values = parameters.arrays()
  for wrong in ({**values, 'more': np.zeros(1)}, {},
                {**values, 'output/bias': np.zeros(2, 'float32')}):
    with pytest.raises(ValueError, match='do not fit the net'):
      parameters.assign(wrong)
  assert_equal_arrays(parameters.arrays(), values)


def test_calling_the_model_gives_outputs_without_adaptation(images):
  model = image_model()
  expected = model.adapted_outputs(images, 1)[:, 0]
  np.testing.assert_allclose(model(images.query.inputs), expected, rtol=1e-10)


# Compiling


@pytest.mark.parametrize('given, shown', [
    (dict(loss='mse'), 'no loss'), (dict(loss='mse', metrics=['mae']), 'no loss, metrics'),
    (dict(metrics=['mae'], loss=None), 'no metrics'),
    (dict(weighted_metrics=[]), 'no weighted_metrics')])
def test_a_loss_beside_the_objective_is_refused(given, shown):
  with pytest.raises(ConfigError, match=rf'{shown}: .* made with, MAML\(model, loss\)'):
    regression_model().compile(sgd(), **given)


def pooling_model(compiled_by_xla):
  learner = Convolutional((16, 16, 1), 2, 2, 'None', max_pool=True, spatial_mean=False,
                          compiled_by_xla=compiled_by_xla)
  return MAML(learner, ScaledCrossEntropy(1), step_size=0.1, num_updates=1)


def test_xla_is_refused_where_the_meta_gradient_would_be_wrong():
  with pytest.raises(ConfigError, match='Convolutional that does not say that it is exact'):
    pooling_model(False).compile(sgd(), jit_compile=True)
  pooling_model(True).compile(sgd(), jit_compile=True)


def test_keras_does_not_choose_xla_by_itself():
  """Keras 3 does, on a GPU."""
  for compiled_by_xla in (False, True):
    model = pooling_model(compiled_by_xla)
    model.compile(sgd())
    assert not model.jit_compile


# The step size


def test_a_step_size_that_is_set_acts_on_what_was_traced(regressions):
  """In training, in results, and without another trace."""
  CountingMAML.calls = 0
  def model_with(step_size):
    model = CountingMAML(FullyConnected(1, (6,), 1, 'None'), MeanSquaredError(),
                         step_size=step_size, num_updates=1, dtype='float64',
                         tasks_at_once=1)
    model.compile(sgd(0.1))
    return model
  model = model_with(0.1)
  results = tf.function(lambda episodes: model.task_results(episodes, 2), autograph=False)
  episodes = next(iter(regressions(1)))
  fit(model, regressions(2))
  before = results(episodes)
  traces = CountingMAML.calls
  model.step_size = 0.7
  assert model.step_size == 0.7
  expected = model_with(0.7)
  expected.meta_parameters.assign(arrays(model))
  fit(model, regressions(2))
  received = results(episodes)
  assert CountingMAML.calls == traces
  fit(expected, regressions(2))
  assert_close_arrays(arrays(model), arrays(expected), 1e-14)
  np.testing.assert_allclose(received.query['loss'],
                             expected.task_results(episodes, 2).query['loss'], rtol=1e-12)
  assert np.abs(received.query['loss'] - before.query['loss']).max() > 1e-3


def test_step_sizes_by_layer(images):
  """0 for all but the head is ANIL's inner loop."""
  model = image_model(step_size={
      name: 0.1 * name.startswith('output') for name in image_model().learner.adapted_names})
  *_, adapted = model.adaptation(model.meta_parameters.tensors(), images, 2, False)
  for name, start in arrays(model).items():
    moved = np.abs(adapted[name] - start).max() > 1e-4
    assert moved == name.startswith('output'), name


# Groups of tasks


@pytest.mark.parametrize('cores, expected', [(None, (4, 1)), (2, (2, 2))])
def test_episodes_are_divided_by_their_shapes(make_classification, cores, expected):
  episodes = make_classification(4, WAYS, 3, (28, 28, 1))
  assert image_model(cores=cores).groups(episodes) == expected
  assert image_model(cores=cores, tasks_at_once=1).groups(episodes) == (1, 1)
  with pytest.raises(ConfigError, match='tasks_at_once=3 and 4 tasks'):
    image_model(cores=cores, tasks_at_once=3).groups(episodes)


# Clipping


@pytest.mark.parametrize('through_fit', [False, True])
def test_the_meta_gradient_is_clipped_by_element(images, through_fit):
  _, gradients = image_model().meta_gradient(images)
  sizes = np.concatenate([np.abs(value).ravel() for value in gradients.values()])
  bound = float(np.quantile(sizes, 0.8))
  model = image_model(gradient_clip=bound)
  model.compile(sgd())
  before = arrays(model)
  if through_fit:
    fit(model, tf.data.Dataset.from_tensors(images))
  else:
    model.train_step(images)
  # The inner loop is not clipped: it is that of the model without a bound.
  assert_close_arrays(arrays(model), {
      name: before[name] - np.clip(gradients[name], -bound, bound) for name in before},
                      1e-12)
  steps = np.concatenate([np.abs(arrays(model)[name] - before[name]).ravel()
                          for name in before])
  np.testing.assert_allclose(steps.max(), bound, rtol=1e-9)
  assert np.mean(steps < 0.99 * bound) > 0.5


def test_without_a_bound_large_gradients_stay(images):
  model = image_model()
  _, gradients = model.meta_gradient(images)
  model.compile(sgd(1e3))
  before = arrays(model)
  model.train_step(images)
  name = 'output/kernel'
  np.testing.assert_allclose(before[name] - arrays(model)[name], 1e3 * gradients[name],
                             rtol=1e-10, atol=1e-10)


# Losses and gradients that are not finite


class RootError(Objective):
  """Its loss is finite and its gradient is not, where the outputs are the targets."""
  measures = (LOSS,)

  def loss(self, outputs, labels):
    return tf.reduce_sum(tf.sqrt(tf.abs(outputs - labels)), axis=[1, 2])


def poisoned(dataset, value):
  return dataset.map(lambda episodes: episodes.replaced(
      query_labels=episodes.query.labels * value))


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('steps_per_execution', [1, 5])
def test_a_loss_that_is_not_finite_stops_all_change(regressions, steps_per_execution, value):
  model = regression_model()
  model.compile(build_optimizer('adam', 0.1, 'float64'),
                steps_per_execution=steps_per_execution)
  good = regressions(3)
  fit(model, good)
  assert not bool(model.diverged)
  before = arrays(model)
  optimizer_before = [np.array(variable) for variable in variables_of(model.optimizer)]
  with pytest.raises(NotFiniteError, match=f'not finite .loss {value}.*nothing was learned'):
    fit(model, poisoned(regressions(1), value).concatenate(good))
  assert bool(model.diverged)
  assert int(model.optimizer.iterations) == 3
  assert_equal_arrays(arrays(model), before)
  for variable, expected in zip(variables_of(model.optimizer), optimizer_before):
    np.testing.assert_array_equal(variable, expected)
  fit(model, good)   # learns again
  assert not bool(model.diverged)
  assert int(model.optimizer.iterations) == 6


def test_callbacks_of_all_forms_are_heeded(regressions):
  class Counts(tf.keras.callbacks.Callback):
    epochs = 0

    def on_epoch_end(self, epoch, logs=None):
      self.epochs += 1
  model, one = regression_model(), Counts()
  model.compile(sgd(0.1))
  listed = tf.keras.callbacks.CallbackList([one], add_history=True, model=model)
  for callbacks in ([one], one, (one,), listed):
    model.fit(regressions(1), callbacks=callbacks, verbose=0, shuffle=False)
  assert model.fit(regressions(1), None, None, 1, 0, [one], shuffle=False).history['loss']
  assert one.epochs == 5
  with pytest.raises(NotFiniteError):
    model.fit(poisoned(regressions(1), np.nan), callbacks=listed, verbose=0, shuffle=False)


def variables_of(optimizer):
  variables = optimizer.variables
  return variables() if callable(variables) else variables


def test_good_steps_before_a_bad_one_count(regressions):
  model = regression_model()
  model.compile(sgd(0.1), steps_per_execution=5)
  bad = poisoned(regressions(1), np.nan)
  with pytest.raises(NotFiniteError):
    fit(model, regressions(2).concatenate(bad).concatenate(regressions(2)))
  expected = regression_model()
  expected.compile(sgd(0.1))
  fit(expected, regressions(2))
  assert int(model.optimizer.iterations) == 2
  assert_close_arrays(arrays(model), arrays(expected), 1e-12)


def test_a_gradient_that_is_not_finite_stops_too(regressions):
  model = MAML(FullyConnected(1, (), 1, 'None'), RootError(), step_size=0.1,
               num_updates=0, dtype='float64')
  model.compile(sgd())
  model.meta_parameters.assign({'output/kernel': np.zeros((1, 1)),
                                'output/bias': np.zeros(1)})
  before = arrays(model)
  episodes = next(iter(poisoned(regressions(1), 0.0)))
  logs = model.train_step(episodes)
  assert np.isfinite(logs['loss'])
  assert bool(model.diverged)
  assert_equal_arrays(arrays(model), before)


def test_clipping_does_not_hide_a_gradient_that_is_not_finite(regressions):
  model = regression_model(gradient_clip=1.0)
  model.compile(sgd())
  before = arrays(model)
  model.train_step(next(iter(poisoned(regressions(1), 1e200))))
  assert bool(model.diverged)
  assert_equal_arrays(arrays(model), before)


def test_an_error_in_a_step_of_fit_arrives_as_it_is(regressions):
  model = regression_model()
  model.compile(sgd(0.1))
  without_examples = regressions(1).map(lambda episodes: episodes.replaced(
      query_labels=episodes.query.labels[:, 0]))
  for use in (fit, lambda model, tasks: model.evaluate(tasks, verbose=0)):
    with pytest.raises(ConfigError, match=r'^Support inputs and labels are'):
      use(model, without_examples)


def test_what_could_not_be_loaded_is_not_saved(regressions, tmp_path):
  model = regression_model()
  model.compile(sgd(0.1))
  best = tf.keras.callbacks.ModelCheckpoint(str(tmp_path / 'best.keras'))
  with pytest.raises(ConfigError, match='save its net'):
    model.fit(regressions(1), callbacks=[best], verbose=0, shuffle=False)


@pytest.mark.parametrize('given', [
    dict(num_updates=-1), dict(num_updates=1.5), dict(num_updates='1'), dict(step_size=None),
    dict(step_size='0.1'), dict(step_size=np.nan), dict(step_size=[0.1, np.inf]),
    dict(step_size=[]), dict(step_size=[[0.1]]),
    dict(step_size={'output/kernel': 0.1}), dict(step_size={'kernel': 0.1}),
    dict(gradient_clip=-1.0), dict(gradient_clip=None), dict(gradient_clip='1'),
    dict(tasks_at_once=-1)], ids=str)
def test_what_is_no_inner_loop_is_refused(given):
  with pytest.raises(ConfigError, match=f'{next(iter(given))} must be'):
    MAML(FullyConnected(1, (), 1, 'None'), MeanSquaredError(),
         **{**dict(step_size=0.1, num_updates=1), **given})


def test_a_variable_is_no_step_size():
  """What is assigned to it later was not seen."""
  for step_size in (tf.Variable(0.1), {'output/kernel': tf.Variable(0.1), 'output/bias': 0.1}):
    with pytest.raises(ConfigError, match='read once.* set the step_size of the meta-learner'):
      MAML(FullyConnected(1, (), 1, 'None'), MeanSquaredError(), step_size=step_size)


# Precision


def test_nothing_passes_through_float32_in_a_float64_step(images):
  """In the graph of a whole outer step, with the functions that it calls.

  Only indices may be float32 (TensorFlow's, in the gradient of image patches).
  """
  model = image_model(tasks_at_once=2, gradient_clip=10.0)
  model.compile(build_optimizer('adam', 0.001, 'float64'))
  graph = tf.function(model.train_step, autograph=False).get_concrete_function(images).graph
  assert casts_of(graph, tf.float64, tf.float32) == []
  assert casts_of(graph, tf.float32, tf.float64) == []
  assert casts_of(graph, tf.bool, tf.float64) != []     # of the accuracy: they are found


def casts_of(graph, source, target):
  graph_def = graph.as_graph_def()
  nodes = list(graph_def.node)
  for function in graph_def.library.function:
    nodes.extend(function.node_def)
  wanted = (source.as_datatype_enum, target.as_datatype_enum)
  return [node.name for node in nodes if node.op == 'Cast'
          and (node.attr['SrcT'].type, node.attr['DstT'].type) == wanted]


@pytest.mark.parametrize('make', [image_model, regression_model])
def test_a_perturbation_of_1e_12_is_seen(images, regressions, make):
  """float32 has nothing between 1 and 1 + 6e-8; the slope at 1e-6 says what is right."""
  model = make()
  episodes = images if make is image_model else next(iter(regressions(1)))
  if make is regression_model:
    model.meta_parameters.assign({name: value * 30 for name, value in arrays(model).items()})
  values = arrays(model)
  name = 'output/kernel'
  direction = np.random.RandomState(0).normal(size=values[name].shape)

  def loss(offset):
    model.meta_parameters.assign({**values, name: values[name] + offset * direction})
    return float(model.meta_gradient(episodes)[0]['loss'])
  slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
  assert abs(slope) > 1e-3
  np.testing.assert_allclose((loss(5e-12) - loss(-5e-12)) / 1e-11, slope, rtol=0.1)


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_everything_is_in_the_dtype_of_the_parameters(make_classification, dtype):
  """Also where the episodes come in another one."""
  model = image_model(dtype=dtype)
  model.compile(build_optimizer('sgd', 0.1, dtype))
  episodes = make_classification(
      2, WAYS, SHOTS, IMAGE, dtype='float32' if dtype == 'float64' else 'float64')
  assert all(tensor.dtype == dtype
             for tensor in tf.nest.flatten(model.task_results(episodes, 2)))
  assert model.adapted_outputs(episodes, 1).dtype == dtype
  logs = model.train_step(episodes)
  assert (logs['loss'].dtype, logs['accuracy'].dtype) == (dtype, dtype)
  assert all(value.dtype == dtype for value in arrays(model).values())


# Evaluation


def test_results_of_tasks_against_the_learner_itself(images):
  model = image_model()
  results = model.task_results(images, 3)
  theta = model.meta_parameters.tensors()
  objective, learner = model.objective, model.learner
  measured = objective.measured(learner(theta, images.support.inputs),
                                images.support.labels)
  for name in ('loss', 'accuracy'):
    np.testing.assert_allclose(results.support[name], measured[name], rtol=1e-10)
  adapted_outputs = model.adapted_outputs(images, 3)
  assert adapted_outputs.shape == (TASKS, 4, images.query.labels.shape[1], WAYS)
  steps = list(model.adaptation(theta, images, 3, first_order=False))
  for index, adapted in enumerate(steps):
    outputs = learner(adapted, images.query.inputs)
    np.testing.assert_allclose(adapted_outputs[:, index], outputs, rtol=1e-9, atol=1e-11)
    for name, value in objective.measured(outputs, images.query.labels).items():
      np.testing.assert_allclose(results.query[name][:, index], value, rtol=1e-10)


@pytest.mark.parametrize('tasks_at_once', [1, 2])
def test_adapted_outputs_are_computed_in_groups(images, tasks_at_once, monkeypatch):
  whole = image_model().adapted_outputs(images, 2)
  model = image_model(tasks_at_once=tasks_at_once)
  seen, original = set(), model.adaptation
  monkeypatch.setattr(model, 'adaptation', lambda parameters, episodes, *more, **others: (
      seen.add(episodes.query.inputs.shape[0]),
      original(parameters, episodes, *more, **others))[1])
  np.testing.assert_allclose(model.adapted_outputs(images, 2), whole, rtol=1e-9, atol=1e-11)
  assert seen == {tasks_at_once}


@pytest.mark.parametrize('tasks_at_once, cores', [(1, None), (2, None), (2, 2)])
def test_results_do_not_depend_on_the_grouping(images, regressions, tasks_at_once, cores):
  for make, episodes in ((image_model, images),
                         (regression_model, next(iter(regressions(1, tasks=4))))):
    expected = make().task_results(episodes, 2)
    received = make(tasks_at_once=tasks_at_once, cores=cores).task_results(episodes, 2)
    tf.nest.map_structure(lambda value, reference: np.testing.assert_allclose(
        value, reference, rtol=1e-10), received, expected)


def test_adaptation_lowers_the_support_loss(images):
  model = image_model()
  swapped = images.replaced(query_inputs=images.support.inputs,
                            query_labels=images.support.labels)
  losses = model.task_results(swapped, 5).query['loss'].numpy()
  assert np.all(losses[:, 5] < losses[:, 0])


def test_evaluate_averages_over_meta_batches(regressions):
  model = regression_model(num_updates=2)
  model.compile(sgd())
  batches = list(regressions(3))
  each = [model.task_results(episodes, 2) for episodes in batches]
  query = np.mean(np.concatenate([results.query['loss'] for results in each]), axis=0)
  expected = {
      'Pre-update_loss': np.mean([results.support['loss'] for results in each]),
      'Query_loss_before_update': query[0],
      'Post-update_loss__step_1': query[1], 'Post-update_loss__step_2': query[2]}
  for _ in range(2):                       # the second time it starts from nothing
    received = model.evaluate(regressions(3), verbose=0, return_dict=True)
    assert set(received) == set(expected)
    for name, value in expected.items():
      np.testing.assert_allclose(received[name], value, rtol=1e-6, err_msg=name)


def test_evaluate_counts_every_task_the_same(make_regression):
  """Also where the last meta-batch has fewer of them; in the type of the parameters."""
  model = regression_model(num_updates=1)
  model.compile(sgd())
  parts = make_regression(5, 3)
  expected = named_means(model.task_results(parts, 1))
  tasks = tf.data.Dataset.from_tensor_slices(parts).batch(4)
  received = model.evaluate(tasks, verbose=0, return_dict=True)
  for name, value in expected.items():
    np.testing.assert_allclose(received[name], value, rtol=1e-12, err_msg=name)


def test_evaluate_of_classifications_names_accuracies_too(images):
  model = image_model()
  model.compile(sgd())
  received = model.evaluate(tf.data.Dataset.from_tensors(images), verbose=0,
                            return_dict=True)
  expected = named_means(model.task_results(images, 2))
  assert set(received) == set(expected) == {
      'Pre-update_loss', 'Pre-update_accuracy',
      'Query_loss_before_update', 'Query_accuracy_before_update',
      'Post-update_loss__step_1', 'Post-update_accuracy__step_1',
      'Post-update_loss__step_2', 'Post-update_accuracy__step_2'}
  for name, value in expected.items():
    np.testing.assert_allclose(received[name], value, rtol=1e-6, err_msg=name)


def test_evaluation_changes_no_parameter(images):
  model = image_model()
  model.compile(sgd())
  before = arrays(model)
  model.evaluate(tf.data.Dataset.from_tensors(images), verbose=0)
  assert_equal_arrays(arrays(model), before)
  assert int(model.optimizer.iterations) == 0
