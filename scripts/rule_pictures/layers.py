"""Pictures of activations, weights and gradients, over depth."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from ._example import Example
from ._paper import GUIDE, Draw, from_zero, guide, labels, matrix, percent, short, whole_numbers

ROUNDING = 1e-6  # norms of gradients below it are what float32 rounds


def over_depth(
    kind: str, column: str, label: str, *, role: str = "", backwards: bool = False, log: bool = True
) -> Draw:
    """One statistic at every site of a kind and role, in the order of execution. backwards: the order of its note."""

    def draw(axes: Axes, example: Example, ink: str) -> str:
        record = example.record
        values = [
            record.values(kind).get(s.name, {}).get(column, np.nan)
            for s in record.sites(kind)
            if s.attributes.get("role") == role or not role
        ]
        # a branch that begins at zero has no place on a logarithmic axis
        known = np.where(np.array(values) == 0, np.nan, values) if log else np.array(values)
        axes.plot(range(1, len(known) + 1), known, "o-" if len(known) < 60 else "-", color=ink, ms=4, lw=1.2)
        if log:
            axes.set_yscale("log")
        whole_numbers(axes)
        labels(axes, "layer, in order of execution", label)
        shown = known[np.isfinite(known)]
        if backwards:
            return f"{short(shown[-1])} back to {short(shown[0])}"
        farthest = shown[np.abs(np.log10(shown / shown[0])).argmax()] if log else shown[-1]
        return (
            f"{short(shown[0])} to {short(farthest)}"
            if log
            else f"{shown[0]:.2f} to {shown[-1]:.2f}".replace("-0.00", "0.00")
        )

    return draw


def densities(axes: Axes, example: Example, ink: str) -> str:
    """Of the outputs of bounded functions, with their flat tails."""
    record = example.record
    bounded = {s.name for s in record.sites("activation") if s.attributes.get("role") == "activation"}
    edges = np.linspace(-1, 1, 41)
    for h in record.histograms("activation"):
        if h.site in bounded:
            axes.stairs(h.onto(edges) / h.total / np.diff(edges), edges, color=ink, fill=True, alpha=0.75)
    for low, high in ((-1, -0.97), (0.97, 1)):
        axes.axvspan(low, high, color=GUIDE, alpha=0.35, lw=0, zorder=0)
    labels(axes, "output of tanh (grey: flat tails)", "density")
    return f"{percent(max(record.value('activation', s, 'saturated') for s in bounded))} in flat tails"


def activity(axes: Axes, example: Example, ink: str) -> str:
    """For how many examples each unit of the ReLU is active."""
    shares = 100 * (_output_of(example, "1") > 0).float().mean(0)
    axes.bar(range(1, len(shares) + 1), shares.numpy(), color=ink, width=0.8)
    axes.set_ylim(0, 100)
    labels(axes, "unit of the ReLU", "% of examples with it active")
    return f"{int((shares == 0).sum())} of {len(shares)} units dead"


def not_finite(axes: Axes, example: Example, ink: str) -> str:
    """The share of each layer's values that is NaN or infinite."""
    record = example.record
    shares = {s.name: record.value("activation", s.name, "nonfinite") for s in record.sites("activation")}
    names = {"input": "input", **{s.name: f"{s.name} ({s.module})" for s in record.sites("activation")}}
    places = range(len(shares))
    bars = axes.bar(places, [100 * v for v in shares.values()], color=ink, width=0.5)
    axes.bar_label(bars, [percent(v) for v in shares.values()], fontsize=10)
    axes.set_xticks(places, [names[name] for name in shares])
    axes.set_ylim(0, 112)
    labels(axes, "layer", "% of values NaN or infinite")
    return (
        f"NaN from layer {next(name for name, v in shares.items() if v)}"
        if any(shares.values())
        else "all finite"
    )


def mean_shift(axes: Axes, example: Example, ink: str) -> str:
    """The squared mean of the channels over their variance, at the end of each block."""
    record = example.record
    rows = [
        record.values("activation")[s.name]
        for s in record.sites("activation")
        if s.attributes.get("role") == "block"
    ]
    shifts = [row["sq_channel_mean"] / row["channel_var"] for row in rows]
    axes.plot(range(1, len(shifts) + 1), shifts, "o-", color=ink, ms=5)
    guide(axes, 1, "mean as large as deviation")
    from_zero(axes)
    whole_numbers(axes)
    labels(axes, "block", "squared mean / variance")
    return f"reaches {short(max(shifts))}"


