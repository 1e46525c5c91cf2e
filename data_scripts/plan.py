"""What there is in a source, and what of it becomes which class of which split."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from data_scripts import archives
from data_scripts.problems import Problems
from maml_tf.errors import DataError
from maml_tf.measures import counted

_KINDS_SHOWN = 4
# Times the images of a class that --skip_damaged takes.
_MOST_EXTRA = 1.1


@dataclass(frozen=True)
class Layout:
  """The counts that a data set has: classes of each split, images of a class."""
  train: int
  val: int
  test: int
  images_per_class: int

  @property
  def classes(self) -> dict[str, int]:
    return {'train': self.train, 'val': self.val, 'test': self.test}


@dataclass
class Plan:
  """Where every image of the prepared set comes from.

  Attributes:
    classes: {split: [(class name, [(source, name in the source)])]}, both sorted.
    sources: the open sources, in the order in which they are read.
    form: of the source, for the manifest.
  """
  classes: dict[str, list[tuple[str, list[tuple[int, str]]]]]
  sources: Sequence[Any]
  form: str

  def counts(self, split: str) -> list[tuple[str, int]]:
    return [(name, len(files)) for name, files in self.classes[split]]

  def places(self) -> list[dict[str, tuple[str, int]]]:
    """For each source {name: (split, index of the image in the split)}."""
    places: list[dict[str, tuple[str, int]]] = [{} for _ in self.sources]
    for split, classes in self.classes.items():
      files = [file for _, files in classes for file in files]
      for index, (source, name) in enumerate(files):
        places[source][name] = (split, index)
    return places


def paths_of(source: str) -> list[str]:
  """The paths in a comma-separated list; a comma in the name of a file is one."""
  parts, paths = source.split(','), []
  while parts:
    together = [os.path.expanduser(','.join(parts[:count]).strip())
                for count in range(1, len(parts) + 1)]
    length = max((count for count, each in enumerate(together, start=1)
                  if each and os.path.exists(each)), default=1)
    paths += [together[length - 1]] if together[length - 1] else []
    parts = parts[length:]
  return paths


def listed(sources: Sequence[Any], what: str) -> list[list[str]]:
  """The names in each source.

  Raises:
    DataError: naming every source that cannot be listed, and why.
  """
  names, errors = [], []
  for source in sources:
    try:
      names.append(source.names())
      _report_links_out(source)
    except DataError as error:
      errors.append(error)
  if len(errors) == 1:
    raise errors[0]
  problems = Problems()
  for error in errors:
    problems.add('-', str(error), remedy='see each of them')
  problems.raise_if_any(what)
  return names


def _report_links_out(source: Any) -> None:
  links = getattr(source, 'links_out', [])
  if links:
    print(f'{len(links)} of the links in {source} lead out of it, and what is there is '
          f'taken as part of the set; the first is {links[0]}')


def check_counts(plan: Plan, layout: Layout, problems: Problems,
                 least: Optional[int] = None) -> None:
  """Adds a problem for each count that is not the layout's.

  Args:
    plan: the files.
    layout: the counts.
    problems: receives them.
    least: images of a class that --skip_damaged can be content with; None: no number.
  """
  for split, expected in layout.classes.items():
    classes = plan.classes[split]
    if len(classes) != expected:
      problems.add(f'split {split}', f'{counted(len(classes), "class")}, expected {expected}',
                   remedy=f'name the folder of its classes {split}/, or complete the set'
                   if any(plan.classes.values()) and not classes else 'complete the set')
    for name, files in classes:
      if len(files) != layout.images_per_class:
        is_small = len(files) < layout.images_per_class
        problems.add(f'class {name}', f'{counted(len(files), "image")}, expected '
                     f'{layout.images_per_class}', kind='too few' if is_small else 'too many',
                     remedy='complete the set' if is_small else 'leave the images of the set',
                     is_count=least is not None and
                     least <= len(files) <= _MOST_EXTRA * layout.images_per_class)


def sorted_classes(files: Iterable[tuple[str, tuple[int, str]]]
                   ) -> list[tuple[str, list[tuple[int, str]]]]:
  """(class, file) pairs as sorted classes with files sorted by their base names."""
  classes: dict[str, list[tuple[int, str]]] = {}
  for name, file in files:
    classes.setdefault(name, []).append(file)
  return [(name, sorted(classes[name], key=lambda file: (file[1].rsplit('/', 1)[-1], file)))
          for name in sorted(classes)]


def split_at_random(names: Sequence[str], train: int, val: int, seed: int
                    ) -> dict[str, list[str]]:
  """A random split of classes, the same on every machine.

  The classes are ordered by a hash of seed and name and not by a random generator,
  whose results may change with the version of Python or NumPy.

  Args:
    names: of all classes, in any order.
    train, val: the number of classes of these splits; the last one takes the rest.
    seed: 0 or more.

  Returns:
    {split: sorted class names}.
  """
  order = sorted(names, key=lambda name: hashlib.sha256(f'{seed}:{name}'.encode()).digest())
  return {'train': sorted(order[:train]), 'val': sorted(order[train:train + val]),
          'test': sorted(order[train + val:])}


def what_is_there(names: Sequence[Sequence[str]]) -> str:
  """The kinds of files that a source has, as a phrase, for one that cannot be used."""
  every = [name for names_of_source in names for name in names_of_source]
  kinds = Counter(os.path.splitext(name)[1].lower() or 'without a suffix' for name in every)
  if not every:
    return 'it holds no files'
  counts = ', '.join(f'{count} {kind}' for kind, count in kinds.most_common(_KINDS_SHOWN))
  packed = any(name.lower().endswith(archives.ARCHIVE_SUFFIXES) for name in every)
  return (f'it holds {counted(len(every), "file")} ({counts}), the first of them '
          f'{every[0][:100]!r}'
          + (', and archives in an archive are not opened' if packed else ''))
