"""Adaptation of policies, and products with its exact derivatives (algorithm 3).

With adapted parameters theta_k+1 = theta_k - alpha grad L_k(theta_k), the Jacobian of an
inner step, J_k = I - alpha H_k, is symmetric, and a product with it is one with the Hessian
of the inner loss. So all that the outer step needs comes without third derivatives and
without a tape around the inner loop:

  meta-gradient  mean over tasks of J_0 ... J_K-1 grad S(theta_K)
  Hessian of KL  sum over tasks of  J_0 ... J_K-1 F (J_K-1 ... J_0 v)

F is the Fisher matrix of a task's samples. Where the policies are those that sampled, the
divergence and its gradient are 0 and the second line is the Hessian, not an approximation.
"""

from __future__ import annotations

import functools
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.rl import linearised
from maml_tf.rl.groups import Groups
from maml_tf.rl.linearised import Passes
from maml_tf.rl.policy import Outputs, Policy
from maml_tf.rl.settings import INNER_LOSSES
from maml_tf.rl.shares import ALONE, Shares
from maml_tf.rl.trajectories import Batch


class Losses(NamedTuple):
  """Of the outer objective: S of each task, and its part of the KL divergence."""
  surrogates: np.ndarray
  kls: np.ndarray

  @property
  def surrogate(self) -> float:
    return float(np.mean(self.surrogates))

  @property
  def kl(self) -> float:
    return float(np.sum(self.kls))


