"""Targets and their shapes: second collection, half B."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, boxes, clusters, mlp, scored, seeded, series, wrong_on
from torch import Tensor, nn


@report(
    "target", "UG806 UG116", area="video summaries", action=r"permute|transpose|reshape|axis", steps=150, rate=5e-3,
    source="github.com/weirme/FCSN/issues/32",
    cause="scores (batch, class, frame) are reshaped to (all frames, class) in the loss, not permuted",
)  # fmt: skip
def scores_reshaped_before_loss(cured: bool):
    def loss(out: Tensor, labels: Tensor) -> Tensor:
        scores = out.log_softmax(1)
        scores = scores.permute(0, 2, 1) if cured else scores
        return F.nll_loss(scores.reshape(-1, 3), labels.reshape(-1))

    x = series(48, 20, 4).transpose(1, 2)
    labels = ((x[:, 0] > 0.5).long() + (x[:, 1] > 0).long()).clamp(max=2)
    model = nn.Sequential(nn.Conv1d(4, 24, 5, padding=2), nn.ReLU(), nn.Conv1d(24, 3, 1))
    return model, (x, labels), {"loss": loss}, wrong_on(x, labels)


@report(
    "target", "UG107", area="reinforcement learning", action=r"shape|broadcast|sum|squeeze|reshape", steps=150,
    rate=5e-3,
    source="github.com/sunwuzhou03/reinforcement-learning-lab/issues/1",
    cause="log-probabilities are not summed over the actions: a value for each stands against one output of the critic",
)  # fmt: skip
def returns_of_all_actions_broadcast(cured: bool):
    g = seeded(0)
    state, action = torch.randn(128, 6, generator=g), torch.randn(128, 4, generator=g)
    chances = -0.5 * action.square() - torch.sin(2 * state[:, :4])
    reward = state[:, :1] * 0.5
    sums = reward - 0.3 * chances.sum(1, keepdim=True)
    y = sums if cured else reward - 0.3 * chances
    both = torch.cat([state, action], 1)
    return (
        mlp(10, 48, 48, 1),
        (both, y),
        {"loss": F.mse_loss},
        scored(lambda out: F.mse_loss(out, sums), both),
    )


@report(
    "target", area="signatures", action=r"label|invert|swap|similar", steps=150, boundary=True,
    no_rule="labels of pairs are the other way round: the loss takes 1 for different, the data has 1 for alike",
    says=r"invert|other way|reversed|swapped",
    source="github.com/VinhLoiIT/signet-pytorch/issues/2; keras-team/keras/issues/16935",
    cause="the contrastive loss draws pairs together whose label is 0, and those are the different ones",
)  # fmt: skip
def pairs_labelled_the_other_way_round(cured: bool):
    def run(net: Net, pair: Tensor) -> Tensor:
        return (net.code(pair[:, 0]) - net.code(pair[:, 1])).square().sum(1).add(1e-6).sqrt()

    def loss(distance: Tensor, alike: Tensor) -> Tensor:
        apart = 1 - alike if cured else alike
        return ((1 - apart) * distance.square() + apart * (1 - distance).clamp(min=0).square()).mean()

    x, labels = clusters(128, 12, 4, 0.6, seed=1)
    g = seeded(2)
    other = torch.randint(0, 128, (256,), generator=g)
    one = torch.randint(0, 128, (256,), generator=g)
    pair, alike = torch.stack([x[one], x[other]], 1), (labels[one] == labels[other]).float()
    score = scored(lambda d: ((d < 0.5).float() != alike).float().mean(), pair)
    return Net(run, code=mlp(12, 32, 8)), (pair, alike), {"loss": loss}, score


@report(
    "target", "UG106", "UG504 UG501 UG304 UG402 UG404", area="segmentation", action=r"target|mask|range|\(targets",
    steps=100, rate=5e-3,
    source="github.com/bigmb/Unet-Segmentation-Pytorch-Nest-of-Unets/issues/18",
    cause="the pictures' normalization is applied to the masks as well: they are -1 and 1, and the loss is negative",
)  # fmt: skip
def mask_augmented_to_minus_one(cured: bool):
    x, mask, _ = boxes(24)
    y = mask if cured else mask * 2 - 1
    model = nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 1, 1)
    )  # fmt: skip
    score = scored(lambda out: F.binary_cross_entropy_with_logits(out, mask), x)
    return model, (x, y), {"loss": F.binary_cross_entropy_with_logits}, score
