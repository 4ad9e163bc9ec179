"""matplotlib's Figure as a notebook shows it. Imported where a figure is made: `import unitgain` loads no plotting."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A Figure that a notebook shows as a picture also where pyplot was never imported, which is what tells IPython how
    to show one."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()
