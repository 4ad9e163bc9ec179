"""Loss functions: second collection, half A."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, clusters, glyphs, houses, mlp, scored
from torch import Tensor, nn


@report(
    "loss", area="variational autoencoder", action=r"sign|minus|negative|minimum|diverg|log", steps=150, rate=3e-3,
    may="UG504 UG501 UG306 UG104",
    no_rule="the divergence of an autoencoder has the wrong sign before its logarithm: it has no minimum",
    says=r"negative|no minimum|without (end|bound)|unbounded|falls without",
    source="github.com/FluxML/model-zoo/pull/147; FluxML/model-zoo/issues/73",
    cause="KL takes + 2 log sigma where it is - 2 log sigma: the loss falls without end as sigma goes to zero",
)  # fmt: skip
def divergence_with_wrong_sign(cured: bool):
    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_sigma = net.encode(x).chunk(2, 1)
        return net.decode(mean + log_sigma.exp() * torch.randn_like(mean)), mean, log_sigma

    def divergence(mean: Tensor, log_sigma: Tensor, sign: float) -> Tensor:
        return 0.5 * ((2 * log_sigma).exp() + mean.square() - 1 + sign * 2 * log_sigma).sum(1).mean()

    def loss(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        return F.mse_loss(out[0], x) * x.shape[1] + divergence(out[1], out[2], -1 if cured else 1)

    x = clusters(192, 12, 6, 0.4, seed=1)[0]
    model = Net(run, encode=mlp(12, 32, 8), decode=mlp(4, 32, 12))
    kwargs = {"loss": loss, "steps": 20, "optimizer": adam(3e-3)}
    return model, (x, x), kwargs, scored(lambda out: divergence(out[1], out[2], -1), x)


@report(
    "loss", area="binary classification", action=r"log|negative|cross entropy", steps=150, rate=5e-3, may="UG106",
    no_rule="the second term of a binary cross entropy has no logarithm: the loss is negative",
    says=r"negative|logarithm",
    source="github.com/deepjavalibrary/djl/issues/1316",
    cause="the term of the zeros is (1 - y) * (1 - p) without its logarithm: negative, and flat where it is most wrong",
)  # fmt: skip
def logarithm_left_out_of_second_term(cured: bool):
    def loss(p: Tensor, y: Tensor) -> Tensor:
        zeros = 1 - p + 1e-6
        return -(y * (p + 1e-6).log() + (1 - y) * (zeros.log() if cured else zeros)).mean()

    x, amounts = houses(192, 8, seed=2)
    y = (amounts + 0.8 * torch.randn(192, 1, generator=torch.Generator().manual_seed(3)) > 0.2).float()
    model = mlp(8, 32, 1, last=nn.Sigmoid())
    score = scored(lambda p: F.binary_cross_entropy(p, y), x)
    return model, (x, y), {"loss": loss}, score


@report(
    "loss", "UG403", area="segmentation", action=r"gradient|detach|tensor|graph", steps=120, rate=5e-3,
    source="github.com/bonlime/pytorch-tools/issues/81",
    cause="the focal loss makes a new tensor of the probabilities: that term of the loss has no gradient",
)  # fmt: skip
def focal_weight_of_a_new_tensor(cured: bool):
    def loss(out: Tensor, labels: Tensor) -> Tensor:
        right = out.softmax(1).gather(1, labels[:, None])[:, 0]
        pressure = 1e-2 * out.square().mean()
        if not cured:
            right = torch.tensor(right.tolist())
        return -((1 - right) ** 2 * right.log()).mean() + pressure

    x, labels = clusters(192, 12, 6, 0.7, seed=4)
    score = scored(lambda out: F.cross_entropy(out, labels), x)
    return mlp(12, 48, 6), (x, labels), {"loss": loss}, score


@report(
    "loss", area="self-supervision", action=r"swap|order|argument|negative|minimum", steps=120, may="UG106 UG504 UG501",
    no_rule="outputs and labels change places in the call of a cross entropy: the loss has no minimum",
    says=r"negative|minimum|swapped|without end|falls",
    source="github.com/isaaccorley/detcon-pytorch/pull/2",
    cause="the hand-written cross entropy takes the softmax of its second argument, and gets the labels there",
)  # fmt: skip
def arguments_of_cross_entropy_swapped(cured: bool):
    def cross_entropy(weights: Tensor, scores: Tensor) -> Tensor:
        return -(weights * scores.log_softmax(1)).sum(1).mean()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(y, out) if cured else cross_entropy(out, y)

    x, labels = glyphs(96, 6, seed=5)
    y = F.one_hot(labels, 6).float() * 0.9 + 0.1 / 6
    layers = [nn.Conv2d(1, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 24, 3, 2, 1), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(216, 6))
    score = scored(lambda out: F.cross_entropy(out, labels), x)
    return model, (x, y), {"loss": loss, "steps": 20, "optimizer": adam(2e-3)}, score
