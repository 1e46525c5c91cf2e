"""Golden files of MAML-TRPO, and what training computes from the same trajectories.

A file has trajectories of every phase, theta, and float64 values of everything between
them and the parameters after the outer step. Nothing here is a second implementation: the
values come from `advantages`, `meta_policy` and `trpo`, by the calls of `training`.
"""

from __future__ import annotations

from typing import Dict, List, Mapping

import numpy as np

from maml_tf.rl.advantages import Advantages, advantages
from maml_tf.rl.meta_policy import MetaPolicy
from maml_tf.rl.outer_objective import OuterObjective
from maml_tf.rl.policy import GaussianPolicy
from maml_tf.rl.trajectories import Trajectories, packed
from maml_tf.rl.trpo import Step, TrustRegion

_SCALARS = ('obs_dim', 'act_dim', 'tasks', 'rollouts', 'horizon', 'inner_steps', 'alpha',
            'gamma', 'gae_lambda', 'delta', 'first_order', 'cg_iters', 'cg_damping', 'cg_tol',
            'backtrack_ratio', 'max_backtracks', 'min_log_std')
_COUNTS = ('obs_dim', 'act_dim', 'tasks', 'rollouts', 'horizon', 'inner_steps', 'cg_iters',
           'max_backtracks')
_VECTORS = ('theta', 'theta_b', 'hvp_vector')
_PHASES = ('returns', 'baseline_coeffs', 'values', 'advantages_raw', 'advantages')


# What a file has beside results.
INPUTS = frozenset([
    'observations', 'actions', 'rewards', 'lengths', 'case', 'seed', 'hidden', 'theta',
    'theta_b', 'hvp_vector', *_SCALARS])


class UnusableFile(ValueError):
  """A golden file that cannot be used; what is wrong with it."""


def is_golden(names) -> bool:
  """Whether a file that has arrays of these names is one of MAML-TRPO."""
  return {'theta', 'gae_lambda', 'lengths_0'} <= set(names)


def stem(name: str) -> str:
  """The name of an array without its phase."""
  return name.rpartition('_')[0] if name.rpartition('_')[2].isdigit() else name


def computed(arrays: Mapping[str, np.ndarray], dtype: str = 'float64',
             tasks_at_once: int = 5) -> Dict[str, np.ndarray]:
  """{name: value} of everything that follows from a file's trajectories.

  Args:
    arrays: {name: array}, those of the file.
    dtype: of the computation. In float32 only what comes before the Hessian says
      anything, since directions of float32 differ for good reasons.
    tasks_at_once: tasks whose activations are in memory together.

  Raises:
    UnusableFile: when the file is not of this form.
  """
  scalars = _checked(arrays)
  phases = [Trajectories(*(arrays[f'{name}_{phase}'] for name in
                           ('observations', 'actions', 'rewards', 'lengths')))
            for phase in range(scalars['inner_steps'] + 1)]
  judged = [advantages(phase.observations, phase.rewards, phase.lengths,
                       discount=scalars['gamma'], gae_lambda=scalars['gae_lambda'])
            for phase in phases]
  batches = [packed(phase, found.standardised, dtype)
             for phase, found in zip(phases, judged)]
  meta_policy = MetaPolicy(
      _policy(arrays, scalars), step_size=scalars['alpha'], first_order=scalars['first_order'],
      tasks_at_once=tasks_at_once, dtype=dtype)
  return {**_judged(judged), **_adapted(meta_policy, arrays, batches),
          **_old(meta_policy, arrays, batches, phases[-1]),
          **_outer(meta_policy, arrays, batches, scalars)}


def _judged(judged: List[Advantages]) -> Dict[str, np.ndarray]:
  return {f'{name}_{phase}': value for phase, found in enumerate(judged)
          for name, value in zip(_PHASES, found)}


def _adapted(meta_policy, arrays, batches) -> Dict[str, np.ndarray]:
  points = meta_policy.path(arrays['theta'], batches)
  losses, gradients = [], []
  for point, batch in zip(points, batches[:-1]):
    loss, gradient = meta_policy.inner_gradient(point, batch)
    losses.append(loss)
    gradients.append(gradient)
  return {'inner_loss': np.stack(losses), 'inner_grad': np.stack(gradients),
          'adapted': np.stack(points[1:])}


def _old(meta_policy, arrays, batches, phase) -> Dict[str, np.ndarray]:
  points = meta_policy.path(arrays['theta'], batches)
  mean, log_std = meta_policy.outputs(points[-1], batches[-1])
  unpacked = np.zeros(phase.actions.shape)
  for task, valid in enumerate(phase.valid):
    unpacked[task][valid] = mean[task, :np.count_nonzero(valid)]
  return {'old_mean': unpacked, 'old_log_std': log_std[:, 0]}


