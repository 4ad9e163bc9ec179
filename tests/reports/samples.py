"""Synthetic data and small networks of the cases. Every generator has a seed of its own and leaves torch's alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def standard(x: Tensor) -> Tensor:
    """Of mean 0 and standard deviation 1 over all values."""
    return (x - x.mean()) / x.std()


class Net(nn.Module):
    """A module from a function and named parts: Net(lambda net, x: net.b(net.a(x)), a=..., b=...)."""

    def __init__(self, run: Callable[..., Any], **parts: Any):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        return self.run(self, *inputs)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def mlp(*sizes: int, act: Callable[[], nn.Module] = nn.ReLU, last: nn.Module | None = None) -> nn.Sequential:
    """Linear layers of these widths with an activation between them, and perhaps a last module."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), act()]
    return nn.Sequential(*layers[:-1], *([] if last is None else [last]))


def convnet(channels: int, classes: int, width: int = 16, norm: bool = True) -> nn.Sequential:
    """Three convolutions of stride 1, 2 and 2, pooling and a linear layer."""
    layers: list[nn.Module] = []
    for fan_in, fan_out, stride in ((channels, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 2)):
        layers.append(nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=not norm))
        layers += [nn.BatchNorm2d(fan_out)] if norm else []
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, classes))


def encoder(
    width: int, layers: int, heads: int = 4, batch_first: bool = True, norm_first: bool = True
) -> nn.Module:
    """A transformer encoder without dropout."""
    layer = nn.TransformerEncoderLayer(
        width, heads, 2 * width, dropout=0.0, batch_first=batch_first, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def adam(rate: float, **options: Any) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.Adam(parameters, rate, **options)


def sgd(rate: float, momentum: float = 0.9, **options: Any) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, rate, momentum=momentum, **options)


def log(probe: Any, loss: Tensor) -> None:
    """Logs a loss where somebody watches."""
    if probe is not None:
        probe.log(loss=loss)


def descend(
    probe: Any,
    optimizer: torch.optim.Optimizer,
    steps: int,
    loss_at: Callable[[int], Tensor],
    before: Any = None,
):
    """The usual loop: clear, backward, perhaps something before the step, step. Returns the last loss."""
    loss = torch.zeros(())
    for step in range(steps):
        loss = loss_at(step)
        optimizer.zero_grad()
        loss.backward()
        if before is not None:
            before()
        optimizer.step()
        log(probe, loss)
    return loss.item()


# Scores: of a trained model, less is better ----------------------------------------------------------------------


@torch.no_grad()
def error_rate(scores: Tensor, labels: Tensor, axis: int = 1) -> float:
    """Share of the labels (>= 0) that do not get the highest score."""
    wrong = scores.argmax(axis) != labels
    return float(wrong[labels >= 0].float().mean())


def wrong_on(x: Any, labels: Tensor, axis: int = 1) -> Callable[[nn.Module], float]:
    """The error rate on these examples, in evaluation mode."""
    return scored(lambda out: error_rate(out, labels, axis), *(x if isinstance(x, tuple) else (x,)))


def scored(of_output: Callable[[Any], float], *inputs: Any) -> Callable[[nn.Module], float]:
    """What a function says of the outputs in evaluation mode; the model's modes are kept."""

    @torch.no_grad()
    def score(model: nn.Module) -> float:
        modes = {module: module.training for module in model.modules()}
        model.eval()
        value = float(of_output(model(*inputs)))
        for module, training in modes.items():
            module.training = training
        return value

    return score


# Data ------------------------------------------------------------------------------------------------------------


