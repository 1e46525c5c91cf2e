"""MAML of texts: which of three topics is a sentence about, from five sentences of each?

  python examples/own_text.py [--steps=N]

Topics are drawn here: each prefers some words of a small vocabulary. Put your own texts in the
place of `sentences`: rows of word numbers, 0 where a sentence has ended, and a topic for each.
"""

from __future__ import annotations

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import maml_tf  # noqa: E402

WAYS, SHOTS, QUERIES = 3, 5, 5
WORDS, LENGTH = 60, 12


def sentences(topics: int, seed: int):
  """Word numbers `[sentences, LENGTH]`, and the topic of each, twenty sentences a topic."""
  random = np.random.RandomState(seed)
  y = np.repeat(np.arange(topics), 20)
  favourites = np.stack([random.choice(WORDS, 6, replace=False) for _ in range(topics)])
  words = random.randint(1, WORDS + 1, (len(y), LENGTH))
  preferred = 1 + favourites[y[:, np.newaxis], random.randint(0, 6, words.shape)]
  words = np.where(random.uniform(size=words.shape) < 0.6, preferred, words)
  ends = random.randint(6, LENGTH + 1, (len(y), 1))
  return np.where(np.arange(LENGTH) < ends, words, 0).astype('int32'), y


def main(steps: int = 300) -> float:
  """Trains; the share of right answers on new topics."""
  tf.keras.utils.set_random_seed(0)
  layers = tf.keras.layers
  model = tf.keras.Sequential([
      layers.Input((LENGTH,), dtype='int32'), layers.Embedding(WORDS + 1, 32),
      layers.GlobalAveragePooling1D(), layers.Dense(32, activation='relu'),
      layers.Dense(WAYS)])
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  maml = maml_tf.MAML(model, loss, step_size=0.5, num_updates=2)
  maml.compile(tf.keras.optimizers.Adam(0.003), metrics=['accuracy'])
  x, y = sentences(40, seed=0)
  tasks = maml_tf.tasks_from_arrays(x, y, WAYS, SHOTS, QUERIES, meta_batch_size=4, seed=0)
  maml.fit(tasks, steps_per_epoch=steps, verbose=0)
  x, y = sentences(WAYS, seed=1)   # topics that nobody has seen
  known = np.tile(np.arange(20) < SHOTS, WAYS)
  adapted = maml.adapt(x[known], y[known].astype('int32'), num_updates=5)
  right = np.argmax(adapted(x[~known]), axis=-1) == y[~known]
  print(f'New topics: {100 * right.mean():.0f}% of {len(right)} sentences right, from {SHOTS} '
        'of each')
  return float(right.mean())


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--steps', type=int, default=300)
  main(parser.parse_args().steps)
