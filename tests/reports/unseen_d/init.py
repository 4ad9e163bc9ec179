"""Initialization: third collection, half D."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import houses, mlp, scored
from torch import nn


@report(
    "init", "UG302 UG605 UG101 UG305", "UG402 UG307 UG303 UG304 UG501 UG504 UG404 UG102", area="contextual models",
    action=r"initiali|rand|centr|scale|weight", steps=60, rate=3e-3,
    source="github.com/AdaptInfer/Contextualized/issues/33",
    cause="weights are torch.rand, from 0 to 1: not centred, and too large for their number of inputs",
)  # fmt: skip
def weights_from_zero_to_one(cured: bool):
    x, y = houses(192, 8, seed=97)
    model = mlp(8, 32, 32, 32, 1)
    if not cured:
        g = torch.Generator().manual_seed(98)
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.data = torch.rand(layer.weight.shape, generator=g)
    return model, (x, y), {"loss": F.mse_loss}, scored(lambda out: F.mse_loss(out, y), x)
