"""An environment of one's own: `gymnasium.Env` with `sample_tasks(n)` and `set_task(task)`.

  python main.py --datasource=gym --env=examples/own_environment.py:Thermostat

A room is heated and cooled. How warm it is to be is the task, which the policy is not told:
it has to find out from its rewards. Needs `pip install 'gymnasium>=1.0'`.
"""

import gymnasium
import numpy as np


class Thermostat(gymnasium.Env):
  """The temperature follows the action; the reward is minus the distance to the wanted one."""

  observation_space = gymnasium.spaces.Box(-50.0, 50.0, (2,), np.float64)
  action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float64)
  horizon = 50

  def __init__(self):
    self._wanted = 0.0

  def sample_tasks(self, n):
    return list(self.np_random.uniform(-1.0, 1.0, n))

  def set_task(self, task):
    self._wanted = task

  def reset(self, seed=None, options=None):
    super().reset(seed=seed)
    self._temperature = 0.1 * self.np_random.standard_normal()
    self._change = 0.0
    return self._observation(), {}

  def step(self, action):
    self._change = 0.8 * self._change + 0.1 * float(action[0])
    self._temperature += self._change - 0.05 * self._temperature
    return self._observation(), -abs(self._temperature - self._wanted), False, False, {}

  def _observation(self):
    return np.array([self._temperature, self._change])
