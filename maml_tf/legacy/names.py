"""The TF1 code's variables and this project's parameters: one name map for all nets.

Shapes and layouts are the same in both (kernels `[height, width, in, out]` and
`[in, out]`, features flattened in the order height, width, channels), so names
are all that has to be translated.

The rule, from the order in which the TF1 code creates its variables:

| here | TF1, convolutional net | TF1, fully connected net |
|---|---|---|
| kernel of hidden layer i = 1.. | `conv{i}` | `Variable_{2i-2}` |
| bias of hidden layer i | `Variable_{i-1}` | `Variable_{2i-1}` |
| kernel and bias of the output | `w5`, `b5` | the next two `Variable_..` |
| beta, gamma behind hidden layer i | scope `{i-1}` | scope `0` for i = 1, else `{i}` |

All of them are in the scope `model`; `Variable_0` is called `Variable`.
"""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Sequence, Tuple, TypeVar

from maml_tf.learners.base import Learner

T = TypeVar('T')

SCOPE = 'model'
OUTPUT = 'output'
_OF_NORMS = ('beta', 'gamma')
_LISTED = 6   # names in a message


def legacy_names(learner: Learner) -> Dict[str, str]:
  """{name of a parameter here: name of the TF1 variable}, in the order of the specs.

  Raises:
    ValueError: for a parameter that is none of a kernel, bias, beta and gamma.
  """
  kinds = [spec.name.rpartition('/') for spec in learner.parameter_specs]
  hidden = list(dict.fromkeys(layer for layer, _, _ in kinds if layer != OUTPUT))
  convolutional = any(len(spec.shape) == 4 for spec in learner.parameter_specs)
  names, unnamed = {}, 0
  for spec, (layer, _, kind) in zip(learner.parameter_specs, kinds):
    if kind in _OF_NORMS and layer != OUTPUT:
      name = f'{_norm_scope(hidden.index(layer), convolutional)}/{kind}'
    elif kind not in ('kernel', 'bias'):
      raise ValueError(f'The TF1 code has no such parameter. Received: {spec.name}.')
    elif convolutional and layer == OUTPUT:
      name = {'kernel': 'w5', 'bias': 'b5'}[kind]
    elif convolutional and kind == 'kernel':
      name = f'conv{hidden.index(layer) + 1}'
    else:
      name = f'Variable_{unnamed}' if unnamed else 'Variable'
      unnamed += 1
    names[spec.name] = f'{SCOPE}/{name}'
  return names


def norm_scopes(learner: Learner) -> Tuple[str, ...]:
  """The TF1 scopes of the net's normalisations, like 'model/0'."""
  return tuple(dict.fromkeys(
      name.rpartition('/')[0] for name in legacy_names(learner).values()
      if name.endswith(_OF_NORMS)))


def from_legacy(learner: Learner, tensors: Mapping[str, T]) -> Dict[str, T]:
  """{name here: value} of {TF1 name: value}; `mismatch` must have found nothing."""
  return {name: tensors[legacy] for name, legacy in legacy_names(learner).items()}


def to_legacy(learner: Learner, parameters: Mapping[str, T]) -> Dict[str, T]:
  """{TF1 name: value} of {name here: value}."""
  return {legacy: parameters[name] for name, legacy in legacy_names(learner).items()}


def mismatch(learner: Learner, shapes: Mapping[str, Sequence[int]]) -> Optional[str]:
  """What keeps tensors of these TF1 names and shapes from being the net's parameters.

  Args:
    learner: the net.
    shapes: {TF1 name: shape} of everything that is there.

  Returns:
    A clause like "lacks model/w5; has model/w6, which the net does not have", or
    None where every name and every shape matches.
  """
  expected = {legacy_names(learner)[spec.name]: tuple(spec.shape)
              for spec in learner.parameter_specs}
  received = {name: tuple(shape) for name, shape in shapes.items()}
  clauses = []
  missing = [name for name in expected if name not in received]
  if missing:
    clauses.append(f'lacks {_listed(missing)}')
  left_over = sorted(name for name in received if name not in expected)
  if left_over:
    clauses.append(f'has {_listed(left_over)}, which the net does not have')
  misshapen = [f'{name} of shape {list(received[name])} instead of {list(shape)}'
               for name, shape in expected.items()
               if name in received and received[name] != shape]
  if misshapen:
    clauses.append(f'has {_listed(misshapen)}')
  return '; '.join(clauses) or None


def _norm_scope(layer: int, convolutional: bool) -> int:
  # `forward_fc` names the scope of its first layer '0' and the others by their
  # number from 2 on; `forward_conv` counts from 0.
  return layer if convolutional or layer == 0 else layer + 1


def _listed(names: Sequence[str]) -> str:
  shown = ', '.join(names[:_LISTED])
  return shown if len(names) <= _LISTED else f'{shown} and {len(names) - _LISTED} more'
