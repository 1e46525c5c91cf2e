"""Draws small data sets that can be learned, to try the code without the real ones.

  python data_scripts/make_sample_data.py --datasource=omniglot --out=sample
  python main.py --datasource=omniglot --data_dir=sample --num_classes=5

The classes of omniglot are characters of a few random strokes, those of miniimagenet
are coloured shapes; the images of a class differ as drawings and photographs of one
thing do. Accuracies on them say nothing about the real sets.

--form=prepared (default) writes what training reads. --form=source writes what the
preparation scripts read: the two zips of Omniglot, or the archives and CSV files of
mini-ImageNet. Those scripts insist on the real counts, so a source is only useful to
them with --classes=1100,100,423 --images_per_class=20, or --classes=64,16,20
--images_per_class=600.
"""

from __future__ import annotations

import argparse
import colorsys
import io
import os
import random
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional, Union

if not __package__:   # run as a file: the folder above is where the packages are
  sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

import numpy as np
from PIL import Image, ImageDraw

from data_scripts import preparation, prepare_miniimagenet, prepare_omniglot
from data_scripts.plan import Layout
from data_scripts.problems import Problems
from maml_tf import paths
from maml_tf.argument_types import counts, whole
from maml_tf.errors import DataError

DATASOURCES = ('omniglot', 'miniimagenet')
FORMS = ('prepared', 'source')
_CHARACTERS_PER_ALPHABET = 10
_GOLDEN_RATIO = 0.6180339887   # steps of it spread hues evenly, however many there are
_SHAPES = ('disc', 'square', 'triangle', 'ring', 'cross')
_ZIP_DATE = (2016, 1, 1, 0, 0, 0)


def main(argv: Optional[Sequence[str]] = None) -> int:
  """The script. Args: argv, None: those of the process. Returns: the exit code."""
  arguments = _arguments(argv)
  return preparation.exit_code_of(lambda: _make(arguments))


def _arguments(argv: Optional[Sequence[str]]) -> argparse.Namespace:
  parser = preparation.argument_parser(__doc__)
  parser.add_argument('--datasource', choices=DATASOURCES, required=True)
  parser.add_argument('--out', type=paths.argument, required=True, help='folder to write')
  parser.add_argument('--form', choices=FORMS, default=FORMS[0],
                      help='default: %(default)s')
  parser.add_argument('--classes', type=counts(1, how_many=3), default=(12, 6, 8),
                      metavar='TRAIN,VAL,TEST', help='default: 12,6,8')
  parser.add_argument('--images_per_class', type=whole(1), default=20,
                      help='default: %(default)s')
  parser.add_argument('--seed', type=whole(0), default=0,
                      help='of the drawings (default: %(default)s)')
  parser.add_argument('--overwrite', action='store_true',
                      help='replace a prepared set in --out')
  return parser.parse_args(argv)


def _make(arguments: argparse.Namespace) -> None:
  layout = Layout(*arguments.classes, arguments.images_per_class)
  if arguments.form == 'source':
    write_source(arguments.datasource, arguments.out, layout, arguments.seed)
    print(f'Wrote a sample source of {arguments.datasource} to {arguments.out}.')
  else:
    write_prepared(arguments.datasource, arguments.out, layout, arguments.seed,
                   arguments.overwrite)


def write_source(datasource: str, out: Union[str, Path], layout: Layout,
                 seed: int) -> None:
  """Writes a sample in the form in which users have the real set.

  Args:
    datasource: 'omniglot': images_background.zip and images_evaluation.zip;
      'miniimagenet': images-SPLIT.zip and SPLIT.csv.
    out: a folder that does not exist or is empty. It appears only when it is whole.
    layout: the counts.
    seed: of the drawings. The same seed gives the same files (with one version of
      Pillow).

  Raises:
    DataError: where `out` is not empty.
  """
  out = Path(out)
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise DataError(f'{str(out)!r} exists and is not an empty folder: choose another --out.')
  out.parent.mkdir(parents=True, exist_ok=True)
  staging = Path(tempfile.mkdtemp(prefix=f'.{out.name}.', dir=out.parent))
  try:
    writer = {'omniglot': _write_omniglot, 'miniimagenet': _write_miniimagenet}[datasource]
    writer(staging, layout, seed)
    staging.chmod(0o755)   # mkdtemp makes it private
    os.replace(staging, out)
  except BaseException:
    shutil.rmtree(staging, ignore_errors=True)
    raise


def write_prepared(datasource: str, out: Union[str, Path], layout: Layout,
                   seed: int, overwrite: bool = False) -> None:
  """Writes a sample in the form that `image_set.load_split` reads.

  Args: as `write_source`; overwrite: replace a prepared set in `out`.

  Raises:
    DataError: where `out` holds something that may not be replaced.
  """
  options = {'sample': True, 'seed': seed, 'classes': list(layout.classes.values()),
             'images_per_class': layout.images_per_class}
  request = preparation.Request(name=datasource, source='sample', out=str(out),
                                overwrite=overwrite, options=options)
  if preparation.is_done_already(request):
    return
  with tempfile.TemporaryDirectory() as folder:
    source, problems = str(Path(folder) / 'source'), Problems()
    write_source(datasource, source, layout, seed)
    if datasource == 'omniglot':
      plan = prepare_omniglot.make_plan(source, layout, prepare_omniglot.DEFAULT_SEED,
                                        problems)
      decoder = prepare_omniglot.decoder('nearest')
    else:
      plan, decoder = prepare_miniimagenet.make_plan(source, problems), (
          prepare_miniimagenet.decoded)
    preparation.prepare(request, plan, decoder, problems)


