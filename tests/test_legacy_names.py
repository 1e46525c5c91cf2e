"""The name map to the TF1 code's variables, for every net."""

import pytest

from maml_tf import experiment
from maml_tf.config import resolve
from maml_tf.legacy.names import (
  from_legacy,
  legacy_names,
  mismatch,
  norm_scopes,
  to_legacy,
)


def learner_of(**given):
  return experiment.build_learner(resolve(given))


# As the TF1 code creates them: first the weights in the order of `construct_weights`,
# then what `contrib.layers` makes in the scopes of the norms.
SINUSOID = ['Variable', 'Variable_1', 'Variable_2', 'Variable_3', 'Variable_4', 'Variable_5']
FOUR_HIDDEN = [*SINUSOID, 'Variable_6', 'Variable_7', 'Variable_8', 'Variable_9']
CONVOLUTIONAL = ['conv1', 'Variable', 'conv2', 'Variable_1', 'conv3', 'Variable_2', 'conv4',
                 'Variable_3', 'w5', 'b5']
NETS = [
    ({'datasource': 'sinusoid'}, SINUSOID, ['0', '2']),
    ({'datasource': 'sinusoid', 'baseline': 'oracle'}, SINUSOID, ['0', '2']),
    ({'datasource': 'omniglot', 'conv': False}, FOUR_HIDDEN, ['0', '2', '3', '4']),
    ({'datasource': 'miniimagenet', 'conv': False}, FOUR_HIDDEN, ['0', '2', '3', '4']),
    ({'datasource': 'omniglot'}, CONVOLUTIONAL, ['0', '1', '2', '3']),
    ({'datasource': 'omniglot', 'max_pool': True}, CONVOLUTIONAL, ['0', '1', '2', '3']),
    ({'datasource': 'miniimagenet'}, CONVOLUTIONAL, ['0', '1', '2', '3']),
]
OF_NORM = {'batch_norm': ['beta'], 'layer_norm': ['beta', 'gamma'], 'None': []}


@pytest.mark.parametrize('norm', OF_NORM)
@pytest.mark.parametrize('given, weights, scopes', NETS, ids=[str(net[0]) for net in NETS])
def test_names_of_every_net(given, weights, scopes, norm):
  learner = learner_of(**given, norm=norm)
  names = legacy_names(learner)
  kinds = OF_NORM[norm]
  expected = [f'model/{name}' for name in weights] + [
      f'model/{scope}/{kind}' for scope in scopes for kind in kinds]
  assert sorted(names.values()) == sorted(expected)
  assert norm_scopes(learner) == (tuple(f'model/{scope}' for scope in scopes) if kinds
                                  else ())
  # In the order of the specs, the weights have TF1's order.
  assert [name for name in names.values() if name.count('/') == 1] == expected[:len(weights)]


def test_each_name_stands_for_the_layer_that_it_had():
  names = legacy_names(learner_of(datasource='omniglot', conv=False, norm='layer_norm'))
  assert names['dense1/kernel'] == 'model/Variable'
  assert names['dense1/bias'] == 'model/Variable_1'
  assert names['dense1/beta'] == 'model/0/beta'
  assert names['dense2/gamma'] == 'model/2/gamma'
  assert names['dense4/beta'] == 'model/4/beta'
  assert names['output/kernel'] == 'model/Variable_8'
  names = legacy_names(learner_of(datasource='miniimagenet'))
  assert names['conv3/kernel'] == 'model/conv3'
  assert names['conv3/bias'] == 'model/Variable_2'
  assert names['conv3/beta'] == 'model/2/beta'
  assert names['output/bias'] == 'model/b5'


def test_both_directions():
  learner = learner_of(datasource='omniglot')
  values = {spec.name: index for index, spec in enumerate(learner.parameter_specs)}
  assert from_legacy(learner, to_legacy(learner, values)) == values


def test_mismatch_names_everything():
  learner = learner_of(datasource='omniglot', num_filters=8)
  shapes = to_legacy(learner, {spec.name: spec.shape for spec in learner.parameter_specs})
  assert mismatch(learner, shapes) is None
  del shapes['model/Variable_2']
  shapes['model/w6'] = (3,)
  shapes['model/conv1'] = (3, 3, 3, 8)
  problem = mismatch(learner, shapes)
  assert 'lacks model/Variable_2' in problem
  assert 'has model/w6, which the net does not have' in problem
  assert 'model/conv1 of shape [3, 3, 3, 8] instead of [3, 3, 1, 8]' in problem


def test_a_long_list_is_cut():
  problem = mismatch(learner_of(datasource='omniglot'), {})
  assert problem == ('lacks model/conv1, model/Variable, model/0/beta, model/conv2, '
                     'model/Variable_1, model/1/beta and 8 more')


def test_a_net_that_the_tf1_code_does_not_have_is_refused():
  learner = learner_of(datasource='sinusoid')
  learner._specs = (learner._specs[0]._replace(name='dense1/scale'),)
  with pytest.raises(ValueError, match='dense1/scale'):
    legacy_names(learner)
