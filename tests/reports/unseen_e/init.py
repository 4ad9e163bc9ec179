"""Initialization: fourth collection, half E."""

from __future__ import annotations

import torch.nn.functional as F
from registry import report
from samples import glyphs, scored, seeded
from torch import nn


@report(
    "init", "UG302 UG605 UG402", "UG501 UG504 UG303 UG109 UG404", area="super-resolution",
    action=r"initiali|gain|scale|kaiming|std", steps=60,
    source="github.com/hengchuan/RDN-TensorFlow/issues/3",
    cause="weights start far too large for their fan-in (0.01 works): outputs are huge, and pictures come out black",
)  # fmt: skip
def deep_convolutions_with_large_weights(cured: bool):
    x = glyphs(48, 6, 8, seed=1)[0]
    y = F.interpolate(x, scale_factor=2, mode="bilinear")
    layers = [layer for _ in range(5) for layer in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())]
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), *layers, nn.Conv2d(16, 4, 3, padding=1), nn.PixelShuffle(2)
    )
    if not cured:
        for i, layer in enumerate(model):
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.4, generator=seeded(i))
    return model, (x, y), {"loss": F.l1_loss}, scored(lambda out: F.l1_loss(out.clamp(-3, 3), y), x)
