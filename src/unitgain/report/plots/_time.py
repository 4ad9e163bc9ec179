"""Plots over time: statistics by layer, and the update:data ratio with the 10^-3 that it should be near."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..._base import InputError, did_you_mean
from ...record import STATISTICS, Record, Site
from ..layers import thin
from ._events import events_of, mark_events
from ._style import (
    GUIDE,
    HEALTHY,
    HEALTHY_UPDATES,
    MAX_STEPS,
    choose_sites,
    first_not_finite,
    label_axes,
    line_colors,
    log_limits,
    mark_not_finite,
    name_lines,
    need_steps,
    new_figure,
    of_record,
    plot_name,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOGARITHMIC = {"std", "rms", "absmax", "sq_channel_mean", "channel_var"}
FRACTIONS = {"zero", "saturated", "nonfinite", "underflow"}


@of_record
def stats_over_time(
    record: Record,
    statistics: Sequence[str] = ("mean", "std"),
    *,
    kind: str = "activation",
    sites: str | Sequence[str] | None = None,
) -> Figure:
    """One panel per statistic, one line per layer, over the sampled steps; a dashed line where the first value of
    any layer was NaN or infinite, a dotted one where a rule found the loss to diverge or units to die.

    Raises InputError for an unknown statistic, a record with fewer than two sampled steps, or sites that
    are not there.
    """
    statistics = [statistics] if isinstance(statistics, str) else list(statistics)
    if not statistics:
        raise InputError(f"stats_over_time: no statistic is given; there are {', '.join(STATISTICS)}")
    for statistic in statistics:
        if statistic not in STATISTICS:
            hint = did_you_mean(statistic, STATISTICS, most=40)
            raise InputError(f"stats_over_time: statistic {statistic!r} is unknown{hint}")
    need_steps(record, "stats_over_time")
    chosen = choose_sites(record, kind, sites, "stats_over_time")
    title = f"{kind.replace('_', ' ').capitalize()} statistics over time"
    figure = new_figure(9, 1.2 + 2.6 * len(statistics), title)
    panels = figure.subplots(len(statistics), 1, sharex=True, squeeze=False)[:, 0].tolist()
    for axes, statistic in zip(panels, statistics):
        seen = _lines(record, axes, chosen, kind, statistic, 100.0 if statistic in FRACTIONS else 1.0)
        if statistic in LOGARITHMIC:
            log_limits(axes, seen)
        label_axes(axes, y=f"{statistic}, per cent" if statistic in FRACTIONS else statistic)
    events = events_of(record)
    for axes in panels:
        mark_events(axes, events, GUIDE, said=axes is panels[0])
    panels[-1].set_xlabel("step", fontsize=9)
    whole_numbers(panels[-1])
    name_lines(figure, panels, [s.name for s in chosen])
    return figure


@of_record
def update_ratio(record: Record, *, sites: str | Sequence[str] | None = None) -> Figure:
    """log10 of update:data, std(update)/std(data), of every weight over time, with the line at -3.

    About -3 means that a step changes a weight by a thousandth of its size. Far above it the training is
    unstable, far below it slow. Raises InputError if no updates were measured.
    """
    figure = new_figure(9, 4.5, "update:data of the weights over time")
    axes = figure.subplots()
    chosen = draw_update_ratio(record, axes, sites)
    mark_events(axes, events_of(record), GUIDE)
    label_axes(axes, x="step", y="log10( std(update) / std(data) )")
    name_lines(figure, [axes], [s.name for s in chosen])
    return figure


def draw_update_ratio(
    record: Record, axes: Axes, sites: str | Sequence[str] | None = None, most: int | None = None
) -> list[Site]:
    """Draws the lines of `update_ratio` with the healthy band about -3, labelled for a legend of the axes; returns
    their sites, of many `most` evenly chosen ones. Raises InputError if no updates were measured."""
    chosen = choose_sites(record, "update", sites, "update_ratio")
    if sites is None:  # biases and gains start constant, so that their ratio says nothing
        chosen = [s for s in chosen if len(s.shape) > 1] or chosen
    chosen = chosen if most is None else thin(chosen, most)
    seen = _lines(record, axes, chosen, "update", "ratio")
    if not len(seen):
        raise InputError(
            "update_ratio: no update:data ratio is defined; did the optimizer change any weight?"
        )
    axes.axhspan(*HEALTHY_UPDATES, color=HEALTHY, lw=0, zorder=0)
    axes.axhline(-3, color=GUIDE, lw=1.2, ls="--")
    axes.annotate("a thousandth", (1, -3), xycoords=("axes fraction", "data"), xytext=(-2, 3),
                  textcoords="offset points", ha="right", fontsize=8, color=GUIDE, zorder=5,
                  bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1})  # fmt: skip
    axes.set_ylim(min(seen.min(), -3.5) - 0.3, max(seen.max(), -2.5) + 0.3)
    return chosen


def _lines(
    record: Record, axes: Axes, sites: Sequence[Site], kind: str, statistic: str, factor: float = 1.0
) -> np.ndarray:
    """Draws one line per site, says from where on values were not finite, and returns all finite values drawn."""
    seen = []
    for site, color in zip(sites, line_colors(len(sites))):
        steps, values = record.series(kind, site.name, statistic)
        rows = thin(range(len(steps)), MAX_STEPS)
        values = np.where(np.isfinite(values), values * factor, np.nan)[rows]
        seen.append(values[np.isfinite(values)])
        marker = "o" if len(seen[-1]) <= 15 else None
        axes.plot(steps[rows], values, color=color, lw=1.3, marker=marker, ms=3, label=plot_name(site.name))
    mark_not_finite(axes, first_not_finite(record, kind, sites))
    return np.concatenate(seen) if seen else np.array([])
