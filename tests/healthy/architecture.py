"""What one public architecture is: how it is built at its own initialization, and how it is usually trained."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Optimizer = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Setup:
    """A model with one batch, its loss and its optimizer, as `unitgain.check` takes them."""

    model: nn.Module
    batch: Any
    loss: Any = "auto"
    optimizer: Optimizer = partial(torch.optim.Adam, lr=1e-3)  # noqa: RUF009
    step: Any = None
    clip: float | None = None


@dataclass(frozen=True)
class Architecture:
    """source: where it comes from; needs: the library that it takes; slow: checked by `make healthy` alone."""

    name: str
    source: str
    build: Callable[[], Setup]
    needs: str = ""
    slow: bool = False


ALL: list[Architecture] = []


def add(row: Architecture) -> None:
    if row.name not in {other.name for other in ALL}:  # pytest imports these files more than once
        ALL.append(row)


def architecture(source: str, needs: str = "", slow: bool = False) -> Callable[..., Callable[[], Setup]]:
    def register(build: Callable[[], Setup]) -> Callable[[], Setup]:
        add(Architecture(build.__name__.strip("_"), source, build, needs, slow))
        return build

    return register


def held_out() -> frozenset[str]:
    """Half of the architectures of each library, drawn by chance."""
    names: set[str] = set()
    for needs in sorted({row.needs for row in ALL}):
        group = sorted(row.name for row in ALL if row.needs == needs)
        names.update(random.Random(f"healthy {needs}").sample(group, len(group) // 2))
    return frozenset(names)


# ---- data that looks like what people train on -------------------------------------------------------------------


def photos(count: int, channels: int = 3, size: int = 32) -> Tensor:
    """Pictures as smooth as photographs (amplitudes fall like 1/frequency), normalized: (N, C, H, W)."""
    frequency = torch.fft.fftfreq(size)
    distance = (frequency[:, None] ** 2 + frequency[None] ** 2).sqrt().clamp_min(1 / size)
    waves = torch.randn(count, channels, size, size, dtype=torch.complex64) / distance
    shared = torch.randn(count, 1, size, size, dtype=torch.complex64) / distance  # channels are much alike
    x = torch.fft.ifft2(waves + 2 * shared).real
    return (x - x.mean()) / x.std()


def pixels(count: int, channels: int = 3, size: int = 32) -> Tensor:
    """Pictures from 0 to 1."""
    return (0.45 + 0.25 * photos(count, channels, size)).clamp(0, 1)


def digits(count: int, size: int = 28) -> Tensor:
    """Bright strokes on black from 0 to 1, four fifths of it zero, as MNIST: (N, 1, H, W)."""
    x = photos(count, 1, size)
    return ((x - 0.8) * 2).clamp(0, 1)


def kinds(x: Tensor, classes: int) -> Tensor:
    """Class indices that depend on the inputs, about equally many of each: (N,)."""
    score = x.flatten(1).float() @ torch.randn(x[0].numel(), 1)
    return (score.squeeze(1).argsort().argsort() * classes) // len(x)


def numbers(x: Tensor, columns: int = 1) -> Tensor:
    """Standardized regression targets that depend on the inputs, with some noise: (N, columns)."""
    y = torch.sin(x.flatten(1) @ torch.randn(x[0].numel(), columns) / x[0].numel() ** 0.5 * 2)
    y = y + 0.1 * torch.randn_like(y)
    return (y - y.mean(0)) / y.std(0)


def words(count: int, length: int, vocabulary: int) -> Tensor:
    """Token indices, frequent ones much more frequent than others (Zipf), each depending on the one before."""
    weights = 1 / torch.arange(1, vocabulary + 1)
    follow = torch.stack([weights[torch.randperm(vocabulary)] for _ in range(vocabulary)]) + 0.3 * weights
    tokens = [torch.multinomial(weights, count, replacement=True)]
    while len(tokens) < length:
        tokens.append(torch.multinomial(follow[tokens[-1]], 1).squeeze(1))
    return torch.stack(tokens, 1)


def seasons(count: int, length: int, columns: int = 1) -> Tensor:
    """Standardized time series of a trend, two seasons and noise: (N, T, columns)."""
    t = torch.arange(length)[None, :, None]
    phase, slope = torch.rand(count, 1, columns) * 24, 0.01 * torch.randn(count, 1, columns)
    x = torch.sin((t + phase) * 2 * torch.pi / 24) + 0.5 * torch.sin((t + 2 * phase) * 2 * torch.pi / 7)
    x = x + slope * t + 0.2 * torch.randn(count, length, columns)
    return (x - x.mean()) / x.std()


sgd = partial(partial, torch.optim.SGD)
adam = partial(partial, torch.optim.Adam)
adamw = partial(partial, torch.optim.AdamW)
rmsprop = partial(partial, torch.optim.RMSprop)
