"""Data: third collection, half C."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import convnet, glyphs, mlp, seeded, standard, wrong_on


@report(
    "data", "UG201 UG203", "UG302 UG501 UG504 UG101 UG304 UG305 UG307 UG102 UG404", area="driving",
    rate=3e-3, steps=120,
    action=r"normali|mean|standard|scale|float64|precision|constant",
    source="github.com/open-mmlab/mmdetection3d/issues/296",
    cause="times in microseconds since 1970 are cast to float32, which keeps them to two minutes: all are the same",
)  # fmt: skip
def times_rounded_to_float32(cured: bool):
    g = seeded(84)
    after = torch.rand(192, 1, generator=g, dtype=torch.float64) * 2e7  # twenty seconds
    times = 1550083467346370 + after
    other = torch.randn(192, 3, generator=g)
    y = standard(torch.sin(after.float() / 2e6) + 0.3 * other[:, :1])
    times = (times - times.mean()) / times.std() if cured else times
    return mlp(4, 48, 48, 1), (torch.cat([times.float(), other], 1), y), {"loss": F.mse_loss}


@report(
    "data", area="pictures", action=r"overflow|wrap|uint8|clip|range", steps=80, rate=5e-3, boundary=True,
    no_rule="brighter pictures overflow as bytes: white becomes black", says=r"overflow|wrap",
    source="github.com/tensorpack/tensorpack/issues/614; dwave-examples/image-segmentation/pull/11",
    cause="the augmentation multiplies bytes, which wrap around above 255: bright strokes turn dark",
)  # fmt: skip
def bytes_wrap_around(cured: bool):
    def shown(seed: int):
        x, labels = glyphs(120, 6, 12, noise=0.2, seed=seed)
        return (x - x.min()) / (x.max() - x.min()), labels

    x, labels = shown(85)
    factor = torch.rand(120, 1, 1, 1, generator=seeded(86)) * 0.8 + 1.0
    bright = (x * 255 * factor).round()
    x = (bright.clamp(max=255) if cured else bright % 256) / 255
    later, kinds = shown(87)
    model = convnet(1, 6, 12)
    return model, ((x - 0.3) / 0.25, labels), {"loss": F.cross_entropy}, wrong_on((later - 0.3) / 0.25, kinds)
