"""Which platforms and versions of Python have wheels for all of requirements.txt.

  python .ci/platforms.py              print the table
  python .ci/platforms.py --write      write it into docs/platforms.md

Needs a network, and `uv` (`pip install uv`): pip evaluates the markers of requirements
for the Python that runs it, whatever `--platform` says; uv evaluates them for the one
that is asked about. Only what is needed to resolve is fetched, and nothing is installed.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / 'docs/platforms.md'
REQUIREMENTS = ROOT / 'requirements.txt'
BEGIN, END = '<!-- begin of what .ci/platforms.py writes -->', '<!-- end of it -->'

PYTHONS = ('3.9', '3.10', '3.11', '3.12', '3.13', '3.14')
# {name: what uv calls it}. manylinux_2_28: glibc of Debian 10, Ubuntu 18.10, and RHEL 8.
PLATFORMS = {
    'Linux x86-64': 'x86_64-manylinux_2_28',
    'Linux aarch64': 'aarch64-manylinux_2_28',
    'macOS arm64': 'aarch64-apple-darwin',
    'macOS Intel': 'x86_64-apple-darwin',
    'Windows x86-64': 'x86_64-pc-windows-msvc',
}
HAS_ALL = 'yes'
SECONDS = 300


class NotAnswered(RuntimeError):
  """The question could not be asked, as without a network."""


def main(argv: Optional[list] = None) -> int:
  """The script. Args: argv, None: those of the process. Returns: the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--uv', default='uv', help='the program (default: %(default)s)')
  parser.add_argument('--requirements', type=Path, default=REQUIREMENTS)
  parser.add_argument('--write', action='store_true', help=f'into {PAGE.relative_to(ROOT)}')
  options = parser.parse_args(argv)
  try:
    cells = {name: [_asked(options.uv, options.requirements, platform, python)
                    for python in PYTHONS] for name, platform in PLATFORMS.items()}
  except (NotAnswered, OSError, subprocess.SubprocessError) as error:
    print(f'platforms: {error}', file=sys.stderr)
    return 1
  text = page_part(cells, options.requirements.read_text(encoding='utf-8'), _today())
  print(text)
  if options.write:
    PAGE.write_text(replaced(PAGE.read_text(encoding='utf-8'), text), encoding='utf-8')
  return 0


def page_part(cells: dict, requirements: str, date: str) -> str:
  """The table in Markdown. Args: cells: {platform: [`cell` for each of PYTHONS]}."""
  lines = [f'| | {" | ".join(PYTHONS)} |', '|---' * (len(PYTHONS) + 1) + '|']
  lines += [f'| {name} | {" | ".join(row)} |' for name, row in cells.items()]
  return '\n'.join([f'Asked on {date}; pins `{fingerprint(requirements)}`.', '', *lines])


def cell(output: str) -> str:
  """'no: ' and the packages without a wheel, from what uv says of a failed resolution.

  Raises:
    NotAnswered: where it failed for another reason.
  """
  found = re.findall(r'([\w-]+)(?:\[[\w,-]+\])?(?:\{[^}]*\})?==([\w.]+) has no wheels', output)
  if not found:
    raise NotAnswered(f'uv did not answer: {" ".join(output.split())}')
  return 'no: ' + ', '.join(f'{name} {version}' for name, version in dict.fromkeys(found))


def fingerprint(requirements: str) -> str:
  """Of the requirements without comments: the table is of these pins and no others."""
  lines = (line.strip() for line in requirements.splitlines())
  kept = '\n'.join(line for line in lines if line and not line.startswith('#'))
  return hashlib.sha256(kept.encode()).hexdigest()[:12]


def replaced(page: str, text: str) -> str:
  """The page with `text` between its two marks."""
  before, _, rest = page.partition(BEGIN)
  _, _, after = rest.partition(END)
  return f'{before}{BEGIN}\n\n{text}\n\n{END}{after}'


def _asked(uv: str, requirements: Path, platform: str, python: str) -> str:
  done = subprocess.run(
      [uv, 'pip', 'compile', '--quiet', '--only-binary=:all:', '--no-python-downloads',
       '--no-config', f'--python-platform={platform}', f'--python-version={python}',
       str(requirements)], capture_output=True, text=True, timeout=SECONDS, check=False)
  return HAS_ALL if done.returncode == 0 else cell(done.stderr)


def _today() -> str:
  return datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%d')


if __name__ == '__main__':
  sys.exit(main())
