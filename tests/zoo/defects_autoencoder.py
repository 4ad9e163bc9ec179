"""Planted defects: autoencoders."""

from __future__ import annotations

import math

import torch
from networks import Autoencoder, low_rank, mlp_chain, same
from row import Case, alike, normal, plus, sick, times
from torch import Tensor, nn


def rebuild(model: nn.Module, n: int = 64, **options) -> Case:
    return Case(model, same(low_rank(n)), **options)


class Between(Autoencoder):
    """A function of the code between encoder and decoder."""

    def __init__(self, function, code: int = 16):
        super().__init__(code)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.function(self.encoder(x)))


class Variational(Autoencoder):
    """Draws the code around a mean; the log of the variance comes from a layer of its own."""

    def __init__(self, bias: float = 0.0):
        super().__init__()
        self.logvar = nn.Linear(64, 16)
        nn.init.constant_(self.logvar.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.encoder(x)
        return self.decoder(mean + torch.randn_like(mean) * (0.5 * self.logvar(x)).exp())


class Quantized(Autoencoder):
    """Codes from a book, by the nearest, without a straight-through gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.book = nn.Embedding(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.book(torch.cdist(self.encoder(x), self.book.weight).argmin(1)))


class Deep(nn.Module):
    """Encoder and decoder of many layers of one width."""

    def __init__(self, depth: int, act, gain: float):
        super().__init__()
        self.encoder = mlp_chain((64,) * depth + (32,), act, gain)
        self.decoder = mlp_chain((32,) + (64,) * depth, act, gain)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


class Sum(nn.Module):
    def __init__(self, branch: nn.Module):
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def sigmoids(blocks: int) -> nn.Sequential:
    """Residual blocks whose branches hold sigmoids, which are never negative: the mean adds up from block to block."""
    return nn.Sequential(
        *(Sum(mlp_chain((64, 64, 64), nn.Sigmoid, 1.0)) for _ in range(blocks)), nn.Linear(64, 64)
    )


def residual(blocks: int, gain: float) -> nn.Sequential:
    """Residual blocks without normalization whose branches are as large as the stream."""
    branches = (Sum(mlp_chain((64, 64, 64), nn.GELU, 1.5)) for _ in range(blocks))
    return times(nn.Sequential(*branches, nn.Linear(64, 64)), "*.branch.fc2.weight", gain)


def root_of_mean(output: Tensor, target: Tensor) -> Tensor:
    """The error's root per value: at an error of exactly zero it has no slope."""
    return (output - target).square().sqrt().mean()


def logarithmic(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared logarithmic error, which is for values above -1."""
    return (output.log1p() - target.abs().log1p()).square().mean()


class CopiesPadding(Autoencoder):
    """Puts the padding of the input back unchanged, so that its error is exactly zero."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x == 0, self.decoder(self.encoder(x)) * 0, self.decoder(self.encoder(x)))


def padded() -> tuple[Tensor, Tensor]:
    x = low_rank()
    x[:, 60:] = 0
    return same(x)


ROWS = (
    sick("autoencoder-code-normalized-to-nothing", "UG102", lambda: rebuild(Between(nn.LayerNorm(1), code=1))),
    sick("autoencoder-log-of-negative-output", "UG104", lambda: rebuild(
        times(Autoencoder(), "decoder.fc3.weight", 2), loss=logarithmic
    )),
    sick("autoencoder-pixels-0-to-1", "UG201", lambda: Case(
        Autoencoder(), same((low_rank() * 0.1 + 0.5).clamp(0, 1)), "mse"
    )),
    sick("autoencoder-one-infinite-value", "UG202", lambda: Case(
        Autoencoder(), (low_rank().index_put((torch.tensor(9), torch.tensor(9)), torch.tensor(math.inf)), low_rank())
    )),
    sick("autoencoder-std-0.05", "UG301", lambda: rebuild(normal(Deep(6, nn.GELU, 1.5), "*.weight", 0.05))),
    sick("autoencoder-gain-3.5", "UG302", lambda: rebuild(Deep(5, nn.ReLU, 3.5))),
    sick("autoencoder-tanh-code-x10", "UG303", lambda: rebuild(times(Between(nn.Tanh()), "encoder.fc3.weight", 10))),
    sick("autoencoder-decoder-units-dead", "UG304", lambda: rebuild(
        plus(Autoencoder(), "decoder.fc2.bias", -12, first=0.4)
    )),
    sick("autoencoder-sigmoid-residuals", "UG305", lambda: rebuild(sigmoids(10)), may="UG307"),
    sick("autoencoder-sigmoid-residuals-x1.5", "UG305|UG607", lambda:
        rebuild(times(sigmoids(8), "*.fc2.weight", 1.5)), may="UG307"),
    sick("autoencoder-variance-overflows", "UG306", lambda: rebuild(Variational(bias=200.0))),
    sick("autoencoder-decoder-bias-std-30", "UG307", lambda: rebuild(
        normal(Deep(3, nn.ReLU, 1.41), "decoder.fc1.bias", 30)
    ), may="UG305 UG605"),
    sick("autoencoder-sigmoid-5-layers-each", "UG401", lambda: rebuild(Deep(5, nn.Sigmoid, 1.0)), may="UG307"),
    sick("autoencoder-sine-x6", "UG402", lambda: rebuild(Deep(5, Sine, 6.0)), may="UG605"),
    sick("autoencoder-quantized-without-gradient", "UG403", lambda: rebuild(Quantized())),
    sick("autoencoder-root-of-exact-zeros", "UG405", lambda: Case(CopiesPadding(), padded(), root_of_mean)),
    sick("autoencoder-float16-sum-of-small-errors", "UG406", lambda: Case(
        Autoencoder().half(), same(low_rank(1024).half()), "mse"
    )),
    sick("autoencoder-sgd-rate-40", "UG501", lambda: rebuild(
        Autoencoder(act=nn.Tanh, gain=1.2), steps=6, optimizer=lambda p: torch.optim.SGD(p, 40.0)
    )),
    sick("autoencoder-adam-rate-1-in-5-steps", "UG504", lambda: rebuild(
        Autoencoder(), steps=5, optimizer=lambda p: torch.optim.Adam(p, 1.0)
    )),
    sick("autoencoder-codes-shared-by-the-batch", "UG603", lambda: rebuild(Between(lambda z: z - z.mean(0)))),
    sick("autoencoder-encoder-layer-x0.04", "UG605", lambda: rebuild(
        times(Autoencoder(), "encoder.fc2.weight", 0.04)
    )),
    sick("autoencoder-decoder-layer-x9", "UG605", lambda: rebuild(times(Autoencoder(), "decoder.fc2.weight", 9))),
    sick("autoencoder-identical-codes", "UG606", lambda: rebuild(alike(Autoencoder(), "encoder.fc3.weight"))),
    sick("autoencoder-residuals-double", "UG607", lambda: rebuild(residual(12, 1.0)), may="UG305"),
    sick("autoencoder-residuals-grow-tenfold", "UG607", lambda: rebuild(residual(6, 3.0)), may="UG305"),
)  # fmt: skip
