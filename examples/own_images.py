"""From a folder of one's own photos to predictions and an exported net.

  python examples/own_images.py FOLDER [ITERATIONS]

Draws twelve classes of images into FOLDER/photos, in many formats, modes and sizes, as people
have them, and does with them what one would do with one's own: prepare, train, predict,
export. Every step is a command line, which is printed.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shlex
import shutil
import sys

if __name__ == '__main__':
  sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from PIL import Image, ImageDraw

from data_scripts import prepare_images
from maml_tf import __main__ as training
from maml_tf import export, predict
from maml_tf.sources.image_set import read_manifest

SHAPES = ('circle', 'square', 'triangle', 'cross')
COLOURS = {'red': (200, 40, 40), 'green': (40, 160, 60), 'blue': (50, 70, 200)}
PHOTOS = 12   # of a class
# (ending, mode) of the files, one after the other.
KINDS = (('jpg', 'RGB'), ('png', 'RGB'), ('png', 'P'), ('webp', 'RGBA'), ('tif', 'CMYK'),
         ('gif', 'P'), ('bmp', 'RGB'), ('jpg', 'CMYK'), ('png', 'RGBA'), ('ppm', 'RGB'))


def main(folder: str, iterations: int = 100) -> float:
  """Does all of it in `folder`; the share of right answers."""
  photos, prepared, runs = (os.path.join(folder, name) for name in ('photos', 'set', 'runs'))
  draw_photos(photos)
  command('data_scripts/prepare_images.py', prepare_images.main,
          f'--source={photos}', f'--out={prepared}', '--size=28', '--shares=6,3,3')
  command('main.py', lambda given: training.main(['main.py', *given], 'main.py'),
          '--datasource=images', f'--data_dir={prepared}', f'--logdir={runs}',
          f'--metatrain_iterations={iterations}', '--meta_batch_size=8', '--test_set=True',
          '--num_validation_tasks=40', '--num_test_tasks=100', '--validation_interval=50')
  support, query = new_task(photos, prepared, folder)
  out = os.path.join(folder, 'predictions.csv')
  command('-m maml_tf.predict', predict.main, f'--run={runs}', f'--support={support}',
          f'--query={query}', f'--out={out}')
  command('-m maml_tf.export', export.main, f'--run={runs}', f'--support={support}',
          f'--out={os.path.join(folder, "exported")}')
  with open(out, newline='', encoding='utf-8') as file:
    _, *rows = csv.reader(file)
  share = sum(os.path.basename(name).startswith(found) for name, found, *_ in rows) / len(rows)
  print(f'{100 * share:.0f}% of {len(rows)} photos are classified right')
  return share


def draw_photos(folder: str) -> None:
  """Twelve class folders: shapes of a colour, on grounds of any other."""
  draws = random.Random(0)
  for shape in SHAPES:
    for colour, rgb in COLOURS.items():
      name = f'{colour}_{shape}'
      os.makedirs(os.path.join(folder, name))
      for index in range(PHOTOS):
        ending, mode = KINDS[index % len(KINDS)]
        size = draws.randint(40, 120), draws.randint(40, 120)
        image = picture(shape, rgb, size, draws)
        image.convert(mode).save(os.path.join(folder, name, f'{name}_{index}.{ending}'))


def picture(shape: str, rgb, size, draws: random.Random) -> Image.Image:
  """One of them."""
  ground = tuple(draws.randint(150, 255) for _ in range(3))
  image = Image.new('RGB', size, ground)
  draw, radius = ImageDraw.Draw(image), min(size) * draws.uniform(0.2, 0.45)
  x, y = size[0] / 2, size[1] / 2
  colour = tuple(min(255, max(0, value + draws.randint(-30, 30))) for value in rgb)
  box = (x - radius, y - radius, x + radius, y + radius)
  if shape == 'circle':
    draw.ellipse(box, fill=colour)
  elif shape == 'square':
    draw.rectangle(box, fill=colour)
  elif shape == 'triangle':
    draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)],
                 fill=colour)
  else:
    width = max(2, int(radius / 2))
    draw.line((x - radius, y, x + radius, y), fill=colour, width=width)
    draw.line((x, y - radius, x, y + radius), fill=colour, width=width)
  return image


def new_task(photos: str, prepared: str, folder: str):
  """(support, query): folders with photos of the test classes, which training has not seen:
  one, two and three photos of a class to learn from, and the others to ask for."""
  support, query = os.path.join(folder, 'support'), os.path.join(folder, 'query')
  os.makedirs(query)
  classes = read_manifest(prepared, 'images')['splits']['test']['classes']
  for shots, row in enumerate(classes, start=1):
    name = row['name']
    os.makedirs(os.path.join(support, name))
    for index, file in enumerate(sorted(os.listdir(os.path.join(photos, name)))):
      target = os.path.join(support, name) if index < shots else query
      shutil.copy(os.path.join(photos, name, file), target)
  return support, query


def command(name: str, function, *arguments: str) -> None:
  """Prints a command line, and does it."""
  print('$ python', name, *map(shlex.quote, arguments), flush=True)
  code = function(list(arguments))
  if code:
    raise SystemExit(code)


if __name__ == '__main__':
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('folder', metavar='FOLDER', help='a new one, or an empty one')
  parser.add_argument('iterations', metavar='ITERATIONS', type=int, nargs='?', default=100,
                      help='of meta-training; default 100')
  options = parser.parse_args()
  if os.path.exists(options.folder) and (not os.path.isdir(options.folder)
                                         or os.listdir(options.folder)):
    parser.error(f'{options.folder} is there already: name a new folder')
  main(options.folder, options.iterations)
