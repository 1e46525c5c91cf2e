"""The sequence of episodes: the same however it is reached, different where it should."""

from __future__ import annotations

import functools
import time
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from maml_tf import data_generator
from maml_tf.data_generator import STREAMS, DataGenerator
from maml_tf.episodes import Episodes
from maml_tf.sources.images import ImageSource
from maml_tf.sources.sinusoid import SinusoidSource
from maml_tf.sources.source import BLOCK

SINUSOID_FINGERPRINT = '3361d640b5e6fdfaa63f57efa416a720213a07ec5c04ceff7eea7b6591a57dea'
IMAGE_FINGERPRINT = '7af401ac8f2b590ca1f62d6557b4091dbf3fe34c81286bfb5c9cfcad73bed79a'


@functools.cache
def sinusoids(meta_batch_size=5, seed=3, stream='train', sizes=(2, 3)):
  return DataGenerator(SinusoidSource(*sizes), meta_batch_size, seed, stream)


@pytest.fixture
def image_generator(make_split, generators_of_images):
  def make(*args, **kwargs):
    key = (args, tuple(sorted(kwargs.items())))
    if key not in generators_of_images:
      generators_of_images[key] = make_anew(*args, **kwargs)
    return generators_of_images[key]

  def make_anew(meta_batch_size=5, seed=3, stream='train', ways=3, sizes=(1, 2), **split):
    source = ImageSource(make_split(**split), ways, *sizes, rotations=True)
    return DataGenerator(source, meta_batch_size, seed, stream)
  make.anew = make_anew
  return make


@pytest.fixture(scope='module')
def generators_of_images():
  """By arguments: one is the same function of seed and place whoever asks, and traced once."""
  return {}


@pytest.fixture(params=['sinusoid', 'images'])
def make_generator(request, image_generator):
  return sinusoids if request.param == 'sinusoid' else image_generator


def anew(make_generator):
  """The function behind `make_generator`, of which every generator is another."""
  return make_generator.__wrapped__ if make_generator is sinusoids else make_generator.anew


def assert_equal(received, expected):
  assert isinstance(received, Episodes)
  for value, reference in zip(tf.nest.flatten(received), tf.nest.flatten(expected)):
    assert value.dtype == reference.dtype
    np.testing.assert_array_equal(value, reference)


def equal_tasks(first, second) -> int:
  """How many tasks of two meta-batches are the same."""
  return sum(np.array_equal(a, b) for a, b
             in zip(first.support.inputs, second.support.inputs))


def concatenated(batches):
  return tf.nest.map_structure(lambda *values: np.concatenate(values), *batches)


# Ways to the same episodes


@pytest.mark.parametrize('meta_batch_size', [1, 5, BLOCK + 3])
def test_a_dataset_holds_the_batches_of_the_sequence(make_generator, meta_batch_size):
  first = 11 if meta_batch_size == 5 else 1     # 5: episodes 55 to 69, across a block's end
  generator, other = make_generator(meta_batch_size), anew(make_generator)(meta_batch_size)
  batches = list(generator.dataset(first, 3))
  assert len(batches) == 3
  for index, batch in enumerate(batches):
    assert batch.support.inputs.shape[0] == meta_batch_size
    assert_equal(batch, generator.batch(first + index))
    assert_equal(batch, other.batch(first + index))


def test_entering_later_changes_nothing(make_generator):
  """A resumed run goes on with the episodes that it would have seen."""
  whole = list(make_generator().dataset(0, 30))
  for start in (1, 12, 13, 26):
    for batch, expected in zip(make_generator().dataset(start, 2), whole[start:]):
      assert_equal(batch, expected)


