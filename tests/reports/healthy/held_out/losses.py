"""Healthy trainings: losses and targets. Held-out half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import healthy
from samples import (
    Net,
    adam,
    clusters,
    descend,
    houses,
    mlp,
    rings,
    scored,
    seeded,
)
from torch import Tensor, nn

BCE = F.binary_cross_entropy_with_logits


@healthy("tabular", steps=150)
def squared_error_on_zeros_and_ones():
    """A least-squares classifier of two classes: targets of 0 and 1, no last function."""
    x, labels = rings(192, 2)
    y = labels.float()[:, None]
    score = scored(lambda out: ((out > 0.5) != y.bool()).float().mean(), x)
    return mlp(2, 48, 48, 1), (x, y), {"loss": F.mse_loss, "steps": 20, "optimizer": adam(2e-3)}, score


@healthy("tabular", steps=120, rate=5e-3)
def class_weights():
    g = seeded(1)
    rare = torch.rand(400, generator=g) < 0.1
    x = torch.randn(400, 6, generator=g)
    x[rare, 0] += 1.6
    weight = torch.tensor([0.2, 1.8])

    def loss(out: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(out, labels, weight=weight)

    return mlp(6, 16, 2), (x, rare.long()), {"loss": loss}


@healthy("siamese", steps=120)
def siamese_pairs():
    x, labels = clusters(256, 16, 6, 0.7, seed=2)
    other = torch.randperm(256, generator=seeded(3))
    same = (labels == labels[other]).float()
    other = torch.where(torch.rand(256, generator=seeded(4)) < 0.3, torch.arange(256).flip(0), other)
    same = (labels == labels[other]).float()

    def loss(distance: Tensor, same: Tensor) -> Tensor:
        return (same * distance.square() + (1 - same) * (1 - distance).clamp(min=0).square()).mean()

    def run(net: Net, a: Tensor, b: Tensor) -> Tensor:
        return ((net.body(a) - net.body(b)).square().sum(1) + 1e-8).sqrt()

    return Net(run, body=mlp(16, 48, 8)), (x, x[other], same), {"loss": loss}


@healthy("regression", steps=200, rate=5e-3)
def quantile_regression():
    """Three quantiles of a skewed target, with the pinball loss."""
    g = seeded(5)
    x = torch.rand(256, 3, generator=g) * 3.4 - 1.7
    y = x[:, :1] + (0.3 * x[:, 1:2]).exp() * torch.rand(256, 1, generator=g).clamp(min=1e-3).log().neg()
    levels = torch.tensor([0.1, 0.5, 0.9])

    def loss(out: Tensor, y: Tensor) -> Tensor:
        gap = y - out
        return torch.maximum(levels * gap, (levels - 1) * gap).mean()

    return mlp(3, 32, 3), (x, y), {"loss": loss}


@healthy("counts", steps=200, rate=5e-3)
def poisson_counts():
    """Counts, and the logarithm of their rate as output."""
    g = seeded(6)
    x = torch.randn(256, 4, generator=g)
    counts = torch.poisson((0.8 + 0.6 * x[:, :1] - 0.4 * x[:, 1:2]).exp(), generator=g)

    def loss(out: Tensor, counts: Tensor) -> Tensor:
        return F.poisson_nll_loss(out, counts, log_input=True)

    return mlp(4, 24, 1, act=nn.SiLU), (x, counts), {"loss": loss, "steps": 20, "optimizer": adam(5e-3)}


@healthy("regression", steps=200, rate=5e-3)
def beta_nll_regression():
    """Mean and variance, the loss weighted by the detached variance."""
    x, y = houses(192, seed=3)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        mean, variance = out[:, :1], F.softplus(out[:, 1:]) + 1e-3
        return ((0.5 * ((y - mean).square() / variance + variance.log())) * variance.detach().sqrt()).mean()

    return mlp(8, 48, 2, act=nn.Tanh), (x, y), {"loss": loss}


@healthy("distillation", steps=150)
def distillation_with_log():
    x, labels = clusters(256, 16, 6, 1.0, seed=7)
    teacher = mlp(16, 64, 6)
    optimizer = torch.optim.Adam(teacher.parameters(), 3e-3)
    descend(None, optimizer, 80, lambda step: F.cross_entropy(teacher(x), labels))
    with torch.no_grad():
        soft = (teacher(x) / 3).softmax(1)

    def loss(out: Tensor, soft: Tensor) -> Tensor:
        return 9 * F.kl_div((out / 3).log_softmax(1), soft, reduction="batchmean")

    return mlp(16, 24, 6), (x, soft), {"loss": loss}


@healthy("autoencoder", steps=150)
def bernoulli_autoencoder():
    """Pixels of 0 to 1, most of them 0, as inputs and as targets; the sigmoid is in the loss."""
    g = seeded(8)
    kinds = (torch.rand(8, 64, generator=g) < 0.25).float()
    x = kinds[torch.arange(128) % 8] * (0.7 + 0.3 * torch.rand(128, 64, generator=g))
    model = mlp(64, 48, 6, 48, 64)
    return model, (x, x), {"loss": BCE, "steps": 20, "optimizer": adam(2e-3)}


@healthy("tabular", form="probe")
def imbalanced_classes():
    """One example in twenty is of the rare class; nothing is done about it, and it is learnt all the same."""
    g = seeded(9)
    labels = (torch.rand(512, generator=g) < 0.05).long()
    x = torch.randn(512, 8, generator=g)
    x[labels == 1, :2] += 3
    model = mlp(8, 32, 2)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)

    def loss_at(step: int) -> Tensor:
        part = torch.randint(0, 512, (64,), generator=g)
        return F.cross_entropy(model(x[part]), labels[part])

    return (
        model,
        optimizer,
        lambda probe, steps=200: descend(probe, optimizer, steps, loss_at),
        (x, labels),
        {"loss": F.cross_entropy},
    )
