"""How sure one may be: what a run's own tests say about tasks of that kind.

No TensorFlow here.
"""

from __future__ import annotations

import glob
import json
import os
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence


class Measured(NamedTuple):
  """The accuracy that a run's test gave.

  Attributes:
    ways, shots: of its tasks.
    updates: inner steps.
    mean, ci95: accuracy, from 0 to 1, and half the width of its 95% interval.
    tasks: how many.
    split: 'test' or 'val'.
  """
  ways: int
  shots: int
  updates: int
  mean: float
  ci95: float
  tasks: int
  split: str

  def describe(self) -> str:
    classes = 'test' if self.split == 'test' else 'validation'
    return (f'{100 * self.mean:.1f}% +- {100 * self.ci95:.1f} of the answers right, as in its '
            f'test on {self.tasks} tasks of the {classes} classes')


def of_run(folder: str) -> List[Measured]:
  """What the results files in a run's folder say, those of test classes first."""
  found = []
  for path in sorted(glob.glob(os.path.join(glob.escape(folder), '*_ubs*.json'))):
    try:
      with open(path, encoding='utf-8') as file:
        fields = json.load(file)
      found += of_fields(fields, fields['num_tasks'], fields['split'])
    except (OSError, ValueError, KeyError, TypeError):   # of another kind, or damaged
      continue
  return sorted(found, key=lambda tested: tested.split != 'test')


def of_fields(fields: Mapping[str, Any], tasks: int, split: str) -> List[Measured]:
  """Of a results file or a record, which have the same form here."""
  task, updates = fields['config']['task'], dict(fields['updates'])
  if list(updates) == ['update0_query']:   # of a method without updates
    updates = {'update0': updates['update0_query']}
  return [Measured(task['num_classes'], task['update_batch_size'], int(name[len('update'):]),
                 values['accuracy']['mean'], values['accuracy']['ci95'], tasks, split)
          for name, values in updates.items()
          if name[len('update'):].isdigit() and 'accuracy' in values]


def expected(tests: Sequence[Measured], counts: Sequence[int], updates: int
             ) -> Optional[Measured]:
  """What was measured with as many ways, shots and updates; None where nothing was.

  Args:
    counts: support images of each class.
  """
  fitting = [tested for tested in tests if (tested.ways, tested.updates) == (
      len(counts), updates) and set(counts) == {tested.shots}]
  return fitting[0] if fitting else None


def sentence(tests: Sequence[Measured], counts: Sequence[int], updates: int) -> str:
  """The same in words."""
  found = expected(tests, counts, updates)
  after = f' after {updates} updates' if updates else ''
  if found is not None:
    return (f'Expected of {found.ways} ways and {_shots(found.shots)}{after}: '
            f'{found.describe()}. Your photos may be harder or easier than those.')
  shots = (_shots(counts[0]) if len(set(counts)) == 1 else
           f'{min(counts)} to {max(counts)} shots')
  kinds = sorted({(tested.ways, tested.shots) for tested in tests})
  there = ', '.join(f'{ways} ways and {_shots(shots)}' for ways, shots in kinds)
  near = [tested for tested in tests if tested.updates == updates] or list(tests)
  shown = f' ({near[0].describe()})' if near else ''
  return (f'How often {len(counts)} ways with {shots}{after} are classified right is not '
          f'known: the run was tested with {there or "nothing"}{shown}.')


def _shots(count: int) -> str:
  return '1 shot' if count == 1 else f'{count} shots'
