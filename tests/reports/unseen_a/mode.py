"""Training and evaluation mode: second collection, half A."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import clusters, log, scored
from torch import nn


@report(
    "mode", "UG705", "UG703 UG604 UG504 UG501", form="probe", area="visual questions", action=r"train\(\)|train mode",
    source="github.com/facebookresearch/clevr-iep/pull/22; ermongroup/ncsn/issues/2; fartashf/vsepp/issues/4",
    cause="accuracy is checked in evaluation mode, and the model is not set back: BatchNorm keeps its first statistics",
)  # fmt: skip
def eval_left_on_by_accuracy_check(cured: bool):
    x, labels = clusters(256, 24, 6, 0.8, seed=1)
    layers = [nn.Linear(24, 48), *(nn.Linear(48, 48) for _ in range(5))]
    blocks = [nn.Sequential(layer, nn.BatchNorm1d(48), nn.ReLU()) for layer in layers]
    model = nn.Sequential(*blocks, nn.Linear(48, 6))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)

    def loop(probe, steps: int = 100) -> float:
        model.train()
        for step in range(steps):
            loss = F.cross_entropy(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
            if step % 40 == 1:
                model.eval()
                with torch.no_grad():
                    model(x[:16])
                if cured:
                    model.train()
        return scored(lambda out: F.cross_entropy(out, labels), x)(model)

    return model, optimizer, loop, None, {}
