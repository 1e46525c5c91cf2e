"""No arrow runs back up: what each module may import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Dict, Set

import pytest

REPOSITORY = Path(__file__).parent.parent

# From the bottom to the top. A module imports from its own layer and from those below;
# what is not listed belongs to the layer of its folder.
LAYERS = (
    ('errors', 'measures', 'bounded', 'files', 'before_tensorflow', 'argument_types',
     'command_line', 'heartbeat', 'locks', 'from_file', 'lifeline', 'cluster', 'outputs',
     'paths', 'conjugate_gradient', 'interruptions', 'lazily', 'tensorflow_log', 'bars',
     'counts'),
    ('episodes', 'task_groups', 'devices', 'custom_gradients', 'learners', 'objectives',
     'inner_optimizers', 'inner_loop', 'learned_step_sizes', 'in_groups', 'meta_parameters',
     'outer_step', 'second_moments', 'replicas', 'meta_learner', 'meta_learners', 'flops',
     'keras_models', 'keras_fit', 'keras_interface', 'task_results', 'numpy_calls'),
    ('sources', 'data_generator', 'batch_generator', 'baselines'),
    ('rl',),
    ('reports',),
    ('problems',),
    ('config',),
    ('experiment', 'strategies'),
    ('evaluation',),
    ('training', 'pure_step'),
    ('paper',),
    ('legacy',),
    ('application',),
    ('verification',),
    ('prediction',),
)
CORE = LAYERS[:3]


def module_of(path: Path) -> str:
  parts = path.relative_to(REPOSITORY / 'maml_tf').with_suffix('').parts
  return '.'.join(part for part in parts if part != '__init__')


MODULES = {module_of(path): path for path in (REPOSITORY / 'maml_tf').rglob('*.py')}


def imports_of(path: Path) -> Set[str]:
  """The modules of this package that it imports anywhere, but for annotations alone."""
  tree = ast.parse(path.read_text(encoding='utf-8'))
  for node in ast.walk(tree):
    if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test):
      node.body = []
  found = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'maml_tf':
      for alias in node.names:
        name = '.'.join([*node.module.split('.')[1:], alias.name])
        found.add(name if name in MODULES else name.rpartition('.')[0])
  return found - {''}


IMPORTS: Dict[str, Set[str]] = {name: imports_of(path) for name, path in MODULES.items()}


def layer_of(module: str) -> int:
  """The layer that lists the module, or the nearest folder above it."""
  while module:
    for number, names in enumerate(LAYERS):
      if module in names:
        return number
    module = module.rpartition('.')[0]
  return len(LAYERS)   # an entry point: `python -m maml_tf.NAME`


@pytest.mark.parametrize('module', sorted(IMPORTS))
def test_it_imports_nothing_from_above(module):
  above = {name for name in IMPORTS[module] if layer_of(name) > layer_of(module)}
  assert not above


def test_no_modules_import_each_other_in_a_circle():
  def reaches(start: str) -> Set[str]:
    seen, ahead = set(), set(IMPORTS[start])
    while ahead:
      name = ahead.pop()
      if name not in seen:
        seen.add(name)
        ahead |= IMPORTS.get(name, set())
    return seen
  assert not [module for module in IMPORTS if module in reaches(module)]


def test_the_core_knows_no_configuration_and_no_flag():
  """`import maml_tf` is a library: what it needs is not what a command line needs."""
  number = len(CORE)
  of_the_core = [module for module in MODULES if module and layer_of(module) < number]
  assert 'inner_loop' in of_the_core and 'sources.images' in of_the_core
  for module in of_the_core:
    text = MODULES[module].read_text(encoding='utf-8')
    assert 'maml_tf.config' not in text, module
    assert 'import flags' not in text, module


@pytest.mark.parametrize('module', ['', 'config', 'problems', 'measures', 'paper.rows',
                                    'paper.records', 'meta_learners'])
def test_it_is_imported_without_tensorflow(module):
  name = f'maml_tf.{module}'.rstrip('.')
  subprocess.run([sys.executable, '-c', f'import sys, {name}; '
                  'assert "tensorflow" not in sys.modules'], check=True, cwd=REPOSITORY)
