"""Properties of every episode, for any ways, shots, class sizes and seed.

Each case draws 64 tasks. HYPOTHESIS_PROFILE=long tries ten times as many cases.
"""

from __future__ import annotations

import collections
import hashlib
import math

import hypothesis
import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from maml_tf.sources.image_set import ImageSplit
from maml_tf.sources.images import ImageSource
from maml_tf.sources.sinusoid import SinusoidSource
from maml_tf.sources.source import BLOCK, Draws

# Of a sum that has no bias. One in 10**10 is as far off.
_DEVIATIONS = 6.5
_SEEDS = st.tuples(st.integers(0, 3 * 2**31), st.integers(0, 2**40))


def image_source(counts, ways, support, query, rotations, dtype='float32'):
  """A source in which image i has the value i in its first corner, and 255 in the next."""
  images = np.zeros((sum(counts), 2, 2, 1), np.uint8)
  images[:, 0, 0, 0] = np.arange(sum(counts))
  images[:, 0, 1, 0] = 255
  split = ImageSplit('omniglot', 'train', images, tuple(f'{i}' for i in range(len(counts))),
                     np.array(counts), '0' * 64)
  return ImageSource(split, ways, support, query, rotations, dtype)


@st.composite
def image_tasks(draw):
  """(images of each class, ways, support, query, rotations) that fit together."""
  counts = draw(st.lists(st.integers(2, 12), min_size=2, max_size=20))
  ways = draw(st.integers(2, len(counts)))
  support = draw(st.integers(1, min(counts) - 1))
  query = draw(st.integers(1, min(counts) - support))
  return counts, ways, support, query, draw(st.booleans())


class Bias:
  """Sums of what should be zero in the mean, and how far they may be off.

  A position says nothing of a label if each label is as frequent there as any other,
  whatever the label was at the same place of the group before.
  """

  def __init__(self):
    self._sums = collections.defaultdict(float)
    self._variances = collections.defaultdict(float)

  def add(self, labels, ways):
    """`labels`: `[tasks, groups, ways]` of independent tasks."""
    tasks, groups, _ = labels.shape
    for group in range(groups):
      for position in range(ways):
        here = labels[:, group, position]
        self._add(('first label', group, position), here == 0, tasks, ways)
        self._add(('last label', group, position), here == ways - 1, tasks, ways)
        self._add(('own place', group, position), here == position, tasks, ways)
        if group:
          self._add(('as in the support set', group, position),
                    here == labels[:, 0, position], tasks, ways)

  def _add(self, name, hits, tasks, ways):
    for key in (name, name[0]):
      self._sums[key] += np.sum(hits) - tasks / ways
      # Positions of a group exclude each other; groups are independent.
      self._variances[key] += tasks / ways * (1 - 1 / ways) * (1 if key is name else ways)

  def found(self):
    return {name: round(value / math.sqrt(self._variances[name]), 1)
            for name, value in self._sums.items()
            if abs(value) > _DEVIATIONS * math.sqrt(self._variances[name])}


def own_seed(*drawn):
  """Hypothesis likes small numbers, and comes back to them: these are of the case alone."""
  digest = hashlib.sha256(repr(drawn).encode()).digest()
  return int.from_bytes(digest[:7], 'big'), int.from_bytes(digest[7:14], 'big')


def check_images(case, seed, bias):
  counts, ways, support, query, rotations = case
  source = image_source(*case)
  recipes = source.draw(tf.constant(seed, tf.int64))
  drawn = {name: value.numpy() for name, value in recipes.items()}
  image, label, shots = drawn['image'], drawn['label'], support + query
  assert image.shape == label.shape == drawn['turns'].shape == (BLOCK, ways * shots)
  assert image.min() >= 0 and image.max() < sum(counts)

  # No image twice in a task, so none in both the support and the query set.
  assert (np.diff(np.sort(image, axis=1), axis=1) > 0).all()

  # A label is one class, and a class one label.
  classes = np.repeat(np.arange(len(counts)), counts)[image]
  class_of_label = np.full((BLOCK, ways), -1)
  np.put_along_axis(class_of_label, label, classes, axis=1)
  np.testing.assert_array_equal(np.take_along_axis(class_of_label, label, axis=1), classes)
  assert (np.diff(np.sort(class_of_label, axis=1), axis=1) > 0).all()

  # Every group of N has every label: K of each in the support set, the rest in the query.
  groups = label.reshape(BLOCK, shots, ways)
  np.testing.assert_array_equal(np.sort(groups, axis=2),
                                np.broadcast_to(np.arange(ways), groups.shape))
  if bias is not None:
    bias.add(groups, ways)

  # A class is turned alike in support and query.
  turn_of_label = np.zeros((BLOCK, ways), int)
  np.put_along_axis(turn_of_label, label, drawn['turns'], axis=1)
  np.testing.assert_array_equal(np.take_along_axis(turn_of_label, label, axis=1),
                                drawn['turns'])
  assert drawn['turns'].max() <= (3 if rotations else 0)

  # The episodes are these images, so turned, with these labels.
  episodes = source.materialise({name: value[:2] for name, value in recipes.items()})
  inputs = np.concatenate([episodes.support.inputs, episodes.query.inputs], axis=1)
  assert episodes.support.inputs.shape == (2, ways * support, 2, 2, 1)
  assert inputs.shape == (2, ways * shots, 2, 2, 1)
  pixels = np.rint(inputs[..., 0] * 255).astype(int)
  for index in np.ndindex(2, ways * shots):
    expected = np.rot90([[image[index], 255], [0, 0]], drawn['turns'][index])
    np.testing.assert_array_equal(pixels[index], expected)
  np.testing.assert_array_equal(
      np.concatenate([episodes.support.labels, episodes.query.labels], axis=1), label[:2])


