"""What a replaced variable is to do, and what the way of Keras 2 relies on.

Keras 2.15 has no public way to call a model with other values. There the class of a variable
is another one for as long as a graph is traced. These tests say what that needs: that a graph
reads and changes a variable by methods of its class alone.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.keras_models.functional_call import KERAS3, replaced
from maml_tf.keras_models.inner_layers import attributes, layers_of


def layer_with(**weights):
  layer = tf.keras.layers.Layer()
  return [layer.add_weight(name=name, shape=np.shape(value), trainable=True,
                           initializer=tf.keras.initializers.Constant(value))
          for name, value in weights.items()]


def in_graph(function):
  return tf.function(function, autograph=False)()


READS = {
    'product': lambda v: v * 2.0, 'other side': lambda v: 2.0 * v,
    'converted': lambda v: tf.convert_to_tensor(v) * 2.0,
    'function': lambda v: tf.math.multiply(v, 2.0),
    'slice': lambda v: tf.stack([v[0], v[1]]) * 2.0,
    'gather': lambda v: tf.gather(v, [0, 1]) * 2.0,
    'transposed': lambda v: tf.transpose(v) * 2.0}
READS_OF_KERAS_2 = {
    'value': lambda v: v.value() * 2.0, 'read_value': lambda v: v.read_value() * 2.0,
    'sparse_read': lambda v: v.sparse_read([0, 1]) * 2.0,
    'embedding': lambda v: tf.nn.embedding_lookup(v, [0, 1]) * 2.0}


@pytest.mark.parametrize('name', [*READS, *([] if KERAS3 else READS_OF_KERAS_2)])
def test_every_way_to_read_gives_the_value_and_its_gradient(name):
  variable, = layer_with(v=[1.0, 1.0])
  read = {**READS, **READS_OF_KERAS_2}[name]

  def values():
    value = tf.constant([3.0, 4.0])
    with tf.GradientTape() as tape:
      tape.watch(value)
      with replaced([(variable, value)]):
        result = read(variable)
      total = tf.reduce_sum(result)
    return result, tape.gradient(total, value)
  result, gradient = in_graph(values)
  np.testing.assert_array_equal(result, [6, 8])
  np.testing.assert_array_equal(tf.convert_to_tensor(gradient), [2, 2])
  np.testing.assert_array_equal(variable.numpy(), [1, 1])


def test_what_is_assigned_is_read_and_then_forgotten():
  variable, = layer_with(v=[1.0])

  def values():
    with replaced([(variable, tf.constant([3.0]))]) as read:
      variable.assign(variable * 2.0)
      first = tf.convert_to_tensor(variable)
      variable.assign_add([1.0])
      variable.assign_sub([0.5])
      return first, read(variable)
  np.testing.assert_array_equal(np.concatenate(in_graph(values)), [6, 6.5])
  np.testing.assert_array_equal(variable.numpy(), [1])
  assert type(variable) is type(layer_with(v=[1.0])[0])


def test_an_exception_leaves_the_variables_as_they_were():
  variable, = layer_with(v=[1.0])
  kind = type(variable)

  def fails():
    with replaced([(variable, tf.constant([3.0]))]):
      raise RuntimeError('in between')
  with pytest.raises(RuntimeError, match='in between'):
    in_graph(fails)
  assert type(variable) is kind
  np.testing.assert_array_equal(variable * 2, [2])


def test_scopes_may_stand_in_each_other():
  one, other = layer_with(a=[1.0], b=[1.0])

  def values():
    with replaced([(one, tf.constant([2.0]))]):
      if KERAS3:
        return one * 2.0, one * 2.0, one * 2.0     # there a scope hides the outer one
      with replaced([(other, tf.constant([3.0])), (one, tf.constant([5.0]))]):
        inner = one * other
      return inner, one * 2.0, one * 2.0
  inner, *outer = in_graph(values)
  assert float(outer[0]) == 4 and float(inner) == (4 if KERAS3 else 15)


def test_eager_mode_is_refused():
  variable, = layer_with(v=[1.0])
  with pytest.raises(RuntimeError, match='tf.function'):
    with replaced([(variable, tf.constant([3.0]))]):
      pass


def test_another_thread_waits():
  """In Keras 2 the class is seen by all threads; each is to read its own values."""
  variable, = layer_with(v=[1.0])
  results = {}

  def work(number):
    def value():
      with replaced([(variable, tf.constant([float(number)]))]):
        return variable * 1.0
    results[number] = [float(in_graph(value)) for _ in range(5)]
  threads = [threading.Thread(target=work, args=(number,)) for number in (2, 3)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert results == {2: [2.0] * 5, 3: [3.0] * 5}


def test_layers_are_found_wherever_they_are():
  layers = tf.keras.layers

  class Model(tf.keras.Model):
    def __init__(self):
      super().__init__()
      self.listed = [layers.Dense(1, name='one'), {'two': layers.Dense(1, name='two')}]
      self.wrapped = layers.TimeDistributed(layers.Dropout(0.5, name='three'))
      self.model = tf.keras.Sequential([layers.Dense(1, name='four')])
  names = [layer.name for layer in layers_of(Model())]
  assert {'one', 'two', 'three', 'four'} <= set(names)
  assert len(names) == len(set(names))


def test_attributes_come_back():
  class Owner:
    kept = 1
  owner = Owner()
  owner.own = 2
  with pytest.raises(KeyError):
    with attributes([(owner, 'kept', 5), (owner, 'own', 6), (owner, 'own', 7)]):
      assert (owner.kept, owner.own) == (5, 7)
      raise KeyError
  assert vars(owner) == {'own': 2} and owner.kept == 1


def test_another_thread_s_attributes_wait():
  """It would take those of this one for what was there, and leave them behind."""
  class Owner:
    value = 1
  order, inside = [], threading.Event()

  def other():
    inside.wait()
    with attributes([(Owner, 'value', 3)]):
      order.append(Owner.value)
  thread = threading.Thread(target=other)
  thread.start()
  with attributes([(Owner, 'value', 2)]):
    inside.set()
    thread.join(0.2)
    order.append(Owner.value)
  thread.join()
  assert order == [2, 3] and Owner.value == 1
