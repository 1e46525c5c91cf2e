"""What the report draws: histories, weights and studies, from the result files."""

from __future__ import annotations

import math
import os
from typing import Any, Dict, List, Optional, Sequence

from maml_tf.paper import records
from maml_tf.paper.records import Record
from maml_tf.paper.rows import Row
from maml_tf.training import history
from maml_tf.verification import plots, studies, study_files
from maml_tf.verification.verdicts import standing

# {K: {method: row}} of figures 2 and 3.
FIGURE_ROWS = {
    5: {'MAML': 'sinusoid_5shot', 'pre-trained': 'sinusoid_5shot_pretrained',
        'oracle': 'sinusoid_5shot_oracle'},
    10: {'MAML': 'sinusoid_10shot', 'pre-trained': 'sinusoid_10shot_pretrained',
         'oracle': 'sinusoid_10shot_oracle'},
}


def histories(row: Row, results: str) -> Dict[int, List[history.Line]]:
  """{seed: lines} of the seeds that have a record or a kept run."""
  trained = {record.seed: record.trained for record in records.read_all(row, results)}
  seeds = sorted({*trained, *records.seeds(row, records.KEPT_RUN, results)})
  return {seed: history.read(_history_file(row, seed, trained.get(seed, 0), results))
          for seed in seeds}


def _history_file(row: Row, seed: int, trained: int, results: str) -> str:
  """Of the run, as far as it is known: a kept one may have got further than the record."""
  if records.kept_iteration(row, seed, results) > trained:
    kept = records.file_of(row, seed, records.KEPT_RUN, results)
    return os.path.join(kept, history.HISTORY_FILE)
  return records.file_of(row, seed, '.history.csv', results)


def learning_curves(row: Row, results: str) -> Optional[bytes]:
  """Of a row's runs, as a PNG file; None without any."""
  labels = {}
  if not row.identity.get('meta_trained', True):
    labels['training'] = 'training'   # without inner updates
  if row.baseline.validation_label:
    labels['validation'] = row.baseline.validation_label
  return plots.learning_curves(row.label, histories(row, results), row.problem.measure,
                               **labels)


def figure_2_weights(rows: Sequence[Row], results: str) -> Dict[int, Dict[str, str]]:
  """{K: {method: path of the weights}} of those nets of figure 2 that there are."""
  known = {row.name: row for row in rows}
  found: Dict[int, Dict[str, str]] = {}
  for shots, methods in FIGURE_ROWS.items():
    for method, name in methods.items():
      if method == 'oracle' or name not in known:
        continue
      state = standing(known[name], records.read_all(known[name], results))
      if state.records:
        path = records.file_of(known[name], state.records[0].seed, '.npz', results)
        if os.path.exists(path):
          found.setdefault(shots, {})[method] = path
  return found


def figure_3_panels(rows: Sequence[Row], results: str
                    ) -> Dict[str, Dict[str, List[Record]]]:
  """{title: {method: the records that count}}, where there are some."""
  known = {row.name: row for row in rows}
  panels: Dict[str, Dict[str, List[Record]]] = {}
  for shots, methods in FIGURE_ROWS.items():
    found = {method: standing(known[name], records.read_all(known[name], results)).records
             for method, name in methods.items() if name in known}
    panels[f'{shots}-shot'] = {method: of_row for method, of_row in found.items() if of_row}
  return panels


def read_studies(results: str) -> List[Dict[str, Any]]:
  """The results of all studies, see `study_files.read_all`, with settings in words."""
  return [_as_shown(result) for result in study_files.read_all(results)]


def _as_shown(result: Dict[str, Any]) -> Dict[str, Any]:
  """With settings in words; and JSON has null for what was not finite."""
  for run in result['runs']:
    run['label'] = studies.in_words(run['label'])
    run['query'] = [{name: math.nan if value is None else value
                     for name, value in after.items()} for after in run['query']]
  return result
