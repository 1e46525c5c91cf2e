"""MAML of Keras models: the meta-gradient against differences of the meta-loss, in float64,
for every kind of model; what is refused; adapted copies; state and dropout."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
import tensorflow as tf

from maml_tf import (
  IMAML,
  MAML,
  FullyConnected,
  KerasLearner,
  KerasObjective,
  MeanSquaredError,
  MetaSGD,
  Prototypical,
  Reptile,
  ScaledCrossEntropy,
  Siamese,
)
from maml_tf.errors import ConfigError, NotFiniteError
from maml_tf.keras_models.functional_call import KERAS3

# Keras 3.15 says of every dataset that it cannot shuffle it.
pytestmark = pytest.mark.filterwarnings('ignore:.shuffle=True. was passed')

TASKS, EXAMPLES, CLASSES = 2, 6, 3
Input = tf.keras.layers.Input


@pytest.fixture
def float64():
  """Layers are made in float64 meanwhile."""
  tf.keras.utils.set_random_seed(0)
  tf.keras.backend.set_floatx('float64')
  tf.keras.mixed_precision.set_global_policy('float64')
  yield
  tf.keras.backend.set_floatx('float32')
  tf.keras.mixed_precision.set_global_policy('float32')


def layer(kind, *arguments, **kwargs):
  return getattr(tf.keras.layers, kind)(*arguments, **kwargs)


def sequential(shape, *layers, dtype=None):
  return tf.keras.Sequential([Input(shape, dtype=dtype), *layers])


def dense():
  return sequential((4,), layer('Dense', 5, activation='tanh'), layer('Dense', CLASSES))


def convolutional():
  return sequential(
      (6, 6, 2), layer('Conv2D', 4, 3, padding='same'), layer('BatchNormalization'),
      layer('ReLU'), layer('MaxPooling2D'), layer('Flatten'), layer('Dense', CLASSES))


def recurrent():
  return sequential((4, 2), layer('LSTM', 3), layer('Dense', CLASSES))


def words():
  return sequential((5,), layer('Embedding', 7, 3, mask_zero=True),
                    layer('GlobalAveragePooling1D'), layer('Dense', CLASSES), dtype='int32')


def attentive():
  symbol = Input((4, 3))
  attended = layer('MultiHeadAttention', 2, 2)(symbol, symbol)
  normed = layer('LayerNormalization')(symbol + attended)
  return tf.keras.Model(symbol, layer('Dense', CLASSES)(layer('Flatten')(normed)))


def shared_and_frozen():
  symbol = Input((4,))
  shared, frozen = layer('Dense', 4, activation='tanh'), layer('Dense', 4)
  outputs = layer('Dense', CLASSES)(shared(frozen(shared(symbol))))
  frozen.trainable = False
  return tf.keras.Model(symbol, outputs)


def regularised():
  return sequential((4,), layer('Dense', CLASSES, kernel_regularizer='l2',
                                activity_regularizer='l2'))


class Nested(tf.keras.Model):
  """Subclassed: layers in lists and dictionaries, a dictionary of inputs."""

  def __init__(self):
    super().__init__()
    self.blocks = [tf.keras.layers.Dense(4, activation='gelu') for _ in range(2)]
    self.parts = {'a': tf.keras.layers.Dense(3), 'b': tf.keras.layers.Dense(3)}
    self.head = tf.keras.layers.Dense(CLASSES)
    self.offset = self.add_weight(name='offset', shape=(3,), initializer='ones')

  def call(self, inputs):
    x = self.parts['a'](inputs['x']) + self.parts['b'](inputs['z']) * self.offset
    for block in self.blocks:
      x = block(x)
    return self.head(x)


def nested():
  model = Nested()
  model({'x': tf.zeros([1, 4]), 'z': tf.zeros([1, 2])})
  return model


def two_outputs():
  symbol = Input((4,))
  hidden = layer('Dense', 4, activation='softplus')(symbol)
  return tf.keras.Model(symbol, {'value': layer('Dense', 1)(hidden),
                                 'kind': layer('Dense', CLASSES)(hidden)})


def own_loss(labels, outputs):
  errors = tf.one_hot(labels, CLASSES, dtype=outputs.dtype) - outputs
  return tf.reduce_sum(tf.math.log(tf.cosh(errors)), axis=-1)


def unsure_loss(labels, outputs):
  """With the entropy of the net's own answers, and their spread."""
  answers = tf.nn.softmax(outputs)
  entropy = tf.nn.softmax_cross_entropy_with_logits(answers, outputs)
  _, spread = tf.nn.moments(outputs, [0])
  return own_loss(labels, outputs) + tf.reduce_mean(entropy) + tf.reduce_sum(tf.sqrt(spread))


def cross_entropy():
  return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def batch_for(model, seed=0, tasks=TASKS, examples=EXAMPLES):
  """A pair of inputs of the model's shapes and labels; as arrays."""
  random = np.random.RandomState(seed)

  def values(shape, dtype):
    if dtype == 'int32':
      return random.randint(0, 7, (tasks, examples, *shape)).astype('int32')
    return random.normal(size=(tasks, examples, *shape))
  classes = random.randint(0, CLASSES, (tasks, examples)).astype('int32')
  if isinstance(model, Nested):
    return {'x': values((4,), 'floats'), 'z': values((2,), 'floats')}, classes
  symbol = model.inputs[0]
  inputs = values(tuple(symbol.shape)[1:], tf.as_dtype(symbol.dtype).name)
  if len(model.outputs) > 1:
    return inputs, {'value': values((1,), 'floats'), 'kind': classes}
  return inputs, classes


def assert_exact(maml, support, query):
  """`meta_gradient` against central differences along random directions."""
  episodes = (support, query)
  cast = maml._cast(episodes)
  variables = maml.learner.model.trainable_variables
  loss, gradients = maml.meta_gradient(*episodes)
  assert len(gradients) == len(variables)
  assert all(tuple(one.shape) == tuple(variable.shape)
             for one, variable in zip(gradients, variables))
  theta = maml.meta_parameters.tensors()
  random = np.random.RandomState(7)
  size = max(np.abs(gradient).max() for gradient in gradients)
  assert size > 1e-3
  for part in [None, *range(len(variables))]:
    vector = [random.normal(size=one.shape) * (part is None or part == index)
              for index, one in enumerate(gradients)]

    def moved(step, vector=vector):
      values = {name: value + step * direction
                for (name, value), direction in zip(theta.items(), vector)}
      return float(maml.meta_gradient(cast, parameters=values)[0]['loss'])
    quotient = (moved(1e-6) - moved(-1e-6)) / 2e-6
    along = sum(np.sum(one * direction) for one, direction in zip(gradients, vector))
    np.testing.assert_allclose(along, quotient, rtol=1e-6, atol=1e-7 * size)
  np.testing.assert_allclose(loss, moved(0.0), rtol=1e-12)


MODELS = [dense, convolutional, recurrent, words, attentive, shared_and_frozen, regularised,
          nested]


@pytest.mark.parametrize('make', MODELS, ids=lambda make: make.__name__)
def test_the_meta_gradient_is_exact(float64, make):
  model = make()
  updates = 2 if make in (dense, convolutional) else 1     # tracing takes most of the time
  maml = MAML(model, cross_entropy(), step_size=0.3, num_updates=updates)
  assert_exact(maml, batch_for(model), batch_for(model, 1, examples=EXAMPLES + 1))


def test_several_outputs_with_a_loss_each(float64):
  model = two_outputs()
  maml = MAML(model, {'value': 'mse', 'kind': cross_entropy()}, step_size=0.2, num_updates=1)
  assert_exact(maml, batch_for(model), batch_for(model, 1))


@pytest.mark.parametrize('loss, given', [
    (own_loss, {}), (unsure_loss, {}), (ScaledCrossEntropy(2), {}),
    (None, dict(adapt='head*')), (None, dict(statistics='moving'))],
    ids=['own', 'unsure', 'scaled', 'adapt', 'statistics'])
def test_other_losses_adapted_layers_and_statistics(float64, loss, given):
  model = sequential((4,), layer('Dense', 4), layer('BatchNormalization'),
                     layer('Dense', CLASSES, name='head'))
  maml = MAML(KerasLearner(model, **given), loss or cross_entropy(), step_size=0.3,
              num_updates=1)
  assert_exact(maml, batch_for(model), batch_for(model, 1))


