"""Plots of distributions: histograms by layer, the colourful dimension, the dead chart, the saturation map.

The colourful dimension and the dead chart follow Stefano Giomo's plots as fast.ai's course part 2 uses them:
a column of pixels per step, log1p of the histogram as colour; and the share of values in the lowest bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..._base import InputError
from ...record import Histogram, Record, Site, common_edges, unpack_map
from ..layers import thin
from ._events import events_of, mark_events
from ._style import (
    COUNT_MAP,
    FEW,
    GUIDE,
    MAX_STEPS,
    choose_sites,
    depth_axis,
    first_not_finite,
    label_axes,
    line_colors,
    mark_not_finite,
    name_lines,
    need_steps,
    new_figure,
    of_record,
    pictured_step,
    plot_name,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 16
MAX_RIDGES = 24
_MANY_VALUES = 4096  # a histogram that counts fewer is drawn with half as many bins
NEAR_ZERO = 1 / 32  # of the largest magnitude that the layer reaches in the whole run
_ROWS = 64  # of pixels, in a picture over time


@of_record
def histograms(
    record: Record,
    *,
    kinds: Sequence[str] = ("activation", "gradient"),
    sites: str | Sequence[str] | None = None,
    step: int | None = None,
) -> Figure:
    """Distribution of the magnitudes by layer, one panel per kind, on a log scale of powers of two.

    Few layers are lines (share of the values per power of two); many are columns of a heat map over depth.
    Kinds without histograms are omitted. Raises InputError if none has any at that step.
    """
    step = pictured_step(record) if step is None else step
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    panels: dict[str, list[Histogram]] = {}
    for kind in kinds:
        if record.sites(kind):
            names = {s.name for s in choose_sites(record, kind, sites, "histograms")}
            found = [
                h
                for h in record.histograms(kind, scale="log2", step=step)
                if h.site in names and h.counts.sum()
            ]
            if found:
                panels[kind] = found
    if not panels:
        raise InputError(f"histograms: the record has none of {', '.join(kinds)} at step {step}")
    many = any(len(found) > FEW for found in panels.values())
    figure = new_figure(9.5, 1.0 + 3.3 * len(panels), f"Distribution of magnitudes by layer, step {step}")
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0].tolist()
    for axes, (kind, found) in zip(grid, panels.items()):
        low, high = _occupied(found)
        if many:
            _heat_over_depth(figure, axes, found, low, high, last=axes is grid[-1])
        else:
            for h, color in zip(found, line_colors(len(found))):
                axes.plot(
                    h.edges[:-1] * math.sqrt(2),
                    100 * h.counts / h.counts.sum(),
                    color=color,
                    lw=1.6,
                    marker="o",
                    ms=2.5,
                )
            axes.set_xscale("log", base=2)
            axes.set_xlim(2.0**low, 2.0**high)
            label_axes(axes, x="magnitude", y="% of values")
        axes.set_title(kind.replace("_", " ") + "s", fontsize=10, loc="left")
    if not many:
        longest = max(panels.values(), key=len)
        name_lines(figure, grid, [h.site for h in longest])
    return figure


def _occupied(found: Sequence[Histogram]) -> tuple[float, float]:
    """The range of powers of two that holds all but a trace of every layer's values."""
    share = np.stack([h.counts / h.counts.sum() for h in found])
    used = np.flatnonzero(share.max(axis=0) > 1e-3)
    return found[0].low + used[0] - 0.5, found[0].low + used[-1] + 1.5


def _heat_over_depth(
    figure: Figure, axes: Axes, found: Sequence[Histogram], low: float, high: float, last: bool
) -> None:
    share = 100 * np.stack([h.counts / h.counts.sum() for h in found], axis=1)  # (64, layers)
    x = np.arange(len(found) + 1) + 0.5
    mesh = axes.pcolormesh(x, found[0].edges, share, cmap=COUNT_MAP, vmin=0, rasterized=True)
    axes.set_yscale("log", base=2)
    axes.set_ylim(2.0**low, 2.0**high)
    label_axes(axes, y="magnitude")
    axes.grid(False)
    depth_axis(axes, [h.site for h in found], label=last)
    figure.colorbar(mesh, ax=axes, pad=0.01, aspect=25).set_label("% of values per power of two", fontsize=8)


