"""One step of many states of a MuJoCo model, in MuJoCo's own threads.

Calls from Python for each state take longer than the physics of a cheetah, and Python's
threads wait for each other between them; `mujoco.rollout` takes all states at once.
"""

from __future__ import annotations

import numpy as np

from maml_tf.rl.animals import Physics


class Stepper:
  """Steps states, whatever their number.

  A state is `[1 + nq + nv]`: time, positions, velocities.

  Args:
    physics: the model.
    threads: of MuJoCo's. Their number changes no bit.
  """

  def __init__(self, physics: Physics, threads: int = 1):
    from mujoco.rollout import Rollout
    self._model = physics.model
    self._rollout = Rollout(nthread=threads if threads > 1 else 0)
    self._data = [physics.mujoco.MjData(physics.model) for _ in range(threads)]

  def step(self, states: np.ndarray, controls: np.ndarray, warm: np.ndarray) -> np.ndarray:
    """The states after one step, `[states, 1 + nq + nv]`; not finite where the physics
    broke down.

    Args:
      states: `[states, 1 + nq + nv]`.
      controls: `[states, nu]`.
      warm: `[states, nv]`, accelerations at which the solver of the contacts starts: the
        nearer, the fewer iterations it needs. Results depend on them within its tolerance.
    """
    if not len(states):   # MuJoCo crashes
      return states
    found, _ = self._rollout.rollout(self._model, self._data, states,
                                     controls[:, np.newaxis], initial_warmstart=warm)
    return found[:, 0]
