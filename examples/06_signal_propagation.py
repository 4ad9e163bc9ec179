"""The signal propagation plots of Brock, De and Smith 2021 (arXiv 2101.08692): one ResNet in six ways.

unitgain spp examples/06_signal_propagation.py:norm_first --shape 8,3,32,32 --out norm_first.png
unitgain spp examples/06_signal_propagation.py:norm_first --against examples/06_signal_propagation.py:relu_first ...
python examples/06_signal_propagation.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import unitgain as ug

Layer = Callable[[int, int, int, int], nn.Module]  # channels in and out, kernel, stride


def plain(variance: float) -> Callable[..., nn.Module]:
    """Convolutions with weights of this variance over fan_in: 2 is He's, 1 fan-in's."""

    def make(channels: int, out: int, size: int, stride: int) -> nn.Module:
        layer = nn.Conv2d(channels, out, size, stride, size // 2, bias=False)
        nn.init.normal_(layer.weight, std=(variance / layer.weight[0].numel()) ** 0.5)
        return layer

    return make


def standardized(channels: int, out: int, size: int, stride: int) -> nn.Module:
    return ug.nn.ScaledStdConv2d(channels, out, size, stride, size // 2, gamma="relu")


class Block(nn.Module):
    """Three times what `before` makes of a width (norm and ReLU, say) and a convolution.

    (B, C, H, W) -> (B, O, H/s, W/s). alpha is what the branch is multiplied by, beta the std that its input is divided
    by.
    """

    def __init__(
        self, channels: int, out: int, stride: int, layer: Layer, before: Callable[[int], nn.Module],
        alpha: float, beta: float,
    ):  # fmt: skip
        super().__init__()
        inside = out // 4
        self.alpha, self.beta, self.first = alpha, beta, before(channels)
        self.branch = nn.Sequential(
            layer(channels, inside, 1, 1), before(inside), layer(inside, inside, 3, stride), before(inside),
            layer(inside, out, 1, 1),
        )  # fmt: skip
        same = stride == 1 and channels == out
        self.shortcut = None if same else layer(channels, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x) / self.beta
        return (x if self.shortcut is None else self.shortcut(y)) + self.alpha * self.branch(y)


def resnet(layer: Layer, before: Callable[[int], nn.Module], alpha: float = 1.0) -> nn.Module:
    """Three stages of five blocks. alpha below 1: as normalizer-free networks have it, with beta."""
    channels, variance = 32, 1.0
    blocks: list[nn.Module] = [plain(1.0)(3, channels, 3, 1)]
    for out, first in ((64, 1), (128, 2), (128, 2)):
        for i in range(5):
            beta = variance**0.5 if alpha < 1 else 1.0
            stride = first if i == 0 else 1
            blocks.append(Block(channels, out, stride, layer, before, alpha, beta))
            variance, channels = (1.0 if i == 0 else variance) + alpha**2, out
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def _norm_relu(channels: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


def norm_first() -> nn.Module:
    """BN-ReLU-Conv, He's weights: the variance grows by 1 - 1/pi a block, the squared mean by 1/pi."""
    return resnet(plain(2.0), _norm_relu)


def relu_first() -> nn.Module:
    """ReLU-BN-Conv, weights of variance 1/N: grows by 1 a block, with means of zero."""
    return resnet(plain(1.0), lambda channels: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(channels)))


def fan_in() -> nn.Module:
    """BN-ReLU-Conv with weights of variance 1/N: branches bring half as much."""
    return resnet(plain(1.0), _norm_relu)


def stripped() -> nn.Module:
    """ReLU-Conv: without the norms each block doubles the second moment, and nothing resets it."""
    return resnet(plain(2.0), lambda channels: nn.ReLU())


def norm_free_plain() -> nn.Module:
    """alpha and beta, but plain weights: the mean that ReLU makes grows from block to block."""
    return resnet(plain(2.0), lambda channels: nn.ReLU(), alpha=0.2)


def norm_free() -> nn.Module:
    """alpha, beta and scaled weight standardization: 1 + k alpha^2, means of zero."""
    return resnet(standardized, lambda channels: nn.ReLU(), alpha=0.2)


FIGURES: dict[str, tuple[Callable[[], nn.Module], ...]] = {
    "order": (norm_first, relu_first), "stripped": (norm_first, stripped), "weights": (norm_free_plain, norm_free),
    "init": (norm_first, fan_in),
}  # fmt: skip


def figure(name: str):
    """One of FIGURES as a matplotlib figure."""
    records = []
    for make in FIGURES[name]:
        torch.manual_seed(0)
        records.append(ug.spp(make(), torch.randn(8, 3, 32, 32)))
    return ug.plots.spp(records, labels=[make.__name__ for make in FIGURES[name]])


if __name__ == "__main__":
    for name in FIGURES:
        figure(name).savefig(f"{name}.png")
        print(f"{name}.png")
