"""What the preparation scripts have in common: the writing of a plan, the reports."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from data_scripts import images
from data_scripts.file_names import shortened
from data_scripts.image_set_writer import ImageSetWriter
from data_scripts.plan import Plan, paths_of
from data_scripts.problems import Problems, printable
from data_scripts.progress import ProgressBar
from maml_tf import outputs, paths
from maml_tf.command_line import INTERRUPTED, REFUSED, OneSentenceParser
from maml_tf.errors import DataError
from maml_tf.measures import counted
from maml_tf.sources import image_set

# bytes of a file -> (image, a note on its stored form or None); raises ImageError.
Decoder = Callable[[Any], tuple[np.ndarray, Optional[str]]]


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
    listed = shortened([
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
        found.append(printable(f'{counted(len(names), "image")} {are} there {where} (take '
                                f'one of each away): {shortened(names)}'))
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
          f'{shortened(taken)}'] if taken else []


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
  print(f'Next: python {paths.of_script("main.py")} --datasource={request.name}{where}')


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
