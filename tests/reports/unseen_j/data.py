"""Data: tenth unseen half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import adam, glyphs, houses, mlp, scored, seeded, wrong_on
from torch import nn


@report(
    "data", "UG204", area="robotics", action=r"permute|transpose", rate=3e-3,
    source="github.com/Selen-Suyue/DensePolicy2D/issues/3",
    cause="pictures (H, W, C) are brought to (C, H, W) by a reshape: neighbours are no neighbours any more",
)  # fmt: skip
def pictures_reshaped_to_channels_first(cured: bool):
    def data(seed: int):
        shape, labels = glyphs(160, 8, 12, noise=0.5, seed=seed)
        colour = 0.5 + torch.rand(160, 3, 1, 1, generator=seeded(seed + 50))
        camera = (shape * colour).permute(0, 2, 3, 1).contiguous()  # (B, H, W, C), as a camera gives them
        return (camera.permute(0, 3, 1, 2) if cured else camera.reshape(160, 3, 12, 12)), labels

    x, labels = data(1)
    layers = [
        nn.Conv2d(3, 16, 5, 2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    ]
    model = nn.Sequential(*layers, nn.Linear(32, 8))
    return model, (x, labels), {"loss": F.cross_entropy}, wrong_on(*data(2))


@report(
    "data", "UG201", "UG101 UG501 UG304 UG504 UG404 UG402 UG302", area="detection",
    action=r"normaliz|255|standardiz|scale",
    source="github.com/longcw/yolo2-pytorch/issues/37",
    cause="pictures go into the network as they were read, with values from 0 to 255",
)  # fmt: skip
def pixels_up_to_255(cured: bool):
    x, labels = glyphs(192, 6, 12, channels=3, seed=3)
    pixels = ((x - x.min()) / (x.max() - x.min()) * 255).byte().float()
    x = (pixels - pixels.mean()) / pixels.std() if cured else pixels
    layers = [
        nn.Conv2d(3, 16, 3, 2),
        nn.LeakyReLU(0.1),
        nn.Conv2d(16, 16, 3),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
    ]
    model = nn.Sequential(*layers, nn.Linear(144, 6))
    optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9)  # noqa: E731
    kwargs = {"loss": F.cross_entropy, "optimizer": optimizer, "steps": 20}
    return model, (x, labels), kwargs, wrong_on(x, labels)


@report(
    "data", "UG201", "UG501 UG502 UG404 UG307 UG303 UG102", area="sensors", action=r"normaliz|standardiz|scale",
    source="github.com/aimagelab/novelty-detection/issues/5",
    cause="inputs are not standardized: the air pressure in pascal drowns all other channels",
)  # fmt: skip
def sensor_far_from_zero(cured: bool):
    x, y = houses(256, 6, seed=4)
    scale = torch.tensor([1.0, 4.0, 0.3, 250.0, 10.0, 1.0])
    offset = torch.tensor([0.0, 21.0, 1.0, 101325.0, 40.0, 0.0])
    readings = x * scale + offset
    inputs = (readings - readings.mean(0)) / readings.std(0) if cured else readings
    model = mlp(6, 48, 48, 1, act=nn.Tanh)
    kwargs = {"loss": F.mse_loss, "optimizer": adam(3e-3)}
    return model, (inputs, y), kwargs, scored(lambda out: F.mse_loss(out, y), inputs)
