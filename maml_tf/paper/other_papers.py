"""The values of other papers for methods that MAML is compared with.

Those that are 'as quoted' were not read in the papers themselves; docs/methods.md says where
they are quoted, and where quotations differ.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple, Tuple

# (data source, ways, shots) -> accuracy in %, as printed.
Accuracies = Mapping[Tuple[str, int, int], str]


class OfMethod(NamedTuple):
  """Of one method.

  Attributes:
    label: what a reader calls it.
    places: {data source: the paper}.
    updates: {(data source, ways): after how many}; 0: without an inner loop.
    accuracies: of each row.
    more: what else tells its runs from those of other methods; 'method' where a row is named
      after more than the method.
  """
  label: str
  places: Mapping[str, str]
  updates: Mapping[Tuple[str, int], int]
  accuracies: Accuracies
  more: Mapping[str, object] = {}


def _omniglot(*values: str) -> Accuracies:
  """5-way 1-shot, 5-shot, 20-way 1-shot, 5-shot."""
  return {('omniglot', ways, shots): value for (ways, shots), value
          in zip(((5, 1), (5, 5), (20, 1), (20, 5)), values)}


def _miniimagenet(*values: str) -> Accuracies:
  """5-way 1-shot, 5-shot."""
  return {('miniimagenet', 5, shots): value for shots, value in zip((1, 5), values)}


def _both(value: Any) -> Mapping[str, Any]:
  """Of both data sources."""
  return dict(omniglot=value, miniimagenet=value)


def _after(updates: int) -> Mapping[Tuple[str, int], int]:
  """As many for all tasks."""
  return {('omniglot', 5): updates, ('omniglot', 20): updates, ('miniimagenet', 5): updates}


_OF_PROTOTYPES: Accuracies = _miniimagenet('49.42 +- 0.78', '68.20 +- 0.66')
# The MAML paper's table 1 has nets without full context embeddings on Omniglot, and with them
# on mini-ImageNet.
_IN_TABLE_1 = 'table 1 (matching nets)'
_MATCHING: Accuracies = {**_omniglot('98.1', '98.9', '93.8', '98.5'),
                         **_miniimagenet('43.40 +- 0.78', '51.09 +- 0.71')}
_MATCHING_PLACES = dict(omniglot=_IN_TABLE_1,
                        miniimagenet='Ravi and Larochelle 2017, as quoted')
_SCALED: Mapping[str, object] = dict(method='matching', full_context=False, cosine_scale=30.0)

METHODS: Dict[str, OfMethod] = {
    'prototypical': OfMethod(
        'prototypical nets', _both('Snell et al. 2017, as quoted'), _after(0),
        {**_omniglot('98.8', '99.7', '96.0', '98.9'), **_OF_PROTOTYPES},
        dict(distance_scale=1.0)),
    # With a setting of this project: the net of these images has 1,600 features.
    'prototypical_scaled': OfMethod(
        'prototypical nets, distances scaled', _both('Snell et al. 2017, as quoted'),
        _after(0), _OF_PROTOTYPES, dict(method='prototypical', distance_scale=0.01)),
    'matching': OfMethod(
        'matching nets', _MATCHING_PLACES, _after(0),
        _MATCHING, dict(full_context=False, cosine_scale=1.0)),
    # Settings of this project, with which they reach the paper's on Omniglot, but for 20 ways
    # and 5 shots. There `matching_pooled` has the net of their paper; the schedule tells the
    # two apart, as on mini-ImageNet this one has max-pooling, too.
    'matching_scaled': OfMethod(
        'matching nets, cosines scaled', _MATCHING_PLACES, _after(0), _MATCHING,
        dict(_SCALED, meta_lr_schedule='constant')),
    'matching_full_context': OfMethod(
        'matching nets, full context, cosines scaled', _both(_IN_TABLE_1), _after(0),
        _miniimagenet('43.56 +- 0.84', '55.31 +- 0.73'), dict(_SCALED, full_context=True)),
    'matching_pooled': OfMethod(
        'matching nets, cosines scaled, max-pooling', _both(_IN_TABLE_1), _after(0),
        {('omniglot', 20, 5): '98.5'},
        dict(_SCALED, max_pool=True, meta_lr_schedule='halving')),
    'siamese': OfMethod(
        'Siamese nets', _both('table 1 (Siamese nets)'), _after(0),
        _omniglot('97.3', '98.4', '88.2', '97.0')),
    'meta_sgd': OfMethod(
        'Meta-SGD', _both('Li et al. 2017, as quoted'), _after(1),
        {**_omniglot('99.53', '99.93', '95.93', '98.97'),
         **_miniimagenet('50.47 +- 1.87', '64.03 +- 0.94')}),
    'boil': OfMethod('BOIL', _both('Oh et al. 2021, as quoted'), _after(1),
                     _miniimagenet('49.61', '66.45')),
    # The paper has two inner loops. This project's is its gradient descent, and the values are
    # of the other, which others quote; the flagfiles on Omniglot have both.
    'imaml': OfMethod(
        'iMAML', _both('Rajeswaran et al. 2019, Hessian-free, as quoted'),
        {('omniglot', 5): 16, ('omniglot', 20): 25, ('miniimagenet', 5): 10},
        {**_omniglot('99.50', '99.74', '96.18', '99.14'), **_miniimagenet('49.30 +- 1.88')}),
    'maml_plus_plus': OfMethod(
        'MAML++', _both('Antoniou et al. 2019, as quoted'), _after(5),
        {('omniglot', 20, 1): '97.65', ('omniglot', 20, 5): '99.33',
         **_miniimagenet('52.15 +- 0.26', '68.32 +- 0.44')}),
}
