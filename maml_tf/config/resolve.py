"""From what the user gave to a checked configuration."""

from __future__ import annotations

from typing import Any, Mapping

from maml_tf import problems
from maml_tf.config.choices import TRUST_REGION
from maml_tf.config.fits import check_given
from maml_tf.config.models import check_given_net
from maml_tf.config.presets import preset
from maml_tf.config.schema import Config, default_data_dir, from_values
from maml_tf.config.sections import field_types
from maml_tf.config.values import checked_type, with_expanded_paths
from maml_tf.errors import ConfigError
from maml_tf.problems.control import NO_TRUST_REGION


def resolve(given: Mapping[str, Any]) -> Config:
  """The configuration of what the user gave; the preset supplies the rest.

  Args:
    given: {field name: value}. What is given always wins over the preset.

  Raises:
    ConfigError: for an unknown name, a wrong value, or an impossible combination.
  """
  types = field_types()
  unknown = sorted(set(given) - set(types))
  if unknown:
    raise ConfigError(f'Unknown configuration values {unknown}; known are {sorted(types)}.')
  given = with_expanded_paths({name: checked_type(name, types[name], value)
                               for name, value in given.items()})
  datasource, num_classes = given.get('datasource', 'sinusoid'), given.get('num_classes')
  method = given.get('method', 'maml')
  data_dir = given.get('data_dir') or default_data_dir(datasource)
  values = preset(datasource, num_classes, given.get('update_batch_size'), method, data_dir)
  shots = given.get('train_update_batch_size', -1)
  ways = given.get('train_num_classes', -1)
  if max(shots, ways) >= 1:
    # The checkpoint to test was trained with other shots or ways, and its folder's name
    # says how it was trained: those values follow the tasks of then, not of now.
    trained = preset(datasource, ways if ways >= 1 else num_classes,
                     shots if shots >= 1 else given.get('update_batch_size'), method, data_dir)
    values.update({name: trained[name] for name in (
        'train_num_classes', 'train_query_size', 'meta_batch_size')})
  if given.get('conv') is False and 'max_pool' not in given:
    values['max_pool'] = False   # a net without convolutions has nothing to pool
  if given.get('norm', values['norm']) == 'None':
    values['per_step_norm'] = False   # nor has one without norms any for an update
  baseline = problems.named(datasource).baselines.get(given.get('baseline'))
  if baseline is not None:
    values.update(baseline.preset(values, given))
  if given.get('meta_optimizer', values['meta_optimizer']) != TRUST_REGION:
    values.update(NO_TRUST_REGION)
  values.update(given)
  config = from_values(values)
  check_given(given, config)
  check_given_net(given, config)
  return config
