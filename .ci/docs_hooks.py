"""What the documentation site takes from elsewhere in the repository, when it is built.

The results (their pages and pictures), and the help text of `main.py`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
RESULTS = 'results/'
HELP_MARK = '<!-- help text of main.py -->'


def on_files(files, config):
  """Adds the results, whose pictures are read from where they are."""
  results = ROOT / RESULTS
  for path in [*sorted(results.glob('*.md')), *sorted(results.rglob('*.png'))]:
    files.append(File.generated(config, path.relative_to(ROOT).as_posix(),
                                abs_src_path=str(path)))
  return files


def on_page_markdown(markdown, page, config, files):
  """The page as the site has it."""
  if page.file.src_uri.startswith(RESULTS):
    return without_links_to_files(markdown)
  # A page lies one folder less deep in the site than in the repository.
  markdown = markdown.replace('](../results/', '](results/')
  markdown = markdown.replace('](../../results/', '](../results/')
  if HELP_MARK in markdown:
    markdown = markdown.replace(HELP_MARK, f'```text\n{help_text()}```')
  return markdown


def without_links_to_files(markdown: str) -> str:
  """Weights and kept runs are in the repository, and not in the site."""
  return re.sub(r'\[([^]]*)\]\([^)]*\.(?:npz|run)\)', r'`\1`', markdown)


def help_text() -> str:
  """What `python main.py --help` prints."""
  sys.path.insert(0, str(ROOT))
  try:
    import flags
  finally:
    sys.path.remove(str(ROOT))
  return flags.help_text()
