"""Several records in one figure: runs over one another, and a network before and after something was done to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._base import InputError, did_you_mean
from ...record import STATISTICS, Record
from ..layers import thin
from ._lecture import density_of, edges_for, measured
from ._style import FEW, GUIDE, label_axes, line_colors, new_figure, pictured_step, plot_name, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 600
_WINDOWS = 60  # the course of a metric is a median over so many windows
_LOGARITHMIC = 30.0


def runs(
    records: Mapping[str, Any] | Sequence[Any], metric: str = "loss", *, log: bool | None = None
) -> Figure:
    """A metric of several runs in one figure: thin what was recorded, thick its course.

    records  {name: record}, or a list of them; Reports and Probes too
    metric   "loss", or what else was logged in all of them: "valid_loss", "accuracy"
    log      a log axis; None: where the values span more than a factor of 30

    The loss of a constant guess (ln C for C classes) is marked. Raises InputError for fewer than two records, and where
    one has no such metric.
    """
    named = _named(records, "runs")
    for name, record in named.items():
        if metric not in record.metric_names():
            known = record.metric_names()
            raise InputError(f"runs: {name} has no metric {metric!r}{did_you_mean(metric, known)}")
    figure = new_figure(9, 4.5, f"{plot_name(metric)} of {len(named)} runs")
    axes = figure.subplots()
    seen: list[np.ndarray] = []
    for (name, record), color in zip(named.items(), line_colors(len(named))):
        steps, values = record.metric(metric)
        rows = thin(range(len(steps)), _POINTS)
        axes.plot(
            steps[rows],
            np.where(np.isfinite(values), values, math.nan)[rows],
            color=color,
            lw=0.7,
            alpha=0.35,
        )
        at, course = _course(steps, values)
        axes.plot(at, course, color=color, lw=2, label=plot_name(name))
        seen.append(values[np.isfinite(values)])
    together = np.concatenate(seen)
    if log or (
        log is None
        and len(together)
        and together.min() > 0
        and together.max() > _LOGARITHMIC * together.min()
    ):
        axes.set_yscale("log")
    if metric == "loss":
        mark_constant(axes, next(iter(named.values())))
    axes.legend(fontsize=8, frameon=False)
    label_axes(axes, x="step", y=plot_name(metric))
    return figure


def before_after(
    before: Any, after: Any, *, names: tuple[str, str] = ("before", "after"), statistic: str = "std"
) -> Figure:
    """Two records of one network side by side: densities of the activations by layer, and a statistic over depth.

    before, after  records, Reports or Probes: of a check before and after a repair, say
    names          what they are called
    statistic      "std", "mean", "saturated", ... of activations and their gradients over depth

    Raises InputError for an unknown statistic, and where nothing was measured.
    """
    if statistic not in STATISTICS:
        raise InputError(
            f"before_after: statistic {statistic!r} is unknown{did_you_mean(statistic, STATISTICS, most=40)}"
        )
    both = _named(dict(zip(names, (before, after))), "before_after")
    columns = {
        name: measured(record, "activation", None, pictured_step(record)) for name, record in both.items()
    }
    if not any(columns.values()):
        raise InputError("before_after: neither record has histograms of activations")
    figure = new_figure(10, 6.4, "Before and after")
    grid = figure.subplots(2, 2)
    for axes, (name, record) in zip(grid[0], both.items()):
        _layers(axes, record, columns[name], name)
    for axes, kind in zip(grid[1], ("activation", "gradient")):
        for (name, record), color, style in zip(both.items(), (GUIDE, "#0072B2"), ("--", "-")):
            values = record.values(kind, pictured_step(record))
            chosen = [site.name for site, _ in columns[name]] or list(values)
            row = [values.get(site, {}).get(statistic, math.nan) for site in chosen]
            axes.plot(
                range(1, len(row) + 1),
                row,
                color=color,
                ls=style,
                marker="o",
                ms=3,
                lw=1.4,
                label=plot_name(name),
            )
        finite = [
            v
            for line in axes.get_lines()
            for v in np.asarray(line.get_ydata(), float)
            if np.isfinite(v) and v > 0
        ]
        if finite and max(finite) > _LOGARITHMIC * min(finite):
            axes.set_yscale("log")
        axes.legend(fontsize=8, frameon=False)
        label_axes(axes, title=f"{statistic} of {'activations' if kind == 'activation' else 'their gradients'}",
                   x="activation function, in execution order")  # fmt: skip
        whole_numbers(axes)
    return figure


def mark_constant(axes: Axes, record: Record) -> None:
    """A line at the loss of a constant guess, ln C for C classes, where it is known and the losses are near it."""
    facts = record.facts
    level = facts.loss_of_a_constant
    words = f"ln {facts.classes} = {level:.2f}" if facts.classes >= 2 else f"of a constant: {level:.3g}"
    if not math.isfinite(
        level
    ):  # a Probe does not see the loss, and reads the labels off the logits' gradient
        level = facts.labels.guess
        words = f"a guess by the classes' frequencies: {level:.2f}"
    if not math.isfinite(level) or not _bring_in_sight(axes, level):
        return
    axes.axhline(level, color=GUIDE, lw=1.0, ls=":")
    axes.annotate(words, (1, level), xycoords=("axes fraction", "data"), xytext=(-2, 3),
                  textcoords="offset points", ha="right", fontsize=8, color=GUIDE)  # fmt: skip


def _bring_in_sight(axes: Axes, level: float) -> bool:
    """Widens the axis to a level outside of it, unless that would leave what it shows less than a tenth of it."""
    low, high = axes.get_ylim()
    wide = min(low, level), max(high, level)
    if axes.get_yscale() == "linear" and wide[1] - wide[0] > 10 * (high - low):
        return False
    axes.set_ylim(wide)
    return True


def _layers(axes: Axes, record: Record, found: Sequence[Any], name: str) -> None:
    label_axes(axes, title=plot_name(name), y="density")
    if not found:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=GUIDE)
        return
    values = [record.values("activation", h.step).get(site.name, {}) for site, h in found]
    edges = edges_for([h for _, h in found], values)
    for (site, h), color in zip(found, line_colors(len(found))):
        axes.plot(
            (edges[1:] + edges[:-1]) / 2,
            density_of(h, edges),
            color=color,
            lw=1.4,
            label=plot_name(site.name, 18),
        )
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    if len(found) <= FEW:
        axes.legend(fontsize=7, frameon=False)


def _named(records: Mapping[str, Any] | Sequence[Any], who: str) -> dict[str, Record]:
    given = (
        dict(records)
        if isinstance(records, Mapping)
        else {f"run {i}": r for i, r in enumerate(records, start=1)}
    )
    found = {}
    for name, one in given.items():
        record = one if isinstance(one, Record) else getattr(one, "record", None)
        if not isinstance(record, Record):
            raise InputError(f"{who}: {name} is a {type(one).__name__}; expected Records, Reports or Probes")
        found[str(name)] = record
    if len(found) < 2:
        raise InputError(f"{who}: {len(found)} record; give two or more, as {{name: record}}")
    return found


def _course(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first value, so that a steep beginning is seen, then medians over windows."""
    size = max(1, len(values) // _WINDOWS)
    if size == 1:
        return steps, np.where(np.isfinite(values), values, math.nan)
    whole = 1 + (len(values) - 1) // size * size
    with np.errstate(invalid="ignore"):
        medians = np.median(values[1:whole].reshape(-1, size), axis=1)
    at = steps[1:whole].reshape(-1, size).mean(1)
    return np.concatenate([steps[:1], at]), np.concatenate(
        [values[:1], np.where(np.isfinite(medians), medians, math.nan)]
    )