def _outer(meta_policy, arrays, batches, scalars) -> Dict[str, np.ndarray]:
  theta, other = arrays['theta'], arrays['theta_b']
  objective = OuterObjective(meta_policy, theta, batches)
  here, there = objective.losses(theta), objective.losses(other)
  gradient = objective.gradient(theta)
  region = TrustRegion(*(scalars[name] for name in (
      'delta', 'cg_iters', 'cg_damping', 'cg_tol', 'backtrack_ratio', 'max_backtracks')))
  step = region.step(theta, here.surrogate, gradient, objective.hessian_product,
                     objective.means)
  return {
      'surrogate_per_task': here.surrogates, 'surrogate': here.surrogate, 'kl': here.kl,
      'meta_grad': gradient,
      'kl_grad_max': np.abs(objective.kl_gradient(theta)).max(),
      'hvp': objective.hessian_product(arrays['hvp_vector']),
      'surrogate_b': there.surrogate, 'surrogate_b_per_task': there.surrogates,
      'kl_b': there.kl, 'meta_grad_b': objective.gradient(other),
      'kl_grad_b': objective.kl_gradient(other), **_step(step)}


def _step(step: Step) -> Dict[str, np.ndarray]:
  last = (step.tried_losses[-1:] or (np.nan,))[0], (step.tried_kls[-1:] or (np.nan,))[0]
  return {
      'cg_direction': step.solution.direction, 'cg_iterations': step.solution.iterations,
      'cg_residual': step.solution.residual, 'step_size': step.step_size,
      'tried_surrogate': np.array(step.tried_losses), 'tried_kl': np.array(step.tried_kls),
      'accepted_backtracks': step.accepted, 'surrogate_after': last[0],
      'kl_after': last[1], 'theta_final': step.parameters}


def _checked(arrays: Mapping[str, np.ndarray]) -> Dict[str, object]:
  """{name: number} of the scalars, of the types that the code takes."""
  missing = [name for name in (*_SCALARS, *_VECTORS, 'hidden') if name not in arrays]
  if missing:
    raise UnusableFile(f'it lacks {", ".join(missing)}')
  scalars = {name: arrays[name].item() for name in _SCALARS if arrays[name].size == 1}
  if len(scalars) < len(_SCALARS):
    raise UnusableFile(f'{sorted(set(_SCALARS) - set(scalars))} must be single numbers')
  wrong = [name for name in _COUNTS if type(scalars[name]) is not int or scalars[name] < 1]
  if wrong:
    raise UnusableFile(f'{wrong} must be whole numbers, 1 or more')
  if not all(isinstance(value, (int, float)) for value in scalars.values()):
    raise UnusableFile('all of its single values must be numbers')
  _check_vectors(arrays, scalars)
  _check_phases(arrays, scalars)
  return scalars


def _check_vectors(arrays: Mapping[str, np.ndarray], scalars: Dict[str, object]) -> None:
  """Before there is room for the net: that is as large as the file says."""
  hidden = arrays['hidden']
  if hidden.dtype.kind not in 'iu' or hidden.ndim != 1 or (hidden < 1).any():
    raise UnusableFile('hidden must be the sizes of hidden layers')
  size = _policy(arrays, scalars).num_parameters
  for name in _VECTORS:
    if arrays[name].shape != (size,) or arrays[name].dtype.kind != 'f':
      raise UnusableFile(f'{name} must be {size:,} numbers, as the net has, and is '
                         f'{arrays[name].dtype} {list(arrays[name].shape)}')


def _check_phases(arrays: Mapping[str, np.ndarray], scalars: Dict[str, object]) -> None:
  shape = tuple(scalars[name] for name in ('tasks', 'rollouts', 'horizon'))
  for phase in range(scalars['inner_steps'] + 1):
    for name, rest in (('observations', (scalars['obs_dim'],)),
                       ('actions', (scalars['act_dim'],)), ('rewards', ()), ('lengths', None)):
      wanted = shape[:2] if rest is None else (*shape, *rest)
      array = arrays.get(f'{name}_{phase}')
      if array is None or array.shape != wanted:
        raise UnusableFile(f'{name}_{phase} must have the shape {list(wanted)}, and '
                           f'{"is missing" if array is None else list(array.shape)}')
      if array.dtype.kind not in ('iu' if name == 'lengths' else 'fiu'):
        raise UnusableFile(f'{name}_{phase} must be numbers, and is {array.dtype}')
    lengths = arrays[f'lengths_{phase}']
    if not ((lengths >= 1) & (lengths <= scalars['horizon'])).all():
      raise UnusableFile(f'lengths_{phase} must be from 1 to horizon={scalars["horizon"]}')


def _policy(arrays: Mapping[str, np.ndarray], scalars: Dict[str, object]) -> GaussianPolicy:
  return GaussianPolicy(scalars['obs_dim'], scalars['act_dim'],
                        [int(size) for size in arrays['hidden']],
                        smallest_log_std=scalars['min_log_std'])
