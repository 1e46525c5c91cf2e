"""Where the time of a meta-iteration goes, and what the physics alone would take."""

from __future__ import annotations

import concurrent.futures
import time
from typing import Dict, List, Optional

import numpy as np

from maml_tf.rl.environments import Environment
from maml_tf.rl.policy_learner import PolicyLearner

WARM_UP = 1   # iterations: graphs are made in the first
PARTS = ('sampling', 'advantages', 'inner', 'outer')
PHYSICS_SECONDS = 3.0
PHYSICS_STEPS = 200   # of one call


def measure(model: PolicyLearner, iterations: int, threads: int
            ) -> Dict[str, Optional[float]]:
  """Medians over meta-iterations from the first one of training on.

  Args:
    model: compiled.
    iterations: to time, behind one that is not counted.
    threads: of the physics alone.

  Returns:
    iteration_seconds: of a whole one; seconds_sampling, ...: of its parts; environment
    steps of one; steps_per_second while sampling, and of a whole iteration;
    physics_steps_per_second of MuJoCo alone (None where there is none), and
    sampling_efficiency, the former divided by it. Where processes share the tasks:
    steps of all of them, the efficiency of the share of one, and exchange_seconds.
  """
  logs, seconds, shares = [], [], model.learning.shares
  for iteration in range(WARM_UP + iterations):
    if iteration == WARM_UP:
      shares.seconds = 0.0
    began = time.perf_counter()
    logs.append({name: float(value) for name, value in model.train_step(iteration).items()})
    seconds.append(time.perf_counter() - began)
  del logs[:WARM_UP], seconds[:WARM_UP]
  medians = {name: float(np.median([log[name] for log in logs])) for name in logs[0]}
  whole = float(np.median(seconds))
  sampled = float(np.median([log['steps'] / log['seconds_sampling'] for log in logs]))
  several = {'exchange_seconds': shares.seconds / iterations} if shares.workers > 1 else {}
  physics = physics_steps_per_second(model.learning.environment, threads)
  return {
      'iteration_seconds': whole,
      **{f'seconds_{part}': medians.get(f'seconds_{part}', 0.0) for part in PARTS},
      'steps': medians['steps'],
      'sampled_steps_per_second': sampled,
      'steps_per_second': medians['steps'] / whole,
      'physics_steps_per_second': physics,
      'sampling_efficiency': None if physics is None else sampled / shares.workers / physics,
      'share_not_sampling': 1 - medians['seconds_sampling'] / whole,
      **several,
  }


def physics_steps_per_second(environment: Environment, threads: int) -> Optional[float]:
  """What `mj_step` alone does, in as many threads; None without MuJoCo.

  Actions are random and held for a call of 200 steps, behind each of which the state is
  that of the start: nothing of Python is in between.
  """
  physics = getattr(environment, 'physics', None)
  if physics is None:
    return None
  mujoco, model, start = physics
  def run(thread: int) -> int:
    random, data, done = np.random.default_rng(thread), mujoco.MjData(model), 0
    until = time.perf_counter() + PHYSICS_SECONDS
    while time.perf_counter() < until:
      mujoco.mj_resetData(model, data)
      data.qpos[:] = start
      data.ctrl[:] = random.uniform(-1, 1, model.nu)
      mujoco.mj_step(model, data, PHYSICS_STEPS)
      done += PHYSICS_STEPS
    return done
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    done: List[int] = list(pool.map(run, range(threads)))
  return sum(done) / PHYSICS_SECONDS
