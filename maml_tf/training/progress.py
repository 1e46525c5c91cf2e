"""What a run says of its progress, on standard error."""

from __future__ import annotations

import sys
import time
from typing import Callable, Dict, Optional

from tqdm import tqdm

from maml_tf import outputs
from maml_tf.measures import Measure, counted
from maml_tf.task_results import TaskResults
from maml_tf.training.callbacks import IterationCallback, Validation, passed

# Without a terminal there is no bar: a line as often as this, in seconds.
SECONDS_BETWEEN_LINES = 60.0


class Means:
  """Of what executions of training steps logged, since they were told last."""

  def __init__(self, measure: Measure,
               loss_of_an_example: Optional[Callable[[float], float]] = None):
    self._measure = measure
    self._loss_of_an_example = loss_of_an_example or float
    self._sums: Dict[str, float] = {}
    self._executions = 0

  def add(self, logs: Dict) -> None:
    self._executions += 1
    for name in {self._measure.name, *(['loss'] if self._measure.beside_loss else [])}:
      if name in logs:
        self._sums[name] = self._sums.get(name, 0.0) + float(logs[name])

  def text(self) -> str:
    """`loss 1.5182, accuracy 34.69 %`, both means; '' before there is anything."""
    means = {name: total / self._executions for name, total in self._sums.items()}
    measure, parts = self._measure, []
    if 'loss' in means:
      parts.append(f'loss {self._loss_of_an_example(means["loss"]):.4g}')
    if measure.name in means and measure.name != 'loss':
      parts.append(f'{measure.caption} {measure.with_unit(means[measure.name])}')
    return ', '.join(parts)

  def forget(self) -> None:
    self._sums, self._executions = {}, 0


class Progress(IterationCallback):
  """On a terminal a bar, elsewhere a line a minute; a line after each validation.

  Such a line has what the training steps since the one before gave in the mean, and the
  validation before and after adaptation:

      500/2,000  loss 2.97  validation: mean squared error 3.0821 before, 2.6904 after 1 update

  Args:
    first_iteration: see `IterationCallback`.
    last: iteration of the run, behind all of its phases.
    validation: comes before this one in the list of callbacks.
    interval: of the validation, in iterations.
    measure: of the problem.
    loss_of_an_example: the mean over a task's examples that belongs to a logged loss; None:
      the logged one is that.
    seconds_between_lines: where there is no terminal.
  """

  def __init__(self, first_iteration: int, last: int, validation: Validation, interval: int,
               measure: Measure,
               loss_of_an_example: Optional[Callable[[float], float]] = None,
               seconds_between_lines: float = SECONDS_BETWEEN_LINES):
    super().__init__(first_iteration)
    self._last = last
    self._validation = validation
    self._interval = interval
    self._measure = measure
    self._means = Means(measure, loss_of_an_example)
    self._between = seconds_between_lines
    self._bar: Optional[tqdm] = None
    self._started = self._told = 0.0

  def on_train_begin(self, logs=None):
    self._started = self._told = time.monotonic()
    self._bar = tqdm(initial=self._first_iteration, total=self._last, unit='it', leave=False,
                     desc='Compiling the step', disable=None, file=sys.stderr)

  def after_iterations(self, before, now, logs):
    self._means.add(logs)
    self._bar.set_description(refresh=False)
    self._bar.set_postfix_str(self._means.text(), refresh=False)
    self._bar.update(now - before)
    if passed(self._interval, before, now) and self._validation.latest is not None:
      self._say(now, validation_text(self._validation.latest, self._measure))
      self._means.forget()
    elif self._bar.disable and time.monotonic() - self._told >= self._between:
      self._say(now, self._time_to_go(now))

  def close(self) -> None:
    """Takes the bar away, also after an error, and says where it stopped."""
    if self._bar is None:
      return
    self._bar.close()
    if self._means.text():
      done = counted(self.iteration - self._first_iteration, 'iteration')
      self._say(self.iteration, f'{done} in {_duration(time.monotonic() - self._started)}')
      self._means.forget()

  def _say(self, iteration: int, text: str) -> None:
    self._told = time.monotonic()
    means = self._means.text()
    line = '  '.join(part for part in (f'{iteration:,}/{self._last:,}', means, text) if part)
    with self._bar.external_write_mode(file=sys.stderr):
      outputs.say(line)

  def _time_to_go(self, iteration: int) -> str:
    speed = (iteration - self._first_iteration) / (time.monotonic() - self._started)
    return (f'{speed:.3g} iterations/s, about '
            f'{_duration((self._last - iteration) / speed)} to go')


def validation_text(results: TaskResults, measure: Measure) -> str:
  """`validation: accuracy 20.00 % before, 48.70 % after 5 updates`."""
  texts = [measure.with_unit(mean) for mean in results.query[measure.name].mean(axis=0)]
  if len(texts) == 1:
    return f'validation: {measure.caption} {texts[0]}'
  return (f'validation: {measure.caption} {texts[0]} before, {texts[-1]} after '
          f'{counted(len(texts) - 1, "update")}')


def _duration(seconds: float) -> str:
  """`42 s`, `7 min`, `3.2 h`."""
  if seconds < 100:
    return f'{seconds:.0f} s'
  return f'{seconds / 60:.0f} min' if seconds < 6000 else f'{seconds / 3600:.1f} h'