class MetaPolicy:
  """A policy that is adapted by policy gradients, as a function of theta.

  Args:
    policy: the net.
    step_size: alpha, of the inner steps.
    first_order: inner gradients count as constants, J = I.
    inner_loss: 'log_likelihood', or 'ratio', pi / stop_gradient(pi).
    tasks_at_once: tasks whose activations are in memory together. Results of such
      groups are summed in a fixed order.
    dtype: of the arithmetic.
    shares: who has which tasks.
  """

  def __init__(self, policy: Policy, *, step_size: float, first_order: bool = False,
               inner_loss: str = 'log_likelihood', tasks_at_once: int = 5,
               dtype: str = 'float32', shares: Shares = ALONE):
    if inner_loss not in INNER_LOSSES:
      raise ConfigError(f'inner_loss must be one of {", ".join(INNER_LOSSES)}. Received: '
                        f'{inner_loss!r}.')
    self.policy = policy
    self.step_size = step_size
    self.first_order = first_order
    self.dtype = dtype
    self.shares = shares
    self._ratio = inner_loss == 'ratio'
    self._mask = policy.adapted_mask()
    self._groups = Groups(tasks_at_once, dtype, shares.devices)
    self._compile()

  def inner_gradient(self, points: np.ndarray, batch: Batch
                     ) -> Tuple[np.ndarray, np.ndarray]:
    """The inner loss of each task `[tasks]`, and its gradient `[tasks, P]`.

    L = -mean over the task's samples of log pi(action) x advantage (equation 4). Of
    parameters that are not adapted the gradient is given all the same.
    """
    return self._groups.joined(self._inner_gradient, (points, batch))

  def adapted(self, points: np.ndarray, batch: Batch, step_size: Optional[float] = None
              ) -> np.ndarray:
    """Parameters `[tasks, P]` after an inner step from `points`.

    Args:
      points: `[tasks, P]`.
      batch: what the policies of `points` sampled.
      step_size: another alpha, as the later steps of an evaluation have.
    """
    _, gradients = self.inner_gradient(points, batch)
    step_size = self.step_size if step_size is None else step_size
    return points - step_size * self._mask * gradients

  def path(self, parameters: np.ndarray, batches: Sequence[Batch]) -> List[np.ndarray]:
    """theta_0, ..., theta_K of all tasks, `[tasks, P]` each.

    Args:
      parameters: theta, `[P]`.
      batches: of the K inner steps, and of the outer objective behind them.
    """
    points = [np.tile(parameters, (len(batches[0].weights), 1))]
    for batch in batches[:-1]:
      points.append(self.adapted(points[-1], batch))
    return points

  def path_beside(self, parameters: np.ndarray, points: Sequence[np.ndarray],
                  batches: Sequence[Batch]) -> List[np.ndarray]:
    """`path` by a part of the samples, which by itself leads elsewhere from the first step
    on: each step is moved by the constant with which that of theta leads to `points`.

    So the derivatives at theta are those that `linearised(points, batches)` has.

    Args:
      parameters: another theta, `[P]`.
      points: the path of theta, by all samples.
      batches: as in `path`, of a part of them.
    """
    path = [np.tile(parameters, (len(points[0]), 1))]
    for before, after, batch in zip(points, points[1:], batches):
      path.append(after + self.adapted(path[-1], batch) - self.adapted(before, batch))
    return path

  def transposed(self, points: Sequence[np.ndarray], batches: Sequence[Batch],
                 vectors: np.ndarray) -> np.ndarray:
    """J_0 ... J_K-1 of `vectors` `[tasks, P]`."""
    for point, batch in reversed(list(zip(points, batches[:-1]))):
      # H (mask v): only what is adapted moves by the step.
      vectors = self._through_step(vectors, self._mask, 1.0, self._hessian_product,
                                   (point, batch))
    return vectors

  def linearised(self, points: Sequence[np.ndarray], batches: Sequence[Batch]
                 ) -> 'Linearised':
    """What many products with the same matrices are taken of."""
    return Linearised(self, points, batches)

  def outputs(self, points: np.ndarray, batch: Batch) -> Tuple[np.ndarray, ...]:
    """What the policies of `points` say of a batch."""
    return self._groups.joined(self._outputs, (points, batch))

  def losses(self, points: np.ndarray, batch: Batch, old: Tuple[np.ndarray, ...]
             ) -> Losses:
    """Surrogates and divergence of the policies of `points` from `old` ones."""
    surrogates, kls = self._groups.joined(self._losses, (points, batch, old))
    return Losses(surrogates, kls)

  def output_gradient(self, points: np.ndarray, batch: Batch,
                      old: Tuple[np.ndarray, ...], surrogate: float, kl: float
                      ) -> np.ndarray:
    """Gradients `[tasks, P]`, by each task's `points`, of
    surrogate x S_i + kl x (the task's part of the divergence)."""
    weights = tf.constant([surrogate, kl], self.dtype)
    return self._groups.joined(self._gradient, (points, batch, old), weights)[0]

  def _through_step(self, vectors, before, after, hessian_product, arguments=(), kept=()):
    if self.first_order:
      return vectors
    [products] = self._groups.joined(
        hessian_product, (*arguments, before * vectors), kept=kept)
    return vectors - self.step_size * after * products

  def _compile(self) -> None:
    """One graph each, for any number of tasks and samples.

    One that TensorFlow makes for the shapes that it meets rounds differently, and a run
    that goes on would meet others first.
    """
    vectors = tf.TensorSpec([None, self.policy.num_parameters], self.dtype)
    samples = tf.TensorSpec([None, None], self.dtype)
    batch = Batch(tf.TensorSpec([None, None, self.policy.observation_size], self.dtype),
                  self.policy.action_spec(self.dtype), samples, samples)
    old = self.policy.output_specs(self.dtype)
    weights = tf.TensorSpec([2], self.dtype)
    forward = self._passes_spec()
    both = forward._replace(deltas=(*forward.seen[1:], forward.raw))

    def compiled(function, *signature):
      return tf.function(function, input_signature=signature, autograph=False)
    self._inner_gradient = compiled(self._inner_gradient_of, vectors, batch)
    self._hessian_product = compiled(self._hessian_product_of, vectors, batch, vectors)
    self._passes = compiled(self._passes_of, vectors, batch)
    self._kept_hessian_product = compiled(
        self._kept_hessian_product_of, vectors, batch, both, vectors)
    self._forward_pass = compiled(self._forward_pass_of, vectors, batch)
    self._outputs = compiled(self._outputs_of, vectors, batch)
    self._losses = compiled(self._losses_of, vectors, batch, old)
    self._gradient = compiled(self._gradient_of, vectors, batch, old, weights)
    self._fisher_product = compiled(
        self._fisher_product_of, vectors, batch, forward, vectors)

  def _passes_spec(self) -> Passes:
    """Of a forward pass alone."""
    shapes = {spec.name: spec.shape for spec in self.policy.parameter_specs}
    kernels = [shapes[f'{scope}/kernel'] for scope in self.policy.layers]
    seen = tuple(tf.TensorSpec([None, None, size], self.dtype) for size, _ in kernels)
    return Passes(seen, tf.TensorSpec([None, None, kernels[-1][1]], self.dtype), ())

  # What is compiled. `points` are `[tasks, P]`; everything returned has a leading axis of
  # tasks. No copy of the parameters is shared, so that the gradient of a sum over tasks is
  # each task's own.

  def _outputs_of(self, points, batch: Batch) -> Outputs:
    return self.policy(self.policy.split_tensor(points), batch.observations)

  def _inner_loss_of(self, batch: Batch) -> linearised.Loss:
    def losses(outputs: Outputs) -> tf.Tensor:
      likelihoods = self.policy.log_likelihood(outputs, batch.actions)
      if self._ratio:
        likelihoods = tf.exp(likelihoods - tf.stop_gradient(likelihoods))
      return -tf.reduce_sum(likelihoods * batch.advantages, axis=1)
    return losses

  def _inner_gradient_of(self, points, batch: Batch):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(points)
      losses = self._inner_loss_of(batch)(self._outputs_of(points, batch))
    return losses, tape.gradient(losses, points)

  def _passes_of(self, points, batch: Batch) -> Passes:
    return linearised.passes(
        self.policy, points, batch.observations, self._inner_loss_of(batch))

  def _forward_pass_of(self, points, batch: Batch) -> Passes:
    return linearised.passes(self.policy, points, batch.observations)

  def _kept_hessian_product_of(self, points, batch: Batch, kept: Passes, vectors):
    return (linearised.hessian_product(
        self.policy, points, kept, self._inner_loss_of(batch), vectors),)

  def _hessian_product_of(self, points, batch: Batch, vectors):
    return self._kept_hessian_product_of(
        points, batch, self._passes_of(points, batch), vectors)

  def _losses_of(self, points, batch: Batch, old: Outputs):
    new = self._outputs_of(points, batch)
    logarithms = (self.policy.log_likelihood(new, batch.actions)
                  - self.policy.log_likelihood(old, batch.actions))
    # Of what is no sample the ratio may overflow, and 0 times that is not a number.
    ratios = tf.exp(tf.where(batch.weights > 0, logarithms, 0))
    return (-tf.reduce_sum(ratios * batch.advantages, axis=1),
            tf.reduce_sum(self.policy.kl(old, new) * batch.weights, axis=1))

  def _gradient_of(self, points, batch: Batch, old: Outputs, weights):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(points)
      surrogates, kls = self._losses_of(points, batch, old)
      losses = weights[0] * surrogates + weights[1] * kls
    return (tape.gradient(losses, points),)

  def _fisher_product_of(self, points, batch: Batch, kept: Passes, vectors):
    return (linearised.fisher_product(
        self.policy, points, kept, batch.weights, vectors),)


