"""iMAML: the meta-gradient from where the inner loop ends, and not from its way there."""

from __future__ import annotations

import math
from typing import Callable, Dict, Iterable, Optional

import tensorflow as tf

from maml_tf.conjugate_gradient import conjugate_gradient
from maml_tf.counts import require_count
from maml_tf.episodes import Batch, Episodes
from maml_tf.errors import ConfigError
from maml_tf.inner_loop import adaptation, after, loss_and_gradients
from maml_tf.keras_models.randomness import of_pass
from maml_tf.keras_models.refusals import missing_derivatives
from maml_tf.learners.base import Parameters
from maml_tf.meta_learner import MetaLearner
from maml_tf.objectives import of_each_task

_MOST_UNROLLED = 10   # conjugate gradients: more of them are a loop


class IMAML(MetaLearner):
  """Implicit MAML (Rajeswaran, Finn, Kakade, Levine 2019, arXiv 1909.04630, algorithms 1, 2).

  The inner loop minimises L_S(phi) + lambda / 2 |phi - theta|^2 (their equation 3) by
  `num_updates` steps of gradient descent. At its minimum the derivative of phi by theta is
  (I + H / lambda)^-1, with H the Hessian of L_S at phi (lemma 1), so that the meta-gradient
  is g with (I + H / lambda) g = grad L_Q(phi) (equations 6, 7), which `cg_iterations` of
  conjugate gradients solve approximately. No derivative is taken through the inner steps:
  memory does not depend on their number.

  What the inner loop leaves alone, w, normalisations' offsets, is meta-learned, too; by the
  same theorem its gradient is that of L_Q minus, with g from above, the derivative of
  g . grad_phi L_S / lambda by w.

  Their tables have two inner loops: gradient descent (GD), which this is, and another solver
  ("Hessian-free").

  Departures: the proximal term is in every inner step, of tests, too; the example of their
  code has it in one more step behind those of training, and not in tests. Its conjugate
  gradients are damped, these not. The nets are those of the MAML paper, and the loss, to
  whose scale lambda belongs, is on the objective's (see `ScaledCrossEntropy`).

  Args:
    learner, objective: see `MetaLearner`.
    proximal_weight: lambda, above 0 and finite; the inner loop can converge where its product
      with `step_size` is below 2.
    cg_iterations: of conjugate gradients, 1 or more.
    **kwargs: see `MetaLearner`. There are no steps to recompute.

  Raises:
    ConfigError: for a lambda or a number that is not allowed.
  """

  own_arguments = ('proximal_weight', 'cg_iterations')
  keeps_inner_steps = False

  def __init__(self, learner, objective, *, proximal_weight: float = 2.0,
               cg_iterations: int = 5, **kwargs):
    super().__init__(learner, objective, **kwargs)
    if not 0 < proximal_weight < math.inf:
      raise ConfigError('proximal_weight must be a finite number above 0. Received: '
                        f'{proximal_weight}.')
    self._proximal_weight = proximal_weight
    self._cg_iterations = require_count('cg_iterations', cg_iterations, least=1)

  def forward_passes(self, support_examples: int, query_examples: int) -> Optional[int]:
    # An inner step: 3; a product with the Hessian, and the derivative by w: 9.
    return (support_examples * (3 * self._num_updates + 9 * (self._cg_iterations + 1))
            + query_examples * 3)

  def adaptation(self, parameters: Parameters, episodes: Episodes, num_updates: int,
                 first_order: bool) -> Iterable[Parameters]:
    """As in `MetaLearner`, with the proximal term; never differentiated through."""
    names = self.learner.adapted_names
    self.learner.check(self.task_loss, episodes.support, first_order=False)

    def proximal_loss(values: Parameters, batch: Batch) -> tf.Tensor:
      distance = tf.add_n([_of_tasks(tf.square(values[name] - parameters[name]))
                           for name in names])
      loss = of_each_task(self.task_loss(values, batch))
      return loss + self._proximal_weight / 2 * distance
    return adaptation(proximal_loss, parameters, episodes.support,
                      self.inner_optimizer(parameters), names=names,
                      num_updates=num_updates, first_order=True)

  def task_objectives(self, parameters: Parameters, episodes: Episodes
                      ) -> Dict[str, tf.Tensor]:
    """On the query set at the end of the inner loop; of theta that is no function that could
    be differentiated, see `_group_gradient`."""
    episodes = _with_one_support_loss(episodes)
    return self._at_the_end(self._ends(parameters, episodes), episodes)

  def _group_gradient(self, parameters: Parameters, episodes: Episodes):
    """As in `MetaLearner`, by the implicit function theorem."""
    episodes = _with_one_support_loss(episodes)
    end = self._ends(parameters, episodes)
    phi = {name: end.pop(name) for name in self.learner.adapted_names}
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch((phi, end))
      measured = self._at_the_end({**end, **phi}, episodes)
      loss = tf.reduce_sum(measured['loss'])
    by_phi, by_rest = self._gradient(tape, loss, (phi, end))
    found = self.solve(phi, end, episodes.support, by_phi)
    _, through_phi = self._second_derivative(phi, end, episodes.support, found)
    gradients = {name: tf.reduce_sum(value, axis=0) for name, value in found.items()}
    gradients.update({name: value - through_phi[name] / self._proximal_weight
                      for name, value in by_rest.items()})
    return measured, {name: gradients[name] for name in parameters}

  def solve(self, phi: Parameters, rest: Parameters, support: Batch, target: Parameters
            ) -> Parameters:
    """g of each task with (I + H / lambda) g = `target`, approximately."""
    def product(vector):
      image, _ = self._second_derivative(phi, rest, support, _as_parameters(vector, phi))
      return vector + _as_vector(image) / self._proximal_weight
    return _as_parameters(conjugate_gradient(
        product, _as_vector(target), self._cg_iterations, dot=_dot,
        divide=tf.math.divide_no_nan,
        repeat=_looped if self._cg_iterations > _MOST_UNROLLED else None).direction, phi)

  def _second_derivative(self, phi: Parameters, rest: Parameters, support: Batch,
                         vector: Parameters):
    """The derivatives of `vector` . grad_phi L_S by phi, which is H `vector`, and by what is
    not adapted, summed over the tasks."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch((phi, rest))
      _, gradients = loss_and_gradients(
          lambda phi: self.task_loss({**rest, **phi}, support), phi)
      along = tf.add_n([tf.reduce_sum(gradients[name] * vector[name]) for name in phi])
    return self._gradient(tape, along, (phi, rest))

  def _gradient(self, tape: tf.GradientTape, value: tf.Tensor, sources):
    with missing_derivatives():
      gradients = tape.gradient(value, sources,
                                unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return tf.nest.map_structure(tf.convert_to_tensor, gradients)

  def _ends(self, parameters: Parameters, episodes: Episodes) -> Parameters:
    # In a loop: neither memory nor the graph grows with the number of updates.
    steps = self.adaptation(parameters, episodes, self._num_updates, first_order=True)
    [end] = after(steps, [self._num_updates], dict)
    return tf.nest.map_structure(tf.stop_gradient, end)

  def _at_the_end(self, end: Parameters, episodes: Episodes) -> Dict[str, tf.Tensor]:
    return self.objective.measured(self.learner(end, episodes.query.inputs),
                                   episodes.query.labels)


def _with_one_support_loss(episodes: Episodes) -> Episodes:
  """Dropout is the same in the inner loop and in all products with the Hessian: the theorem is
  of one function."""
  return episodes.replaced(support_inputs=of_pass(episodes.support.inputs, 0))


def _looped(step: Callable, state, count: int):
  """By a graph of one step, whatever their number: nothing is differentiated through them."""
  _, state = tf.while_loop(lambda done, _: done < count,
                           lambda done, state: (done + 1, step(state)),
                           (tf.constant(0), state), maximum_iterations=count)
  return state


def _of_tasks(values: tf.Tensor) -> tf.Tensor:
  """The sum over all axes but the first."""
  return tf.reduce_sum(values, axis=range(1, values.shape.rank))


def _dot(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
  return tf.reduce_sum(one * other, axis=-1, keepdims=True)


def _as_vector(values: Parameters) -> tf.Tensor:
  """`[tasks, all elements]`."""
  return tf.concat([tf.reshape(value, [-1, value.shape[1:].num_elements()])
                    for value in values.values()], axis=1)


def _as_parameters(vector: tf.Tensor, like: Parameters) -> Parameters:
  sizes = [value.shape[1:].num_elements() for value in like.values()]
  return {name: tf.reshape(part, tf.shape(value)) for (name, value), part
          in zip(like.items(), tf.split(vector, sizes, axis=1))}
