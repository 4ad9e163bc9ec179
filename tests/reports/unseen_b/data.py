"""Data: second collection, half B."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import boxes, clusters, log, mlp, scored, wrong_on
from torch import nn


@report(
    "data", "UG201", "UG502 UG605 UG301 UG102 UG307", area="video", action=r"normali|standard|mean|input", steps=40,
    source="github.com/GewelsJI/VPS/issues/50",
    cause="mean and deviation of the channels are applied to the first three columns, not to all pixels",
)  # fmt: skip
def columns_normalized_for_channels(cured: bool):
    shown, mask, _ = boxes(32, seed=1)
    colour = torch.tensor([0.08, 0.05, 0.06]).view(1, 3, 1, 1)
    x = (0.6 + colour * shown).clamp(0, 1)  # pale pictures, from 0 to 1
    mean, deviation = x.mean((0, 2, 3)), x.std((0, 2, 3))
    if cured:
        x = (x - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1)
    else:
        x = x.clone()
        for i in range(3):
            x[:, :, :, i] = (x[:, :, :, i] - mean[i]) / deviation[i]
    model = nn.Sequential(nn.Conv2d(3, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 1, 5, padding=2))
    score = scored(lambda out: F.binary_cross_entropy_with_logits(out, mask), x)
    return model, (x, mask), {"loss": F.binary_cross_entropy_with_logits}, score


@report(
    "data", "UG113", "UG504 UG501", form="probe", area="activity", action=r"shuffl|one class",
    source="github.com/NLeSC/mcfly/issues/322; cleverhans-lab/cleverhans/issues/232",
    cause="the data is stored class by class and not shuffled: every batch holds one class, another every few batches",
)  # fmt: skip
def sets_of_one_class_in_turn(cured: bool):
    x, labels = clusters(1200, 12, 5, 1.0, seed=2)
    order = torch.randperm(1200, generator=torch.Generator().manual_seed(3)) if cured else labels.argsort()
    x, labels = x[order], labels[order]
    model = mlp(12, 48, 5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def loop(probe, steps: int = 150) -> float:
        for step in range(steps):
            part = slice(16 * (step % 75), 16 * (step % 75) + 16)
            loss = F.cross_entropy(model(x[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return wrong_on(x, labels)(model)

    return model, optimizer, loop, None, {}
