"""What the company of its batch does to one example: its outputs in batch after batch, and the jitter over depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..._base import InputError
from ._style import COLORS, GUIDE, NAMED_TICKS, depth_axis, label_axes, new_figure, plot_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..batch_jitter import BatchJitter

_OUTPUTS = 12  # of many, those that differ most
_ROUNDING = 1e-6  # below, differences are those of the order in which numbers are added


def batch_jitter(result: BatchJitter) -> Figure:
    """What `ug.batch_jitter` measured: outputs of one example in batch after batch, and its jitter over depth.

    Above, a column for each output: what it was in each of the batches, small batches beside large ones. Below, layer
    by layer, how far the batch moves the example, relative to what tells examples apart; a line for each batch size,
    BatchNorm layers marked.

    Raises InputError for anything else.
    """
    if not hasattr(result, "jitter"):
        raise InputError(f"batch_jitter: expected what ug.batch_jitter gives, got {type(result).__name__}")
    seen = any(rows.size for rows in result.outputs.values())
    width = float(np.clip(4 + 0.2 * min(len(result.sites), NAMED_TICKS), 8, 13))
    figure = new_figure(
        width, 7.4 if seen else 4.4, f"One example in {result.draws} random batches: {result.model}"
    )
    panels: Any = figure.subplots(2 if seen else 1, 1, squeeze=False)[:, 0]
    if seen:
        _outputs(panels[0], result)
    _over_depth(panels[-1], result)
    return figure


def _outputs(axes: Axes, result: BatchJitter) -> None:
    spread = np.std(result.outputs[result.sizes[0]], axis=0)
    shown = np.sort(np.argsort(-spread, kind="stable")[:_OUTPUTS])
    step = 0.8 / len(result.sizes)
    for place, (size, color) in enumerate(zip(result.sizes, COLORS)):
        rows = result.outputs[size][:, shown]
        x = np.arange(len(shown)) - 0.4 + step * (place + 0.5)
        axes.plot(np.broadcast_to(x, rows.shape).ravel(), rows.ravel(), "o", color=color, ms=3, alpha=0.6,
                  label=f"batches of {size}")  # fmt: skip
    for edge in np.arange(len(shown) - 1) + 0.5:
        axes.axvline(edge, color="#e6e6e6", lw=0.8, zorder=0)
    some = "" if len(shown) == len(spread) else f", the {len(shown)} of {len(spread)} that differ most"
    label_axes(axes, title=f"outputs of example {result.example}{some}", x="output", y="value")
    axes.set_xticks(range(len(shown)), [str(i) for i in shown])
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _over_depth(axes: Axes, result: BatchJitter) -> None:
    x = np.arange(1, len(result.sites) + 1)
    norms = np.array([name in result.norms for name in result.sites])
    for size, color in zip(result.sizes, COLORS):
        values = np.array(result.jitter[size])
        values[values < _ROUNDING] = 0.0  # where examples cannot be told apart there is a gap
        axes.plot(x, values, color=color, lw=1.6, label=f"batches of {size}")
        axes.plot(x[norms], values[norms], "o", color=color, ms=5)
    axes.plot([], [], "o", color=GUIDE, ms=5, label="BatchNorm")
    axes.set_ylim(bottom=0)
    label_axes(
        axes, title="how far its batch moves the example, over depth", y="relative to the spread of examples"
    )
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    depth_axis(axes, [plot_name(name, 22) for name in result.sites])
