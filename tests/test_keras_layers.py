"""Every layer of Keras: its second derivative is exact here, or it is refused.

The quick part measures the layers of which TensorFlow's own second derivative is wrong or
missing, and one of each kind; `-m slow` measures all, and under XLA.
"""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY

from maml_tf.keras_models import layer_cases, layer_table
from maml_tf.keras_models.exact_forms import (
  exact,
  moments,
  resize,
  softmax_cross_entropy_with_logits,
  softsign,
)

# Keras 3 says of a mask that it ends at a layer.
pytestmark = pytest.mark.filterwarnings('ignore:.*passed an input with a mask')

CASES = layer_cases.cases()
LOSSES = layer_cases.losses()

QUICK = ['Conv2D', 'BatchNormalization rank 2', 'BatchNormalization rank 4',
         'LayerNormalization', 'GroupNormalization', 'MaxPooling2D', 'UpSampling2D bilinear',
         'Resizing nearest', 'Dropout', 'activation softsign', 'Embedding mask_zero']
# By XLA, in a minute or more each.
SLOW_TO_COMPILE = ('ConvLSTM', 'RNN of', 'Bidirectional', 'LSTM dropout')
# What TensorFlow itself does not compute, in this precision or at all.
FAILS = {'SpectralNormalization', 'RandomContrast', 'RandomRotation', 'Resizing area'}


def assert_exact_or_refused(name, value):
  if name in FAILS and isinstance(value, str):
    return
  assert layer_table.is_exact(value), value


@pytest.mark.parametrize('name', QUICK)
def test_second_derivatives_are_exact(name):
  assert_exact_or_refused(name, layer_table.measure_layer(CASES[name]))


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in CASES if name not in QUICK])
def test_all_other_layers(name):
  assert_exact_or_refused(name, layer_table.measure_layer(CASES[name]))


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in CASES
                                  if not name.startswith(SLOW_TO_COMPILE)])
def test_all_layers_under_xla(name):
  value = layer_table.measure_layer(CASES[name], jit_compile=True)
  if isinstance(value, str):   # of the layers that XLA cannot compile, as the page says
    pages = layer_table.read(REPOSITORY / 'docs' / 'keras_layers.md').values()
    assert any(isinstance(page.get(name, {}).get('xla'), str) for page in pages), value
  else:
    assert layer_table.is_exact(value), value


@pytest.mark.parametrize('name', ['SparseCategoricalCrossentropy', *[
    pytest.param(name, marks=pytest.mark.slow) for name in LOSSES]])
def test_losses(name):
  assert layer_table.is_exact(layer_table.measure_loss(name))


def test_the_measurement_sees_what_is_wrong():
  """TensorFlow's own batch normalisation, wrong by a tenth."""
  assert layer_table.measure_stock(CASES['BatchNormalization rank 2']) > 0.01
  assert layer_table.measure_stock(CASES['Dense']) < layer_table.EXACT


@pytest.mark.parametrize('module, known', [
    (tf.keras.layers, {name.split(' ')[0] for name in CASES}), (tf.keras.losses, set(LOSSES))],
    ids=['layers', 'losses'])
def test_every_class_has_a_row_or_a_reason(module, known):
  classes = {name: getattr(module, name) for name in dir(module)
             if inspect.isclass(getattr(module, name))}
  covered = {classes[name] for name in classes if name in known}
  missing = [name for name, one in classes.items()
             if one not in covered and name not in layer_cases.NOT_MEASURED]
  assert missing == []


def test_the_page_shows_what_was_measured():
  path = REPOSITORY / 'docs' / 'keras_layers.md'
  measured = layer_table.read(str(path))
  assert layer_table.page(measured) == path.read_text(encoding='utf-8')
  for version, rows in measured.items():
    wrong = [name for name, row in rows.items()
             if any(column in row and not isinstance(row[column], str)
                    and not layer_table.is_exact(row[column]) for column in ('here', 'xla'))]
    assert wrong == [], version


