"""How fast a meta-step is, and how close to what the machine can do.

  python -m maml_tf.benchmark --flagfile=flags/omniglot_5way_1shot.flags [--steps=N]

Takes the flags of `main.py`, and `--steps=N` (executions to time, default 30) and
`--profile=FOLDER` (writes a TensorBoard trace). Measures `fit` as training runs it:
input pipeline, meta-gradient and optimizer, on the prepared data, or on random images
of the same shape where there are none. Prints a table, and the same as one line of
JSON:

  step_ms_median, step_ms_min: between the ends of consecutive executions, per step.
  input_wait_fraction: the share of its time that a loop of steps waits for its next
    meta-batch, beyond what it takes to get one that is there (in training, executions
    of many steps get theirs within the graph).
  seconds_to_first_step: from the start of the process to the end of its first step.
  gflop_per_step: counted by TensorFlow's profiler, see `gflop_per_step`.
  sgemm_gflops: a 2048 x 2048 float32 product in the same process (one for each core at
    the same time where an operation has one thread), the mean of before and after.
  efficiency: gflop_per_step / step_ms_median / sgemm_gflops.

With --keras, of one meta-gradient of the paper's Omniglot net, whatever the flags (32 tasks,
5-way 1-shot, one inner step), in turn with the same net written in Keras:

  net_ms_median, keras_ms_median; keras_over_net: their ratio.

With --distribution_strategy, in each process the figures of this process, and

  replicas: that compute together.
  step_cpu_ms: of the processor, of this process, for a step: where a machine is shared it
    says more than the time on the clock.
  all_reduce_ms, all_reduce_ms_min: the exchange of a gradient of this size alone, of rounds
    that begin together.
  all_reduce_fraction: all_reduce_ms / step_ms_median.
  own_share_ms, own_share_cpu_ms: a step with the tasks of one replica, and without any
    exchange; of several processes each measures it at the same time.
  scaling_efficiency: own_share_ms / step_ms_median: how near to `replicas` times as fast as
    one replica with all of its time at its own tasks.

Of policies (--datasource=cheetah_direction; N iterations, default 30):

  iteration_seconds, seconds_sampling, seconds_advantages, seconds_inner, seconds_outer.
  sampled_steps_per_second, steps_per_second: of the environment, while sampling, and of all.
  physics_steps_per_second: of MuJoCo alone, in as many threads.
  sampling_efficiency: sampled_steps_per_second / physics_steps_per_second.
  share_not_sampling: of an iteration.
  exchange_seconds, with several processes: of an iteration, in which this one waited for the
    others and exchanged. Steps are those of all of them then, and sampling_efficiency is that
    of a share.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from typing import Dict, List, Optional, Sequence

if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

import numpy as np

import flags
from maml_tf import paths
from maml_tf.argument_types import whole
from maml_tf.before_tensorflow import load_tensorflow, peak_memory
from maml_tf.command_line import OneSentenceParser, exit_code
from maml_tf.config import Config

load_tensorflow()

import tensorflow as tf  # noqa: E402

from maml_tf import devices, experiment  # noqa: E402
from maml_tf.data_generator import DataGenerator  # noqa: E402
from maml_tf.errors import ConfigError, DataError  # noqa: E402
from maml_tf.flops import flop_per_example  # noqa: E402
from maml_tf.keras_models import paper_net  # noqa: E402
from maml_tf.meta_learner import MetaLearner  # noqa: E402
from maml_tf.replicas import Replicas  # noqa: E402
from maml_tf.strategies import joined  # noqa: E402
from maml_tf.training import phases  # noqa: E402
from maml_tf.training.loop import Fit  # noqa: E402

WARM_UP = 2   # executions
MATRIX_SIZE = 2048
MATRIX_PRODUCTS = 12
ROUNDS = 200   # of the exchange


def main(argv: Sequence[str]) -> int:
  parser = OneSentenceParser(
      prog='python -m maml_tf.benchmark', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
  parser.add_argument('--steps', type=whole(2), default=30)
  parser.add_argument('--profile', type=paths.argument)
  parser.add_argument('--keras', action='store_true')
  options, rest = parser.parse_known_args(argv[1:])
  config = flags.main_config([argv[0], *rest], 'maml_tf.benchmark', several_devices=True)
  return exit_code('maml_tf.benchmark', lambda: _run(config, options))


def _run(config: Config, options: argparse.Namespace) -> None:
  baseline = config.training.baseline
  if baseline != 'None':
    raise ConfigError(f'--baseline={baseline} is not meta-trained, and has no meta-step to be '
                      'timed: leave it out.')
  print(f'Device: {experiment.set_up(config)}')
  with joined(config, 'maml_tf.benchmark') as replicas:
    if replicas.are_several:
      print(f'Strategy: {replicas.describe()}')
    if config.problem.acts and options.profile is not None:
      raise ConfigError(f'--profile={options.profile} does not fit --datasource='
                        f'{config.problem.name}, whose steps are not one graph: leave it out.')
    figures = (measure_control(config, options.steps, replicas) if config.problem.acts
               else measure(config, options.steps, options.profile, replicas))
  if options.keras:
    figures.update(paper_net.figures())
  for name, value in figures.items():
    print(f'{name:<24}' + ('not counted' if value is None else f'{value:,.4g}').rjust(14))
  print(json.dumps({'config': config.to_dict(), **figures}))


def measure(config: Config, steps: int, profile: Optional[str], replicas: Replicas
            ) -> Dict[str, Optional[float]]:
  """The figures of one configuration, by name; see the module's text.

  Args:
    config: what to train.
    steps: executions to time.
    profile: folder for a TensorBoard trace of these executions, or None.
    replicas: that compute together.
  """
  with replicas.scope():
    model = experiment.build_model(config)
  phases.compile_model(config, model)
  generator = _training_generator(config)
  per_execution = phases.steps_per_execution(config)
  fit = Fit(generator, per_execution, experiment.use_xla(config))
  warm_up, counted = WARM_UP * per_execution, steps * per_execution
  ends = _ends_of_executions(fit, model, 0, warm_up)
  seconds_to_first_step = ends[0] - _start_of_process()
  sgemm = [sgemm_gflops()]
  if profile:
    tf.profiler.experimental.start(profile)
  processor = time.process_time()
  ends = _ends_of_executions(fit, model, warm_up, counted)
  processor = (time.process_time() - processor) / counted
  if profile:
    tf.profiler.experimental.stop()
  wait = (None if replicas.are_several else
          _input_wait_fraction(config, model, generator, warm_up + counted, steps))
  sgemm.append(sgemm_gflops())
  step_seconds = np.diff(ends) / per_execution
  median = float(np.median(step_seconds))
  gflop = gflop_per_step(config, model)
  return {
      'step_ms_median': 1e3 * median,
      'step_ms_min': 1e3 * float(step_seconds.min()),
      'iterations_per_second': 1 / median,
      'tasks_per_second': config.training.meta_batch_size / median,
      'input_wait_fraction': wait,
      'seconds_to_first_step': seconds_to_first_step,
      'peak_rss_mb': peak_memory(),
      'gflop_per_step': gflop,
      'sgemm_gflops': float(np.mean(sgemm)),
      'efficiency': None if gflop is None else gflop / median / float(np.mean(sgemm)),
      **({'step_cpu_ms': 1e3 * processor,
          **_of_replicas(config, model, replicas, steps, median)}
         if replicas.are_several else {}),
  }


def _of_replicas(config: Config, model: MetaLearner, replicas: Replicas, steps: int,
                 median: float) -> Dict[str, Optional[float]]:
  """What the others cost."""
  rounds = _all_reduce_seconds(model, replicas)
  all_reduce = float(np.median(rounds))
  share = config.training.meta_batch_size // replicas.number
  alone = dataclasses.replace(config, training=dataclasses.replace(
      config.training, meta_batch_size=share))
  own = phases.compile_model(alone, experiment.build_model(alone))
  per_execution = phases.steps_per_execution(alone)
  fit = Fit(_training_generator(alone), per_execution, experiment.use_xla(alone))
  _ends_of_executions(fit, own, 0, WARM_UP * per_execution)
  replicas.combined([np.zeros(1)])   # all begin now
  processor = time.process_time()
  ends = _ends_of_executions(fit, own, 0, steps * per_execution)
  processor = (time.process_time() - processor) / (steps * per_execution)
  own_share = float(np.median(np.diff(ends))) / per_execution
  return {'replicas': replicas.number, 'all_reduce_ms': 1e3 * all_reduce,
          'all_reduce_ms_min': 1e3 * min(rounds),
          'all_reduce_fraction': all_reduce / median, 'own_share_ms': 1e3 * own_share,
          'own_share_cpu_ms': 1e3 * processor,
          'scaling_efficiency': own_share / median}


def _all_reduce_seconds(model: MetaLearner, replicas: Replicas) -> Sequence[float]:
  size = sum(variable.shape.num_elements() for variable in model.trainable_variables)
  vector = tf.zeros([size], model.meta_parameters.dtype)

  def exchange(vector):
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, vector)
  round_ = tf.function(lambda: replicas.strategy.run(exchange, args=(vector,)),
                       autograph=False)
  seconds = []
  for _ in range(WARM_UP + ROUNDS):
    before = time.perf_counter()
    tf.nest.map_structure(lambda value: value.numpy(),
                          replicas.strategy.experimental_local_results(round_()))
    seconds.append(time.perf_counter() - before)
  return seconds[WARM_UP:]


def measure_control(config: Config, iterations: int, replicas: Replicas
                    ) -> Dict[str, Optional[float]]:
  """The same of policies: see `rl.speed.measure`."""
  from maml_tf.rl import speed
  with replicas.scope():
    model = experiment.build_model(config)
  phases.compile_model(config, model)
  return {**speed.measure(model, iterations, config.problem.threads(config)),
          'peak_rss_mb': peak_memory()}


def gflop_per_step(config: Config, model: MetaLearner) -> Optional[float]:
  """The arithmetic of one meta-step, in units of 1e9 operations.

  See `MetaLearner.forward_passes`; None where that is None. Element-wise work is not
  counted. Where the order changes with the iteration, it is that of the next step.
  """
  task = config.task
  classes = config.problem.groups(config.with_trained_classes())
  passes = model.forward_passes(classes * task.update_batch_size,
                                classes * task.train_query_size)
  if passes is None:
    return None
  each = flop_per_example(model.learner, config.problem.input_shape(config))
  return config.training.meta_batch_size * passes * each / 1e9


def sgemm_gflops() -> float:
  """What large float32 matrix products reach here, in 1e9 operations per second."""
  matrices = [tf.random.normal([MATRIX_SIZE, MATRIX_SIZE])
              for _ in range(devices.cores_for_tasks() or 1)]
  products = tf.function(lambda: _products(matrices), autograph=False)
  products()
  seconds = []
  for _ in range(MATRIX_PRODUCTS):
    before = time.perf_counter()
    for product in products():
      product.numpy()
    seconds.append(time.perf_counter() - before)
  return len(matrices) * 2 * MATRIX_SIZE**3 / float(np.median(seconds)) / 1e9


def _products(matrices: Sequence[tf.Tensor]) -> List[tf.Tensor]:
  """A number of each: to bring all of it from a GPU takes longer than to compute it."""
  return [tf.matmul(matrix, matrix)[0, 0] for matrix in matrices]


def _ends_of_executions(fit: Fit, model: MetaLearner, first: int, count: int
                        ) -> Sequence[float]:
  """The time at the end of each execution."""
  times = []
  fit(model, first, count, [tf.keras.callbacks.LambdaCallback(
      on_train_batch_end=lambda batch, logs: times.append(time.monotonic()))])
  return times


def _input_wait_fraction(config: Config, model: MetaLearner, generator: DataGenerator,
                         first: int, steps: int) -> float:
  """Of the median step: waiting for the meta-batch / waiting and training."""
  step = tf.function(model.train_step, autograph=False,
                     jit_compile=experiment.use_xla(config))
  batches = iter(generator.dataset(first, steps + WARM_UP))
  ready = iter(tf.data.Dataset.from_tensors(generator.batch(first)).repeat())
  waits, totals = [], []
  for _ in range(steps + WARM_UP):
    before = time.perf_counter()
    episodes = next(batches)
    got = time.perf_counter()
    step(episodes)['loss'].numpy()
    done = time.perf_counter()
    next(ready)
    waits.append(got - before - (time.perf_counter() - done))
    totals.append(done - before)
  return max(0.0, float(np.median(waits[WARM_UP:]) / np.median(totals[WARM_UP:])))


def _training_generator(config: Config) -> DataGenerator:
  try:
    return experiment.training_generator(config)
  except DataError as error:
    print(f'{error} Taking random images of the same shape.', file=sys.stderr)
    source = config.problem.stand_in_source(config)
    return DataGenerator(source, config.training.meta_batch_size, config.task.seed)


def _start_of_process() -> float:
  """When this process started, on the clock of `time.monotonic`."""
  try:
    with open('/proc/self/stat', encoding='ascii') as file:
      # The name in parentheses may hold spaces; the start, in ticks since the boot, is
      # field 22 of all, so the 20th behind the name.
      ticks = int(file.read().rsplit(')', 1)[1].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf('SC_CLK_TCK')
  except (OSError, AttributeError):
    age = time.process_time()   # not Linux: processor time, near enough at the start
  return time.monotonic() - age


if __name__ == '__main__':
  sys.exit(main(sys.argv))
