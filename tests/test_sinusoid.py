"""Sinusoid tasks: what is drawn, and what it means."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.data_generator import DataGenerator
from maml_tf.sources.sinusoid import SinusoidSource

EPISODES = 4000


def generator_of(oracle=False, dtype='float32', sizes=(5, 7), seed=0):
  return DataGenerator(SinusoidSource(*sizes, oracle=oracle, dtype=dtype), 4, seed)


@pytest.mark.parametrize('name, low, high', [
    ('amplitude', 0.1, 5.0), ('phase', 0.0, np.pi), ('x', -5.0, 5.0)])
def test_ranges_are_those_of_the_paper_and_uniform(name, low, high):
  values = generator_of().recipes(0, EPISODES)[name].numpy().ravel()
  assert low <= values.min() < low + 0.01 * (high - low)
  assert high - 0.01 * (high - low) < values.max() <= high
  shares, _ = np.histogram(values, bins=10, range=(low, high))
  # 4000 independent values at least: a share's deviation is 0.0048.
  np.testing.assert_allclose(shares / len(values), 0.1, atol=0.024)


def test_what_is_drawn_is_independent():
  """Amplitude, phase and the abscissae, of one task and of the next one."""
  recipes = generator_of().recipes(0, EPISODES)
  columns = np.column_stack([recipes['amplitude'], recipes['phase'], recipes['x'][:, :6]])
  columns = np.column_stack([columns[:-1], columns[1:]])
  correlations = np.corrcoef(columns.T) - np.eye(columns.shape[1])
  assert np.abs(correlations).max() < 5 / np.sqrt(EPISODES)


@pytest.mark.parametrize('oracle', [False, True])
@pytest.mark.parametrize('dtype, tolerance', [('float32', 3e-7), ('float64', 1e-14)])
def test_targets_are_amplitude_times_the_shifted_sine(oracle, dtype, tolerance):
  generator = generator_of(oracle, dtype)
  recipes = {name: value.numpy().astype('float64')
             for name, value in generator.recipes(60, 10).items()}
  episodes = generator.episodes(60, 10)
  x = np.concatenate([episodes.support.inputs, episodes.query.inputs], axis=1)
  y = np.concatenate([episodes.support.labels, episodes.query.labels], axis=1)
  assert x.dtype == y.dtype == dtype
  assert episodes.support.inputs.shape == (10, 5, 3 if oracle else 1)
  assert episodes.query.labels.shape == (10, 7, 1)
  amplitude, phase = recipes['amplitude'][:, None], recipes['phase'][:, None]
  np.testing.assert_array_equal(x[..., 0], recipes['x'])
  np.testing.assert_allclose(y[..., 0], amplitude * np.sin(recipes['x'] - phase),
                             rtol=0, atol=tolerance)


def test_the_oracle_sees_amplitude_and_phase():
  generator = generator_of(oracle=True, dtype='float64')
  recipes = generator.recipes(0, 10)
  episodes = generator.episodes(0, 10)
  for inputs, labels in episodes:
    x, amplitude, phase = np.moveaxis(inputs.numpy(), -1, 0)
    np.testing.assert_array_equal(amplitude, np.repeat(
        recipes['amplitude'].numpy()[:, None], x.shape[1], axis=1))
    np.testing.assert_array_equal(phase, np.repeat(
        recipes['phase'].numpy()[:, None], x.shape[1], axis=1))
    # The targets follow from the inputs alone.
    np.testing.assert_allclose(labels[..., 0], amplitude * np.sin(x - phase), rtol=1e-13,
                               atol=1e-14)


def test_the_oracle_gets_the_same_tasks():
  plain, oracle = generator_of().batch(3), generator_of(oracle=True).batch(3)
  np.testing.assert_array_equal(plain.support.inputs, oracle.support.inputs[..., :1])
  np.testing.assert_array_equal(plain.query.labels, oracle.query.labels)


def test_support_and_query_points_are_different_ones():
  recipes = generator_of().recipes(0, 100)
  assert all(len(np.unique(row)) == 12 for row in recipes['x'])


def test_both_precisions_have_the_same_tasks():
  single, double = (generator_of(dtype=dtype).batch(0) for dtype in ('float32', 'float64'))
  np.testing.assert_array_equal(tf.cast(single.query.inputs, tf.float64), double.query.inputs)
  np.testing.assert_array_equal(single.query.labels,
                                tf.cast(double.query.labels, tf.float32))
