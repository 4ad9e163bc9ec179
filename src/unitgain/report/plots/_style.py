"""What all plots share: choosing sites, colours that everybody can distinguish, legends that stay readable.

matplotlib is imported inside the functions, so that `import unitgain` does not load it. Figures are made
without pyplot: no global state, no window, nothing to close.
"""

from __future__ import annotations

import functools
import os
from bisect import bisect_left
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..._base import InputError, did_you_mean, printable, write_atomically
from ...record import Record, Site
from ..layers import reported_step, thin
from ..text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 8  # up to this many layers each line has its own colour and name, beyond it colour means depth
NAMED_TICKS = 40  # up to this many layers the axis over depth carries their names
MAX_STEPS = 400  # lines over time are thinned to this many steps

# Okabe and Ito's colours, which people with any colour vision can distinguish, without the pale yellow
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#4D4D4D", "#8C510A")
FORWARD, BACKWARD, ZERO, SATURATED, DEAD = "#0072B2", "#D55E00", "#999999", "#E69F00", "#000000"
GUIDE = "#777777"
HEALTHY = "#e3f1e6"
HEALTHY_UPDATES = (-4.0, -2.0)  # log10 of update:data within which no rule says anything
DEPTH_MAP = "viridis"
DEEPEST = 0.88  # where the colours over depth end: the last yellow cannot be seen on white
COUNT_MAP = "cividis"


_Draw = TypeVar("_Draw", bound=Callable[..., Any])


def of_record(draw: _Draw) -> _Draw:
    """For the functions whose first argument is a Record: they take what has one too (a Report, a Probe), and refuse by
    name what has none, and a step that was not sampled."""

    @functools.wraps(draw)
    def drawn(record: Any, *args: Any, **options: Any) -> Any:
        return draw(record_of(record, draw.__name__, options.get("step")), *args, **options)

    return drawn  # type: ignore[return-value]


def record_of(given: Any, what: str, step: int | None = None) -> Record:
    """The Record, or that of a Report or Probe. Raises InputError where there is none, and for a step that was not
    sampled."""
    record = given if isinstance(given, Record) else getattr(given, "record", None)
    if not isinstance(record, Record):
        raise InputError(f"{what}: expected a Record or a Report, got {type(given).__name__}")
    if step is not None and step not in record.steps():
        sampled = ", ".join(map(str, thin(record.steps(), 6))) or "(none)"
        raise InputError(f"{what}(step={step!r}): not a sampled step; sampled steps are {sampled}")
    return record


def pictured_step(record: Record) -> int:
    """The step of a picture where none is asked for: the one that reports are about, but of a training that was lost to
    NaN or infinity the last one before."""
    last = reported_step(record)
    if _is_finite(record, last):
        return last
    steps = [step for step in record.steps() if step <= last]
    lost = bisect_left(steps, True, key=lambda step: not _is_finite(record, step))
    return steps[lost - 1] if lost else last


def _is_finite(record: Record, step: int) -> bool:
    return all(row.get("nonfinite", 0) == 0 for row in record.values("activation", step).values())


def new_figure(width: float, height: float, title: str) -> Figure:
    from ._picture import Picture

    figure = Picture(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int | str = "figure") -> None:
    """Writes a figure, in the format that its suffix names: whole or not at all, as others may be looking at it.

    Raises InputError if it cannot be written.
    """
    kind = os.path.splitext(path)[1][1:]
    try:
        write_atomically(path, lambda beside: figure.savefig(beside, format=kind, dpi=dpi), fsync=False)
    except OSError as error:
        raise InputError(f"plot {os.fspath(path)}: cannot be written: {error.strerror or error}") from error