def test_first_order_is_the_gradient_at_the_adapted_values(float64):
  model = dense()
  support, query = batch_for(model), batch_for(model, 1)
  maml = MAML(model, cross_entropy(), step_size=0.3, num_updates=2, first_order=True)
  second = MAML(model, cross_entropy(), step_size=0.3, num_updates=2)
  one, other = (flat(each.meta_gradient(support, query)[1]) for each in (maml, second))
  assert np.linalg.norm(one - other) > 0.01 * np.linalg.norm(other)
  expected = 0
  for task in range(TASKS):
    adapted = maml.adapt(*(part[task] for part in support))
    with tf.GradientTape() as tape:
      loss = cross_entropy()(query[1][task], adapted(query[0][task]))
    expected += flat(tape.gradient(loss, adapted.trainable_variables)) / TASKS
  np.testing.assert_allclose(one, expected, rtol=1e-6, atol=1e-9)   # Keras 3's loss: float32


def flat(values):
  return np.concatenate([np.ravel(value) for value in values])


def test_unused_weights_and_sparse_ones_count_as_0(float64):
  model = words()
  inputs, classes = batch_for(model)
  inputs = np.minimum(inputs, 3)
  gradient = MAML(model, cross_entropy(), step_size=0.3, num_updates=1).meta_gradient(
      (inputs, classes), (inputs, classes))[1][0]
  assert np.all(np.asarray(gradient)[4:] == 0) and np.any(np.asarray(gradient)[1:4] != 0)


# Which variables adapt


@pytest.mark.parametrize('adapt', ['head', 'head*', ['head'], lambda variable: (
    variable.shape[-1] == CLASSES), lambda layer: layer.units == CLASSES],
    ids=['name', 'pattern', 'list', 'function', 'function of a layer'])
def test_what_adapts(adapt):
  model = sequential((4,), layer('Dense', 5), layer('Dense', CLASSES, name='head'))
  learner = KerasLearner(model, adapt=adapt)
  shapes = [spec.shape for spec in learner.parameter_specs if spec.adapted]
  assert shapes == [(5, CLASSES), (CLASSES,)]
  assert KerasLearner(model, adapt=model.layers[-1]).adapted_names == learner.adapted_names
  support = batch_for(model)
  adapted = MAML(learner, cross_entropy(), step_size=0.3, num_updates=1).adapt(
      *(part[0] for part in support))
  changed = [np.any(one.numpy() != other.numpy())
             for one, other in zip(adapted.weights, model.weights)]
  assert changed == [False, False, True, True]


def test_an_adapt_that_fits_nothing_is_refused():
  with pytest.raises(ConfigError, match='fits none'):
    KerasLearner(dense(), adapt='no_such_layer*')
  with pytest.raises(ConfigError, match='fits none'):
    KerasLearner(dense(), adapt=lambda variable: variable.shape[-1] == 99)
  model = sequential((4,), layer('Dense', 5, name='body'), layer('Dense', CLASSES))
  with pytest.raises(ConfigError, match=r"adapt='tail\*' fits none"):
    KerasLearner(model, adapt=['body', 'tail*'])
  for other in (dense().layers[-1], model.layers[0].kernel, 1):
    with pytest.raises(ConfigError, match='is no layer of it'):
      KerasLearner(model, adapt=['body', other])


def test_a_pattern_is_not_of_the_model_s_own_name():
  model = tf.keras.Sequential([Input((4,)), layer('Dense', 5), layer('Dense', 1, name='head')],
                              name='head_net')
  learner = KerasLearner(model, adapt='head*')
  assert len(learner.adapted_names) == 2
  for path in ('head/*', learner.adapted_names[0], learner.adapted_names[0][:-1] + '?'):
    assert set(KerasLearner(model, adapt=path).adapted_names) <= set(learner.adapted_names)


# fit, evaluate, adapt


def tasks_of(model):
  return tf.data.Dataset.from_tensors((batch_for(model), batch_for(model, 1))).repeat()


def test_fit_trains_the_model_itself_and_reports_keras_metrics():
  tf.keras.utils.set_random_seed(1)
  model = convolutional()
  before = [weight.numpy() for weight in model.weights]
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=2)
  maml.compile(tf.keras.optimizers.SGD(0.1), metrics=[
      'accuracy', tf.keras.metrics.SparseCategoricalAccuracy(name='same'),
      tf.keras.metrics.SparseTopKCategoricalAccuracy(CLASSES, name='top')])
  history = maml.fit(tasks_of(model), steps_per_epoch=4, verbose=0,
                     validation_data=tasks_of(model).take(1)).history
  assert history['loss'][0] > history['val_loss'][0]
  assert {'accuracy', 'same', 'top', 'val_loss_before_update', 'val_accuracy',
          'val_accuracy_before_update'} <= set(history)
  np.testing.assert_allclose(history['accuracy'], history['same'], rtol=1e-6)
  assert history['top'] == [1.0]
  changed = [np.any(weight.numpy() != old) for weight, old in zip(model.weights, before)]
  trained = [any(weight is one for one in model.trainable_variables)
             for weight in model.weights]
  assert changed == trained                       # moving averages are never written


def test_metrics_are_of_one_task_each():
  model = dense()
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
  maml.compile(tf.keras.optimizers.SGD(0.1), metrics=[
      'accuracy', lambda labels, outputs: tf.cast(labels, outputs.dtype)])
  support, query = batch_for(model), batch_for(model, 1)
  results = maml.task_results((support, query), 1)
  outputs = maml.adapted_outputs((support, query), 1)
  expected = np.mean(np.argmax(outputs, -1) == query[1][:, np.newaxis], axis=2)
  np.testing.assert_allclose(results.query['accuracy'], expected, rtol=1e-6)
  np.testing.assert_allclose(results.query['<lambda>'][:, 1], query[1].mean(1), rtol=1e-6)


def test_adapt_gives_a_plain_model_and_leaves_the_initialisation(tmp_path):
  model = dense()
  before = model.get_weights()
  maml = MAML(model, cross_entropy(), step_size=0.3, num_updates=3)
  support, query = batch_for(model), batch_for(model, 1)
  first = maml.adapt(support[0][0], support[1][0])
  second = maml.adapt(support[0][1], support[1][1], num_updates=3)
  assert type(first) is type(model) and first is not model
  outputs = maml.adapted_outputs((support, query), 3)[:, -1]
  for task, adapted in enumerate((first, second)):
    np.testing.assert_allclose(adapted.predict(query[0][task], verbose=0), outputs[task],
                               rtol=1e-4, atol=1e-5)
  for old, new in zip(before, model.get_weights()):
    np.testing.assert_array_equal(old, new)
  path = str(tmp_path / 'adapted.keras')
  first.save(path)
  loaded = tf.keras.models.load_model(path)
  np.testing.assert_array_equal(loaded.predict(query[0][0], verbose=0),
                                first.predict(query[0][0], verbose=0))
  assert maml.adapt(support[0][1], support[1][1], into=first) is first
  np.testing.assert_array_equal(first.get_weights()[0], second.get_weights()[0])


