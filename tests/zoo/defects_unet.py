"""Planted defects: U-Nets."""

from __future__ import annotations

import torch
from networks import RELU, Then, UNet, group_norm, masks, pictures
from row import Case, fill, rated, sick, spoil, statistics, times
from torch import Tensor, nn


def segment(model: nn.Module, n: int = 4, **options) -> Case:
    return Case(model, masks(n), **options)


def bare(**options) -> UNet:
    return UNet(norm=None, bias=True, **options)


class NoSkip(UNet):
    """The first level's skip is cut off by accident."""

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.middle(self.pool(b)).detach()
        b = self.up2(torch.cat([self.grow(c), b], 1))
        return self.head(self.up1(torch.cat([self.grow(b), a], 1)))


class Half(nn.Module):
    """float16 inside, as under autocast, with float32 weights."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.float16):
            return self.net(x)


class Contrast(UNet):
    """Divides the bottleneck by its deviation over the batch."""

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.middle(self.pool(b))
        c = c / (c.amax((0, 2, 3), keepdim=True) + 0.1)
        b = self.up2(torch.cat([self.grow(c), b], 1))
        return self.head(self.up1(torch.cat([self.grow(b), a], 1)))


def other_domain() -> UNet:
    """Trained on bright, strong pictures."""
    return statistics(UNet(), *(pictures(4) * 12 + 20 for _ in range(40)))


def ignored() -> tuple[Tensor, Tensor]:
    x, target = masks()
    return x, torch.full_like(target, -100)


ROWS = (
    sick("unet-head-weights-x30", "UG101", lambda: segment(times(UNet(), "head.weight", 30))),
    sick("unet-softmax-over-classes", "UG103", lambda: segment(Then(UNet(), nn.Softmax(1)))),
    sick("unet-every-pixel-ignored", "UG104", lambda: Case(UNet(), ignored())),
    sick("unet-pixels-std-25", "UG201", lambda: Case(UNet(), (pictures(4) * 25, masks(4)[1]))),
    sick("unet-0.2-times-the-gain", "UG301|UG401|UG605", lambda: segment(times(bare(), "*.conv*.weight", 0.2))),
    sick("unet-2.2-times-the-gain", "UG302", lambda: segment(times(bare(), "*.conv*.weight", 2.2))),
    sick("unet-tanh-x7-on-the-way-up", "UG303", lambda: segment(
        times(times(bare(act=nn.Tanh), "*.conv*.weight", 1.2 / RELU), "up2.conv1.weight", 7)
    )),
    sick("unet-dead-middle", "UG304", lambda: segment(fill(UNet(), "middle.norm2.bias", -7), n=8)),
    sick("unet-nan-weight-on-the-way-up", "UG306", lambda: segment(spoil(UNet(), "up1.conv1.weight"))),
    sick("unet-bottleneck-detached", "UG403", lambda: segment(NoSkip())),
    sick("unet-norm-hides-weights-x0.03", "UG404", lambda: segment(times(UNet(), "up2.conv1.weight", 0.03))),
    sick("unet-autocast-float16-without-loss-scaling", "UG406", lambda: segment(Half(UNet()))),
    sick("unet-sgd-rate-60", "UG501", lambda: segment(
        UNet(), steps=6, optimizer=lambda p: torch.optim.SGD(p, 60.0)
    )),
    sick("unet-one-level-almost-frozen", "UG503", lambda: rated(segment(UNet()), "down1.conv2.weight", 1e-4, 0.3)),
    sick("unet-bias-before-batchnorm", "UG601", lambda: segment(UNet(bias=True))),
    sick("unet-bias-before-instancenorm", "UG601", lambda: segment(UNet(norm=nn.InstanceNorm2d, bias=True))),
    sick("unet-batchnorm-of-4-pixels", "UG602", lambda: Case(UNet(), masks(1, size=8))),
    sick("unet-bottleneck-scaled-by-batch", "UG603", lambda: segment(Contrast(norm=group_norm))),
    sick("unet-statistics-of-another-domain", "UG604", lambda: segment(other_domain())),
    sick("unet-middle-x12", "UG605", lambda: segment(times(bare(), "middle.conv1.weight", 12))),
    sick("unet-constant-convolution", "UG606", lambda: segment(fill(bare(), "up2.conv2.weight", 0.03))),
)  # fmt: skip