def test_a_page_is_put_together_row_by_row(tmp_path):
  path = str(tmp_path / 'page.md')
  layer_table.write(path, '2.21.0', 'Dense', {'here': 1e-9})
  layer_table.write(path, '2.15.1', 'Dense', {'here': 0.3, 'stock': 'refused: why'})
  layer_table.write(path, '2.15.1', 'Dense', {'xla': 1e-5})
  rows = [line for line in (tmp_path / 'page.md').read_text().split('\n')
          if line.startswith('| Dense')]
  assert rows == ['| Dense | refused | **0.3** | exact (float32) | not measured | exact | '
                  'not measured |']


def test_sizes_that_are_computed_and_unknown_ones():
  images = tf.constant(np.random.RandomState(0).uniform(size=(2, 5, 6, 3)), tf.float32)
  expected = tf.image.resize(images, (10, 12), 'bicubic')

  @tf.function
  def computed():
    return resize(images, tf.constant([5, 6]) * 2, 'bicubic')
  graph = computed.get_concrete_function()
  assert graph.output_shapes == (2, 10, 12, 3)
  np.testing.assert_allclose(graph(), expected, atol=1e-5)

  @tf.function(input_signature=[tf.TensorSpec([None] * 3 + [3])])
  def unknown(images):
    return resize(images, (10, 12), 'bicubic')
  np.testing.assert_allclose(unknown(images), expected, atol=1e-5)
  received = resize(images, (9, 9), preserve_aspect_ratio=True)
  np.testing.assert_allclose(
      received, tf.image.resize(images, (9, 9), preserve_aspect_ratio=True), atol=1e-5)


# The exact forms are the functions that they stand for


@pytest.mark.parametrize('axes, keepdims', [([0], False), ([0, 2], True), (-1, False)])
def test_moments(axes, keepdims):
  x = tf.constant(np.random.RandomState(0).normal(size=(3, 4, 5)))
  for one, other in zip(moments(x, axes, keepdims=keepdims),
                        tf.nn.moments(x, axes, keepdims=keepdims)):
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_softsign():
  x = tf.constant([-2.0, 0.0, 0.5])
  np.testing.assert_allclose(softsign(x), tf.nn.softsign(x), rtol=1e-6)


def test_cross_entropy():
  logits = tf.constant([[-1.0, 2.0, 0.5], [3.0, -np.inf, 0.0]])
  labels = tf.constant([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0]])
  expected = tf.nn.softmax_cross_entropy_with_logits(labels, logits)
  np.testing.assert_allclose(softmax_cross_entropy_with_logits(labels, logits), expected)
  np.testing.assert_allclose(softmax_cross_entropy_with_logits(
      tf.transpose(labels), tf.transpose(logits), axis=0), expected)


@pytest.mark.parametrize('method', ['bilinear', 'nearest', 'bicubic', 'area', 'lanczos3'])
@pytest.mark.parametrize('size', [(3, 9), (10, 4)])
@pytest.mark.parametrize('antialias', [False, True])
def test_resize(method, size, antialias):
  images = np.random.RandomState(0).uniform(size=(2, 5, 6, 3)).astype('float32')
  for given in (images, images[0]):
    expected = tf.image.resize(given, size, method, antialias=antialias)
    np.testing.assert_allclose(resize(given, size, method, antialias=antialias), expected,
                               atol=1e-5)
  whole = (255 * images).astype('uint8')
  expected = tf.image.resize(whole, size, method, antialias=antialias)
  received = resize(whole, size, method, antialias=antialias)
  assert received.dtype == expected.dtype
  np.testing.assert_allclose(received, expected, atol=1e-2)


def test_tensorflow_is_as_it_was_behind():
  before = tf.nn.moments, tf.image.resize, tf.math.softsign
  with exact():
    assert tf.nn.moments is moments and tf.compat.v2.nn.moments is moments
    assert re.match('maml_tf', tf.image.resize.__module__)
  assert before == (tf.nn.moments, tf.image.resize, tf.math.softsign)
