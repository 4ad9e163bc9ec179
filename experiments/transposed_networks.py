"""Eight small networks with transposed convolutions, for the tables of `propagation.py`.

The first four were looked at when the laws of transposed convolutions were checked, the other four only measured then.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())


class UNet(nn.Module):
    def __init__(self, size: int, padding: int):
        super().__init__()
        self.a, self.b, self.c = conv(3, 32), conv(32, 64, 2), conv(64, 128, 2)
        self.up1 = nn.ConvTranspose2d(128, 64, size, 2, padding)
        self.up2 = nn.ConvTranspose2d(64, 32, size, 2, padding)
        self.d1, self.d2, self.head = conv(128, 64), conv(64, 32), nn.Conv2d(32, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(a)
        y = self.d1(torch.cat([self.up1(self.c(b)), b], 1))
        return self.head(self.d2(torch.cat([self.up2(y), a], 1)))


class SuperResolution(nn.Module):
    """Residual blocks on small maps, then twice as large and again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, 2, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(64, 64, 3, 1, 1), nn.PReLU(), nn.Conv2d(64, 64, 3, 1, 1))
            for _ in range(4)
        )
        self.up1, self.up2 = nn.ConvTranspose2d(64, 64, 3, 2, 1, 1), nn.ConvTranspose2d(64, 32, 3, 2, 1, 1)
        self.head = nn.Conv2d(32, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + 0.3 * block(x)
        x = F.leaky_relu(self.up1(x), 0.2)
        return self.head(F.leaky_relu(self.up2(x), 0.2))


def generator() -> nn.Module:
    """DCGAN's, from maps of 8 x 8."""
    layers: list[nn.Module] = [nn.Conv2d(3, 128, 8, 8)]
    for channels, out in ((128, 128), (128, 64), (64, 32)):
        layers += [nn.ConvTranspose2d(channels, out, 4, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(32, 3, 3, 1, 1), nn.Tanh())


def autoencoder(activation: type[nn.Module], size: int, padding: int) -> nn.Module:
    layers: list[nn.Module] = []
    for channels, out in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(channels, out, 3, 2, 1), activation()]
    for channels, out in ((128, 64), (64, 32), (32, 16)):
        layers += [nn.ConvTranspose2d(channels, out, size, 2, padding, 1), activation()]
    return nn.Sequential(*layers, nn.Conv2d(16, 3, 3, 1, 1))


class Segmentation(nn.Module):
    """A fully convolutional network: enlarged depthwise, added to finer maps, enlarged again."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 48, 2), conv(48, 48, 2)
        self.up = nn.ConvTranspose2d(48, 48, 4, 2, 1, groups=48, bias=False)
        self.lateral, self.head = nn.Conv2d(48, 48, 1), nn.ConvTranspose2d(48, 8, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        return self.head(torch.relu(self.up(self.b(a)) + self.lateral(a)))


def group_norms() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), nn.GroupNorm(8, 96), nn.GELU()]
    for channels, out, size, stride, padding in ((96, 96, 3, 1, 1), (96, 48, 2, 2, 0)):
        layers += [nn.ConvTranspose2d(channels, out, size, stride, padding), nn.GroupNorm(8, out), nn.GELU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(48, 24, 2, 2))


IN_SIGHT: dict[str, Callable[[], nn.Module]] = {
    "transposed: u-net 2x2": lambda: UNet(2, 0),
    "transposed: generator": generator,
    "transposed: autoencoder 3x3": lambda: autoencoder(nn.ReLU, 3, 1),
    "transposed: segmentation": Segmentation,
}
HELD_OUT: dict[str, Callable[[], nn.Module]] = {
    "transposed: u-net 4x4": lambda: UNet(4, 1),
    "transposed: super-resolution": SuperResolution,
    "transposed: autoencoder 5x5": lambda: autoencoder(nn.SiLU, 5, 2),
    "transposed: group norms": group_norms,
}
