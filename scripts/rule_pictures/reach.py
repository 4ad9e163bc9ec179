"""Pictures of what depends on what: which output on which example, step, padding or companion."""

from __future__ import annotations

import copy
from unittest.mock import patch

import torch
from matplotlib.axes import Axes
from torch import Tensor

from ._example import Example
from ._paper import guide, labels, matrix, whole_numbers
from .outputs import dots


def examples(axes: Axes, example: Example, ink: str) -> str:
    """How far each example's outputs move, in evaluation mode, when one example is replaced."""
    number, generator = 12, torch.Generator().manual_seed(1)
    model, x = copy.deepcopy(example.model).eval(), example.inputs[0][:number]
    rows = []
    with torch.no_grad():
        before = model(x)
        for i in range(number):
            changed = x.clone()
            changed[i] = torch.randn(x.shape[1:], generator=generator)
            rows.append((model(changed) - before).norm(dim=1))
    moved = torch.stack(rows, 1)  # (output of, example replaced)
    matrix(axes, (moved > 1e-6).float().numpy(), ink, "example that is replaced", "output of example")
    return "on all examples" if (moved > 1e-6).all() else "on its own alone"


def tokens(axes: Axes, example: Example, ink: str) -> str:
    """Whether the outputs of a step move when one token is replaced."""
    model, x = copy.deepcopy(example.model).eval(), example.inputs[0]
    rows = []
    with torch.no_grad():
        before = model(x)  # (N, C, T)
        for i in range(x.shape[1]):
            changed = x.clone()
            changed[:, i] = (changed[:, i] + 7) % 40
            rows.append((model(changed) - before).norm(dim=1).mean(0))
    moved = torch.stack(rows, 1)
    matrix(axes, (moved > 1e-6).float().numpy(), ink, "token that is replaced", "output of step")
    later = (moved.triu(1) > 1e-6).any()
    return "sees later tokens" if later else "earlier tokens only"


def companions(axes: Axes, example: Example, ink: str) -> str:
    """The outputs of one example beside twelve sets of companions, in training mode."""
    generator = torch.Generator().manual_seed(1)
    model, x = copy.deepcopy(example.model), example.inputs[0]
    with torch.no_grad():
        draws = torch.stack([
            model(torch.cat([x[:1], torch.randn(len(x) - 1, *x.shape[1:], generator=generator)]))[0] for _ in range(12)
        ])  # fmt: skip
    return dots(axes, draws, ink, "companions decide", "companions do not count")


def padding(axes: Axes, example: Example, ink: str) -> str:
    """The three outputs of one text, over the length of the padding behind it."""
    model, x = copy.deepcopy(example.model).eval(), example.inputs[0]
    text = x[int((x != 0).sum(1).argmin())]
    text = text[text != 0]
    lengths = range(16)
    with torch.no_grad():
        found = torch.cat([model(torch.cat([text, text.new_zeros(n)])[None]) for n in lengths])
    axes.plot(lengths, found.numpy(), color=ink)
    whole_numbers(axes)
    labels(axes, "padding behind the text, in steps", "three outputs of one text")
    return "moves with padding" if (found.amax(0) - found.amin(0)).max() > 1e-4 else "stays as it is"


def attention(axes: Axes, example: Example, ink: str) -> str:
    """The sum of the attention weights of each query over its keys."""
    taken: list[Tensor] = []
    softmax = Tensor.softmax

    def noted(scores: Tensor, axis: int) -> Tensor:
        taken.append(softmax(scores, axis))
        return taken[-1]

    with torch.no_grad(), patch.object(Tensor, "softmax", noted):
        example.model(*example.inputs)
    sums = taken[0][0].sum(1)
    axes.bar(range(1, len(sums) + 1), sums.numpy(), color=ink, width=0.6)
    guide(axes, 1, "")
    axes.set_ylim(0, max(1.5, 1.15 * sums.max().item()))
    whole_numbers(axes)
    labels(axes, "query", "sum of its weights over the keys")
    return f"{sums.min():.2f} to {sums.max():.2f}" if sums.max() - sums.min() > 1e-4 else "all 1"


def along_a_line(axes: Axes, example: Example, ink: str) -> str:
    """Outputs along a straight line through two inputs."""
    x = example.inputs[0]
    ways = torch.linspace(-4, 4, 81)
    with torch.no_grad():
        found = example.model(x[:1] + ways[:, None] * (x[1:2] - x[:1]))[:, :6]
    axes.plot(ways.numpy(), found.numpy(), color=ink, lw=1.3)
    labels(axes, "way between two inputs", "six of the outputs")
    bent = (found[2:] - 2 * found[1:-1] + found[:-2]).abs().max().item()
    return "straight lines" if bent < 1e-4 else "bent lines"
