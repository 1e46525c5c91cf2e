"""What no exact meta-gradient can be taken of: found in the traced graph, refused by name."""

from __future__ import annotations

import contextlib
import itertools
from typing import Iterable, Iterator, List, Sequence

import tensorflow as tf

from maml_tf.errors import ConfigError

# {operation of a gradient, without a gradient of its own or with a wrong one: what to use
# instead}. See `layer_table` for what was measured.
_OTHERWISE = 'take another layer, or, where it has a first one, first_order=True or Reptile'
_INEXACT = {
    **dict.fromkeys(('CudnnRNNBackprop', 'CudnnRNNBackpropV2', 'CudnnRNNBackpropV3'),
                    'in Keras 3 set layer.use_cudnn = False; in Keras 2 take '
                    'tf.keras.layers.RNN of an LSTMCell or GRUCell'),
    **dict.fromkeys(('ResizeBilinearGrad', 'ResizeBicubicGrad', 'ResizeNearestNeighborGrad',
                     'ScaleAndTranslateGrad'),
                    'resize before the net, or give the images a height and a width that '
                    'are known (not None)'),
    **dict.fromkeys(('CTCLoss', 'CTCLossV2'), 'take another loss, or first_order=True'),
    'EagerPyFunc': 'write what tf.py_function calls with operations of TensorFlow, or, where '
                   'no derivative goes through it, call it by tf.numpy_function',
    'SoftsignGrad': 'call tf.nn.softsign by that name',
    **dict.fromkeys(('LRNGrad', 'CropAndResizeGradImage', 'CropAndResizeGradBoxes',
                     'Dilation2DBackpropInput', 'Dilation2DBackpropFilter',
                     'FractionalMaxPoolGrad', 'FractionalAvgPoolGrad', 'SparseAddGrad'),
                    _OTHERWISE)}


@contextlib.contextmanager
def missing_derivatives() -> Iterator[None]:
  """Within, an operation without a derivative is refused by name.

  Raises:
    ConfigError: instead of TensorFlow's LookupError.
  """
  try:
    yield
  except LookupError as error:
    if 'gradient registry' not in str(error):
      raise
    operation = str(error).split(':')[-1].strip()
    raise ConfigError(f'TensorFlow has no derivative of {operation}, which the model '
                      f'computes between its variables and the loss: {_OTHERWISE}.'
                      ) from error


def refuse_inexact(graph: tf.Graph) -> None:
  """Args: graph: of a first derivative.

  Raises:
    ConfigError: where it has no exact derivative.
  """
  on_cpu = not tf.config.list_logical_devices('GPU')
  for node in itertools.chain.from_iterable(_parts(graph)):
    if node.op.startswith('Cudnn') and on_cpu:
      continue                 # Keras 2 keeps it beside the loop that a CPU runs
    if node.op in _INEXACT:
      raise ConfigError(
          f'The model computes {node.op} ({node.name}), which has no exact derivative in '
          f'TensorFlow, so that MAML has none of its meta-gradient: {_INEXACT[node.op]}.')
  for nodes in _parts(graph):
    for node in _stopped_means(nodes):
      raise ConfigError(
          f'The model computes TensorFlow\'s moments by a name of its own ({node.name}); '
          'their second derivative is wrong. Call tf.nn.moments by that name, for which an '
          'exact form is taken here.')


def refuse_captured(variables: Iterable, model) -> None:
  """Args: variables: that a traced call of `model` reads beside those given to it.

  Raises:
    ConfigError: where there are any.
  """
  names = sorted(str(getattr(variable, 'path', variable.name)) for variable in variables)
  if names:
    raise ConfigError(
        f'The model {model.name!r} reads variables that its adaptation would not change: '
        f'{", ".join(names)}. Received them by a Lambda layer, a tf.function around call, '
        'a stateful recurrent layer (stateful=True), the gradient function of a '
        'tf.custom_gradient, or in Keras 3 as a tf.Variable: give them to a layer by '
        'add_weight, take the tf.function off, set stateful=False, hand them to what has a '
        'gradient of its own as arguments.')


def refuse_assigned(names: List[str], model) -> None:
  """Args: names: of trainable variables that a call of `model` assigns."""
  if names:
    raise ConfigError(
        f'The model {model.name!r} assigns its trainable variables in a call: '
        f'{", ".join(names)}. No derivative is taken through an assignment: leave '
        'SpectralNormalization and the like out.')


def refuse_without_derivative(names: List[str], model) -> None:
  """Args: names: of trainable variables that are read within a function with a derivative of
  somebody's own."""
  if names:
    raise ConfigError(
        f'The model {model.name!r} reads {", ".join(names)} within a function of '
        'tf.custom_gradient or tf.recompute_grad, whose derivative would leave them out: '
        'hand them to the function as arguments. tf.recompute_grad is to be called by that '
        'name within the call of a layer, and not before.')


def refuse_unconnected(gradients: Iterable, model) -> None:
  """Args: gradients: of the inner loss, None where it does not depend on a variable."""
  if all(gradient is None for gradient in gradients):
    raise ConfigError(
        f'The loss depends on none of the variables of {model.name!r} that adapt: the '
        'inner loop would change nothing. A tf.function around call, an argmax, or labels '
        'in the place of outputs are what usually cuts the gradient.')


def _parts(graph: tf.Graph) -> Iterator[Sequence]:
  """The nodes of the graph, and of each function in it."""
  definition = graph.as_graph_def()
  yield definition.node
  for function in definition.library.function:
    yield function.node_def


def _stopped_means(nodes: Sequence) -> Iterator:
  """The nodes that stop the gradient of a mean within a squared difference, as `tf.nn.moments`
  does, whatever they are called."""
  named = {node.name: node for node in nodes}

  def inputs(node, operation: str) -> Iterator:
    found = (named.get(name.split(':')[0]) for name in node.input)
    return (one for one in found if one is not None and one.op == operation)
  for node in nodes:
    if node.op == 'SquaredDifference':
      yield from (stopped for stopped in inputs(node, 'StopGradient')
                  if any(inputs(stopped, 'Mean')))
