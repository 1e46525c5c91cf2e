"""Adaptation to a task by a few gradient steps, differentiable (algorithm 1, 5-7)."""

from __future__ import annotations

from typing import (
  Any,
  Callable,
  Iterable,
  Iterator,
  List,
  Mapping,
  Sequence,
  Tuple,
  Union,
)

import tensorflow as tf

from maml_tf.custom_gradients import custom_gradient
from maml_tf.episodes import leading_sizes
from maml_tf.inner_optimizers import InnerOptimizer
from maml_tf.learners.base import Parameters
from maml_tf.objectives import of_each_task

# (parameters, batch) -> `[tasks]`.
TaskLoss = Callable[[Parameters, Any], tf.Tensor]


class Adaptation:
  """The parameters before the first update and after each one, in two forms.

  Gone through, as `num_updates + 1` dictionaries, each update is a part of its own of a
  graph, and a derivative can be taken through all of them. Where none is wanted,
  `after_each` and `after` do the same in a loop: a graph of them does not grow with the
  number of updates.

  Args:
    start: the state before the first update, a nest of tensors.
    step: (state, number of updates before, an integer or a scalar tensor) -> the state
      after one more, of the same structure and shapes.
    parameters: of a state.
    num_updates: gradient steps.
  """

  def __init__(self, start: Any, step: Callable[[Any, Any], Any],
               parameters: Callable[[Any], Parameters], num_updates: int):
    self._start = start
    self._step = step
    self._parameters = parameters
    self._num_updates = num_updates

  def __iter__(self) -> Iterator[Parameters]:
    state = self._start
    yield self._parameters(state)
    for updates in range(self._num_updates):
      state = self._step(state, updates)
      yield self._parameters(state)

  def after_each(self, function: Callable[[Parameters], Any]) -> Any:
    """See the function of that name."""
    if self._num_updates < 2:
      return _unrolled(self, function)
    size = self._num_updates + 1
    arrays = tf.nest.map_structure(
        lambda value: tf.TensorArray(value.dtype, size, element_shape=value.shape).write(
            0, value), function(self._parameters(self._start)))

    def body(updates, state, arrays):
      state = self._step(state, updates)
      values = function(self._parameters(state))
      return updates + 1, state, tf.nest.map_structure(
          lambda array, value: array.write(updates + 1, value), arrays, values)
    *_, arrays = _while_fewer(self._num_updates, body, (tf.constant(0), self._start, arrays))
    return tf.nest.map_structure(lambda array: _tasks_first(array.stack()), arrays)

  def after(self, updates: Sequence[int], function: Callable[[Parameters], Any]
            ) -> List[Any]:
    """`function(parameters)` after each of these numbers of updates: ascending, and
    `num_updates` at most."""
    state, done, results = self._start, tf.constant(0), []

    def body(done, state):
      return done + 1, self._step(state, done)
    for number in updates:
      done, state = _while_fewer(number, body, (done, state))
      results.append(function(self._parameters(state)))
    return results


def after_each(steps: Iterable[Parameters], function: Callable[[Parameters], Any]) -> Any:
  """`function(parameters)` before the first update and after each one.

  Args:
    steps: an `Adaptation`, which is gone through in a loop; or anything that gives
      parameters one after the other, which is unrolled.
    function: -> nest of `[tasks, ...]`, whose shapes are the same each time.

  Returns:
    nest of `[tasks, updates + 1, ...]`.
  """
  return (steps.after_each(function) if isinstance(steps, Adaptation)
          else _unrolled(steps, function))


def after(steps: Iterable[Parameters], updates: Sequence[int],
          function: Callable[[Parameters], Any]) -> List[Any]:
  """`function(parameters)` after each of these numbers of updates, ascending; `steps` as in
  `after_each`."""
  if isinstance(steps, Adaptation):
    return steps.after(updates, function)
  return [function(parameters) for done, parameters in enumerate(steps) if done in updates]


def _unrolled(steps: Iterable[Parameters], function: Callable[[Parameters], Any]) -> Any:
  return tf.nest.map_structure(lambda *values: tf.stack(values, axis=1),
                               *[function(parameters) for parameters in steps])


def _while_fewer(number: int, body: Callable, state: Tuple) -> Tuple:
  """`body` again and again, while the first of `state`, which counts, is below `number`."""
  # What is measured after an update may be computed beside the next one; more of them at a
  # time would only be in memory together.
  return tf.while_loop(lambda done, *_: done < number, body, state, parallel_iterations=2)


def _tasks_first(values: tf.Tensor) -> tf.Tensor:
  """`[steps, tasks, ...]` -> `[tasks, steps, ...]`."""
  return tf.transpose(values, [1, 0, *range(2, values.shape.rank)])


