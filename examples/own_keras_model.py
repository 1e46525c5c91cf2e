"""MAML of a Keras model of one's own: made, trained, adapted to a new task, saved.

  python examples/own_keras_model.py

The data are drawn here: points on noisy rings of different radii; a class is a radius. Put
your own arrays in the place of `rings`.
"""

from __future__ import annotations

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import maml_tf  # noqa: E402

WAYS, SHOTS, QUERIES = 3, 5, 10


def rings(classes: int, seed: int):
  """`[examples, 8, 2]`, eight points of a ring each; and the class of each example."""
  random = np.random.RandomState(seed)
  y = np.repeat(np.arange(classes), 20)
  radius = random.uniform(0.5, 3, classes)[y, np.newaxis]
  angle = random.uniform(0, 2 * np.pi, (len(y), 8))
  x = radius[..., np.newaxis] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
  return (x + 0.1 * random.normal(size=x.shape)).astype('float32'), y


def make_model() -> tf.keras.Model:
  layers = tf.keras.layers
  return tf.keras.Sequential([
      layers.Input((8, 2)), layers.Conv1D(16, 1), layers.BatchNormalization(), layers.ReLU(),
      layers.GlobalAveragePooling1D(), layers.Dense(16, activation='relu'),
      layers.Dense(WAYS)])


def main(steps: int, out: str) -> float:
  """Returns: the share of query examples of 100 new tasks that are classified right.

  One task alone says little: of some the three radii are nearly the same.
  """
  tf.keras.utils.set_random_seed(0)   # the same numbers each time
  model = make_model()
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  maml = maml_tf.MAML(model, loss, step_size=0.1, num_updates=3)
  maml.compile(tf.keras.optimizers.Adam(0.003), metrics=['accuracy'])
  tasks = maml_tf.tasks_from_arrays(*rings(30, seed=0), WAYS, SHOTS, QUERIES, seed=0)
  validation = maml_tf.tasks_from_arrays(*rings(10, seed=1), WAYS, SHOTS, QUERIES, seed=1)
  maml.fit(tasks, steps_per_epoch=steps, validation_data=validation.take(10), verbose=2)

  new_tasks = maml_tf.tasks_from_arrays(*rings(10, seed=2), WAYS, SHOTS, QUERIES, seed=2)
  share = maml.evaluate(new_tasks.take(25), verbose=0, return_dict=True)['accuracy']
  print(f'100 new tasks: {100 * share:.0f}% of the query examples right.')

  (support, query), = new_tasks.take(1)   # a meta-batch of four, of which the first is used
  adapted = maml.adapt(support[0][0], support[1][0])
  right = adapted.predict(query[0][0], verbose=0).argmax(-1) == query[1][0]
  adapted.save(out)
  print(f'One of them: {100 * np.mean(right):.0f}% of {len(right)} right; saved to {out}.')
  return share


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--steps', type=int, default=1500)
  parser.add_argument('--out', default='adapted.keras')
  given = parser.parse_args()
  main(given.steps, given.out)
