"""The atlas: all that a reader needs to judge a network, in one figure."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..._base import InputError, printable
from ...record import Record
from ...rules import Diagnosis, diagnose
from ._depth import draw_fractions, draw_scale
from ._events import events_of, mark_events
from ._lecture import draw_densities, measured
from ._style import FEW, GUIDE, depth_axis, label_axes, new_figure, pictured_step, plot_name, record_of
from ._time import draw_update_ratio
from ._training import draw_loss

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 1600 / 120  # inches of 120 points
_FINDINGS = 4  # with their messages; of more, the codes are named
_LINE = 66  # characters of a line of text in the panel of findings
_KINDS = {
    "activation": "activations",
    "gradient": "gradients of activations",
    "parameter_gradient": "gradients of weights",
}
_COLORS = {"error": "#d43d3d", "warning": "#c98a00", "info": "#5b8def"}
_STATUS = {"healthy": "#2a9d55", "watch": "#c98a00", "sick": "#d43d3d"}
_Panel = Callable[["Axes"], None]


def atlas(record: Any, *, step: int | None = None) -> Figure:
    """One figure for a page or a talk, 1,600 points wide: what was found, the loss, update:data, densities of the
    activations with what theory gives them, of their gradients and of the weights' gradients, and over depth the scale,
    and the shares of values that are zero, saturated or dead.

    record  a Record, or a Report (whose findings are shown) or Probe that has one
    step    a sampled step, by default the one that reports are about

    A panel of something that was not measured (the loss over time in a check without steps) is left out, and the others
    take its place. Raises InputError if no activations were measured.
    """
    found = record_of(record, "atlas", step)
    diagnosis = getattr(record, "diagnosis", None)
    if not isinstance(diagnosis, Diagnosis):
        diagnosis = diagnose(found)
    at = pictured_step(found) if step is None else step
    if not found.values("activation", at):
        raise InputError(f"atlas: the record has no activations at step {at}")
    rows: list[tuple[float, list[_Panel]]] = []  # (height, panels)
    over_time, depth = _over_time(found), _over_depth(found, at)
    rows.append((2.9, [partial(_say, found, diagnosis), *(over_time or depth)]))
    if densities := _densities(found, at):
        rows.append((3.7, densities))
    if over_time:
        rows.append((2.4, depth))
    figure = new_figure(_WIDTH, 0.4 + sum(height for height, _ in rows), _title(found))
    grid = figure.add_gridspec(len(rows), 1, height_ratios=[height for height, _ in rows])
    for row, (_, panels) in enumerate(rows):
        cells = grid[row].subgridspec(1, len(panels))
        for column, draw in enumerate(panels):
            draw(figure.add_subplot(cells[column]))
    return figure


def _title(record: Record) -> str:
    from ..terminal import heading_parts

    return " · ".join(plot_name(part, 60) for part in heading_parts(record))


def _say(record: Record, diagnosis: Diagnosis, axes: Axes) -> None:
    """The verdict, what to do first, and the most important findings."""
    axes.set_axis_off()
    down = 0.0
    for text, style in _lines(record, diagnosis, _STATUS.get(diagnosis.status, GUIDE)):
        axes.annotate(text, (0, 1), xycoords="axes fraction", xytext=(0, -down), textcoords="offset points", va="top",
                      fontsize=9, parse_math=False, annotation_clip=False, **style)  # fmt: skip
        down += 11.5 * (1 + text.count("\n")) + 4


def _lines(record: Record, diagnosis: Diagnosis, color: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield _wrapped(diagnosis.verdict, 3), {"color": color, "fontweight": "bold"}
    if diagnosis.first_action:
        yield _wrapped(f"Do this first: {diagnosis.first_action}", 4), {}
    for finding in diagnosis.findings[:_FINDINGS]:
        site = record.site("activation", finding.site) if finding.site else None
        where = f"  {site.title if site else finding.site}" if finding.site else ""
        yield _wrapped(f"{finding.code} {finding.name}{where}", 1), {
            "color": _COLORS[finding.severity], "fontweight": "bold",
        }  # fmt: skip
        yield _wrapped(finding.message, 3 if len(diagnosis.findings) < 3 else 2), {}
    more = [f.code for f in diagnosis.findings[_FINDINGS:]]
    if more:
        yield _wrapped(f"and {', '.join(dict.fromkeys(more))}", 1), {"color": GUIDE}


def _wrapped(text: str, lines: int) -> str:
    return "\n".join(textwrap.wrap(printable(text), _LINE, max_lines=lines, placeholder=" …"))


def _over_time(record: Record) -> list[_Panel]:
    panels: list[_Panel] = []
    if len(record.metric("loss", optional=True)[0]) > 1:
        panels.append(partial(_loss, record))
    if len(record.steps()) > 1 and record.sites("update"):
        panels.append(partial(_updates, record))
    return panels


def _loss(record: Record, axes: Axes) -> None:
    draw_loss(axes, record)
    label_axes(axes, title="loss", x="step")
    mark_events(axes, events_of(record), GUIDE)


def _updates(record: Record, axes: Axes) -> None:
    title = "update:data of the weights"
    try:
        draw_update_ratio(record, axes, None, FEW)
    except InputError:
        axes.text(0.5, 0.5, "no update was measured", transform=axes.transAxes, ha="center", color=GUIDE)
        label_axes(axes, title=title)
        return
    label_axes(axes, title=title, x="step", y="log10 of the ratio")
    mark_events(axes, events_of(record), GUIDE, said=False)
    axes.legend(fontsize=7, frameon=False, ncols=2, loc="best")


def _densities(record: Record, step: int) -> list[_Panel]:
    panels: list[_Panel] = []
    for kind, title in _KINDS.items():
        found = measured(record, kind, None, step)
        if found:
            draw = partial(draw_densities, record, kind, found, step, True)
            panels.append(partial(_density, draw, title, step))
    return panels


def _density(draw: _Panel, title: str, step: int, axes: Axes) -> None:
    """With the legend below, so that three stand side by side."""
    draw(axes)
    axes.set_title(f"{title}, step {step}", fontsize=10, loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16), fontsize=7, frameon=False, borderaxespad=0,
                handlelength=1.2)  # fmt: skip


def _over_depth(record: Record, step: int) -> list[_Panel]:
    values = record.values("activation", step)
    names = [site.name for site in record.sites("activation")]

    def scale(axes: Axes) -> None:
        draw_scale(axes, names, values)
        _finish(axes, f"activations over depth, step {step}", "magnitude")

    def fractions(axes: Axes) -> None:
        draw_fractions(axes, names, values)
        _finish(axes, "zero, saturated, dead over depth", "per cent")

    def _finish(axes: Axes, title: str, y: str) -> None:
        label_axes(axes, title=title, y=y)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", fontsize=8, frameon=False)
        depth_axis(axes, names)

    return [scale, fractions]
