"""Prediction against measurement over depth: do the layers do what theory says of this initialization?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..._base import InputError
from ...record import Record
from ..layers import reported_step, values_near
from ._style import (
    BACKWARD,
    FORWARD,
    GUIDE,
    choose_sites,
    depth_axis,
    label_axes,
    log_limits,
    new_figure,
    of_record,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@of_record
def theory_over_depth(
    record: Record,
    std: Sequence[float] | np.ndarray,
    cosine: Sequence[float] | np.ndarray | None = None,
    *,
    sites: str | Sequence[str] | None = None,
    step: int | None = None,
) -> Figure:
    """Measured std of every activation beside the predicted one, and the cosine between examples if given.

    std, cosine: one predicted number per site, in execution order, as `ug.theory.predict` gives them for layers
    with `sites` naming their outputs; NaN where there is no prediction. The cosine is that between different
    examples. Raises InputError if the numbers are not as many as the sites.

        predicted = ug.theory.predict_stack("tanh", depth=30, sigma_w=5 / 3)
        ug.plots.theory_over_depth(report.record, [p.std for p in predicted], sites="*.act")
    """
    chosen = choose_sites(record, "activation", sites, "theory_over_depth")
    names = [site.name for site in chosen]
    panels = [("std", _checked("std", std, names))]
    if cosine is not None:
        panels.append(("cosine", _checked("cosine", cosine, names)))
    values = values_near(record, "activation", reported_step(record) if step is None else step)
    figure = new_figure(
        float(np.clip(4 + 0.22 * len(names), 8, 14)), 1.5 + 2.7 * len(panels), "Theory over depth"
    )
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (statistic, predicted) in zip(rows, panels):
        measured = np.array([values.get(name, {}).get(statistic, np.nan) for name in names])
        _draw(axes, measured, predicted)
        if statistic == "std":
            axes.axhline(1, color=GUIDE, lw=1, ls="--")
            log_limits(axes, [*measured, *predicted], include=1.0)
            label_axes(axes, title="Activations (dashed: 1)", y="std")
        else:
            axes.set_ylim(min(-0.03, float(np.nanmin([0.0, *measured, *predicted])) - 0.03), 1.03)
            label_axes(axes, title="Between different examples (1: all the same)", y="cosine")
        axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        depth_axis(axes, names, label=axes is rows[-1])
    return figure


def _checked(name: str, numbers: Sequence[float] | np.ndarray, names: Sequence[str]) -> np.ndarray:
    array = np.asarray(numbers, dtype=float)
    if array.shape != (len(names),):
        raise InputError(
            f"theory_over_depth: {name} has shape {array.shape} for {len(names)} sites ({', '.join(names[:3])}, ...); "
            "expected one number per site; sites=... chooses them"
        )
    return array


def _draw(axes: Axes, measured: np.ndarray, predicted: np.ndarray) -> None:
    x = np.arange(1, len(measured) + 1)
    axes.plot(x, predicted, color=BACKWARD, lw=1.6, label="predicted")
    axes.plot(x, measured, "o", color=FORWARD, ms=4, label="measured")
