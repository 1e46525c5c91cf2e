"""The result files of studies. No TensorFlow here."""

from __future__ import annotations

import glob
import os
from typing import Any, Dict, List, Mapping

from maml_tf.bounded import read_json
from maml_tf.errors import ConfigError
from maml_tf.files import as_json
from maml_tf.paper import records


def read_all(results: str) -> List[Dict[str, Any]]:
  """What each file holds, by data source and name.

  Raises:
    ConfigError: for a file that cannot be read.
  """
  found = []
  for path in sorted(glob.glob(os.path.join(glob.escape(results), 'studies', '*.json'))):
    try:
      found.append(read_json(path))
    except (OSError, ValueError) as error:
      raise ConfigError(f'{path} cannot be read as JSON ({error}): take it back from the '
                        'version control, or move it away.') from error
  return found


def write(result: Mapping[str, Any], results: str) -> None:
  """The study's file in that folder, and says where it is."""
  path = path_of(result, results)
  records.write_text(path, as_json(result, indent=1))
  print(f'Written: {path}')


def path_of(result: Mapping[str, Any], results: str) -> str:
  """Of a study's result: each data source has its own."""
  return os.path.join(results, 'studies', f'{stem_of(result)}.json')


def stem_of(result: Mapping[str, Any]) -> str:
  """Of the files of a study's result."""
  return f'{result["datasource"]}_{result["name"]}'


def require_not_less(name: str, datasource: str, length: float, seed: int, results: str
                     ) -> None:
  """Raises `ConfigError` where the study's file is of longer runs, or of another seed.

  Args:
    length: of a run now, in iterations or seconds.
  """
  for result in read_all(results):
    if (result['name'], result['datasource']) != (name, datasource):
      continue
    there = float(result['length'].split()[0].replace(',', ''))
    if there > length or result['seed'] != seed:
      raise ConfigError(
          f'{path_of(result, results)} is of {result["length"]} and seed {result["seed"]}, '
          f'and this would be of {length:,.0f} and seed {seed}: make it at least as long and '
          'of the same seed, choose another --results, or move the file away.')
