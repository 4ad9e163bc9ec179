"""Planted defects: plain convolutional networks."""

from __future__ import annotations

import math

import torch
from networks import RELU, Call, cnn, group_norm, images, insert, pictures
from row import Case, fill, normal, plus, rated, sick, spoil, statistics, times
from torch import Tensor, nn


def classify(model: nn.Module, n: int = 16, **options) -> Case:
    return Case(model, images(n), **options)


def plain(**options) -> nn.Sequential:
    """Without normalization."""
    return cnn(norm=None, bias=True, **options)


def deep(depth: int, width: int = 12, **options) -> nn.Sequential:
    return cnn((width,) * depth, strides=(2,) + (1,) * (depth - 1), **options)


def pixels(n: int = 16, top: float = 255.0) -> tuple[Tensor, Tensor]:
    """Pictures as files hold them."""
    x, target = images(n)
    return ((x * 0.22 + 0.45).clamp(0, 1) * top), target


def hole(n: int = 16) -> tuple[Tensor, Tensor]:
    x, target = images(n)
    x[7, 1, 10:20, 10:20] = float("nan")
    return x, target


def tiny(norm) -> nn.Sequential:
    """Strides until one pixel is left, where the last norm sits; the head with a bias as torch draws it."""
    model = cnn((16, 16, 32, 32, 32), strides=(2, 2, 2, 2, 2), norm=norm)
    model.head.reset_parameters()
    return model


def channel_norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(width, width)


def without_statistics(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, track_running_stats=False)


