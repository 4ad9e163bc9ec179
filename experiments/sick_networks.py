"""Networks of many kinds on tasks that can be learnt, and defects to plant in them: the cases of advice_pays.py.

Each network has an optimizer and a rate that train it. What data are: every batch is drawn anew from one distribution,
so that a longer training never sees a batch twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Network:
    """A healthy network with its task. data: (generator) -> one batch"""

    name: str
    model: Callable[[], nn.Module]
    data: Callable[[torch.Generator], tuple[Tensor, Tensor]]
    loss: Loss
    optimizer: Callable[..., torch.optim.Optimizer]
    rate: float


# ---- tasks -----------------------------------------------------------------------------------------------------


def _fixed(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(12))


PICTURES, CLASSES, DIRECTIONS, NEXT = _fixed(10, 1, 12, 12), _fixed(10, 32), _fixed(16, 3), _fixed(24, 24)


def pictures(g: torch.Generator, n: int = 32) -> tuple[Tensor, Tensor]:
    y = torch.randint(0, 10, (n,), generator=g)
    return (PICTURES[y] + torch.randn(n, 1, 12, 12, generator=g)) / 2**0.5, y


def vectors(g: torch.Generator, n: int = 32) -> tuple[Tensor, Tensor]:
    y = torch.randint(0, 10, (n,), generator=g)
    return (CLASSES[y] + torch.randn(n, 32, generator=g)) / 2**0.5, y


def words(g: torch.Generator, n: int = 16, length: int = 12) -> tuple[Tensor, Tensor]:
    """Each word follows from the one before it, mostly."""
    best, x = NEXT.argmax(1), torch.randint(0, 24, (n, length + 1), generator=g)
    for t in range(1, length + 1):
        likely = torch.rand(n, generator=g) < 0.85
        x[:, t] = torch.where(likely, best[x[:, t - 1]], x[:, t])
    return x[:, :-1], x[:, 1:]


def series(g: torch.Generator, n: int = 32, length: int = 12) -> tuple[Tensor, Tensor]:
    """Which of the first two numbers of each step is larger on average."""
    x = torch.randn(n, length, 4, generator=g)
    return x, (x[..., 0].mean(1) > x[..., 1].mean(1)).long()


def amounts(g: torch.Generator, n: int = 32) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 16, generator=g)
    return x, torch.sin(x @ DIRECTIONS / 4) + 0.1 * torch.randn(n, 3, generator=g)


def copies(g: torch.Generator, n: int = 32) -> tuple[Tensor, Tensor]:
    """Points near a plane of four directions in 24, to be reproduced."""
    x = torch.randn(n, 4, generator=g) @ _fixed(4, 24) / 2 + 0.1 * torch.randn(n, 24, generator=g)
    return x, x


def pairs(g: torch.Generator, n: int = 32) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 16, generator=g)
    return x, (x[:, :4].sum(1, keepdim=True) > 0).float()


# ---- networks --------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """Pre-norm attention and an MLP; causal."""

    def __init__(self, width: int, norm: bool = True) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width) if norm else nn.Identity() for _ in range(2))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False, attn_mask=mask, is_causal=True)[0]
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Language(nn.Module):
    def __init__(self, width: int = 32, blocks: int = 2, norm: bool = True) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(24, width), nn.Parameter(0.02 * torch.randn(12, width))
        self.blocks = nn.Sequential(*[Block(width, norm) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.head = nn.Linear(width, 24)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(x) + self.places))).transpose(1, 2)


class Recurrent(nn.Module):
    def __init__(self, cell: Callable[..., nn.Module], width: int = 32) -> None:
        super().__init__()
        self.rnn, self.hidden, self.head = (
            cell(4, width, batch_first=True),
            nn.Linear(width, width),
            nn.Linear(width, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.rnn(x)[0].mean(1))))


class ResidualConv(nn.Module):
    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = (nn.BatchNorm2d(channels) if norm else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm2(self.second(torch.relu(self.norm1(self.first(x))))))


def mlp(sizes: list[int], act: Callable[[], nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes[:-1]):
        layers += [nn.Linear(i, o), act()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def conv(act: Callable[[], nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in ((1, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(i, o, 3, 2 if i > 1 else 1, 1), act()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(144, 10))


def resnet(norm: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, 2, 1), nn.ReLU(), *[ResidualConv(12, norm) for _ in range(4)],
        nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(108, 10),
    )  # fmt: skip


def momentum(p: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(p, lr=lr, momentum=0.9)


SGD, Adam, AdamW, RMSprop = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop
CE, MSE, BCE = F.cross_entropy, F.mse_loss, F.binary_cross_entropy_with_logits

NETWORKS = [
    Network("classifier MLP, ReLU", lambda: mlp([32, 64, 64, 10], nn.ReLU), vectors, CE, SGD, 0.1),
    Network("deep MLP, tanh", lambda: mlp([32, *[48] * 8, 10], nn.Tanh), vectors, CE, Adam, 1e-3),
    Network("convolutions, ReLU", lambda: conv(nn.ReLU), pictures, CE, momentum, 0.02),
    Network("convolutions, SiLU", lambda: conv(nn.SiLU), pictures, CE, AdamW, 3e-3),
    Network("residual convolutions, BatchNorm", lambda: resnet(True), pictures, CE, momentum, 0.02),
    Network("residual convolutions, no norm", lambda: resnet(False), pictures, CE, Adam, 1e-3),
    Network("transformer, pre-norm", Language, words, CE, AdamW, 3e-3),
    Network("transformer, no norm", lambda: Language(norm=False, blocks=4), words, CE, Adam, 1e-3),
    Network("LSTM", lambda: Recurrent(nn.LSTM), series, CE, Adam, 5e-3),
    Network("GRU", lambda: Recurrent(nn.GRU), series, CE, RMSprop, 2e-3),
    Network("autoencoder, ReLU", lambda: mlp([24, 48, 6, 48, 24], nn.ReLU), copies, MSE, Adam, 3e-3),
    Network("autoencoder, tanh", lambda: mlp([24, 32, 4, 32, 24], nn.Tanh), copies, MSE, momentum, 0.1),
    Network("regression MLP, SiLU", lambda: mlp([16, 64, 64, 3], nn.SiLU), amounts, MSE, Adam, 3e-3),
    Network("regression MLP, tanh", lambda: mlp([16, 64, 3], nn.Tanh), amounts, MSE, SGD, 0.2),
    Network("yes or no, GELU", lambda: mlp([16, 48, 48, 1], nn.GELU), pairs, BCE, Adam, 3e-3),
]  # fmt: skip


# ---- defects ---------------------------------------------------------------------------------------------------


@dataclass
class Sick:
    """What a defect may change. stray: parts of the model that the optimizer gets nothing of"""

    model: nn.Module
    loss: Loss
    rate: float = 1.0  # factor
    options: dict[str, Any] = field(default_factory=dict)  # of the optimizer
    data: Callable[[tuple[Tensor, Tensor]], tuple[Tensor, Tensor]] = lambda batch: batch
    stray: int = 0  # how many of the first parameters no optimizer holds


Plant = Callable[[Sick], "bool | None"]  # False where the network has nothing to plant it in


def matrices(model: nn.Module) -> list[nn.Parameter]:
    return [p for n, p in model.named_parameters() if p.dim() > 1 and "embed" not in n and "places" not in n]


def scaled(factor: float, which: slice = slice(None)) -> Plant:
    def plant(sick: Sick) -> None:
        for p in matrices(sick.model)[which]:
            p.data.mul_(factor)

    return plant


def gaussian(sick: Sick) -> None:
    for p in matrices(sick.model):
        nn.init.normal_(p)


def pushed_down(sick: Sick) -> None:
    for name, p in sick.model.named_parameters():
        if name.endswith("bias") and p.dim() == 1 and len(p) > 10:
            p.data[: int(0.7 * len(p))] -= 4


def copied(sick: Sick) -> None:
    weight = matrices(sick.model)[0].data
    weight[:] = weight[:1]


def inputs(scale: float, shift: float) -> Plant:
    def plant(sick: Sick) -> bool:
        x = sick.data
        sick.data = lambda batch: (x(batch)[0] * scale + shift, x(batch)[1])
        return not any(isinstance(m, nn.Embedding) for m in sick.model.modules())

    return plant


def targets(scale: float, shift: float) -> Plant:
    def plant(sick: Sick) -> bool:
        sick.data = lambda batch: (batch[0], batch[1] * scale + shift)
        return sick.loss is MSE

    return plant


def rate(factor: float) -> Plant:
    def plant(sick: Sick) -> None:
        sick.rate = factor

    return plant


def decay(amount: float) -> Plant:
    def plant(sick: Sick) -> None:
        sick.options["weight_decay"] = amount

    return plant


def ends_in(function: nn.Module, *losses: Loss) -> Plant:
    def plant(sick: Sick) -> bool:
        fits = isinstance(sick.model, nn.Sequential) and sick.loss in losses
        if fits:
            sick.model.add_module("last", function)
        return fits

    return plant


def nll(sick: Sick) -> bool:
    fits, sick.loss = sick.loss is CE, F.nll_loss
    return fits


def half_in_optimizer(sick: Sick) -> None:
    sick.stray = len(list(sick.model.parameters())) - 2


DEFECTS: dict[str, Plant] = {
    "head x 20": scaled(20, slice(-1, None)),
    "first layer x 8": scaled(8, slice(0, 1)),
    "all weights x 4": scaled(4),
    "all weights x 0.1": scaled(0.1),
    "all weights N(0, 1)": gaussian,
    "biases pushed down": pushed_down,
    "copied units": copied,
    "rate x 1000": rate(1e3),
    "rate x 100": rate(1e2),
    "rate / 10000": rate(1e-4),
    "weight decay 1": decay(1.0),
    "inputs x 30": inputs(30, 0),
    "inputs + 10": inputs(1, 10),
    "targets in other units": targets(50, 200),
    "softmax before cross entropy": ends_in(nn.Softmax(dim=1), CE),
    "ReLU on logits": ends_in(nn.ReLU(), CE),
    "sigmoid before logits": ends_in(nn.Sigmoid(), BCE),
    "sigmoid on amounts": ends_in(nn.Sigmoid(), MSE),
    "scores into nll": nll,
    "only the head in the optimizer": half_in_optimizer,
}


def sick_networks() -> Iterator[tuple[Network, str, Plant]]:
    for network in NETWORKS:
        for name, plant in DEFECTS.items():
            yield network, name, plant
