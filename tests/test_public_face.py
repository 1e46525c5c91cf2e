"""What `import maml_tf` offers: its names, its examples, and nothing loaded before it is
used."""

from __future__ import annotations

import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import maml_tf

MODULES = ('maml_tf', *(f'maml_tf.{name}' for name in (
    'episodes', 'flops', 'inner_loop', 'inner_optimizers', 'measures', 'meta_parameters',
    'meta_learners.maml', 'keras_models.functional_call', 'keras_models.learner',
    'sources.arrays')))


@pytest.mark.parametrize('name', MODULES)
def test_its_examples_are_true(name):
  tested = doctest.testmod(importlib.import_module(name))
  assert tested.failed == 0 and tested.attempted > 0


@pytest.mark.parametrize('name', maml_tf.__all__)
def test_every_name_is_there_and_explained(name):
  assert inspect.getdoc(getattr(maml_tf, name))
  assert name in dir(maml_tf) and name in maml_tf.__doc__


def test_there_are_no_others():
  with pytest.raises(AttributeError, match="'maml_tf' has no attribute 'Config'"):
    _ = maml_tf.Config


def test_importing_it_loads_no_tensorflow():
  script = ('import sys, maml_tf; '
            'print(*(name for name in sys.modules if "tensorflow" in name))')
  found = subprocess.run([sys.executable, '-c', script], cwd=Path(__file__).parent.parent,
                         capture_output=True, text=True, check=True)
  assert found.stdout.split() == []


@pytest.mark.parametrize('name', [
    'inner_loop', 'meta_learner', 'outer_step', 'meta_parameters', 'objectives',
    'in_groups', 'task_groups', 'data_generator', 'meta_learners.maml',
    'meta_learners.anil', 'meta_learners.reptile', 'baselines.averaged_nets', 'learners',
    'keras_models.learner', 'keras_models.objective', 'sources.arrays'])
def test_the_core_knows_no_configuration(name):
  source = inspect.getsource(importlib.import_module(f'maml_tf.{name}'))
  assert 'config import' not in source and 'import config' not in source


def test_no_module_of_the_configuration_is_long():
  for path in Path(maml_tf.__file__).parent.glob('config/*.py'):
    assert len(path.read_text(encoding='utf-8').splitlines()) <= 250, path
