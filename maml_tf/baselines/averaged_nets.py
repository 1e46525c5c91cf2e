"""Nets that each learn one task, and the mean of their parameters (table 2)."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.episodes import Batch, Episodes
from maml_tf.errors import ConfigError
from maml_tf.learners.base import Learner, Parameters, ParameterSpec
from maml_tf.meta_learner import MetaLearner
from maml_tf.meta_parameters import MetaParameters
from maml_tf.objectives import Objective
from maml_tf.outer_step import assign, raw
from maml_tf.task_results import TaskResults

REGULARISERS = ('None', 'l2', 'mean')


class NetPerTask(Learner):
  """A net of its own for every task: each parameter is `[num_nets, *shape]`.

  Args:
    learner: the net.
    num_nets: how many copies of its parameters there are.
  """

  def __init__(self, learner: Learner, num_nets: int):
    self._learner = learner
    self._num_nets = num_nets

  @property
  def parameter_specs(self) -> Tuple[ParameterSpec, ...]:
    return tuple(spec._replace(shape=(self._num_nets, *spec.shape))
                 for spec in self._learner.parameter_specs)

  @property
  def exact_under_xla(self) -> bool:
    return self._learner.exact_under_xla

  def initial_values(self, seed: int, dtype: str = 'float32') -> Dict[str, np.ndarray]:
    """The same values for every net."""
    return {name: np.repeat(value[np.newaxis], self._num_nets, axis=0)
            for name, value in self._learner.initial_values(seed, dtype).items()}

  def __call__(self, parameters: Mapping[str, tf.Tensor], inputs: Any) -> Any:
    return self._learner(parameters, inputs)


class AveragedNets(MetaLearner):
  """Trains nets on one task each, all at once, and keeps the mean of their parameters.

  The baseline "multi-task" of the MAML paper's appendix (Finn, Abbeel, Levine 2017,
  table 2): 500 nets, each trained on one sinusoid; the average of their parameters is
  then fine-tuned on the 5 points of a new one. Every net minimises its own loss and

    'None':  nothing else;
    'l2':    weight * |theta_i|^2;
    'mean':  weight * |theta_i - mean of theta_1 .. theta_i-1|^2.

  The nets have nothing in common but their initial values, and Adam works element by
  element: as one batch they train exactly as one by one (tested). With 'mean', too, all
  train at once: net i is drawn towards what the nets before it are at that iteration, and
  these do not feel it. Its resting points are those of training one after the other;
  the way there differs, since the mean moves. The first net has no regulariser then.

  Where the paper is silent: Adam, new points in every iteration, the same initial
  values for all nets, and a weight that leaves the error of the single nets small, as the
  authors say of theirs. With initial values of its own for each net the mean answers
  about 0, and fine-tuning hardly moves it: 4.36 / 4.35 / 4.34 after 1 / 5 / 10 updates,
  against 3.72 / 3.63 / 3.58 (both after 4,000 iterations with step size 0.001).

  Args:
    learner, objective: of one net.
    num_nets: how many.
    regulariser: 'None', 'l2' or 'mean'.
    weight: of the regulariser.
    averaged: the mean is kept here, from the start on and after every step.
    **kwargs: see `MetaLearner`; its `meta_parameters` are the nets'.

  A batch has one task per net: `Episodes` of `[num_nets, points, ...]`.
  """

  def __init__(self, learner: Learner, objective: Objective, *, num_nets: int,
               regulariser: str, weight: float, averaged: MetaParameters, **kwargs):
    if regulariser not in REGULARISERS:
      raise ConfigError(f'regulariser must be one of {", ".join(REGULARISERS)}. Received: '
                        f'{regulariser}.')
    super().__init__(NetPerTask(learner, num_nets), objective, **kwargs)
    self._regulariser = regulariser
    self._weight = weight
    names = [spec.name for spec in learner.parameter_specs]
    targets = averaged.variables_in_order(names)

    nets = self.meta_parameters.variables_in_order(names)

    # A function, since the model would take what is an attribute for its own variables.
    def store_mean():
      assign((raw(target), tf.reduce_mean(tf.convert_to_tensor(values), axis=0))
             for target, values in zip(targets, nets))
    self._store_mean, self._targets = store_mean, lambda: targets
    store_mean()

  def task_objectives(self, parameters: Parameters, episodes: Episodes
                      ) -> Dict[str, tf.Tensor]:
    """Of every net, `[num_nets]`; the loss with its regulariser."""
    measured = self._measured_on(parameters, episodes.support)
    return {**measured, 'loss': (measured['loss']
                                 + self._weight * self._penalties(parameters))}

  def meta_gradient(self, episodes: Episodes, parameters: Optional[Parameters] = None
                    ) -> Tuple[Dict[str, tf.Tensor], Parameters]:
    """The means over nets, and the gradient of each net's own loss."""
    if parameters is None:
      parameters = self.meta_parameters.tensors()
    measured, gradients = self._group_gradient(parameters, episodes)
    return {name: tf.reduce_mean(values) for name, values in measured.items()}, gradients

  def task_results(self, episodes: Episodes, num_updates: int) -> TaskResults:
    """The nets as they are, on their own tasks: there is nothing to adapt, and
    `num_updates` is not used."""
    episodes = self._cast(episodes)
    parameters = self.meta_parameters.tensors()
    query = self._measured_on(parameters, episodes.query)
    return TaskResults(self._measured_on(parameters, episodes.support),
                       {name: values[:, tf.newaxis] for name, values in query.items()})

  def apply_gradients(self, gradients: Parameters) -> None:
    super().apply_gradients(gradients)
    self._store_mean()

  def changed_variables(self) -> List:
    return [*super().changed_variables(), *self._targets()]

  def _measured_on(self, parameters: Parameters, batch: Batch) -> Dict[str, tf.Tensor]:
    return self.objective.measured(self.learner(parameters, batch.inputs), batch.labels)

  def _penalties(self, parameters: Parameters) -> tf.Tensor:
    """`[num_nets]`; 0 without a regulariser."""
    if self._regulariser == 'None':
      return tf.zeros([], self.meta_parameters.dtype)
    squares = []
    for value in parameters.values():
      if self._regulariser == 'mean':
        value -= tf.stop_gradient(mean_of_those_before(value))
      squares.append(tf.reduce_sum(tf.square(value), axis=list(range(1, value.shape.rank))))
    return tf.add_n(squares)


def mean_of_those_before(values: tf.Tensor) -> tf.Tensor:
  """Of `[nets, ...]` along the first axis; the first one, which has none before it, gets
  itself."""
  nets = values.shape[0]
  # In blocks of about sqrt(nets): `tf.cumsum` over a leading axis takes several times
  # as long as everything else in a step.
  size = math.isqrt(nets - 1) + 1
  flat = tf.pad(tf.reshape(values, [nets, -1]), [[0, size * size - nets], [0, 0]])
  blocks = tf.reshape(flat, [size, size, -1])
  before = tf.constant(np.tri(size, k=-1), values.dtype)
  of_blocks = tf.matmul(before, tf.reduce_sum(blocks, axis=1))
  within = tf.matmul(tf.tile(before[tf.newaxis], [size, 1, 1]), blocks)
  sums = tf.reshape(within + of_blocks[:, tf.newaxis], [size * size, -1])[1:nets]
  means = sums / tf.range(1, nets, dtype=values.dtype)[:, tf.newaxis]
  return tf.concat([values[:1], tf.reshape(means, [nets - 1, *values.shape[1:]])], axis=0)
