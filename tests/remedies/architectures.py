"""Architectures that remedies must cope with: name -> (model, batch), small and seeded."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainBlock(nn.Module):
    """A residual block without a norm; the last convolution is registered first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.last = nn.Conv2d(width, width, 3, padding=1)
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(F.relu(self.first(F.relu(x))))


class NormBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def residual(block: type[nn.Module], depth: int = 3) -> nn.Sequential:
    blocks = [block(16) for _ in range(depth)]
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )


class Classifier(nn.Module):
    """Embedding, LSTM, last state, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm, self.head = (
            nn.Embedding(20, 16),
            nn.LSTM(16, 32, batch_first=True),
            nn.Linear(32, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(self.embedding(x))
        return self.head(out[:, -1])


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.out = nn.Conv2d(32, 3, 3, padding=1)
        self.down1, self.down2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.leaky_relu(self.down1(x), 0.2)
        b = F.leaky_relu(self.down2(F.max_pool2d(a, 2)), 0.2)
        return self.out(torch.cat([F.leaky_relu(self.up(b), 0.2), a], 1))


class Mixer(nn.Module):
    """One mixing block over tokens and one over channels, without norms, with a tuple as output."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 24, 4, stride=4)
        self.tokens = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.channels = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(x).flatten(2)  # (B, 24, 16)
        x = x + self.tokens(x)
        x = x.transpose(1, 2)
        x = x + self.channels(x)
        return self.head(x.mean(1)), x


class TiedAutoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.bias = nn.Linear(64, 16), nn.Parameter(torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.encoder(x)), self.encoder.weight.t(), self.bias)


class Repeated(nn.Module):
    """One layer run six times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(6):
            x = F.relu(self.layer(x))
        return self.head(x)


class Attention(nn.Module):
    """Attention and an MLP, without norms, on a query, key and value of its own projections."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, kdim=16, vdim=16, batch_first=True, dropout=0.1)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 32))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x, x[..., :16], x[..., 16:])[0]
        return x + self.mlp(x)


def images(channels: int = 3) -> Tensor:
    return torch.randn(16, channels, 16, 16) * 4 + 1


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(24, 64),
        nn.ReLU(),
        nn.Linear(64, 64, bias=False),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Linear(64, 5),
    )


def _grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 16, 3, groups=2), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16, bias=False), nn.ReLU6(),
        nn.ConvTranspose2d(16, 8, 3, groups=4), nn.SiLU(), nn.Conv2d(8, 4, 1),
    )  # fmt: skip


def _transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=False)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def _autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 16, 5, stride=2), nn.ELU(), nn.ConvTranspose1d(16, 2, 5, stride=2, output_padding=1)
    )


ZOO: dict[str, Callable[[], tuple[nn.Module, object]]] = {
    "mlp": lambda: (_mlp(), torch.rand(64, 24) * 9),
    "plain resnet": lambda: (residual(PlainBlock), images()),
    "normed resnet": lambda: (residual(NormBlock), images()),
    "lstm": lambda: (Classifier(), torch.randint(20, (32, 7))),
    "unet": lambda: (UNet(), images()),
    "mixer": lambda: (Mixer(), images()),
    "grouped": lambda: (_grouped(), images(4)),
    "transformer": lambda: (_transformer(), torch.randn(8, 12, 32)),
    "attention": lambda: (Attention(), torch.randn(16, 12, 32)),
    "autoencoder": lambda: (_autoencoder(), torch.randn(16, 2, 32)),
    "repeated": lambda: (Repeated(), torch.randn(64, 32)),
    "tied autoencoder": lambda: (TiedAutoencoder(), torch.randn(128, 64) * 3),
}
