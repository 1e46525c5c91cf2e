"""The outer step on several devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from two_replicas import CASES

TESTS = Path(__file__).parent


@pytest.fixture(scope='module')
def compared():
  path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get('PYTHONPATH', '')])
  found = subprocess.run([sys.executable, TESTS / 'two_replicas.py'], capture_output=True,
                         text=True, check=False, env={**os.environ, 'PYTHONPATH': path},
                         timeout=600)
  assert found.returncode == 0, found.stderr[-3000:]
  return json.loads(found.stdout.splitlines()[-1])


@pytest.mark.parametrize('case', CASES)
def test_two_replicas_do_the_steps_of_one_device(compared, case):
  """Parameters, the optimizer's state and what is logged; a task that is not finite in
  step 2 stops both replicas there."""
  bad = case == 'not finite'
  assert compared[case]['error'] < 1e-12
  assert compared[case]['iterations'] == (2 if bad else 4)
  assert compared[case]['diverged'] == [bad, bad]
