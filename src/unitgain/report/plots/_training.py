"""Plots of a run: loss, learning rate and metrics over steps; and a sweep over learning rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from ..._base import InputError
from ...record import Record
from ..layers import thin
from ._compare import mark_constant
from ._style import COLORS, label_axes, mark_not_finite, new_figure, of_record, plot_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 2000  # more cannot be distinguished on a page
_WINDOW = 50  # the smoothed loss is a median over so many windows of the run


@of_record
def training(record: Record, *, log: bool | None = None, crop: bool = False) -> Figure:
    """The loss of every step with its course, the learning rate, and one panel for each further metric.

    log   a log axis for the loss; None: where it spans more than a factor of 30
    crop  whether the highest half per cent of the losses may leave the picture; the first ones, the hockey stick of a
          badly initialized network, may not otherwise

    The loss of a constant guess, ln C for C classes, is marked where the record knows it. Losses of whole passes
    (train_loss, valid_loss) are drawn over the steps' losses. Raises InputError if the record holds no loss: train
    with a Recorder, or probe.log(loss=loss).
    """
    names = record.metric_names()
    if "loss" not in names:
        raise InputError(
            "training: the record holds no loss; train with a Recorder, or call probe.log(loss=loss)"
        )
    passes = [n for n in names if n.endswith("_loss")]
    others = [n for n in names if n not in passes and n not in ("loss", "lr")]
    groups = _together(others)
    figure = new_figure(9, 3.6 + 1.8 * (len(groups) + ("lr" in names)), "Training")
    heights = [2.0] + [1.0] * (len(groups) + ("lr" in names))
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[
        :, 0
    ].tolist()
    draw_loss(panels[0], record, log, crop)
    if "lr" in names:
        steps, rates = record.metric("lr")
        rows = thin(range(len(steps)), _POINTS)
        end = record.metric("loss")[0][-1]  # a rate holds until the next one is recorded
        at, held = np.append(steps[rows], end), np.append(rates[rows], rates[-1])
        panels[1].plot(at, held, color=COLORS[0], lw=1.3, drawstyle="steps-post")
        label_axes(panels[1], y="learning rate")
    for axes, (title, members) in zip(panels[len(panels) - len(groups) :], groups.items()):
        for name, color in zip(members, COLORS):
            steps, values = record.metric(name)
            axes.plot(steps, values, color=color, lw=1.3, marker="o", ms=3, label=plot_name(name))
        if len(members) > 1:
            axes.legend(fontsize=8, frameon=False)
        label_axes(axes, y=plot_name(title))
    label_axes(panels[-1], y=panels[-1].get_ylabel(), x="step")
    return figure


def lr_sweep(
    rates: np.ndarray,
    losses: np.ndarray,
    smooth: np.ndarray,
    steepest: float | None,
    valley: float | None,
    *,
    suggestion: float | None = None,
    cliff: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Loss over learning rate, with the rates that were read off; from the cliff on, where the network died, the ground
    is shaded. The lowest loss is always shown; losses that exploded are cut off above.

    ax  draws into these axes instead of a new figure
    """
    if ax is None:
        figure = new_figure(7.5, 4.2, "Loss over learning rate")
        axes = figure.subplots()
    else:
        axes = ax
        figure = cast("Figure", axes.get_figure(root=True))
    finite = losses[np.isfinite(losses)]
    axes.plot(rates, losses, color=COLORS[4], lw=1, alpha=0.7, label="loss")
    axes.plot(rates, smooth, color=COLORS[0], lw=1.8, label="smoothed")
    low, high = float(min(smooth.min(), finite.min())), float(np.max(smooth))
    axes.set_ylim(low - 0.08 * (high - low) - 1e-9, high + 0.25 * (high - low) + 1e-9)
    tried = None if suggestion == valley else suggestion
    for name, at, color, marker in (
        ("steepest", steepest, COLORS[5], "v"),
        ("valley", valley, COLORS[1], "o"),
        ("suggestion", tried, COLORS[2], "*"),
    ):
        if at is not None and rates[0] <= at <= rates[-1]:
            level = float(np.interp(np.log10(at), np.log10(rates), smooth))
            axes.plot([at], [level], marker=marker, ms=9, color=color, ls="", label=f"{name} {at:.1e}")
    axes.set_xscale("log")
    if cliff is not None and cliff >= rates[0]:
        right = max(axes.get_xlim()[1], 3 * cliff)
        axes.axvspan(cliff, right, color=COLORS[3], alpha=0.2, lw=0, label=f"died in a trial at {cliff:.1e}")
        axes.set_xlim(right=right)
    axes.legend(fontsize=8, frameon=False)
    label_axes(axes, x="learning rate", y="loss")
    return figure


def draw_loss(axes: Axes, record: Record, log: bool | None = None, crop: bool = False) -> None:
    """The panel of `training` with the losses: those of the steps, their course, those of whole passes, and ln(C)."""
    passes = [n for n in record.metric_names() if n.endswith("_loss")]
    steps, losses = record.metric("loss")
    rows = thin(range(len(steps)), _POINTS)
    size = max(1, len(losses) // _WINDOW)
    pale = {"color": COLORS[4], "lw": 0.8, "alpha": 0.6} if size > 1 else {"color": COLORS[0], "lw": 1.5}
    axes.plot(steps[rows], losses[rows], label="loss, each step", **pale)
    if size > 1:
        whole = len(losses) // size * size
        with np.errstate(invalid="ignore"):
            course = np.median(losses[:whole].reshape(-1, size), axis=1)
        axes.plot(
            steps[:whole].reshape(-1, size).mean(1), course, color=COLORS[0], lw=1.8, label="loss, median"
        )
    points = []
    for name, color in zip(passes, COLORS[1:]):
        at, values = record.metric(name)
        seen = values[np.isfinite(values)]
        if len(seen):
            axes.plot(at, values, color=color, lw=1.3, marker="o", ms=4, label=plot_name(name))
            points.append(seen)
    finite = losses[np.isfinite(losses)]
    if len(finite):
        shown = np.concatenate([np.percentile(finite, [0, 99.5 if crop else 100]), *points])
        low, high = shown.min(), shown.max()
        if log or (log is None and low > 0 and high / low > 30):
            axes.set_yscale("log")
            if crop and low > 0:
                axes.set_ylim(low / 1.1, high * 1.1)
        elif high > low:
            axes.set_ylim(low - 0.08 * (high - low), high + 0.1 * (high - low))
    mark_constant(axes, record)
    missing = steps[~np.isfinite(losses)]
    if len(missing):
        mark_not_finite(axes, missing[0])
    axes.legend(fontsize=8, frameon=False)
    label_axes(axes, y="loss")


def _together(names: list[str]) -> dict[str, list[str]]:
    """A metric and its train_ counterpart share a panel."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda n: n.startswith("train_")):
        groups.setdefault(name.removeprefix("train_"), []).append(name)
    return groups
