"""Pictures of the batch."""

from __future__ import annotations

import copy

import numpy as np
import torch
from matplotlib.axes import Axes

from ._example import Example
from ._paper import BAND, labels, matrix, short


def values(axes: Axes, example: Example, ink: str) -> str:
    """Their histogram, beside the range that initialization is made for."""
    found = example.inputs[0].flatten()
    mean, std = found.mean().item(), found.std().item()
    axes.hist(found.numpy(), bins=30, color=ink, alpha=0.75, density=True)
    axes.axvspan(-2, 2, color=BAND, lw=0, zorder=0)
    axes.set_yticks([])
    labels(axes, "value (green: as normalized ones)", "density")
    return f"mean {mean:.0f}, std {std:.0f}" if abs(mean) > 1 else "mean 0, std 1"


def cells(axes: Axes, example: Example, ink: str) -> str:
    """The first examples, a row for each; NaN is marked."""
    x = example.inputs[0][:16]
    matrix(axes, x.numpy(), ink, "feature", "example", signed=True)
    broken = ~example.inputs[0].isfinite()
    if broken.all(0).any():
        return f"feature {int(broken.all(0).nonzero())} is NaN (violet)"
    return f"{int(broken.sum())} value is NaN (violet)" if broken.any() else "all finite"


def picture(axes: Axes, example: Example, ink: str) -> str:
    """The first example as the picture that its convolution takes it for."""
    image = example.inputs[0][5]  # (C, H, W)
    low, high = image.min(), image.max()
    axes.imshow(((image - low) / (high - low)).permute(1, 2, 0).numpy(), aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    across = (image[:, :, 1:] - image[:, :, :-1]).abs().mean() / image.std()
    labels(axes, "one example, as the model gets it")
    return f"neighbours {across:.2f} std apart"


def effect(axes: Axes, example: Example, ink: str) -> str:
    """How far outputs move when one input is exchanged between the examples."""
    torch.manual_seed(0)
    model, inputs = copy.deepcopy(example.model), list(example.inputs)
    with torch.no_grad():
        before = model(*inputs)
        moved = []
        for i, x in enumerate(inputs):
            exchanged = [*inputs[:i], x.roll(1, 0), *inputs[i + 1 :]]
            moved.append(((model(*exchanged) - before).square().mean().sqrt() / before.std()).item())
    bars = axes.bar([f"input {i}" for i in range(len(inputs))], moved, color=ink, width=0.5)
    axes.bar_label(bars, [short(m) for m in moved], fontsize=10)
    axes.margins(y=0.15)
    labels(axes, "input that is exchanged", "change of outputs, in std")
    return "one changes nothing" if min(moved) == 0 else "both count"


def members(axes: Axes, example: Example, ink: str) -> str:
    """Which examples of the data set each batch holds."""
    dataset = example.names["dataset"].tensors[0]
    source = example.names.get("data", example.names["loader"])
    seen = set()
    for number, (x, _) in enumerate(list(source)[:5], start=1):
        places = (x[:, None] == dataset[None]).all(2).float().argmax(1)
        seen |= set(places.tolist())
        axes.fill_between(
            [number - 0.3, number + 0.3],
            places.min().item(),
            places.max().item() + 1,
            color=ink,
            lw=0,
            alpha=0.8,
        )
    axes.set_ylim(0, len(dataset))
    axes.set_xticks(range(1, 6))
    labels(axes, "batch", "examples of the data set")
    return f"{len(seen)} of {len(dataset)} examples seen"


def landing(axes: Axes, example: Example, ink: str) -> str:
    """Where the three colours of a picture land, as the convolution gets them: each pixel has the colour that it had
    in the input."""
    marked = torch.arange(3.0).expand(1, 20, 20, 3)
    taken: list[torch.Tensor] = []
    handle = example.model.conv.register_forward_pre_hook(lambda module, given: taken.append(given[0]))  # pyright: ignore
    with torch.no_grad():
        example.model(marked)
    handle.remove()
    planes = taken[0][0].long().numpy()[:, :10, :10]
    colors = np.array([[0.84, 0.27, 0.22], [0.18, 0.62, 0.35], [0.16, 0.44, 0.80]])
    gap = np.full((10, 1), 3)
    row = np.concatenate([planes[0], gap, planes[1], gap, planes[2]], axis=1)
    axes.imshow(np.concatenate([np.c_[colors, np.ones(3)], np.zeros((1, 4))])[row], aspect="auto")
    axes.set_xticks([4.5, 15.5, 26.5], ["channel 0", "channel 1", "channel 2"])
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    mixed = any(len(np.unique(plane)) > 1 for plane in planes)
    axes.set_xlabel("what the convolution gets")
    return "colours mixed" if mixed else "a colour each"
