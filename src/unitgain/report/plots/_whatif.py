"""The pictures of a what-if: for each setting the loss, the densities of activations and gradients, update:data."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._base import InputError
from ...record import Record, Site
from ..layers import thin
from ..text import number
from ._compare import mark_constant
from ._lecture import SPIKE, density_of, edges_for, measured
from ._style import (
    COLORS,
    FEW,
    GUIDE,
    HEALTHY,
    HEALTHY_UPDATES,
    label_axes,
    line_colors,
    new_figure,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..whatif import Setting, WhatIf

_LINES = 300  # points of a curve
_WINDOWS = 40  # the course of a loss is a median over so many windows
_HEADROOM = 30.0  # a loss that spans more than this factor is drawn on a log axis
_EXPLODED = (
    10.0  # times the highest loss at the start: what lies above leaves the picture, and the caption says so
)

_LOWEST, _HIGHEST = -8.0, 1.0  # of log10 update:data: beyond, it does not matter how far

TITLES = {
    "loss": "training loss",
    "activations": "activations by layer, before training",
    "trained": "activations by layer, after training",
    "gradients": "gradients of the loss with respect to them, before training",
    "updates": "log10 update:data of the weights",
}


def whatif(result: WhatIf) -> Figure:
    """The pictures of `ug.whatif` in one figure: a column for each setting, a row for each picture.

    The colour is the layer, from first (dark) to last. Densities of bounded functions share their axes; the others have
    the range of their own column. Raises InputError for anything but a WhatIf.
    """
    if not hasattr(result, "settings"):
        raise InputError(f"whatif: expected what ug.whatif returned, got {type(result).__name__}")
    rows = pictures(result)
    count = len(result.settings)
    figure = new_figure(max(6.0, 3.1 * count), 0.9 + 2.1 * len(rows), f"What if: {result.model}")
    grid = figure.subplots(len(rows), count, squeeze=False)
    for axes_of_row, (name, draw) in zip(grid, rows.items()):
        draw(list(axes_of_row))
        for axes, setting in zip(axes_of_row, result.settings):
            above = f"{setting.name}\n" if name == next(iter(rows)) else ""
            axes.set_title(above + caption(setting, name), fontsize=8, loc="left")
        axes_of_row[0].set_ylabel(name, fontsize=9)
    return figure


def pictures(result: WhatIf) -> dict[str, Callable[[list[Axes]], None]]:
    """{row: what draws it into one axes for each setting}; rows without numbers are missing."""
    settings = result.settings
    rows: dict[str, Callable[[list[Axes]], None]] = {"loss": lambda axes: _losses(settings, axes)}
    for name, kind, trained in (
        ("activations", "activation", False),
        ("gradients", "gradient", False),
        ("trained", "activation", True),
    ):
        if any(_measured(setting, kind, trained) for setting in settings):
            rows[name] = functools.partial(_densities, settings, kind, trained)
    if any(_weights(s.training) for s in settings):
        rows["updates"] = lambda axes: _updates([s.training for s in settings], axes)
    return rows


def legend(result: WhatIf, row: str) -> list[tuple[str, str]]:
    """(layer, colour) of a row's lines; of the losses the seeds'."""
    from matplotlib.colors import to_hex

    first = result.settings[0]
    if row == "loss":
        return [("first seed", COLORS[0]), ("further seeds", COLORS[4])] if result.seeds > 1 else []
    if row == "updates":
        names = [site.name for site in _weights(first.training)]
    else:
        kind = "gradient" if row == "gradients" else "activation"
        names = [site.name for site, _ in _measured(first, kind, row == "trained")]
    return [(name, to_hex(color)) for name, color in zip(names, line_colors(len(names)))]


def caption(setting: Setting, row: str) -> str:
    """A line below a picture: its numbers."""
    if row == "loss":
        finite = [v for course in setting.losses for v in course if math.isfinite(v)]
        first = [course[0] for course in setting.losses if math.isfinite(course[0])]
        text = f"from {min(first):.3g}" if first else ""
        if first and f"{max(first):.3g}" != f"{min(first):.3g}":
            text += f" to {max(first):.3g} at the start"
        if finite and max(finite) > _EXPLODED * max(first):
            text += f", up to {max(finite):.2g}"
        return text + (f"; not finite from step {setting.stopped}" if setting.stopped is not None else "")
    if row == "updates":
        ratio = setting.update_ratio()
        return f"median at the end {ratio:.1f}" if math.isfinite(ratio) else ""
    trained = row == "trained"
    record = _record(setting, trained)
    kind = "gradient" if row == "gradients" else "activation"
    found = _measured(setting, kind, trained)
    rows = [record.values(kind, h.step).get(site.name, {}) for site, h in found]
    stds = [row["std"] for row in rows if "std" in row]
    if not stds:
        return ""
    text = f"std {number(stds[0])}" + (f" → {number(stds[-1])}" if len(stds) > 1 else "")
    flat = [row["saturated"] for row in rows if "saturated" in row]
    zero = [row["zero"] for row in rows if "zero" in row]
    if kind == "activation" and flat and max(flat) > 0.005:
        text += f"; saturated up to {100 * max(flat):.0f}%"
    elif kind == "activation" and zero and max(zero) > 0.005:
        text += f"; zero up to {100 * max(zero):.0f}%"
    return text


def _measured(setting: Setting, kind: str, trained: bool) -> list[tuple[Site, Any]]:
    record = _record(setting, trained)
    steps = record.steps()
    names = [name for name in setting.shown_sites() if record.site(kind, name)]
    return measured(record, kind, names, steps[-1] if trained else steps[0]) if steps and names else []


def _record(setting: Setting, trained: bool) -> Record:
    return setting.training if trained else setting.start.record


# ---- the rows ------------------------------------------------------------------------------------------------


def _losses(settings: Sequence[Setting], axes: list[Axes]) -> None:
    """Every training's course, its first step included; all columns on the same axes, on a log scale if they span
    much."""
    seen = np.array([v for s in settings for course in s.losses for v in course if math.isfinite(v)])
    highest = max(
        (abs(course[0]) for s in settings for course in s.losses if math.isfinite(course[0])), default=1.0
    )
    seen = seen[seen <= _EXPLODED * highest]
    positive = seen[seen > 0]
    logarithmic = len(positive) == len(seen) > 0 and seen.max() > _HEADROOM * seen.min()
    for one, setting in zip(axes, settings):
        for course, color in zip(setting.losses, (COLORS[0], *[COLORS[4]] * len(setting.losses))):
            at, smooth = _course(course)
            one.plot(at, smooth, color=color, lw=1.4)
        if setting.stopped is not None:
            one.axvline(setting.stopped, color=GUIDE, lw=1.2, ls="--")
        if logarithmic:
            one.set_yscale("log")
            one.set_ylim(seen.min() / 1.15, seen.max() * 1.15)
        elif len(seen):
            room = 0.06 * (seen.max() - seen.min()) or 1.0
            one.set_ylim(seen.min() - room, seen.max() + room)
        mark_constant(one, setting.start.record)
        label_axes(one, x="step")
        whole_numbers(one)
    limits = [one.get_ylim() for one in axes]
    for one in axes:  # the mark may have moved one of them
        one.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def _course(losses: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The first loss, then medians over windows: (steps, losses)."""
    values = np.array([v if math.isfinite(v) else math.nan for v in losses])
    size = max(1, len(values) // _WINDOWS)
    if size == 1:
        return np.arange(len(values)), values
    whole = 1 + (len(values) - 1) // size * size
    with np.errstate(invalid="ignore"):
        medians = np.median(values[1:whole].reshape(-1, size), axis=1)
    at = np.arange(1, whole).reshape(-1, size).mean(1)
    return np.concatenate([[0], at]), np.concatenate([values[:1], medians])


def _densities(settings: Sequence[Setting], kind: str, trained: bool, axes: list[Axes]) -> None:
    columns = [_measured(setting, kind, trained) for setting in settings]
    every = [h for column in columns for _, h in column]
    bounded = (
        all(h.high == 1.0 for h in every) and kind == "activation"
    )  # tanh and sigmoid: the axis is their range
    tops = []
    for one, setting, column in zip(axes, settings, columns):
        record = _record(setting, trained)
        label_axes(one)
        one.set_yticks([])
        if not column:
            one.text(0.5, 0.5, "not measured", transform=one.transAxes, ha="center", color=GUIDE, fontsize=8)
            continue
        values = [record.values(kind, h.step).get(site.name, {}) for site, h in column]
        edges = edges_for([h for _, h in column], values)
        middle, top = (edges[1:] + edges[:-1]) / 2, 0.0
        for (_, h), color in zip(column, line_colors(len(column))):
            density = density_of(h, edges)
            top = max(top, min(float(density.max()), SPIKE * float(np.quantile(density, 0.9))))
            one.plot(middle, density, color=color, lw=1.3)
            for atom, count in zip((-1.0, 0.0, 1.0), h.atoms):
                if count > 0.01 * h.total and edges[0] <= atom <= edges[-1]:
                    one.plot([atom], [0], marker="X", ms=6, color=color, clip_on=False, zorder=5)
        one.set_xlim(edges[0], edges[-1])
        one.locator_params(axis="x", nbins=4)
        one.ticklabel_format(axis="x", scilimits=(-2, 3))
        one.xaxis.get_offset_text().set_fontsize(8)
        one.set_ylim(0, 1.05 * top if top else None)
        tops.append(top)
    if bounded and tops and max(tops):
        for one in axes:
            one.set_ylim(0, 1.05 * max(tops))


def _weights(record: Record) -> list[Site]:
    return thin([s for s in record.sites("update") if len(s.shape) > 1], FEW)


def _updates(records: Sequence[Record], axes: list[Axes]) -> None:
    lows, highs = [-3.5], [-2.5]
    for one, record in zip(axes, records):
        chosen = _weights(record)
        for site, color in zip(chosen, line_colors(len(chosen))):
            steps, values = record.series("update", site.name, "ratio")
            rows = thin(range(len(steps)), _LINES)
            values = np.where(np.isfinite(values), values, math.nan)[rows]
            one.plot(steps[rows], values, color=color, lw=1.3)
            finite = values[np.isfinite(values)]
            lows += finite.tolist()
            highs += finite.tolist()
        one.axhspan(*HEALTHY_UPDATES, color=HEALTHY, lw=0, zorder=0)
        one.axhline(-3, color=GUIDE, lw=1.0, ls="--")
        label_axes(one, x="step")
        whole_numbers(one)
    for one in axes:
        one.set_ylim(max(min(lows), _LOWEST) - 0.3, min(max(highs), _HIGHEST) + 0.3)
