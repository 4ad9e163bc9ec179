"""Targets and their shapes: second collection, half A."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, boxes, chains, mlp, scored, seeded, series
from torch import Tensor, nn


@report(
    "target", "UG109", "UG302 UG402 UG605 UG404 UG201 UG110 UG502 UG504 UG114", area="forecasting",
    action=r"target|standard|normali|scale", steps=150,
    source="github.com/gitbooo/CrossViVit/issues/5; BVLC/caffe/issues/4936",
    cause="inputs are normalized, and the targets are irradiances of hundreds of watts: the outputs start at zero",
)  # fmt: skip
def irradiance_in_watts(cured: bool):
    g = seeded(0)
    x = torch.randn(192, 10, generator=g)
    watts = 450 + 180 * torch.tanh(x[:, :1] + x[:, 1:2] * x[:, 2:3])
    y = (watts - watts.mean()) / watts.std() if cured else watts
    spread = float(y.var())
    score = scored(lambda out: F.mse_loss(out, y) / spread, x)
    return mlp(10, 48, 48, 1), (x, y), {"loss": F.mse_loss}, score


@report(
    "target", "UG107", area="depth", action=r"shape|broadcast|squeeze|view|reshape", steps=100, rate=3e-3,
    source="github.com/jiwei0921/CoNet/issues/3",
    cause="the map is (batch, 1, height, width) and the target (batch, height, width): every pair is compared",
)  # fmt: skip
def depth_without_channel_broadcasts(cured: bool):
    x, mask, _ = boxes(24)
    depth = F.avg_pool2d(mask, 5, 1, 2) * 2 - 1
    y = depth if cured else depth[:, 0]
    layers = [nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 12, 5, padding=2), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(12, 1, 1))
    return model, (x, y), {"loss": F.smooth_l1_loss}, scored(lambda out: F.mse_loss(out, depth), x)


@report(
    "target", "UG107", area="time series", action=r"shape|broadcast|last|view|reshape", steps=80, rate=5e-3,
    source="github.com/andrewgcodes/xlstm/issues/4",
    cause="the network returns an output for each of ten steps, and the loss compares all of them with the next value",
)  # fmt: skip
def one_target_for_ten_outputs(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        out = net.head(net.rnn(x)[0])
        return out[:, -1:] if cured else out

    x = series(64, 11, 1, seed=1)
    x, y = x[:, :10], x[:, 10:]
    model = Net(run, rnn=nn.LSTM(1, 6, batch_first=True), head=nn.Linear(6, 1))
    return model, (x, y), {"loss": F.mse_loss}, scored(lambda out: F.mse_loss(out[:, -1:], y), x)


@report(
    "target", "UG116", area="language model", action=r"order|transpos|align|flatten|reshape|match", steps=120,
    rate=5e-3, source="github.com/d2l-ai/d2l-en/pull/1552",
    cause="the words go in time first, and the targets are flattened batch first: outputs meet others' targets",
)  # fmt: skip
def target_left_in_batch_order(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        states = net.rnn(net.embed(text.T))[0]  # (time, batch, width)
        return net.head(states).flatten(0, 1)

    text = chains(24, 13, 16)
    x, after = text[:, :-1], text[:, 1:]
    y = (after.T if cured else after).flatten()
    model = Net(run, embed=nn.Embedding(16, 24), rnn=nn.GRU(24, 32), head=nn.Linear(32, 16))
    score = scored(lambda out: F.cross_entropy(out, after.T.flatten()), x)
    kwargs = {"loss": F.cross_entropy, "steps": 20, "optimizer": adam(5e-3)}
    return model, (x, y), kwargs, score
