"""What adaptive gradient clipping did: how much was clipped over time, and which layers' units how often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..._base import InputError
from ...record import Record
from ._style import BACKWARD, FORWARD, NAMED_TICKS, label_axes, new_figure, of_record, plot_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@of_record
def agc(record: Record) -> Figure:
    """Share of clipped units over the steps, and over each parameter's units the share of steps they were clipped in.

    Below, a parameter's range runs from its least to its most clipped unit, thick between the quartiles, with a point
    at the mean. A unit clipped at every step learns as fast as the clipping factor lets it: a lower learning rate, or
    a larger factor, changes its training; one that is never clipped would train the same without.

    Raises InputError for a record that no AGC(..., probe=probe) has written to.
    """
    counts = record.meta.get("agc", {}).get("parameters", {})
    steps, share = record.metric("agc", optional=True)
    if not counts or not len(steps):
        raise InputError(
            "agc: the record holds no clipping; train under a Probe with ug.optim.AGC(optimizer, model, probe=probe)"
        )
    rates = {name: np.asarray(c["clipped"], dtype=float) / max(c["steps"], 1) for name, c in counts.items()}
    names = list(rates)
    height = 3.2 + 0.17 * min(len(names), NAMED_TICKS) + (2.0 if len(names) > NAMED_TICKS else 0.0)
    figure = new_figure(9, height, "Adaptive gradient clipping")
    over_time, by_layer = figure.subplots(2, 1, height_ratios=(1, max((height - 3.0) / 2.2, 1)))
    over_time.plot(steps, 100 * share, color=BACKWARD, lw=1.4, marker="o" if len(steps) < 60 else "", ms=3)
    over_time.set_ylim(-3, 103)
    label_axes(over_time, title="Units clipped, of all", x="step", y="per cent")
    y = np.arange(len(names))
    low, first, third, high = (
        np.array([np.quantile(rates[n], q) for n in names]) for q in (0, 0.25, 0.75, 1)
    )
    by_layer.hlines(y, 100 * low, 100 * high, color=FORWARD, lw=1)
    by_layer.hlines(y, 100 * first, 100 * third, color=FORWARD, lw=4, alpha=0.6)
    by_layer.plot([100 * rates[n].mean() for n in names], y, "o", color="black", ms=3)
    by_layer.set_xlim(-3, 103)
    by_layer.set_ylim(len(names) - 0.5, -0.5)
    label_axes(by_layer, title="How often each unit was clipped", x="per cent of steps")
    by_layer.grid(True, axis="x", color="#e6e6e6", linewidth=0.8)
    by_layer.grid(False, axis="y")
    if len(names) <= NAMED_TICKS:
        by_layer.set_yticks(y, [plot_name(n, 34) for n in names])
    else:
        by_layer.set_ylabel("parameter, in the optimizer's order", fontsize=9)
    return figure
