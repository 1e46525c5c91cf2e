"""The rows that this project verifies, with the paper's own numbers.

The values in `ROWS` are the only results in the repository that were typed in. A new row
is one more line of that table, and its flagfile.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from maml_tf import problems
from maml_tf.config import Config, ConfigError
from maml_tf.paper.control_rows import RETURNS
from maml_tf.paper.other_papers import METHODS
from maml_tf.problems import Baseline, Problem

# A message lists all that exist where these are few, and the first ones of many.
_MOST_LISTED, _LISTED = 12, 3
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclass(frozen=True)
class Row:
  """One row of a table, or one curve of a figure.

  Attributes:
    name: of the row and of its flagfile; the folder of its results.
    place: where the paper has it, 'table 1'.
    label: what a reader calls it.
    identity: {field of the configuration: value} that tells the row's runs from those
      of other rows, see `facts`.
    paper: {updates: the paper's value as the paper writes it, '98.7 +- 0.4' or '0.67'};
      empty where the paper has a curve only. Accuracies are in %.
    headline: the number of updates after which the row is judged.
    flagfile: path; None: flags/NAME.flags of the repository.
  """
  name: str
  place: str
  label: str
  identity: Mapping[str, Any]
  paper: Mapping[int, str]
  headline: int
  flagfile: Optional[str] = None

  @property
  def flagfile_path(self) -> str:
    return self.flagfile or os.path.join(REPOSITORY, 'flags', f'{self.name}.flags')

  @property
  def problem(self) -> Problem:
    """The kind of task."""
    return problems.named(self.identity['datasource'])

  @property
  def method(self) -> str:
    return self.identity.get('method', 'maml')

  @property
  def baseline(self) -> Baseline:
    """How theta is made."""
    return self.problem.baseline(self.identity.get('baseline', 'None'))

  def fits(self, config: Config) -> bool:
    """Whether `config` is of a run of this row."""
    known = facts(config)
    return all(known[name] == value for name, value in self.identity.items())


def facts(config: Config) -> Dict[str, Any]:
  """What rows are told apart by: the fields of the configuration, and

  meta_trained: whether there is meta-training at all (the pre-trained baseline and the
    oracle have none).
  """
  return {**config.to_values(),
          'meta_trained': config.training.metatrain_iterations > 0}


def _sinusoid(shots: int, **more) -> Dict[str, Any]:
  usual = dict(datasource='sinusoid', update_batch_size=shots, baseline='None',
               stop_grad=False, meta_trained=True, method='maml')
  return {**usual, **more}


def _images(datasource: str, ways: int, shots: int, **more) -> Dict[str, Any]:
  usual = dict(datasource=datasource, num_classes=ways, update_batch_size=shots, conv=True,
               stop_grad=False, meta_trained=True, method='maml', baseline='None')
  return {**usual, **more}


_PRETRAINED = dict(meta_trained=False)
_ORACLE = dict(meta_trained=False, baseline='oracle')
_AVERAGED = dict(meta_trained=False, baseline='averaged', averaged_regulariser='None')
_AVERAGED_L2 = {**_AVERAGED, 'averaged_regulariser': 'l2'}
_AVERAGED_TO_MEAN = {**_AVERAGED, 'averaged_regulariser': 'mean'}
_FINE_TUNING = dict(meta_trained=False, baseline='fine_tuning')
_NEAREST_NEIGHBOUR = dict(meta_trained=False, baseline='nearest_neighbour')
_FIRST_ORDER = dict(stop_grad=True)
_NOCONV = dict(conv=False)
_CONTEXT_VECTOR = dict(method='context_vector')
_REPTILE = dict(method='reptile')
_ANIL = dict(method='anil')

# Name (of the flagfile, too), place, label, identity, the paper's values, and the number
# of updates that counts: table 2's last column; 3 and 5 for Omniglot, 10 for
# mini-ImageNet (A.1). The oracle is not adapted: its error counts before any update.
# Methods of other papers come last, with those papers' values.
ROWS: Tuple[Row, ...] = (
    Row('omniglot_5way_1shot', 'table 1', 'Omniglot 5-way 1-shot, MAML',
        _images('omniglot', 5, 1), {3: '98.7 +- 0.4'}, 3),
    Row('omniglot_5way_5shot', 'table 1', 'Omniglot 5-way 5-shot, MAML',
        _images('omniglot', 5, 5), {3: '99.9 +- 0.1'}, 3),
    Row('omniglot_20way_1shot', 'table 1', 'Omniglot 20-way 1-shot, MAML',
        _images('omniglot', 20, 1), {5: '95.8 +- 0.3'}, 5),
    Row('omniglot_20way_5shot', 'table 1', 'Omniglot 20-way 5-shot, MAML',
        _images('omniglot', 20, 5), {5: '98.9 +- 0.2'}, 5),
    Row('omniglot_5way_1shot_noconv', 'table 1', 'Omniglot 5-way 1-shot, MAML, no conv',
        _images('omniglot', 5, 1, **_NOCONV), {3: '89.7 +- 1.1'}, 3),
    Row('omniglot_5way_5shot_noconv', 'table 1', 'Omniglot 5-way 5-shot, MAML, no conv',
        _images('omniglot', 5, 5, **_NOCONV), {3: '97.5 +- 0.6'}, 3),
    Row('omniglot_5way_1shot_first_order', 'not in the paper',
        'Omniglot 5-way 1-shot, MAML, first order',
        _images('omniglot', 5, 1, **_FIRST_ORDER), {}, 3),
    Row('omniglot_5way_1shot_noconv_first_order', 'not in the paper',
        'Omniglot 5-way 1-shot, MAML, no conv, first order',
        _images('omniglot', 5, 1, **_NOCONV, **_FIRST_ORDER), {}, 3),
    Row('omniglot_20way_1shot_noconv', 'table 1', 'Omniglot 20-way 1-shot, MAML, no conv',
        _images('omniglot', 20, 1, **_NOCONV), {}, 5),
    Row('omniglot_20way_5shot_noconv', 'table 1', 'Omniglot 20-way 5-shot, MAML, no conv',
        _images('omniglot', 20, 5, **_NOCONV), {}, 5),
    Row('miniimagenet_5way_1shot', 'table 1', 'mini-ImageNet 5-way 1-shot, MAML',
        _images('miniimagenet', 5, 1), {10: '48.70 +- 1.84'}, 10),
    Row('miniimagenet_5way_5shot', 'table 1', 'mini-ImageNet 5-way 5-shot, MAML',
        _images('miniimagenet', 5, 5), {10: '63.11 +- 0.92'}, 10),
    Row('miniimagenet_5way_1shot_first_order', 'table 1',
        'mini-ImageNet 5-way 1-shot, MAML, first order',
        _images('miniimagenet', 5, 1, **_FIRST_ORDER), {10: '48.07 +- 1.75'}, 10),
    Row('miniimagenet_5way_5shot_first_order', 'table 1',
        'mini-ImageNet 5-way 5-shot, MAML, first order',
        _images('miniimagenet', 5, 5, **_FIRST_ORDER), {10: '63.15 +- 0.91'}, 10),
    Row('miniimagenet_5way_1shot_fine_tuning', 'table 1',
        'mini-ImageNet 5-way 1-shot, fine-tuning',
        _images('miniimagenet', 5, 1, **_FINE_TUNING), {10: '28.86 +- 0.54'}, 10),
    Row('miniimagenet_5way_5shot_fine_tuning', 'table 1',
        'mini-ImageNet 5-way 5-shot, fine-tuning',
        _images('miniimagenet', 5, 5, **_FINE_TUNING), {10: '49.79 +- 0.79'}, 10),
    Row('miniimagenet_5way_1shot_nearest_neighbour', 'table 1',
        'mini-ImageNet 5-way 1-shot, nearest neighbour',
        _images('miniimagenet', 5, 1, **_NEAREST_NEIGHBOUR), {1: '41.08 +- 0.70'}, 1),
    Row('miniimagenet_5way_5shot_nearest_neighbour', 'table 1',
        'mini-ImageNet 5-way 5-shot, nearest neighbour',
        _images('miniimagenet', 5, 5, **_NEAREST_NEIGHBOUR), {1: '51.04 +- 0.65'}, 1),
    Row('omniglot_5way_1shot_context_vector', 'table 3',
        'Omniglot 5-way 1-shot, context vector',
        _images('omniglot', 5, 1, **_CONTEXT_VECTOR), {3: '94.9 +- 0.9'}, 3),
    Row('omniglot_5way_5shot_context_vector', 'table 3',
        'Omniglot 5-way 5-shot, context vector',
        _images('omniglot', 5, 5, **_CONTEXT_VECTOR), {3: '97.7 +- 0.3'}, 3),
    Row('sinusoid_5shot', 'table 2, figures 2, 3', 'Sinusoid 5-shot, MAML', _sinusoid(5),
        {1: '0.67', 5: '0.38', 10: '0.35'}, 10),
    Row('sinusoid_5shot_pretrained', 'table 2, figures 2, 3', 'Sinusoid 5-shot, pre-trained',
        _sinusoid(5, **_PRETRAINED), {1: '2.41', 5: '2.23', 10: '2.19'}, 10),
    Row('sinusoid_5shot_averaged', 'table 2', 'Sinusoid 5-shot, averaged nets',
        _sinusoid(5, **_AVERAGED), {1: '4.19', 5: '3.85', 10: '3.69'}, 10),
    Row('sinusoid_5shot_averaged_l2', 'table 2', 'Sinusoid 5-shot, averaged nets, L2',
        _sinusoid(5, **_AVERAGED_L2), {1: '7.18', 5: '5.69', 10: '5.60'}, 10),
    Row('sinusoid_5shot_averaged_to_mean', 'table 2',
        'Sinusoid 5-shot, averaged nets, regularised to the mean',
        _sinusoid(5, **_AVERAGED_TO_MEAN), {1: '2.91', 5: '2.72', 10: '2.71'}, 10),
    Row('sinusoid_5shot_oracle', 'figure 3', 'Sinusoid 5-shot, oracle',
        _sinusoid(5, **_ORACLE), {}, 0),
    Row('sinusoid_10shot', 'figures 2, 3', 'Sinusoid 10-shot, MAML', _sinusoid(10), {}, 10),
    Row('sinusoid_10shot_pretrained', 'figures 2, 3', 'Sinusoid 10-shot, pre-trained',
        _sinusoid(10, **_PRETRAINED), {}, 10),
    Row('sinusoid_10shot_oracle', 'figure 3', 'Sinusoid 10-shot, oracle',
        _sinusoid(10, **_ORACLE), {}, 0),
    Row('omniglot_5way_1shot_reptile', 'Nichol et al. 2018', 'Omniglot 5-way 1-shot, Reptile',
        _images('omniglot', 5, 1, **_REPTILE), {50: '97.68 +- 0.04'}, 50),
    Row('miniimagenet_5way_1shot_reptile', 'Nichol et al. 2018',
        'mini-ImageNet 5-way 1-shot, Reptile',
        _images('miniimagenet', 5, 1, **_REPTILE), {50: '49.97 +- 0.32'}, 50),
    Row('omniglot_5way_1shot_anil', 'not in a paper', 'Omniglot 5-way 1-shot, ANIL',
        _images('omniglot', 5, 1, **_ANIL), {}, 3),
    Row('miniimagenet_5way_1shot_anil', 'Raghu et al. 2020',
        'mini-ImageNet 5-way 1-shot, ANIL',
        _images('miniimagenet', 5, 1, **_ANIL), {10: '46.7 +- 0.4'}, 10),
)

_DATA = {'omniglot': 'Omniglot', 'miniimagenet': 'mini-ImageNet', 'sinusoid': 'Sinusoid',
         **{name: returns.label for name, returns in RETURNS.items()}}


def data_title(datasource: str) -> str:
  """What a reader calls a data source or an environment; the name of one without rows."""
  return _DATA.get(datasource, datasource)


def _rows_of_other_papers() -> Tuple[Row, ...]:
  return tuple(
      Row(f'{datasource}_{ways}way_{shots}shot_{method}', of_method.places[datasource],
          f'{data_title(datasource)} {ways}-way {shots}-shot, {of_method.label}',
          _images(datasource, ways, shots, **{'method': method, **of_method.more}),
          {of_method.updates[datasource, ways]: value},
          of_method.updates[datasource, ways])
      for method, of_method in METHODS.items()
      for (datasource, ways, shots), value in of_method.accuracies.items())


def _control_rows() -> Tuple[Row, ...]:
  """Of each environment: MAML and its baselines, and the context vector where the paper
  has it. Those that are not adapted are judged before any update."""
  rows = []
  for name, returns in RETURNS.items():
    def row(suffix, label, values, headline, name=name, returns=returns, place=None, **more):
      identity = {**dict(datasource=name, method='maml', baseline='None', stop_grad=False),
                  **more}
      rows.append(Row(f'{name}{suffix}', place or returns.place, f'{returns.label}, {label}',
                      identity, dict(enumerate(values)), headline))
    row('', 'MAML', returns.maml, 1)
    row('_pretrained', 'pre-trained', returns.pretrained, 1, baseline='pretrained')
    row('_random', 'random', returns.random, 1, baseline='random')
    row('_oracle', 'oracle', (returns.oracle,), 0, baseline='oracle')
    if returns.context_vector:
      row('_context_vector', 'context vector', returns.context_vector, 1,
          place='appendix C', method='context_vector')
  return tuple(rows)


ROWS += _rows_of_other_papers() + _control_rows()


def row_named(name: str, rows: Tuple[Row, ...] = ROWS) -> Row:
  """The row of that name.

  Raises:
    ConfigError: where there is none.
  """
  return named('row', name, rows)


def named(kind: str, name: str, items):
  """The one of `items` that has that name; `kind` is what the message calls them."""
  for item in items:
    if item.name == name:
      return item
  names = [item.name for item in items]
  near = difflib.get_close_matches(name, names, n=1)
  meant = f'did you mean {near[0]}? Allowed are' if near else 'allowed are'
  raise ConfigError(f'The {kind} {name!r} is unknown: {meant} {_some_of(names)}.')


def _some_of(names: Sequence[str]) -> str:
  if len(names) <= _MOST_LISTED:
    return ', '.join(names)
  return (f'{", ".join(names[:_LISTED])} and {len(names) - _LISTED} more, which '
          '`python -m maml_tf.verify` lists')


def row_tested(config: Config) -> Optional[Row]:
  """The row that a test of this configuration is one of.

  The paper's accuracies are those of the test classes: a test on others is of no row.
  """
  fitting = (row for row in ROWS if row.fits(config))
  return next(fitting, None) if config.problem.is_papers_test(config) else None


def numbers(value: str) -> Tuple[float, float]:
  """'98.7 +- 0.4' -> (98.7, 0.4); without an interval, 0.0 in its place."""
  found = re.fullmatch(r'(-?[0-9.]+)(?: \+- ([0-9.]+))?', value)
  if found is None:
    raise ValueError(f"A value of the paper is written '98.7 +- 0.4' or '0.67'. Received: "
                     f'{value!r}.')
  return float(found.group(1)), float(found.group(2) or 0)
