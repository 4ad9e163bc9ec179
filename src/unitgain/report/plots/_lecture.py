"""The four pictures by which a lecture reads a network: its activations, their gradients, the weights' gradients, and
how much a step changes the weights.

After Karpathy's "Building makemore, part 3: activations and gradients, BatchNorm" (2022), whose notebook draws them for
the tanh layers of one multilayer perceptron; here they are drawn for any recorded model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..._base import InputError
from ...record import Histogram, Record, Site, common_edges
from ..layers import thin
from ._style import (
    FEW,
    GUIDE,
    choose_sites,
    label_axes,
    line_colors,
    new_figure,
    of_record,
    pictured_step,
    plot_name,
    whole_numbers,
)
from ._time import draw_update_ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 100
_FEW_BINS, _MANY_VALUES = 50, 4096  # of a histogram that counts fewer values than that
SPIKE = 6.0  # how far a spike may rise above the 90% quantile of a density before it is cut
_BACK = 12  # sampled steps that are searched for the last histogram of a weight: they come at every 8th
_REACH = 5.0  # standard deviations about the mean at which the axis of a density ends
_TITLES = {
    "activation": "activations",
    "gradient": "gradients of the loss with respect to them",
    "parameter_gradient": "gradients of the weights",
    "update": "update:data, how much a step changes each weight",
}


@of_record
def lecture(
    record: Record, *, sites: str | Sequence[str] | None = None, step: int | None = None, theory: bool = True
) -> Figure:
    """Signed densities of activations, of their gradients and of the weights' gradients by layer, and update:data.

    Activations are those of the activation functions (of all modules if there is none), weights the tensors of two
    axes and more; of many, eight are chosen evenly over depth. The legend gives mean, std and what the layer is judged
    by: the share of values in the flat tails of a bounded function, of exact zeros otherwise; for weights the ratio of
    std(gradient) to std(data). A cross marks values that are exactly -1, 0 or 1; the legend gives their share.
    theory: dotted lines, for tanh and sigmoid, are the densities that these functions give to normally distributed
    inputs with the measured mean and std. Panels that were not measured are omitted.

    step: a sampled step, by default the one that reports are about; of weights, whose histograms come at every 8th
    sampled step, the last one up to it. Raises InputError if the record has no histograms there.
    """
    step = pictured_step(record) if step is None else step
    panels: list[Callable[[Axes], None]] = []
    for kind in ("activation", "gradient", "parameter_gradient"):
        found = measured(record, kind, sites, step)
        if found:
            panels.append(partial(draw_densities, record, kind, found, step, theory))
    if not panels:
        raise InputError(f"lecture: the record has no histograms at step {step}")
    if len(record.steps()) > 1 and record.sites("update"):
        panels.append(lambda axes: _updates(record, axes, sites))
    figure = new_figure(12.5, 0.8 + 2.9 * len(panels), f"Signals and gradients by layer, step {step}")
    for axes, draw in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels):
        draw(axes)
    return figure


def measured(
    record: Record, kind: str, sites: str | Sequence[str] | None, step: int
) -> list[tuple[Site, Histogram]]:
    """The activation functions (of "parameter_gradient" the weights) with a histogram at the step, at most eight."""
    if not record.sites(kind):
        return []
    try:
        chosen = choose_sites(record, kind, sites, "lecture")
    except InputError:
        if kind != "parameter_gradient":
            raise
        return []  # patterns that name layers need not name weights
    if kind == "parameter_gradient":
        chosen = [s for s in chosen if len(s.shape) > 1]
    else:
        chosen = [s for s in chosen if s.attributes.get("role") == "activation"] or chosen
    known = _latest(record, kind, {s.name for s in chosen}, step)
    return thin([(s, known[s.name]) for s in chosen if s.name in known], FEW)


def _latest(record: Record, kind: str, names: set[str], step: int) -> dict[str, Histogram]:
    """{site: its histogram at the step, or the last one before}: those of weights do not come at every step."""
    known: dict[str, Histogram] = {}
    for at in [s for s in reversed(record.steps()) if s <= step][:_BACK]:
        for h in record.histograms(kind, step=at):
            if h.total and h.site in names:
                known.setdefault(h.site, h)
        if len(known) == len(names):
            break
    return known


def draw_densities(
    record: Record, kind: str, found: Sequence[tuple[Site, Histogram]], step: int, theory: bool, axes: Axes
) -> None:
    """One panel of `lecture`, its legend at the right of the axes."""
    values = [record.values(kind, h.step).get(site.name, {}) for site, h in found]
    edges = edges_for([h for _, h in found], values)
    middle = (edges[1:] + edges[:-1]) / 2
    tallest = 0.0
    for (site, h), row, color in zip(found, values, line_colors(len(found))):
        density = density_of(h, edges)
        tallest = max(tallest, min(float(density.max()), SPIKE * float(np.quantile(density, 0.9))))
        axes.plot(middle, density, color=color, lw=1.6, label=_legend(kind, site, h, row))
        for atom, number in zip((-1.0, 0.0, 1.0), h.atoms):
            if number > 0.01 * h.total and edges[0] <= atom <= edges[-1]:
                axes.plot([atom], [0], marker="X", ms=8, color=color, clip_on=False, zorder=5)
        predicted = _predicted(record, site, step, middle) if theory and kind == "activation" else None
        if predicted is not None:
            axes.plot(middle, predicted, color=color, lw=1.2, ls=":")
    axes.set_ylim(0, 1.05 * tallest if tallest else None)
    axes.set_xlim(edges[0], edges[-1])
    label_axes(axes, title=_TITLES[kind], y="density")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)


def edges_for(found: Sequence[Histogram], values: Sequence[dict[str, float]]) -> np.ndarray:
    """Common bins. Heavy tails do not squeeze what most values do: they end five standard deviations out."""
    full = common_edges(found, _BINS)
    reach = max(
        (abs(row.get("mean", math.nan)) + _REACH * row.get("std", math.nan) for row in values),
        default=math.nan,
    )
    least = max((max(abs(row.get("min", 0.0)), abs(row.get("max", 0.0))) for row in values), default=math.nan)
    high = min(v for v in (full[-1], reach, 1.02 * least) if math.isfinite(v) and v > 0)
    bounded = [h for h in found if h.high == 1.0]
    if len(bounded) == len(found) and full[-1] == 1.0:
        high = 1.0  # tanh and sigmoid: the axis is their range
    bins = _BINS if min(h.total for h in found) >= _MANY_VALUES else _FEW_BINS
    return np.linspace(-high if full[0] < 0 else 0.0, high, bins + 1)


def density_of(h: Histogram, edges: np.ndarray) -> np.ndarray:
    """Per unit of the axis, without the atoms; what lies beyond the edges is not piled up at them."""
    beyond = max(abs(h.low), abs(h.high), abs(float(edges[-1]))) * 2
    outer = np.concatenate([[-beyond], edges, [beyond]])
    return h.onto(outer, atoms=False)[1:-1] / (h.total * np.diff(edges))


def _legend(kind: str, site: Site, h: Histogram, row: dict[str, float]) -> str:
    name = plot_name(site.name, 24)
    mean, std = (f"{row.get(key, math.nan):+.2g}" for key in ("mean", "std"))
    std = std.lstrip("+")
    if kind == "parameter_gradient":
        ratio = 10 ** row.get("ratio", math.nan)
        return f"{name} {tuple(site.shape)}: mean {mean}, std {std}, grad:data {ratio:.1e}"
    text = f"{name}: mean {mean}, std {std}"
    if kind == "activation":
        if "saturated" in row:
            text += f", saturated {100 * row['saturated']:.1f}%"
        for atom, number in zip(("-1", "0", "1"), h.atoms):
            if number > 0.01 * h.total:
                text += f", exactly {atom}: {100 * number / h.total:.0f}%"
    elif h.atoms[1] > 0.01 * h.total:
        text += f", exactly 0: {100 * h.atoms[1] / h.total:.0f}%"
    return text


def _predicted(record: Record, site: Site, step: int, y: np.ndarray) -> np.ndarray | None:
    """Density of the function of a normal variable that has the mean and std of the layer's measured input."""
    function = site.attributes.get("function")
    inputs = site.attributes.get("inputs", [])
    if function not in ("tanh", "sigmoid") or len(inputs) != 1:
        return None
    before = record.values("activation", step).get(inputs[0], {})
    mean, std = before.get("mean", math.nan), before.get("std", math.nan)
    if not std > 0:
        return None
    with np.errstate(all="ignore"):
        if function == "tanh":
            z, slope = np.arctanh(y), 1 / (1 - y**2)
        else:
            z, slope = np.log(y / (1 - y)), 1 / (y * (1 - y))
        density = np.exp(-(((z - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi)) * slope
    return np.where(np.isfinite(density), density, np.nan)


def _updates(record: Record, axes: Axes, sites: str | Sequence[str] | None) -> None:
    try:
        shown = draw_update_ratio(record, axes, sites, FEW)
    except InputError:
        shown = []
    if not shown:
        axes.text(0.5, 0.5, "no update was measured", transform=axes.transAxes, ha="center", color=GUIDE)
        label_axes(axes, title=_TITLES["update"])
        return
    label_axes(axes, title=_TITLES["update"], x="step", y="log10 of the ratio")
    whole_numbers(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
