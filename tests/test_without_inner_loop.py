"""Prototypical, matching and Siamese networks against NumPy from their equations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from maml_tf import config, experiment
from maml_tf.errors import ConfigError
from maml_tf.evaluation.results_files import file_stem
from maml_tf.keras_models.learner import KerasLearner
from maml_tf.learners import FullyConnected
from maml_tf.meta_learners import WITHOUT_INNER_LOOP, meta_learner_class
from maml_tf.objectives import MeanCrossEntropy
from maml_tf.training.run_folder import differences_of_run, training_folder
from maml_tf.training.trainer import train

TASKS, WAYS, SHOTS, SIZE = 2, 3, 2, 4
METHODS = [(name, {}) for name in WITHOUT_INNER_LOOP] + [('matching', dict(full_context=True))]


def model_of(name, generic_values, **given):
  """Whose net is relu(x W + b), without batch norm."""
  model = meta_learner_class(name)(FullyConnected(5, (SIZE,), 7, 'None'), MeanCrossEntropy(),
                                   shots=SHOTS, dtype='float64', **given)
  model.meta_parameters.assign({**model.meta_parameters.arrays(),
                                **generic_values(model.learner)})
  random = np.random.RandomState(3)
  model.meta_parameters.assign({
      key: value if key.startswith('dense') else random.normal(size=value.shape) * 0.4
      for key, value in model.meta_parameters.arrays().items()})
  return model


@pytest.fixture
def episodes(make_classification):
  return make_classification(TASKS, WAYS, SHOTS, (5,))


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def softmax(x):
  return np.exp(x) / np.exp(x).sum()


def prototypical(x, support, labels, _, scale=1):
  """Equations 1 and 2 of Snell et al. 2017."""
  distances = [np.sum((x - support[labels == label].mean(axis=0)) ** 2)
               for label in range(WAYS)]
  return softmax(-scale * np.array(distances))


def prototypical_scaled(x, support, labels, _):
  return prototypical(x, support, labels, _, 0.1)


def attention(f, g, labels, scale=1):
  """Equation 1 and section 2.1.1 of Vinyals et al. 2016."""
  weights = softmax(scale * np.array([f @ one / np.linalg.norm(f) / np.linalg.norm(one)
                                      for one in g]))
  return np.array([weights[labels == label].sum() for label in range(WAYS)])


def matching(x, support, labels, _):
  return attention(x, support, labels)


def matching_scaled(x, support, labels, _):
  return attention(x, support, labels, 7)


def lstm(values, scope, inputs, cell):
  gates = inputs @ values[f'context/{scope}/kernel'] + values[f'context/{scope}/bias']
  i, f, o, g = gates.reshape(4, SIZE)
  cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
  return sigmoid(o) * np.tanh(cell), cell


def matching_in_context(x, support, labels, values):
  """Sections A.1 and A.2 of their appendix."""
  g = support.copy()
  for scope, order in (('forward', range(len(g))), ('backward', reversed(range(len(g))))):
    h = c = np.zeros(SIZE)
    for place in order:
      h, c = lstm(values, scope, np.concatenate([support[place], h]), c)
      g[place] += h
  h = c = r = np.zeros(SIZE)
  for _ in range(5):
    output, c = lstm(values, 'read', np.concatenate([x, h, r]), c)
    h = output + x
    weights = softmax(g @ h)
    r = weights @ g
  return attention(h, g, labels)


def siamese_pairs(x, support, values):
  """Section 3.1 of Koch et al. 2015."""
  return sigmoid(np.abs(x - support) @ values['similarity/kernel'][:, 0]
                 + values['similarity/bias'])


def features(values, inputs):
  return np.maximum(inputs @ values['dense1/kernel'] + values['dense1/bias'], 0)


def tasks_of(model, episodes):
  values = model.meta_parameters.arrays()
  for task in range(TASKS):
    yield (values, features(values, episodes.support.inputs[task].numpy()),
           episodes.support.labels[task].numpy(),
           features(values, episodes.query.inputs[task].numpy()),
           episodes.query.labels[task].numpy())


@pytest.mark.parametrize('name, given, probabilities', [
    ('prototypical', {}, prototypical),
    ('prototypical', dict(distance_scale=0.1), prototypical_scaled),
    ('matching', {}, matching),
    ('matching', dict(cosine_scale=7.0), matching_scaled),
    ('matching', dict(full_context=True), matching_in_context)])
def test_probabilities_are_those_of_the_paper(name, given, probabilities, episodes,
                                              generic_values):
  model = model_of(name, generic_values, **given)
  results = model.task_results(episodes)
  outputs = tf.nn.softmax(model.adapted_outputs(episodes)).numpy()
  for task, (values, support, labels, query, asked) in enumerate(tasks_of(model, episodes)):
    expected = np.array([probabilities(x, support, labels, values) for x in query])
    np.testing.assert_allclose(outputs[task, 0], expected, rtol=1e-10)
    right = expected[np.arange(len(asked)), asked]
    np.testing.assert_allclose(results.query['loss'][task], [-np.log(right).mean()],
                               rtol=1e-10)
    np.testing.assert_allclose(results.query['accuracy'][task],
                               [(expected.argmax(axis=1) == asked).mean()])


def test_siamese_pairs_are_those_of_the_paper(episodes, generic_values):
  model = model_of('siamese', generic_values)
  results = model.task_results(episodes)
  for task, (values, support, labels, query, asked) in enumerate(tasks_of(model, episodes)):
    p = np.array([siamese_pairs(x, support, values) for x in query])
    same = asked[:, None] == labels
    loss = (-np.log(p[same]).mean() - np.log(1 - p[~same]).mean()) / 2
    np.testing.assert_allclose(results.query['loss'][task], [loss], rtol=1e-10)
    np.testing.assert_allclose(results.query['accuracy'][task],
                               [(labels[p.argmax(axis=1)] == asked).mean()])


@pytest.mark.parametrize('name, given', METHODS, ids=str)
def test_results_have_one_entry_and_no_support_set(name, given, episodes, generic_values):
  model = model_of(name, generic_values, **given)
  results = model.task_results(episodes)
  assert results.support == {}
  assert {key: value.shape for key, value in results.query.items()} == {
      'loss': (TASKS, 1), 'accuracy': (TASKS, 1)}
  for call in (lambda: model.task_results(episodes, 3),
               lambda: model.adapted_outputs(episodes, 1)):
    with pytest.raises(ConfigError, match='must be 0. Received'):
      call()
  with pytest.raises(ConfigError, match='adapts no parameters'):
    model.adaptation(model.meta_parameters.tensors(), episodes, 1, True)


@pytest.mark.parametrize('name, given', METHODS, ids=str)
def test_tasks_may_have_other_numbers_of_classes(name, given, make_classification,
                                                 generic_values):
  model = model_of(name, generic_values, **given)
  for ways in (2, 6):
    outputs = model.adapted_outputs(make_classification(TASKS, ways, SHOTS, (5,)))
    assert outputs.shape == (TASKS, 1, 2 * ways * SHOTS, ways)


def test_the_order_of_the_support_set_does_not_matter_without_context(
    episodes, generic_values):
  order = np.random.RandomState(0).permutation(WAYS * SHOTS)
  other = episodes.replaced(support_inputs=tf.gather(episodes.support.inputs, order, axis=1),
                            support_labels=tf.gather(episodes.support.labels, order, axis=1))
  for name, given in METHODS:
    one, two = (model_of(name, generic_values, **given).adapted_outputs(tasks)
                for tasks in (episodes, other))
    assert np.allclose(one, two, rtol=1e-12) == (not given), name


@pytest.mark.parametrize('name', WITHOUT_INNER_LOOP)
def test_a_keras_model_gives_the_features(name, make_classification):
  net = tf.keras.Sequential([tf.keras.Input((6, 6, 1)), tf.keras.layers.Conv2D(2, 3),
                             tf.keras.layers.BatchNormalization()])
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model = meta_learner_class(name)(net, loss, shots=SHOTS)
  model.compile(tf.keras.optimizers.Adam(0.01), metrics=['accuracy'])
  tasks = make_classification(TASKS, WAYS, SHOTS, (6, 6, 1), dtype='float32')
  before = np.mean(model.task_results(tasks).query['loss'])
  history = model.fit(tf.data.Dataset.from_tensors(tasks).repeat(30), verbose=0,
                      shuffle=False).history
  assert history['loss'][-1] < before
  assert set(history) == {'loss', 'accuracy'}
  with pytest.raises(ConfigError, match='adapts no parameters'):
    model.adapt(tasks.support.inputs[0], tasks.support.labels[0])


@pytest.fixture
def few_tasks(make_classification):
  return make_classification(TASKS, WAYS, SHOTS, (5,), dtype='float32')


@pytest.mark.parametrize('name', WITHOUT_INNER_LOOP)
def test_what_a_keras_model_adds_to_the_loss_counts(name, few_tasks):
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  net = tf.keras.Sequential([tf.keras.Input((5,)), tf.keras.layers.Dense(SIZE)])
  regularised = tf.keras.Sequential([tf.keras.Input((5,)), tf.keras.layers.Dense(
      SIZE, kernel_regularizer=tf.keras.regularizers.L2(10.0))])
  regularised.set_weights(net.get_weights())
  (one, gradients), (other, steeper) = (
      meta_learner_class(name)(each, loss, shots=SHOTS, seed=0).meta_gradient(*few_tasks)
      for each in (net, regularised))
  kernel = net.get_weights()[0]
  np.testing.assert_allclose(other - one, 10 * np.sum(kernel ** 2), rtol=1e-4)
  np.testing.assert_allclose(steeper[0] - gradients[0], 20 * kernel, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('loss', ['sparse_categorical_crossentropy',
                                  tf.keras.losses.SparseCategoricalCrossentropy(),
                                  tf.keras.losses.sparse_categorical_crossentropy],
                         ids=['name', 'object', 'function'])
@pytest.mark.parametrize('name', WITHOUT_INNER_LOOP)
def test_a_loss_of_probabilities_is_refused(name, loss):
  net = tf.keras.Sequential([tf.keras.Input((5,)), tf.keras.layers.Dense(SIZE)])
  with pytest.raises(ConfigError, match='gives logits.*from_logits=True'):
    meta_learner_class(name)(net, loss, shots=SHOTS)


@pytest.mark.parametrize('name', WITHOUT_INNER_LOOP)
def test_labels_may_be_floating_numbers(name, few_tasks):
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  net = tf.keras.Sequential([tf.keras.Input((5,)), tf.keras.layers.Dense(SIZE)])
  model = meta_learner_class(name)(net, loss, shots=SHOTS)
  floats = few_tasks.replaced(
      support_labels=tf.cast(few_tasks.support.labels, tf.float32),
      query_labels=tf.cast(few_tasks.query.labels, tf.float32))
  np.testing.assert_array_equal(*(model.task_results(tasks).query['loss']
                                  for tasks in (few_tasks, floats)))


def with_rows(tasks):
  """Labels as one-hot rows."""
  return tasks.replaced(support_labels=tf.one_hot(tasks.support.labels, WAYS),
                        query_labels=tf.one_hot(tasks.query.labels, WAYS))


@pytest.mark.parametrize('name', WITHOUT_INNER_LOOP)
def test_labels_may_be_rows_that_are_smoothed(name, few_tasks):
  """As `CategoricalCrossentropy` takes them: by NumPy, of the logits."""
  net = tf.keras.Sequential([tf.keras.Input((5,)), tf.keras.layers.Dense(SIZE)])
  loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3)
  model = meta_learner_class(name)(net, loss, shots=SHOTS)
  logits = model.adapted_outputs(few_tasks).numpy()[:, 0]
  np.testing.assert_array_equal(model.adapted_outputs(with_rows(few_tasks))[:, 0], logits)
  found = model.task_results(with_rows(few_tasks)).query['loss'][:, 0]
  if name == 'siamese':   # whose loss is that of pairs, of classes by their numbers
    values = model.meta_parameters.tensors()
    p = sigmoid(model.of_pairs(values, model.embedded(values, few_tasks)).numpy())
    same = (few_tasks.query.labels.numpy()[:, :, None]
            == few_tasks.support.labels.numpy()[:, None])
    expected = [-(np.log(one[pairs]).mean() + np.log(1 - one[~pairs]).mean()) / 2
                for one, pairs in zip(p, same)]
  else:
    shares = 0.7 * np.eye(WAYS)[few_tasks.query.labels] + 0.3 / WAYS
    logarithms = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -(shares * logarithms).sum(-1).mean(1)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_rows_of_another_number_of_classes_are_refused(episodes, generic_values):
  rows = episodes.replaced(support_labels=tf.one_hot(episodes.support.labels, WAYS + 1))
  with pytest.raises(ConfigError, match='as many as the support set has classes, 3. Received'):
    model_of('prototypical', generic_values).task_results(rows)


_NO_CLASSES = [[1, 2, 3] * SHOTS, [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 7]]


@pytest.mark.parametrize('labels', _NO_CLASSES, ids=str)
@pytest.mark.parametrize('name', WITHOUT_INNER_LOOP)
def test_support_labels_that_are_not_those_of_the_classes_are_refused(
    name, labels, episodes, generic_values):
  """Of a class without an example the distances would be no numbers, and an accuracy of them
  one that nobody can tell from another. In the second task, and in graphs as without one."""
  given = episodes.replaced(support_labels=tf.constant([[0, 1, 2] * SHOTS, labels]))
  model = model_of(name, generic_values)
  model.compile(tf.keras.optimizers.SGD(0.1))
  one_by_one = meta_learner_class(name)(model.learner._net, model.objective, shots=SHOTS,
                                        tasks_at_once=1, dtype='float64')
  message = r'takes 6 support examples for those of 3 classes, labelled 0 to 2'
  for call in (lambda: model.task_results(given), lambda: model.meta_gradient(given),
               lambda: one_by_one.task_results(given),
               lambda: model.fit(tf.data.Dataset.from_tensors(given), verbose=0),
               lambda: model.evaluate(tf.data.Dataset.from_tensors(given), verbose=0)):
    with pytest.raises(ConfigError, match=message):
      call()


def test_other_numbers_of_examples_of_a_class_are_allowed(episodes, generic_values):
  """The mean of a class, and the attention, are of as many as there are."""
  labels = np.array([[0, 1, 0, 2, 0, 0]] * TASKS, np.int32)
  given = episodes.replaced(support_labels=tf.constant(labels))
  model = model_of('prototypical', generic_values)
  found = tf.nn.softmax(model.adapted_outputs(given))[:, 0]
  for task, (values, support, of_task, query, _) in enumerate(tasks_of(model, given)):
    np.testing.assert_allclose(
        found[task], [prototypical(x, support, of_task, values) for x in query], rtol=1e-10)


@pytest.mark.parametrize('shots', [0, -2, 2.0, None, True])
@pytest.mark.parametrize('name', WITHOUT_INNER_LOOP)
def test_shots_that_are_no_number_of_examples_are_refused(name, shots):
  with pytest.raises(ConfigError, match='^shots must be an integer, 1 or more. Received'):
    meta_learner_class(name)(FullyConnected(5, (4,), 3, 'None'), MeanCrossEntropy(),
                             shots=shots)


def test_without_reading_there_are_no_features():
  """0 steps gave all classes the same probability."""
  with pytest.raises(ConfigError, match='^read_steps must be an integer, 1 or more'):
    meta_learner_class('matching')(FullyConnected(5, (4,), 3, 'None'), MeanCrossEntropy(),
                                   shots=1, full_context=True, read_steps=0)


def test_a_layer_of_the_model_is_not_taken_for_one_of_the_method(few_tasks):
  """Of one name the two would be one, in silence."""
  layers = [tf.keras.layers.Dense(SIZE), tf.keras.layers.Dense(1)]
  net = KerasLearner(   # named as in Keras 2 a layer 'similarity' would be
      tf.keras.Sequential([tf.keras.Input((5,)), *layers]),
      names=lambda _: ['a/kernel', 'a/bias', 'similarity/kernel', 'similarity/bias'])
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  with pytest.raises(ConfigError, match='similarity/bias, similarity/kernel.*other names'):
    meta_learner_class('siamese')(net, loss, shots=SHOTS)
  assert meta_learner_class('prototypical')(net, loss, shots=SHOTS).task_results(few_tasks)


@pytest.mark.parametrize('name, message', [
    ('prototypical', 'compares one output, the features. Received: a model of 2'),
    ('matching', 'compares one output'), ('siamese', 'a Keras model with one output')])
def test_a_model_of_several_outputs_is_refused(name, message, few_tasks):
  inputs = tf.keras.Input((5,))
  net = tf.keras.Model(inputs, [tf.keras.layers.Dense(size)(inputs) for size in (3, 4)])
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  with pytest.raises(ConfigError, match=message):
    meta_learner_class(name)(net, loss, shots=SHOTS).meta_gradient(few_tasks)


@pytest.mark.parametrize('name', WITHOUT_INNER_LOOP)
@pytest.mark.parametrize('label', [3, -1])
def test_query_labels_are_those_of_the_support_set(name, label, few_tasks):
  """Siamese nets took them for pairs of two classes, in silence."""
  net = tf.keras.Sequential([tf.keras.Input((5,)), tf.keras.layers.Dense(4)])
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model = meta_learner_class(name)(net, loss, shots=SHOTS)
  labels = few_tasks.query.labels.numpy()
  labels[0, 0] = label
  for function in (model.meta_gradient, model.task_results):
    with pytest.raises(ConfigError, match='[Ll]abel'):
      function(few_tasks.replaced(query_labels=tf.constant(labels)))


@pytest.mark.parametrize('name', WITHOUT_INNER_LOOP)
def test_a_task_of_one_class_is_finite(name):
  inputs, labels = tf.random.normal([2, SHOTS, 5]), tf.zeros([2, SHOTS], tf.int32)
  model = meta_learner_class(name)(FullyConnected(5, (4,), 3, 'None'), MeanCrossEntropy(),
                                   shots=SHOTS)
  means, gradients = model.meta_gradient(((inputs, labels), (inputs, labels)))
  assert all(np.isfinite(value).all() for value in tf.nest.flatten((means, gradients)))


@pytest.mark.parametrize('name', WITHOUT_INNER_LOOP)
def test_no_step_size_can_be_set(name, generic_values):
  with pytest.raises(ConfigError, match='step_size=0.1 would change nothing.*no inner loop'):
    model_of(name, generic_values).step_size = 0.1


@pytest.mark.parametrize('given, message', [
    (dict(step_size=0.1), 'no inner loop, so no step_size'),
    (dict(num_updates=1), 'no inner loop, so no num_updates'),
    (dict(recompute_inner_steps=True), 'no recompute_inner_steps')])
@pytest.mark.parametrize('name', WITHOUT_INNER_LOOP)
def test_what_is_of_an_inner_loop_is_refused_by_name(name, given, message):
  with pytest.raises(ConfigError, match=message):
    meta_learner_class(name)(FullyConnected(5, (4,), 3, 'None'), MeanCrossEntropy(),
                             shots=1, **given)


def test_a_support_set_of_other_shots_is_refused(make_classification, generic_values):
  model = model_of('prototypical', generic_values)
  with pytest.raises(ConfigError, match='of 5'):
    model.task_results(make_classification(1, 5, 1, (5,)))


@pytest.mark.parametrize('name', WITHOUT_INNER_LOOP)
@pytest.mark.parametrize('field, value', [
    ('update_lr', 0.1), ('num_updates', 1), ('test_num_updates', 5), ('stop_grad', True),
    ('tune_update_lr', True), ('recompute_inner_steps', True), ('pretrain_iterations', 5),
    ('legacy_checkpoint', 'a/model5'), ('train_update_lr', 0.1)])
def test_flags_of_an_inner_loop_are_refused_by_name(name, field, value):
  with pytest.raises(ConfigError, match=f'--{field}={value} does not fit --method={name}'):
    config.resolve({'datasource': 'omniglot', 'method': name, 'train': False, field: value})


@pytest.mark.parametrize('given, message', [
    (dict(method='prototypical', datasource='sinusoid'), 'no classes to compare'),
    (dict(train_num_classes=20), 'does not fit --method=maml'),
    (dict(method='siamese', train_num_classes=1), '2 or more'),
    (dict(method='siamese', train_num_classes=1101), '--train_num_classes=1101 is larger'),
    (dict(method='siamese', full_context=True), '--method=matching'),
    (dict(method='siamese', cosine_scale=3.0), '--method=matching'),
    (dict(method='matching', distance_scale=0.1), '--method=prototypical'),
    *((dict(method='prototypical', distance_scale=scale), '^--distance_scale=.*above 0')
      for scale in (0.0, -1.0, float('inf'), float('nan'))),
    *((dict(method='matching', cosine_scale=scale), '^--cosine_scale=.*0, and 80 at most')
      for scale in (0.0, -1.0, 80.5, float('nan')))])
def test_what_does_not_fit_is_refused(given, message):
  with pytest.raises(ConfigError, match=message):
    config.resolve({'datasource': 'omniglot', **given})


def test_too_many_classes_in_training_are_named_by_their_flag(small_config):
  configuration = small_config('omniglot', method='prototypical', num_classes=2,
                               train_num_classes=60, train_query_size=3)
  with pytest.raises(ConfigError, match='^train_num_classes=60 is larger .* at most 5'):
    experiment.training_generator(configuration)


def test_training_has_more_classes_than_testing(small_config):
  configuration = small_config('omniglot', method='prototypical', num_classes=2,
                               train_num_classes=5, train_query_size=3)
  training = experiment.training_generator(configuration).batch(0)
  testing = experiment.evaluation_generator(configuration, 'val', 2).batch(0)
  assert training.support.inputs.shape[1] == 5 and training.query.inputs.shape[1] == 15
  assert testing.support.inputs.shape[1] == 2
  assert configuration.experiment_name.startswith('cls_5.')
  assert configuration.experiment_name.endswith('.prototypical.query3')


@pytest.mark.parametrize('method', WITHOUT_INNER_LOOP)
def test_the_classes_of_a_test_are_no_part_of_the_run(method, small_config):
  """So that one training is tested on tasks of any number of classes, each in a file of its
  own."""
  given = dict(method=method, train_query_size=1, metatrain_iterations=2, xla='off', log=False)
  with_two, with_three, all_the_same = (
      small_config('omniglot', **given, **ways) for ways in (
          dict(num_classes=2, train_num_classes=3), dict(num_classes=3, train_num_classes=3),
          dict(num_classes=3, train_num_classes=-1)))
  states = []
  for configuration in (with_two, all_the_same):
    model = experiment.build_model(configuration)
    with training_folder(dataclasses.replace(configuration, run=dataclasses.replace(
        configuration.run, logdir=f'{configuration.run.logdir}{len(states)}'))) as folder:
      assert train(configuration, model, folder).iteration == 2
    states.append(model.state())
  for name, value in states[0].items():
    np.testing.assert_array_equal(value, states[1][name])
  assert len({each.experiment_name for each in (with_two, with_three, all_the_same)}) == 1
  assert not differences_of_run(with_two, all_the_same)
  assert 'task.num_classes 2 -> 3' in differences_of_run(
      with_two, small_config('omniglot', **given, num_classes=3, train_num_classes=4))
  assert file_stem(with_two) == f'val_cls2_ubs1_{method}'
  assert file_stem(with_three) == file_stem(all_the_same) == f'val_ubs1_{method}'
