"""Which variables of a model adapt to a task, as somebody chooses them."""

from __future__ import annotations

import fnmatch
from typing import Any, Callable, Iterable, List, Mapping, Union

import tensorflow as tf

from maml_tf.errors import ConfigError

# Which variables adapt: all; those whose name or layer's name fits a pattern; those of
# layers; those for which a function of the variable, or else of its layer, says so.
Adapted = Union[None, str, tf.keras.layers.Layer, List, Callable[[Any], bool]]


def adapted_names(variables: Mapping[str, Any], layers: List, adapt: Adapted) -> set:
  """The names of `variables` that `adapt` chooses."""
  if adapt is None:
    return set(variables)
  if callable(adapt) and not isinstance(adapt, tf.keras.layers.Layer):
    chosen = _fitting_function(variables, layers, adapt)
  else:
    choices = adapt if isinstance(adapt, (list, tuple)) else [adapt]
    chosen = set().union(*(_chosen(variables, layers, choice) for choice in choices))
  _require_some(chosen, adapt, variables)
  return chosen


def _require_some(chosen: set, choice: Any, variables: Mapping[str, Any]) -> None:
  if not chosen:
    raise ConfigError(f'adapt={choice!r} fits none of the trainable variables: choose from '
                      f'{", ".join(variables)}.')


def _chosen(variables: Mapping[str, Any], layers: List, choice) -> set:
  if isinstance(choice, str):
    # Without the model itself, whose name may fit as that of a layer in it does.
    model, *inner = layers
    owners = [layer for layer in inner if fnmatch.fnmatch(layer.name, choice)]
    names = _fitting(variables, choice, f'{model.name}/') | _owned(variables, owners)
    _require_some(names, choice, variables)
    return names
  if any(choice is layer for layer in layers):
    return _owned(variables, [choice])   # which may have none, as those of a slice
  raise ConfigError('adapt must be names of variables or layers, layers of the model, or a '
                    f'function of a variable or a layer. Received: {choice!r}, which is no '
                    'layer of it.')


def _fitting_function(variables: Mapping[str, Any], layers: List,
                      fits: Callable[[Any], bool]) -> set:
  """Those that it says, or, where it says none, those of the layers that it says."""
  def says(one: Any) -> bool:
    try:
      return fits(one)
    except AttributeError:   # it asks for what variables, or other layers, have not
      return False
  _, *inner = layers
  return ({name for name, variable in variables.items() if says(variable)}
          or _owned(variables, list(filter(says, inner))))


def _owned(variables: Mapping[str, Any], owners: List) -> set:
  owned = {id(variable) for owner in owners for variable in owner.trainable_variables}
  return {name for name, variable in variables.items() if id(variable) in owned}


def _fitting(names: Iterable[str], pattern: str, start: str) -> set:
  """Those that fit without the `start` that Keras 3 gives them all, or else with it, where a
  path is asked for."""
  found = {name for name in names
           if fnmatch.fnmatch(name.removeprefix(start), pattern)}
  return found or {name for name in names
                   if '/' in pattern and fnmatch.fnmatch(name, pattern)}
