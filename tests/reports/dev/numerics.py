"""Numerics: development half."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, chains, log, mlp, molecules, seeded, sgd
from torch import Tensor, nn


@report(
    "numerics", "UG306 UG104", "UG405 UG406 UG403", area="half precision", action=r"mask|overflow|half|float16|65504",
    steps=120, source="github.com/huggingface/transformers/issues/382; openai/gpt-2/pull/122",
    cause="attention is masked with a constant of -1e10, which is minus infinity in half precision: 0 * inf is NaN",
)  # fmt: skip
def mask_value_overflows_half(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        x = net.embed(text)
        q, k, v = net.qkv(x).chunk(3, 2)
        allowed = torch.ones(len(text[0]), len(text[0]), dtype=x.dtype).tril()
        scores = q @ k.transpose(1, 2) * 0.25 + (1 - allowed) * net.low
        return net.head(x + scores.softmax(2) @ v).float().transpose(1, 2)

    text = chains(24, 11, 16)
    model = Net(run, embed=nn.Embedding(16, 32), qkv=nn.Linear(32, 96), head=nn.Linear(32, 16))
    model.register_buffer("low", torch.tensor(-1e4 if cured else -1e10))
    kwargs = {"loss": F.cross_entropy, "steps": 20, "optimizer": sgd(0.1, 0.9)}
    return model.half(), (text[:, :-1], text[:, 1:]), kwargs


@report(
    "numerics", "UG306 UG104", "UG405 UG403", area="gnn", action=r"mask|neighbo|row|inf|softmax", steps=150,
    source="github.com/dmlc/dgl/issues/2657; pytorch/pytorch/issues/41508; allenai/allennlp/issues/890",
    cause="a node without neighbours has a row of nothing but minus infinity, and the softmax of that is NaN",
)  # fmt: skip
def softmax_over_masked_out_neighbours(cured: bool):
    def run(net: Net, x: Tensor, adjacency: Tensor) -> Tensor:
        h = net.first(x)
        scores = (h @ h.transpose(1, 2) / 6).masked_fill(adjacency == 0, -math.inf)
        return net.last(F.relu(h + net.mix(scores.softmax(2) @ h))).mean(1)

    x, adjacency = molecules(48)
    alone = adjacency - torch.eye(8)  # without an edge from each node to itself
    y = (adjacency @ x[..., :1]).tanh().mean(1)
    model = Net(run, first=nn.Linear(6, 32), mix=nn.Linear(32, 32), last=nn.Linear(32, 1))
    return model, (x, adjacency if cured else alone, (y - y.mean()) / y.std()), {"loss": F.mse_loss}


@report(
    "numerics", "UG104 UG405 UG306", "UG504 UG501 UG302 UG402 UG404 UG503 UG303", form="probe", area="vae", few=30,
    action=r"clamp|log.?var|variance|exp|clip",
    source="github.com/orybkin/sigma-vae-pytorch/issues/10; pyg-team/pytorch_geometric/issues/500; "
    "Linear95/CLUB/issues/27",
    cause="the logarithm of the variance is not bounded, and its exponential leaves the range of numbers",
)  # fmt: skip
def log_variance_overflows(cured: bool):
    g = seeded(3)
    kinds = (torch.rand(8, 36, generator=g) < 0.5).float()
    kinds[:, :12] = 0  # a border that is the same in every picture
    x = kinds[torch.arange(128) % 8]
    x[:, 12:] = (x[:, 12:] + 0.1 * torch.randn(128, 24, generator=g)).clamp(min=0)

    def run(net: Net, x: Tensor):
        mean, spread = net.encode(x).chunk(2, 1)
        spread = spread.clamp(-8, 4)
        picture, log_variance = net.decode(mean + spread.exp() * torch.randn(mean.shape, generator=g)).chunk(
            2, 1
        )
        return mean, spread, F.relu(picture), log_variance.clamp(-7, 7) if cured else log_variance

    model = Net(run, encode=mlp(36, 48, 8), decode=mlp(4, 64, 72))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)

    def loop(probe, steps: int = 250) -> float:
        for _ in range(steps):
            mean, spread, picture, log_variance = model(x)
            fit = 0.5 * ((x - picture).square() * (-log_variance).exp() + log_variance).sum(1).mean()
            loss = fit + 0.5 * (mean.square() + (2 * spread).exp() - 1 - 2 * spread).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        with torch.no_grad():
            return F.mse_loss(model(x)[2], x).item()

    return model, optimizer, loop, None, {}


@report(
    "numerics", "UG104 UG405", "UG504", form="probe", area="language model", action=r"ignor|label|-100|empty|average",
    source="github.com/nvidia-cosmos/cosmos-rl/pull/155; pytorch/pytorch/issues/70348, 75181",
    cause="in a batch all of whose labels are ignored (only prompts were left after cutting), the mean is 0 / 0: the "
    "epoch's loss is NaN, although such a batch has no gradient",
)  # fmt: skip
def every_label_ignored(cured: bool):
    text = chains(64, 13, 16)
    x, labels = text[:, :-1], text[:, 1:].clone()
    labels[:, :4] = -100  # the prompt
    labels[40:48] = -100  # prompts as long as the window
    model = Net(
        lambda net, x: net.head(net.rnn(net.embed(x))[0]).transpose(1, 2),
        embed=nn.Embedding(16, 24), rnn=nn.GRU(24, 32, batch_first=True), head=nn.Linear(32, 16),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)

    def loop(probe, steps: int = 120) -> float:
        seen = []
        for step in range(steps):
            part = slice(step * 8 % 64, step * 8 % 64 + 8)
            if cured and (labels[part] == -100).all():
                continue
            loss = F.cross_entropy(model(x[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
            seen.append(loss.item())
        return sum(seen[-7:]) / len(seen[-7:])  # the last epoch's mean, as a log shows it

    return model, optimizer, loop, (x, labels), {"loss": F.cross_entropy}


@report(
    "numerics", "UG405", "UG104 UG504 UG403", area="speaker recognition", action=r"std|root|sqrt|eps|variance",
    steps=60,
    source="github.com/pytorch/pytorch/issues/4320",
    cause="the standard deviation over time is pooled: where a channel is constant (a silent clip), its slope is "
    "infinite (torch.std itself has been mended since; written out as here, it is as it was)",
)  # fmt: skip
def std_of_a_constant_channel(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        h = F.relu(net.frame(x.transpose(1, 2)))
        spread = (h.var(2) + (1e-5 if cured else 0)).sqrt()
        return net.head(torch.cat([h.mean(2), spread], 1))

    g = seeded(8)
    labels = torch.arange(96) % 6
    voice = torch.randn(6, 1, 8, generator=g)
    x = (voice[labels] + 0.4 * torch.randn(96, 20, 8, generator=g)) / 1.1
    x[17] = 0.0  # silence
    model = Net(run, frame=nn.Conv1d(8, 24, 3), head=nn.Linear(48, 6))
    return model, (x, labels), {"loss": F.cross_entropy}


@report(
    "numerics", "UG405 UG104", "UG504", form="probe", area="pose", few=200, action=r"acos|clamp|arc",
    source="github.com/pytorch/pytorch/issues/8069; kornia/kornia/issues/4007; "
    "banctilrobitaille/torch-vectorized/issues/7",
    cause="the angle is the arc cosine of a product that is clamped to [-1, 1]: at 1 its slope is infinite",
)  # fmt: skip
def arc_cosine_at_one(cured: bool):
    g = seeded(4)
    x = torch.randn(128, 6, generator=g)
    angle = x[:, 0] + 0.5 * torch.tanh(x[:, 1])
    facing = torch.stack([angle.cos(), angle.sin()], 1)
    model = mlp(6, 48, 48, 2, act=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)

    def loop(probe, steps: int = 200) -> float:
        for _ in range(steps):
            close = (F.normalize(model(x), dim=1) * facing).sum(1)
            loss = (close.clamp(-1 + 1e-6, 1 - 1e-6) if cured else close.clamp(-1, 1)).acos().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        with torch.no_grad():
            return 1 - (F.normalize(model(x), dim=1) * facing).sum(1).mean().item()

    return model, optimizer, loop, None, {}