def _write_omniglot(folder: Path, layout: Layout, seed: int) -> None:
  total = sum(layout.classes.values())
  # Alphabets stay whole, and each part gets one at least.
  size = min(_CHARACTERS_PER_ALPHABET, (total + 1) // 2)
  names = [f'Sample_{index // size:03}/character{index % size + 1:02}'
           for index in range(total)]
  half = (-(-total // size) // 2) * size
  number = 0
  for part, members in zip(prepare_omniglot.PARTS, (names[:half], names[half:])):
    files = []
    for name in members:
      number += 1
      files += [(f'{part}/{name}/{number:04}_{index + 1:02}.png',
                 _file(omniglot_drawing(seed, name, index), 'PNG'))
                for index in range(layout.images_per_class)]
    _write_zip(folder / f'{part}.zip', files)


def _write_miniimagenet(folder: Path, layout: Layout, seed: int) -> None:
  number = 0
  for split, classes in layout.classes.items():
    rows, files = ['filename,label'], []
    for _ in range(classes):
      label = f'n9{number:07}'
      for index in range(layout.images_per_class):
        name = f'{label}{index + 1:08}.jpg'
        rows.append(f'{name},{label}')
        files.append((f'images/{name}', _file(miniimagenet_picture(seed, number, index),
                                              'JPEG', quality=95, subsampling=0)))
      number += 1
    (folder / f'{split}.csv').write_text('\n'.join(rows) + '\n', encoding='utf-8')
    _write_zip(folder / f'images-{split}.zip', files)


def _write_zip(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
  with zipfile.ZipFile(path, 'w') as archive:
    for name, data in files:
      archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), data)


def _file(image: Image.Image, file_format: str, **options) -> bytes:
  buffer = io.BytesIO()
  image.save(buffer, file_format, **options)
  return buffer.getvalue()


def omniglot_drawing(seed: int, name: str, index: int) -> Image.Image:
  """A drawing of a made-up character: 105 x 105, 1 bit, black ink on white.

  Args:
    seed: of the set.
    name: of the character; it decides the strokes.
    index: of the drawing; it decides how the hand trembled.
  """
  character = random.Random(f'{seed}:{name}')
  hand = random.Random(f'{seed}:{name}:{index}')
  image = Image.new('1', (105, 105), 1)
  draw = ImageDraw.Draw(image)
  shift = (hand.uniform(-5, 5), hand.uniform(-5, 5))
  for _ in range(character.randint(2, 4)):
    corners = [tuple(character.uniform(15, 90) + shift[axis] + hand.uniform(-3, 3)
                     for axis in (0, 1)) for _ in range(3)]
    draw.line(_curve(*corners), fill=0, width=4)
  return image


def _curve(start, middle, end, steps: int = 16) -> list[tuple[float, ...]]:
  """Points of a quadratic Bezier curve."""
  points = []
  for step in range(steps + 1):
    t = step / steps
    points.append(tuple((1 - t)**2 * a + 2 * t * (1 - t) * b + t**2 * c
                        for a, b, c in zip(start, middle, end)))
  return points


def miniimagenet_picture(seed: int, class_number: int, index: int) -> Image.Image:
  """A picture of a coloured shape: 84 x 84, RGB, with some noise.

  Args:
    seed: of the set.
    class_number: decides the shape and the two colours.
    index: of the picture; it decides position, size, brightness and noise.
  """
  camera = random.Random(f'{seed}:{class_number}:{index}')
  light = camera.uniform(0.75, 1.0)
  hue = (seed * 0.37 + class_number * _GOLDEN_RATIO) % 1.0
  image = Image.new('RGB', (84, 84), _colour(hue + 0.3 + 0.1 * (class_number % 4), 0.5,
                                             0.6 * light))
  radius = camera.uniform(20, 30)
  centre = (42 + camera.uniform(-10, 10), 42 + camera.uniform(-10, 10))
  _draw_shape(ImageDraw.Draw(image), _SHAPES[class_number % len(_SHAPES)], centre, radius,
              _colour(hue, 0.9, light))
  # RandomState: its numbers are the same in every version of NumPy.
  noise = np.random.RandomState(camera.randrange(2**32)).normal(0, 8, (84, 84, 3))
  return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _colour(hue: float, saturation: float, value: float) -> tuple[int, ...]:
  return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, centre: tuple[float, float],
                radius: float, colour: tuple[int, ...]) -> None:
  x, y = centre
  box = (x - radius, y - radius, x + radius, y + radius)
  if shape == 'disc':
    draw.ellipse(box, fill=colour)
  elif shape == 'square':
    draw.rectangle(box, fill=colour)
  elif shape == 'triangle':
    draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)],
                 fill=colour)
  elif shape == 'ring':
    draw.ellipse(box, outline=colour, width=8)
  else:
    draw.rectangle((x - radius, y - 6, x + radius, y + 6), fill=colour)
    draw.rectangle((x - 6, y - radius, x + 6, y + radius), fill=colour)


if __name__ == '__main__':
  sys.exit(main())
