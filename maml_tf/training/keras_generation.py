"""Which Keras wrote a checkpoint: 2, of TensorFlow up to 2.15, or 3, of those after it.

Their optimizers keep their state in other shapes and in another order; parameters are alike.
"""

from __future__ import annotations

from typing import Optional

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import trackable_object_graph_pb2

from maml_tf.errors import CheckpointError
from maml_tf.keras_models.functional_call import KERAS3
from maml_tf.training.checkpoint_files import OBJECT_GRAPH, UNREADABLE

_OPTIMIZERS = ('meta_optimizer', 'pretrain_optimizer')
# What only their optimizers hold: {child's name: generation}.
_CHILDREN = {'_index_dict': 2, '_trainable_variables': 3}
_WORDS = {2: 'Keras 2 (TensorFlow 2.15 or earlier)', 3: 'Keras 3 (TensorFlow 2.16 or later)'}


def require_same_keras(folder: str, path: Optional[str]) -> None:
  """Refuses a checkpoint whose optimizer the Keras that is here cannot go on with.

  Args:
    folder: of the run.
    path: of its newest checkpoint; None: there is none. One that cannot be read is left to
      those who read it.

  Raises:
    CheckpointError: naming both.
  """
  here = 3 if KERAS3 else 2
  before = None if path is None else written_by(path)
  if before not in (None, here):
    raise CheckpointError(
        f'The run in {folder} was trained by {_WORDS[before]}, with whose optimizers Keras '
        f'{here} (TensorFlow {tf.__version__}), which is here, cannot go on: go on with the '
        'former, test what is there with --train=False, or start over with --resume=False.')


def written_by(path: str) -> Optional[int]:
  """2 or 3; None where the checkpoint has no optimizer of Keras, or cannot be read."""
  try:
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        tf.train.load_checkpoint(path).get_tensor(OBJECT_GRAPH))
    optimizers = [graph.nodes[child.node_id] for child in graph.nodes[0].children
                  if child.local_name in _OPTIMIZERS]
    names = {child.local_name for optimizer in optimizers for child in optimizer.children}
  except (*UNREADABLE, DecodeError):
    return None
  found = {generation for name, generation in _CHILDREN.items() if name in names}
  return found.pop() if len(found) == 1 else None
