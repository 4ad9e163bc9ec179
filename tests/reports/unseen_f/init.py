"""Initialization: fourth collection, half F."""

from __future__ import annotations

import torch.nn.functional as F
from registry import report
from samples import clusters, mlp, scored, seeded, sgd
from torch import nn


@report(
    "init", "UG303 UG605", "UG302 UG404 UG101 UG402", area="mlp", action=r"initiali|fan|gain|scale|xavier", steps=100,
    source="github.com/mnielsen/neural-networks-and-deep-learning/issues/30",
    cause="deviations are the root of 1 / fan_out, not of 1 / fan_in: sigmoids of many inputs start in their tails",
)  # fmt: skip
def deviation_by_fan_out(cured: bool):
    x, labels = clusters(192, 800, 6, 2.0, seed=1)
    model = mlp(800, 10, 10, 6, act=nn.Sigmoid)
    for i, layer in enumerate(model):
        if isinstance(layer, nn.Linear):
            fan = layer.in_features if cured else layer.out_features
            nn.init.normal_(layer.weight, std=fan**-0.5, generator=seeded(i))
    kwargs = {"loss": F.cross_entropy, "optimizer": sgd(0.1)}
    return model, (x, labels), kwargs, scored(lambda out: F.cross_entropy(out, labels), x)
