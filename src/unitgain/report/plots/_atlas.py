"""The atlas: all that a reader needs to judge a network, in one figure."""

from __future__ import annotations

import textwrap
from functools import partial
from typing import TYPE_CHECKING, Any

from ..._base import InputError, printable
from ...record import Record
from ...rules import Diagnosis, diagnose
from ..layers import reported_step
from ._depth import draw_fractions, draw_scale
from ._events import events_of, mark_events
from ._lecture import draw_densities, measured
from ._style import FEW, GUIDE, depth_axis, label_axes, new_figure, plot_name, record_of
from ._time import draw_update_ratio
from ._training import draw_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _DPI = 16.0, 100  # inches and points: 1,600 wide
_FINDINGS = 4  # with their messages; of more, the codes are named
_LINE = 74  # characters of a line of text in the panel of findings
_LINES = 3  # of one message
_COLORS = {"error": "#d43d3d", "warning": "#c98a00", "info": "#5b8def"}
_STATUS = {"healthy": "#2a9d55", "watch": "#c98a00", "sick": "#d43d3d"}


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
    at = reported_step(found) if step is None else step
    if not found.values("activation", at):
        raise InputError(f"atlas: the record has no activations at step {at}")
    top, middle = _over_time(found), _densities(found, at)
    figure = new_figure(_WIDTH, 4.1 + 3.1 * ((len(middle) + 2) // 2), _title(found))
    figure.set_dpi(_DPI)
    rows = figure.add_gridspec(1 + (len(middle) + 2) // 2, 1, hspace=0.02)
    first = rows[0].subgridspec(1, 1 + len(top), width_ratios=[1.15, *[1.0] * len(top)])
    _say(figure.add_subplot(first[0]), diagnosis)
    for place, draw in enumerate(top, start=1):
        draw(figure.add_subplot(first[place]))
    lower: list[Any] = [cell for row in range(1, rows.nrows) for cell in rows[row].subgridspec(1, 2)]
    for cell, draw in zip(lower, middle):
        draw(figure.add_subplot(cell))
    _depth(figure, lower[len(middle)], found, at)
    return figure


def _title(record: Record) -> str:
    from ..terminal import heading_parts

    return " · ".join(plot_name(part, 60) for part in heading_parts(record))


def _say(axes: Axes, diagnosis: Diagnosis) -> None:
    """The verdict, what to do first, and the most important findings."""
    axes.set_axis_off()
    color = _STATUS.get(diagnosis.status, GUIDE)
    y = 1.0
    for text, style in _lines(diagnosis, color):
        axes.text(0, y, text, transform=axes.transAxes, va="top", fontsize=9.5, parse_math=False, **style)
        y -= 0.062 * (1 + text.count("\n"))


def _lines(diagnosis: Diagnosis, color: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield _wrapped(diagnosis.verdict, 3), {"color": color, "fontweight": "bold"}
    if diagnosis.first_action:
        yield _wrapped(f"Do this first: {diagnosis.first_action}", 4), {}
    for finding in diagnosis.findings[:_FINDINGS]:
        where = f"  {finding.site}" if finding.site else ""
        yield _wrapped(f"{finding.code} {finding.name}{where}", 1), {
            "color": _COLORS[finding.severity], "fontweight": "bold",
        }  # fmt: skip
        yield _wrapped(finding.message, _LINES), {}
    more = [f.code for f in diagnosis.findings[_FINDINGS:]]
    if more:
        yield _wrapped(f"and {', '.join(dict.fromkeys(more))}", 1), {"color": GUIDE}


def _wrapped(text: str, lines: int) -> str:
    return "\n".join(textwrap.wrap(printable(text), _LINE, max_lines=lines, placeholder=" …"))


def _over_time(record: Record) -> list[Callable[[Axes], None]]:
    panels: list[Callable[[Axes], None]] = []
    if len(record.metric("loss")[0]) > 1:
        panels.append(partial(_loss, record))
    if len(record.steps()) > 1 and record.sites("update"):
        panels.append(partial(_updates, record))
    return panels


def _loss(record: Record, axes: Axes) -> None:
    draw_loss(axes, record)
    label_axes(axes, title="loss", x="step")
    mark_events(axes, events_of(record), GUIDE)


def _updates(record: Record, axes: Axes) -> None:
    title = "update:data, how much a step changes each weight"
    try:
        draw_update_ratio(record, axes, None, FEW)
    except InputError:
        axes.text(0.5, 0.5, "no update was measured", transform=axes.transAxes, ha="center", color=GUIDE)
        label_axes(axes, title=title)
        return
    label_axes(axes, title=title, x="step", y="log10 of the ratio")
    mark_events(axes, events_of(record), GUIDE, said=False)
    axes.legend(fontsize=7, frameon=False, ncols=2, loc="best")


def _densities(record: Record, step: int) -> list[Callable[[Axes], None]]:
    panels: list[Callable[[Axes], None]] = []
    for kind in ("activation", "gradient", "parameter_gradient"):
        found = measured(record, kind, None, step)
        if found:
            panels.append(partial(draw_densities, record, kind, found, step, True))
    return panels


def _depth(figure: Figure, cell: Any, record: Record, step: int) -> None:
    """Scale over depth, and below it what is zero, saturated or dead."""
    values = record.values("activation", step)
    names = [site.name for site in record.sites("activation")]
    upper, lower = (figure.add_subplot(part) for part in cell.subgridspec(2, 1))
    draw_scale(upper, names, values)
    label_axes(upper, title="activations over depth (dashed: 1)", y="magnitude")
    draw_fractions(lower, names, values)
    label_axes(lower, y="per cent")
    for axes in (upper, lower):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    depth_axis(upper, names, label=False)
    depth_axis(lower, names)
