"""A consequence stands under its cause, once, and what is no consequence stands for itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import unitgain as ug


class Block(nn.Module):
    def __init__(self, std: float) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 32), nn.Linear(32, 32)
        nn.init.normal_(self.down.weight, std=std / 32**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(x)))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(64, 32), torch.randint(10, (64,))


def test_parameters_before_and_after_dead_units_are_one_line_under_them() -> None:
    """Weights behind a dead layer get no gradient because nothing but zeros goes in: that stood there as a second line,
    without the reason."""
    torch.manual_seed(0)
    layers = [m for _ in range(3) for m in (nn.Linear(32, 32), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(32, 10))
    nn.init.constant_(model[2].bias, -9.0)
    (finding,) = ug.check(model, batch()).findings
    assert finding.code == "UG304"
    assert "layer 2, before layer 3" in finding.remedy
    (line,) = [line for line in finding.consequences if line.startswith("UG403")]
    assert "the way back ends at 3; likewise at 4.weight" in line


@pytest.mark.parametrize(
    ("rate", "adaptive", "alone"),
    [(0.003, False, False), (10.0, False, True), (0.05, True, True)],
    ids=["growth", "rate", "adam"],
)
def test_large_updates_stand_under_a_growing_stream_where_the_rate_would_fit_without_it(
    rate: float, adaptive: bool, alone: bool
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(Block(4.0) for _ in range(8)), nn.Linear(32, 10))
    optimizer = (torch.optim.Adam if adaptive else torch.optim.SGD)(model.parameters(), lr=rate)
    report = ug.check(model, batch(), steps=12, optimizer=optimizer)
    under = [line[:5] for f in report.findings if f.code == "UG607" for line in f.consequences]
    assert ("UG501" in [f.code for f in report.findings], "UG501" in under) == (alone, not alone)
