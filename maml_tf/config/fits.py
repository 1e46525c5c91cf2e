"""Which fields have a meaning with which method or baseline, a line each."""

from __future__ import annotations

from typing import (
  TYPE_CHECKING,
  Any,
  Dict,
  FrozenSet,
  Iterable,
  Iterator,
  Mapping,
  NamedTuple,
  Tuple,
)

from maml_tf import problems
from maml_tf.config.choices import LEARNED_STEP_SIZES, TO_ZERO, TRUST_REGION
from maml_tf.errors import ConfigError
from maml_tf.meta_learners import WITHOUT_INNER_LOOP, known_method
from maml_tf.problems.control import NO_TRUST_REGION
from maml_tf.problems.refused import Refused

if TYPE_CHECKING:
  from maml_tf.config.schema import Config


class Owned(NamedTuple):
  """A field that some methods, baselines or data sources have and others do not.

  Attributes:
    field: its name.
    nothing: its value where it has no meaning.
    selector: the field that decides.
    owners: values of the selector with which the field has a meaning.
    lacking: what the others are, as in 'which has no context'.
  """
  field: str
  nothing: Any
  selector: str
  owners: Tuple[str, ...]
  lacking: str


# {field: its value in problems that are not of control}.
NO_CONTROL: Dict[str, Any] = dict(
    env=None, horizon=0, discount=0.0, gae_lambda=0.0, pretrain_rollouts=0,
    rollout_budget=None, inner_loss=None, test_later_step=0.0, simulation_threads=0,
    simulation_processes=1, **NO_TRUST_REGION)
# {argument of a method: the field that says it, where that has another name}.
FIELDS_OF_ARGUMENTS = {'cg_iterations': 'imaml_cg_iterations', 'first_order': 'stop_grad',
                       'shots': 'update_batch_size'}
_ALL_EXAMPLES = 'whose inner steps take all support examples'
_LAST_LOSS = 'which minimises the loss after the last update'
_NOT_KEPT = 'which does not keep the inner steps of the whole net'

OWNED = (
    Owned('inner_optimizer', 'sgd', 'method', ('reptile',), 'whose inner steps are sgd'),
    Owned('inner_batch_size', 0, 'method', ('reptile',), _ALL_EXAMPLES),
    Owned('test_inner_batch_size', 0, 'method', ('reptile',), _ALL_EXAMPLES),
    Owned('learned_step_sizes', 'None', 'method', ('maml', 'boil', 'maml_plus_plus'),
          'whose step sizes are not learned so'),
    Owned('multi_step_iterations', 0, 'method', ('maml_plus_plus',), _LAST_LOSS),
    Owned('first_order_iterations', 0, 'method', ('maml_plus_plus',),
          'whose order does not change'),
    Owned('per_step_norm', False, 'method', ('maml_plus_plus',),
          'whose normalisations are the same in every step'),
    Owned('proximal_weight', 0.0, 'method', ('imaml',), 'which has no proximal term'),
    Owned('imaml_cg_iterations', 0, 'method', ('imaml',), 'which solves no linear system'),
    Owned('train_num_classes', -1, 'method', WITHOUT_INNER_LOOP,
          'whose net has an output for each class'),
    Owned('context_size', 0, 'method', ('context_vector',), 'which has no context'),
    Owned('full_context', False, 'method', ('matching',), 'whose features are of one image'),
    Owned('cosine_scale', 1.0, 'method', ('matching',), 'which compares by no cosines'),
    Owned('distance_scale', 1.0, 'method', ('prototypical',),
          'which compares by no distances'),
    Owned('meta_lr_half_life', 2000, 'meta_lr_schedule', ('halving',),   # Snell et al. 2017
          'which halves nothing'),
    Owned('averaged_regulariser', 'None', 'baseline', ('averaged',),
          'which has no nets to regularise'),
    Owned('num_averaged_nets', 500, 'baseline', ('averaged',), 'which averages no nets'),
    *(Owned(field, nothing, 'meta_optimizer', (TRUST_REGION,), 'which has no trust region')
      for field, nothing in NO_TRUST_REGION.items()),
)
# {field: its value where nothing has a meaning for it}.
WITHOUT_OWNERS: Dict[str, Any] = {
    **NO_CONTROL, **{owned.field: owned.nothing for owned in OWNED}}