@of_record
def ridges(
    record: Record,
    *,
    kind: str = "activation",
    sites: str | Sequence[str] | None = None,
    step: int | None = None,
) -> Figure:
    """Signed densities over depth, one ridge a layer, the first layer on top.

    Each ridge is as high as its densest bin. Values that are exactly zero are left out, and their share is given at
    the right. At most 24 layers, evenly chosen; by default those of role "activation" if there are any. Raises
    InputError if the record has no histograms at that step.
    """
    step = pictured_step(record) if step is None else step
    chosen = choose_sites(record, kind, sites, "ridges")
    if sites is None:
        chosen = [s for s in chosen if s.attributes.get("role") == "activation"] or chosen
    known = {h.site: h for h in record.histograms(kind, step=step) if h.total}
    kept = [known[s.name] for s in chosen if s.name in known]
    if not kept:
        raise InputError(f"ridges: the record has no histograms of {kind}s at step {step}")
    shown = thin(kept, MAX_RIDGES)
    some = "" if len(shown) == len(kept) else f", {len(shown)} of {len(kept)} layers"
    figure = new_figure(
        8.5, 1.2 + 0.42 * max(len(shown), 4), f"Densities of {kind}s over depth, step {step}{some}"
    )
    axes = figure.subplots()
    edges = _reach(shown)
    middle = (edges[1:] + edges[:-1]) / 2
    ends = 2 * max(max(h.high for h in shown), float(edges[-1]))
    outer = np.concatenate([[-ends], edges, [ends]])
    for i, (h, color) in enumerate(zip(shown, line_colors(max(len(shown), FEW + 1)))):
        counts = h.onto(outer, atoms=False)[1:-1]
        base = -float(i)
        ridge = base + 1.6 * counts / max(counts.max(), 1e-9)
        axes.fill_between(middle, base, ridge, color=color, alpha=0.75, lw=0, zorder=2 * i)
        axes.plot(middle, ridge, color="white", lw=0.9, zorder=2 * i + 1)
        zeros = h.atoms[1] / h.total
        if zeros >= 0.005:
            axes.annotate(f"zero {100 * zeros:.0f}%", (1.01, base + 0.15), xycoords=("axes fraction", "data"),
                          fontsize=8, color=GUIDE)  # fmt: skip
    axes.set_yticks([-float(i) for i in range(len(shown))], [plot_name(h.site, 26) for h in shown])
    axes.set_xlim(edges[0], edges[-1])
    label_axes(axes, x="value", y="layer")
    axes.grid(False)
    return figure


