"""The loss around a network's weights: lines over a line of points, surfaces and contours over a plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._base import InputError
from ._style import COLORS, GUIDE, label_axes, new_figure, plot_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..landscape import Landscape

_LOGARITHMIC = 10.0  # from this ratio of large to small losses on
_MOST = 4  # landscapes in a figure
_LEVELS = 12
_MAP = "viridis"


def landscape(
    results: Landscape | Sequence[Landscape], *, labels: Sequence[str] | None = None, log: bool | None = None
) -> Figure:
    """The loss around the weights, of one network or of several side by side on one scale.

        ug.plots.landscape(ug.landscape(model, batch))
        ug.plots.landscape([plain, residual], labels=["plain", "residual"])

    On a plane: the surface, and below it lines of equal loss with the network in the middle (+) and the lowest point
    that was seen (v). On a line: the loss over the distance. Points where the loss was NaN or infinite are left blank.
    log: a logarithmic scale; None: where the losses span more than a factor of 10. Raises InputError for none, for
    more than four, and for lines and planes in one figure.
    """
    several: list[Any] = list(results) if isinstance(results, (list, tuple)) else [results]
    wrong = next((x for x in several if not hasattr(x, "losses")), None)
    if wrong is not None:
        raise InputError(f"landscape: expected what ug.landscape gives, got {type(wrong).__name__}")
    if not 1 <= len(several) <= _MOST:
        raise InputError(f"landscape: {len(several)} landscapes; expected one to {_MOST}")
    if labels is not None and len(labels) != len(several):
        raise InputError(f"landscape: {len(labels)} labels for {len(several)} landscapes")
    if len({x.dims for x in several}) > 1:
        raise InputError("landscape: one is a line and another a plane; draw them apart")
    names = [x.model for x in several] if labels is None else list(labels)
    seen = np.concatenate([x.losses[np.isfinite(x.losses)] for x in several])
    if not len(seen):
        raise InputError("landscape: the loss is NaN or infinite at every point")
    if log is None:
        log = bool(seen.min() > 0 and seen.max() > _LOGARITHMIC * seen.min())
    elif log and seen.min() <= 0:
        raise InputError(
            "landscape: the loss has values of 0 and below, which a logarithmic scale cannot show"
        )
    draw = _lines if several[0].dims == 1 else _planes
    return draw(several, names, (float(seen.min()), float(seen.max())), log)


def _lines(several: list[Landscape], names: list[str], ends: tuple[float, float], log: bool) -> Figure:
    figure = new_figure(8, 4.5, "Loss along a random direction")
    axes = figure.subplots()
    for x, name, color in zip(several, names, COLORS):
        finite = np.where(np.isfinite(x.losses), x.losses, np.nan)
        axes.plot(x.axis, finite, color=color, lw=1.8, label=plot_name(name))
        axes.plot([0], [x.loss], "o", color=color, ms=6)
    axes.axvline(0, color=GUIDE, lw=1, ls="--")
    if log:
        axes.set_yscale("log")
    label_axes(axes, x="distance from the weights, in norms of each filter", y=_loss_name(several))
    if len(several) > 1:
        axes.legend(fontsize=8, frameon=False)
    return figure


def _planes(several: list[Landscape], names: list[str], ends: tuple[float, float], log: bool) -> Figure:
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import MaxNLocator

    columns = len(several)
    low, high = ends if ends[0] < ends[1] else (ends[0] - 0.5, ends[1] + 0.5)
    norm = LogNorm(low, high) if log else Normalize(low, high)
    chosen = np.geomspace(low, high, _LEVELS) if log else MaxNLocator(_LEVELS - 2).tick_values(low, high)
    levels = np.asarray(chosen)
    figure = new_figure(max(6.0, 5.2 * columns), 9.2, "Loss around the weights")
    shades = None
    for column, (x, name) in enumerate(zip(several, names), start=1):
        surface: Any = figure.add_subplot(2, columns, column, projection="3d")
        _surface(surface, x, plot_name(name, 40), norm, log)
        axes = figure.add_subplot(2, columns, columns + column)
        shades = _contours(axes, x, norm, levels)
        text = f"loss {x.loss:.4g} (+)" + (f", lowest {x.lowest[0]:.4g} (v)" if x.lowest[0] < x.loss else "")
        label_axes(axes, title=text, x="first direction", y="second direction" if column == 1 else "")
        axes.grid(False)
    bar = figure.colorbar(shades, ax=figure.axes[1::2], pad=0.02, aspect=30)  # type: ignore[arg-type]
    bar.set_label(_loss_name(several), fontsize=9)
    shown = levels[(levels >= low) & (levels <= high)] if not log else levels
    bar.set_ticks(shown.tolist(), labels=[f"{v:.4g}" for v in shown])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=8)
    return figure


def _surface(axes: Any, x: Landscape, title: str, norm: Any, log: bool) -> None:
    """Heights are those of the colours, so that a logarithmic scale is one in both."""
    losses = np.where(np.isfinite(x.losses), x.losses, np.nan)
    a, b = np.meshgrid(x.axis, x.axis)
    heights = np.log10(losses) if log else losses
    from matplotlib import colormaps

    colors = colormaps[_MAP](norm(np.ma.masked_invalid(losses)))
    axes.plot_surface(a, b, heights, facecolors=colors, rstride=1, cstride=1, linewidth=0.15, edgecolor="#00000040",
                      antialiased=True, shade=False)  # fmt: skip
    ends = np.log10([norm.vmin, norm.vmax]) if log else [norm.vmin, norm.vmax]
    axes.set_zlim(*ends)
    axes.set_title(title, fontsize=11, loc="left")
    axes.tick_params(labelsize=7, pad=-2)
    axes.set_zlabel("log10 of the loss" if log else "loss", fontsize=8, labelpad=-4)
    axes.view_init(elev=32, azim=-60)


def _contours(axes: Axes, x: Landscape, norm: Any, levels: np.ndarray) -> Any:
    losses = np.ma.masked_invalid(x.losses)
    axes.set_facecolor("#eeeeee")
    shades = axes.pcolormesh(x.axis, x.axis, losses, norm=norm, cmap=_MAP, shading="gouraud", rasterized=True)
    inner = levels[(levels > losses.min()) & (levels < losses.max())]
    if len(inner):
        lines = axes.contour(x.axis, x.axis, losses, levels=inner, colors="white", linewidths=0.9)
        axes.clabel(lines, fmt=lambda v: f"{v:.4g}", fontsize=7)
    low, place = x.lowest
    if low < x.loss:
        axes.plot(*place, "v", color=COLORS[1], ms=8, mec="white")
    axes.plot(0, 0, "+", color=COLORS[1], ms=12, mew=2.2)
    axes.set_aspect("equal")
    return shades


def _loss_name(several: Sequence[Landscape]) -> str:
    return "loss: " + ", ".join(dict.fromkeys(plot_name(x.loss_name) for x in several))
