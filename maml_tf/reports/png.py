"""Pictures as files."""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def png(figure: Figure) -> bytes:
  """The bytes of a PNG file, without the name of the software that drew it; needs no
  display."""
  buffer = io.BytesIO()
  FigureCanvasAgg(figure).print_png(buffer, metadata={'Software': None})
  return buffer.getvalue()