def _reach(found: Sequence[Histogram]) -> np.ndarray:
    """Bins of one axis on which every layer can be seen: it holds 99% of the values of the widest one."""
    full = common_edges(found, 4 * _ROWS)
    high = full[-1]
    for part in np.linspace(1, 0, 64, endpoint=False)[1:]:
        if any(_between(h, part * full[-1]) < 0.99 * h.total for h in found):
            break
        high = part * full[-1]
    low = -high if full[0] < 0 else 0.0
    few = min(h.total for h in found) < _MANY_VALUES
    return np.linspace(low, high, (_ROWS if low < 0 else _ROWS // 2) * (1 if few else 2) + 1)


@of_record
def color_dim(
    record: Record,
    *,
    kind: str = "activation",
    sites: str | Sequence[str] | None = None,
    shared: bool = False,
) -> Figure:
    """The colourful dimension: one picture per layer, a column per step, colour is log1p of the histogram.

    A healthy layer fills its picture evenly; one that explodes and collapses shows as flames and black. The vertical
    axis holds every value that the layer had at any step, signed where it has negative ones.
    A dotted line stands where a rule found the loss of a training to begin to diverge, or units to die, and says which.
    shared: one axis for all layers, as large as the largest needs; by default each has its own.
    At most 16 layers, evenly chosen. Raises InputError for fewer than two steps or no histograms.
    """
    need_steps(record, "color_dim")
    chosen = _with_histograms(record, kind, sites, "color_dim")
    shown = thin(chosen, MAX_PANELS)
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    some = "" if len(shown) == len(chosen) else f", {len(shown)} of {len(chosen)} layers"
    figure = new_figure(
        max(6.5, 3.1 * columns), 1.1 + 2.1 * rows, f"Colourful dimension: {kind}s over time{some}"
    )
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    series = [thin(record.histograms(kind, site.name), MAX_STEPS) for site in shown]
    together = common_edges([h for found in series for h in found], _ROWS) if shared else None
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    mesh, events = None, events_of(record)
    for i, (axes, site) in enumerate(zip(grid.flat, shown)):
        found = series[i]
        edges = common_edges(found, _ROWS) if together is None else together
        counts = np.stack([h.onto(edges) for h in found], axis=1)  # (_ROWS, steps)
        steps = _edges([h.step for h in found])
        top = max(np.log1p(counts).max(), 1e-9)
        mesh = axes.pcolormesh(
            steps, edges, np.log1p(counts) / top, cmap="magma", vmin=0, vmax=1, rasterized=True
        )
        label_axes(
            axes,
            title=plot_name(site.name, 30),
            x="step" if i >= len(shown) - columns else "",
            y="value" if i % columns == 0 else "",
        )
        axes.tick_params(labelbottom=i >= len(shown) - columns)
        axes.grid(False)
        mark_events(axes, events, "white", site.name)
    assert mesh is not None
    bar = figure.colorbar(mesh, ax=grid.ravel().tolist(), pad=0.01, aspect=30)
    bar.set_label("log1p(count), relative to the layer's largest", fontsize=8)
    return figure


@of_record
def dead_chart(record: Record, *, sites: str | Sequence[str] | None = None) -> Figure:
    """Share of the activations near zero over time, one line per layer.

    Near zero: at most a 32nd of the largest magnitude that the layer has in the whole run, or before it diverges,
    where a rule found that it does. Without `sites`, activation functions if the record has any. Raises InputError for
    fewer than two steps or no histograms.
    """
    need_steps(record, "dead_chart")
    chosen = _with_histograms(record, "activation", sites, "dead_chart")
    if sites is None:
        chosen = [s for s in chosen if s.attributes.get("role") == "activation"] or chosen
    figure = new_figure(9, 4.5, "Activations near zero over time")
    axes = figure.subplots()
    events = events_of(record)
    end = min((event.step for event in events if "diverges" in event.what), default=math.inf)
    for site, color in zip(chosen, line_colors(len(chosen))):
        found = thin(record.histograms("activation", site.name), MAX_STEPS)
        near = NEAR_ZERO * max(h.high for h in [h for h in found if h.step < end] or found)
        share = [
            100 * _between(h, near) / h.total if h.total else np.nan for h in found
        ]  # none where none is finite
        axes.plot(
            [h.step for h in found],
            share,
            color=color,
            lw=1.5,
            marker="o" if np.isfinite(share).sum() <= 15 else None,
            ms=3,
        )
    mark_not_finite(axes, first_not_finite(record, "activation", chosen))
    mark_events(axes, events, GUIDE)
    axes.set_ylim(-2, 102)
    label_axes(axes, x="step", y="% of values within a 32nd of the layer's largest")
    name_lines(figure, [axes], [s.name for s in chosen])
    return figure


@of_record
def saturation_map(record: Record, site: str | None = None) -> Figure:
    """Examples by units, white where a bounded activation is in its flat tails (tanh: magnitude above 0.97).

    A column that is white from top to bottom is a dead unit: no example gives it a gradient. One site, or
    all that were kept (at most 6). Raises InputError if the record kept none: only check() does, for bounded
    activations.
    """
    maps = record.meta.get("saturation_maps", {})
    if not maps:
        raise InputError(
            "saturation_map: the record keeps none; ug.check() keeps them for bounded "
            "activations (tanh, sigmoid, ...), and this model has none or was not measured by check()"
        )
    if site is not None and site not in maps:
        raise InputError(f"saturation_map: no map of {site!r}; there are maps of {', '.join(list(maps)[:5])}")
    names = [site] if site is not None else thin(list(maps), 6)
    some = "" if site is not None or len(names) == len(maps) else f" ({len(names)} of {len(maps)} layers)"
    flags = [unpack_map(maps[name]) for name in names]
    figure = new_figure(
        10, 1.0 + 1.75 * len(names), f"Saturation: white where an output is in its flat tail{some}"
    )
    panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    for axes, name, flag in zip(panels, names, flags):
        axes.imshow(flag, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        stuck = int(flag.all(axis=0).sum()) if flag.size else 0
        note = f"{plot_name(name)}: {100 * flag.mean() if flag.size else 0:.0f}% saturated"
        note += f", {stuck} unit{'s' * (stuck != 1)} for every example" if stuck else ""
        label_axes(axes, title=note, y="example")
        axes.grid(False)
        axes.spines[["top", "right"]].set_visible(True)
    panels[-1].set_xlabel("unit", fontsize=9)
    return figure


def _with_histograms(record: Record, kind: str, sites: str | Sequence[str] | None, what: str) -> list[Site]:
    chosen = choose_sites(record, kind, sites, what)
    first = {h.site for step in record.steps()[:1] for h in record.histograms(kind, step=step)}
    kept = [s for s in chosen if s.name in first] or [s for s in chosen if record.histograms(kind, s.name)]
    if not kept:
        raise InputError(
            f"{what}: the record has no histograms of {kind}s; measure with histograms switched on"
        )
    return kept


def _between(h: Histogram, near: float) -> float:
    """How many values have a magnitude of at most near."""
    ends = max(abs(h.low), h.high, near) * 2
    return h.onto(np.array([-ends, -near, near, ends]))[1]


def _edges(steps: Sequence[int]) -> np.ndarray:
    """Column edges half way between the steps, so that irregular sampling keeps its true place in time."""
    centers = np.asarray(steps, dtype=float)
    if len(centers) == 1:
        return np.array([centers[0] - 0.5, centers[0] + 0.5])
    middle = (centers[1:] + centers[:-1]) / 2
    return np.concatenate([[2 * centers[0] - middle[0]], middle, [2 * centers[-1] - middle[-1]]])
