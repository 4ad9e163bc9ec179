"""Planted defects: multilayer perceptrons."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from networks import RELU, TANH, Call, Then, insert, mlp, numbers, vectors
from row import Case, alike, fill, normal, plus, rated, sick, spoil, times
from torch import Tensor, nn

from unitgain import models


def classify(model: nn.Module, n: int = 64, **options) -> Case:
    return Case(model, vectors(n), **options)


def names(n: int = 256) -> tuple[Tensor, Tensor]:
    """Three characters and the next one."""
    return torch.randint(0, 27, (n, 3)), torch.randint(0, 27, (n,))


def torch_default(depth: int, width: int = 64) -> nn.Sequential:
    """Linear layers as torch initializes them, biases included: gain 0.41 of what ReLU needs."""
    model = mlp(depth, width)
    for module in model:
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return model


def drawn(model: nn.Sequential, weight: float, bias: float) -> nn.Sequential:
    """Every hidden layer: weights of this gain over sqrt(fan_in), biases of this std."""
    for name, module in model.named_children():
        if isinstance(module, nn.Linear) and name != "head":
            nn.init.normal_(module.weight, 0, weight / math.sqrt(module.in_features))
            nn.init.normal_(module.bias, 0, bias)
    return model


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


class Spare(nn.Module):
    """A head that was built and never called."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.spare = mlp(), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Distances(nn.Module):
    """Similarity of all pairs by a root that is not differentiable at the zero of a pair with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(3, out=8)

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return (z[:, None] - z[None]).square().sum(-1).sqrt()


def where_log(x: Tensor) -> Tensor:
    """The branch that is not taken is NaN, and so is zero times its slope."""
    return torch.where(x > 0, x.sqrt(), torch.zeros_like(x))


def by_hand(p: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy without protection from log(0)."""
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


def binary(n: int = 64) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 20)
    return x, (x[:, :1] > 0).float()