def gradients_that_are_finite(axes: Axes, example: Example, ink: str) -> str:
    values = _parameter_gradients(axes, example, ink)
    broken = sum(v is not None and not math.isfinite(v) for v in values)
    return f"{broken} of {len(values)} are NaN" if broken else "all finite"


def gradients_that_arrive(axes: Axes, example: Example, ink: str) -> str:
    values = _parameter_gradients(axes, example, ink)
    none, idle = sum(v is None for v in values), sum(v is not None and v < ROUNDING for v in values)
    if none:
        return f"{none} of {len(values)} have none"
    return f"{idle} of {len(values)} is rounding" if idle else "all have one"


def _parameter_gradients(axes: Axes, example: Example, ink: str) -> list[float | None]:
    """The norm of the gradient of every parameter; None where there is none."""
    torch.manual_seed(0)
    model = copy.deepcopy(example.model)
    example.loss(model(*example.inputs), example.targets).backward()
    found = [
        (name, p.grad.norm().item() if p.grad is not None else None) for name, p in model.named_parameters()
    ]
    lowest = 1e-12
    heights = [v if v is not None and math.isfinite(v) else lowest / 10 for _, v in found]
    axes.barh(range(len(found)), heights, color=ink, height=0.55)
    axes.set_yticks(range(len(found)), [name for name, _ in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlim(lowest / 10, 1e6)
    axes.set_xticks([1e-12, 1e-8, 1e-4, 1])
    for place, (_, value) in enumerate(found):
        words = "none" if value is None else "NaN" if not math.isfinite(value) else f"{value:.1e}"
        axes.annotate(
            words,
            (heights[place], place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
        )
    labels(axes, "norm of its gradient")
    return [value for _, value in found]


def gradient_ratios(axes: Axes, example: Example, ink: str) -> str:
    record = example.record
    sites = [s for s in record.sites("parameter_gradient") if len(s.shape) > 1]
    values = [record.values("parameter_gradient").get(s.name, {}).get("ratio", np.nan) for s in sites]
    axes.plot(range(1, len(values) + 1), values, "o", color=ink, ms=6)
    whole_numbers(axes)
    labels(axes, "weight, in order of execution", "log10 of gradient:data")
    return f"{short(max(values) - min(values))} decades apart"


def gradient_magnitudes(axes: Axes, example: Example, ink: str) -> str:
    """Of the gradients that come back to the activations, against the smallest normal number of their type."""
    model, kept = copy.deepcopy(example.model), []
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda module, given, out: out.register_hook(lambda g: kept.append(g)) and None
            )
    example.loss(model(*example.inputs), example.targets).backward()
    dtype = kept[0].dtype
    sizes = torch.cat([g.flatten().abs().double() for g in kept])
    sizes = sizes[sizes > 0]
    smallest = torch.finfo(dtype).smallest_normal
    axes.hist(sizes.log10().numpy(), bins=np.linspace(-8, -2, 37).tolist(), color=ink, alpha=0.75)
    if smallest > 1e-8:
        axes.axvspan(-8, math.log10(smallest), color=GUIDE, alpha=0.25, lw=0, zorder=0)
    name = str(dtype).removeprefix("torch.")
    axes.set_xlim(-8, -2)
    axes.set_yticks([])
    labels(axes, f"log10 of gradients in {name}", "values")
    return f"{percent((sizes < smallest).double().mean().item())} below {smallest:.0e}"


def after_a_step(axes: Axes, example: Example, ink: str) -> str:
    """The first weight after one step of the example's optimizer."""
    model = copy.deepcopy(example.model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    example.loss(model(*example.inputs), example.targets).backward()
    optimizer.step()
    weight = next(model.parameters()).detach().float()
    matrix(axes, weight[:24].numpy(), ink, "feature", "unit, after one step", signed=True)
    share = (~weight.isfinite()).float().mean().item()
    return f"{percent(share)} lost (violet)" if share else "all finite"


def similarity(weights: Callable[[nn.Module], list[Tensor]], label: str) -> Draw:
    """Cosine of each pair of weights, of units or of layers."""

    def draw(axes: Axes, example: Example, ink: str) -> str:
        rows = torch.stack([w.detach().flatten() for w in weights(example.model)])
        rows = rows / rows.norm(dim=1, keepdim=True)
        cosines = (rows @ rows.T).abs()
        matrix(axes, cosines.numpy(), ink, label, label)
        other = cosines[~torch.eye(len(rows), dtype=torch.bool)].mean().item()
        return f"mean |cosine| {other:.2f}"

    return draw


def units_of_second(model: nn.Module) -> list[Tensor]:
    return list(model[2].weight[:24])  # pyright: ignore


def repeated_layers(model: nn.Module) -> list[Tensor]:
    return [block[1].weight for block in model[1]]  # pyright: ignore


def running(axes: Axes, example: Example, ink: str) -> str:
    """Running variance of each channel against that of the batch."""
    norm = example.model[1]  # pyright: ignore
    entering = _output_of(example, "0")
    batch, kept = entering.var(0).numpy(), norm.running_var.numpy()
    axes.plot(batch, kept, "o", color=ink, ms=4, alpha=0.7, mew=0)
    axes.set(xscale="log", yscale="log", xlim=(0.1, 20), ylim=(0.1, 20))
    axes.plot([0.1, 20], [0.1, 20], color=GUIDE, lw=1.1, ls=":")
    axes.annotate("equal", (8, 6.5), color=GUIDE, fontsize=10, ha="left", va="top")
    labels(axes, "variance in this batch", "running variance")
    return f"{short(float(np.median(kept / batch)))} times"


def widths(axes: Axes, example: Example, ink: str) -> str:
    """What reaches the last layer, on its first two principal axes."""
    torch.manual_seed(0)
    features = _input_of_last(example)
    centred = features - features.mean(0)
    flat = centred @ torch.linalg.svd(centred, full_matrices=False)[2][:2].T
    axes.plot(flat[:100, 0].numpy(), flat[:100, 1].numpy(), "o", color=ink, ms=3, alpha=0.7, mew=0)
    labels(axes, "features: first principal axis", "second principal axis")
    narrow = min(m.out_features for m in example.model.modules() if isinstance(m, nn.Linear))
    return "a curve, through one unit" if narrow == 1 else "a cloud"


def kept(axes: Axes, example: Example, ink: str) -> str:
    """Which values a dropout keeps, of sixteen examples."""
    torch.manual_seed(0)
    dropout = next(m for m in example.model.modules() if isinstance(m, nn.Dropout))
    alive = (dropout(torch.ones(16, 64)) != 0).float()
    matrix(axes, alive.numpy(), ink, "unit", "example")
    return f"keeps {alive.sum(1).mean():.0f} of 64"


def reaches_the_last(axes: Axes, example: Example, ink: str) -> str:
    """The values that the model's last layer gets."""
    *_, last = (m for m in example.model.modules() if isinstance(m, nn.Linear))
    taken: list[Tensor] = []
    with torch.no_grad(), last.register_forward_pre_hook(lambda module, given: taken.append(given[0])):
        example.model(*example.inputs)
    values = taken[0].flatten()
    axes.hist(values.numpy(), bins=np.linspace(-1, 1, 41).tolist(), color=ink, alpha=0.75)
    labels(axes, "value that the last layer gets", "values")
    return f"{percent((values < 0).float().mean().item())} below zero"


def of_the_sum(axes: Axes, example: Example, ink: str) -> str:
    """What a block gives, as a sum of its input and of its branch: least squares."""
    block = example.model[1]  # pyright: ignore
    with torch.no_grad():
        x = example.model[0](*example.inputs)  # pyright: ignore
        both = torch.stack([x.flatten(), block.layers(x).flatten()], 1)
        parts = torch.linalg.lstsq(both, block(x).flatten()[:, None]).solution.flatten()
    parts = parts.mul(1e4).round().div(1e4).abs()
    bars = axes.bar(["the input", "its branch"], parts.tolist(), color=ink, width=0.5)
    axes.bar_label(bars, [f"{abs(part):.1f} times" for part in parts], fontsize=10)
    axes.set_ylim(0, 2.4)
    labels(axes, "what the block gives, as a sum of", "how often")
    return "input left out" if parts[0].abs() < 1e-3 else "input added"


def _output_of(example: Example, name: str) -> Tensor:
    taken: list[Tensor] = []
    handle = example.model.get_submodule(name).register_forward_hook(lambda m, given, out: taken.append(out))
    with torch.no_grad():
        copied = [(m, m.training) for m in example.model.modules()]
        example.model.eval()(*example.inputs)
        for module, mode in copied:
            module.training = mode
    handle.remove()
    return taken[0]


def _input_of_last(example: Example) -> Tensor:
    with torch.no_grad():
        return example.model[:-1](*example.inputs)  # pyright: ignore
