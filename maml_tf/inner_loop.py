"""Adaptation to a task by a few gradient steps, differentiable (algorithm 1, 5-7)."""

from __future__ import annotations

from typing import Iterator, Mapping

import tensorflow as tf

from maml_tf.learners.base import Learner, Parameters
from maml_tf.objectives import Objective


def adaptation(learner: Learner, objective: Objective, parameters: Mapping[str, tf.Tensor],
               support_inputs: tf.Tensor, support_labels: tf.Tensor, *, step_size: float,
               num_updates: int, first_order: bool) -> Iterator[Parameters]:
  """The parameters before the first update and after each one.

  theta_i' = theta - alpha * grad L_i(theta), for all tasks of a batch at once.

  Args:
    learner: the net; its `adapted_names` are changed, the others are handed on.
    objective: its loss on the support set is minimised.
    parameters: {name: tensor}, shared by the tasks (theta).
    support_inputs, support_labels: `[tasks, examples, ...]`, see `Episodes`.
    step_size: alpha, on the scale of the objective's loss.
    num_updates: gradient steps.
    first_order: the gradients are taken as constants, so that no derivative is
      taken through them (the paper's first-order approximation; `stop_grad`).

  Yields:
    num_updates + 1 dictionaries; the adapted ones with one copy per task,
    `[tasks, *shape]`. Differentiable with respect to `parameters`.
  """
  tasks = support_inputs.shape[0]
  fixed = {name: value for name, value in parameters.items()
           if name not in learner.adapted_names}
  fast = {name: _copy_per_task(parameters[name], tasks) for name in learner.adapted_names}
  yield {**fixed, **fast}
  for _ in range(num_updates):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(fast)
      losses = objective.loss(learner({**fixed, **fast}, support_inputs), support_labels)
      # No copy is shared, so the gradient of the sum is each task's own.
      loss = tf.reduce_sum(losses)
    gradients = tape.gradient(loss, fast)
    if first_order:
      gradients = {name: tf.stop_gradient(value) for name, value in gradients.items()}
    fast = {name: value - step_size * gradients[name] for name, value in fast.items()}
    yield {**fixed, **fast}


def _copy_per_task(value: tf.Tensor, tasks: int) -> tf.Tensor:
  return tf.tile(value[tf.newaxis], [tasks] + [1] * value.shape.rank)
