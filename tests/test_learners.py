"""Nets as pure functions: shapes, initial values, tasks apart, weights shared or not."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.learners import Convolutional, FullyConnected, task_ops

NORMS = ('batch_norm', 'layer_norm', 'None')


def omniglot(norm='batch_norm', filters=64, ways=5):
  return Convolutional((28, 28, 1), filters, ways, norm, max_pool=False, spatial_mean=True)


def miniimagenet(norm='batch_norm', filters=32, ways=5):
  return Convolutional((84, 84, 3), filters, ways, norm, max_pool=True, spatial_mean=False)


def small(norm='batch_norm', max_pool=False, spatial_mean=True):
  return Convolutional((17, 18, 2), 4, 3, norm, max_pool, spatial_mean)


def small_dense(norm='batch_norm'):
  return FullyConnected(12, (9, 8), 3, norm)


SMALL_NETS = [(small(norm), (17, 18, 2)) for norm in NORMS] + [
    (small(max_pool=True, spatial_mean=False), (17, 18, 2))] + [
    (small_dense(norm), (3, 4, 1)) for norm in NORMS]


def shapes(learner):
  return {spec.name: spec.shape for spec in learner.parameter_specs}


def inputs_of(shape, tasks=3, examples=4, seed=0):
  return np.random.RandomState(seed).uniform(size=(tasks, examples, *shape))


def tensors(values):
  return {name: tf.constant(value) for name, value in values.items()}


def test_a_norm_is_one_of_the_three():
  with pytest.raises(ConfigError, match="one of .*'None'.*Received: None"):
    FullyConnected(1, (4,), 1, norm=None)


# The head


@pytest.mark.parametrize('learner, shape', SMALL_NETS)
@pytest.mark.parametrize('statistics_size', [None, 2])
def test_outputs_are_the_head_of_the_features(learner, shape, statistics_size, generic_values):
  parameters = tensors(generic_values(learner))
  inputs = tf.constant(inputs_of(shape))
  features = learner.features(parameters, inputs, statistics_size)
  assert learner.head_names == ('output/kernel', 'output/bias')
  expected = features @ parameters['output/kernel'] + parameters['output/bias']
  np.testing.assert_allclose(learner(parameters, inputs, statistics_size), expected,
                             rtol=1e-12, atol=1e-14)


# Parameters


def test_parameters_of_the_omniglot_net():
  blocks = {}
  for block, channels in (('conv1', 1), ('conv2', 64), ('conv3', 64), ('conv4', 64)):
    blocks.update({f'{block}/kernel': (3, 3, channels, 64), f'{block}/bias': (64,),
                   f'{block}/beta': (64,)})
  assert shapes(omniglot()) == {**blocks, 'output/kernel': (64, 5), 'output/bias': (5,)}


def test_the_miniimagenet_classifier_sees_a_5x5_map():
  assert shapes(miniimagenet())['output/kernel'] == (5 * 5 * 32, 5)
  assert shapes(miniimagenet())['conv1/kernel'] == (3, 3, 3, 32)


def test_strides_without_spatial_mean_round_up():
  net = Convolutional((28, 17, 1), 4, 5, 'None', max_pool=False, spatial_mean=False)
  assert shapes(net)['output/kernel'] == (2 * 2 * 4, 5)


def test_parameters_of_the_fully_connected_nets():
  assert shapes(FullyConnected(1, (40, 40), 1, 'None')) == {
      'dense1/kernel': (1, 40), 'dense1/bias': (40,),
      'dense2/kernel': (40, 40), 'dense2/bias': (40,),
      'output/kernel': (40, 1), 'output/bias': (1,)}
  kernels = [shape for name, shape in
             shapes(FullyConnected(784, (256, 128, 64, 64), 5, 'batch_norm')).items()
             if name.endswith('kernel')]
  assert kernels == [(784, 256), (256, 128), (128, 64), (64, 64), (64, 5)]


@pytest.mark.parametrize('make', [small, small_dense])
@pytest.mark.parametrize('norm, kinds', [
    ('batch_norm', {'beta', 'bias'}), ('layer_norm', {'beta', 'gamma'}), ('None', set())])
def test_only_offsets_and_scales_of_norms_are_not_adapted(make, norm, kinds):
  """And biases in front of batch norm, which have no gradient."""
  net = make(norm)
  fixed = {spec.name for spec in net.parameter_specs if not spec.adapted}
  assert {name.split('/')[1] for name in fixed} == kinds
  hidden = {name.split('/')[0] for name in shapes(net)} - {'output'}
  assert len(fixed) == len(hidden) * len(kinds)
  assert set(net.adapted_names) == set(shapes(net)) - fixed


# Initial values


def test_convolutions_start_from_glorot_uniform():
  for name, value in miniimagenet().initial_values(seed=3).items():
    if not name.endswith('kernel'):
      continue
    receptive_field = np.prod(value.shape[:-2])   # 1 for the classifier
    fan_in, fan_out = receptive_field * value.shape[-2], receptive_field * value.shape[-1]
    limit = np.sqrt(6 / (fan_in + fan_out))
    assert np.abs(value).max() <= limit
    assert np.abs(value).max() > 0.98 * limit
    # A uniform distribution's deviation; the sample has at least 864 values.
    np.testing.assert_allclose(value.std(), limit / np.sqrt(3), rtol=0.06)
    assert abs(value.mean()) < 4 * limit / np.sqrt(3 * value.size)


def test_the_omniglot_classifier_starts_from_a_standard_normal():
  value = omniglot(ways=20).initial_values(seed=0)['output/kernel']
  assert value.shape == (64, 20)
  np.testing.assert_allclose(value.std(), 1, atol=0.08)
  assert abs(value.mean()) < 0.12
  assert np.abs(value).max() > 2.5           # not truncated


def test_fully_connected_kernels_are_truncated_normal():
  values = FullyConnected(784, (256, 128), 5, 'None').initial_values(seed=0)
  value = values['dense1/kernel']
  assert np.abs(value).max() <= 0.02
  assert np.abs(value).max() > 0.0199
  # A normal distribution cut at two deviations has 0.8796 of the deviation.
  np.testing.assert_allclose(value.std(), 0.008796, rtol=0.01)
  assert np.abs(value.mean()) < 1e-4
  assert 0 < np.abs(values['output/kernel']).max() <= 0.02


@pytest.mark.parametrize('net', [net for net, _ in SMALL_NETS])
def test_biases_and_offsets_start_at_zero_and_scales_at_one(net):
  for name, value in net.initial_values(seed=1).items():
    kind = name.split('/')[1]
    if kind != 'kernel':
      np.testing.assert_array_equal(value, float(kind == 'gamma'))


@pytest.mark.parametrize('make', [omniglot, lambda: FullyConnected(8, (8, 8), 8, 'None')])
def test_initial_values_follow_the_seed(make):
  first, again, other = (make().initial_values(seed) for seed in (0, 0, 1))
  kernels = [name for name in first if name.endswith('kernel')]
  for name in first:
    np.testing.assert_array_equal(first[name], again[name])
  for name in kernels:
    assert np.mean(first[name] == other[name]) < 0.01
  # Parameters of equal shape have values of their own, also across seeds.
  equal_shapes = [values[name] for values in (first, other) for name in kernels
                  if values[name].shape == first[kernels[1]].shape]
  assert len(equal_shapes) > 2
  for index, value in enumerate(equal_shapes):
    for another in equal_shapes[:index]:
      assert np.mean(value == another) < 0.01


def test_both_precisions_start_from_the_same_values():
  single, double = (omniglot().initial_values(5, dtype) for dtype in ('float32', 'float64'))
  for name in single:
    assert (single[name].dtype, double[name].dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(single[name].astype('float64'), double[name])


# The function


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('net, shape', SMALL_NETS)
def test_outputs_have_the_shape_and_type_of_the_inputs(net, shape, dtype, generic_values):
  parameters = tensors(generic_values(net, dtype=dtype))
  outputs = net(parameters, tf.constant(inputs_of(shape), dtype))
  assert outputs.shape == (3, 4, 3)
  assert outputs.dtype == dtype


@pytest.mark.parametrize('net, shape', SMALL_NETS)
def test_shared_weights_are_equal_copies(net, shape, generic_values):
  parameters = tensors(generic_values(net))
  copies = {name: tf.stack([value] * 3) for name, value in parameters.items()}
  adapted_only = {**parameters, **{name: copies[name] for name in net.adapted_names}}
  inputs = tf.constant(inputs_of(shape))
  expected = net(parameters, inputs)
  assert np.ptp(expected) > 0.1
  for version in (copies, adapted_only):
    np.testing.assert_allclose(net(version, inputs), expected, rtol=1e-11,
                               atol=1e-12)


@pytest.mark.parametrize('net, shape', SMALL_NETS)
def test_every_task_uses_its_own_copy(net, shape, generic_values):
  each = [generic_values(net, seed) for seed in range(3)]
  stacked = {name: tf.stack([values[name] for values in each]) for name in each[0]}
  inputs = inputs_of(shape)
  outputs = net(stacked, tf.constant(inputs))
  for task in range(3):
    alone = net(tensors(each[task]), tf.constant(inputs[task:task + 1]))
    np.testing.assert_allclose(outputs[task], alone[0], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize('net, shape', SMALL_NETS)
def test_another_tasks_examples_change_nothing(net, shape, generic_values):
  parameters = tensors(generic_values(net))
  inputs = inputs_of(shape)
  before = net(parameters, tf.constant(inputs)).numpy()
  inputs[1] = 5 * inputs_of(shape, seed=9)[1]
  after = net(parameters, tf.constant(inputs)).numpy()
  np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
  assert np.all(after[1] != before[1])


@pytest.mark.parametrize('norm, sees_others', [
    ('batch_norm', True), ('layer_norm', False), ('None', False)])
@pytest.mark.parametrize('make, shape', [(small, (17, 18, 2)), (small_dense, (12,))])
def test_only_batch_norm_sees_the_other_examples_of_a_task(make, shape, norm, sees_others,
                                                           generic_values):
  net = make(norm)
  parameters = tensors(generic_values(net))
  inputs = inputs_of(shape, tasks=1)
  before = net(parameters, tf.constant(inputs)).numpy()
  inputs[0, 3] += 1
  after = net(parameters, tf.constant(inputs)).numpy()
  assert np.any(after[0, :3] != before[0, :3]) == sees_others


@pytest.mark.parametrize('net, shape', SMALL_NETS)
def test_images_may_come_flattened(net, shape, generic_values):
  parameters = tensors(generic_values(net))
  inputs = inputs_of(shape)
  np.testing.assert_array_equal(net(parameters, tf.constant(inputs.reshape(3, 4, -1))),
                                net(parameters, tf.constant(inputs)))


@pytest.mark.parametrize('net, shape', SMALL_NETS)
def test_numbers_of_tasks_and_examples_may_be_unknown(net, shape, generic_values):
  parameters = tensors(generic_values(net))
  function = tf.function(lambda inputs: net(parameters, inputs), input_signature=[
      tf.TensorSpec([None, None, *shape], tf.float64)], autograph=False)
  inputs = tf.constant(inputs_of(shape))
  np.testing.assert_allclose(function(inputs), net(parameters, inputs), rtol=1e-11)


@pytest.mark.parametrize('make', [small, small_dense])
def test_a_bias_before_batch_norm_has_no_gradient(make, generic_values):
  net = make('batch_norm')
  shape = (17, 18, 2) if make is small else (12,)
  parameters = tensors(generic_values(net))
  with tf.GradientTape() as tape:
    tape.watch(parameters)
    value = tf.reduce_sum(net(parameters, tf.constant(inputs_of(shape))) ** 2)
  gradients = tape.gradient(value, parameters, unconnected_gradients='zero')
  largest = max(np.abs(gradient).max() for gradient in gradients.values())
  for name, gradient in gradients.items():
    if name.endswith('bias') and not name.startswith('output'):
      assert np.abs(gradient).max() < 1e-12 * largest
    else:
      assert np.abs(gradient).max() > 1e-3 * largest


@pytest.mark.parametrize('make, shape', [(small, (17, 18, 2)), (small_dense, (12,))])
def test_batch_statistics_of_the_first_examples_alone(make, shape, generic_values):
  """With the support set in front, no query example sees another."""
  net = make('batch_norm')
  parameters = tensors(generic_values(net))
  inputs = inputs_of(shape, examples=6)
  def outputs():
    return net(parameters, tf.constant(inputs), statistics_size=4).numpy()
  before = outputs()
  np.testing.assert_allclose(before[:, :4], net(parameters, tf.constant(inputs[:, :4])),
                             rtol=1e-11, atol=1e-12)
  inputs[:, 4] += 1
  after = outputs()
  np.testing.assert_array_equal(after[:, [0, 1, 2, 3, 5]], before[:, [0, 1, 2, 3, 5]])
  assert np.all(after[:, 4] != before[:, 4])
  inputs[:, 0] += 1
  assert np.all(np.any(outputs() != after, axis=2))


# Against NumPy


def conv_by_loops(inputs, kernel, stride):
  """SAME padding: output i is centred so that the padding is even, less before."""
  height, width = inputs.shape[2:4]
  out = [-(-size // stride) for size in (height, width)]
  pads = [max((count - 1) * stride + 3 - size, 0)
          for count, size in zip(out, (height, width))]
  padded = np.pad(inputs, [(0, 0), (0, 0)] + [(pad // 2, pad - pad // 2) for pad in pads]
                  + [(0, 0)])
  outputs = np.zeros((*inputs.shape[:2], *out, kernel.shape[-1]))
  for row, column in np.ndindex(*out):
    patch = padded[:, :, stride * row:stride * row + 3, stride * column:stride * column + 3]
    outputs[:, :, row, column] = np.tensordot(patch, kernel, axes=3)
  return outputs


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [(5, 6), (1, 2), (8, 7)])
def test_convolutions_are_those_of_loops(size, stride):
  random = np.random.RandomState(0)
  inputs = random.normal(size=(2, 3, *size, 2))
  kernels = random.normal(size=(2, 3, 3, 2, 4))
  by_task = np.concatenate([conv_by_loops(inputs[task:task + 1], kernels[task], stride)
                            for task in range(2)])
  shared = conv_by_loops(inputs, kernels[0], stride)
  def received(kernel):
    return task_ops.conv2d(tf.constant(inputs), tf.constant(kernel), stride)
  np.testing.assert_allclose(received(kernels), by_task, rtol=1e-12, atol=1e-13)
  np.testing.assert_allclose(received(kernels[0]), shared, rtol=1e-12, atol=1e-13)


def derivatives(function, inputs, weights):
  """The gradient of sum(weights[0] * function), and the derivatives of its square, times
  weights[1], by weights[0] and by the inputs."""
  first, second = (tf.constant(value) for value in weights)
  with tf.GradientTape() as outer:
    outer.watch([inputs, first])
    with tf.GradientTape() as inner:
      inner.watch(inputs)
      loss = tf.reduce_sum(function(inputs) * first)
    gradient = inner.gradient(loss, inputs)
    product = tf.reduce_sum(gradient * gradient * second)
  return [gradient, *outer.gradient(product, [first, inputs], unconnected_gradients='zero')]


@pytest.mark.parametrize('ours, theirs', [
    (task_ops.relu, tf.nn.relu),
    (task_ops.max_pool_2x2, lambda inputs: tf.nn.max_pool2d(inputs[0], 2, 2, 'VALID')[None])])
def test_kinks_have_the_derivatives_of_tensorflow(ours, theirs):
  random = np.random.RandomState(0)
  inputs = random.normal(size=(1, 2, 5, 6, 3)).round(1)   # with ties, and zeros
  inputs[0, 0, 0] = 0
  shape = theirs(tf.constant(inputs)).shape
  weights = random.normal(size=shape), random.normal(size=inputs.shape)
  received = derivatives(ours, tf.constant(inputs), weights)
  expected = derivatives(theirs, tf.constant(inputs), weights)
  for value, reference in zip(received, expected):
    np.testing.assert_array_equal(value, reference)
  assert np.abs(received[1]).max() > 0.1


@pytest.mark.parametrize('function, zeros', [
    (task_ops.relu, 0), (task_ops.max_pool_2x2, 0),
    (tf.nn.relu, 1)])   # TensorFlow's own makes them: the test would see any
def test_second_derivatives_of_kinks_are_not_filled_with_zeros(function, zeros):
  """They were in memory from the start of the step on: 1 GB for 10-way 10-shot."""
  @tf.function
  def compute(inputs):
    with tf.GradientTape() as outer:
      outer.watch(inputs)
      with tf.GradientTape() as inner:
        inner.watch(inputs)
        loss = tf.reduce_sum(function(inputs ** 2) ** 3)
      gradient = inner.gradient(loss, inputs)
    return outer.gradient(gradient, inputs)
  graph = compute.get_concrete_function(tf.TensorSpec([1, 2, 8, 8, 3])).graph
  names = [operation.name for operation in graph.get_operations()]
  assert len([name for name in names if 'zeros_like' in name]) == zeros


@pytest.mark.parametrize('norm, axes, epsilon', [
    ('batch_norm', (0,), 1e-3), ('layer_norm', (1,), 1e-12)])
def test_a_hidden_layer_is_that_of_numpy(norm, axes, epsilon, generic_values):
  net = FullyConnected(3, (7,), 2, norm)
  values = generic_values(net)
  inputs = np.random.RandomState(0).normal(size=(1, 6, 3))
  hidden = inputs[0] @ values['dense1/kernel'] + values['dense1/bias']
  hidden = ((hidden - hidden.mean(axes, keepdims=True))
            / np.sqrt(hidden.var(axes, keepdims=True) + epsilon))
  hidden = np.maximum(hidden * values.get('dense1/gamma', 1) + values['dense1/beta'], 0)
  expected = hidden @ values['output/kernel'] + values['output/bias']
  np.testing.assert_allclose(net(tensors(values), tf.constant(inputs))[0], expected,
                             rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize('spatial_mean', [False, True])
@pytest.mark.parametrize('max_pool', [False, True])
@pytest.mark.parametrize('norm, axes, epsilon', [
    ('batch_norm', (1, 2, 3), 1e-3), ('layer_norm', (2, 3, 4), 1e-12)])
def test_the_convolutional_net_is_that_of_numpy(norm, axes, epsilon, max_pool,
                                                spatial_mean, generic_values):
  shape = (33, 18, 2) if max_pool else (17, 18, 2)   # the last map is 2 x 1 or 2 x 2
  net = Convolutional(shape, 4, 3, norm, max_pool, spatial_mean)
  values = generic_values(net)
  features = inputs = inputs_of(shape, tasks=2)
  for block in ('conv1', 'conv2', 'conv3', 'conv4'):
    features = conv_by_loops(features, values[f'{block}/kernel'], 1 if max_pool else 2)
    features += values[f'{block}/bias']
    features -= features.mean(axes, keepdims=True)
    features /= np.sqrt((features ** 2).mean(axes, keepdims=True) + epsilon)
    features = features * values.get(f'{block}/gamma', 1) + values[f'{block}/beta']
    features = np.maximum(features, 0)
    if max_pool:
      height, width = (size // 2 * 2 for size in features.shape[2:4])
      features = features[:, :, :height, :width]
      features = np.maximum.reduce([features[:, :, i::2, j::2] for i in (0, 1)
                                    for j in (0, 1)])
  features = features.mean((2, 3)) if spatial_mean else features.reshape(2, 4, -1)
  expected = features @ values['output/kernel'] + values['output/bias']
  np.testing.assert_allclose(net(tensors(values), tf.constant(inputs)), expected,
                             rtol=1e-9, atol=1e-10)


# Mixed precision: the factors of every product are rounded to bfloat16.


def rounded(values):
  return tf.cast(tf.cast(values, tf.bfloat16), tf.float32).numpy()


@pytest.mark.parametrize('per_task', [False, True], ids=['shared', 'per task'])
@pytest.mark.parametrize('product', ['dense', 'conv2d'])
def test_mixed_precision_rounds_the_factors_and_returns_float32(product, per_task):
  random = np.random.RandomState(0)
  shape, kernel_shape = {'dense': ((3, 4, 40), (40, 6)),
                         'conv2d': ((3, 4, 9, 8, 5), (3, 3, 5, 6))}[product]
  inputs = tf.constant(random.normal(size=shape), tf.float32)
  kernel = tf.constant(random.normal(size=(3,) * per_task + kernel_shape), tf.float32)
  function = {'dense': lambda *factors, **kwargs: task_ops.dense(*factors, **kwargs),
              'conv2d': lambda *factors, **kwargs: task_ops.conv2d(*factors, 2, **kwargs)}[
                  product]
  received = function(inputs, kernel, mixed_precision=True)
  expected = function(tf.constant(rounded(inputs)), tf.constant(rounded(kernel)))
  assert received.dtype == tf.float32
  # The sum is rounded once more: 8 bits.
  np.testing.assert_allclose(received, expected, rtol=2**-7, atol=2**-7)
  assert not np.allclose(received, function(inputs, kernel), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('make', [
    lambda mixed: Convolutional((17, 18, 2), 4, 3, 'batch_norm', max_pool=True,
                                spatial_mean=False, mixed_precision=mixed),
    lambda mixed: FullyConnected(612, (9, 8), 3, 'layer_norm', mixed_precision=mixed)],
    ids=['convolutional', 'fully connected'])
def test_a_net_in_mixed_precision_computes_nearly_the_same(make):
  values = tensors(make(False).initial_values(1))
  inputs = tf.constant(inputs_of((17, 18, 2)), tf.float32)
  exact, received = make(False)(values, inputs), make(True)(values, inputs)
  assert received.dtype == tf.float32
  error = np.linalg.norm(received - exact) / np.linalg.norm(exact)
  assert 1e-5 < error < 0.1
