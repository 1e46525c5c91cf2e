"""The benchmark: what it counts, and that its figures belong together."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf

from maml_tf import benchmark, experiment
from maml_tf.config import resolve
from maml_tf.training import phases

REPOSITORY = Path(__file__).parent.parent
LONGEST = 600   # seconds of a process
FIGURES = {'step_ms_median', 'step_ms_min', 'iterations_per_second', 'tasks_per_second',
           'input_wait_fraction', 'seconds_to_first_step', 'peak_rss_mb', 'gflop_per_step',
           'sgemm_gflops', 'efficiency'}


def run(*arguments):
  """(exit code, stdout, stderr); in a process of its own, whose age is measured."""
  done = subprocess.run([sys.executable, '-m', 'maml_tf.benchmark', *arguments],
                        cwd=REPOSITORY, capture_output=True, text=True, check=False,
                        timeout=LONGEST)
  return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_images_that_nobody_prepared(tmp_path):
  before = time.monotonic()
  code, out, err = run('--datasource=omniglot', '--num_filters=4', '--meta_batch_size=2',
                       '--steps=3', f'--data_dir={tmp_path / "none"}')
  seconds = time.monotonic() - before
  assert code == 0, err
  assert 'Taking random images of the same shape.' in err
  *table, line = out.splitlines()
  figures = json.loads(line)
  config = figures.pop('config')
  assert config['learner']['num_filters'] == 4 and config['task']['datasource'] == 'omniglot'
  assert set(figures) == FIGURES == {row.split()[0] for row in table[-len(FIGURES):]}
  assert 0 < figures['step_ms_min'] <= figures['step_ms_median'] < 1000 * seconds
  assert figures['iterations_per_second'] == pytest.approx(1000 / figures['step_ms_median'])
  assert figures['tasks_per_second'] == pytest.approx(2 * figures['iterations_per_second'])
  assert 0 <= figures['input_wait_fraction'] < 1
  assert 0 < figures['seconds_to_first_step'] < seconds
  # TensorFlow itself has more than the first, in MiB and not KiB or bytes.
  assert 100 < figures['peak_rss_mb'] < 20_000
  assert figures['efficiency'] == pytest.approx(
      figures['gflop_per_step'] * figures['iterations_per_second'] / figures['sgemm_gflops'])


@pytest.mark.parametrize('given, passes, tasks', [
    # 5 support points, 9 passes each per update, and 5 query points, 3 passes each.
    (dict(), 5 * 9 + 5 * 3, 25),
    (dict(stop_grad=True, num_updates=2), 5 * 3 * 2 + 5 * 3, 25),
    (dict(update_batch_size=10, meta_batch_size=4), 10 * 9 + 10 * 3, 4),
    # Losses after all of 5 updates.
    (dict(method='maml_plus_plus'), 5 * 9 * 5 + 5 * 3 * 5, 25),
    (dict(method='maml_plus_plus', multi_step_iterations=0), 5 * 9 * 5 + 5 * 3, 25)])
def test_the_arithmetic_of_a_step(given, passes, tasks):
  config = resolve(given)
  forward = 2 * (1 * 40 + 40 * 40 + 40 * 1)   # multiplications and additions
  counted = benchmark.gflop_per_step(config, experiment.build_model(config))
  assert counted == pytest.approx(tasks * passes * forward / 1e9)


def test_the_arithmetic_is_that_of_the_order_in_which_steps_are():
  config = resolve(dict(method='maml_plus_plus', first_order_iterations=10))
  model = phases.compile_model(config, experiment.build_model(config))
  first = benchmark.gflop_per_step(config, model)
  model.optimizer.iterations.assign(10)
  second = benchmark.gflop_per_step(config, model)
  assert second / first == pytest.approx((225 + 75) / (75 + 75))


class Clock:
  """Every look at it takes a second, and nothing else does."""

  def __init__(self):
    self.now = 0.0

  def perf_counter(self):
    self.now += 1.0
    return self.now


def test_a_matrix_product_is_timed(monkeypatch):
  monkeypatch.setattr(benchmark, 'MATRIX_SIZE', 256)
  monkeypatch.setattr(benchmark, 'time', Clock())
  # A multiplication and an addition for each of 256 terms of 256 x 256 sums, in a second.
  products = benchmark.devices.cores_for_tasks() or 1
  assert benchmark.sgemm_gflops() == pytest.approx(products * 2 * 256**3 / 1e9)


def test_one_number_of_a_product_is_waited_for():
  """All of it was copied, which from a GPU takes longer than the product: the efficiency was
  that of the copy."""
  [corner] = benchmark._products([tf.ones([256, 256])])
  assert corner.shape == () and corner.numpy() == 256


@pytest.mark.parametrize('baseline', ['oracle', 'averaged'])
def test_what_is_not_meta_trained_has_no_meta_step(baseline, capsys):
  """A meta-step was timed that such a run never makes."""
  assert benchmark.main(['maml_tf.benchmark', f'--baseline={baseline}']) == 2
  assert (f'--baseline={baseline} is not meta-trained, and has no meta-step'
          in capsys.readouterr().err)


class SlowGenerator:
  """Meta-batches that take their time, by that clock."""

  def __init__(self, generator, seconds, clock):
    self._generator = generator
    self._seconds = seconds
    self._clock = clock
    self.batch = generator.batch

  def dataset(self, first, count):
    for index in range(first, first + count):
      self._clock.now += self._seconds
      yield self._generator.batch(index)


@pytest.mark.parametrize('seconds, fraction', [(0.0, 0.0), (2.0, 0.5), (6.0, 0.75)])
def test_the_wait_for_a_slow_input_is_seen(seconds, fraction, small_config, monkeypatch):
  """Of a step of a second, and a second to get what is there."""
  clock = Clock()
  monkeypatch.setattr(benchmark, 'time', clock)
  config = small_config()
  model = phases.compile_model(config, experiment.build_model(config))
  generator = SlowGenerator(experiment.training_generator(config), seconds, clock)
  assert benchmark._input_wait_fraction(config, model, generator, 0, 6) == fraction


def test_what_is_not_counted_is_null(small_config, monkeypatch, capsys):
  class Uncounted:
    """A method that does not say what it costs."""
    learner = experiment.build_model(small_config()).learner

    def forward_passes(self, support_examples, query_examples):
      return None
  assert benchmark.gflop_per_step(small_config(), Uncounted()) is None
  figures = dict.fromkeys(FIGURES, 1.5)
  figures.update(gflop_per_step=None, efficiency=None)
  monkeypatch.setattr(benchmark, 'measure', lambda *arguments: figures)
  monkeypatch.setattr(benchmark.devices, 'set_up', lambda side_by_side: 'CPU')
  assert benchmark.main(['maml_tf.benchmark']) == 0
  line = capsys.readouterr().out.splitlines()[-1]
  received = json.loads(line, parse_constant=lambda name: pytest.fail(f'{name} in JSON'))
  assert received['efficiency'] is None and received['step_ms_min'] == 1.5
  assert not math.isnan(received['sgemm_gflops'])


@pytest.mark.parametrize('arguments, named', [
    (['--steps=1'], "argument --steps: '1' is"), (['--steps=many'], '--steps'),
    (['--datasource=imagenet'], 'imagenet'), (['--no_such_flag=1'], 'no_such_flag')])
def test_a_wrong_flag_is_a_sentence(arguments, named, capsys):
  with pytest.raises(SystemExit) as caught:
    benchmark.main(['maml_tf.benchmark', *arguments])
  assert caught.value.code == 2
  assert named in capsys.readouterr().err


def test_a_profile_of_policies_is_refused(monkeypatch, capsys):
  monkeypatch.setattr(benchmark.devices, 'set_up', lambda side_by_side: 'CPU')
  assert benchmark.main(['maml_tf.benchmark', '--datasource=point_navigation',
                         '--profile=x']) == 2
  assert '--profile=x does not fit --datasource=point_navigation' in capsys.readouterr().err
