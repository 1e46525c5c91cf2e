"""Numbers on a command line: what is allowed, and one sentence for what is not."""

from __future__ import annotations

import argparse

import pytest

from maml_tf.argument_types import MOST, counts, number, whole


def test_what_is_allowed():
  assert whole(1)('7') == 7 and whole(0, 3)('3') == 3 and whole(0)(str(MOST)) == MOST
  assert counts(1)('600,2') == [600, 2] and counts(1, how_many=3)('1,2,3') == [1, 2, 3]
  assert number(above=0)('1e-9') == 1e-9 and number(least=0)('0') == 0


@pytest.mark.parametrize('kind, texts, allowed', [
    (whole(1), ['0', '-1', '1.5', 'x', '', '1_0', '٣', str(MOST + 1), '9' * 5000],
     'a whole number of 1 or more'),
    (whole(0, 3), ['4', '-1'], 'a whole number from 0 to 3'),
    (counts(2), ['', '1,2', '2,', '2;3', 'x'],
     'whole numbers of 2 or more, with commas between them'),
    (counts(1, how_many=3), ['1,2', '1,2,3,4', '1,2,x'],
     '3 whole numbers of 1 or more, with commas between them'),
    (number(above=0), ['0', '-1', 'nan', 'inf', 'x', ''], 'a finite number above 0'),
    (number(least=0), ['-1e-9', 'nan', 'inf'], 'a finite number of 0 or more')])
def test_what_is_not_is_said_with_what_is(kind, texts, allowed):
  for text in texts:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
      kind(text)
    assert str(caught.value) == f'{text!r} is not allowed: it must be {allowed}'