def label_axes(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Title and labels of the axes, small tick labels, pale lines across, no frame at the top and right."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    if x == "step":
        whole_numbers(axes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def whole_numbers(axes: Axes) -> None:
    """No half steps on the x axis."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10]))


def mark_not_finite(axes: Axes, step: float | None) -> None:
    """A line at the step from which on values are missing, and why: they are NaN or infinite. None: nothing."""
    if step is None:
        return
    axes.axvline(step, color=GUIDE, lw=1.2, ls="--")
    axes.annotate("not finite", (step, 1), xycoords=("data", "axes fraction"), xytext=(3, -10),
                  textcoords="offset points", fontsize=8, color=GUIDE)  # fmt: skip


def first_not_finite(record: Record, kind: str, sites: Sequence[Site]) -> float | None:
    """The first sampled step at which a tensor of one of the sites held NaN or infinity."""
    spoilt = []
    for site in sites:
        steps, shares = record.series(kind, site.name, "nonfinite")
        spoilt += steps[shares > 0][:1].tolist()
    return min(spoilt, default=None)


def plot_name(name: str, width: int = 28) -> str:
    """A site's name as matplotlib may draw it: no mathematics, and not hidden by a leading underscore."""
    text = shorten(printable(name), width).replace("$", r"\$")
    return "\u200b" + text if text.startswith("_") else text


def choose_sites(record: Record, kind: str, sites: str | Sequence[str] | None, what: str) -> list[Site]:
    """Sites of one kind whose names match any of the fnmatch patterns (all if None), in execution order.

    Raises InputError if nothing of this kind was measured, if no name of this kind matches, or if one of the patterns
    matches no site of any kind: a typo among several names would go unseen.
    """
    known = record.sites(kind)
    if not known:
        raise InputError(f"{what}: the record has no {kind.replace('_', ' ')} sites; {_how_to_measure(kind)}")
    if sites is None:
        return known
    patterns = [sites] if isinstance(sites, str) else list(sites)
    everything = [s.name for s in record.sites()]
    names = [s.name for s in known]
    for (
        pattern
    ) in patterns:  # that of another kind's site may be among them: lecture takes layers and weights
        if not any(_fits(name, pattern) for name in everything):
            hint = did_you_mean(pattern, names) or f"; there are {', '.join(names[:3])}, ..."
            raise InputError(f"{what}: no {kind} site matches {pattern}{hint}")
    chosen = [s for s in known if any(_fits(s.name, p) for p in patterns)]
    if not chosen:
        raise InputError(
            f"{what}: no {kind} site matches {', '.join(patterns)}; there are {', '.join(names[:3])}, ..."
        )
    return chosen


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _how_to_measure(kind: str) -> str:
    if kind == "update":
        return "updates are measured by check(..., steps=10) or in a training with Probe(model, optimizer)"
    if kind in ("gradient", "parameter_gradient"):
        return "gradients are measured by check(model, batch, loss=...) or in a training with a Probe"
    return "measure the model with check(model, batch) or a Probe first"


def need_steps(record: Record, what: str) -> list[int]:
    """The sampled steps; InputError if there is nothing to see over time."""
    steps = record.steps()
    if len(steps) < 2:
        raise InputError(
            f"{what}: a chart over time needs two sampled steps, and the record has {len(steps)}; "
            "train under a Probe, or check(..., steps=10)"
        )
    return steps


def depth_axis(axes: Axes, names: Sequence[str], label: bool = True) -> None:
    """The x axis over depth at 1, 2, ...: the layers' names if they fit, otherwise their numbers."""
    axes.set_xlim(0.5, len(names) + 0.5)
    if len(names) <= NAMED_TICKS:
        axes.set_xticks(range(1, len(names) + 1))
        if label:
            axes.set_xticklabels(
                [plot_name(n, 22) for n in names], rotation=60, ha="right", rotation_mode="anchor"
            )
        else:
            axes.tick_params(labelbottom=False)
    else:
        axes.tick_params(labelbottom=label)
        if label:
            axes.set_xlabel("layer, in execution order", fontsize=9)


def line_colors(number: int) -> list[Any]:
    """One colour per line: distinct ones for few, a sequence over depth for many."""
    if number <= FEW:
        return list(COLORS[:number])
    from matplotlib import colormaps

    return list(colormaps[DEPTH_MAP](np.linspace(0, DEEPEST, number)))


def name_lines(figure: Figure, panels: Sequence[Axes], names: Sequence[str]) -> None:
    """Says which line is which: a legend beside few lines, a colour bar over depth for many."""
    if len(names) <= FEW:
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], color=c, label=plot_name(n), lw=2) for c, n in zip(COLORS, names)]
        figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
        return
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    shades = ListedColormap(colormaps[DEPTH_MAP](np.linspace(0, DEEPEST, 256)))
    bar = figure.colorbar(
        ScalarMappable(Normalize(1, len(names)), shades), ax=list(panels), pad=0.02, aspect=30
    )
    bar.set_label("layer, in execution order", fontsize=9)
    bar.set_ticks([1, len(names)], labels=[plot_name(names[0], 18), plot_name(names[-1], 18)])
    bar.ax.tick_params(labelsize=8)


def log_limits(axes: Axes, values: Sequence[float] | np.ndarray, include: float | None = None) -> None:
    """A log y axis that shows all positive finite values (and one guide), at least two decades."""
    values = np.asarray([*values, *([] if include is None else [include])], dtype=float)
    values = values[np.isfinite(values) & (values > 0)]
    axes.set_yscale("log")
    if len(values):
        low, high = np.log10(values.min()), np.log10(values.max())
        margin = max(0.15, (2 - (high - low)) / 2)
        axes.set_ylim(10 ** max(low - margin, -300), 10 ** min(high + margin, 300))
