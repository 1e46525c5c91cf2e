"""Batches of tasks: what is taken for one, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf import Batch
from maml_tf.episodes import as_episodes, as_tensors, require_consistent
from maml_tf.errors import ConfigError


def episodes(support_x=(2, 5, 4), support_y=(2, 5), query_x=(2, 7, 4), query_y=(2, 7)):
  return as_episodes(((tf.zeros(support_x), tf.zeros(support_y)),
                      (tf.zeros(query_x), tf.zeros(query_y))))


def test_what_fits_is_taken():
  require_consistent(episodes())
  require_consistent(episodes(query_x=(2, 3, 4), query_y=(2, 3, 1, 1)))


def test_sizes_may_be_open():
  @tf.function(input_signature=[tf.TensorSpec([None, None, 3]), tf.TensorSpec(None)])
  def both(inputs, labels):
    require_consistent(as_episodes(((inputs, labels), (inputs, labels))))
    return inputs
  both(tf.zeros([2, 2, 3]), tf.zeros([2, 2]))


@pytest.mark.parametrize('shapes, message', [
    (dict(query_x=(3, 7, 4), query_y=(3, 7)), 'other numbers of tasks'),
    (dict(query_x=(1, 7, 4), query_y=(1, 7)), 'other numbers of tasks'),
    (dict(support_y=(3, 5)), 'other numbers of tasks'),
    (dict(support_y=(2, 1)), 'other numbers of examples'),
    (dict(query_y=(2, 6)), 'other numbers of examples'),
    (dict(support_x=(5, 4), support_y=(5,)), 'without an axis of tasks'),
    (dict(query_y=()), 'without an axis of tasks'),
    (dict(query_x=(2, 0, 4), query_y=(2, 0)), 'without an example'),
    (dict(support_x=(0, 5, 4), support_y=(0, 5), query_x=(0, 7, 4), query_y=(0, 7)),
     'without an example')], ids=str)
def test_what_would_be_broadcast_or_is_empty_is_refused(shapes, message):
  with pytest.raises(ConfigError, match=f'{message}.*support inputs .*query inputs'):
    require_consistent(episodes(**shapes))


@pytest.mark.parametrize('given', [None, 3, (1, 2), ((1, 2), (3, 4, 5)), ((1, 2),)], ids=str)
def test_what_is_not_two_pairs_is_refused(given):
  with pytest.raises(ConfigError, match='A batch of tasks is'):
    as_episodes(given)


def test_lists_of_numbers_are_tensors():
  labels = as_tensors([[0, 1], [1, 0]], 'float32')
  assert labels.shape == (2, 2) and labels.dtype.is_integer
  nest = as_tensors({'a': [[0.5], [1.5]], 'b': [np.zeros(2), np.ones(3)]}, 'float64')
  assert nest['a'].shape == (2, 1) and nest['a'].dtype == tf.float64
  assert [value.shape[0] for value in nest['b']] == [2, 3]
  batch = as_tensors(Batch(np.zeros(2), np.zeros(2)), 'float32')
  assert isinstance(batch, Batch) and batch.inputs.dtype == tf.float32


@pytest.mark.parametrize('given', [
    [[0, 1], [1]], tf.ragged.constant([[1.0], [1.0, 2.0]]),
    tf.data.Dataset.range(3)], ids=['lists', 'ragged', 'data set'])
def test_what_is_no_tensor_is_refused(given):
  with pytest.raises(ConfigError, match='must be as long as|are made of tensors'):
    as_tensors(given, 'float32')
