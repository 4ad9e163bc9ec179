"""One activation function: its values, its derivative, what it does to normal inputs, where it is flat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..._base import InputError
from ._style import BACKWARD, DEAD, FORWARD, GUIDE, label_axes, new_figure, plot_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 1201
_FLAT = 1e-3  # a derivative below this passes no gradient on; the bound of rules about dead units


def activation(function: Any, *, reach: float = 5.0, std: float = 1.0) -> Figure:
    """An activation function with its derivative; the density of its output for normal inputs; mean, std and gains.

    function  a name ("tanh"), a function of a tensor (torch.tanh), or a module
    reach     inputs from -reach to reach
    std       of the inputs for which mean, std and the output's density are given

    Grey is where the derivative is below 10^-3 in size: a unit that stays there passes no gradient on. gain is what the
    weights behind it are multiplied by so that the variance stays one (`ug.theory.gain`). Raises InputError for what is
    no elementwise function.

    >>> figure = activation("tanh")
    >>> figure.axes[0].get_title(loc="left")
    'tanh and its derivative'
    """
    from ... import theory

    if not (isinstance(reach, (int, float)) and 0 < reach < 100):
        raise InputError(f"activation: reach is {reach!r}; expected a number above 0, below 100")
    moments = theory.moments(function, std)
    x = np.linspace(-reach, reach, _POINTS)
    name, y, slope = theory.evaluate(function, x)
    figure = new_figure(9.5, 4.2, plot_name(name))
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    _curves(left, name, x, y, slope)
    _output(right, theory.evaluate(function, std * _normal(200_001))[1])
    figure.supxlabel(_numbers(function, moments, std, theory), fontsize=9, x=0.01, ha="left")
    return figure


def _curves(axes: Axes, name: str, x: np.ndarray, y: np.ndarray, slope: np.ndarray) -> None:
    flat = np.abs(slope) < _FLAT
    for start, end in _runs(flat):
        axes.axvspan(
            x[start], x[end], color=DEAD, alpha=0.08, lw=0, label="flat" if start == _first(flat) else None
        )
    axes.axhline(0, color=GUIDE, lw=0.8)
    axes.axvline(0, color=GUIDE, lw=0.8)
    axes.plot(x, y, color=FORWARD, lw=2, label="function")
    axes.plot(x, slope, color=BACKWARD, lw=1.6, label="derivative")
    axes.set_xlim(x[0], x[-1])
    axes.legend(fontsize=8, frameon=False)
    label_axes(axes, title=f"{plot_name(name)} and its derivative", x="input")


def _output(axes: Axes, values: np.ndarray) -> None:
    low, high = np.quantile(values, [0.001, 0.999])
    edges = np.linspace(low, high, 81) if high > low else np.linspace(low - 0.5, low + 0.5, 81)
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts / len(values) / np.diff(edges), edges, fill=True, color=FORWARD, alpha=0.6)
    axes.axvline(float(values.mean()), color=BACKWARD, lw=1.6, label="mean")
    axes.legend(fontsize=8, frameon=False)
    label_axes(axes, title="its output for normal inputs", x="output", y="density")


def _numbers(function: Any, moments: Any, std: float, theory: Any) -> str:
    parts = [f"inputs of std {std:g}: mean {moments.mean:.3f}, std {moments.std:.3f}"]
    for words, tell in (("gain", theory.gain), ("gain of gradients", theory.backward_gain)):
        try:
            parts.append(f"{words} {tell(function):.4f}")
        except InputError:
            continue  # not defined for this function
    return "; ".join(parts)


def _normal(count: int) -> np.ndarray:
    """Values that are spread as a normal variable's quantiles are: no random draw."""
    from statistics import NormalDist

    normal = NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / count) for i in range(0, count, 20)])


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2])]


def _first(flags: np.ndarray) -> int:
    return int(np.argmax(flags))
