"""The paper's net in Keras is the paper's net: the same meta-gradient."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from maml_tf import MAML, Convolutional, ScaledCrossEntropy
from maml_tf.keras_models import paper_net as speed
from maml_tf.keras_models.paper_net import as_in_the_paper, paper_net

IMAGE, FILTERS, WAYS = (17, 15, 1), 3, 3


def test_both_have_the_same_meta_gradient(make_classification):
  tf.keras.backend.set_floatx('float64')
  tf.keras.mixed_precision.set_global_policy('float64')
  try:
    model = paper_net(IMAGE, FILTERS, WAYS)
  finally:
    tf.keras.backend.set_floatx('float32')
    tf.keras.mixed_precision.set_global_policy('float32')
  learner = Convolutional(IMAGE, FILTERS, WAYS, 'batch_norm', max_pool=False,
                          spatial_mean=True)
  common = dict(step_size=0.4, num_updates=1)
  ours = MAML(learner, ScaledCrossEntropy(2), dtype='float64', **common)
  theirs = MAML(as_in_the_paper(model), ScaledCrossEntropy(2), **common)
  names = [f'conv{block}/{name}' for block in (1, 2, 3, 4) for name in ('kernel', 'beta')]
  names += ['output/kernel', 'output/bias']
  for variable, name in zip(model.trainable_variables, names):
    variable.assign(ours.meta_parameters.arrays()[name])
  episodes = make_classification(2, WAYS, 2, IMAGE)
  means, expected = ours.meta_gradient(episodes)
  loss, gradients = theirs.meta_gradient(*episodes)
  np.testing.assert_allclose(loss, means['loss'], rtol=1e-11)
  size = max(np.abs(value).max() for value in expected.values())
  for name, gradient in zip(names, gradients):
    np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=1e-9 * size,
                               err_msg=name)


def test_the_benchmark_shows_both(monkeypatch, capsys):
  from maml_tf import benchmark
  monkeypatch.setattr(speed, 'seconds', lambda: {'Convolutional': [0.2, 0.1, 0.9],
                                                 'Keras': [0.3, 0.3, 0.1]})
  monkeypatch.setattr(benchmark, 'measure', lambda *arguments: {'step_ms_median': 1.0})
  monkeypatch.setattr(benchmark.devices, 'set_up', lambda side_by_side: 'CPU')
  assert benchmark.main(['maml_tf.benchmark', '--keras']) == 0
  printed = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert printed['keras_over_net'] == pytest.approx(1.5)
  assert printed['net_ms_median'] == pytest.approx(200)
  assert benchmark.main(['maml_tf.benchmark']) == 0
  assert 'keras_over_net' not in capsys.readouterr().out
