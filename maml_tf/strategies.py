"""The `tf.distribute` strategy that a configuration asks for."""

from __future__ import annotations

import contextlib
import signal
from typing import Any, Dict, Iterator, List, Mapping

import tensorflow as tf

from maml_tf import from_file
from maml_tf.cluster import Cluster, cluster
from maml_tf.config import Config, ConfigError
from maml_tf.lifeline import Lifeline, ends_by_itself, meet
from maml_tf.replicas import Replicas, require_divided

# What the processes of a run may have different: their place, and what their machine has.
_OF_A_WORKER = ('task_index', 'logdir', 'data_dir', 'simulation_threads',
                'simulation_processes')


@contextlib.contextmanager
def joined(config: Config, program: str) -> Iterator[Replicas]:
  """The replicas of a run. With several processes: from when all have come, to when all are
  done; where one ends before, all do.

  Before anything else has used TensorFlow.

  Raises:
    ConfigError: for a strategy that is not possible here, or a meta-batch that the replicas
      do not divide.
    LostError: where another process did not come, or is gone.
  """
  if config.run.distribution_strategy != 'multi_worker_mirrored':
    yield _fitting(config, Replicas(_of_this_process(config)))
    return
  workers = cluster(config.run.worker_hosts, config.run.task_index)
  _use_gpus(config)
  lifeline = meet(workers.hosts, workers.index, _to_agree_on(config),
                  config.run.worker_timeout, program)
  with _tells(lifeline):
    yield _fitting(config, Replicas(_of_workers(workers, config, program)))


@contextlib.contextmanager
def _tells(lifeline: Lifeline) -> Iterator[None]:
  """The other processes learn how this one ends."""
  try:
    yield
  except tf.errors.OpError as error:
    if not _is_of_a_lost_worker(error):
      lifeline.fail(error)
      raise
    lost = lifeline.lost(type(error).__name__)
    lifeline.fail(lost)
    raise lost from error
  except BaseException as error:
    lifeline.fail(error)
    raise
  lifeline.leave()


def _is_of_a_lost_worker(error: tf.errors.OpError) -> bool:
  """What a collective raises in those that are left; other errors are not to be hidden."""
  if 'mismatch' in str(error):   # of what processes exchange: all are there
    return False
  return (isinstance(error, (tf.errors.UnavailableError, tf.errors.AbortedError,
                             tf.errors.CancelledError, tf.errors.DeadlineExceededError))
          or any(text in str(error) for text in ('Collective ops is aborted', 'heartbeat')))


def _of_this_process(config: Config) -> tf.distribute.Strategy:
  """'off', 'mirrored', or what 'auto' makes of the machine."""
  kind = config.run.distribution_strategy
  gpus = _gpus(config)
  if kind == 'off' or (kind == 'auto' and len(gpus) < 2):
    return tf.distribute.get_strategy()
  devices = ([f'GPU:{number}' for number in range(len(gpus))] or
             [f'CPU:{number}' for number in
              range(len(tf.config.list_logical_devices('CPU')))])
  return tf.distribute.MirroredStrategy(devices)


def _of_workers(workers: Cluster, config: Config, program: str) -> tf.distribute.Strategy:
  """TensorFlow waits in here, without a bound of its own, and deaf to signals. It takes no
  GPU that the resolver does not tell of, and as many for granted in all workers."""
  resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
      tf.train.ClusterSpec({'worker': list(workers.hosts)}), task_type='worker',
      task_id=workers.index, num_accelerators={'GPU': len(_gpus(config))}, rpc_layer='grpc')
  handler = signal.getsignal(signal.SIGTERM)
  with ends_by_itself(config.run.worker_timeout, program,
                      'All workers came, and TensorFlow did not connect them within '
                      f'{config.run.worker_timeout} s: look for what keeps {workers.hosts} '
                      'from reaching each other.'):
    strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
  with contextlib.suppress(ValueError):   # not the main thread: it takes no signals
    signal.signal(signal.SIGTERM, handler)   # TensorFlow swallows it
  return strategy


def _gpus(config: Config) -> List[Any]:
  """Those to use; raises: ConfigError: where there are fewer than asked for."""
  there = tf.config.list_physical_devices('GPU')
  wanted = config.run.num_gpus
  if wanted > len(there):
    raise ConfigError(f'--num_gpus={wanted} is more than there are: {len(there)}. Take '
                      'fewer, or -1 for all.')
  return there if wanted == -1 else there[:wanted]


def _use_gpus(config: Config) -> None:
  with contextlib.suppress(RuntimeError):   # they are in use already, all of them
    tf.config.set_visible_devices(_gpus(config), 'GPU')


def _fitting(config: Config, replicas: Replicas) -> Replicas:
  """Raises: ConfigError: for tasks that cannot be shared out."""
  training = config.training
  if not replicas.are_several or not config.run.train:
    return replicas
  try:
    require_divided(training.meta_batch_size, replicas.number)
  except ValueError as error:
    raise ConfigError(f'--meta_batch_size={training.meta_batch_size} does not fit: {error}'
                      ) from None
  share = training.meta_batch_size // replicas.number
  if (config.baseline.trains_on_tasks and training.tasks_at_once
      and share % min(share, training.tasks_at_once)):
    raise ConfigError(f'--tasks_at_once={training.tasks_at_once} does not divide the {share} '
                      'tasks of each replica: choose a divisor, or 0.')
  return replicas


def _to_agree_on(config: Config) -> Dict[str, Any]:
  values = {f'--{name}': value for name, value in config.to_values().items()
            if name not in (*_OF_A_WORKER, 'worker_hosts', 'worker_timeout')}
  return {'TensorFlow': tf.__version__, **values, '--num_gpus': len(_gpus(config)),
          'data of SHA-256': _listed(config.problem.data_hashes(config)),
          'files of SHA-256': _listed(from_file.digests(config.to_values()))}


def _listed(hashes: Mapping[str, str]) -> str:
  """As a message shows them: a folder or file of the same name may hold something else."""
  return ', '.join(f'{name} {hashes[name][:12]}' for name in sorted(hashes)) or 'none'
