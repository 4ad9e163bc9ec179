"""A loss that falls in a short rehearsal: whether what comes later can be told depends on the optimizer (UG501)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug

Make = Callable[[Any], torch.optim.Optimizer]


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(64, 24), nn.ReLU(), Residual(24), Residual(24), nn.Linear(24, 10))


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(1)
    patterns, found = torch.randn(10, 64, generator=g), []
    for _ in range(count):
        y = torch.randint(0, 10, (32,), generator=g)
        found.append(((patterns[y] + torch.randn(32, 64, generator=g)) / math.sqrt(2), y))
    return found


def momentum(rate: float) -> Make:
    return lambda parameters: torch.optim.SGD(parameters, rate, momentum=0.9)


def rehearsed(make: Make) -> ug.Report:
    batch, *others = batches(21)
    return ug.check(network(), batch, F.cross_entropy, optimizer=make, steps=20, data=others)


def test_a_loss_that_momentum_lowers_fast_and_raises_after_the_rehearsal_is_not_called_healthy() -> None:
    """Steps of a sixteenth of the weights: the loss is at nothing after 20 steps, and not finite after 70."""
    make, model, losses = momentum(0.25), network(), []
    optimizer = make(model.parameters())
    for x, y in batches(100):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[20] < 0.2 * losses[0]
    assert not math.isfinite(losses[-1]) or max(losses[25:]) > 2 * losses[0]
    report = rehearsed(make)
    assert report.diagnosis.status == "unknown", report
    assert "does not show where it goes" in report.diagnosis.verdict


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, 0.6),
        lambda p: torch.optim.Adam(p, 0.02),
        lambda p: torch.optim.RMSprop(p, 0.01),  # leaps up in its first steps, and comes down
        momentum(0.05),
    ],
    ids=["SGD", "Adam", "RMSprop", "momentum"],
)
def test_steps_from_which_no_later_rise_is_known_are_judged(make: Make) -> None:
    assert rehearsed(make).diagnosis.status == "healthy"
