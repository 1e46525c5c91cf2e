"""What batch normalisation normalises by. The moving averages are never trained here."""

from __future__ import annotations

import collections
import contextlib
import functools
import inspect
import warnings
from typing import Any, Counter, Dict, Iterator, List, Tuple

import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.keras_models.inner_layers import attributes, is_of_keras

# 'batch', the paper's: each pass by its own batch. 'moving': constants, for nets that were
# trained before.
STATISTICS = ('batch', 'moving')


# In Keras 2 that over replicas is no subclass of `BatchNormalization`, but has its base.
_KIND = next((kind for kind in tf.keras.layers.BatchNormalization.__mro__
              if kind.__name__ == 'BatchNormalizationBase'),
             tf.keras.layers.BatchNormalization)


def normalisations(layers: List) -> List[tf.keras.layers.BatchNormalization]:
  return [layer for layer in layers if isinstance(layer, _KIND)]


def in_mode(layers: List, statistics: str, own: List) -> Iterator[Tuple[Any, str, Any]]:
  """(layer, attribute, value), see `attributes`: batch normalisation as `statistics` says,
  whatever the rest of the model does. Frozen layers use their moving averages.

  Args:
    own: further layers, of somebody's own, that keep averages.
  """
  for layer in (*normalisations(layers), *own):
    yield layer, 'call', _always(layer.call, statistics == 'batch')
  for layer in normalisations(layers):
    if getattr(layer, 'synchronized', False):   # with replicas, which have other tasks
      yield layer, 'synchronized', False


def may_average(layers: List) -> List:
  """Layers that are none of Keras's, with a training mode and numbers that are not trained."""
  return [layer for layer in layers
          if not is_of_keras(layer)
          and 'training' in inspect.signature(layer.call).parameters
          and any(variable.dtype in _FLOATS for variable in layer.non_trainable_variables)]


def owners(layers: List, variables: List) -> List:
  """The innermost of `layers` that have these variables."""
  found = {}
  for variable in variables:
    having = [layer for layer in layers
              if any(variable is one for one in layer.non_trainable_variables)]
    if having:
      owner = min(having, key=lambda layer: len(layer.weights))
      found[id(owner)] = owner
  return list(found.values())


_FLOATS = (tf.float32, tf.float64, 'float32', 'float64')


def without_memory(layers: List) -> Iterator[Tuple[Any, str, Any]]:
  """The moving averages become the statistics of the last batch, by which it is normalised."""
  for layer in normalisations(layers):
    yield layer, 'momentum', 0.0
    if getattr(layer, 'fused', False):   # which averages n / (n - 1) times that variance
      yield layer, 'fused', False


@contextlib.contextmanager
def warning_of_several_places(layers: List) -> Iterator[None]:
  """Within is one pass of the model; warns of what normalises several times in it."""
  calls: Counter[str] = collections.Counter()
  with attributes((layer, 'call', _counting(layer, calls))
                  for layer in normalisations(layers) if layer.trainable):
    yield
  several = [name for name, count in calls.items() if count > 1]
  if several:
    warnings.warn(
        f'{", ".join(several)} normalises at several places of the model, and keeps the '
        'averages of one: the copy for a task has those of the last place at all of them, so '
        'it computes something else than the inner loop did. Give each place a layer of its '
        "own, or take KerasLearner(model, statistics='moving').", UserWarning, stacklevel=2)


def _counting(layer: Any, calls: Counter[str]):
  call = layer.call

  @functools.wraps(call)
  def called(*arguments, **kwargs):
    calls[layer.name] += 1
    return call(*arguments, **kwargs)
  return called


def moving_averages(layers: List) -> Dict[int, Any]:
  """{id: variable}, of the layers that are not frozen."""
  return {id(variable): variable for layer in normalisations(layers) if layer.trainable
          for variable in (layer.moving_mean, layer.moving_variance)}


def refuse_renormalisation(layers: List) -> None:
  """Raises: ConfigError: for layers whose statistics are not those of the batch alone."""
  for layer in normalisations(layers):
    if getattr(layer, 'renorm', False) or getattr(layer, 'virtual_batch_size', None):
      raise ConfigError(
          f'{layer.name} has renorm=True or a virtual_batch_size, whose gradients Keras '
          'stops on purpose: make it without, or take statistics=\'moving\'.')


def _always(call, training: bool):
  names = list(inspect.signature(call).parameters)
  place = names.index('training') - 1 if 'training' in names else len(names)

  def called(inputs, *arguments, **kwargs):
    if len(arguments) > place:   # `layer(inputs, training)`
      arguments = (*arguments[:place], training, *arguments[place + 1:])
    else:
      kwargs['training'] = training
    return call(inputs, *arguments, **kwargs)
  return called