def adaptation(task_loss: TaskLoss, parameters: Mapping[str, tf.Tensor], batch: Any,
               inner_optimizer: Union[InnerOptimizer, Callable[[Parameters], InnerOptimizer]],
               *, names: Sequence[str], num_updates: int, first_order: bool = False,
               recompute: bool = False) -> Adaptation:
  """The parameters before the first update and after each one.

  theta_i' = theta - alpha * grad L_i(theta), for all tasks of a batch at once.

  Args:
    task_loss: what is minimised: of parameters and `batch`, one value per task, which
      depends on that task's copies alone.
    parameters: {name: tensor}, shared by the tasks (theta).
    batch: of the support sets; any nest of `[tasks, ...]`.
    inner_optimizer: the rule, see `inner_optimizers`; or a function that makes it of
      `parameters`, where it depends on some of them.
    names: of the parameters that are adapted; the others are handed on.
    num_updates: gradient steps.
    first_order: the gradients are taken as constants, so that no derivative is
      taken through them (the paper's first-order approximation; `stop_grad`).
    recompute: keep only the parameters between two steps for the backward pass, and
      compute each step a second time there: less memory, more time, the same result.
      No derivative is taken then by `batch`, nor by anything but their arguments that
      `task_loss` and a rule read.

  Returns:
    num_updates + 1 dictionaries, one after the other; the adapted parameters in them with
    one copy per task, `[tasks, *shape]`. Differentiable with respect to `parameters`.

  Example:
    >>> import tensorflow as tf
    >>> from maml_tf.inner_optimizers import sgd
    >>> distance = lambda parameters, target: (parameters['w'] - target) ** 2
    >>> start, adapted = adaptation(distance, {'w': tf.constant(0.0)},
    ...                             tf.constant([1.0, 2.0]), sgd(0.5), names=['w'],
    ...                             num_updates=1)
    >>> adapted['w'].numpy().tolist()
    [1.0, 2.0]
  """
  rule_of = inner_optimizer if callable(inner_optimizer) else lambda _: inner_optimizer
  rule = rule_of(parameters)
  fast = copies_per_task({name: parameters[name] for name in names}, batch)

  def without_adapted(parameters: Parameters) -> Parameters:
    return {name: value for name, value in parameters.items() if name not in names}

  def step(state, parameters: Parameters, rule: InnerOptimizer, updates):
    (fast, remembered), fixed = state, without_adapted(parameters)
    _, gradients = loss_and_gradients(
        lambda fast: task_loss({**fixed, **fast}, batch), fast)
    if first_order:
      gradients = {name: tf.stop_gradient(value) for name, value in gradients.items()}
    return rule.update(fast, gradients, remembered, updates)

  def one_step(state, updates):
    # First order: nothing of a step is kept, so there is nothing to save.
    if not recompute or first_order:
      return step(state, parameters, rule, updates)
    # The rule is made within, or it would have no derivative by what it depends on.
    return _recomputed_backward(lambda state, parameters, updates: step(
        state, parameters, rule_of(parameters), updates))(state, parameters, updates)
  fixed = without_adapted(parameters)
  return Adaptation((fast, rule.init(fast)), one_step,
                    lambda state: {**fixed, **state[0]}, num_updates)


def copies_per_task(parameters: Mapping[str, tf.Tensor], batch: Any) -> Parameters:
  """One copy of each parameter for each task of `batch`: `[tasks, *shape]`."""
  [tasks] = leading_sizes(batch, axes=1)
  return {name: tf.tile(value[tf.newaxis], [tasks] + [1] * value.shape.rank)
          for name, value in parameters.items()}


def loss_and_gradients(loss: Callable[[Parameters], tf.Tensor], fast: Parameters
                       ) -> Tuple[tf.Tensor, Parameters]:
  """`loss(fast)`, `[tasks]`, and each task's gradient, of the shapes of `fast`: dense, and
  0 where the loss does not depend on a parameter."""
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(fast)
    losses = of_each_task(loss(fast))
    # No copy is shared, so the gradient of the sum is each task's own.
    total = tf.reduce_sum(losses)
  gradients = tape.gradient(total, fast,
                            unconnected_gradients=tf.UnconnectedGradients.ZERO)
  return losses, {name: tf.convert_to_tensor(value) for name, value in gradients.items()}


def _recomputed_backward(step):
  """`step`, whose backward pass computes it anew instead of keeping its activations.

  As `tf.recompute_grad`, which cannot be used: it stops all recording in the forward
  pass, also that of the tape within a step.
  """
  def recomputed(state, parameters: Parameters, updates: int):
    inputs = (state, dict(parameters))

    @custom_gradient
    def forward(*values):
      outputs = step(*tf.nest.pack_sequence_as(inputs, values), updates)

      def gradient(*upstream):
        # Nothing may start before the upstream gradient is there, or everything would
        # be in memory at once again. XLA knows no control dependencies, so the inputs
        # depend on it as well, through a zero.
        with tf.control_dependencies(upstream):
          zero = tf.minimum(tf.abs(tf.reshape(upstream[0], [-1])[0]), 0)
          with tf.GradientTape(watch_accessed_variables=False) as tape:
            again = [value + zero for value in values]
            tape.watch(again)
            results = tf.nest.flatten(
                step(*tf.nest.pack_sequence_as(inputs, again), updates))
          # What the inner loop does not use, a bias in front of batch norm, is not
          # connected.
          return tape.gradient(results, again, output_gradients=upstream,
                               unconnected_gradients=tf.UnconnectedGradients.ZERO)
      # What a step hands on as it is may be of the graph around a branch, and all outputs
      # are to be of this one.
      return tuple(map(tf.identity, tf.nest.flatten(outputs))), gradient
    return tf.nest.pack_sequence_as(state, forward(*tf.nest.flatten(inputs)))
  return recomputed
