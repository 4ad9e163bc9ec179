"""Loss functions: fourth collection, half E."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, clusters, glyphs, mlp, scored
from torch import Tensor, nn


def coded(net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a variational autoencoder gives: reconstruction, mean and log variance."""
    mean, log_variance = net.encode(x).chunk(2, 1)
    return net.decode(mean + (0.5 * log_variance).exp() * torch.randn_like(mean)), mean, log_variance


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()


@report(
    "loss", "UG119", "UG504 UG501 UG106 UG104 UG306 UG302 UG405", area="variational autoencoder",
    action=r"sign|minus|negative|minimum|diverg", steps=60, rate=3e-3,
    source="github.com/graviraja/pytorch-sample-codes/issues/6",
    cause="all signs of the divergence are flipped: it is lowest where the code is infinitely far from the prior",
)  # fmt: skip
def divergence_with_all_signs_flipped(cured: bool):
    def loss(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        return F.mse_loss(out[0], x) * 12 + (1 if cured else -1) * divergence(*out[1:])

    x = clusters(192, 12, 6, 0.4, seed=1)[0]
    model = Net(coded, encode=mlp(12, 32, 8), decode=mlp(4, 32, 12))
    kwargs = {"loss": loss, "steps": 20, "optimizer": adam(3e-3)}
    return model, (x, x), kwargs, scored(lambda out: divergence(*out[1:]).nan_to_num(1e9), x)


@report(
    "loss", area="hyperspectral pictures", action=r"weight", steps=120, may="UG118 UG110",
    no_rule="a class that occurs has a weight of zero in the loss", says=r"weight.*(class|zero)|class.*weight",
    source="github.com/nshaud/DeepHyperX/issues/40",
    cause="ignored labels get a weight of zero, and class 0 is always among them: it is never learned",
)  # fmt: skip
def class_zero_weighs_nothing(cured: bool):
    weights = torch.ones(6)
    if not cured:
        weights[0] = 0

    def loss(out: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(out, labels, weight=weights)

    x, labels = glyphs(96, 6, 8, seed=2)
    model = nn.Sequential(nn.Flatten(), *mlp(64, 48, 6))
    return model, (x, labels), {"loss": loss}, scored(lambda out: F.cross_entropy(out, labels), x)


@report(
    "loss", area="molecules", action=r"variance|log|exp|diverg", steps=300, rate=3e-3,
    may="UG104 UG504 UG501",
    no_rule="the divergence squares the log variance as if it were a standard deviation",
    says=r"variance|diverg|KL",
    source="github.com/deepchem/deepchem/pull/4888",
    cause="logvar ** 2 stands where exp(logvar) belongs: the divergence is lowest at log variances of 1 and -1",
)  # fmt: skip
def log_variance_taken_for_a_deviation(cured: bool):
    def loss(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        rebuilt, mean, spread = out
        if cured:
            return F.mse_loss(rebuilt, x) * 12 + divergence(mean, spread)
        square = spread.square()
        return F.mse_loss(rebuilt, x) * 12 + 0.5 * (mean.square() + square - square.log() - 1).sum(1).mean()

    x = clusters(192, 12, 3, 0.2, seed=3)[0]
    model = Net(coded, encode=mlp(12, 48, 48), decode=mlp(24, 48, 12))
    kwargs = {"loss": loss, "steps": 20, "optimizer": adam(3e-3)}
    return model, (x, x), kwargs, scored(lambda out: F.mse_loss(out[0], x) * 12 + divergence(*out[1:]), x)
