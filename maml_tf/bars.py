"""Bars of what takes a while, on standard error. No TensorFlow here."""

from __future__ import annotations

import sys
from typing import Iterable, Iterator, TypeVar

from tqdm import tqdm

Batch = TypeVar('Batch')


def of_a_test(batches: Iterable[Batch], unit: str = 'batch', shown: bool = True
              ) -> Iterator[Batch]:
  """The batches, with a bar on a terminal; elsewhere nothing is shown.

  Args:
    batches: of tasks.
    unit: what they are called.
    shown: False: nothing on a terminal, either.
  """
  # The first one waits for the test to be compiled: a bar at 0% would not say so.
  with tqdm(batches, desc='Compiling the test', unit=unit, leave=False, mininterval=0.5,
            file=sys.stderr, disable=None if shown else True) as bar:
    for number, batch in enumerate(bar):
      if number == 1:
        bar.set_description('Testing')
      yield batch
