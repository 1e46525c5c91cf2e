"""What the report draws: histories, weights and studies, from the result files."""

from __future__ import annotations

import math
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

from maml_tf.config import Config
from maml_tf.meta_learners import WITHOUT_INNER_LOOP
from maml_tf.paper import records
from maml_tf.paper.flagfiles import row_config
from maml_tf.paper.records import Record
from maml_tf.paper.rows import Row
from maml_tf.training import history
from maml_tf.verification import method_study, plots, studies, study_files
from maml_tf.verification.verdicts import counting

Panel = Dict[str, List[Record]]

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
  """Of a row's runs, as a PNG file, losses as means over examples; None without any."""
  labels = {}
  if not _trains_adapted(row):
    labels['training'] = 'training'
  if row.baseline.validation_label:
    labels['validation'] = row.baseline.validation_label
  found = {seed: lines for seed, lines in histories(row, results).items() if lines}
  if found:
    found = _with_mean_losses(row_config(row), found)
  return plots.learning_curves(row.label, found, row.problem.measure, **labels)


def _trains_adapted(row: Row) -> bool:
  """Whether what training measures is behind inner updates."""
  return (row.identity.get('meta_trained', True) and row.baseline.name == 'None'
          and row.method not in WITHOUT_INNER_LOOP)


def _with_mean_losses(config: Config, found: Mapping[int, Sequence[history.Line]]
                      ) -> Dict[int, Sequence[history.Line]]:
  from maml_tf import experiment  # and TensorFlow, which only what is drawn needs
  from maml_tf.training import mean_losses
  if not mean_losses.are_of_tasks(config):
    return dict(found)   # and no model, which of policies takes an environment
  model = experiment.build_model(config)
  return {seed: mean_losses.of_history(config, model, lines) for seed, lines in found.items()}


def figure_2_weights(rows: Sequence[Row], results: str) -> Dict[int, Dict[str, str]]:
  """{K: {method: path of the weights}} of those nets of figure 2 that there are."""
  found: Dict[int, Dict[str, str]] = {}
  for shots, names in FIGURE_ROWS.items():
    for method, of_row in counted(rows, names, results).items():
      path = of_row[0].path[:-len('.json')] + '.npz'
      if method != 'oracle' and os.path.exists(path):
        found.setdefault(shots, {})[method] = path
  return found


def figure_3_panels(rows: Sequence[Row], results: str) -> Dict[str, Panel]:
  """{title: {method: the records that count}}, where there are some."""
  return {f'{shots}-shot': counted(rows, names, results)
          for shots, names in FIGURE_ROWS.items()}


def counted(rows: Sequence[Row], names: Mapping[str, str], results: str) -> Panel:
  """{method: the records that count}, where there are some; `names`: {method: its row}."""
  known = {row.name: row for row in rows}
  found = {method: counting(records.read_all(known[name], results))
           for method, name in names.items() if name in known}
  return {method: of_row for method, of_row in found.items() if of_row}


def read_studies(results: str) -> List[Dict[str, Any]]:
  """The results of all studies, see `study_files.read_all`, with settings in words."""
  return [_as_shown(result) for result in study_files.read_all(results)]


def study_plot(result: Dict[str, Any]) -> bytes:
  """Of what `read_studies` gives, as a PNG file."""
  if result['name'] == method_study.NAME:
    return plots.methods(result)
  if len(result['runs']) > 1:   # whose losses are not drawn
    return plots.study(result)
  study = studies.study_named(result['name'])
  [run], [(_, config)] = result['runs'], studies.configs(study, result['datasource'])
  lines = _with_mean_losses(config, {0: run['history']})[0]
  return plots.study({**result, 'runs': [{**run, 'history': lines}]})


def _as_shown(result: Dict[str, Any]) -> Dict[str, Any]:
  """With settings in words; and JSON has null for what was not finite."""
  for run in result['runs']:
    run['label'] = studies.in_words(run['label'])
    run['query'] = [{name: math.nan if value is None else value
                     for name, value in after.items()} for after in run['query']]
  return result