def test_an_episode_does_not_depend_on_the_meta_batch(make_generator):
  expected = make_generator(1).episodes(0, 140)
  for meta_batch_size in (7, 20):
    batches = make_generator(meta_batch_size).dataset(0, 140 // meta_batch_size)
    assert_equal(concatenated(batches), expected)


def test_iterating_again_starts_at_the_same_place(make_generator):
  dataset = make_generator().dataset(3, 2)
  assert_equal(concatenated(dataset), concatenated(dataset))


def test_a_dataset_knows_its_size(make_generator):
  assert int(make_generator().dataset(7, 12).cardinality()) == 12


def test_the_end_of_a_run_waits_for_no_autotuner(make_generator):
  """Its thread sleeps for up to a minute: longer than a cluster waits after SIGTERM."""
  assert make_generator().dataset(0, 6).options().autotune.enabled is False


def test_shapes_are_static(make_generator):
  """The model's graph is built for them."""
  for spec in tf.nest.flatten(make_generator(4).dataset(0, 1).element_spec):
    assert spec.shape.is_fully_defined()
    assert spec.shape[0] == 4


def test_far_episodes_are_reached_at_once(make_generator):
  """60,000 iterations of 32 tasks are not drawn to get at the last one."""
  generator = make_generator(32)
  assert_equal(next(iter(generator.dataset(60_000, 1))), generator.batch(60_000))


def test_no_episode_comes_again(make_generator):
  inputs = make_generator(100).episodes(0, 1000).support.inputs.numpy()
  assert len(np.unique(inputs.reshape(1000, -1), axis=0)) > 990


# Different episodes


def test_seeds_and_streams_differ(make_generator):
  sequences = [make_generator(40, seed=seed, stream=stream).batch(0)
               for seed in (0, 1) for stream in STREAMS]
  for index, batch in enumerate(sequences):
    for other in sequences[:index]:
      assert equal_tasks(batch, other) <= 1      # by chance; images have 16,000 tasks


def test_an_unknown_stream_is_refused():
  with pytest.raises(ValueError):
    sinusoids(stream='training')


# Fingerprints


def test_the_fingerprint_of_sinusoids_is_a_known_one():
  """It changes when the episodes of a seed change: with TensorFlow, or with this code."""
  assert sinusoids(5, seed=3).fingerprint(100) == SINUSOID_FINGERPRINT


def test_the_fingerprint_of_images_is_a_known_one(image_generator):
  assert image_generator(5, seed=3).fingerprint(100) == IMAGE_FINGERPRINT


def test_the_fingerprint_does_not_depend_on_the_meta_batch(make_generator):
  assert make_generator(5).fingerprint(70) == make_generator(32).fingerprint(70)


def test_the_fingerprint_tells_sequences_apart(make_generator):
  different = [make_generator().fingerprint(70), make_generator().fingerprint(71),
               make_generator(seed=4).fingerprint(70),
               make_generator(stream='val').fingerprint(70),
               make_generator(sizes=(1, 3)).fingerprint(70),
               make_generator(sizes=(3, 1)).fingerprint(70)]   # the same four images
  assert len(set(different)) == len(different)


def test_the_fingerprint_tells_data_and_ways_apart(image_generator):
  different = [image_generator().fingerprint(5), image_generator(ways=2).fingerprint(5),
               image_generator(sha256='1' * 64).fingerprint(5),
               image_generator(class_counts=(6,) * 6).fingerprint(5)]
  assert len(set(different)) == len(different)


# Size


def large_generator(make_split):
  """64 x 600 colour images that take no memory; 10-way, 10-shot, 15 queries."""
  images = np.broadcast_to(np.zeros((), np.uint8), (64 * 600, 84, 84, 3))
  split = make_split(class_counts=(600,) * 64, images=images)
  return DataGenerator(ImageSource(split, 10, 10, 15, rotations=False), 4, seed=0)


def test_the_graph_holds_no_data(make_split):
  """The TF1 code's graph held its file names: more than the 2 GB that one may have."""
  generator = large_generator(make_split)

  @tf.function
  def dataset():
    return tf.data.experimental.to_variant(generator.dataset(0, 60_000))
  graph_def = dataset.get_concrete_function().graph.as_graph_def()
  assert len(graph_def.library.function) >= 2          # what it maps is in there
  assert graph_def.ByteSize() < 100_000


def test_only_the_images_of_a_batch_are_read(make_split):
  """The set has 813 MB. The images of a task are 5 MB as bytes and 21 MB as float32."""
  generator = large_generator(make_split)
  tracemalloc.start()
  try:
    episodes = generator.episodes(0, 1)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert episodes.query.inputs.shape == (1, 150, 84, 84, 3)
  assert 5e6 < peak < 100e6


class CountingSource(SinusoidSource):
  """Sinusoids that count the batches which were made, and the traces."""
  made = traces = 0

  def materialise(self, recipes):
    def count(values):
      self.made += 1
      return values
    self.traces += 1
    episodes = super().materialise(recipes)
    return episodes.replaced(support_inputs=tf.ensure_shape(
        tf.numpy_function(count, [episodes.support.inputs], tf.float32, stateful=True),
        episodes.support.inputs.shape))


@pytest.mark.parametrize('bytes_ahead, least, most', [(2**20, 4, 12), (1, 1, 3)])
def test_large_batches_are_not_made_long_before_they_are_used(bytes_ahead, least, most,
                                                              monkeypatch):
  """10-way 10-shot mini-ImageNet: four tasks are 85 MB, six such batches too many."""
  monkeypatch.setattr(data_generator, 'BYTES_AHEAD', bytes_ahead)
  source = CountingSource(2, 3)
  batches = iter(DataGenerator(source, 5, seed=0).dataset(0, 100))
  next(batches)
  until = time.monotonic() + 10
  while source.made < least and time.monotonic() < until:
    time.sleep(0.01)
  time.sleep(0.3)   # for what should not come
  assert least <= source.made <= most


def test_what_makes_batches_is_traced_once():
  """Also for another `fit`, and where its shapes are asked for."""
  source = CountingSource(2, 3)
  generator = DataGenerator(source, 5, seed=0)
  for first in (0, 3):
    assert len(list(generator.dataset(first, 2))) == 2
  generator.batch(0)
  assert source.traces == 1


# Any configuration


@settings(max_examples=settings.default.max_examples // 10)   # each is traced anew
@given(data=st.data())
def test_every_episode_is_a_proper_task(data):
  """N distinct classes with K and Q distinct images each, of the right label."""
  counts = data.draw(st.lists(st.integers(2, 7), min_size=2, max_size=6), label='counts')
  ways = data.draw(st.integers(1, len(counts)), label='ways')
  support = data.draw(st.integers(1, min(counts) - 1), label='support')
  query = data.draw(st.integers(1, min(counts) - support), label='query')
  seed = data.draw(st.integers(0, 2 ** 31), label='seed')
  first = data.draw(st.integers(0, 10 ** 6), label='first')
  generator = DataGenerator(numbered_images(counts, ways, support, query), 3, seed)
  episodes = generator.episodes(first, 3)
  class_of_image = np.repeat(np.arange(len(counts)), counts)
  for task in range(3):
    inputs, labels = [], []
    for part, shots in zip(episodes, (support, query)):
      inputs.append(np.rint(part[0][task, :, 0, 0, 0] * 255).astype(int))
      labels.append(part[1][task].numpy())
      assert np.bincount(labels[-1], minlength=ways).tolist() == [shots] * ways
    images, labels = np.concatenate(inputs), np.concatenate(labels)
    assert len(set(images)) == len(images) == ways * (support + query)
    # One class for every label, and another one for another label.
    pairs = set(zip(labels, class_of_image[images]))
    assert len(pairs) == len({name for _, name in pairs}) == ways


def numbered_images(counts, ways, support, query):
  """A source in which image i has the value i."""
  from maml_tf.sources.image_set import ImageSplit
  images = np.arange(sum(counts), dtype=np.uint8).reshape(-1, 1, 1, 1)
  split = ImageSplit('omniglot', 'train', images, tuple(f'{i}' for i in range(len(counts))),
                     np.array(counts), '0' * 64)
  return ImageSource(split, ways, support, query, rotations=True)
