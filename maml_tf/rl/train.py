"""Trains and tests one of the paper's problems of control.

  python -m maml_tf.rl.train --environment=point_navigation --folder=FOLDER
      [--iterations=100] [--seed=0] [--step_size=0.1] [--hessian_every=1] [--threads=1]

What a run keeps is FOLDER/state.npz, after every iteration, and FOLDER/history.csv. The
same command goes on from there, to the last bit as if it had never stopped, and at the end
prints the returns of the held-out tasks beside the paper's.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from typing import Dict, List, Optional

import numpy as np

from maml_tf.before_tensorflow import set_environment
from maml_tf.command_line import REFUSED, OneSentenceParser
from maml_tf.files import WriteError, reported, whole_file, write_whole

STATE, HISTORY, RUN, RESULT = 'state.npz', 'history.csv', 'run.json', 'result.json'
# What a state depends on; another value of them is another run.
_IDENTITY = ('environment', 'seed', 'step_size', 'hessian', 'hessian_every', 'budget',
             'dtype')


def main(argv: Optional[List[str]] = None) -> int:
  """The exit code: 0, or 1 for what training cannot go on with, 2 for what was refused."""
  options = _parser().parse_args(argv)
  set_environment()
  from maml_tf.rl.errors import ReinforcementError
  try:
    training, run = _built(options)
    os.makedirs(options.folder, exist_ok=True)
    _check_identity(options)
    _train(training, run.iterations, options)
    _test(training, run, options)
  except (ReinforcementError, WriteError) as error:
    print(f'maml_tf.rl.train: {error}', file=sys.stderr)
    return 1
  except (ValueError, OSError) as error:
    print(f'maml_tf.rl.train: {error}', file=sys.stderr)
    return REFUSED
  return 0


def _parser() -> argparse.ArgumentParser:
  parser = OneSentenceParser(prog='python -m maml_tf.rl.train', description=__doc__,
                             formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--environment', default='point_navigation')
  parser.add_argument('--folder', required=True)
  parser.add_argument('--iterations', type=int, help='default: the paper\'s')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--step_size', type=float, help='alpha; default: the paper\'s')
  parser.add_argument('--hessian', default='exact', choices=('exact', 'secant'))
  parser.add_argument('--hessian_every', type=int, default=1)
  parser.add_argument('--budget', default='rollouts', choices=('rollouts', 'steps'))
  parser.add_argument('--dtype', default='float32', choices=('float32', 'float64'))
  parser.add_argument('--threads', type=int, default=1, help='of the simulation')
  parser.add_argument('--tested', default='last', choices=('last', 'best'),
                      help='parameters that are tested; best: by the training return')
  return parser


def _built(options):
  from maml_tf.rl.catalogue import environment_named
  from maml_tf.rl.evaluation import halved
  from maml_tf.rl.paper import RUNS
  from maml_tf.rl.policy import policy_for
  from maml_tf.rl.training import Training
  environment = environment_named(options.environment, threads=options.threads)
  run = RUNS[options.environment]
  settings = run.settings._replace(
      hessian=options.hessian, hessian_every=options.hessian_every, budget=options.budget,
      dtype=options.dtype)
  if options.step_size is not None:
    settings = settings._replace(step_size=options.step_size)
    run = run._replace(protocol=run.protocol._replace(
        step_sizes=halved(options.step_size, 3)))
  policy = policy_for(environment.observation_size, environment.actions)
  return Training(environment, policy, settings, options.seed), run._replace(
      iterations=run.iterations if options.iterations is None else options.iterations)


def _check_identity(options) -> None:
  path = os.path.join(options.folder, RUN)
  wanted = {name: getattr(options, name) for name in _IDENTITY}
  if not os.path.exists(path):
    with reported(path):
      write_whole(path, json.dumps(wanted, indent=1) + '\n')
    return
  with open(path, encoding='utf-8') as file:
    kept = json.load(file)
  if kept != wanted:
    raise ValueError(f'{options.folder} holds another run: {kept}, and this one is '
                     f'{wanted}. Choose another --folder, or the same options.')


def _train(training, iterations, options) -> None:
  path = os.path.join(options.folder, STATE)
  if os.path.exists(path):
    with np.load(path) as state:
      training.assign_state({name: state[name] for name in state.files})
    print(f'goes on from iteration {training.iteration}', flush=True)
  while training.iteration < iterations:
    began = time.perf_counter(), time.process_time()
    done = training.iterate()
    seconds = time.perf_counter() - began[0]
    row = {'iteration': done.number,
           **{f'return_{phase}': round(float(value), 4)
              for phase, value in enumerate(done.returns)},
           'surrogate': f'{done.surrogate:.6g}', 'kl': f'{done.kl:.6g}',
           'accepted': done.accepted, 'step_size': f'{done.step_size:.4g}',
           'steps': done.steps, 'seconds': round(seconds, 3),
           'cpu_seconds': round(time.process_time() - began[1], 3),
           **{f'{name}_seconds': round(value, 3) for name, value in done.seconds.items()}}
    with reported(options.folder):
      with whole_file(path, 'wb') as file:
        np.savez(file, **training.state())
      _append(os.path.join(options.folder, HISTORY), row)
    print(' '.join(f'{name}={value}' for name, value in row.items()), flush=True)


def _append(path: str, row: Dict) -> None:
  """A row behind those of earlier iterations; what a killed run left behind goes."""
  rows = []
  if os.path.exists(path):
    with open(path, encoding='utf-8', newline='') as file:
      rows = [old for old in csv.DictReader(file)
              if int(old['iteration']) < row['iteration']]
  with whole_file(path) as file:
    writer = csv.DictWriter(file, fieldnames=list(row), lineterminator='\n')
    writer.writeheader()
    writer.writerows([*rows, row])


def _test(training, run, options) -> None:
  from maml_tf.rl.evaluation import task_returns
  parameters, iteration = training.parameters, training.iteration
  if options.tested == 'best' and training.best is not None:
    parameters, iteration = training.best.parameters, training.best.iteration
  began = time.perf_counter()
  returns = task_returns(training.learning, parameters, run.protocol)
  means = returns.mean(axis=0)
  ci95 = 1.96 * returns.std(axis=0) / np.sqrt(len(returns))
  print(f'{len(returns)} held-out tasks, parameters before iteration {iteration}:')
  print(f'{"updates":>8} {"return":>9} {"+-":>6} {"paper":>9}')
  for updates, values in enumerate(zip(means, ci95, run.returns)):
    print('{:>8} {:>9.1f} {:>6.1f} {:>9.1f}'.format(updates, *values))
  result = {'iteration': iteration, 'tested': options.tested, 'means': means.tolist(),
            'ci95': ci95.tolist(), 'paper': list(run.returns), 'tasks': returns.tolist(),
            'seconds': time.perf_counter() - began}
  path = os.path.join(options.folder, RESULT)
  with reported(path):
    write_whole(path, json.dumps(result) + '\n')


if __name__ == '__main__':
  sys.exit(main())
