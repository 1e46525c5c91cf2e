"""The settings of the algorithm, and the words that they are of.

No TensorFlow here: the flags and their checks know them, too.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from maml_tf.errors import ConfigError
from maml_tf.rl.trpo import TrustRegion

HESSIANS = ('exact', 'secant')
BUDGETS = ('rollouts', 'steps')
# -log pi(u|s) A, as in the paper's code; its second derivative lacks a part of that of the
# expected return (Rothfuss et al. 2019, ProMP), which the likelihood ratio's has.
INNER_LOSSES = ('log_likelihood', 'ratio')


class Settings(NamedTuple):
  """All that an algorithm has beside its environment and its policy.

  Attributes:
    tasks: of a meta-batch.
    rollouts: of each task, in each phase.
    num_updates: K, inner steps; 0: plain TRPO, the paper's pre-training.
    step_size: alpha.
    discount: gamma.
    gae_lambda: of the advantages.
    trust_region: the outer step; None: one along the meta-gradient, by an optimizer of Keras.
    hessian: 'exact', or 'secant' as the original code has it.
    hessian_every: products with the Hessian see each task's sample 0, this, 2 x this...
    budget: see `Sampler.sample`; with `one_task`, 'steps' are whole rollouts, of new tasks,
      until all of them together have as many steps as tasks x rollouts of them can have.
    first_order: inner gradients count as constants.
    inner_loss: see `INNER_LOSSES`.
    one_task: judge all rollouts as those of one task, for policies that adapt to none.
    tasks_at_once: tasks whose activations are in memory together.
    dtype: of all arithmetic but the advantages'.
  """
  tasks: int = 20
  rollouts: int = 20
  num_updates: int = 1
  step_size: float = 0.1
  discount: float = 0.99
  gae_lambda: float = 1.0
  trust_region: Optional[TrustRegion] = TrustRegion()
  hessian: str = 'exact'
  hessian_every: int = 1
  budget: str = 'rollouts'
  first_order: bool = False
  inner_loss: str = 'log_likelihood'
  one_task: bool = False
  tasks_at_once: int = 5
  dtype: str = 'float32'

  def check(self) -> None:
    """Raises `ConfigError` for what cannot be run."""
    for name, words in (('hessian', HESSIANS), ('budget', BUDGETS)):
      if getattr(self, name) not in words:
        raise ConfigError(f'{name} must be one of {", ".join(words)}. Received: '
                          f'{getattr(self, name)!r}.')
    for name, least in (('tasks', 1), ('rollouts', 1), ('num_updates', 0),
                        ('hessian_every', 1), ('tasks_at_once', 1)):
      if getattr(self, name) < least:
        raise ConfigError(f'{name} must be at least {least}. Received: '
                          f'{getattr(self, name)}.')
    if self.one_task and self.num_updates:
      raise ConfigError('one_task is for policies that adapt to no task: num_updates=0. '
                        f'Received: num_updates={self.num_updates}.')
