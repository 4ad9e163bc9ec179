"""Training and evaluation mode: fourth collection, half E."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import clusters, descend, scored
from torch import Tensor, nn


class SharedDropout(nn.Module):
    """Drops a feature at all steps of a sequence, and should scale the others by 1 / (1 - p)."""

    def __init__(self, p: float, cured: bool):
        super().__init__()
        self.p, self.cured = p, cured

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = (torch.rand_like(x) >= self.p).float()
        return x * kept / (1 - self.p if self.cured else self.p)


@report(
    "mode", "UG703", "UG302 UG501 UG504 UG101 UG605", form="probe", area="speech",
    action=r"dropout|eval|mode|scale", few=20,
    source="github.com/kaldi-asr/kaldi/pull/2815",
    cause="what is kept is divided by the share that is dropped: with 0.1 training sees ten times the values of use",
)  # fmt: skip
def dropout_with_a_wrong_scale(cured: bool):
    x, labels = clusters(192, 16, 6, 0.8, seed=1)
    model = nn.Sequential(
        nn.Linear(16, 48), nn.ReLU(), SharedDropout(0.1, cured), nn.Linear(48, 48), nn.ReLU(),
        SharedDropout(0.1, cured), nn.Linear(48, 6),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)

    def loop(probe, steps: int = 150) -> float:
        descend(probe, optimizer, steps, lambda step: F.cross_entropy(model(x), labels))
        return scored(lambda out: F.cross_entropy(out, labels), x)(model)

    return model, optimizer, loop, (x, labels), {"loss": F.cross_entropy}
