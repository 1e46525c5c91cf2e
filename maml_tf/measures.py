"""What a task is judged by: a name, a unit, a direction. No TensorFlow here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence

from maml_tf.errors import ConfigError


@dataclass(frozen=True)
class Measure:
  """One number for each task.

  Attributes:
    name: of the column, the field of a JSON file, and the training log.
    caption: what a reader calls it.
    larger_is_better: whether training tries to raise it.
    unit: of the values as they are shown; '' where there is none.
    scale: shown value / value as it is computed: 100 for shares that are shown in %.
    digits: behind the decimal point, in tables.
    beside_loss: whether the loss that is minimised says something of the progress: that of
      a policy does not.

  Example:
    >>> ACCURACY.text(0.4875)
    '48.75'
    >>> ACCURACY.title, MEAN_SQUARED_ERROR.title
    ('accuracy, %', 'mean squared error')
  """
  name: str
  caption: str
  larger_is_better: bool
  unit: str = ''
  scale: float = 1
  digits: int = 4
  beside_loss: bool = True

  @property
  def title(self) -> str:
    """With the unit: of an axis or a column."""
    return f'{self.caption}, {self.unit}' if self.unit else self.caption

  def text(self, value: float) -> str:
    """A value as it is computed, as it is shown."""
    return f'{self.scale * value:.{self.digits}f}'

  def with_unit(self, value: float) -> str:
    return f'{self.text(value)} {self.unit}'.rstrip()

  def score(self, value: float) -> float:
    """What model selection maximises."""
    return value if self.larger_is_better else -value

  def is_better(self, one: float, other: float) -> bool:
    return self.score(one) > self.score(other)


def phase_name(updates: int) -> str:
  """'before', '1 update', '2 updates': of pictures."""
  return counted(updates, 'update') if updates else 'before'


def counted(count: int, thing: str) -> str:
  """A number of things, in words.

  Example:
    >>> counted(1, 'shot'), counted(2, 'shot'), counted(1000, 'class')
    ('1 shot', '2 shots', '1,000 classes')
  """
  ending = '' if count == 1 else 'es' if thing.endswith('s') else 's'
  return f'{count:,} {thing}{ending}'


# Every task has a loss. That of a classification is judged by its accuracy instead.
LOSS = Measure('loss', 'loss', larger_is_better=False)
MEAN_SQUARED_ERROR = Measure('loss', 'mean squared error', larger_is_better=False)
ACCURACY = Measure('accuracy', 'accuracy', larger_is_better=True, unit='%', scale=100,
                   digits=2)

# Of an episode, undiscounted: the sum of its rewards.
RETURN = Measure('return', 'return', larger_is_better=True, digits=1, beside_loss=False)

_KNOWN: Dict[str, Measure] = {}


def register(measure: Measure) -> Measure:
  """Makes known what tasks of some problem are judged by, so that files can name it.

  Raises:
    ConfigError: for another measure of that name.
  """
  if _KNOWN.setdefault(measure.name, measure) != measure:
    raise ConfigError(f'There is another measure of the name {measure.name!r}. Received: '
                      f'{measure}; known: {_KNOWN[measure.name]}.')
  return measure


def named(name: str) -> Measure:
  """The measure that files call `name`; one that no problem has registered is taken for a
  loss without a unit."""
  return _KNOWN.get(name, Measure(name, name, larger_is_better=False))


register(MEAN_SQUARED_ERROR)
register(ACCURACY)


def in_order(measures: Sequence[Measure], measured: Mapping[str, Any]) -> List[str]:
  """The names of what was `measured`, in the order of the measures, which a graph does not
  keep."""
  return [measure.name for measure in measures if measure.name in measured]


def all_in_order(measures: Sequence[Measure], measured: Mapping[str, Any]) -> List[str]:
  """And behind them those that are none of the measures."""
  return list(dict.fromkeys([*in_order(measures, measured), *sorted(measured)]))
