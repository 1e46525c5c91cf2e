"""Golden files from a plain computation of what the TF1 code does: one task after the
other, eagerly, with TF1's names typed in. It shares no code with `maml_tf`."""

from __future__ import annotations

import json

import numpy as np
import tensorflow as tf

DEFAULTS = dict(datasource='sinusoid', num_classes=5, baseline=None, meta_lr=0.001,
                update_batch_size=5, update_lr=1e-3, num_updates=1, norm='batch_norm',
                num_filters=64, conv=True, max_pool=False, stop_grad=False)


def golden_file(path, flags, tasks=2, queries=2, steps=2, measured=3, seed=0) -> str:
  """Writes a golden file for TF1 flags, of random parameters and inputs; its path."""
  net = Net({**DEFAULTS, **flags})
  random = np.random.RandomState(seed)
  parameters = net.random_parameters(random)
  batches = [net.random_batch(random, tasks, queries) for _ in range(steps)]
  arrays = {'flags': json.dumps(flags), 'test_num_updates': measured}
  for name in batches[0]:
    arrays[name] = np.stack([batch[name] for batch in batches])
  arrays.update({f'init/{name}': value for name, value in parameters.items()})
  arrays.update(net.results(parameters, batches[0], measured))
  slots = {name: (0.0, 0.0) for name in parameters}
  powers = np.float32(0.9), np.float32(0.999)
  for step, batch in enumerate(batches):
    gradient = net.meta_gradient(parameters, batch)
    if step == 0:
      arrays.update({f'meta_gradient/{name}': value for name, value in gradient.items()})
    parameters, slots = net.adam(parameters, gradient, slots, powers)
    powers = powers[0] * np.float32(0.9), powers[1] * np.float32(0.999)
    arrays.update({f'after_{step + 1}_meta_steps/{name}': value
                   for name, value in parameters.items()})
  np.savez(path, **arrays)
  return str(path)


