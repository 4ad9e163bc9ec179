"""The signal propagation plot: three metrics over a residual network's blocks, predicted beside measured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..._base import InputError
from ...record import Record
from ..spp import Curve, spp_curve
from ._style import COLORS, GUIDE, NAMED_TICKS, label_axes, new_figure, plot_name, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = (
    ("sq_channel_mean", "Average squared channel mean"),
    ("channel_var", "Average channel variance"),
    ("branch_var", "Average channel variance at the branch's end"),
    ("gradient", "Mean square of the gradient"),
)
_LOG_ABOVE = 30.0  # from this ratio of large to small values on, the axis is logarithmic
_NO_MEAN = 1e-3  # a squared mean below this share of the variance is none


def spp(records: Record | Sequence[Record], *, labels: Sequence[str] | None = None) -> Figure:
    """Squared channel mean and variance at every block's end, variance at every branch's end, and, of a record with
    backward=True, the gradient's mean square.

        ug.plots.spp(ug.spp(model, torch.randn(8, 3, 224, 224)))
        ug.plots.spp([batchnorm, normalizer_free], labels=["BatchNorm", "normalizer-free"])

    records: of ug.spp; a check's or a Probe's will do where it recognised the blocks. Several are overlaid. Points are
    measured, lines predicted (where theory has a prediction; see meta["spp"]). Faint vertical lines mark transitions of
    a single network. Of a network without residual sums there is a point for each layer with weights. Raises InputError
    for a record that has neither.
    """
    several = [records] if isinstance(records, Record) else list(records)
    if not several or len(several) > len(COLORS):
        raise InputError(f"spp: {len(several)} records; expected one to {len(COLORS)}")
    if labels is not None and len(labels) != len(several):
        raise InputError(f"spp: {len(labels)} labels for {len(several)} records")
    curves = [spp_curve(record) for record in several]
    names = (
        list(labels) if labels is not None else [c.model or f"network {i}" for i, c in enumerate(curves, 1)]
    )
    width = float(np.clip(5 + 0.25 * max(len(c.points) for c in curves), 8, 14))
    shown = [
        p
        for p in PANELS
        if p[0] in ("sq_channel_mean", "channel_var")
        or any(np.isfinite(c.column(p[0])).any() for c in curves)
    ]
    figure = new_figure(width, 2.85 * len(shown), "Signal propagation")
    panels = figure.subplots(len(shown), 1, sharex=True)
    for axes, (key, title) in zip(panels, shown):
        for curve, name, color in zip(curves, names, COLORS):
            _draw(axes, curve, key, name, color, alone=len(curves) == 1)
        _scale(axes, key, curves)
        label_axes(axes, title=title)
    off = [
        text if len(curves) == 1 else f"{name}: {text}"
        for name, c in zip(names, curves)
        for text in (c.deviation, c.silence, *(c.why[:2] if len(curves) == 1 else ()))
        if text
    ]
    if off:
        figure.supxlabel(
            "\n".join(plot_name(line, 128) for line in off), fontsize=8, x=0.01, ha="left", color=GUIDE
        )
    _legend(panels[0], len(curves) > 1, any(c.law for c in curves))
    _x_axis(panels[-1], curves)
    return figure


def _draw(axes: Axes, curve: Curve, key: str, name: str, color: str, alone: bool) -> None:
    x = np.array([p.number for p in curve.points])
    measured, predicted = curve.column(key), curve.predicted(key)
    if alone:
        for start in (p.number for p in curve.points if p.transition):
            axes.axvline(start - 0.5, color="#dddddd", lw=1, zorder=0)
    if np.isfinite(predicted).any():
        for begin, end in _stages(curve):
            at, values = x[begin:end], predicted[begin:end]
            if end - begin == 1:  # a stage of a single block gets a dash
                at, values = np.array([at[0] - 0.3, at[0] + 0.3]), np.repeat(values, 2)
            axes.plot(at, values, color=COLORS[1] if alone else color, lw=1.4, alpha=0.8)
    axes.plot(x, measured, "o", color=color, ms=4.5, label=plot_name(name))


def _stages(curve: Curve) -> list[tuple[int, int]]:
    """Index ranges between transitions, so that a prediction's line does not connect two stages."""
    cuts = [0, *(i for i, p in enumerate(curve.points) if p.transition and i), len(curve.points)]
    return list(pairwise(cuts))


def _scale(axes: Axes, key: str, curves: Sequence[Curve]) -> None:
    """Logarithmic where blocks differ by more than a glance can tell on a linear axis, however far they do; not for the
    stem alone, nor for one block that stands apart, nor for means that are none."""
    judged: list[float] = []
    for curve in curves:
        for point in curve.points:
            low = _NO_MEAN * point.channel_var if key == "sq_channel_mean" else 0.0
            value = getattr(point, key)
            if point.number and np.isfinite(value) and value > low:
                judged.append(value)
    judged.sort()
    if len(judged) >= 6:
        judged = judged[1:-1]
    values = np.concatenate([c.column(key) for c in curves] + [c.predicted(key) for c in curves])
    values = values[np.isfinite(values)]
    if judged and judged[-1] > _LOG_ABOVE * judged[0]:
        axes.set_yscale("log")
        shown = values[values > 0.1 * judged[0]]
        axes.set_ylim(0.5 * float(shown.min()), 2 * float(shown.max()))
    elif len(values):
        high = max(float(values.max()), 1e-3)
        axes.set_ylim(-0.04 * high, 1.08 * high)


def _legend(axes: Axes, several: bool, with_lines: bool) -> None:
    from matplotlib.lines import Line2D

    handles = []
    if several:
        shown, _ = axes.get_legend_handles_labels()
        handles += shown
    else:
        handles.append(Line2D([], [], color=COLORS[0], marker="o", ls="", ms=4.5, label="measured"))
    if with_lines:
        handles.append(Line2D([], [], color=GUIDE if several else COLORS[1], lw=1.4, label="predicted"))
    axes.legend(handles=handles, fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _x_axis(axes: Axes, curves: Sequence[Curve]) -> None:
    last = max(c.points[-1].number for c in curves)
    axes.set_xlim(-0.6, last + 0.6)
    if len(curves) == 1 and len(curves[0].points) <= NAMED_TICKS:
        axes.set_xticks([p.number for p in curves[0].points])
        axes.set_xticklabels(
            [plot_name(p.name, 24) for p in curves[0].points], rotation=60, ha="right", rotation_mode="anchor"
        )
    else:
        whole_numbers(axes)
        axes.set_xlabel("block, in execution order (0: the first block's input)", fontsize=9)
