"""Initialization: held-out half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, clusters, glyphs, sgd, wrong_on
from torch import Tensor, nn


@report(
    "init", "UG605 UG301 UG401", "UG502 UG102 UG307 UG110 UG114", area="capsules",
    action=r"initiali|gain|scale|re-?init", steps=40,
    source="github.com/ageron/handson-ml/pull/176",
    cause="the transformations between capsules start with a deviation of 0.01: for many batches "
    "nothing moves; with 0.1 it does at once",
)  # fmt: skip
def capsule_weights_too_small(cured: bool):
    def squash(x: Tensor) -> Tensor:
        square = x.square().sum(-1, keepdim=True)
        return x * square.sqrt() / (1 + square) if cured else x * (square + 1e-9).sqrt() / (1 + square)

    def run(net: Net, x: Tensor) -> Tensor:
        parts = squash(net.parts(x).unflatten(1, (8, 6)))
        votes = torch.einsum("npi,pcio->nco", parts, net.votes)
        wholes = squash(torch.einsum("nci,cio->nco", squash(votes), net.wholes))
        return (wholes.square().sum(2) + 1e-9).sqrt()

    def margin(length: Tensor, labels: Tensor) -> Tensor:
        present = F.one_hot(labels, 5).float()
        return (
            (present * (0.9 - length).relu().square() + 0.5 * (1 - present) * (length - 0.1).relu().square())
            .sum(1)
            .mean()
        )

    x, labels = clusters(160, 16, 5, 0.8, seed=8)
    deviation = 0.4 if cured else 0.01
    model = Net(
        run, parts=nn.Linear(16, 48), votes=nn.Parameter(torch.randn(8, 5, 6, 8) * deviation),
        wholes=nn.Parameter(torch.randn(5, 8, 8) * deviation),
    )  # fmt: skip
    return model, (x, labels), {"loss": margin, "steps": 20, "optimizer": sgd(0.3)}, wrong_on(x, labels)


@report(
    "init", "UG605 UG301 UG401", "UG502 UG102 UG307 UG110 UG114", area="siamese",
    action=r"initiali|kaiming|gain|re-?init", steps=60,
    source="github.com/adambielski/siamese-triplet/issues/17",
    cause="with ReLU in place of PReLU the loss stays at ln of the classes: the layers' default "
    "start is too small for ReLU",
)  # fmt: skip
def deep_relu_at_default_init(cured: bool):
    x, labels = glyphs(96, 6, noise=0.2, seed=9)
    layers: list[nn.Module] = [nn.Conv2d(1, 12, 3, 2, 1), nn.ReLU()]
    for _ in range(9):
        layers += [nn.Conv2d(12, 12, 3, 1, 1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(432, 6))
    if cured:
        for layer in model:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
    return (
        model,
        (x, labels),
        {"loss": F.cross_entropy, "steps": 20, "optimizer": sgd(0.01)},
        wrong_on(x, labels),
    )
