"""In what two configurations differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict

if TYPE_CHECKING:
  from maml_tf.config.schema import Config


def differences(one: 'Config', other: 'Config', ignore=()) -> Dict[str, Any]:
  """{'section.field': (value in one, value in other)} where they differ.

  Args:
    one, other: the configurations.
    ignore: names of fields that may differ.
  """
  there = other.to_dict()
  return {f'{section}.{field}': (value, there[section][field])
          for section, fields in one.to_dict().items() for field, value in fields.items()
          if field not in ignore and value != there[section][field]}