class Half(nn.Module):
    """float16 inside, as under autocast, with float32 weights."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.float16):
            return self.net(x)


class Standardized(nn.Module):
    """Gives each picture mean 0 and deviation 1 before the network, without a thought for blank ones."""

    def __init__(self) -> None:
        super().__init__()
        self.net = plain()

    def forward(self, x: Tensor) -> Tensor:
        mean, std = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
        return self.net((x - mean) / std)


class Whitened(nn.Module):
    """Standardizes each picture by its own deviation: a blank one has none, and its root has no slope."""

    def __init__(self) -> None:
        super().__init__()
        self.net = plain()

    def forward(self, x: Tensor) -> Tensor:
        y = self.net.conv1(x)
        y = y / (y.flatten(1).var(1).sqrt().view(-1, 1, 1, 1) + 1)
        return self.net[1:](y)


def with_blank(n: int = 16) -> tuple[Tensor, Tensor]:
    x, target = images(n)
    x[3] = 0
    return x, target


def moved_on(model: nn.Sequential, layer: str) -> nn.Sequential:
    """Trained with statistics, then the named convolution got other, larger weights while the statistics stayed."""
    statistics(model, *(pictures(16) for _ in range(40)))
    return normal(model, layer, 2 * math.sqrt(2 / model.get_parameter(layer)[0].numel()))


def rate(kind: type[torch.optim.Optimizer], lr: float, **options):
    return lambda parameters: kind(parameters, lr=lr, **options)


ROWS = (
    sick("cnn-head-weights-x40", "UG101", lambda: classify(times(cnn(), "head.weight", 40))),
    sick("cnn-head-bias-12-for-one-class", "UG101", lambda: classify(plus(cnn(), "head.bias", 12, first=0.1))),
    sick("cnn-group-norm-of-one-pixel", "UG102", lambda: classify(tiny(channel_norm))),
    sick("cnn-softmax-module", "UG103", lambda: classify(nn.Sequential(cnn(), nn.Softmax(dim=1)))),
    sick("cnn-pixels-0-to-255", "UG201", lambda: Case(plain(), pixels())),
    sick("cnn-pixels-0-to-255-batchnorm", "UG201", lambda: Case(cnn(), pixels())),
    sick("cnn-pixels-divided-twice", "UG201", lambda: Case(cnn(), pixels(top=1 / 255))),
    sick("cnn-nan-patch", "UG202", lambda: Case(cnn(), hole())),
    sick("cnn-torch-default-14-layers", "UG301|UG401", lambda: classify(deep(14, norm=None, gain=1 / math.sqrt(3)))),
    sick("cnn-std-0.02-6-layers", "UG301", lambda: classify(normal(deep(6, 16, norm=None), "conv*.weight", 0.02))),
    sick("cnn-twice-the-gain", "UG302", lambda: classify(deep(8, norm=None, gain=2 * RELU))),
    sick("cnn-30-layers-1.3-times-the-gain", "UG302", lambda: classify(deep(30, norm=None, gain=1.3 * RELU))),
    sick("cnn-tanh-middle-layer-x6", "UG303", lambda: classify(
        times(plain(act=nn.Tanh, gain=1.2), "conv3.weight", 6)
    )),
    sick("cnn-hardtanh-all-layers-x5", "UG303", lambda: classify(plain(act=nn.Hardtanh, gain=7.0))),
    sick("cnn-quarter-of-channels-dead", "UG304", lambda: classify(plus(plain(), "conv2.bias", -15, first=0.25))),
    sick("cnn-batchnorm-shift-minus-6", "UG304", lambda: classify(fill(cnn(), "norm4.bias", -6))),
    sick("cnn-nan-weight-early", "UG306", lambda: classify(spoil(cnn(), "conv1.weight"))),
    sick("cnn-divides-a-blank-picture-by-zero", "UG306", lambda: Case(Standardized(), with_blank())),
    sick("cnn-sigmoid-7-layers", "UG401", lambda: classify(deep(7, norm=None, act=nn.Sigmoid, gain=1.0)), may="UG307"),
    sick("cnn-batchnorm-40-layers", "UG402", lambda: classify(deep(40, 12), n=8)),
    sick("cnn-detached-stem", "UG403", lambda: classify(insert(cnn(), "act2", "cut", Call(lambda x: x.detach())))),
    sick("cnn-batchnorm-weights-x25", "UG404", lambda: classify(times(cnn(), "conv4.weight", 25))),
    sick("cnn-batchnorm-weights-x0.05", "UG404", lambda: classify(times(cnn(), "conv1.weight", 0.05))),
    sick("cnn-deviation-of-a-blank-picture", "UG405", lambda: Case(Whitened(), with_blank())),
    sick("cnn-autocast-float16-without-loss-scaling", "UG406", lambda:
        classify(Half(cnn((16, 16, 16, 16), strides=(1, 1, 1, 1))))),
    sick("cnn-momentum-rate-1", "UG501", lambda: classify(
        cnn(), steps=8, optimizer=rate(torch.optim.SGD, 1.0, momentum=0.9)
    )),
    sick("cnn-adam-rate-1e-7", "UG502", lambda: classify(cnn(), steps=12, optimizer=rate(torch.optim.Adam, 1e-7))),
    sick("cnn-last-convolution-almost-frozen", "UG503", lambda: rated(
        classify(cnn((16, 16, 16, 32, 32), strides=(2, 1, 1, 2, 1))), "conv5.weight", 1e-5, 0.02
    )),
    sick("cnn-bias-before-batchnorm", "UG601", lambda: classify(cnn(bias=True))),
    sick("cnn-batchnorm-of-one-pixel", "UG602", lambda: classify(tiny(nn.BatchNorm2d), n=4)),
    sick("cnn-batchnorm-momentum-0.95", "UG602", lambda: classify(
        cnn(norm=lambda width: nn.BatchNorm2d(width, momentum=0.95)), n=4
    )),
    sick("cnn-batchnorm-without-running-statistics", "UG603", lambda: classify(cnn(norm=without_statistics))),
    sick("cnn-batch-mean-subtracted", "UG603", lambda: classify(
        insert(cnn(norm=group_norm), "act4", "center", Call(lambda x: x - x.mean((0, 2, 3), keepdim=True)))
    )),
    sick("cnn-trained-on-pixels-0-to-255", "UG604", lambda: classify(
        statistics(cnn(), *(pixels()[0] for _ in range(40)))
    )),
    sick("cnn-weights-moved-on", "UG604", lambda: classify(moved_on(cnn(), "conv3.weight"))),
    sick("cnn-first-convolution-x10", "UG605", lambda: classify(times(plain(), "conv1.weight", 10))),
    sick("cnn-third-convolution-x0.05", "UG605", lambda: classify(times(plain(), "conv3.weight", 0.05))),
    sick("cnn-constant-convolution", "UG606", lambda: classify(fill(plain(), "conv2.weight", 0.02))),
    sick("cnn-zero-convolution", "UG606", lambda: classify(fill(plain(), "conv3.weight", 0.0))),
)  # fmt: skip