def test_an_adapted_model_normalises_by_the_support_set():
  model = sequential((4,), layer('Dense', 5), layer('BatchNormalization', epsilon=1e-5),
                     layer('Dense', CLASSES))
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=2)
  inputs, labels = (part[0] for part in batch_for(model))
  adapted = maml.adapt(inputs, labels)
  hidden = adapted.layers[0](inputs).numpy()
  mean, variance = adapted.layers[1].moving_mean, adapted.layers[1].moving_variance
  np.testing.assert_allclose(mean, hidden.mean(0), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(variance, hidden.var(0), rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(model.layers[1].moving_mean, np.zeros(5))
  # So one input gets the same outputs alone as among others.
  np.testing.assert_allclose(adapted.predict(inputs[:1], verbose=0),
                             adapted.predict(inputs, verbose=0)[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('shape', [(5, 5, 2), (3, 3, 3, 1)], ids=['images', 'volumes'])
def test_an_adapted_model_computes_what_the_inner_loop_did(shape):
  """Convolutional batch normalisation of Keras 2 averages n / (n - 1) times the variance."""
  size = len(shape) - 1
  model = sequential(shape, layer(f'Conv{size}D', 3, 2), layer('BatchNormalization'),
                     layer('Flatten'), layer('Dense', CLASSES))
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=2)
  part = batch_for(model)
  expected = maml.adapted_outputs((part, part), 2)[0, -1]
  adapted = maml.adapt(part[0][0], part[1][0])
  np.testing.assert_allclose(adapted(part[0][0]), expected, rtol=1e-4, atol=1e-5)


@tf.keras.utils.register_keras_serializable('tests')
class OfTwo(tf.keras.layers.Layer):
  """Layers of one shape in a layer."""

  def build(self, shape):
    self.first, self.last = tf.keras.layers.Dense(4), tf.keras.layers.Dense(4)
    self.first.build(shape)
    self.last.build(shape)
    self.built = True

  def call(self, inputs):
    return self.last(tf.nn.tanh(self.first(inputs)))


@pytest.mark.parametrize('is_given', [False, True], ids=['a new one', 'into'])
def test_layers_that_are_frozen_within_a_layer_are_where_they_were(is_given):
  def make():
    return sequential((4,), OfTwo(), layer('Dense', CLASSES))
  model = make()
  model.layers[0].first.trainable = False
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
  inputs, labels = (part[0] for part in batch_for(model))
  same = maml.adapt(inputs, labels, num_updates=0, into=make() if is_given else None)
  np.testing.assert_allclose(same(inputs), model(inputs), rtol=1e-5)
  assert not same.layers[0].first.trainable and same.layers[0].last.trainable


class OwnNormalisation(tf.keras.layers.Layer):
  """Batch normalisation as somebody writes it, with a momentum of its own."""

  def build(self, shape):
    self.scale = self.add_weight(name='scale', shape=(shape[-1],), initializer='ones')
    self.mean, self.variance = (self.add_weight(
        name=name, shape=(shape[-1],), initializer=start, trainable=False)
        for name, start in (('mean', 'zeros'), ('variance', 'ones')))

  def call(self, inputs, training=None):
    mean, variance = tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.variance)
    if training:
      before, mean = mean, tf.reduce_mean(inputs, 0)
      self.mean.assign(0.7 * before + 0.3 * mean)
      before, variance = variance, tf.reduce_mean((inputs - mean) ** 2, 0)
      self.variance.assign(0.7 * before + 0.3 * variance)
    return self.scale * (inputs - mean) / tf.sqrt(variance + 1e-3)


class OfOwnLayers(tf.keras.Model):
  """Whose normalisation gets the mode by its place, where Keras lets it."""

  def __init__(self, normalisation):
    super().__init__()
    self.first, self.last = tf.keras.layers.Dense(4), tf.keras.layers.Dense(CLASSES)
    self.normalisation = normalisation
    self.dropout = tf.keras.layers.Dropout(0.0)
    self(tf.zeros([1, 6]))

  def call(self, inputs, training=None):
    values = self.first(inputs)
    values = (self.normalisation(values, training=training) if KERAS3 else
              self.normalisation(values, training))
    return self.last(self.dropout(tf.nn.relu(values), training=training))


@pytest.mark.parametrize('module', [__name__, 'keras_layers', 'tensorflow_utils.norms'])
def test_normalisation_of_one_s_own_is_as_keras_s(module, monkeypatch):
  """The same function in fit, in the meta-gradient, in evaluation and in what adapts; whatever
  the file's name is."""
  monkeypatch.setattr(OwnNormalisation, '__module__', module)
  random = np.random.RandomState(0)
  support, query = ((random.normal(5, 3, (TASKS, EXAMPLES, 6)).astype('float32'),
                     random.randint(0, CLASSES, (TASKS, EXAMPLES))) for _ in range(2))

  def numbers(normalisation):
    tf.keras.utils.set_random_seed(0)
    model = OfOwnLayers(normalisation())
    maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
    maml.compile(tf.keras.optimizers.SGD(0.0))
    data = tf.data.Dataset.from_tensors((support, query))
    loss, _ = maml.meta_gradient(support, query)
    fitted = maml.fit(data, verbose=0).history['loss'][0]
    np.testing.assert_allclose(fitted, loss, rtol=1e-5)
    adapted = maml.adapt(support[0][0], support[1][0], into=OfOwnLayers(normalisation()))
    return [loss, maml.evaluate(data, verbose=0), adapted(query[0][0])]
  keras = functools.partial(tf.keras.layers.BatchNormalization, center=False)
  for own, expected in zip(numbers(OwnNormalisation), numbers(keras)):
    np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-5)


def scaled(values):
  first = layer('Normalization')
  first.adapt(values * 5 + 100)
  return sequential((4,), layer('Rescaling', 5.0, offset=100.0), first,
                    layer('Dense', CLASSES))


def binned(values):
  first = layer('Discretization', num_bins=5)
  first.adapt(values[:, :1])
  return sequential((4,), first, layer('Embedding', 6, 2), layer('Flatten'),
                    layer('Dense', CLASSES))


def looked_up(values):
  first = layer('IntegerLookup')
  first.adapt(values)
  return sequential((4,), first, layer('Embedding', 12, 2), layer('Flatten'),
                    layer('Dense', CLASSES), dtype='int64')


@pytest.mark.parametrize('make', [scaled, binned, looked_up], ids=lambda make: make.__name__)
@pytest.mark.parametrize('is_given', [False, True], ids=['a new one', 'into'])
def test_what_a_layer_was_adapted_to_is_in_the_copy(make, is_given, tmp_path):
  """Keras keeps it in attributes and tables, beside the weights."""
  random = np.random.RandomState(0)
  values = random.normal(size=(60, 4)).astype('float32')
  if make is looked_up:
    values = np.round(values).astype('int64')
  model = make(values)
  labels = random.randint(0, CLASSES, 6)
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=2)
  into = make(values) if is_given else None
  same = maml.adapt(values[:6], labels, num_updates=0, into=into)
  np.testing.assert_allclose(same(values), model(values), rtol=1e-5, atol=1e-6)
  adapted = maml.adapt(values[:6], labels, into=into)
  task = [part[np.newaxis] for part in (values[:6], labels, values, values)]
  expected = maml.adapted_outputs((task[:2], task[2:]), 2)[0, -1]
  np.testing.assert_allclose(adapted(values), expected, rtol=1e-4, atol=1e-5)
  if make is not binned or KERAS3:   # of which Keras 2 itself loses the bins
    adapted.save(tmp_path / 'adapted.keras')
    loaded = tf.keras.models.load_model(tmp_path / 'adapted.keras')
    np.testing.assert_allclose(loaded(values), expected, rtol=1e-4, atol=1e-5)


def test_words_are_in_the_copy():
  first = layer('TextVectorization', output_sequence_length=3)
  first.adapt(['an ant', 'a bee and an ant', 'a cat'])
  model = sequential((1,), first, layer('Embedding', 12, 2), layer('Flatten'),
                     layer('Dense', CLASSES), dtype='string')
  texts = np.array([['an ant'], ['a bee'], ['a cat and an ant']])
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=2)
  same = maml.adapt(texts, np.arange(CLASSES), num_updates=0)
  texts = tf.constant(texts)
  np.testing.assert_allclose(same(texts), model(texts), rtol=1e-5)
  task = texts[tf.newaxis], np.arange(CLASSES)[np.newaxis]
  maml.compile(tf.keras.optimizers.SGD(0.1))
  history = maml.fit(tf.data.Dataset.from_tensors((task, task)), verbose=0).history
  assert np.isfinite(history['loss'][0])


def test_a_subclassed_model_is_copied_or_filled():
  model = nested()
  maml = MAML(model, cross_entropy(), step_size=0.3, num_updates=1)
  inputs, labels = tf.nest.map_structure(lambda value: value[0], batch_for(model))
  filled = maml.adapt(inputs, labels, into=nested())
  assert np.any(filled.get_weights()[0] != model.get_weights()[0])
  with pytest.raises(ConfigError, match='another model of the same layers'):
    maml.adapt(inputs, labels, into=dense())
  with pytest.raises(ConfigError, match='another model'):
    maml.adapt(inputs, labels, into=model)


