"""Meta-SGD: MAML that learns a step size for each element of the parameters, too."""

from __future__ import annotations

from typing import Any

from maml_tf.learned_step_sizes import ELEMENT
from maml_tf.meta_learners.maml import MAML


class MetaSGD(MAML):
  """Meta-SGD (Li, Zhou, Chen, Li 2017, arXiv 1707.09835, algorithm 1).

  theta' = theta - alpha o grad L_S(theta) (equation 2 of their paper; o: elementwise), with
  alpha of theta's size, meta-learned with theta by the query loss (equation 3): an element
  of alpha is the length of its step, and its sign may turn the direction. Their inner loop
  has one step; further ones use the same alpha.

  Departures: the net and what is adapted of it are those of the MAML paper (normalisations'
  offsets are meta-learned only). alpha starts from `step_size` everywhere, in place of a
  random number.

  Args:
    learner, objective: see `MAML`.
    step_size: from which each element of alpha starts.
    **kwargs: see `MAML`, without `learned_step_sizes`.

  Example:
    >>> from maml_tf.learners import FullyConnected
    >>> from maml_tf.objectives import MeanSquaredError
    >>> model = MetaSGD(FullyConnected(1, (4,), 1, norm='None'), MeanSquaredError(),
    ...                 step_size=0.01, num_updates=1)
    >>> model.meta_parameters.arrays()['step_size/dense1/kernel'].shape
    (1, 4)
  """

  own_arguments = ('first_order',)

  def __init__(self, learner: Any, objective: Any, **kwargs):
    super().__init__(learner, objective, learned_step_sizes=ELEMENT, **kwargs)
