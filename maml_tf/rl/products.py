"""In how many threads NumPy computes products of matrices.

Importing this needs no TensorFlow.
"""

from __future__ import annotations

import functools
from typing import ContextManager

import threadpoolctl


def one_thread_a_product() -> ContextManager[None]:
  """From now on NumPy computes each product in the thread that asks for it, all over this
  process; when what is returned ends, as `with` has it, as it did before.

  Products of policies are small, and two parts of the tasks ask for them at the same time. In
  the threads of NumPy's library, which wait for each other, sampling one rollout of each task
  took three times as long (docs/rl.md). Nor do the numbers depend on how many cores there
  are.
  """
  return _libraries().limit(limits=1, user_api='blas')


@functools.cache
def _libraries() -> threadpoolctl.ThreadpoolController:
  """To look for them takes some milliseconds."""
  return threadpoolctl.ThreadpoolController()
