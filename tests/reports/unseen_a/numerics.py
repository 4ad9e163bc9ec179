"""Numerics: second collection, half A."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, boxes, clusters, mlp, scored, seeded, series
from torch import Tensor, nn


@report(
    "numerics", "UG104 UG306 UG405", "UG504 UG501 UG303 UG101", area="detection",
    action=r"logarithm|log of|clamp|logits|eps", steps=60,
    source="github.com/mkocabas/focal-loss-keras/issues/17; maudzung/RTM3D/issues/13",
    cause="the focal loss takes log(1 - p) of a sigmoid, which is exactly 1 for confident cells: minus infinity",
)  # fmt: skip
def log_of_saturated_focal_loss(cured: bool):
    def loss(out: Tensor, mask: Tensor) -> Tensor:
        p = out.sigmoid()
        if cured:
            p = p.clamp(1e-6, 1 - 1e-6)
        return -(mask * (1 - p) ** 2 * p.log() + (1 - mask) * p**2 * (1 - p).log()).mean()

    x, mask, _ = boxes(24, seed=1)
    layers = [nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 1, 5, padding=2)]
    model = Net(
        lambda net, x: 4 * net.body(x), body=nn.Sequential(*layers)
    )  # sharper by a temperature of a quarter
    kwargs = {"loss": loss, "steps": 40, "optimizer": adam(0.03)}
    score = scored(lambda out: F.binary_cross_entropy_with_logits(out, mask), x)
    return model, (x, mask), kwargs, score


@report(
    "numerics", "UG104 UG306 UG405", "UG504 UG101 UG302", area="metric learning",
    action=r"softplus|logarithm|exponential|overflow|logsumexp|exp", steps=80,
    source="github.com/tracel-ai/burn/issues/5373; rushter/MLAlgorithms/pull/30",
    cause="log(1 + exp(z)) is written out: the exponential overflows for z above 88, and its gradient is NaN",
)  # fmt: skip
def softplus_written_out(cured: bool):
    def run(net: Net, pair: Tensor) -> Tensor:
        a, b = (F.normalize(net.code(part), dim=1) for part in pair.unbind(1))
        return 100 * (a * b).sum(1)

    def loss(score: Tensor, sign: Tensor) -> Tensor:
        z = -sign * score
        return F.softplus(z).mean() if cured else (1 + z.exp()).log().mean()

    x, labels = clusters(96, 12, 4, 0.5, seed=2)
    other = torch.randperm(96, generator=seeded(3))
    pair, sign = torch.stack([x, x[other]], 1), (labels == labels[other]).float() * 2 - 1
    model = Net(run, code=mlp(12, 32, 3))
    score = scored(lambda out: ((out > 0) != (sign > 0)).float().mean(), pair)
    return model, (pair, sign), {"loss": loss, "steps": 20, "optimizer": adam(2e-3)}, score


@report(
    "numerics", "UG405", "UG104 UG306 UG403", area="speech enhancement", action=r"root|norm|eps|zero", steps=80,
    source="github.com/mpariente/pytorch_stoi/issues/7; richzhang/PerceptualSimilarity/issues/69",
    cause="segments are divided by the root of their squares plus eps: the root of silence has an infinite derivative",
)  # fmt: skip
def root_of_zero_power(cured: bool):
    def unit(x: Tensor) -> Tensor:
        power = x.square().sum(2, keepdim=True)
        return x / ((power + 1e-8).sqrt() if cured else power.sqrt() + 1e-8)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return (unit(out) - unit(y)).square().sum(2).mean()

    y = series(48, 32, 1, seed=4)[..., 0].unflatten(1, (4, 8))
    noisy = y + 0.5 * torch.randn(y.shape, generator=seeded(5))
    quiet = torch.rand(48, 4, 1, generator=seeded(6)) < 0.1
    x, y = (part.masked_fill(quiet, 0.0) for part in (noisy, y))
    model = Net(lambda net, x: net.mask(x).sigmoid() * x, mask=mlp(8, 48, 8))
    loud = ~quiet[..., 0]
    return (
        model,
        (x, y),
        {"loss": loss},
        scored(lambda out: (unit(out) - unit(y)).square().sum(2)[loud].mean(), x),
    )
