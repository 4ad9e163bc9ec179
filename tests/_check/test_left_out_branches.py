"""UG403 is silent on a branch that chance leaves out and that ends in zeros."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import unitgain as ug


class Branch(nn.Module):
    """A residual branch whose last gain is zero, left out in some passes: skipped, or multiplied by zero."""

    def __init__(self, how: str):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8))
        nn.init.zeros_(self.body[3].weight)  # type: ignore[arg-type]
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x + self.body(x)
        kept = torch.rand(()) < 0.5
        if self.how == "skipped":
            return x + self.body(x) if kept else x
        return x + self.body(x) * kept


@pytest.mark.parametrize("how", ["skipped", "multiplied"])
@pytest.mark.parametrize("seed", range(4))
def test_a_branch_left_out_by_chance_that_ends_in_zeros_gets_its_gradient_later(how: str, seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), Branch(how), Branch(how), Branch(how), nn.Linear(8, 3))
    report = ug.check(model, (torch.randn(64, 6), torch.randint(3, (64,))))
    assert "UG403" not in {f.code for f in report.findings if f.severity != "info"}, report


def test_a_branch_that_is_never_taken_is_still_found() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), Branch("multiplied"), nn.Linear(8, 3))
    model[1].body[0].weight.register_hook(torch.zeros_like)  # type: ignore[union-attr, index]
    report = ug.check(model, (torch.randn(64, 6), torch.randint(3, (64,))))
    assert "UG403" in {f.code for f in report.findings}
