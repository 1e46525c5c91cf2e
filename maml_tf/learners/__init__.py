"""The nets that are meta-learned: explicit parameters, tasks as a leading axis."""

from maml_tf.learners.base import Learner, ParameterSpec
from maml_tf.learners.convolutional import Convolutional
from maml_tf.learners.fully_connected import FullyConnected
from maml_tf.learners.with_context import WithContext
from maml_tf.learners.with_head import WithHead

__all__ = ['Convolutional', 'FullyConnected', 'Learner', 'ParameterSpec', 'WithContext',
           'WithHead']
