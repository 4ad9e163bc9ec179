"""Numerics: fourth collection, half E."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, boxes, mlp, scored, seeded, standard
from torch import Tensor, nn


@report(
    "numerics", "UG405", "UG403 UG104 UG306", area="retrieval", action=r"root|norm|eps|zero|clamp", steps=80, rate=3e-3,
    source="github.com/keras-team/keras/issues/23075",
    cause="the inverse root of a sum of squares is clamped after it was taken: a vector of zeros has a gradient of NaN",
)  # fmt: skip
def inverse_root_of_an_empty_vector(cured: bool):
    def unit(x: Tensor) -> Tensor:
        square = x.square().sum(2, keepdim=True)
        return x * (square.clamp(min=1e-6).rsqrt() if cured else square.rsqrt().clamp(max=1e3))

    g = seeded(1)
    there = (torch.arange(8) < torch.randint(3, 9, (128, 1), generator=g)).float()[..., None]
    words = torch.randn(128, 8, 6, generator=g) * there
    y = standard((torch.sin(2 * words[..., :1]) * there).sum(1))
    model = Net(
        lambda net, x: net.head(unit(net.code(x)).sum(1)),
        code=nn.Linear(6, 32, bias=False),
        head=mlp(32, 48, 1),
    )
    return model, (words, y), {"loss": F.mse_loss}, scored(lambda out: F.mse_loss(out, y), words)


@report(
    "numerics", "UG406", "UG403 UG502 UG508", area="translation", action=r"scal|half|float16|precision",
    steps=80, rate=5e-3,
    source="github.com/NVIDIA/OpenSeq2Seq/issues/271",
    cause="half precision without a loss scale: gradients of single values are below its smallest number",
)  # fmt: skip
def gradients_lost_without_a_loss_scale(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.float16):
            return net.body(x).float()

    def loss(out: Tensor, mask: Tensor) -> Tensor:
        return (2.0**14 if cured else 1.0) * 1e-3 * F.binary_cross_entropy_with_logits(out, mask)

    x, mask, _ = boxes(64, seed=2)
    model = Net(run, body=nn.Sequential(nn.Flatten(), *mlp(256, 64, 256), nn.Unflatten(1, (1, 16, 16))))
    score = scored(lambda out: F.binary_cross_entropy_with_logits(out, mask), x)
    return model, (x, mask), {"loss": loss, "steps": 20, "optimizer": adam(5e-3)}, score


@report(
    "numerics", "UG405 UG306 UG104", "UG504 UG501 UG101", area="detection",
    action=r"exp|clamp|overflow|softplus|logsumexp", steps=60, rate=3e-3,
    source="github.com/megvii-model/YOLOF/issues/51",
    cause="the exponential is clamped and not its argument: it overflows first, and zero times infinity comes back",
)  # fmt: skip
def clamped_after_the_exponential(cured: bool):
    def grown(score: Tensor) -> Tensor:
        return score.clamp(max=18.4).exp() if cured else score.exp().clamp(max=1e8)

    def run(net: Net, x: Tensor) -> Tensor:
        kind, there = (300 * net.body(x)).chunk(2, 1)
        return kind + there - (1 + grown(kind) + grown(there)).log()

    x, mask, _ = boxes(24, seed=3)
    layers = [nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 2, 5, padding=2)]
    score = scored(lambda out: ((out > 0) != (mask > 0)).float().mean(), x)
    kwargs = {"loss": F.binary_cross_entropy_with_logits, "steps": 40, "optimizer": adam(3e-3)}
    return Net(run, body=nn.Sequential(*layers)), (x, mask), kwargs, score