_LEARNED = LEARNED_STEP_SIZES[1:]
_MORE_PARAMETERS = 'which has more parameters than any net of the TF1 code'
# Of what is tested with step sizes that are meta-learned, like the parameters.
_LEARNED_STEP_SIZES = (
    Refused('tune_update_lr', False, 'whose step sizes are learned in training'),
    Refused('legacy_checkpoint', None, _MORE_PARAMETERS))

_NO_INNER_LOOP = (
    *(Refused(field, nothing, 'which has no inner loop') for field, nothing in (
        ('update_lr', 0.0), ('num_updates', 0), ('test_num_updates', 0), ('stop_grad', False),
        ('recompute_inner_steps', False), ('tune_update_lr', False),
        ('train_update_lr', -1.0))),
    Refused('pretrain_iterations', 0, 'whose net classifies nothing'),
    Refused('legacy_checkpoint', None, 'whose net lacks the last layer'))

# {selector: {value: what it refuses}}; what problems and baselines refuse is theirs.
_REFUSED: Dict[str, Dict[str, Tuple[Refused, ...]]] = {
    'method': {
        'reptile': (
            Refused('recompute_inner_steps', False, _NOT_KEPT),
            Refused('stop_grad', False, 'which has no second derivatives to leave out'),
            Refused('meta_gradient_clip', 0, 'whose outer step follows no gradient'),
            Refused('pretrain_iterations', 0,
                    'whose --meta_lr is no step size for gradients')),
        'anil': (Refused('recompute_inner_steps', False, _NOT_KEPT),),
        'meta_sgd': _LEARNED_STEP_SIZES,
        'maml_plus_plus': (Refused('legacy_checkpoint', None, _MORE_PARAMETERS),),
        'imaml': (
            Refused('recompute_inner_steps', False, _NOT_KEPT),
            Refused('stop_grad', False, 'which takes no derivative through inner steps')),
        **dict.fromkeys(WITHOUT_INNER_LOOP, _NO_INNER_LOOP)},
    'meta_lr_schedule': dict.fromkeys((*TO_ZERO, 'halving'), (
        Refused('pretrain_iterations', 0, 'which is for meta-training alone',
                'leave one of them out'),)),
    'learned_step_sizes': {kind: _LEARNED_STEP_SIZES
                           for kind in _LEARNED},
    'meta_optimizer': {TRUST_REGION: (
        Refused('meta_lr', 0.001, 'whose steps a trust region bounds', 'give --max_kl'),)},
}

_OF_THE_CHECKPOINT = (
    Refused('train_update_lr', -1.0, 'whose step sizes a test takes from the checkpoint',
            'leave it out, and give --update_lr as in training'),)
# {selector: {value: what changes nothing beside it}}, refused where it is given: presets and
# runs on disk have it.
_POINTLESS: Dict[str, Dict[Any, Tuple[Refused, ...]]] = {
    'norm': {'None': (
        Refused('per_step_norm', False, 'with which there are no normalisations'),)},
    'stop_grad': {True: (
        Refused('first_order_iterations', 0, 'with which all of them are of first order'),)},
    'num_updates': {1: (
        Refused('multi_step_iterations', 0, 'after which there is no loss but the last'),)},
    'method': {'meta_sgd': _OF_THE_CHECKPOINT},
    'baseline': {'oracle': (
        Refused('meta_gradient_clip', 0, 'whose gradients are not clipped'),)},
    'pretrain_iterations': {0: (
        Refused('pretrain_rollouts', 0, 'in which nothing is pre-trained'),)},
    'learned_step_sizes': dict.fromkeys(_LEARNED, _OF_THE_CHECKPOINT),
}