def test_every_classification_task_is_valid():
  cases, bias, seen = 2 * hypothesis.settings.default.max_examples, Bias(), set()

  @given(image_tasks(), _SEEDS, st.booleans())
  @hypothesis.settings(max_examples=cases)
  def check(case, seed, as_drawn):
    if as_drawn:
      check_images(case, seed, None)
      return
    seed = own_seed(case, seed)
    # The same numbers again would not be independent.
    check_images(case, seed, None if seed in seen else bias)
    seen.add(seed)
  check()
  assert len(seen) > cases // 5
  assert bias.found() == {}


def test_labels_in_order_would_be_noticed(monkeypatch):
  """That the check above can fail: in order, and in the order of the support set."""
  permutations = Draws.permutations

  def in_order(self, shape):
    return tf.broadcast_to(tf.range(shape[-1]), shape)

  def as_in_the_support_set(self, shape):
    return tf.broadcast_to(permutations(self, [shape[0], 1, shape[2]]), shape)

  def sometimes_in_order(self, shape):   # in every eighth task
    is_so = tf.range(shape[0])[:, tf.newaxis, tf.newaxis] % 8 == 0
    return tf.where(is_so, in_order(self, shape), permutations(self, shape))
  for wrong, noticed in ((in_order, 'own place'), (sometimes_in_order, 'own place'),
                         (as_in_the_support_set, 'as in the support set')):
    monkeypatch.setattr(Draws, 'permutations', wrong)
    bias = Bias()
    for seed in range(10):
      check_images(([6] * 5, 5, 2, 2, True), (seed, 0), bias)
    assert noticed in bias.found()


@given(st.integers(1, 20), st.integers(1, 20), _SEEDS, st.booleans(),
       st.sampled_from(['float32', 'float64']))
def test_every_regression_task_is_valid(support, query, seed, oracle, dtype):
  source = SinusoidSource(support, query, oracle, dtype)
  episodes = source.materialise(source.draw(tf.constant(seed, tf.int64)))
  columns = 3 if oracle else 1
  shapes = (support, columns), (support, 1), (query, columns), (query, 1)
  for value, shape in zip(tf.nest.flatten(episodes), shapes):
    assert value.dtype == dtype and value.shape == (BLOCK, *shape)
    assert np.isfinite(value).all()
  inputs = np.concatenate([episodes.support.inputs, episodes.query.inputs], axis=1)
  targets = np.concatenate([episodes.support.labels, episodes.query.labels], axis=1)[..., 0]
  x = inputs[..., 0].astype('float64')
  assert x.min() >= -5 and x.max() <= 5
  # Two of 40 float32 numbers are the same once in 20,000 tasks.
  assert sum(len(set(row)) < len(row) for row in x) <= 2
  if oracle:
    amplitude, phase = inputs[..., 1].astype('float64'), inputs[..., 2].astype('float64')
    for value, low, high in ((amplitude, 0.1, 5), (phase, 0, math.pi)):
      assert (value == value[:, :1]).all()   # one task, in support and query
      assert low - 1e-6 <= value.min() and value.max() <= high + 1e-6
      assert len(np.unique(value[:, 0])) > BLOCK // 2
    np.testing.assert_allclose(targets, amplitude * np.sin(x - phase), rtol=0, atol=5e-6)
  else:
    # One sinusoid goes through all points: a sin(x) + b cos(x), found by least squares.
    basis = np.stack([np.sin(x), np.cos(x)], axis=-1)
    for task in range(BLOCK):
      _, residuals, rank, _ = np.linalg.lstsq(basis[task], targets[task], rcond=None)
      assert rank < 2 or residuals.size == 0 or residuals[0] < 1e-9