def rings(n: int = 256, classes: int = 3, noise: float = 0.15, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points in the plane (n, 2) on rings around the origin; the ring is the class."""
    g = seeded(seed)
    labels = torch.randint(0, classes, (n,), generator=g)
    angle = torch.rand(n, generator=g) * 2 * math.pi
    radius = 0.5 + labels + noise * torch.randn(n, generator=g)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1) / classes * 1.6, labels


def houses(n: int = 256, d: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Standardized features (n, d) and a smooth standardized target (n, 1)."""
    x = torch.randn(n, d, generator=seeded(seed))
    y = x[:, 0] + torch.sin(2 * x[:, 1]) + x[:, 2] * x[:, 3] - 0.5 * x[:, 4].square()
    return x, standard(y)[:, None]


def clusters(
    n: int = 256, d: int = 16, classes: int = 8, spread: float = 0.7, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Gaussian clusters (n, d), standardized, and their numbers."""
    g = seeded(seed)
    centres = torch.randn(classes, d, generator=g)
    labels = torch.randint(0, classes, (n,), generator=g)
    return standard(centres[labels] + spread * torch.randn(n, d, generator=g)), labels


def glyphs(
    n: int = 128, classes: int = 6, size: int = 12, channels: int = 1, noise: float = 0.3, seed: int = 0
):
    """Standardized pictures (n, channels, size, size): strokes at a class's angle through a random point."""
    g = seeded(seed)
    labels = torch.arange(n) % classes
    labels = labels[torch.randperm(n, generator=g)]
    angle = math.pi * labels / classes
    middle = size / 2 + 2 * (torch.rand(n, 2, generator=g) - 0.5)
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    across = (row - middle[:, 0, None, None]) * angle.cos()[:, None, None]
    across = across - (column - middle[:, 1, None, None]) * angle.sin()[:, None, None]
    pictures = (1.5 - across.abs()).clamp(0, 1)[:, None].repeat(1, channels, 1, 1)
    return standard(pictures + noise * torch.randn(n, channels, size, size, generator=g)), labels


def boxes(n: int = 64, size: int = 16, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (n, 1, size, size) with a bright rectangle, its mask, and its (x, y, width, height) in pixels."""
    g = seeded(seed)
    extent = torch.randint(3, 8, (n, 2), generator=g)
    corner = (torch.rand(n, 2, generator=g) * (size - extent)).long()
    axis = torch.arange(size)
    inside = [(axis >= corner[:, i, None]) & (axis < (corner + extent)[:, i, None]) for i in (0, 1)]
    mask = (inside[1][:, :, None] & inside[0][:, None, :]).float()[:, None]
    pictures = standard(mask + 0.4 * torch.randn(n, 1, size, size, generator=g))
    return pictures, mask, torch.cat([corner, extent], 1).float()


def sentences(
    n: int = 128, length: int = 12, words: int = 40, classes: int = 4, shortest: int | None = None, seed=0
):
    """Word numbers (n, length), lengths, labels. Word 0 fills up; words 1.. are the classes' key words.

    The label is the class of the last key word: what follows it does not matter, but reading on may forget it.
    """
    g = seeded(seed)
    text = torch.randint(classes + 1, words, (n, length), generator=g)
    lengths = torch.randint(shortest or length, length + 1, (n,), generator=g)
    for _ in range(2):  # two key words, of which the later one counts
        place = (torch.rand(n, generator=g) * lengths).long()
        text[torch.arange(n), place] = torch.randint(1, classes + 1, (n,), generator=g)
    text[torch.arange(length) >= lengths[:, None]] = 0
    keys = torch.where((text > 0) & (text <= classes), torch.arange(length), -1)
    return text, lengths, text[torch.arange(n), keys.max(1).values] - 1


def chains(n: int = 32, length: int = 16, words: int = 30, noise: float = 0.1, seed: int = 0) -> Tensor:
    """Word numbers (n, length): each follows from the last two but for some noise."""
    g = seeded(seed)
    text = torch.randint(0, words, (n, length), generator=g)
    for i in range(2, length):
        follows = torch.rand(n, generator=g) >= noise
        text[follows, i] = ((text[:, i - 1] * 2 + text[:, i - 2] + 3) % words)[follows]
    return text


def series(n: int = 64, length: int = 24, channels: int = 2, seed: int = 0) -> Tensor:
    """Damped oscillations (n, length, channels) with their own frequencies and phases, and a little noise."""
    g = seeded(seed)
    t = torch.arange(length).view(1, -1, 1)
    rate, phase = (torch.rand(n, 1, channels, generator=g) for _ in range(2))
    wave = torch.sin(phase * 6.28 + (0.25 + 0.3 * rate) * t) * 1.4
    return wave + 0.05 * torch.randn(n, length, channels, generator=g)


def films(n: int = 16, frames: int = 8, size: int = 8, seed: int = 0) -> Tensor:
    """A bright dot that moves on by its own step and comes in again on the other side, (n, 1, frames, size, size)."""
    g = seeded(seed)
    start, pace = torch.randint(0, size, (n, 1, 2), generator=g), torch.randint(-1, 2, (n, 1, 2), generator=g)
    place = (start + pace * torch.arange(frames).view(1, -1, 1)) % size
    axis = torch.arange(size)
    dot = (axis == place[..., 0, None])[..., :, None] & (axis == place[..., 1, None])[..., None, :]
    return dot.float()[:, None] * 4 - 0.1


def utterances(n: int = 32, length: int = 5, symbols: int = 6, stretch: int = 4, seed: int = 0):
    """Frames (n, length * stretch, 12) in which each symbol sounds for a while, and the symbols (n, length), from 1."""
    g = seeded(seed)
    text = torch.randint(1, symbols + 1, (n, length), generator=g)
    sound = torch.randn(symbols + 1, 12, generator=g)
    spoken = sound[text].repeat_interleave(stretch, 1)
    spoken[:, ::stretch] = sound[0]  # a pause before each symbol
    return spoken + 0.3 * torch.randn(spoken.shape, generator=g), text


def molecules(n: int = 64, atoms: int = 8, features: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Node features (n, atoms, features) and symmetric adjacencies (n, atoms, atoms) with ones on the diagonal."""
    g = seeded(seed)
    upper = torch.triu(torch.rand(n, atoms, atoms, generator=g) < 0.3, 1).float()
    return torch.randn(n, atoms, features, generator=g), upper + upper.transpose(1, 2) + torch.eye(atoms)


def clouds(n: int = 64, points: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Point clouds (n, points, 3) on spheres, cubes or planes, and which."""
    g = seeded(seed)
    labels = torch.arange(n) % 3
    p = torch.randn(n, points, 3, generator=g)
    sphere, cube = F.normalize(p, dim=2) * 1.5, p / p.abs().amax(2, keepdim=True) * 1.2
    plane = p * torch.tensor([1.2, 1.2, 0.05])
    return torch.stack([sphere, cube, plane])[labels, torch.arange(n)], labels


def ratings(n: int = 512, users: int = 40, items: int = 30, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(user, item) numbers (n, 2) and whether the user clicked, from hidden tastes of four dimensions."""
    g = seeded(seed)
    taste, kind = torch.randn(users, 4, generator=g), torch.randn(items, 4, generator=g)
    pairs = torch.stack(
        [torch.randint(0, users, (n,), generator=g), torch.randint(0, items, (n,), generator=g)], 1
    )
    return pairs, ((taste[pairs[:, 0]] * kind[pairs[:, 1]]).sum(1) > 0).float()


def mixture(n: int, seed: int = 0) -> Tensor:
    """Points (n, 2) of eight narrow Gaussians on a circle: what small GANs are tried on."""
    g = seeded(seed)
    angle = torch.randint(0, 8, (n,), generator=g) * math.pi / 4
    return torch.stack([angle.cos(), angle.sin()], 1) * 1.4 + 0.08 * torch.randn(n, 2, generator=g)


def missed_modes(points: Tensor) -> float:
    """How far generated points are from `mixture`: the mean distance to the nearest of its eight centres, plus the
    share of centres with hardly a point nearby."""
    angle = torch.arange(8) * math.pi / 4
    distance = torch.cdist(points, torch.stack([angle.cos(), angle.sin()], 1) * 1.4)
    near = (distance.argmin(1)[:, None] == torch.arange(8)) & (distance < 0.4)
    return float(distance.amin(1).mean() + (near.float().mean(0) < 0.03).float().mean())
