"""Initialization: second collection, half B."""

from __future__ import annotations

import torch.nn.functional as F
from registry import report
from samples import clusters, mlp, scored
from torch import nn


@report(
    "init", "UG606", "UG102 UG307 UG110 UG114 UG403 UG401 UG502 UG301", area="mlp",
    action=r"random|re-?initiali|symmetr|differ", steps=150, rate=5e-3,
    source="github.com/HomericIntelligence/Mnemosyne/pull/1987; wagonhelm/NaNmnist/issues/2",
    cause="all weights of a layer have the same value: its units compute and learn the same",
)  # fmt: skip
def constant_weights_in_all_layers(cured: bool):
    x, labels = clusters(192, 12, 6, 0.7, seed=1)
    model = mlp(12, 32, 32, 6)
    if not cured:
        for layer in model:
            if isinstance(layer, nn.Linear):
                nn.init.constant_(layer.weight, 0.05)
                nn.init.zeros_(layer.bias)
    return model, (x, labels), {"loss": F.cross_entropy}, scored(lambda out: F.cross_entropy(out, labels), x)
