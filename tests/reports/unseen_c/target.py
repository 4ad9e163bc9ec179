"""Targets and their shapes: third collection, half C."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, boxes, houses, mlp, scored, seeded, wrong_on
from torch import Tensor, nn


@report(
    "target", "UG107", area="segmentation", action=r"shape|broadcast|squeeze|reshape", steps=150, rate=5e-3,
    source="github.com/kornia/kornia/issues/1308",
    cause="in the focal loss outputs (N, 1) meet targets (N,): each output is compared with every target",
)  # fmt: skip
def focal_terms_of_all_pairs(cured: bool):
    def loss(out: Tensor, y: Tensor) -> Tensor:
        y = y[:, None] if cured else y
        one, zero = F.logsigmoid(out), F.logsigmoid(-out)
        return -(y * (1 - one.exp()) ** 2 * one + (1 - y) * (1 - zero.exp()) ** 2 * zero).mean()

    x, amounts = houses(192, 8, seed=31)
    y = (amounts[:, 0] > 0.3).float()
    return (
        mlp(8, 32, 1),
        (x, y),
        {"loss": loss},
        scored(lambda out: ((out[:, 0] > 0) != (y > 0)).float().mean(), x),
    )


@report(
    "target", "UG106 UG111", "UG110 UG114", area="pose", action=r"-1|minus one|target|label|sign", steps=100,
    rate=3e-3,
    source="github.com/seathiefwang/RankPose/issues/4",
    cause="the margin ranking loss takes 1 and -1, and gets 1 and 0: pairs with a 0 cost the margin at any output",
)  # fmt: skip
def ranking_of_zeros_and_ones(cured: bool):
    def run(net: Net, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return net.rate(one)[:, 0], net.rate(other)[:, 0]

    def loss(out: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        return F.margin_ranking_loss(out[0], out[1], y, margin=1.0)

    x, worth = houses(320, 8, seed=35)
    worse = worth[:160] < worth[160:]
    often = torch.rand(160, 1, generator=seeded(36)) < 0.9
    swap = worse ^ often  # the second one is better in nine of ten pairs
    first, second = torch.where(swap, x[160:], x[:160]), torch.where(swap, x[:160], x[160:])
    better = (torch.where(swap, worth[160:], worth[:160]) > torch.where(swap, worth[:160], worth[160:]))[
        :, 0
    ].float()
    y = better * 2 - 1 if cured else better
    fresh, value = houses(400, 8, seed=39)
    score = scored(
        lambda out: ((out[0] > out[1]) != (value[:200] > value[200:])[:, 0]).float().mean(),
        fresh[:200],
        fresh[200:],
    )
    return Net(run, rate=mlp(8, 32, 1)), (first, second, y), {"loss": loss}, score


@report(
    "target", "UG113", "UG110 UG114 UG502 UG401 UG101", area="segmentation", action=r"class|label|mask|255", steps=80,
    rate=5e-3,
    source="github.com/pytorch/vision/issues/2497; pytorch/pytorch/issues/53959; lorenmt/reco/issues/19",
    cause="masks of class numbers are divided by 255 as if they were pictures, and are all zero as integers",
)  # fmt: skip
def class_numbers_divided_by_255(cured: bool):
    def shown(seed: int) -> tuple[Tensor, Tensor]:
        x, mask, _ = boxes(16, 12, seed=seed)
        return x, (mask[:, 0] * 2).long()  # class 2 inside of the box

    def given(seed: int) -> tuple[Tensor, Tensor]:
        x, labels = shown(seed)
        return x, labels if cured else (labels / 255).long()

    batches = [given(seed) for seed in range(40, 46)]
    model = nn.Sequential(nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 3, 5, padding=2))
    kwargs = {"loss": F.cross_entropy, "steps": 20, "optimizer": adam(5e-3), "data": batches}
    return model, batches[0], kwargs, wrong_on(*shown(46))


@report(
    "target", "UG107", area="regression", action=r"shape|broadcast|squeeze|reshape", steps=150, rate=5e-3,
    source="github.com/tracel-ai/burn/pull/2379; LaurentMazare/tch-rs/issues/510",
    cause="the axis is added in front: targets are a row (1, N), outputs a column (N, 1), and their difference (N, N)",
)  # fmt: skip
def targets_in_a_row(cured: bool):
    x, y = houses(160, 8, seed=37)
    score = scored(lambda out: F.mse_loss(out, y), x)
    return mlp(8, 48, 1), (x, y if cured else y.reshape(1, -1)), {"loss": F.mse_loss}, score
