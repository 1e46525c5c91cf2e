"""How sure one may be: what a run's own tests say about tasks of that kind.

No TensorFlow here.
"""

from __future__ import annotations

import glob
import json
import os
from typing import TYPE_CHECKING, Any, List, Mapping, NamedTuple, Optional, Sequence

from maml_tf.measures import counted

if TYPE_CHECKING:
  from maml_tf.config import Config


class Measured(NamedTuple):
  """The accuracy that a run's test gave.

  Attributes:
    ways, shots: of its tasks.
    updates: inner steps.
    mean, ci95: accuracy, from 0 to 1, and half the width of its 95% interval.
    tasks: how many.
    split: 'test' or 'val'.
    others: where it was of other weights, another step size or other data than those that
      classify: of which, in words.
  """
  ways: int
  shots: int
  updates: int
  mean: float
  ci95: float
  tasks: int
  split: str
  others: str = ''

  def describe(self) -> str:
    classes = 'test' if self.split == 'test' else 'validation'
    return (f'{100 * self.mean:.1f}% +- {100 * self.ci95:.1f} of the answers right, as in its '
            f'test{self.others} on {counted(self.tasks, "task")} of the {classes} classes')


def of_run(folder: str, checkpoint: str = '', config: Optional['Config'] = None
           ) -> List[Measured]:
  """What the results files in a run's folder say, those of test classes first.

  Args:
    checkpoint, config: what classifies; '' and None: not known. Tests of other things say
      of what.
  """
  found = []
  for path in sorted(glob.glob(os.path.join(glob.escape(folder), '*_ubs*.json'))):
    try:
      with open(path, encoding='utf-8') as file:
        fields = json.load(file)
      tests = of_fields(fields, fields['num_tasks'], fields['split'])
      others = _others(fields, checkpoint, config)
    except (OSError, ValueError, KeyError, TypeError):   # of another kind, or damaged
      continue
    found += [tested._replace(others=others) for tested in tests]
  return sorted(found, key=lambda tested: (bool(tested.others), tested.split != 'test'))


def _others(fields: Mapping[str, Any], checkpoint: str, config: Optional['Config']) -> str:
  """What a results file is of, in words, where that is not what classifies."""
  words = []
  tested = os.path.basename(fields['checkpoint'])
  if checkpoint and tested != os.path.basename(checkpoint):
    words.append(f' of {tested}')
  if config is not None:
    step_size, data = fields['config']['inner_loop']['update_lr'], fields['config']['task']
    if fields.get('tuning') is not None:
      words.append(' with a tuned step size')
    elif step_size != config.inner_loop.update_lr:
      words.append(f' with the step size {step_size}')
    if data['datasource'] != config.task.datasource:
      words.append(f' on {data["datasource"]}')
  if fields.get('other_data'):
    words.append(f' on {fields["other_data"]}')
  return ' and'.join(words)


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
      len(counts), updates) and set(counts) == {tested.shots} and not tested.others]
  return fitting[0] if fitting else None


def sentence(tests: Sequence[Measured], counts: Sequence[int], updates: int) -> str:
  """The same in words."""
  found = expected(tests, counts, updates)
  if found is not None:
    return (f'Expected of {_kind(found)}: {found.describe()}. Your photos may be harder or '
            'easier than those.')
  shots = (_shots(counts[0]) if len(set(counts)) == 1 else
           f'{min(counts)} to {max(counts)} shots')
  near = _nearest(tests, counts, updates)
  there = f'{_kind(near)} ({near.describe()})' if near else 'nothing'
  return (f'How often {len(counts)} ways with {shots}{_after(updates)} are classified right '
          f'is not known: the run was tested with {there}.')


def _nearest(tests: Sequence[Measured], counts: Sequence[int], updates: int
             ) -> Optional[Measured]:
  """The test that is most like the task; of equal ones the first."""
  return min(tests, default=None, key=lambda tested: (
      tested.ways != len(counts), abs(tested.updates - updates),
      set(counts) != {tested.shots}))


def _kind(tested: Measured) -> str:
  return f'{tested.ways} ways and {_shots(tested.shots)}{_after(tested.updates)}'


def _after(updates: int) -> str:
  return f' after {counted(updates, "update")}' if updates else ''


def _shots(count: int) -> str:
  return counted(count, 'shot')
