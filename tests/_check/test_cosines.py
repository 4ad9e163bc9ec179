"""Products of vectors of length one are cosines, and what looks like them is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitgain._check.reach import reach_facts


class Pair(nn.Module):
    def __init__(self, forward: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        self.layer, self.compare = nn.Linear(6, 6), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.compare(self.layer(x), self.layer.weight)


def bounds(forward: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, float]:
    torch.manual_seed(0)
    model, x = Pair(forward), torch.randn(8, 6)
    reach, _ = reach_facts(model, lambda: model(x), lambda out: None)
    return reach.low, reach.high


@pytest.mark.parametrize(
    "forward",
    [
        lambda a, w: F.normalize(a) @ F.normalize(w).T,
        lambda a, w: F.linear(a / a.norm(dim=1, keepdim=True).clamp_min(1e-6), F.normalize(w)),
        lambda a, w: (F.normalize(a[:6]) * F.normalize(w)).sum(1),
    ],
)
def test_cosines_lie_between_minus_one_and_one(forward: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert bounds(forward) == (-1, 1)


@pytest.mark.parametrize(
    "forward",
    [
        lambda a, w: 0.01 * a @ F.normalize(w).T,
        lambda a, w: 10 * F.normalize(a) @ F.normalize(w).T,
        lambda a, w: F.normalize(a[:1].abs() + 1, dim=0) @ F.normalize(w),
    ],
    ids=["one side of any length", "scaled before the product", "length one along the other axis"],
)
def test_other_products_have_no_such_bounds(forward: Callable[[Tensor, Tensor], Tensor]) -> None:
    """A scaled cosine was taken for one, whose targets beyond 1 would have been out of reach."""
    assert bounds(forward) != (-1, 1)
