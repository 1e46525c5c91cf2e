"""Reinforcement learning by MAML (sections 4.3 and 5.3, appendix A.2, algorithm 3).

`environments` says what a problem of control is, `policy` what acts in it, `rollouts` how
both meet. `advantages`, `meta_policy` and `trpo` are algorithm 3's three steps: judging
actions, adapting to a task, and the outer step. `training` puts them together,
`policy_learner` makes a Keras model of them, and `evaluation` measures. No module here knows
of flags or configurations, and importing any of them needs neither gymnasium nor MuJoCo.
"""

from __future__ import annotations

from maml_tf.lazily import imported

_HOMES = {   # {name: its module}
    'AdaptedPolicy': 'policy_learner',
    'Environment': 'environments',
    'GymnasiumTasks': 'gymnasium_tasks',
    'HeldOutTasks': 'task_streams',
    'Iterations': 'task_streams',
    'Locomotion': 'locomotion',
    'PointNavigation': 'point_navigation',
    'PolicyLearner': 'policy_learner',
    'Settings': 'settings',
    'TrustRegion': 'trpo',
    'policy_for': 'policy',
}

__all__ = list(_HOMES)   # noqa: PLE0604
__getattr__, __dir__ = imported(__name__, _HOMES)
