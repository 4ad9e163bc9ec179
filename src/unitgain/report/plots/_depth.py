"""Plots over depth, at one step: scale of activations and gradients, and the gradient:data ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._base import InputError
from ...record import Record
from ..layers import values_near
from ._style import (
    BACKWARD,
    COLORS,
    DEAD,
    FORWARD,
    GUIDE,
    SATURATED,
    ZERO,
    choose_sites,
    depth_axis,
    label_axes,
    log_limits,
    new_figure,
    of_record,
    pictured_step,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Rows = Mapping[str, Mapping[str, float]]  # {site: {statistic: value}}


@of_record
def stats_over_depth(
    record: Record, *, sites: str | Sequence[str] | None = None, step: int | None = None
) -> Figure:
    """Every activation's std and rms, its gradient's rms, and its zero, saturated, dead and non-finite fractions.

    sites: names or fnmatch patterns, all if None. step: the first of a check or the last of a training if
    None. Raises InputError if no activations were measured, or none at that step.
    """
    chosen = choose_sites(record, "activation", sites, "stats_over_depth")
    step = pictured_step(record) if step is None else step
    values = record.values("activation", step)
    if not values:
        raise InputError(f"stats_over_depth: the record has no activations at step {step}")
    gradients = record.values("gradient", step)
    names = [site.name for site in chosen]
    figure = new_figure(_width(len(names)), 7.5, f"Scale over depth, step {step}")
    forward, backward, fractions = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    draw_scale(forward, names, values)
    label_axes(forward, title="Activations (dashed: 1)", y="magnitude")
    gradient = _column(names, gradients, "rms")
    backward.plot(_places(names), _positive(gradient), color=BACKWARD, lw=1.6, label="rms", **_marks(names))
    log_limits(backward, gradient)
    label_axes(backward, title="Gradient of the loss with respect to them", y="magnitude")
    if not np.isfinite(gradient).any():
        why = "not finite" if gradients else "no gradients in this record"
        backward.text(0.5, 0.5, why, transform=backward.transAxes, ha="center", color=GUIDE)
    draw_fractions(fractions, names, values)
    label_axes(fractions, title="Fractions (points where above zero)", y="per cent")
    for axes in (forward, fractions):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    depth_axis(forward, names, label=False)
    depth_axis(backward, names, label=False)
    depth_axis(fractions, names)
    return figure


def draw_scale(axes: Axes, names: Sequence[str], values: _Rows) -> None:
    """Std and rms of the activations over depth, on a log axis with a guide at 1."""
    std, rms = _column(names, values, "std"), _column(names, values, "rms")
    axes.axhline(1, color=GUIDE, lw=1, ls="--")
    axes.plot(_places(names), _positive(rms), color=COLORS[4], lw=1.2, label="rms", **_marks(names))
    axes.plot(_places(names), _positive(std), color=FORWARD, lw=1.6, label="std", **_marks(names))
    log_limits(axes, [*std, *rms], include=1.0)


def draw_fractions(axes: Axes, names: Sequence[str], values: _Rows) -> None:
    """Per cent of values that are zero, saturated and not finite, and of dead units, over depth."""
    units = _column(names, values, "units")
    dead = np.divide(_column(names, values, "dead"), units, out=np.full(len(names), np.nan), where=units > 0)
    for label, data, color, mark in (
        ("exactly zero", _column(names, values, "zero"), ZERO, "o"),
        ("saturated", _column(names, values, "saturated"), SATURATED, "s"),
        ("dead units", dead, DEAD, "x"),
        ("not finite", _column(names, values, "nonfinite"), COLORS[3], "D"),
    ):
        above = np.flatnonzero(data > 0)  # points only where there is something: most layers have none
        if len(above):
            axes.plot(_places(names)[above], 100 * data[above], mark, color=color, ms=4, label=label)
    axes.set_ylim(-3, 103)


def _places(names: Sequence[str]) -> np.ndarray:
    return np.arange(1, len(names) + 1)


def _column(names: Sequence[str], rows: _Rows, statistic: str) -> np.ndarray:
    return np.array([rows.get(name, {}).get(statistic, np.nan) for name in names])


def _marks(names: Sequence[str]) -> dict[str, Any]:
    return {"marker": "o", "ms": 3.5} if len(names) <= 60 else {}


@of_record
def gradient_ratio(
    record: Record, *, sites: str | Sequence[str] | None = None, step: int | None = None
) -> Figure:
    """log10 of std(gradient)/std(data) of every weight, and the tenfold band around their median.

    Weights that stand out of the band learn at another speed than their peers. Raises InputError if no
    parameter gradients were measured.
    """
    chosen = choose_sites(record, "parameter_gradient", sites, "gradient_ratio")
    values = values_near(record, "parameter_gradient", pictured_step(record) if step is None else step)
    matrices = [s for s in chosen if len(s.shape) > 1] or chosen  # biases and gains start constant: no ratio
    names = [site.name for site in matrices]
    ratios = np.array([values.get(name, {}).get("ratio", np.nan) for name in names])
    finite = ratios[np.isfinite(ratios)]
    if not len(finite):
        raise InputError(
            "gradient_ratio: no gradient:data ratio is defined; are all parameters or gradients constant?"
        )
    median = float(np.median(finite))
    figure = new_figure(_width(len(names)), 4.5, "gradient:data of the weights")
    axes = figure.subplots()
    x = np.arange(1, len(names) + 1)
    axes.axhspan(median - 1, median + 1, color=FORWARD, alpha=0.10, lw=0, label="median, a tenth to tenfold")
    axes.axhline(median, color=GUIDE, lw=1, ls="--")
    outside = np.abs(ratios - median) > 1
    axes.plot(x[~outside], ratios[~outside], "o", color=FORWARD, ms=5, label="weights")
    if outside.any():
        axes.plot(x[outside], ratios[outside], "D", color=BACKWARD, ms=6, label="outside the band")
    low, high = min(finite.min(), median - 1), max(finite.max(), median + 1)
    axes.set_ylim(low - 0.4, high + 0.4)
    label_axes(axes, y="log10( std(gradient) / std(data) )")
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    depth_axis(axes, names)
    return figure


def _positive(values: np.ndarray) -> np.ndarray:
    """Zeros and infinities have no place on a log axis: leave a gap."""
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _width(layers: int) -> float:
    return float(np.clip(4 + 0.22 * layers, 8, 14))
