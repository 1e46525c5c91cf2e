"""What the preparation scripts have in common: the plan, the writing, the reports."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

import numpy as np

from data_scripts import archives, images
from data_scripts.image_set_writer import ImageSetWriter
from data_scripts.progress import ProgressBar
from maml_tf import outputs
from maml_tf.command_line import INTERRUPTED, REFUSED, OneSentenceParser
from maml_tf.measures import counted
from maml_tf.sources import image_set
from maml_tf.sources.image_set import DataError

_PROBLEMS_SHOWN = 20
_REMEDIES_SHOWN = 3
_KINDS_SHOWN = 4
# Times the images of a class that --skip_damaged takes.
_MOST_EXTRA = 1.1
REPAIR = 'repair these files, or fetch them again'

# bytes of a file -> (image, a note on its stored form or None); raises ImageError.
Decoder = Callable[[Any], tuple[np.ndarray, Optional[str]]]


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


class Problems:
  """Everything that is wrong with a source, so that the user hears of it at once.

  Attributes:
    notes: what was passed over, a sentence each: no problem, but to be known.
  """

  def __init__(self):
    self._found: list[_Problem] = []
    self.notes: list[str] = []

  def add(self, what: str, reason: str, kind: str = '', remedy: str = REPAIR,
          is_count: bool = False) -> None:
    """Adds one.

    Args:
      what: the file, row or class.
      reason: what is wrong with it, as a phrase.
      kind: the same for all that have one cause; '': the reason is.
      remedy: what the user can do, as a phrase.
      is_count: only the number of images is not the set's, and --skip_damaged takes
        what is there.
    """
    self._found.append(_Problem(_printable(f'{what}: {reason}'), kind or reason, remedy,
                                is_count))

  def note(self, names: Sequence[str], why: str) -> None:
    """Notes that files were left out, if there are any."""
    if names:
      self.notes.append(_printable(f'Left out, since {why}: {archives.shortened(names)}'))

  def __bool__(self) -> bool:
    return bool(self._found)

  def counts(self) -> list[str]:
    """Those that --skip_damaged takes as they are."""
    return [problem.text for problem in self._found if problem.is_count]

  def without_counts(self) -> 'Problems':
    """All others."""
    others = Problems()
    others._found = [problem for problem in self._found if not problem.is_count]
    others.notes = self.notes
    return others

  def raise_if_any(self, source: str, complete_list: Optional[str] = None,
                   offer: str = '') -> None:
    """Raises a DataError that names all problems.

    Those of a rare kind come first: a cause has a few lines, and what follows from it
    may have thousands.

    Args:
      source: what was examined, as a phrase.
      complete_list: a file to write them into where they are more than fit on a
        screen; None, or where it cannot be written: they are all in the message.
      offer: follows what the user can do.
    """
    if not self._found:
      return
    kinds = Counter(problem.kind for problem in self._found)
    found = sorted(self._found, key=lambda problem: kinds[problem.kind])
    remedies = list(dict.fromkeys(problem.remedy for problem in found))[:_REMEDIES_SHOWN]
    count = len(found)
    heading, shown = '', [problem.text for problem in found]
    if count > _PROBLEMS_SHOWN and complete_list and _written(complete_list, shown):
      heading = f' (the first {_PROBLEMS_SHOWN} of them below, all of them in {complete_list})'
      shown = shown[:_PROBLEMS_SHOWN]
    lines = '\n'.join(f'  {line}' for line in (*shown, *self.notes))
    raise DataError(f'{source} cannot be used: {count} '
                    f'{"problem was" if count == 1 else "problems were"} found{heading}, '
                    f'and nothing was prepared: {"; ".join(remedies)}{offer}.\n{lines}')


class _Problem(NamedTuple):
  text: str
  kind: str
  remedy: str
  is_count: bool


def _printable(text: str) -> str:
  # Names come from archives: nothing in them shall move the terminal's cursor.
  return ''.join(character if character.isprintable() else ascii(character)[1:-1]
                 for character in text)


def _written(path: str, lines: Sequence[str]) -> bool:
  try:
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)   # as data/, in a new clone
    with open(path, 'w', encoding='utf-8') as file:
      file.writelines(f'{line}\n' for line in lines)
    return True
  except OSError:
    return False


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


@dataclass
class Outcome:
  """What decoding found, beside the images.

  Attributes:
    damaged: {split: {index of the image in the plan: 'file: reason'}}.
    stored_modes: how many images were stored in another mode than expected.
  """
  damaged: dict[str, dict[int, str]] = field(
      default_factory=lambda: {split: {} for split in image_set.SPLITS})
  stored_modes: Counter = field(default_factory=Counter)

  def damaged_files(self) -> list[str]:
    return [text for of_split in self.damaged.values() for _, text in sorted(of_split.items())]


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


def decode_all(plan: Plan, decoder: Decoder,
               put: Callable[[str, int, np.ndarray], None]) -> Outcome:
  """Reads and decodes every file of the plan, in stored order.

  Args:
    plan: the files.
    decoder: turns a file into an image.
    put: receives split, index and image. Files that are no image are left out.
  """
  outcome = Outcome()
  total = sum(count for split in image_set.SPLITS for _, count in plan.counts(split))
  with ProgressBar(total=total, unit='image', desc='images', disable=None) as progress:
    for source, places in zip(plan.sources, plan.places()):
      for item in source.read(places):
        split, index = places[item.name]
        try:
          if item.problem:
            raise images.ImageError(item.problem)
          image, note = decoder(item.data)
        except images.ImageError as error:
          outcome.damaged[split][index] = f'{item.name}: {error}'
        else:
          outcome.stored_modes.update([note] if note else [])
          put(split, index, image)
        progress.update()
  return outcome


@dataclass(frozen=True)
class Request:
  """What the user asked for.

  Attributes:
    name: of the set.
    source: as the user named it, for messages.
    out: the target folder.
    overwrite: replace a prepared set that is there.
    options: those that decide what the result is; JSON values.
    least_per_class: images that a class must keep where damaged ones are left out;
      None: the set has too few for that, and it is not offered.
    skip_damaged: leave damaged files out.
    image_shape: [height, width, channels] of the result; None: that of the set's name.
    notes_twins: says which images are there more than once.
  """
  name: str
  source: str
  out: str
  overwrite: bool
  options: Mapping[str, Any]
  least_per_class: Optional[int] = None
  skip_damaged: bool = False
  image_shape: Optional[tuple[int, int, int]] = None
  notes_twins: bool = False

  @property
  def complete_list(self) -> str:
    """The file that names every problem, where they are many."""
    return f'{self.out.rstrip("/")}-problems.txt'


def is_done_already(request: Request, plan_of: Optional[Callable[[], Plan]] = None) -> bool:
  """Whether the target is whole and made with the same options; says so if it is.

  Args:
    request: what the user asked for.
    plan_of: gives the plan of the source, where its classes and their numbers of images are
      to be the same, too; it is not asked where the source is not there any more.

  Raises:
    DataError: where it is whole, but made with other options, or of another source.
  """
  if request.overwrite:
    return False
  done = image_set.completed_preparation(request.out, request.name)
  if done is None:
    return False
  if done.get('options') != dict(request.options):
    raise DataError(f'The folder {request.out!r} holds {request.name} prepared with the '
                    f'options {done.get("options")}, and {dict(request.options)} was asked '
                    'for: choose another --out, or replace it with --overwrite.')
  if plan_of is not None and all(map(os.path.exists, paths_of(request.source))):
    _require_same_files(request, plan_of(), done)
  print(f'{request.out} is already complete: {request.name}, checked, made with the same '
        'options. Nothing was done; --overwrite prepares it again.')
  _print_next(request)
  return True


def _require_same_files(request: Request, plan: Plan, done: Mapping[str, Any]) -> None:
  manifest = image_set.read_manifest(request.out, request.name)['splits']
  was = {(split, row['name']): row['count'] for split in image_set.SPLITS
         for row in manifest[split]['classes']}
  now = {(split, name): count for split in image_set.SPLITS
         for name, count in plan.counts(split)}
  if done.get('skipped_files'):   # what is there is less than what was given
    was, now = dict.fromkeys(was), dict.fromkeys(now)
  differing = sorted(key for key in {*was, *now} if was.get(key, 0) != now.get(key, 0))
  if differing:
    listed = archives.shortened([
        f'{split}/{name}: {counted(was.get((split, name), 0), "image")}, now '
        f'{now.get((split, name), 0)}'
        for split, name in differing])
    raise DataError(f'The folder {request.out!r} holds {request.name} prepared of other files '
                    f'than those of {request.source!r} ({listed}): choose another --out, or '
                    'replace it with --overwrite.')


class Twins:
  """Images that are there more than once, pixel by pixel: one to learn from that is also one
  to ask for, or that training and testing share, makes results better than they are."""

  def __init__(self):
    self._places: dict[bytes, list[tuple[int, int]]] = {}   # (number of the split, index)

  def see(self, split: str, index: int, image: np.ndarray) -> None:
    key = hashlib.sha256(image.tobytes()).digest()
    self._places.setdefault(key, []).append((image_set.SPLITS.index(split), index))

  def sentences(self, plan: Plan) -> list[str]:
    """One on those in two splits, and one on those in one."""
    files = [[name for _, of_class in plan.classes[split] for _, name in of_class]
             for split in image_set.SPLITS]
    pairs = sorted((first, other) for places in self._places.values()
                   for first, *others in [sorted(places)] for other in others)
    found = []
    for are_in_two, where in ((True, 'in two splits, so that testing meets what training saw'),
                              (False, 'twice in a split')):
      names = [f'{files[split][index]} and {files[other][at]}'
               for (split, index), (other, at) in pairs if (split != other) == are_in_two]
      if names:
        are = 'is' if len(names) == 1 else 'are'
        found.append(_printable(f'{counted(len(names), "image")} {are} there {where} (take '
                                f'one of each away): {archives.shortened(names)}'))
    return found


def prepare(request: Request, plan: Plan, decoder: Decoder, problems: Problems) -> None:
  """Writes the prepared set of a plan, and prints a summary.

  Args:
    request: what the user asked for.
    plan: the files.
    decoder: turns a file into an image.
    problems: what was found wrong up to here. Where there is something, the files
      are still decoded, so that all problems are reported together.

  Raises:
    DataError: for any problem of the source, or of the target.
  """
  started = time.monotonic()
  taken = problems.counts() if request.skip_damaged else []
  if request.skip_damaged:
    problems = problems.without_counts()
  if problems:
    outcome = decode_all(plan, decoder, lambda *_: None)
    _raise_if_unusable(request, plan, outcome, problems)
  with ImageSetWriter(request.out, request.name, request.overwrite,
                      request.image_shape) as writer:
    with contextlib.ExitStack() as stack:
      splits = {split: stack.enter_context(writer.split(split, plan.counts(split)))
                for split in image_set.SPLITS}
      twins = Twins()

      def put(split: str, index: int, image: np.ndarray) -> None:
        splits[split].put(index, image)
        if request.notes_twins:
          twins.see(split, index, image)
      outcome = decode_all(plan, decoder, put)
      _raise_if_unusable(request, plan, outcome, problems)
      problems.notes += twins.sentences(plan)
    writer.finish({'options': dict(request.options), 'source_form': plan.form,
                   'skipped_files': outcome.damaged_files() + taken,
                   'stored_modes': dict(sorted(outcome.stored_modes.items())),
                   **({'notes': problems.notes} if problems.notes else {})})
  _print_summary(request, outcome, [*problems.notes, *_counts_in_words(taken)],
                 time.monotonic() - started)


def _counts_in_words(taken: Sequence[str]) -> list[str]:
  return [f'Taken although not complete ({image_set.MANIFEST} names all): '
          f'{archives.shortened(taken)}'] if taken else []


def _raise_if_unusable(request: Request, plan: Plan, outcome: Outcome,
                       problems: Problems) -> None:
  """Raises a DataError for `problems`, and for what decoding found.

  With --skip_damaged that is the classes which leaving files out makes too small; the
  episodes of a class would be the same few images again and again, or impossible.
  Without it, it is every damaged file, and --skip_damaged is offered where it helps.
  """
  offer = ''
  too_small = _too_small_classes(request, plan, outcome)
  if request.skip_damaged:
    for name, left in too_small:
      problems.add(f'class {name}', f'{left} undamaged images, at least '
                                    f'{request.least_per_class} are needed')
  else:
    if request.least_per_class is not None and not (problems.without_counts() or too_small):
      offer = ', or leave them out with --skip_damaged'
    for text in outcome.damaged_files():
      problems.add(*text.split(': ', 1))
  problems.raise_if_any(f'The source {request.source!r}', request.complete_list, offer)


def _too_small_classes(request: Request, plan: Plan, outcome: Outcome
                       ) -> list[tuple[str, int]]:
  """(name, undamaged images) of the classes that damage makes too small."""
  found = []
  for split in image_set.SPLITS:
    index = 0
    for name, count in plan.counts(split):
      left = sum(place not in outcome.damaged[split]
                 for place in range(index, index + count))
      index += count
      if left < (request.least_per_class or 0) and left < count:
        found.append((name, left))
  return found


def _print_summary(request: Request, outcome: Outcome, notes: Sequence[str],
                   seconds: float) -> None:
  print(f'Prepared {request.name} in {request.out} ({seconds:.1f} s):')
  for split, entry in image_set.read_manifest(request.out, request.name)['splits'].items():
    counts = [row['count'] for row in entry['classes']]
    print(f'  {split:5}  {len(counts):5} classes  {sum(counts):6} images')
  for mode, count in sorted(outcome.stored_modes.items()):
    kind = 'grey' if request.image_shape and request.image_shape[2] == 1 else 'RGB'
    were = 'was' if count == 1 else 'were'
    print(f'  {counted(count, "image")} {were} stored as {mode} and {were} converted to '
          f'{kind}.')
  for note in notes:
    print(f'  {note}.')
  with contextlib.suppress(OSError):   # of an earlier attempt
    os.unlink(request.complete_list)
  skipped = outcome.damaged_files()
  if skipped:
    print(f'  {len(skipped)} damaged images were left out; {image_set.MANIFEST} names them.')
  _print_next(request)


def _print_next(request: Request) -> None:
  is_default = request.out == default_out(request.name)
  where = '' if is_default else f' --data_dir={shlex.quote(request.out)}'
  print(f'Next: python main.py --datasource={request.name}{where}')


def default_out(name: str) -> str:
  """Where training looks for a set if it is not told."""
  return f'data/{name}'


def argument_parser(description: str) -> argparse.ArgumentParser:
  return OneSentenceParser(
      description=description, allow_abbrev=False,
      formatter_class=argparse.RawDescriptionHelpFormatter)


def exit_code_of(work: Callable[[], None]) -> int:
  """Runs a script's work; its failures become a sentence on stderr and an exit code.

  Returns:
    0; 2 for what the user can put right; 130 after an interrupt.
  """
  if hasattr(sys.stdout, 'reconfigure'):   # names of files need not be text
    sys.stdout.reconfigure(errors='backslashreplace')
  with outputs.lasting():
    try:
      work()
    except DataError as error:
      outputs.say(str(error))
      return REFUSED
    except OSError as error:
      outputs.say(f'The files cannot be read or written ({error}): check the paths, their '
                  'permissions and the space on the disk.')
      return REFUSED
    except KeyboardInterrupt:
      outputs.say('Interrupted: nothing half-made was put in place; the same command starts '
                  'again.')
      return INTERRUPTED
  return 0


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
