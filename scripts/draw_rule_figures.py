"""Draws docs/images/rules: for a rule, what it looks at, in its bad example and in its better one, side by side.

    python scripts/draw_rule_figures.py [CODE...]

The examples are those of the rules' files, which tests run. scripts/build_rule_pages.py puts the pictures on the pages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import unitgain as ug
from unitgain.rules import CATALOGUE
from unitgain.rules._rule import PRELUDE

FOLDER = Path(__file__).parents[1] / "docs" / "images" / "rules"
BAD, BETTER = "#D55E00", "#0072B2"
Draw = Callable[[Axes, ug.Record, str], None]


def record_of(source: str) -> ug.Record:
    """The record that an example makes: of its report, its Probe or its Learner."""
    held: dict[str, object] = {"__name__": "example"}
    exec(compile(PRELUDE + source, "example", "exec"), held)
    for name in ("report", "probe", "learner"):
        record = getattr(held.get(name), "record", None)
        if isinstance(record, ug.Record):
            return record
    raise LookupError("the example makes no record")


def over_depth(kind: str, column: str, label: str, roles: tuple[str, ...] = ()) -> Draw:
    def draw(axes: Axes, record: ug.Record, color: str) -> None:
        sites = [s for s in record.sites(kind) if not roles or s.attributes.get("role") in roles]
        values = [record.values(kind).get(s.name, {}).get(column, np.nan) for s in sites]
        known = np.where(
            np.array(values) == 0, np.nan, values
        )  # a branch that begins at zero has no place there
        axes.plot(range(1, len(known) + 1), known, "o-", color=color, ms=4 if len(known) < 60 else 2, lw=1.2)
        axes.set_yscale("log")
        whole_numbers(axes)
        axes.set_xlabel("layer, in the order of execution")
        axes.set_ylabel(label)

    return draw


def whole_numbers(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def densities(axes: Axes, record: ug.Record, color: str) -> None:
    bounded = {s.name for s in record.sites("activation") if s.attributes.get("role") == "activation"}
    edges = np.linspace(-1, 1, 41)
    for h in record.histograms("activation"):
        if h.site in bounded:
            axes.stairs(h.onto(edges) / h.total / np.diff(edges), edges, color=color, fill=True, alpha=0.6)
    axes.set_xlabel("value of an output of tanh")
    axes.set_ylabel("density")


def ratios(axes: Axes, record: ug.Record, color: str) -> None:
    for site in record.sites("update"):
        if len(site.shape) > 1:
            axes.plot(*record.series("update", site.name, "ratio"), color=color, lw=1.2)
    axes.axhspan(-4, -2, color="#e3f1e6", zorder=0)
    axes.axhline(-3, color="#777777", lw=1, ls=":")
    axes.set_xlabel("step")
    axes.set_ylabel("log10 of update:data")


def gradient_ratios(axes: Axes, record: ug.Record, color: str) -> None:
    sites = [s for s in record.sites("parameter_gradient") if len(s.shape) > 1]
    values = [record.values("parameter_gradient").get(s.name, {}).get("ratio", np.nan) for s in sites]
    axes.plot(range(1, len(values) + 1), values, "o", color=color, ms=5)
    axes.set_xlabel("weight, in the order of execution")
    axes.set_ylabel("log10 of gradient:data")


def logarithmic_losses(axes: Axes, record: ug.Record, color: str) -> None:
    losses(axes, record, color)
    axes.set_yscale("log")


def losses(axes: Axes, record: ug.Record, color: str) -> None:
    axes.plot(*record.metric("loss"), color=color, lw=1.2)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")


def dead(axes: Axes, record: ug.Record, color: str) -> None:
    values = record.values("activation")
    found = {
        name: row["dead"] / row["units"]
        for name, row in values.items()
        if row.get("units", 0) > 0 and row.get("dead", -1) >= 0
    }
    axes.bar(list(found), [100 * v for v in found.values()], color=color, width=0.4)
    axes.set_ylim(0, 100)
    axes.set_xlabel("layer")
    axes.set_ylabel("% of units dead")


RMS = over_depth("activation", "rms", "rms of the activations")
GRADIENT = over_depth("gradient", "rms", "rms of the gradient")
PICTURES: dict[str, Draw] = {
    "UG110": losses, "UG301": RMS, "UG302": RMS, "UG303": densities, "UG304": dead,
    "UG305": over_depth("activation", "sq_channel_mean", "mean square of channels' means"),
    "UG307": over_depth("activation", "cosine", "cosine between different examples"),
    "UG401": GRADIENT, "UG402": GRADIENT, "UG404": gradient_ratios,
    "UG501": ratios, "UG502": ratios, "UG503": ratios, "UG504": logarithmic_losses, "UG505": losses,
    "UG506": ratios, "UG507": ratios, "UG508": ratios, "UG510": losses,
    "UG605": RMS, "UG607": RMS,
}  # fmt: skip


def draw(code: str) -> Figure:
    rule = CATALOGUE[code]
    figure = Figure(figsize=(8, 2.7), dpi=80, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, source, color, title in (
        (left, rule.bad, BAD, "Example"),
        (right, rule.good, BETTER, "Better"),
    ):
        PICTURES[code](axes, record_of(source), color)
        axes.set_title(title, fontsize=10, loc="left", color=color)
        axes.spines[["top", "right"]].set_visible(False)
    right.set_ylabel("")
    if code == "UG307":
        left.set_yscale("linear")
        right.set_yscale("linear")
    return figure


def main(wanted: list[str]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for code in wanted or PICTURES:
        draw(code).savefig(FOLDER / f"{code}.png")
        print(f"docs/images/rules/{code}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
