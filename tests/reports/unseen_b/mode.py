"""Training and evaluation mode: second collection, half B."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import log, scored, seeded
from torch import nn


@report(
    "mode", "UG602 UG703 UG604", "UG504 UG501", form="probe", area="cnn",
    action=r"batch|group|running|statistics|momentum",
    source="github.com/pytorch/pytorch/issues/4741; wolny/pytorch-3dunet/issues/53",
    cause="BatchNorm sees two examples at a time: its running statistics follow the last few, and evaluation is wrong",
)  # fmt: skip
def batch_norm_of_pairs_in_evaluation(cured: bool):
    g = seeded(1)
    labels = torch.arange(64) % 4
    x = torch.randn(4, 8, generator=g)[labels] * 2 + torch.randn(64, 8, generator=g)
    norm = nn.GroupNorm(1, 16) if cured else nn.BatchNorm1d(16, momentum=0.6)
    model = nn.Sequential(nn.Linear(8, 16), norm, nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)

    def loop(probe, steps: int = 200) -> float:
        model.train()
        for _ in range(steps):
            part = torch.randint(0, 64, (2,), generator=g)
            loss = F.cross_entropy(model(x[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return scored(lambda out: F.cross_entropy(out, labels), x)(model)

    return model, optimizer, loop, (x[:2], labels[:2]), {"loss": F.cross_entropy}