class Linearised:
  """Products with J_k and F along a path. What they share is computed when they are first
  asked for, and kept: of each sample some 500 numbers a step for the paper's net.

  Args:
    meta_policy: what is adapted.
    points: theta_0, ..., theta_K, `[tasks, P]` each.
    batches: of the K inner steps, and of the outer objective.
  """

  def __init__(self, meta_policy: MetaPolicy, points: Sequence[np.ndarray],
               batches: Sequence[Batch]):
    self._meta_policy = meta_policy
    self._points = points
    self._batches = batches

  @functools.cached_property
  def _steps(self) -> List[List[Tuple]]:
    """Of each inner step the groups: (points, batch, passes)."""
    kept = functools.partial(self._kept, self._meta_policy._passes)
    return list(map(kept, self._points, self._batches[:-1]))

  @functools.cached_property
  def _last(self) -> List[Tuple]:
    return self._kept(self._meta_policy._forward_pass, self._points[-1], self._batches[-1])

  def _kept(self, passes: Callable, points: np.ndarray, batch: Batch) -> List[Tuple]:
    return self._meta_policy._groups.each(
        lambda *group: (*group, passes(*group)), (points, batch))

  def pushed(self, vectors: np.ndarray) -> np.ndarray:
    """J_K-1 ... J_0 of `vectors` `[tasks, P]`."""
    return self._through_steps(vectors, 1.0, self._meta_policy._mask, 1)

  def transposed(self, vectors: np.ndarray) -> np.ndarray:
    """J_0 ... J_K-1 of `vectors` `[tasks, P]`."""
    return self._through_steps(vectors, self._meta_policy._mask, 1.0, -1)

  def fisher_product(self, vectors: np.ndarray) -> np.ndarray:
    """F v of each task, `[tasks, P]`: with the weights of the batch."""
    own = self._meta_policy
    [products] = own._groups.joined(own._fisher_product, (vectors,), kept=self._last)
    return products

  def _through_steps(self, vectors, before, after, direction: int) -> np.ndarray:
    own = self._meta_policy
    if own.first_order:
      return vectors
    for step in self._steps[::direction]:
      vectors = own._through_step(vectors, before, after, own._kept_hessian_product,
                                  kept=step)
    return vectors
