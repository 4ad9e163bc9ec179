"""Small networks that the variants share: what people build from scratch."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Attention of several heads, written out: (batch, token, width) to the same."""

    def __init__(self, width: int, heads: int = 4, causal: int | None = None):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(width // self.heads)
        if self.causal is not None:
            later = torch.ones(tokens, tokens, device=x.device).triu(self.causal).bool()
            scores = scores.masked_fill(later, float("-inf"))
        return self.out(torch.einsum("bhqk,bhkd->bqhd", scores.softmax(-1), v).reshape(n, tokens, width))


class Block(nn.Module):
    """A transformer block that normalizes first."""

    def __init__(self, width: int, heads: int = 4, causal: int | None = None):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads, causal)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Gpt(nn.Module):
    """A language model that computes its loss in forward when it is given targets."""

    def __init__(
        self, words: int, width: int = 32, layers: int = 2, length: int = 16, causal: int | None = 1
    ):
        super().__init__()
        self.tokens, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, causal=causal) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> Any:
        x = self.tokens(idx) + self.places(torch.arange(idx.shape[1], device=idx.device))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        if targets is None:
            return logits
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Vit(nn.Module):
    """Patches, a class token, blocks, and a head on the class token."""

    def __init__(self, classes: int, size: int = 12, patch: int = 4, width: int = 32, layers: int = 2):
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*[Block(width) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


def double(fan_in: int, fan_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (fan_in, fan_out):
        layers += [
            nn.Conv2d(channels, fan_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(fan_out),
            nn.ReLU(True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Two levels down, two up, with skips; `last` is what stands after the last convolution."""

    def __init__(self, classes: int = 1, width: int = 8, channels: int = 1, last: nn.Module | None = None):
        super().__init__()
        self.enc1, self.enc2 = double(channels, width), double(width, 2 * width)
        self.middle = double(2 * width, 4 * width)
        self.up2, self.dec2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), double(4 * width, 2 * width)
        self.up1, self.dec1 = nn.ConvTranspose2d(2 * width, width, 2, 2), double(2 * width, width)
        self.out, self.last = nn.Conv2d(width, classes, 1), last or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        a = self.enc1(x)
        b = self.enc2(F.max_pool2d(a, 2))
        x = self.middle(F.max_pool2d(b, 2))
        x = self.dec2(torch.cat([self.up2(x), b], 1))
        x = self.dec1(torch.cat([self.up1(x), a], 1))
        return self.last(self.out(x))


class BasicBlock(nn.Module):
    """Two convolutions with BatchNorm and a shortcut."""

    def __init__(self, fan_in: int, fan_out: int, stride: int = 1, momentum: float = 0.1):
        super().__init__()
        self.conv1, self.bn1 = (
            nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(fan_out, momentum=momentum),
        )
        self.conv2, self.bn2 = (
            nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(fan_out, momentum=momentum),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and fan_in == fan_out
            else nn.Conv2d(fan_in, fan_out, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, three blocks, pooling, dropout and a classifier."""

    def __init__(
        self, classes: int, channels: int = 1, width: int = 8, momentum: float = 0.1, drop: float = 0.0
    ):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width, momentum=momentum),
            nn.ReLU(),
        )
        self.layers = nn.Sequential(
            BasicBlock(width, width, 1, momentum),
            BasicBlock(width, 2 * width, 2, momentum),
            BasicBlock(2 * width, 4 * width, 2, momentum),
        )
        self.drop, self.fc = nn.Dropout(drop), nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.layers(self.stem(x)).mean((2, 3))))


class Recurrent(nn.Module):
    """Perhaps an embedding, a recurrent network, and a head on its last or on every step."""

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        width: int = 32,
        words: int = 0,
        every: bool = False,
        cell: Any = nn.LSTM,
        **options: Any,
    ):
        super().__init__()
        self.embed = nn.Embedding(words, fan_in) if words else nn.Identity()
        self.rnn = cell(fan_in, width, **{"batch_first": True, **options})
        self.head, self.every = nn.Linear(width * (2 if options.get("bidirectional") else 1), fan_out), every

    def forward(self, x: Tensor) -> Tensor:
        out = self.rnn(self.embed(x))[0]
        return self.head(out if self.every else out[:, -1])


class WithLoss(nn.Module):
    """A network that is given its targets too and returns what `run(net, inputs, targets)` does: its own loss."""

    def __init__(self, run: Any, **parts: nn.Module):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, inputs: Tensor, targets: Tensor) -> Any:
        return self.run(self, inputs, targets)


class GraphNet(nn.Module):
    """Node features are averaged over neighbours between linear layers."""

    def __init__(self, fan_in: int, fan_out: int, width: int = 32, act: Any = F.relu, layers: int = 3):
        super().__init__()
        sizes = [fan_in, *[width] * (layers - 1), fan_out]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.act = act

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        mean = edges / edges.sum(2, keepdim=True)
        for linear in self.linears[:-1]:
            nodes = self.act(linear(mean @ nodes))
        return self.linears[-1](mean @ nodes)
