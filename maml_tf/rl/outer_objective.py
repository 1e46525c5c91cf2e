"""The outer objective of algorithm 3: surrogate and divergence, and their derivatives."""

from __future__ import annotations

import functools
from typing import List, Optional, Sequence, Tuple

import numpy as np

from maml_tf.rl.meta_policy import Losses, MetaPolicy
from maml_tf.rl.trajectories import Batch


class OuterObjective:
  """Surrogate and KL divergence as functions of theta, on fixed samples.

  Old policies, of both ratio and divergence, are those that sampled: adapted from the
  theta of the samples, and constants.

  S(theta) is the mean of the tasks' means of ratio x advantage, negative; the divergence
  is KL(old || new), the mean over all samples of all tasks together.

  Args:
    meta_policy: what is adapted.
    parameters: theta, `[P]`.
    batches: of the K inner steps, and of the outer objective.
    hessian_batches: the part of `batches` that products with the Hessian, both kinds, are
      taken of; None: all of it.
    points: the path of theta, if it is known already.
    tasks: of all processes, of which these are the share of this one: all of them have
      to ask for the same then. None: these are all.

  Attributes:
    points: see above.
  """

  def __init__(self, meta_policy: MetaPolicy, parameters: np.ndarray,
               batches: Sequence[Batch], hessian_batches: Optional[Sequence[Batch]] = None,
               points: Optional[List[np.ndarray]] = None, tasks: Optional[int] = None):
    self._meta_policy = meta_policy
    self._parameters = np.asarray(parameters, np.float64)
    self._batches = batches
    self._shared = tasks is not None
    self._tasks = tasks if tasks is not None else len(batches[0].weights)
    self.points = meta_policy.path(self._parameters, batches) if points is None else points
    self._hessian_batches = hessian_batches
    self._linearised = meta_policy.linearised(
        self.points, batches if hessian_batches is None else hessian_batches)
    self._old = meta_policy.outputs(self.points[-1], batches[-1])

  def losses(self, parameters: np.ndarray) -> Losses:
    """S of each task, and the divergence, at any theta."""
    points = self._path(parameters)
    own = self._meta_policy.losses(points[-1], self._batches[-1], self._old)
    return Losses(*self._of_all(*own))

  def means(self, parameters: np.ndarray) -> Tuple[float, float]:
    """S and the divergence, at any theta."""
    found = self.losses(parameters)
    return found.surrogate, found.kl

  def gradient(self, parameters: np.ndarray) -> np.ndarray:
    """Of S, `[P]`, through the inner steps."""
    return self._gradient(self._path(parameters), self._batches, self._old,
                          1.0 / self._tasks, 0.0)

  def kl_gradient(self, parameters: np.ndarray) -> np.ndarray:
    """Of the divergence, `[P]`, through the inner steps."""
    return self._gradient(self._path(parameters), self._batches, self._old, 0.0, 1.0)

  def hessian_product(self, vector: np.ndarray) -> np.ndarray:
    """H v, H the Hessian of the divergence at the theta of the samples: exact."""
    matrices = self._linearised
    vectors = matrices.pushed(np.tile(vector, (len(self.points[0]), 1)))
    [products] = self._of_all(matrices.transposed(matrices.fisher_product(vectors)))
    return products.sum(axis=0)

  def secant_product(self, vector: np.ndarray) -> np.ndarray:
    """What the original code takes for H v: the symmetric difference of the divergence's
    gradient at the distance |v| / |theta|, far from a derivative."""
    width = 1.0 / (np.linalg.norm(self._parameters) + 1e-8)
    gradient = (self.kl_gradient if self._hessian_batches is None
                else self._kl_gradient_of_part)
    ahead, behind = (gradient(self._parameters + side * width * vector) for side in (1, -1))
    return (ahead - behind) / (2 * width)

  def _kl_gradient_of_part(self, parameters: np.ndarray) -> np.ndarray:
    """`kl_gradient` of the samples of `hessian_batches` alone."""
    batches = self._hessian_batches
    points = self._meta_policy.path_beside(parameters, self.points, batches)
    return self._gradient(points, batches, self._old_of_part, 0.0, 1.0)

  @functools.cached_property
  def _old_of_part(self) -> Tuple[np.ndarray, ...]:
    return self._meta_policy.outputs(self.points[-1], self._hessian_batches[-1])

  def _path(self, parameters: np.ndarray) -> List[np.ndarray]:
    if parameters is self._parameters:
      return self.points
    return self._meta_policy.path(np.asarray(parameters, np.float64), self._batches)

  def _gradient(self, points, batches, old, surrogate, kl):
    vectors = self._meta_policy.output_gradient(points[-1], batches[-1], old, surrogate, kl)
    [gradients] = self._of_all(self._meta_policy.transposed(points, batches, vectors))
    return gradients.sum(axis=0)

  def _of_all(self, *own: np.ndarray) -> Sequence[np.ndarray]:
    """`[tasks, ...]` of what this process has of its own."""
    return self._meta_policy.shares.whole(self._tasks, *own) if self._shared else own
