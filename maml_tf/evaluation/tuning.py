"""The step size of the fine-tuning, chosen on validation tasks."""

from __future__ import annotations

import math
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np

from maml_tf.data_generator import DataGenerator
from maml_tf.errors import NotFiniteError
from maml_tf.evaluation.protocol import Evaluator, score
from maml_tf.measures import Measure, counted
from maml_tf.meta_learner import MetaLearner

STEP_SIZES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


class Tuning(NamedTuple):
  """Which step size was chosen, and by what.

  Attributes:
    step_size: the best one.
    measured: {step size: mean over tasks on the query set, before the first update and
      after each one}: in the measure of the
      task; None where it is not finite.
    num_tasks, split, fingerprint: of the validation tasks.
  """
  step_size: float
  measured: Dict[float, Tuple[Optional[float], ...]]
  num_tasks: int
  split: str
  fingerprint: str

  def as_dict(self) -> Dict[str, Any]:
    """As JSON values."""
    return {**self._asdict(), 'measured': [
        {'step_size': step_size, 'updates': list(values)}
        for step_size, values in self.measured.items()]}

  def describe(self, measure: Measure) -> str:
    """A line for the log. Args: measure: what the values are of."""
    def shown(value):
      return 'not finite' if value is None else measure.text(value)
    listed = ', '.join(f'{step_size:g}: {shown(values[-1])}'
                       for step_size, values in self.measured.items())
    updates = counted(len(next(iter(self.measured.values()))) - 1, 'update')
    return (f'Step size of the fine-tuning: {self.step_size:g}, chosen on '
            f'{counted(self.num_tasks, f"{self.split} task")} ({measure.title} after '
            f'{updates}: {listed})')


def tune_step_size(model: MetaLearner, generator: DataGenerator, num_tasks: int,
                   num_updates: int) -> Tuning:
  """The one of `STEP_SIZES` with the best score after the last update; the model has it then.

  Args:
    model: fine-tuned with each step size.
    generator: of validation episodes; `num_tasks` of them are used.
    num_tasks, num_updates: see `Evaluator`.

  Raises:
    NotFiniteError: where none gives a finite score.
  """
  # One graph for all: the step size is a variable.
  evaluator, measured, scores = Evaluator(model, generator, num_tasks, num_updates), {}, {}
  for step_size in STEP_SIZES:
    model.step_size = step_size
    results = evaluator()
    with np.errstate(over='ignore', invalid='ignore'):   # steps may be too large
      means = results.query[model.measure.name].mean(axis=0, dtype=np.float64)
      scores[step_size] = score(results, model.measure)
    measured[step_size] = tuple(float(mean) if math.isfinite(mean) else None
                                for mean in means)
  best = max(scores, key=scores.get)
  if scores[best] == -math.inf:
    raise NotFiniteError(
        f'No step size of {", ".join(f"{one:g}" for one in scores)} gives a finite '
        f'{model.measure.name} after {counted(num_updates, "update")} on the val tasks: '
        'train with a lower --meta_lr, or test another checkpoint.')
  model.step_size = best
  return Tuning(best, measured, num_tasks, 'val', generator.fingerprint(num_tasks))