def flat(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Targets (N,) where the outputs are (N, 1)."""
    return x, target.squeeze(1)


def absolute(outputs: Tensor, target: Tensor) -> Tensor:
    return (outputs - target).abs().mean()


def gap(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """One target is missing."""
    target[len(target) // 3] = float("nan")
    return x, target


def hole(x: Tensor, target: Tensor, value: float = float("nan")) -> tuple[Tensor, Tensor]:
    """One value of one example is missing."""
    x[5, 3] = value
    return x, target


def scaled(x: Tensor, target: Tensor, std: float = 1.0, mean: float = 0.0) -> tuple[Tensor, Tensor]:
    return x * std + mean, target


def half(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return x.half(), target


ROWS = (
    # ---- output and loss
    sick("mlp-head-weights-x12", "UG101", lambda: classify(times(mlp(), "head.weight", 12))),
    sick("mlp-head-weights-x200", "UG101", lambda: classify(times(mlp(act=nn.GELU), "head.weight", 200))),
    sick("mlp-head-bias-std5", "UG101", lambda: classify(normal(mlp(), "head.bias", 5))),
    sick("mlp-char-original", "UG101 UG303", lambda: Case(models.create("char_mlp_original"), names())),
    sick("mlp-layer-norm-of-one-unit", "UG102", lambda: Case(nn.Sequential(mlp(out=1), nn.LayerNorm(1)), numbers())),
    sick("mlp-targets-without-their-axis", "UG107", lambda: Case(mlp(out=1), flat(*numbers()))),
    sick("mlp-targets-with-an-axis-more", "UG107", lambda: Case(Then(mlp(out=1), torch.ravel), numbers(), nn.L1Loss())),
    sick("mlp-targets-broadcast-by-hand", "UG107", lambda: Case(mlp(out=1), flat(*numbers()), absolute)),
    sick("mlp-softmax-module", "UG103", lambda: classify(nn.Sequential(mlp(), nn.Softmax(dim=1)))),
    sick("mlp-softmax-function", "UG103", lambda: classify(Then(mlp(act=nn.Tanh, gain=1.2), lambda x: x.softmax(-1)))),
    sick("mlp-missing-target", "UG202", lambda: Case(mlp(out=1), gap(*numbers()), "mse")),
    sick("mlp-log-of-zero-in-loss", "UG104", lambda: Case(
        Then(times(mlp(2, out=1, norm=nn.LayerNorm), "head.weight", 3), lambda x: (x + 0.5).clamp(0, 1)),
        binary(), by_hand,
    )),
    # ---- inputs
    sick("mlp-features-mean-4", "UG201", lambda: Case(mlp(norm=nn.BatchNorm1d), scaled(*vectors(), mean=4.0))),
    sick("mlp-features-std-0.02", "UG201", lambda: Case(mlp(), scaled(*vectors(), std=0.02))),
    sick("mlp-features-std-400", "UG201", lambda: Case(mlp(), scaled(*vectors(), std=400.0))),
    sick("mlp-nan-in-one-example", "UG202", lambda: Case(mlp(), hole(*vectors()))),
    sick("mlp-infinity-in-regression", "UG202", lambda: Case(mlp(out=1), hole(*numbers(), value=math.inf))),
    # ---- activations
    sick("mlp-tanh-gain-0.5", "UG301", lambda: classify(mlp(12, act=nn.Tanh, gain=0.5))),
    sick("mlp-relu-std-0.01", "UG301", lambda: classify(mlp(8, gain=0.01 * math.sqrt(64)))),
    sick("mlp-relu-half-the-gain", "UG301", lambda: classify(mlp(10, gain=RELU / 2))),
    sick("mlp-relu-standard-normal", "UG302", lambda: classify(mlp(8, gain=8.0))),
    sick("mlp-gelu-1.8-times-the-gain", "UG302", lambda: classify(mlp(10, act=nn.GELU, gain=1.8 * 1.53))),
    sick("mlp-tanh-standard-normal", "UG303", lambda: classify(mlp(5, act=nn.Tanh, gain=8.0))),
    sick("mlp-tanh-first-layer-x6", "UG303", lambda: classify(times(mlp(act=nn.Tanh, gain=1.2), "fc1.weight", 6))),
    sick("mlp-tanh-last-layer-x5", "UG303", lambda: classify(times(mlp(act=nn.Tanh, gain=1.2), "fc5.weight", 5))),
    sick("mlp-char-softmax", "UG303", lambda: Case(models.create("char_mlp_softmax"), names())),
    sick("mlp-third-of-units-dead-early", "UG304", lambda: classify(plus(mlp(), "fc1.bias", -9, first=1 / 3))),
    sick("mlp-layer-dead-late", "UG304", lambda: classify(plus(mlp(), "fc5.bias", -40))),
    sick("mlp-nan-weight-late", "UG306", lambda: classify(spoil(mlp(), "fc4.weight"))),
    sick("mlp-log-of-negative-values", "UG306", lambda: classify(insert(mlp(), "fc3", "log", Call(torch.log)))),
    sick("mlp-gelu-ordered-30-layers", "UG307|UG401|UG102", lambda: classify(drawn(mlp(30, act=nn.GELU), 0.9, 1.0))),
    sick("mlp-relu-biases-std-2", "UG307", lambda: classify(drawn(mlp(12), 1.0, 2.0)), may="UG305"),
    sick("mlp-tanh-ordered-phase", "UG307|UG401", lambda: classify(drawn(mlp(16, act=nn.Tanh), 0.7, 0.7))),
    # ---- gradients
    sick("mlp-sigmoid-8-layers", "UG401", lambda: classify(mlp(8, act=nn.Sigmoid, gain=1.0)), may="UG307"),
    sick("mlp-torch-default-12-layers", "UG401|UG307|UG605", lambda: classify(torch_default(12))),
    sick("mlp-batchnorm-45-layers", "UG402", lambda: classify(mlp(45, 48, norm=nn.BatchNorm1d))),
    sick("mlp-sine-gain-8", "UG402", lambda: classify(mlp(6, act=Sine, gain=8.0)), may="UG605"),
    sick("mlp-spare-head", "UG403", lambda: Case(Spare(), vectors())),
    sick("mlp-rounded", "UG403", lambda: classify(insert(mlp(), "act3", "round", Call(torch.round)))),
    sick("mlp-batchnorm-weights-x0.03", "UG404", lambda: classify(times(mlp(norm=nn.BatchNorm1d), "fc2.weight", 0.03))),
    sick("mlp-layernorm-weights-x40", "UG404", lambda: classify(times(mlp(norm=nn.LayerNorm), "fc4.weight", 40))),
    sick("mlp-where-and-root-of-zero", "UG405", lambda: classify(insert(mlp(), "fc2", "root", Call(where_log)))),
    sick("mlp-distances-of-all-pairs", "UG405", lambda: Case(
        Distances(), (torch.randn(24, 20), torch.ones(24, 24)), "mse"
    )),
    sick("mlp-float16-without-loss-scaling", "UG406", lambda: Case(
        times(mlp(3, 256), "head.weight", 0.05).half(), half(*vectors(512))
    )),
    sick("mlp-float32-loss-times-1e-38", "UG406", lambda: classify(
        mlp(), loss=lambda out, target: F.cross_entropy(out, target) * 1e-38
    )),
    # ---- updates
    sick("mlp-sgd-rate-1.5", "UG501", lambda: classify(mlp(), steps=8, optimizer=lambda p: torch.optim.SGD(p, 1.5))),
    sick("mlp-adam-rate-0.1", "UG501", lambda: classify(mlp(), steps=12, optimizer=lambda p: torch.optim.Adam(p, 0.1))),
    sick("mlp-sgd-rate-1e-5", "UG502", lambda: classify(mlp(), steps=8, optimizer=lambda p: torch.optim.SGD(p, 1e-5))),
    sick("mlp-adam-rate-3-in-5-steps", "UG504", lambda: classify(
        mlp(), steps=5, optimizer=lambda p: torch.optim.Adam(p, 3.0)
    )),
    sick("mlp-first-layer-rate-x3000", "UG503", lambda: rated(
        classify(mlp(6)), "fc1.weight", 30.0, 0.01
    )),
    sick("mlp-layer-almost-frozen", "UG503", lambda: rated(classify(mlp(6)), "fc4.weight", 2e-5, 2e-2)),
    # ---- structure
    sick("mlp-bias-before-batchnorm", "UG601", lambda: classify(mlp(norm=nn.BatchNorm1d))),
    sick("mlp-batchnorm-of-6-examples", "UG602", lambda: classify(mlp(norm=nn.BatchNorm1d, bias=False), n=6)),
    sick("mlp-batchnorm-momentum-1", "UG602", lambda: classify(
        mlp(norm=lambda width: nn.BatchNorm1d(width, momentum=1.0), bias=False), n=32
    )),
    sick("mlp-features-scaled-by-batch", "UG603", lambda: classify(
        insert(mlp(), "act2", "standard", Call(lambda x: (x - x.mean(0)) / (x.std(0) + 0.1)))
    )),
    sick("mlp-softmax-over-examples", "UG603", lambda: classify(
        insert(mlp(), "fc3", "softmax", Call(lambda x: (0.5 * x).softmax(0) * len(x)))
    )),
    sick("mlp-middle-layer-x12", "UG605", lambda: classify(times(mlp(), "fc3.weight", 12))),
    sick("mlp-first-layer-x0.08", "UG605", lambda: classify(times(mlp(act=nn.Tanh, gain=TANH), "fc1.weight", 0.08))),
    sick("mlp-last-hidden-layer-x0.05", "UG605", lambda:
        classify(times(mlp(act=nn.GELU, gain=1.5), "fc5.weight", 0.05))),
    sick("mlp-constant-hidden-layer", "UG606", lambda: classify(fill(mlp(), "fc2.weight", 0.1))),
    sick("mlp-zero-hidden-layers", "UG606", lambda: classify(fill(mlp(act=nn.Tanh), "fc[1-5].weight", 0.0))),
    sick("mlp-identical-units-late", "UG606", lambda: classify(alike(mlp(), "fc5.weight"))),
)  # fmt: skip
