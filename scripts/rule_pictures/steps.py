"""Pictures of a training, over its steps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from operator import attrgetter

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from ._example import Example
from ._paper import BAND, GUIDE, Draw, from_zero, guide, labels, percent, short, whole_numbers


def loss(log: bool = False, limit: Callable[[Example], tuple[float, str]] | None = None) -> Draw:
    """The recorded loss."""

    def draw(axes: Axes, example: Example, ink: str) -> str:
        steps, values = example.record.metric("loss")
        axes.plot(steps, values, color=ink)
        axes.set_xlim(-0.02 * steps[-1], 1.02 * steps[-1])
        if log:
            axes.set_yscale("log")
        if limit is not None:
            value, text = limit(example)
            guide(axes, value, text, below=text == "a guess")
        whole_numbers(axes)
        labels(axes, "step", "loss")
        last = values[-1]
        return (
            f"{short(values[0])} to {short(last)}" if np.isfinite(last) else f"NaN from step {_first(values)}"
        )

    return draw


def _first(values: np.ndarray) -> int:
    return int(np.argmin(np.isfinite(values)))


def guess(example: Example) -> tuple[float, str]:
    """The loss of a guess by the frequencies of the labels."""
    shares = torch.bincount(example.names["y"]).double() / len(example.names["y"])
    return -(shares * shares.log()).sum().item(), "a guess"


def even_guess(example: Example) -> tuple[float, str]:
    classes = len(example.names["y"].unique())
    return math.log(classes), f"ln({classes})"


def own_loss(axes: Axes, example: Example, ink: str) -> str:
    """The loss of each pass of the example's loop."""
    values = [p.loss for p in example.passes]
    axes.plot(range(1, len(values) + 1), values, color=ink)
    whole_numbers(axes)
    labels(axes, "pass of the loop", "loss")
    return f"{values[0]:.2f} to {values[-1]:.2f}"


def ratios(axes: Axes, example: Example, ink: str, lowest: bool = False) -> str:
    """log10 of update:data of every weight, with the band in which no rule says anything."""
    record, last = example.record, []
    for site in record.sites("update"):
        if len(site.shape) > 1:
            steps, values = record.series("update", site.name, "ratio")
            axes.plot(steps, np.where(np.isfinite(values), values, np.nan), color=ink, lw=1.4)
            last.append(values[-1])
            axes.set_xlim(-0.02 * steps[-1], 1.02 * steps[-1])
    axes.axhspan(-4, -2, color=BAND, zorder=0, lw=0)
    axes.axhline(-3, color=GUIDE, lw=1, ls=":")
    whole_numbers(axes)
    labels(axes, "step", "log10 of update:data")
    if lowest:
        return f"lowest 10^{min(last):.1f}"
    middle = float(np.median(last))
    return f"about 10^{middle:.1f}" if math.isfinite(middle) else "ends at nothing"


def lowest_ratio(axes: Axes, example: Example, ink: str) -> str:
    return ratios(axes, example, ink, lowest=True)


def sizes(axes: Axes, example: Example, ink: str) -> str:
    """rms of every weight over the steps, as a share of what it was."""
    record, left = example.record, []
    for site in record.sites("parameter"):
        if len(site.shape) > 1:
            steps, values = record.series("parameter", site.name, "rms")
            axes.plot(steps, values / values[0], color=ink)
            left.append(values[-1] / values[0])
    from_zero(axes)
    guide(axes, 1, "as at the start", below=True)
    labels(axes, "step", "size of each weight")
    return f"ends at {min(left):.2f}"


