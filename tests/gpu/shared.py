"""What the GPU tests share: a small network, comparisons with float64 on the CPU, and waits caught."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.gain = nn.Parameter(torch.full((), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gain * torch.tanh(self.norm(self.conv(x)))


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def cnn(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(inplace=True), Block(16), nn.GELU(), nn.Conv2d(16, 32, 3, stride=2),
        nn.Dropout(dropout), nn.ReLU(), Mean(), nn.Linear(32, 64), nn.Sigmoid(), nn.Linear(64, 5),
    )  # fmt: skip


def images(count: int = 16, size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 3, size, size, generator=generator)
    return x, torch.randint(0, 5, (count,), generator=generator)


def on(device: torch.device, model: nn.Module) -> nn.Module:
    """A copy on the device."""
    return copy.deepcopy(model).to(device)


def close(got: Tensor, want: Tensor, tolerance: float, floor: float = 1e-30) -> None:
    """The norm of the difference, relative to that of what is wanted, or to floor if that is larger."""
    got, want = got.detach().double().cpu(), want.detach().double().cpu()
    assert got.shape == want.shape
    assert bool(torch.isfinite(got).all())
    off = float((got - want).norm() / want.norm().clamp(min=floor))
    assert off <= tolerance, f"off by {off:.3g} of the norm, {tolerance:g} is allowed"


@contextlib.contextmanager
def no_waiting(allowed: bool = True) -> Iterator[None]:
    """Whatever waits for the GPU raises. allowed False: as it was."""
    if torch.cuda.is_available() and allowed:
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")
