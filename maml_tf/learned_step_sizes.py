"""Step sizes of the inner loop that are meta-learned with the initialisation.

One for each element of a parameter (Meta-SGD, Li et al. 2017), for each layer, or for each
layer and update (MAML++, Antoniou et al. 2019, section 4, "LSLR"). They are parameters of
the meta-learner like any other: in its checkpoints, weights and gradient.
"""

from __future__ import annotations

from typing import Dict, Mapping, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.inner_optimizers import InnerOptimizer, StepSize, require_numbers, sgd
from maml_tf.learners.base import Learner, Parameters, ParameterSpec, constant

FIXED, LAYER, LAYER_AND_STEP, ELEMENT = KINDS = ('None', 'layer', 'layer_and_step', 'element')
_PREFIX = 'step_size/'


class LearnedStepSizes:
  """What is learned of the step sizes of a net.

  Args:
    kind: one of `KINDS`. 'None': nothing.
    learner: the net. Where a method's inner loop leaves some of what adapts in it alone, the
      step sizes of these stay as they are.
    step_size: from which all of them start.
    num_updates: of 'layer_and_step': later updates have the last one's.

  Raises:
    ConfigError: for an unknown kind, or where `step_size` is not one finite number.
  """

  def __init__(self, kind: str, learner: Learner, step_size: StepSize, num_updates: int):
    if kind not in KINDS:
      raise ConfigError(f'learned_step_sizes must be one of {KINDS}. Received: {kind!r}.')
    self.kind = kind
    self._of_parameter: Dict[str, str] = {}
    self.specs: Tuple[ParameterSpec, ...] = ()
    if kind == FIXED:
      return
    require_numbers(step_size)
    if isinstance(step_size, Mapping) or np.ndim(step_size):
      raise ConfigError('Learned step sizes all start from one number. Received: step_size='
                        f'{step_size!r}.')
    shapes = {spec.name: spec.shape for spec in learner.parameter_specs}
    sizes: Dict[str, Tuple[int, ...]] = {}
    for name in learner.adapted_names:
      group = name if kind == ELEMENT else layer_of(name)
      self._of_parameter[name] = _PREFIX + group
      sizes[_PREFIX + group] = {ELEMENT: shapes[name], LAYER: (),
                                LAYER_AND_STEP: (num_updates,)}[kind]
    self.specs = tuple(ParameterSpec(name, shape, constant(step_size), adapted=False)
                       for name, shape in sizes.items())

  def __bool__(self) -> bool:
    return self.kind != FIXED

  def of(self, parameters: Mapping[str, tf.Tensor]) -> Parameters:
    """{adapted parameter: its step sizes}, `[1 or updates, *what broadcasts]`."""
    values = {name: parameters[size] for name, size in self._of_parameter.items()}
    if self.kind == LAYER_AND_STEP:
      return values
    return {name: value[tf.newaxis] for name, value in values.items()}

  def rule(self, parameters: Mapping[str, tf.Tensor]) -> InnerOptimizer:
    """theta <- theta - alpha * gradient, elementwise, with the alpha among `parameters`."""
    return sgd(self.of(parameters))


def layer_of(name: str) -> str:
  """The layer of a parameter.

  Example:
    >>> layer_of('conv1/kernel'), layer_of('scale')
    ('conv1', 'scale')
    >>> layer_of('conv1/kernel#1')   # of a second layer 'conv1' of a Keras model
    'conv1#1'
  """
  path, numbered, number = name.partition('#')
  return (path.rpartition('/')[0] or path) + numbered + number
