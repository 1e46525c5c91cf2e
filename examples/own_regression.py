"""MAML of time series of one's own: a few points of a series, and the others are predicted.

  python examples/own_regression.py [--steps=N]

A task is a series: some of its points are known, and the others are asked for. The series are
drawn here, decays of different heights and rates; put your own in the place of `series`, as
a function of random numbers that gives one task.
"""

from __future__ import annotations

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import maml_tf  # noqa: E402

KNOWN, ASKED = 5, 10


def series(random: np.random.Generator):
  """((known times, their values), (times that are asked for, their values))."""
  height, rate = random.uniform(1, 5), random.uniform(0.2, 2)
  times = random.uniform(0, 3, (KNOWN + ASKED, 1)).astype('float32')
  values = (height * np.exp(-rate * times)).astype('float32')
  return (times[:KNOWN], values[:KNOWN]), (times[KNOWN:], values[KNOWN:])


def main(steps: int = 1000) -> float:
  """Trains; the mean squared error on a new series, divided by that before adapting."""
  tf.keras.utils.set_random_seed(0)
  model = tf.keras.Sequential([
      tf.keras.layers.Input((1,)), tf.keras.layers.Dense(40, activation='relu'),
      tf.keras.layers.Dense(40, activation='relu'), tf.keras.layers.Dense(1)])
  maml = maml_tf.MAML(model, 'mse', step_size=0.01, num_updates=1)
  maml.compile(tf.keras.optimizers.Adam(0.001))
  tasks = maml_tf.tasks_from_function(series, meta_batch_size=10, seed=0)
  maml.fit(tasks, steps_per_epoch=steps, verbose=0)
  (known_x, known_y), (asked_x, asked_y) = series(np.random.default_rng(1))
  adapted = maml.adapt(known_x, known_y, num_updates=5)
  before, after = (float(np.mean((np.asarray(net(asked_x)) - asked_y) ** 2))
                   for net in (model, adapted))
  print(f'A new series: mean squared error {before:.3f}, after {KNOWN} known points '
        f'{after:.3f}')
  return after / before


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--steps', type=int, default=1000)
  main(parser.parse_args().steps)