class Scaled(tf.keras.layers.Layer):
  """Its factor is set later, and is in no configuration."""
  factor = 1.0

  def call(self, inputs):
    return inputs * self.factor


def scaled_later(factor=3.0):
  model = sequential((4,), layer('Dense', 4), Scaled(), layer('Dropout', 0.5),
                     layer('Dense', CLASSES))
  model.layers[1].factor = factor
  return model


@pytest.mark.parametrize('method', [
    functools.partial(MAML, step_size=0.1, num_updates=1),
    functools.partial(Prototypical, shots=2)], ids=['maml', 'prototypical'])
def test_a_meta_batch_of_arrays_is_taken_by_all_of_keras_s_functions(method):
  """They hand on what they are given in several forms, which differ between Keras 2 and 3."""
  def made():
    tf.keras.utils.set_random_seed(0)
    model = method(dense(), cross_entropy())
    model.compile(tf.keras.optimizers.SGD(0.1))
    return model
  model = made()
  labels = np.tile(np.arange(CLASSES), (TASKS, EXAMPLES // CLASSES)).astype('int32')
  task = tuple((batch_for(model.learner.model, seed)[0].astype('float32'), labels)
               for seed in range(2))
  loss = model.evaluate(tf.data.Dataset.from_tensors(task), verbose=0)[0]
  assert model.evaluate(task, verbose=0)[0] == pytest.approx(loss, rel=1e-6)
  assert made().test_on_batch(task)[0] == pytest.approx(loss, rel=1e-6)
  trained = [made() for _ in range(4)]
  trained[0].fit(tf.data.Dataset.from_tensors(task), verbose=0)
  trained[1].fit(task, verbose=0)
  trained[2].train_on_batch(task)
  trained[3].train_on_batch(*task)
  for other in trained[1:]:
    for one, expected in zip(other.learner.model.get_weights(),
                             trained[0].learner.model.get_weights()):
      np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)
  for function in (model.train_on_batch, model.test_on_batch):
    with pytest.raises(ConfigError, match='A batch of tasks is'):
      function(task[0])


def test_a_step_of_one_s_own_loop_says_that_it_is_not_finite_and_the_next_one_learns():
  """All steps behind it learned nothing, with a loss as ever."""
  model = dense()
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
  maml.compile(tf.keras.optimizers.SGD(0.1), metrics=['accuracy'])
  labels = np.tile(np.arange(CLASSES), (TASKS, EXAMPLES // CLASSES)).astype('int32')
  inputs = batch_for(model)[0].astype('float32')
  task = (inputs, labels), (inputs, labels)
  before = model.get_weights()
  with pytest.raises(NotFiniteError, match='Lower step_size'):
    maml.train_on_batch(task[0], (inputs * np.nan, labels))
  for one, expected in zip(model.get_weights(), before):
    np.testing.assert_array_equal(one, expected)
  expected = maml.meta_gradient(*task)[0]
  logs = maml.train_on_batch(*task)
  assert len(logs) == 2
  assert logs[0] == pytest.approx(float(expected), rel=1e-5)
  assert any((one != other).any() for one, other in zip(model.get_weights(), before))
  assert set(maml.train_on_batch(*task, return_dict=True)) == {'loss', 'accuracy'}


def test_the_initialisation_of_a_regularised_model_is_called():
  model = regularised()
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
  inputs = batch_for(model)[0].astype('float32')
  for examples in (inputs, inputs[:, :2]):
    np.testing.assert_allclose(maml(examples)[0], model(examples[0]), rtol=1e-5, atol=1e-6)


def test_without_a_task_nothing_is_predicted_or_exported(tmp_path):
  maml = MAML(dense(), cross_entropy(), step_size=0.1, num_updates=1)
  compared = Prototypical(dense(), cross_entropy(), shots=2)
  for model, advice in (maml, r'adapt\(support'), (compared, r'take adapted_outputs\(tasks\)'):
    for function in (model.predict, model.predict_on_batch):
      with pytest.raises(ConfigError, match=advice):
        function(np.zeros([1, 4]))
    with pytest.raises(ConfigError, match='python -m maml_tf.export') as raised:
      model.export(str(tmp_path / 'model'))
    assert ('adapt(...)' in str(raised.value)) == (model is maml)


def test_a_copy_that_computes_something_else_is_refused():
  model = scaled_later()
  maml = MAML(model, cross_entropy(), step_size=0.3, num_updates=1)
  inputs, labels = (value[0] for value in batch_for(model))
  with pytest.raises(ConfigError, match='computes something else .*get_config.*into='):
    maml.adapt(inputs, labels)
  adapted = maml.adapt(inputs, labels, into=scaled_later())
  task = (inputs[np.newaxis], labels[np.newaxis])
  np.testing.assert_allclose(adapted(inputs), maml.adapted_outputs((task, task), 1)[0, -1],
                             rtol=1e-4, atol=1e-5)


def test_a_copy_of_a_model_that_is_random_by_itself_is_given():
  """Dropout in prediction, too, as for an ensemble of masks."""
  symbol = Input((4,))
  hidden = layer('Dropout', 0.5)(layer('Dense', 20)(symbol), training=True)
  model = tf.keras.Model(symbol, layer('Dense', CLASSES)(hidden))
  maml = MAML(model, cross_entropy(), step_size=0.3, num_updates=1)
  maml.adapt(*(value[0] for value in batch_for(model)))


@pytest.mark.parametrize('places', [1, 2])
def test_a_normalisation_at_several_places_has_the_averages_of_one(places):
  symbol = Input((4,))
  shared = sequential((4,), layer('Dense', 4), layer('BatchNormalization', name='shared'))
  hidden = symbol
  for _ in range(places):
    hidden = shared(hidden)
  model = tf.keras.Model(symbol, layer('Dense', CLASSES)(hidden))
  maml = MAML(model, cross_entropy(), step_size=0.3, num_updates=1)
  task = [value[0] for value in batch_for(model)]
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    maml.adapt(*task)
  said = [str(one.message) for one in caught if 'several places' in str(one.message)]
  assert len(said) == places - 1 and all(text.startswith('shared ') for text in said)


class Recomputed(tf.keras.layers.Layer):
  """Keeps no activations for its derivative."""

  def build(self, shape):
    self.kernel = self.add_weight(name='kernel', shape=(shape[-1], 5))

  def call(self, inputs):
    return tf.recompute_grad(lambda values: tf.tanh(
        tf.matmul(values, tf.convert_to_tensor(self.kernel))))(inputs)


def test_a_layer_that_recomputes_is_adapted(float64):
  model = sequential((4,), Recomputed(), layer('Dense', CLASSES))
  maml = MAML(model, cross_entropy(), step_size=0.3, num_updates=1)
  assert_exact(maml, batch_for(model), batch_for(model, 1))
  adapted = maml.adapt(*(value[0] for value in batch_for(model)))
  assert all(np.any(one != other) for one, other in
             zip(adapted.get_weights(), model.get_weights()))


@pytest.mark.skipif(not hasattr(tf.keras, 'RematScope'), reason='Keras 2 has none')
def test_keras_s_scope_of_recomputation(float64):
  with tf.keras.RematScope(mode='full'):
    model = dense()
  maml = MAML(model, cross_entropy(), step_size=0.3, num_updates=1)
  assert_exact(maml, batch_for(model), batch_for(model, 1))


@pytest.mark.parametrize('method, given', [
    (MetaSGD, {}), (Reptile, dict(inner_optimizer='adam'))], ids=['meta-sgd', 'reptile'])
def test_a_checkpoint_does_not_depend_on_nets_that_were_made_before(method, given, tmp_path):
  """Keras numbers layers over a process; what is kept beside the model has its own names."""
  def made():
    maml = method(dense(), cross_entropy(), step_size=0.1, num_updates=1, **given)
    maml.compile(tf.keras.optimizers.Adam(0.1))
    return maml
  saved = made()
  saved.fit(tasks_of(saved.learner.model), steps_per_epoch=1, verbose=0)
  path = tf.train.Checkpoint(model=saved).write(str(tmp_path / 'model'))
  read = made()
  tf.train.Checkpoint(model=read).read(path).expect_partial()
  for one, other in zip(read.state().values(), saved.state().values()):
    np.testing.assert_array_equal(one, other)


def test_reptile_trains_a_model():
  tf.keras.utils.set_random_seed(2)
  model = convolutional()
  before = model.get_weights()
  with pytest.raises(ConfigError, match='Reptile moves all'):
    Reptile(KerasLearner(model, adapt='dense*'), 'mse', step_size=0.1, num_updates=1)
  reptile = Reptile(model, cross_entropy(), inner_optimizer='sgd', step_size=0.1,
                    num_updates=2)
  reptile.compile(tf.keras.optimizers.SGD(1.0), metrics=['accuracy'])
  history = reptile.fit(tasks_of(model), steps_per_epoch=3, verbose=0).history
  assert np.isfinite(history['loss']).all() and 'accuracy' in history
  assert np.any(model.get_weights()[0] != before[0])


def test_mixed_precision():
  tf.keras.mixed_precision.set_global_policy('mixed_bfloat16')
  try:
    model = convolutional()
  finally:
    tf.keras.mixed_precision.set_global_policy('float32')
  exact = convolutional()
  exact.set_weights(model.get_weights())
  losses = []
  for one in (model, exact):
    maml = MAML(one, cross_entropy(), step_size=0.1, num_updates=1)
    loss, gradients = maml.meta_gradient(batch_for(model), batch_for(model, 1))
    assert all(gradient.dtype == tf.float32 for gradient in gradients)
    losses.append(float(loss))
  assert 0 < abs(losses[0] - losses[1]) < 0.05


# Dropout


def with_dropout():
  return sequential((4,), layer('Dense', 16, activation='relu'), layer('Dropout', 0.5),
                    layer('Dense', CLASSES))


def losses_of_fit(model, first=0, steps=3, seed=0):
  """Of steps that change nothing, from iteration `first` on."""
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1, seed=seed)
  maml.compile(tf.keras.optimizers.SGD(0.0))
  maml.optimizer.iterations.assign(first)
  return [maml.fit(tasks_of(model), steps_per_epoch=1, verbose=0).history['loss'][0]
          for _ in range(steps)]


def test_masks_differ_by_step_and_repeat_in_a_resumed_run():
  model = with_dropout()
  losses = losses_of_fit(model, 0, 3)
  assert len(set(losses)) == 3
  np.testing.assert_allclose(losses_of_fit(model, 1, 2), losses[1:], rtol=1e-5)
  assert abs(losses_of_fit(model, 0, 1, seed=1)[0] - losses[0]) > 1e-6


def test_tasks_have_masks_of_their_own():
  model = with_dropout()
  inputs, labels = (np.repeat(part[:1], 3, axis=0) for part in batch_for(model))
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
  maml.compile(tf.keras.optimizers.SGD(0.0))
  episodes = maml.learner.in_training(
      maml._cast(((inputs, labels), (inputs, labels))), 0, tf.constant(5, tf.int64))
  seeds = episodes.support.inputs.seeds[:, 0].numpy()
  assert len({tuple(seed) for seed in seeds}) == 3
  values = [float(cross_entropy()(labels[0], maml.learner(
      maml.meta_parameters.tensors(), tf.nest.map_structure(
          lambda value, task=task: value[task:task + 1], episodes.support.inputs)).outputs[0]))
            for task in range(3)]
  assert len(set(values)) == 3


def test_each_pass_of_a_graph_has_masks_of_its_own():
  model = with_dropout()
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
  part = tf.nest.map_structure(lambda value: value[:1], batch_for(model))
  inputs = maml.learner.in_training(maml._cast((part, part)), 0,
                                    tf.constant(5, tf.int64)).support.inputs
  two_passes = tf.function(lambda parameters: [
      maml.learner(parameters, inputs).outputs for _ in range(2)], autograph=False)
  one, other = two_passes(maml.meta_parameters.tensors())
  assert np.abs(one - other).max() > 1e-6


def test_masks_do_not_depend_on_how_many_tasks_share_a_graph():
  model = with_dropout()
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
  part = batch_for(model)
  inputs = maml.learner.in_training(maml._cast((part, part)), 0,
                                    tf.constant(5, tf.int64)).support.inputs

  def outputs(tasks):
    chosen = tf.nest.map_structure(lambda value: value[tasks], inputs)
    return tf.function(lambda parameters: maml.learner(parameters, chosen).outputs,
                       autograph=False)(maml.meta_parameters.tensors())
  together = outputs(slice(0, 2))
  for task in range(2):
    np.testing.assert_allclose(outputs(slice(task, task + 1))[0], together[task], rtol=1e-5)


def test_nothing_is_dropped_in_evaluation():
  model = with_dropout()
  support, query = batch_for(model), batch_for(model, 1)
  results = [MAML(model, cross_entropy(), step_size=0.1, num_updates=1).task_results(
      (support, query), 1).query['loss'] for _ in range(2)]
  np.testing.assert_array_equal(*results)


# What is refused


def test_models_that_cannot_be_adapted_are_refused():
  with pytest.raises(ConfigError, match='no variables yet'):
    MAML(tf.keras.Sequential([tf.keras.layers.Dense(1)]), 'mse', step_size=1, num_updates=1)
  frozen = dense()
  frozen.trainable = False
  with pytest.raises(ConfigError, match='no trainable variables'):
    MAML(frozen, 'mse', step_size=1, num_updates=1)
  half = sequential((4,), layer('Dense', 1, dtype='float16'))
  with pytest.raises(ConfigError, match='float32 or'):
    MAML(half, 'mse', step_size=1, num_updates=1)
  with pytest.raises(ConfigError, match='a Keras model or a Learner'):
    MAML('dense', 'mse', step_size=1, num_updates=1)
  with pytest.raises(ConfigError, match='no Keras loss of that name'):
    MAML(dense(), 'no such loss', step_size=1, num_updates=1)
  with pytest.raises(ConfigError, match='loss must be'):
    MAML(dense(), 3, step_size=1, num_updates=1)


class Decorated(tf.keras.Model):
  """Its graph, made when it is built, reads the variables themselves."""

  def __init__(self):
    super().__init__()
    self.dense = tf.keras.layers.Dense(CLASSES)

  @tf.function
  def call(self, inputs):
    return self.dense(inputs)


class Captured(tf.keras.Model):
  """With a variable that Keras is not told of."""

  def __init__(self):
    super().__init__()
    self.dense = tf.keras.layers.Dense(CLASSES)
    self.hidden = [(lambda variable: lambda: variable)(tf.Variable(2.0))]

  def call(self, inputs):
    return self.dense(inputs) * self.hidden[0]()


class Cut(tf.keras.Model):
  """No gradient comes through."""

  def __init__(self):
    super().__init__()
    self.dense = tf.keras.layers.Dense(CLASSES)

  def call(self, inputs):
    return tf.stop_gradient(self.dense(inputs))


class OwnMoments(tf.keras.layers.Layer):
  """Computes moments by a name that no patch reaches."""

  own = staticmethod(tf.nn.moments)

  def call(self, inputs):
    mean, variance = self.own(inputs, [0], name=self.name)
    return (inputs - mean) / tf.sqrt(variance + 0.1)


class InPython(tf.keras.layers.Layer):
  """Whose second derivative TensorFlow would take as 0, or fail."""

  def call(self, inputs):
    return tf.ensure_shape(tf.py_function(tf.square, [inputs], inputs.dtype), inputs.shape)


class SparseSum(tf.keras.layers.Layer):
  """Whose second derivative TensorFlow takes as 0."""

  def call(self, inputs):
    sparse = tf.sparse.from_dense(inputs ** 2 + 1)
    return tf.sparse.to_dense(tf.sparse.add(sparse, sparse))


@pytest.mark.parametrize('make, message', [
    (Decorated, 'reads variables'), (Captured, 'reads variables'),
    (Cut, 'depends on none of the variables'),
    (lambda: sequential((4,), layer('Dense', 3), OwnMoments()), 'a name of its own'),
    (lambda: sequential((4,), layer('Dense', 3), OwnMoments(name='moments')),
     'a name of its own'),
    (lambda: sequential((4,), layer('Dense', 3), InPython()), 'EagerPyFunc.*numpy_function'),
    (lambda: sequential((4,), layer('Dense', 3), SparseSum()), 'SparseAddGrad'),
    (lambda: tf.keras.Sequential([
        Input((4, 2), batch_size=EXAMPLES), layer('SimpleRNN', CLASSES, stateful=True)]),
     'reads variables')],
    ids=['tf.function', 'captured', 'cut', 'moments by a name', 'moments', 'py_function',
         'sparse', 'stateful'])
def test_models_without_an_exact_meta_gradient_are_refused(make, message):
  model = make()
  if not model.built:
    model(tf.zeros([EXAMPLES, 4]))
  if isinstance(model, tf.keras.Sequential):
    inputs, labels = batch_for(model)
  else:
    inputs, labels = batch_for(dense())
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
  if make is Decorated and KERAS3:
    message = 'reads variables|depends on none'
  with pytest.raises(ConfigError, match=message):
    maml.meta_gradient((inputs, labels), (inputs, labels))


def test_a_loss_whose_derivative_has_none_only_when_it_runs_is_refused():
  def aligned(labels, outputs):
    lengths = tf.fill([EXAMPLES], 4)
    return tf.nn.ctc_loss(labels, outputs, lengths // 2, lengths, logits_time_major=False)
  model = sequential((4, 2), layer('Dense', CLASSES))
  random = np.random.RandomState(0)
  batch = (random.normal(size=(TASKS, EXAMPLES, 4, 2)).astype('float32'),
           random.randint(1, CLASSES, (TASKS, EXAMPLES, 2)))
  settings = dict(step_size=0.1, num_updates=1)
  with pytest.raises(ConfigError, match='no second derivative of .*ctc_loss'):
    MAML(model, aligned, **settings).meta_gradient(batch, batch)
  loss, gradients = MAML(model, aligned, first_order=True, **settings).meta_gradient(
      batch, batch)
  assert np.isfinite(loss) and np.isfinite(flat(gradients)).all()


@pytest.mark.parametrize('made', [
    lambda model: Reptile(model, cross_entropy(), step_size=0.1, num_updates=1),
    lambda model: Prototypical(model, cross_entropy(), shots=2),
    lambda model: Siamese(model, cross_entropy(), shots=2)],
    ids=['reptile', 'prototypical', 'siamese'])
def test_a_model_that_would_learn_nothing_is_refused_by_other_methods_too(made):
  model = tf.keras.Sequential([Input((4,)), layer('Dense', CLASSES),
                               layer('Lambda', tf.stop_gradient)])
  task = batch_for(model)[0], np.tile(np.arange(CLASSES), (TASKS, EXAMPLES // CLASSES))
  with pytest.raises(ConfigError, match='depends on no'):
    made(model).meta_gradient(task, task)


class OfArguments(tf.keras.layers.Layer):
  """A product whose derivative is its own; what it reads within it is in the subclasses."""

  def build(self, shape):
    self.kernel = self.add_weight(name='kernel', shape=(shape[-1], 5))

  def call(self, inputs):
    return tf.tanh(self.product(inputs, tf.convert_to_tensor(self.kernel)))

  @staticmethod
  def in_gradient(kernel):
    return kernel

  def product(self, inputs, kernel):
    @tf.custom_gradient
    def function(inputs, kernel):
      def gradient(upstream):
        return (tf.matmul(upstream, self.in_gradient(kernel), transpose_b=True),
                tf.matmul(inputs, upstream, transpose_a=True))
      return tf.matmul(inputs, kernel), gradient
    return function(inputs, kernel)


class ReadsWithin(OfArguments):

  def product(self, inputs, kernel):
    @tf.custom_gradient
    def function(inputs):
      kernel = tf.convert_to_tensor(self.kernel)
      def gradient(upstream, variables=None):
        by_inputs = tf.matmul(upstream, kernel, transpose_b=True)
        by_kernel = tf.matmul(inputs, upstream, transpose_a=True)
        return (by_inputs, [by_kernel]) if variables else by_inputs
      return tf.matmul(inputs, kernel), gradient
    return function(inputs)


class ReadsInGradient(OfArguments):

  def in_gradient(self, kernel):
    return tf.convert_to_tensor(self.kernel)


class RecomputesALayer(tf.keras.layers.Layer):
  """Decorated where it is made, and not where it is called."""

  def __init__(self):
    super().__init__()
    self.dense = layer('Dense', 5, activation='tanh')
    self.recomputed = tf.recompute_grad(self.dense)

  def build(self, shape):
    self.dense.build(shape)

  def call(self, inputs):
    return self.recomputed(inputs)


def test_a_derivative_of_one_s_own_by_arguments_is_exact(float64):
  model = sequential((4,), layer('Dense', 4), OfArguments(), layer('Dense', CLASSES))
  maml = MAML(model, cross_entropy(), step_size=0.3, num_updates=1)
  assert_exact(maml, batch_for(model), batch_for(model, 1))


@pytest.mark.parametrize('method', [
    MAML, functools.partial(MAML, first_order=True), IMAML, Reptile],
    ids=['maml', 'first order', 'imaml', 'reptile'])
@pytest.mark.parametrize('kind', [ReadsWithin, ReadsInGradient, RecomputesALayer])
def test_nor_by_weights_that_it_reads(kind, method):
  """They had no gradient, or one at the values of the initialisation, in silence."""
  model = sequential((4,), layer('Dense', 4), kind(), layer('Dense', CLASSES))
  maml = method(model, cross_entropy(), step_size=0.3, num_updates=1)
  with pytest.raises(ConfigError, match='reads .*as arguments'):
    maml.meta_gradient(batch_for(model), batch_for(model, 1))


def test_methods_that_compare_refuse_it_too():
  model = sequential((4,), RecomputesALayer(), layer('Dense', CLASSES))
  task = batch_for(model)[0], np.tile(np.arange(CLASSES), (TASKS, EXAMPLES // CLASSES))
  with pytest.raises(ConfigError, match='reads .*within a function of tf.custom_gradient'):
    Prototypical(model, cross_entropy(), shots=2).meta_gradient(task, task)


def test_a_layer_that_assigns_its_kernel_is_refused():
  if not KERAS3:
    pytest.skip('in Keras 2 its own tf.function fails first')
  model = sequential((4,), layer('SpectralNormalization', layer('Dense', CLASSES)))
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
  maml.compile('sgd')
  with pytest.raises(ConfigError, match='assigns its trainable variables'):
    maml.fit(tasks_of(model), steps_per_epoch=1, verbose=0)


def test_max_pooling_is_not_compiled_by_xla():
  maml = MAML(convolutional(), cross_entropy(), step_size=0.1, num_updates=1)
  with pytest.raises(ConfigError, match='exact under XLA'):
    maml.compile('sgd', jit_compile=True)
  MAML(dense(), cross_entropy(), step_size=0.1, num_updates=1).compile(
      'sgd', jit_compile=True)


@pytest.mark.parametrize('pool', ['MaxPooling1D', 'MaxPooling2D', 'MaxPooling3D'])
def test_no_max_pooling_by_windows_is(pool):
  """Of each a second derivative was seen that was wrong."""
  size = int(pool[-2])
  model = sequential((4,) * size + (1,), layer(pool), layer('Flatten'),
                     layer('Dense', CLASSES))
  assert not KerasLearner(model).exact_under_xla
  model = sequential((4,) * size + (1,), layer(f'Global{pool}'), layer('Dense', CLASSES))
  assert KerasLearner(model).exact_under_xla


@pytest.mark.parametrize('function, is_exact', [
    (lambda x: tf.nn.max_pool2d(x, 2, 2, 'VALID'), False), (tf.nn.relu, True)])
def test_nor_is_one_in_a_function(function, is_exact):
  model = sequential((4, 4, 1), tf.keras.layers.Lambda(function), layer('Flatten'),
                     layer('Dense', CLASSES))
  assert KerasLearner(model).exact_under_xla == is_exact


@pytest.mark.skipif(not KERAS3, reason='an operation that is no layer: Keras 3')
@pytest.mark.parametrize('operation, is_exact', [('max_pool', False), ('average_pool', True)])
def test_nor_is_one_as_an_operation(operation, is_exact):
  symbol = Input((4, 4, 1))
  pooled = getattr(tf.keras.ops, operation)(symbol, 2)
  inner = tf.keras.Model(symbol, pooled)
  outputs = layer('Dense', CLASSES)(layer('Flatten')(inner(symbol)))
  assert KerasLearner(tf.keras.Model(symbol, outputs)).exact_under_xla == is_exact


@pytest.mark.parametrize('loss', [
    ScaledCrossEntropy(2), tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    tf.keras.losses.BinaryCrossentropy(from_logits=True)], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize('last', [
    lambda: [layer('Dense', CLASSES, activation='softmax')],
    lambda: [layer('Dense', CLASSES), layer('Softmax')],
    lambda: [layer('Dense', CLASSES), layer('Lambda', tf.nn.sigmoid)]],
    ids=['activation', 'layer', 'function'])
def test_a_second_softmax_is_refused(loss, last):
  model = sequential((4,), *last())
  maml = MAML(model, loss, step_size=0.1, num_updates=1)
  with pytest.raises(ConfigError, match='Leave the activation out'):
    maml.meta_gradient(*[batch_for(model)] * 2)


@pytest.mark.parametrize('loss', [
    'sparse_categorical_crossentropy', tf.keras.losses.SparseCategoricalCrossentropy(),
    tf.keras.losses.binary_crossentropy], ids=['its name', 'an object', 'a function'])
def test_nor_is_none_where_the_loss_is_of_probabilities(loss):
  for net in (dense(), FullyConnected(4, (5,), CLASSES, norm='None')):
    with pytest.raises(ConfigError, match='give a loss with from_logits=True'):
      MAML(net, loss)
  MAML(sequential((4,), layer('Dense', CLASSES, activation='softmax')), loss)
  MAML(sequential((4,), layer('Dense', CLASSES), layer('Softmax')), loss)


def test_compile_takes_no_loss_where_keras_does():
  with pytest.raises(ConfigError, match=r'no loss: .* MAML\(model, loss\)'):
    MAML(dense(), cross_entropy()).compile('adam', cross_entropy())


class Deciding(tf.keras.Model):
  """By Python, which Keras's own fit would rewrite."""

  def __init__(self):
    super().__init__()
    self.dense = tf.keras.layers.Dense(CLASSES)
    self.dense.build((None, 4))
    self.built = True

  def call(self, inputs):
    outputs = self.dense(inputs)
    if tf.reduce_sum(outputs) > 0:
      return outputs
    return 2 * outputs


@pytest.mark.parametrize('use', ['meta_gradient', 'fit', 'evaluate', 'adapt'])
def test_a_model_that_decides_in_python_is_refused(use):
  maml = MAML(Deciding(), cross_entropy(), step_size=0.1, num_updates=1)
  maml.compile(tf.keras.optimizers.SGD(0.1))
  part = tuple(value.astype(dtype) for value, dtype in zip(batch_for(dense()), 'fi'))
  tasks = tf.data.Dataset.from_tensors((part, part))
  with pytest.raises(ConfigError, match=r'decides in Python .* tf\.cond'):
    {'meta_gradient': lambda: maml.meta_gradient(part, part),
     'fit': lambda: maml.fit(tasks, verbose=0),
     'evaluate': lambda: maml.evaluate(tasks, verbose=0),
     'adapt': lambda: maml.adapt(part[0][0], part[1][0])}[use]()


def test_each_loss_of_a_learner_is_looked_at():
  learner = KerasLearner(dense())
  MAML(learner, cross_entropy(), step_size=0.1, num_updates=1).meta_gradient(
      *[batch_for(learner.model)] * 2)
  cut = MAML(learner, lambda labels, outputs: tf.stop_gradient(outputs), step_size=0.1,
             num_updates=1)
  with pytest.raises(ConfigError, match='depends on none'):
    cut.meta_gradient(*[batch_for(learner.model)] * 2)


def test_texts_are_no_labels():
  inputs, labels = (part[0] for part in batch_for(dense()))
  maml = MAML(dense(), cross_entropy(), step_size=0.1, num_updates=1)
  with pytest.raises(ConfigError, match='must be numbers'):
    maml.adapt(inputs, np.array(['ant', 'bee', 'cat'])[labels])


@pytest.mark.parametrize('loss', [
    tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    'sparse_categorical_crossentropy'], ids=['an object', 'its name'])
def test_one_hot_rows_are_no_labels_of_a_sparse_loss(loss):
  model = sequential((4,), layer('Dense', CLASSES), layer('Lambda', lambda values: values))
  inputs, labels = (part[0] for part in batch_for(model))
  maml = MAML(model, loss, step_size=0.1, num_updates=1)
  with pytest.raises(ConfigError, match=r'give y.argmax\(-1\)'):
    maml.adapt(inputs, np.eye(CLASSES)[labels])


@pytest.mark.parametrize('inputs, labels', [
    (list(np.zeros([3, 4])), [0, 1, 2]), (np.zeros([2, 4]), [0, 1, 2]), (np.zeros(4), 0)],
    ids=['a list', 'too few', 'one alone'])
def test_a_support_set_is_of_examples(inputs, labels):
  with pytest.raises(ConfigError, match=r'are \[examples, ...\] each.*np.stack'):
    MAML(dense(), cross_entropy()).adapt(inputs, labels)


def test_labels_are_of_the_outputs():
  model = dense()
  inputs, labels = batch_for(model)
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
  maml.compile(tf.keras.optimizers.SGD(0.1))
  task = inputs, labels + 1
  with pytest.raises(ConfigError, match='no more classes than the model has outputs'):
    maml.fit(tf.data.Dataset.from_tensors((task, task)), verbose=0)
  with pytest.raises(ConfigError, match='no more classes than the model has outputs'):
    maml.adapt(inputs[0], labels[0] + 1)


def test_it_predicts_by_what_is_adapted_alone():
  model = dense()
  with pytest.raises(ConfigError, match='adapt'):
    MAML(model, cross_entropy(), step_size=0.1, num_updates=1).predict(batch_for(model)[0])


def test_an_adapted_model_is_finite():
  model = dense()
  inputs, labels = (part[0] for part in batch_for(model))
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
  with pytest.raises(NotFiniteError, match='in the support set, or lower step_size'):
    maml.adapt(inputs * np.nan, labels)


def test_saving_weights_and_fitting_warn_of_nothing(tmp_path, caplog):
  model = dense()
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
  maml.compile(tf.keras.optimizers.SGD(0.1))
  with warnings.catch_warnings():
    warnings.simplefilter('error', UserWarning)
    maml.fit(tasks_of(model).take(1), verbose=0)
    maml.save_weights(tmp_path / 'x.weights.h5')
  assert not caplog.records


def test_a_loss_of_probabilities_takes_them():
  model = sequential((4,), layer('Dense', CLASSES, activation='softmax'))
  logits = sequential((4,), layer('Dense', CLASSES))
  logits.set_weights(model.get_weights())
  episodes = batch_for(model), batch_for(model, 1)
  of_probabilities = tf.keras.losses.SparseCategoricalCrossentropy()
  losses = [MAML(net, loss, step_size=0.1, num_updates=1).meta_gradient(*episodes)[0]
            for net, loss in ((model, of_probabilities), (logits, cross_entropy()))]
  np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize('last, loss, label', [
    (lambda: layer('Dense', 2, use_bias=False, activation='softmax'),
     tf.keras.losses.SparseCategoricalCrossentropy(), 0),
    (lambda: layer('Dense', 2, use_bias=False, activation='softmax'),
     'sparse_categorical_crossentropy', 0),
    (lambda: layer('Dense', 1, use_bias=False, activation='sigmoid'),
     tf.keras.losses.BinaryCrossentropy(), 0.0)], ids=['softmax', 'by name', 'sigmoid'])
def test_a_loss_of_probabilities_is_not_cut_off(last, loss, label):
  """As in Keras, which takes it of the logits: -log(p) is 30, and no bound of p."""
  model = sequential((1,), last())
  model.set_weights([np.array([[0.0, 30.0][-model.output_shape[-1]:]], 'float32')])
  part = np.ones([1, 1, 1], 'float32'), np.full([1, 1], label)
  value, gradients = MAML(model, loss, step_size=0.1, num_updates=0).meta_gradient(part, part)
  np.testing.assert_allclose(value, 30.0, rtol=1e-5)
  np.testing.assert_allclose(gradients[0][0, -1], 1.0, rtol=1e-5)


def test_recomputing_with_dropout_is_refused():
  with pytest.raises(ConfigError, match='recompute_inner_steps'):
    MAML(with_dropout(), 'mse', step_size=0.1, num_updates=1, recompute_inner_steps=True)


def test_a_learner_of_the_package_is_a_keras_model_once_it_is_adapted():
  maml = MAML(FullyConnected(1, (4,), 1, 'None'), MeanSquaredError(), step_size=0.1,
              num_updates=1)
  x, y = (np.random.RandomState(0).normal(size=(2, 3, 1)).astype('float32'))
  adapted = maml.adapt(x, y)
  assert isinstance(adapted, tf.keras.Model)
  episodes = ((x[np.newaxis], y[np.newaxis]), (x[np.newaxis], y[np.newaxis]))
  expected = maml.adapted_outputs(episodes, 1)[0, -1]
  np.testing.assert_allclose(adapted.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_a_loss_of_keras_goes_with_a_learner_of_the_package(make_regression):
  maml = MAML(FullyConnected(1, (4,), 1, 'None'), 'mse', step_size=0.1, num_updates=1)
  assert isinstance(maml.objective, KerasObjective)
  means, _ = maml.meta_gradient(make_regression(1, 5, dtype='float32'))
  assert float(means['loss']) > 0


def test_masked_outputs_do_not_count(float64):
  """As in Keras's own fit: the mean over the words that are there."""
  model = sequential((5,), layer('Embedding', 7, 3, mask_zero=True), layer('Dense', CLASSES),
                     dtype='int32')
  random = np.random.RandomState(0)
  inputs = random.randint(1, 7, (1, 4, 5)).astype('int32')
  inputs[0, :, 3:] = 0
  labels = random.randint(0, CLASSES, (1, 4, 5)).astype('int32')
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=0)
  loss, _ = maml.meta_gradient((inputs, labels), (inputs, labels))
  expected = cross_entropy()(labels[0, :, :3], model(inputs[0])[:, :3])
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize('metric', [
    'accuracy', 'sparse_categorical_accuracy',
    tf.keras.metrics.SparseCategoricalAccuracy(name='own')],
    ids=['accuracy', 'name', 'object'])
def test_nor_do_they_in_metrics_of_keras(metric):
  model = sequential((4,), layer('Embedding', 5, 3, mask_zero=True), layer('Dense', 2),
                     dtype='int32')
  inputs = np.array([[[1, 2, 0, 0], [3, 0, 0, 0]]], 'int32')
  chosen = np.argmax(model(inputs[0]), -1)
  labels = 1 - chosen[np.newaxis]   # right in one of three places
  labels[0, 0, 1] = chosen[0, 1]
  objective = KerasObjective(cross_entropy(), [metric])
  maml = MAML(model, objective, step_size=0.1, num_updates=0)
  results = maml.task_results(((inputs, labels), (inputs, labels)), 0)
  np.testing.assert_allclose(results.query[objective.measure.name], [[1 / 3]], rtol=1e-6)


# Shapes


def test_one_task_at_a_time_and_all_together_are_the_same(float64):
  model = convolutional()
  maml = MAML(model, cross_entropy(), step_size=0.3, num_updates=1)
  support, query = batch_for(model), batch_for(model, 1)
  loss, gradients = maml.meta_gradient(support, query)
  parts = [maml.meta_gradient(*(tuple(value[task:task + 1] for value in pair)
                                for pair in (support, query))) for task in range(TASKS)]
  np.testing.assert_allclose(loss, np.mean([one for one, _ in parts]), rtol=1e-12)
  for index, gradient in enumerate(gradients):
    np.testing.assert_allclose(gradient, np.mean([one[index] for _, one in parts], axis=0),
                               rtol=0, atol=1e-12)


def test_numbers_of_tasks_and_examples_may_be_open():
  """As in a dataset from a generator."""
  model = dense()
  sizes = [(2, 5), (3, 4)]
  batches = [(batch_for(model, tasks=tasks, examples=examples),) * 2
             for tasks, examples in sizes]
  batches = [tf.nest.map_structure(lambda value: value.astype(
      'float32' if value.dtype == 'float64' else 'int32'), batch) for batch in batches]
  spec = (tf.TensorSpec([None, None, 4]), tf.TensorSpec([None, None], tf.int32))
  dataset = tf.data.Dataset.from_generator(lambda: iter(batches),
                                           output_signature=(spec, spec))
  # Keras 3.15 counts one batch of zeros more where it does not know how many there are.
  dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
  maml = MAML(model, cross_entropy(), step_size=0.1, num_updates=1)
  maml.compile(tf.keras.optimizers.SGD(0.0), metrics=['accuracy'])
  received = maml.evaluate(dataset, verbose=0, return_dict=True)['loss']
  expected = [maml.task_results(batch, 1).query['loss'][:, -1] for batch in batches]
  np.testing.assert_allclose(received, np.mean(np.concatenate(expected)), rtol=1e-5)


@pytest.mark.parametrize('method', [
    functools.partial(Reptile, step_size=0.1, num_updates=1, inner_batch_size=2),
    functools.partial(Prototypical, shots=2), functools.partial(Siamese, shots=2)])
def test_who_must_know_the_number_of_examples_says_so(method):
  shapes = tf.TensorSpec([TASKS, None, 4]), tf.TensorSpec([TASKS, None], 'int32')
  task = batch_for(dense())
  tasks = tf.data.Dataset.from_generator(lambda: iter([(task, task)]),
                                         output_signature=(shapes, shapes))
  model = method(dense(), cross_entropy())
  model.compile('sgd')
  with pytest.raises(ConfigError, match='how many examples.*output_signature'):
    model.fit(tasks, verbose=0)


def test_variables_that_are_frozen_or_not_behind_it_are_refused():
  """Those of a model of equal layers would be taken for one another."""
  model = sequential((4,), layer('Dense', 4), layer('Dense', 4), layer('Dense', 4))
  model.layers[0].trainable = False
  maml = MAML(model, 'mse', step_size=0.1, num_updates=1)
  maml.compile('sgd')
  batch = (np.ones([2, 3, 4], 'float32'), np.ones([2, 3, 4], 'float32'))
  maml.meta_gradient(batch, batch)
  model.layers[0].trainable, model.layers[2].trainable = True, False
  maml.compile('sgd')   # from where on Keras 2 sees it
  tasks = tf.data.Dataset.from_tensors((batch, batch))
  for use in (lambda: maml.meta_gradient(batch, batch), lambda: maml.fit(tasks, verbose=0),
              lambda: maml.adapt(batch[0][0], batch[1][0])):
    with pytest.raises(ConfigError, match='are other ones than when the meta-learner was'):
      use()


def test_batch_normalisation_over_replicas_asks_no_other_one(monkeypatch):
  """Which has other tasks, and is not waited for within a graph."""
  def refuse(*_, **__):
    raise AssertionError('another replica was asked')
  monkeypatch.setattr(tf.distribute.ReplicaContext, 'all_reduce', refuse)
  norm = tf.keras.layers.BatchNormalization(synchronized=True)
  model = sequential((4,), layer('Dense', 4), norm, layer('Dense', CLASSES))
  maml = MAML(model, cross_entropy(), step_size=0.3, num_updates=1)
  maml.meta_gradient(batch_for(model), batch_for(model, 1))
  assert norm.synchronized   # as it was


@pytest.mark.skipif(KERAS3, reason='Keras 3 has one class')
def test_batch_normalisation_over_replicas_goes_by_the_batch_too(float64):
  own = tf.keras.layers.experimental.SyncBatchNormalization
  model = sequential((4,), layer('Dense', 4), own(), layer('Dense', CLASSES))
  maml = MAML(model, cross_entropy(), step_size=0.3, num_updates=1)
  assert_exact(maml, batch_for(model), batch_for(model, 1))
  support, labels = batch_for(model)
  outputs = maml.adapt(support[0], labels[0]).predict(support[0], verbose=0)
  other = sequential((4,), layer('Dense', 4), layer('BatchNormalization'),
                     layer('Dense', CLASSES))
  other.set_weights(model.get_weights())
  expected = MAML(other, cross_entropy(), step_size=0.3, num_updates=1).adapt(
      support[0], labels[0]).predict(support[0], verbose=0)
  np.testing.assert_allclose(outputs, expected, rtol=1e-9)
