"""Small multiples: a panel for each block of a network, a line for each layer in it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..._base import InputError, did_you_mean
from ...record import STATISTICS, Record
from ..html_blocks import blocks_of
from ..layers import layers_of, thin
from ._style import (
    MAX_STEPS,
    label_axes,
    line_colors,
    need_steps,
    new_figure,
    of_record,
    plot_name,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 4
_MOST = 24  # panels
_LOGARITHMIC = ("std", "rms", "absmax")


@of_record
def blocks(record: Record, statistic: str = "std", *, kind: str = "activation") -> Figure:
    """A statistic over the steps, in a panel for each block, with a line for each of its layers; all on the same axes.

    statistic  "std", "mean", "saturated", "zero", ...
    kind       "activation" or "gradient"

    Of many blocks 24 are chosen evenly over depth. Raises InputError for an unknown statistic, and for a record with
    fewer than two sampled steps.
    """
    if statistic not in STATISTICS:
        raise InputError(
            f"blocks: statistic {statistic!r} is unknown{did_you_mean(statistic, STATISTICS, most=40)}"
        )
    need_steps(record, "blocks")
    groups = []
    for block in blocks_of(layers_of(record)):
        names = [layer.name for layer in block.layers if layer.site.kind == "activation"]
        rows = [(name, *record.series(kind, name, statistic)) for name in names if record.site(kind, name)]
        rows = [row for row in rows if np.isfinite(row[2]).any()]
        if rows:
            groups.append((block.title, rows))
    if not groups:
        raise InputError(f"blocks: the record has no {statistic} of any {kind}")
    groups = thin(groups, _MOST)
    columns = min(_COLUMNS, len(groups))
    height = math.ceil(len(groups) / columns)
    figure = new_figure(max(5.0, 3.1 * columns), 0.8 + 2.1 * height, f"{statistic} of each {kind}, by block")
    grid = figure.subplots(height, columns, sharex=True, sharey=True, squeeze=False)
    positive = [v for _, rows in groups for _, _, values in rows for v in values if v > 0]
    wide = statistic in _LOGARITHMIC and bool(positive) and max(positive) > 10 * min(positive)
    for axes, (title, rows) in zip(grid.flat, groups):
        for (name, steps, values), color in zip(rows, line_colors(len(rows))):
            shown = thin(range(len(steps)), MAX_STEPS)
            seen = np.isfinite(values) & ((values > 0) | (not wide))  # a log axis has no place for zero
            label = plot_name(name.rpartition(".")[2] or name, 14)
            axes.plot(steps[shown], np.where(seen, values, math.nan)[shown], color=color, lw=1.3, label=label)
        if len(rows) <= _COLUMNS:
            axes.legend(fontsize=7, frameon=False)
        label_axes(axes, title=plot_name(title, 26))
        whole_numbers(axes)
    for axes in grid.flat[len(groups) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("step", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel(statistic, fontsize=9)
    if wide:
        grid[0][0].set_yscale("log")
    return figure
