"""The variables of an initialisation: their names in checkpoints, their first values."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.learners import Convolutional, FullyConnected, Learner, ParameterSpec
from maml_tf.learners.base import standard_normal
from maml_tf.meta_parameters import Extended, MetaParameters, attribute_names


class Named(Learner):
  """Parameters of these names, of a shape each."""

  def __init__(self, names, shape=(2,)):
    self._specs = tuple(ParameterSpec(name, shape, standard_normal) for name in names)

  parameter_specs = property(lambda self: self._specs)

  def __call__(self, parameters, inputs):
    return inputs


@pytest.mark.parametrize('net', [
    Convolutional((16, 16, 1), 2, 2, 'batch_norm', max_pool=True, spatial_mean=False),
    FullyConnected(1, (3, 3), 1, 'layer_norm')])
def test_the_papers_nets_keep_the_names_of_all_checkpoints(net):
  parameters = MetaParameters(net)
  for spec in net.parameter_specs:
    variable = getattr(parameters, spec.name.replace('/', '_'))
    np.testing.assert_array_equal(variable.numpy(), parameters.arrays()[spec.name])
  assert attribute_names(['context'], parameters) == {'context': 'context'}


NAMES = ['a/b_c', 'a_b/c', 'a_b_c', 'name', 'losses', 'trainable/weights', 'x_/y', 'x/_y']


def test_names_that_would_collide_are_variables_of_their_own():
  parameters = MetaParameters(Named(NAMES))
  assert parameters.name == 'parameters' and parameters.losses == []
  assert len(parameters.trainable_variables) == len(NAMES)
  values = {name: np.full(2, place, 'float32') for place, name in enumerate(NAMES)}
  parameters.assign(values)
  for name, value in parameters.arrays().items():
    np.testing.assert_array_equal(value, values[name])


def test_they_are_all_in_a_checkpoint(tmp_path):
  saved, read = (MetaParameters(Named(NAMES), seed=seed) for seed in (0, 1))
  path = tf.train.Checkpoint(parameters=saved).write(str(tmp_path / 'model'))
  status = tf.train.Checkpoint(parameters=read).read(path)
  status.assert_existing_objects_matched().expect_partial()
  for name, value in saved.arrays().items():
    np.testing.assert_array_equal(read.arrays()[name], value)


@pytest.mark.parametrize('wrong', [
    {'own': (2,)}, {'own': (2,), 'w': (3,)}, {'own': (2,), 'w': (2,), 'other': (2,)},
    {'w': (2,)}], ids=str)
def test_nothing_is_assigned_where_something_does_not_fit(wrong):
  own = [ParameterSpec('own', (2,), standard_normal)]
  both = Extended(MetaParameters(Named(['w'])), own, seed=0)
  before = both.arrays()
  with pytest.raises(ValueError, match='do not fit'):
    both.assign({name: np.full(shape, 7, 'float32') for name, shape in wrong.items()})
  for name, value in both.arrays().items():
    np.testing.assert_array_equal(value, before[name])
  both.assign({name: np.full(2, 7, 'float32') for name in before})
  assert all((value == 7).all() for value in both.arrays().values())


def test_no_two_parameters_of_a_large_net_start_alike():
  """Nor those of another seed; the first thousand are what they were."""
  names = [f'layer{place}/kernel' for place in range(1010)]
  values = [Named(names).initial_values(seed) for seed in (0, 1)]
  rows = np.concatenate([np.stack(list(one.values())) for one in values])
  assert len(np.unique(rows, axis=0)) == len(rows)
  expected = standard_normal(1000 + 7)((2,), dtype='float32')
  np.testing.assert_array_equal(values[1]['layer7/kernel'], expected)
