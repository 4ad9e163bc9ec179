"""Initialization: development half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import clusters, houses, mlp, wrong_on
from torch import Tensor, nn


class LowRank(nn.Module):
    """A frozen linear layer and a trainable product of two thin matrices beside it."""

    def __init__(self, base: nn.Linear, rank: int, lost: bool):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(
            torch.zeros(rank, base.in_features) if lost else torch.randn(rank, base.in_features) * 0.2
        )
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(F.linear(x, self.a), self.b)


@report(
    "init", "UG606 UG403", "UG502 UG110 UG114 UG508", area="fine-tuning", action=r"re-?init|zero|random",
    steps=200, rate=1e-2,
    source="github.com/NovaSky-AI/SkyRL/pull/852; Guitaricet/relora/issues/18; nvidia-cosmos/cosmos-predict2.5/pull/15",
    cause="both factors of the low-rank adapter are zero: each one's gradient is a product with the "
    "other, zero as well",
)  # fmt: skip
def both_factors_zero(cured: bool):
    x, labels = clusters(192, 16, 5, 0.8, seed=7)
    layers = [LowRank(nn.Linear(16, 64), 4, not cured), nn.Tanh(), LowRank(nn.Linear(64, 5), 4, not cured)]
    return nn.Sequential(*layers), (x, labels), {"loss": F.cross_entropy}, wrong_on(x, labels)


@report(
    "init", "UG606", "UG404", area="net surgery", action=r"re-?init|noise|symmetr", steps=300, rate=5e-3,
    source="github.com/soumith/net2net.torch/issues/3",
    cause="the network is widened by copies of its units without noise: copies stay copies, and nothing is gained",
)  # fmt: skip
def copied_units(cured: bool):
    x, y = houses(256)
    narrow = mlp(8, 4, 1, act=nn.Tanh)
    wide = mlp(8, 64, 1, act=nn.Tanh)
    with torch.no_grad():
        first, last, wide_first, wide_last = narrow[0], narrow[2], wide[0], wide[2]
        noise = 0.5 if cured else 0.0
        wide_first.weight.copy_(first.weight.repeat(16, 1) + noise * torch.randn(64, 8))
        wide_first.bias.copy_(first.bias.repeat(16))
        wide_last.weight.copy_(last.weight.repeat(1, 16) / 16)
        wide_last.bias.copy_(last.bias)
    return wide, (x, y), {"loss": F.mse_loss}
