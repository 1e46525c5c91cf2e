"""How tasks are divided among graphs and cores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maml_tf import experiment, task_groups
from maml_tf.config import resolve
from maml_tf.errors import ConfigError
from maml_tf.task_groups import TaskGroups, keeps_cores_busy

OMNIGLOT, MINIIMAGENET, SINUSOID = 28 * 28, 84 * 84 * 3, 1


@pytest.mark.parametrize('tasks, examples, size, cores, expected', [
    # 5-way 1-shot, 5-way 5-shot, 20-way 1-shot, 25 tasks in evaluation
    (32, 10, OMNIGLOT, 2, (4, 2)), (32, 50, OMNIGLOT, 2, (1, 2)),
    (16, 40, OMNIGLOT, 2, (1, 2)), (25, 10, OMNIGLOT, 2, (5, 2)),
    # more cores than groups of four; one core; more cores than tasks
    (32, 10, OMNIGLOT, 16, (2, 16)), (32, 10, OMNIGLOT, 1, (4, 1)),
    (4, 80, MINIIMAGENET, 2, (1, 2)), (4, 80, MINIIMAGENET, 16, (1, 4)),
    # 10-way 10-shot: memory for one task at a time
    (4, 250, MINIIMAGENET, 2, (1, 1)),
    # so small that one graph has them all
    (25, 10, SINUSOID, 2, (25, 1)),
    # one group after the other
    (32, 10, OMNIGLOT, None, (32, 1)), (4, 80, MINIIMAGENET, None, (1, 1)),
    (25, 10, SINUSOID, None, (25, 1))])
def test_what_is_chosen(tasks, examples, size, cores, expected):
  assert task_groups.task_groups(tasks, examples, size, cores=cores) == expected


@pytest.mark.parametrize('tasks, examples, size, gigabytes, expected', [
    # All tasks of the published meta-batches fit into what such cards have.
    (4, 80, MINIIMAGENET, 16, 4), (4, 100, MINIIMAGENET, 16, 4),
    (32, 10, OMNIGLOT, 8, 32), (25, 10, SINUSOID, 8, 25),
    # 10-way 10-shot, and a card that holds no task: one by one
    (4, 250, MINIIMAGENET, 24, 2), (4, 250, MINIIMAGENET, 8, 1), (4, 250, MINIIMAGENET, 1, 1)])
def test_what_is_chosen_by_the_memory_of_a_device(tasks, examples, size, gigabytes, expected):
  assert task_groups.task_groups(tasks, examples, size,
                                 memory=gigabytes * 2**30) == (expected, 1)


@pytest.mark.parametrize('at_once, tasks, cores, expected', [
    (1, 4, 2, (1, 1)), (2, 4, 2, (1, 2)), (4, 4, 2, (2, 2)), (9, 4, 2, (2, 2)),
    (3, 6, 2, (3, 1)), (3, 6, None, (3, 1)), (9, 6, None, (6, 1))])
def test_what_is_asked_for(at_once, tasks, cores, expected):
  assert task_groups.task_groups(tasks, 80, MINIIMAGENET, at_once=at_once,
                                 cores=cores) == expected


@given(tasks=st.integers(1, 64), examples=st.integers(2, 500),
       size=st.sampled_from([OMNIGLOT, MINIIMAGENET, SINUSOID]),
       at_once=st.integers(0, 64), cores=st.none() | st.integers(1, 64))
def test_every_task_is_in_one_group(tasks, examples, size, at_once, cores):
  if at_once and tasks % min(at_once, tasks):
    with pytest.raises(ConfigError, match=f'tasks_at_once={at_once} and {tasks} tasks'):
      task_groups.task_groups(tasks, examples, size, at_once=at_once, cores=cores)
    return
  groups = task_groups.task_groups(tasks, examples, size, at_once=at_once, cores=cores)
  assert tasks % groups.size == 0
  assert 1 <= groups.side_by_side <= min(cores or 1, tasks // groups.size)
  if at_once:
    assert groups.size * groups.side_by_side == min(at_once, tasks)


@pytest.mark.parametrize('tasks, groups, cores, expected', [
    (4, TaskGroups(1, 2), 2, True), (4, TaskGroups(1, 4), 16, False),
    (4, TaskGroups(1, 3), 3, False),     # two rounds, and the second has one task
    (5, TaskGroups(1, 2), 2, True), (25, TaskGroups(25, 1), 2, False),
    (6, TaskGroups(2, 1), 1, True)])
def test_where_a_core_per_group_pays(tasks, groups, cores, expected):
  assert keeps_cores_busy(tasks, groups, cores) == expected


@pytest.mark.parametrize('values, expected', [
    (dict(datasource='omniglot'), True), (dict(datasource='miniimagenet'), True),
    (dict(datasource='sinusoid'), False), (dict(datasource='omniglot', xla='on'), False),
    (dict(datasource='miniimagenet', tasks_at_once=1), False),
    (dict(datasource='miniimagenet', tasks_at_once=3), False),   # which is refused later
    (dict(datasource='miniimagenet', baseline='fine_tuning'), False),
    (dict(datasource='sinusoid', baseline='averaged', xla='off'), False)])
def test_which_runs_train_side_by_side(values, expected, monkeypatch):
  monkeypatch.setattr(experiment, 'available_cores', lambda: 2)
  monkeypatch.setattr(experiment.tf.config, 'list_physical_devices', lambda kind: [])
  assert experiment.side_by_side(resolve(values)) == expected


def test_a_gpu_gets_one_group_after_the_other(monkeypatch):
  monkeypatch.setattr(experiment.tf.config, 'list_physical_devices', lambda kind: ['card'])
  assert not experiment.side_by_side(resolve(dict(datasource='omniglot', xla='off')))


def test_the_cores_are_those_that_the_process_may_use(monkeypatch):
  monkeypatch.setattr(task_groups.os, 'sched_getaffinity', lambda pid: {0, 5}, raising=False)
  assert task_groups.available_cores() == 2
  monkeypatch.delattr(task_groups.os, 'sched_getaffinity')
  monkeypatch.setattr(task_groups.os, 'cpu_count', lambda: 3)
  assert task_groups.available_cores() == 3