class Net:
  """The TF1 code's nets, as functions of {TF1 name: value}."""

  def __init__(self, flags):
    self.flags = flags
    self.sinusoid = flags['datasource'] == 'sinusoid'
    self.convolutional = flags['conv'] and not self.sinusoid
    self.channels = {'omniglot': 1, 'miniimagenet': 3}.get(flags['datasource'])
    self.side = {'omniglot': 28, 'miniimagenet': 84}.get(flags['datasource'])
    if self.sinusoid:
      self.inputs, self.outputs = (3 if flags['baseline'] == 'oracle' else 1), 1
    else:
      self.inputs = self.side**2 * self.channels
      self.outputs = flags['num_classes']
    self.hidden = [40, 40] if self.sinusoid else [256, 128, 64, 64]
    self.weights, self.of_norm = self._shapes()

  def _shapes(self):
    filters, weights = self.flags['num_filters'], {}
    if self.convolutional:
      for layer in range(4):
        weights[f'conv{layer + 1}'] = (3, 3, filters if layer else self.channels, filters)
        weights['Variable' + (f'_{layer}' if layer else '')] = (filters,)
      features = filters * (25 if self.flags['datasource'] == 'miniimagenet' else 1)
      weights.update({'w5': (features, self.outputs), 'b5': (self.outputs,)})
      scopes = {'0': filters, '1': filters, '2': filters, '3': filters}
    else:
      sizes = [self.inputs, *self.hidden, self.outputs]
      for layer, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:])):
        weights['Variable' + (f'_{2 * layer}' if layer else '')] = (fan_in, fan_out)
        weights[f'Variable_{2 * layer + 1}'] = (fan_out,)
      scopes = dict(zip(['0', '2', '3', '4'], self.hidden))
    kinds = {'batch_norm': ['beta'], 'layer_norm': ['beta', 'gamma'], 'None': []}
    of_norm = {f'{scope}/{kind}': (size,) for scope, size in scopes.items()
               for kind in kinds[self.flags['norm']]}
    return ({f'model/{name}': shape for name, shape in weights.items()},
            {f'model/{name}': shape for name, shape in of_norm.items()})

  def random_parameters(self, random):
    values = {}
    for name, shape in {**self.weights, **self.of_norm}.items():
      scale = np.prod(shape[:-1]) ** -0.5 if len(shape) > 1 else 0.3
      value = random.normal(size=shape) * scale + name.endswith('gamma')
      values[name] = value.astype(np.float32).astype(np.float64)
    return values

  def random_batch(self, random, tasks, queries):
    shots = self.flags['update_batch_size']
    if self.sinusoid:
      counts = {'a': shots, 'b': max(queries, shots)}
      return {**{f'input{part}': random.uniform(-5, 5, (tasks, count, self.inputs))
                 for part, count in counts.items()},
              **{f'label{part}': random.uniform(-5, 5, (tasks, count, 1))
                 for part, count in counts.items()}}
    batch = {}
    for part, per_class in (('a', shots), ('b', queries)):
      labels = np.stack([random.permutation(np.tile(np.arange(self.outputs), per_class))
                         for _ in range(tasks)])
      batch[f'label{part}'] = np.eye(self.outputs)[labels]
      batch[f'input{part}_uint8'] = random.randint(
          0, 256, (*labels.shape, self.inputs)).astype(np.uint8)
    return batch

  def forward(self, parameters, inputs):
    if not self.convolutional:
      names = list(self.weights)
      features = inputs
      for layer, scope in zip(range(len(self.hidden)), ['0', '2', '3', '4']):
        features = features @ parameters[names[2 * layer]] + parameters[names[2 * layer + 1]]
        features = tf.nn.relu(self.normalise(parameters, scope, features))
      return features @ parameters[names[-2]] + parameters[names[-1]]
    pool, bias = self.flags['max_pool'], ['Variable', 'Variable_1', 'Variable_2', 'Variable_3']
    features = tf.reshape(inputs, [-1, self.side, self.side, self.channels])
    for layer in range(4):
      features = tf.nn.conv2d(features, parameters[f'model/conv{layer + 1}'],
                              1 if pool else 2, 'SAME') + parameters[f'model/{bias[layer]}']
      features = tf.nn.relu(self.normalise(parameters, str(layer), features))
      if pool:
        features = tf.nn.max_pool2d(features, 2, 2, 'VALID')
    if self.flags['datasource'] == 'omniglot':
      features = tf.reduce_mean(features, [1, 2])
    features = tf.reshape(features, [len(inputs), -1])
    return features @ parameters['model/w5'] + parameters['model/b5']

  def normalise(self, parameters, scope, features):
    norm, rank = self.flags['norm'], len(features.shape)
    if norm == 'None':
      return features
    axes = list(range(rank - 1)) if norm == 'batch_norm' else list(range(1, rank))
    centred = features - tf.reduce_mean(features, axes, keepdims=True)
    variance = tf.reduce_mean(centred * centred, axes, keepdims=True)
    scaled = centred / tf.sqrt(variance + (1e-3 if norm == 'batch_norm' else 1e-12))
    if norm == 'layer_norm':
      scaled *= parameters[f'model/{scope}/gamma']
    return scaled + parameters[f'model/{scope}/beta']

  def loss_and_accuracy(self, parameters, inputs, labels):
    outputs = self.forward(parameters, inputs)
    if self.sinusoid:
      return tf.reduce_mean(tf.square(outputs - labels)), None
    losses = tf.nn.softmax_cross_entropy_with_logits(labels, outputs)
    right = np.argmax(outputs, -1) == np.argmax(labels, -1)
    return tf.reduce_sum(losses) / self.flags['update_batch_size'], right.mean()

  def adapted(self, parameters, inputs, labels, updates):
    """The parameters after each update; the norms' are not adapted."""
    found = []
    for _ in range(updates):
      weights = {name: parameters[name] for name in self.weights}
      with tf.GradientTape() as tape:
        tape.watch(weights)
        loss, _ = self.loss_and_accuracy({**parameters, **weights}, inputs, labels)
      gradients = tape.gradient(loss, weights)
      if self.flags['stop_grad']:
        gradients = {name: tf.stop_gradient(value) for name, value in gradients.items()}
      parameters = {**parameters, **{
          name: value - self.flags['update_lr'] * gradients[name]
          for name, value in weights.items()}}
      found.append(parameters)
    return found

  def tasks(self, batch):
    """(inputa, labela, inputb, labelb) of each task."""
    def inputs(part):
      pixels = batch.get(f'input{part}_uint8')
      return batch[f'input{part}'] if pixels is None else pixels / 255.0
    arrays = [inputs('a'), batch['labela'], inputs('b'), batch['labelb']]
    return [[tf.constant(array[task]) for array in arrays] for task in range(len(arrays[0]))]

  def results(self, parameters, batch, measured):
    """Losses, accuracies and the gradient of pre-training."""
    theta = {name: tf.constant(value) for name, value in parameters.items()}
    with tf.GradientTape() as tape:
      tape.watch(theta)
      before = [self.loss_and_accuracy(theta, task[0], task[1]) for task in self.tasks(batch)]
      loss = tf.add_n([value for value, _ in before]) / len(before)
    gradient = tape.gradient(loss, theta, unconnected_gradients='zero')
    after = []
    for task in self.tasks(batch):
      steps = self.adapted(theta, task[0], task[1], measured)
      after.append([self.loss_and_accuracy(step, task[2], task[3]) for step in steps])
    found = {f'pretrain_gradient/{name}': value.numpy() for name, value in gradient.items()}
    found['pre_loss'] = loss.numpy()
    found['post_losses'] = np.mean([[float(loss) for loss, _ in task] for task in after], 0)
    if not self.sinusoid:
      found['pre_accuracy'] = np.mean([accuracy for _, accuracy in before])
      found['post_accuracies'] = np.mean([[right for _, right in task] for task in after], 0)
    return found

  def meta_gradient(self, parameters, batch):
    theta = {name: tf.constant(value) for name, value in parameters.items()}
    with tf.GradientTape() as tape:
      tape.watch(theta)
      losses = []
      for task in self.tasks(batch):
        adapted = self.adapted(theta, task[0], task[1], self.flags['num_updates'])[-1]
        losses.append(self.loss_and_accuracy(adapted, task[2], task[3])[0])
      loss = tf.add_n(losses) / len(losses)
    gradient = tape.gradient(loss, theta, unconnected_gradients='zero')
    return {name: value.numpy() for name, value in gradient.items()}

  def adam(self, parameters, gradient, slots, powers):
    """TF1's Adam: its constants and the powers of its betas are float32."""
    rate, beta1, beta2, epsilon = (np.float64(np.float32(value))
                                   for value in (self.flags['meta_lr'], 0.9, 0.999, 1e-8))
    rate *= np.sqrt(1 - np.float64(powers[1])) / (1 - np.float64(powers[0]))
    after, new_slots = {}, {}
    for name, value in gradient.items():
      if self.flags['datasource'] == 'miniimagenet':
        value = np.clip(value, -10, 10)
      m, v = slots[name]
      m, v = m + (value - m) * (1 - beta1), v + (value * value - v) * (1 - beta2)
      after[name] = parameters[name] - rate * m / (np.sqrt(v) + epsilon)
      new_slots[name] = m, v
    return after, new_slots