def gradients(log: bool = True, limit: float | None = None) -> Draw:
    """The norm of the gradients after each backward pass, and that of what the step used."""

    def draw(axes: Axes, example: Example, ink: str) -> str:
        given, used = [p.gradient for p in example.passes], example.used
        axes.plot(range(1, len(given) + 1), given, color=GUIDE, lw=1.4, label="after backward")
        axes.plot(range(1, len(used) + 1), used, color=ink, ls="--", lw=1.8, label="used by the step")
        if log:
            axes.set_yscale("log")
        else:
            from_zero(axes)
        if limit is not None:
            guide(axes, limit, f"limit {limit:g}", below=True)
        axes.legend(loc="best")
        whole_numbers(axes)
        labels(axes, "step", "norm of all gradients")
        return f"used {short(float(np.median(used)))}" if np.median(used) > 0 else "used none"

    return draw


def piled_up(axes: Axes, example: Example, ink: str) -> str:
    """The norm of the gradients that each step used."""
    axes.plot(range(1, len(example.used) + 1), example.used, color=ink)
    from_zero(axes)
    whole_numbers(axes)
    labels(axes, "step", "norm of gradients used")
    return f"{short(example.used[0])} to {short(example.used[-1])}"


def modes(axes: Axes, example: Example, ink: str) -> str:
    """The mode in which each step was made."""
    train = [p.training for p in example.passes]
    axes.step(range(1, len(train) + 1), train, where="mid", color=ink, lw=2)
    axes.set_yticks([0, 1], ["eval", "train"])
    axes.set_ylim(-0.3, 1.3)
    whole_numbers(axes)
    labels(axes, "step", "mode of the model")
    return f"{percent(1 - sum(train) / len(train))} in eval mode"


def validations(axes: Axes, example: Example, ink: str) -> str:
    """Twelve validations of the weights at the end, in the mode in which the example validates."""
    torch.manual_seed(0)
    x, y = example.names["x"][:256], example.names["y"][:256]
    with torch.no_grad():
        losses = [torch.nn.functional.mse_loss(example.model(x), y).item() for _ in range(12)]
    axes.plot(range(1, 13), losses, "o-", color=ink, ms=4, lw=1)
    from_zero(axes)
    whole_numbers(axes)
    labels(axes, "validation of the same weights", "its loss")
    return (
        f"{short(min(losses))} to {short(max(losses))}"
        if max(losses) > min(losses)
        else f"always {short(losses[0])}"
    )


def moved(axes: Axes, example: Example, ink: str) -> str:
    """How far ten steps move each weight that the outputs depend on, as a share of its size."""
    torch.manual_seed(0)
    optimizer = example.options.get("optimizer")
    held = {id(p) for g in optimizer.param_groups for p in g["params"]} if optimizer else None
    known = [(name, p) for name, p in example.model.named_parameters() if held is None or id(p) in held]
    model = copy.deepcopy(example.model)
    stepper = torch.optim.SGD([dict(model.named_parameters())[name] for name, _ in known], lr=0.02)
    names = list(
        dict.fromkeys([*example.evidence.get("weights", ()), *(n for n, _ in model.named_parameters())])
    )
    before = {name: _tensor(model, name).detach().clone() for name in names}
    for _ in range(10):
        stepper.zero_grad()
        example.loss(model(*example.inputs), example.targets).backward()
        stepper.step()
    way = {
        n: ((_tensor(model, n).detach() - b).norm() / b.norm()).item()
        for n, b in before.items()
        if b.dim() > 1
    }
    bars = axes.barh(range(len(way)), [100 * v for v in way.values()], color=ink, height=0.5)
    axes.bar_label(
        bars, ["not at all" if v == 0 else f"{100 * v:.2g}%" for v in way.values()], fontsize=10, padding=3
    )
    axes.set_yticks(range(len(way)), list(way))
    axes.set_ylim(len(way) - 0.5, -0.5)
    axes.margins(x=0.35)
    labels(axes, "moved in ten steps, % of its size")
    still = sum(v == 0 for v in way.values())
    return f"{still} of {len(way)} stay" if still else "all move"


def _tensor(model: torch.nn.Module, path: str) -> Tensor:
    """By a path such as layers[0].weight."""
    return attrgetter(path)(model) if "[" not in path else eval(f"model.{path}", {"model": model})
