"""Targets and their shapes: fourth collection, half F."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from registry import report
from samples import boxes, clusters, houses, log, mlp, scored, seeded, standard, wrong_on
from torch import Tensor, nn


@report(
    "target", "UG111", "UG109", area="gaussian process", action=r"class|one-hot|cross entropy|target",
    steps=120, rate=3e-3,
    source="github.com/cornellius-gp/gpytorch/pull/1641",
    cause="the responses that the labels were turned into are left aside: all outputs are fitted to the class numbers",
)  # fmt: skip
def class_numbers_for_pseudo_responses(cured: bool):
    x, labels = clusters(192, 12, 4, 0.7, seed=1)
    count = F.one_hot(labels, 4) + 0.01
    spread = (1 / count + 1).log()
    y = standard(count.log() - spread / 2) if cured else labels[:, None].expand(-1, 4).float()
    return mlp(12, 48, 4), (x, y), {"loss": F.mse_loss}, wrong_on(x, labels)


@report(
    "target", "UG107", area="astronomy", action=r"shape|broadcast|squeeze|view|reshape", steps=150, rate=5e-3,
    source="github.com/prob-ml/bliss/pull/1063",
    cause="the gate is (tiles, 1) and the losses (tiles,): every loss is counted for every gate, and none is left out",
)  # fmt: skip
def gate_with_an_axis_too_many(cured: bool):
    def loss(out: Tensor, y: Tensor) -> Tensor:
        wanted, gate = y[:, 0], y[:, 1:]
        error = (out[:, 0] - wanted).square()
        return (error * (gate[:, 0] if cured else gate)).sum() / gate.sum()

    x, brightness = houses(256, 6, seed=2)
    there = (torch.rand(256, 1, generator=seeded(3)) < 0.4).float()
    y = torch.cat([torch.where(there > 0, brightness, -3.0), there], 1)
    held = there[:, 0] > 0
    score = scored(lambda out: F.mse_loss(out[held], brightness[held]), x)
    return mlp(6, 48, 1), (x, y), {"loss": loss}, score


@report(
    "target", form="probe", area="reinforcement learning", action=r"end|done|terminal", boundary=True, few=60,
    no_rule="the value of the next state is added after the end of an episode as well", says=r"terminal|done|episode",
    source="github.com/cyoon1729/deep-Q-networks/pull/5",
    cause="the target lacks the mask of ended episodes: the end is worth what a state behind it would be worth",
)  # fmt: skip
def value_added_after_the_end(cured: bool):
    g = seeded(4)
    states = torch.randn(16, 6, generator=g)
    after = torch.randint(0, 16, (16,), generator=g)
    done = (torch.arange(16) % 3 == 0).float()
    reward = torch.randn(16, generator=g)
    step = F.one_hot(after, 16) * (1 - done)[:, None]
    truth = torch.linalg.solve(torch.eye(16) - 0.9 * step, reward)
    model = mlp(6, 48, 48, 1, act=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    frozen = copy.deepcopy(model)

    def loop(probe, steps: int = 500) -> float:
        for i in range(steps):
            if i % 20 == 0:
                frozen.load_state_dict(model.state_dict())
            now = torch.randint(0, 16, (64,), generator=g)
            with torch.no_grad():
                later = 0.9 * frozen(states[after[now]])[:, 0]
            target = reward[now] + later * ((1 - done[now]) if cured else 1)
            loss = F.mse_loss(model(states[now])[:, 0], target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        with torch.no_grad():
            return float(F.mse_loss(model(states)[:, 0], truth))

    return model, optimizer, loop, None, {}


@report(
    "target", "UG202 UG104", "UG306 UG405", area="tables", action=r"NaN|finite|target|logarithm", steps=100,
    source="github.com/PriorLabs/TabPFN/pull/1199",
    cause="log1p is taken of standardized targets: it is NaN for all that lie a deviation below the mean",
)  # fmt: skip
def logarithm_of_standardized_targets(cured: bool):
    x, value = houses(192, 6, seed=5)
    price = 10 + 2 * value
    wanted = standard(price.log1p())
    y = wanted if cured else standard(price).log1p()
    return mlp(6, 48, 1), (x, y), {"loss": F.mse_loss}, scored(lambda out: F.mse_loss(out, wanted), x)


@report(
    "target", "UG107", area="reinforcement learning", action=r"shape|broadcast|squeeze|view|reshape",
    steps=100, rate=3e-3,
    source="github.com/thu-ml/tianshou/pull/155; google-research/batch-ppo/pull/45",
    cause="returns are (batch,) and values (batch, 1): each return is compared with every state's value",
)  # fmt: skip
def advantages_of_every_pair(cured: bool):
    def loss(value: Tensor, returns: Tensor) -> Tensor:
        return (returns - value).square().mean()

    x, y = houses(192, 6, seed=6)
    score = scored(lambda out: F.mse_loss(out, y), x)
    return mlp(6, 48, 1), (x, y if cured else y[:, 0]), {"loss": loss}, score


@report(
    "target", area="detection", action=r"corner|centre|center|format|box", steps=200, rate=3e-3,
    may="UG119 UG110 UG106 UG504",
    no_rule="boxes are given as centre and size to an overlap that takes them for two corners",
    says=r"corner|box|overlap|beyond",
    source="github.com/stevebottos/owl-vit-object-detection/issues/14",
    cause="generalized_box_iou takes corners and gets centres and sizes: widths are compared as if they were positions",
)  # fmt: skip
def centres_where_corners_are_expected(cured: bool):
    def corners(box: Tensor) -> Tensor:
        return torch.cat([box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2], 1)

    def overlap(a: Tensor, b: Tensor, generalized: bool) -> Tensor:
        inner = (torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
        areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (a, b)]
        union = areas[0] + areas[1] - inner
        hull = (torch.max(a[:, 2:], b[:, 2:]) - torch.min(a[:, :2], b[:, :2])).prod(1)
        return inner / union - (hull - union) / hull * generalized

    def loss(out: Tensor, box: Tensor) -> Tensor:
        a, b = (corners(out), corners(box)) if cured else (out, box)
        return (1 - overlap(a, b, True)).mean()

    x, _, box = boxes(96, seed=7)
    box = torch.cat([box[:, :2] + box[:, 2:] / 2, box[:, 2:]], 1) / 16
    layers = [nn.Conv2d(1, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*layers, *mlp(256, 48, 4), nn.Sigmoid())
    score = scored(lambda out: 1 - overlap(corners(out), corners(box), False).mean(), x)
    return model, (x, box), {"loss": loss}, score
