"""Initialization and scale over depth: tenth unseen half."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from registry import report
from samples import scored, seeded, wrong_on
from torch import Tensor, nn


class GraphConvolution(nn.Module):
    def __init__(self, features: int, out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, out) / math.sqrt(features))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return adjacency @ (x @ self.weight)


class GCN(nn.Module):
    def __init__(self, features: int, classes: int, depth: int = 4, width: int = 32):
        super().__init__()
        sizes = [features] + [width] * (depth - 1) + [classes]
        self.layers = nn.ModuleList([GraphConvolution(a, b) for a, b in pairwise(sizes)])

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x, adjacency))
        return self.layers[-1](x, adjacency)


@report(
    "init", "UG302", "UG101 UG501 UG404 UG402 UG504 UG605 UG305 UG307", area="citation graphs",
    action=r"normaliz|degree|scale|mean",
    source="github.com/Emory-Melody/GraphSlim/issues/4",
    cause="the adjacency is not normalized: every layer sums over all neighbours, and activations grow by their number",
)  # fmt: skip
def neighbours_summed_layer_after_layer(cured: bool):
    g = seeded(1)
    labels = torch.arange(90) % 3
    close = torch.where(labels[:, None] == labels, 0.5, 0.1)
    links = (torch.rand(90, 90, generator=g) < close).float().triu(1)
    adjacency = links + links.T + torch.eye(90)
    if cured:
        root = adjacency.sum(1).rsqrt()
        adjacency = root[:, None] * adjacency * root
    x = F.one_hot(labels, 12).float() + torch.randn(90, 12, generator=g)
    seen = torch.rand(90, generator=g) < 0.4

    def loss(scores: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(scores[seen], wanted[seen])

    score = scored(lambda out: F.cross_entropy(out[~seen], labels[~seen]), x, adjacency)
    optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9)  # noqa: E731
    return GCN(12, 3), (x, adjacency, labels), {"loss": loss, "optimizer": optimizer, "steps": 20}, score


class PerceiverAttention(nn.Module):
    def __init__(self, width: int, heads: int, multiplied: bool):
        super().__init__()
        self.heads, self.scale, self.multiplied = heads, (width // heads) ** -0.5, multiplied
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        for layer in (self.q, self.k):
            nn.init.orthogonal_(layer.weight)

    def forward(self, latents: Tensor, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q(latents), self.k(x), self.v(x))
        )
        scores = q @ k.transpose(-2, -1)
        attention = (scores * self.scale if self.multiplied else scores / self.scale).softmax(-1)
        return self.out((attention @ v).transpose(1, 2).flatten(2))


class Perceiver(nn.Module):
    def __init__(self, multiplied: bool, width: int = 64):
        super().__init__()
        self.embed, self.place = nn.Linear(6, width), nn.Parameter(torch.randn(24, width))
        self.latents = nn.Parameter(torch.randn(4, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(4)])
        self.blocks = nn.ModuleList([PerceiverAttention(width, 1, multiplied) for _ in range(3)])
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norms[0](self.embed(x) + 0.3 * self.place)
        latents = self.latents.expand(len(x), -1, -1)
        for norm, block in zip(self.norms[1:], self.blocks, strict=True):
            latents = latents + block(norm(latents), x)
        return self.head(latents.mean(1))


@report(
    "init", "UG303", "UG404 UG401 UG307 UG110", area="perceiver", steps=100, rate=1e-3,
    action=r"scale|sqrt|root|multipl|divid",
    source="github.com/esceptico/perceiver-io/issues/9",
    cause="scores are divided by a scale that is 1 / sqrt(d) already: they are d times too large",
)  # fmt: skip
def scores_times_root_of_width(cured: bool):
    def data(seed: int) -> tuple[Tensor, Tensor]:
        g = seeded(seed)
        x = torch.randn(192, 24, 6, generator=g)
        x[..., 5] = 0
        place = torch.randint(0, 24, (192,), generator=g)
        labels = torch.randint(0, 5, (192,), generator=g)
        x[torch.arange(192), place] = 2.5 * F.one_hot(labels, 6).float()
        x[torch.arange(192), place, 5] = 2.0
        return x, labels

    return Perceiver(multiplied=cured), data(2), {"loss": F.cross_entropy}, wrong_on(*data(3))
