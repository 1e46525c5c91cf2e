"""Names of a package that are imported when they are asked for."""

from __future__ import annotations

import importlib
from typing import Any, Callable, List, Mapping, Tuple


def imported(package: str, homes: Mapping[str, str]
             ) -> Tuple[Callable[[str], Any], Callable[[], List[str]]]:
  """The package's `__getattr__` and `__dir__` (PEP 562).

  Args:
    package: its `__name__`.
    homes: {name: the module of the package that has it}.
  """
  def get(name: str) -> Any:
    if name not in homes:
      raise AttributeError(f'module {package!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{package}.{homes[name]}'), name)

  def names() -> List[str]:
    return sorted({*vars(importlib.import_module(package)), *homes})
  return get, names
