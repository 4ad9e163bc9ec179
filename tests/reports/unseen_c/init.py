"""Initialization: third collection, half C."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, mlp, molecules, scored
from torch import Tensor, nn


@report(
    "init", "UG306 UG104 UG405", "UG301 UG302 UG605 UG101", area="graph attention", steps=80, rate=5e-3,
    action=r"initiali|not finite|NaN|values",
    source="github.com/gordicaleksa/pytorch-GAT/issues/11; LeiBAI/AGCRN/issues/12; sauradip/STALE/issues/16",
    cause="a parameter is what lay in memory: torch.Tensor(n) was never filled, and holds NaN and numbers like 1e31",
)  # fmt: skip
def parameter_left_as_memory(cured: bool):
    def run(net: Net, atoms: Tensor, bonds: Tensor) -> Tensor:
        features = net.project(atoms)
        scores = F.leaky_relu((features @ net.here)[:, :, None] + (features @ net.there)[:, None], 0.2)
        weights = scores.masked_fill(bonds == 0, -1e9).softmax(2)
        return net.head(torch.relu(weights @ features).mean(1))

    atoms, bonds = molecules(96, 8, 6, seed=95)
    labels = (atoms[..., 0].amax(1) > 1.3).long()
    memory = torch.tensor([-1.6775e31, 4.5895e-41, 0.0, float("nan")]).repeat(4)  # as of one run
    here, there = 0.3 * torch.randn(2, 16, generator=torch.Generator().manual_seed(96))
    model = Net(
        run, project=nn.Linear(6, 16), head=mlp(16, 16, 2), here=nn.Parameter(here if cured else memory.clone()),
        there=nn.Parameter(there),
    )  # fmt: skip
    score = scored(lambda out: F.cross_entropy(out, labels), atoms, bonds)
    return model, (atoms, bonds, labels), {"loss": F.cross_entropy}, score
