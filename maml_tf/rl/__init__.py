"""Reinforcement learning by MAML (sections 4.3 and 5.3, appendix A.2, algorithm 3).

`environments` says what a problem of control is, `policy` what acts in it, `rollouts` how
both meet. `advantages`, `meta_policy` and `trpo` are algorithm 3's three steps: judging
actions, adapting to a task, and the outer step. `training` puts them together, and
`evaluation` measures. No module here knows of flags or configurations, and importing any
of them needs neither gymnasium nor MuJoCo.
"""