def check_given(given: Mapping[str, Any], config: 'Config') -> None:
  """Raises: ConfigError: for a field that is given, and changes nothing."""
  values = config.to_values()
  for selector, rules in _pointless(_known(values)):
    _refuse(selector, (rule for rule in rules if rule.field in given), values)


def check_fits(config: 'Config') -> None:
  """Raises: ConfigError: for a field that is given where it has no meaning."""
  values = config.to_values()
  known = _known(values)
  if not config.problem.acts:
    _check_nothing_acts(values)
  for owned in OWNED:
    if values[owned.field] != owned.nothing and known[owned.selector] not in owned.owners:
      owners = ' or '.join(f'--{owned.selector}={owner}' for owner in owned.owners)
      raise ConfigError(f'{_pair(owned.field, owned.selector, values)}, {owned.lacking}: '
                        f'leave it out, or give {owners}.')
  for selector, rules in _refused(config, known):
    _refuse(selector, rules, values)


def without_meaning(config: 'Config') -> FrozenSet[str]:
  """The fields that are refused with what `config` has, whatever their value."""
  known = _known(config.to_values())
  owned = {owned.field for owned in OWNED if known[owned.selector] not in owned.owners}
  of_control = () if config.problem.acts else NO_CONTROL
  return frozenset([*owned, *of_control,
                    *(rule.field for _, rules in _refused(config, known) for rule in rules)])


def pointless(config: 'Config') -> FrozenSet[str]:
  """The fields that change nothing beside what `config` has."""
  return frozenset(rule.field for _, rules in _pointless(_known(config.to_values()))
                   for rule in rules)


def _pointless(known: Mapping[str, Any]) -> Iterator[Tuple[str, Tuple[Refused, ...]]]:
  """(what decides, what changes nothing beside it)."""
  for selector, by_value in _POINTLESS.items():
    yield selector, by_value.get(known[selector], ())


def _refused(config: 'Config', known: Dict[str, Any]
             ) -> Iterator[Tuple[str, Tuple[Refused, ...]]]:
  """(what decides, what it refuses)."""
  yield 'baseline', config.baseline.refused
  yield 'datasource', config.problem.refused
  for selector, by_value in _REFUSED.items():
    yield selector, by_value.get(known[selector], ())


def _known(values: Dict[str, Any]) -> Dict[str, Any]:
  """The values; a method of a file is the one that it is a subclass of."""
  return {**values, 'method': known_method(values['method'])}


def _refuse(selector: str, rules: Iterable[Refused], values: Dict[str, Any]) -> None:
  for rule in rules:
    if values[rule.field] != rule.nothing:
      raise ConfigError(f'{_pair(rule.field, selector, values)}, {rule.reason}: '
                        f'{rule.advice}.')


def _check_nothing_acts(values: Dict[str, Any]) -> None:
  for field, nothing in NO_CONTROL.items():
    if values[field] != nothing:
      advice = _own_flag(field, values['method']) or (
          'leave it out, or give one of '
          + ', '.join(name for name in problems.names() if problems.named(name).acts))
      raise ConfigError(f'{_pair(field, "datasource", values)}, in which no policy acts: '
                        f'{advice}.')


def _own_flag(field: str, method: str) -> str:
  """What says of a method what `field` says of control; '' where nothing does."""
  own = FIELDS_OF_ARGUMENTS.get(field)
  known = known_method(method)
  has = any(own == owned.field and known in owned.owners for owned in OWNED)
  return f'--method={method} has --{own}' if has else ''


def _pair(field: str, selector: str, values: Dict[str, Any]) -> str:
  return f'--{field}={values[field]} does not fit --{selector}={values[selector]}'
