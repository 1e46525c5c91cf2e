"""Adaptation to a task by a few gradient steps, differentiable (algorithm 1, 5-7)."""

from __future__ import annotations

from typing import Iterator, Mapping

import tensorflow as tf

from maml_tf.learners.base import Learner, Parameters
from maml_tf.objectives import Objective


def adaptation(learner: Learner, objective: Objective, parameters: Mapping[str, tf.Tensor],
               support_inputs: tf.Tensor, support_labels: tf.Tensor, *, step_size: float,
               num_updates: int, first_order: bool, recompute: bool = False
               ) -> Iterator[Parameters]:
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
    recompute: keep only the parameters between two steps for the backward pass, and
      compute each step a second time there: less memory, more time, the same result.

  Yields:
    num_updates + 1 dictionaries; the adapted ones with one copy per task,
    `[tasks, *shape]`. Differentiable with respect to `parameters`.
  """
  tasks = support_inputs.shape[0]
  fixed = {name: value for name, value in parameters.items()
           if name not in learner.adapted_names}
  fast = {name: _copy_per_task(parameters[name], tasks) for name in learner.adapted_names}

  def step(fast: Parameters, fixed: Parameters) -> Parameters:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(fast)
      losses = objective.loss(learner({**fixed, **fast}, support_inputs), support_labels)
      # No copy is shared, so the gradient of the sum is each task's own.
      loss = tf.reduce_sum(losses)
    gradients = tape.gradient(loss, fast)
    if first_order:
      gradients = {name: tf.stop_gradient(value) for name, value in gradients.items()}
    return {name: value - step_size * gradients[name] for name, value in fast.items()}

  # First order: nothing of a step is kept, so there is nothing to save.
  if recompute and not first_order:
    step = _recomputed_backward(step)
  yield {**fixed, **fast}
  for _ in range(num_updates):
    fast = step(fast, fixed)
    yield {**fixed, **fast}


def _copy_per_task(value: tf.Tensor, tasks: int) -> tf.Tensor:
  return tf.tile(value[tf.newaxis], [tasks] + [1] * value.shape.rank)


def _recomputed_backward(step):
  """`step`, whose backward pass computes it anew instead of keeping its activations.

  As `tf.recompute_grad`, which cannot be used: it stops all recording in the forward
  pass, also that of the tape within a step.
  """
  def recomputed(fast: Parameters, fixed: Parameters) -> Parameters:
    inputs = (fast, fixed)

    @tf.custom_gradient
    def forward(*values):
      outputs = step(*tf.nest.pack_sequence_as(inputs, values))

      def gradient(*upstream):
        # Nothing may start before the upstream gradient is there, or everything would
        # be in memory at once again. XLA knows no control dependencies, so the inputs
        # depend on it as well, through a zero.
        with tf.control_dependencies(upstream):
          zero = tf.minimum(tf.abs(tf.reshape(upstream[0], [-1])[0]), 0)
          with tf.GradientTape(watch_accessed_variables=False) as tape:
            again = [value + zero for value in values]
            tape.watch(again)
            results = tf.nest.flatten(step(*tf.nest.pack_sequence_as(inputs, again)))
          # What the inner loop does not use, a bias in front of batch norm, is not
          # connected.
          return tape.gradient(results, again, output_gradients=upstream,
                               unconnected_gradients=tf.UnconnectedGradients.ZERO)
      return tuple(tf.nest.flatten(outputs)), gradient
    return tf.nest.pack_sequence_as(fast, forward(*tf.nest.flatten(inputs)))
  return recomputed
