"""What is asked of a strategy, where there is none; and who can divide a meta-batch."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from maml_tf import config as config_module
from maml_tf import strategies
from maml_tf.cluster import Cluster
from maml_tf.config import ConfigError
from maml_tf.data_generator import DataGenerator, Part
from maml_tf.replicas import Replicas, replica_number, require_divided
from maml_tf.sources.image_set import MANIFEST
from maml_tf.sources.sinusoid import SinusoidSource


def test_one_device_is_a_case_like_the_others():
  replicas = Replicas(tf.distribute.get_strategy())
  assert (replicas.number, replicas.here, replicas.workers) == (1, 1, 1)
  assert replicas.is_writer and not replicas.are_several
  arrays = [np.array(-0.0), np.array([1, 2], np.int64)]
  for received, expected in zip(replicas.of_writer(arrays), arrays):
    np.testing.assert_array_equal(received, expected)
  assert replicas.map(lambda value: value + 1, [tf.constant(1), tf.constant(2)]) == [2, 3]


@pytest.mark.parametrize('tasks, replicas, numbers', [
    (25, 2, ['24 or 26 tasks', '1, 5, 25']), (4, 8, ['take 8 tasks', '1, 2, 4']),
    (32, 3, ['30 or 33 tasks', '1, 2, 4, 8, 16, 32'])])
def test_numbers_that_would_do_are_named(tasks, replicas, numbers):
  with pytest.raises(ConfigError) as refused:
    require_divided(tasks, replicas)
  for text in numbers:
    assert text in str(refused.value)
  require_divided(24, 2)


@pytest.mark.parametrize('workers', [1, 2, 4])
def test_each_episode_goes_to_one_process_by_its_place(workers):
  """And is the one that a process alone would have drawn."""
  generator = DataGenerator(SinusoidSource(3, 3), 4, seed=5)
  parts = [list(generator.dataset(3, 2, share=Part(number, workers)))
           for number in range(workers)]
  for batch in range(2):
    whole = generator.batch(3 + batch)
    shares = [part[batch] for part in parts]
    assert all(len(share.support.inputs) == 4 // workers for share in shares)
    together = tf.nest.map_structure(lambda *values: tf.concat(values, 0), *shares)
    for received, expected in zip(tf.nest.flatten(together), tf.nest.flatten(whole)):
      np.testing.assert_array_equal(received, expected)


def test_whole_batches_are_dealt_out_for_evaluation():
  generator = DataGenerator(SinusoidSource(3, 3), 4, seed=5)
  for number in range(2):
    dealt = list(generator.dataset(0, 5, every=Part(number, 2)))
    assert len(dealt) == (3, 2)[number]
    for place, batch in enumerate(dealt):
      np.testing.assert_array_equal(batch.query.inputs,
                                    generator.batch(number + 2 * place).query.inputs)


@pytest.mark.parametrize('given, message', [
    (dict(distribution_strategy='mirrored', num_gpus=3), '--num_gpus=3 is more than there'),
    (dict(distribution_strategy='mirrored', tasks_at_once=3, meta_batch_size=4),
     '--tasks_at_once=3 does not divide the 4 tasks of each replica'),
    (dict(distribution_strategy='multi_worker_mirrored'), 'does not know the workers')])
def test_what_is_not_possible_here_is_refused(given, message, monkeypatch):
  if tf.config.list_physical_devices('GPU'):
    pytest.skip('there are GPUs')
  for name in ('TF_CONFIG', 'SLURM_PROCID'):
    monkeypatch.delenv(name, raising=False)
  config = config_module.resolve(given)
  with pytest.raises(ConfigError, match=message), strategies.joined(config, 'main.py'):
    pass


def test_processes_agree_on_their_data_and_not_on_where_they_are(sample_data, tmp_path):
  """A folder of the same name may hold another set, with the test's classes in training."""
  def agreed(folder):
    return strategies._to_agree_on(config_module.resolve(
        dict(datasource='omniglot', data_dir=str(folder), num_classes=3)))
  here, there, other = sample_data('omniglot'), tmp_path / 'there', tmp_path / 'other'
  for folder in (there, other):
    shutil.copytree(here, folder)
  manifest = json.loads((other / MANIFEST).read_text(encoding='utf-8'))
  manifest['splits']['train']['sha256'] = 64 * '0'
  (other / MANIFEST).write_text(json.dumps(manifest), encoding='utf-8')
  assert agreed(here) == agreed(there)
  differing = {name for name, value in agreed(here).items() if agreed(other)[name] != value}
  assert differing == {'data of SHA-256'}


def test_processes_agree_on_the_content_of_files_of_one_s_own(tmp_path):
  file = tmp_path / 'nets.py'
  def agreed(text):
    file.write_text(text, encoding='utf-8')
    return strategies._to_agree_on(config_module.resolve(
        dict(datasource='omniglot', model=f'{file}:net')))
  assert agreed('one = 1') == agreed('one = 1') != agreed('two = 2')


@pytest.mark.parametrize('asked, used', [(-1, 3), (2, 2), (0, 0)])
def test_workers_compute_on_their_gpus_and_agree_on_how_many(asked, used, monkeypatch):
  """TensorFlow takes as many as the resolver tells of, and none where it tells of none."""
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda _: ['GPU'] * 3)
  monkeypatch.setattr(tf.distribute, 'MultiWorkerMirroredStrategy', lambda resolver: resolver)
  config = config_module.resolve(dict(distribution_strategy='multi_worker_mirrored',
                                      num_gpus=asked))
  resolver = strategies._of_workers(Cluster(('a:1', 'b:1'), 0), config, 'main.py')
  assert resolver.num_accelerators() == {'GPU': used}
  assert strategies._to_agree_on(config)['--num_gpus'] == used


@pytest.mark.parametrize('strategy, several', [('off', False), ('auto', False),
                                               ('mirrored', True)])
def test_without_gpus_the_cpu_computes(strategy, several):
  if tf.config.list_physical_devices('GPU'):
    pytest.skip('there are GPUs')
  config = config_module.resolve(dict(distribution_strategy=strategy))
  with strategies.joined(config, 'main.py') as replicas:
    assert (replicas.number, replicas.are_several) == (1, several)


def test_a_replica_s_number_is_the_same_in_all_uses_of_a_graph():
  strategy = tf.distribute.MirroredStrategy(['CPU:0'])
  seen = []

  @tf.function(autograph=False)
  def numbers():
    strategy.run(lambda: seen.extend(replica_number() for _ in range(2)))
  numbers()
  assert seen == [0, 0]
  with strategy.scope():
    assert replica_number() is None
