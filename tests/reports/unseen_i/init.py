"""Initialization and scale over depth: ninth unseen half."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from registry import report
from samples import houses, rings, scored, wrong_on
from torch import Tensor, nn


class GatedFusion(nn.Module):
    """Adds a second source to a first one, through a gate that is to begin closed."""

    def __init__(self, width: int, both_zero: bool):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, width, bias=False), nn.ReLU())
        self.gate = nn.Sequential(nn.Linear(width, width, bias=False), nn.Tanh())
        nn.init.zeros_(self.gate[0].weight)
        if both_zero:
            nn.init.zeros_(self.project[0].weight)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        fused = self.project(text)
        return image + self.gate(fused) * fused


class Referring(nn.Module):
    def __init__(self, both_zero: bool):
        super().__init__()
        self.image, self.text = nn.Linear(6, 32), nn.Linear(6, 32)
        self.fusion = GatedFusion(32, both_zero)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(32, 1))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return self.head(self.fusion(self.image(image), self.text(text)))


@report(
    "init", "UG606 UG403", "UG205 UG102 UG307", area="vision and language", action=r"zero|initiali[sz]", rate=1e-2,
    source="github.com/yz93/LAVT-RIS/issues/25",
    cause="both layers of a product begin with zero weights: neither of them gets a gradient, ever",
)  # fmt: skip
def both_layers_of_a_gate_begin_at_zero(cured: bool):
    image, y = houses(256, 6, seed=1)
    text = torch.roll(image, 100, 0).flip(1)
    y = (y + 2 * text[:, :1] * text[:, 1:2]) / 2
    score = scored(lambda out: F.mse_loss(out, y), image, text)
    return Referring(both_zero=not cured), (image, text, y), {"loss": F.mse_loss}, score


class FullyConnected(nn.Module):
    """Layers by hand: weights 0.01 * randn, as a course has it."""

    def __init__(self, sizes: list[int], he: bool):
        super().__init__()
        pairs = list(pairwise(sizes))
        scales = [(2 / fan_in) ** 0.5 if he else 0.01 for fan_in, _ in pairs]
        weights = [s * torch.randn(i, o) for s, (i, o) in zip(scales, pairs, strict=True)]
        self.weights = nn.ParameterList([nn.Parameter(w) for w in weights])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(o)) for _, o in pairs])

    def forward(self, x: Tensor) -> Tensor:
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ w + b
            x = F.relu(x) if i < len(self.weights) - 1 else x
        return x


@report(
    "init", "UG301 UG605", "UG401 UG307 UG102 UG510 UG114 UG110 UG502", area="toy data",
    action=r"initiali[sz]|std|scale|gain|He|kaiming",
    source="github.com/leonardoaraujosantos/DLMatFramework/issues/16",
    cause="with more than two layers the network does not learn: the weights begin too small for their fan-in",
)  # fmt: skip
def hundredth_of_a_normal_in_every_layer(cured: bool):
    x, labels = rings(256, 3, seed=2)
    model = FullyConnected([2, 64, 64, 64, 64, 3], he=cured)
    optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)  # noqa: E731
    return (
        model,
        (x, labels),
        {"loss": F.cross_entropy, "optimizer": optimizer, "steps": 20},
        wrong_on(x, labels),
    )
