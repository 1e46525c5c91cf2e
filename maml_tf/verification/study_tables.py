"""The tables of studies, in Markdown."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

from maml_tf import measures
from maml_tf.measures import Measure
from maml_tf.paper.records import Measured
from maml_tf.verification import cells, drawn, method_study


def table(result: Dict[str, Any]) -> List[str]:
  """Its lines, of what `drawn.read_studies` gives."""
  return (_of_methods if result['name'] == method_study.NAME else _of_settings)(result)


def methods_table(results: str, datasource: str) -> List[str]:
  """The lines of the table of methods on that data source."""
  [result] = [one for one in drawn.read_studies(results)
              if (one['name'], one['datasource']) == (method_study.NAME, datasource)]
  return table(result)


def _of_settings(result: Dict[str, Any]) -> List[str]:
  shown = _shown(measures.named(result['measure']))
  last = len(result['runs'][0]['query']) - 1
  lines = cells.header(['setting', 'iterations', 'before', '1 update', f'{last} updates',
                        'training'])
  for run in result['runs']:
    lines.append(cells.line([run['label'], f'{run["iterations"]:,}',
                             *(shown(run['query'][update]) for update in (0, 1, -1)),
                             cells.duration_text(run['seconds'])]))
  return lines


def _of_methods(result: Dict[str, Any]) -> List[str]:
  measure = measures.named(result['measure'])
  shown = _shown(measure)
  first, *_ = result['runs']
  lines = cells.header(['method', 'iterations', 'updates', measure.title,
                        f'less that of {first["label"]}, on the same tasks', 'training'])
  for run in result['runs']:
    lines.append(cells.line([run['label'], f'{run["iterations"]:,}', str(run['updates']),
                             shown(run['query'][run['updates']]),
                             '' if run is first else shown(run['paired']),
                             cells.duration_text(run['seconds'])]))
  return lines + [
      cells.line([one['label'], f'diverged at {one["iteration"]:,}', '', '', '', ''])
      for one in result.get('diverged', ())]


def _shown(measure: Measure) -> Callable[[Dict[str, float]], str]:
  """Of a mean and half of its interval, as the files have them, what is shown."""
  return lambda values: cells.number_text(
      Measured(measure.scale * values['mean'], measure.scale * values['ci95']), measure)
