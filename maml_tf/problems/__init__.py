"""The kinds of task, by the name that `--datasource` gives them.

A new one is a module here or anywhere else, with a subclass of `Problem`, and one
`register`.
"""

from maml_tf.problems.base import Problem
from maml_tf.problems.baseline import Baseline
from maml_tf.problems.control import PROBLEMS as CONTROL
from maml_tf.problems.images import MINIIMAGENET, OMNIGLOT
from maml_tf.problems.own_images import OWN
from maml_tf.problems.registry import baseline_names, named, names, register, unregister
from maml_tf.problems.sinusoid import Sinusoid

__all__ = ['Baseline', 'Problem', 'baseline_names', 'named', 'names', 'register',
           'unregister']

for _problem in (Sinusoid(), OMNIGLOT, MINIIMAGENET, OWN, *CONTROL):
  register(_problem)
