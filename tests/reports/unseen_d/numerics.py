"""Numerics: third collection, half D."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, glyphs, log, mlp, scored, seeded
from torch import Tensor, nn


@report(
    "numerics", "UG306 UG405 UG104", "UG102 UG307 UG403 UG401 UG110 UG114 UG201 UG301", area="tomography",
    action=r"half|float16|float32|overflow|inf|finite", steps=80, rate=5e-3,
    source="github.com/tensorflow/tensorflow/issues/47156; pytorch/pytorch/issues/44350",
    cause="the variance of an instance norm is computed in half precision: squares above 65504 are infinite",
)  # fmt: skip
def variance_overflows_in_half(cured: bool):
    class Norm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x if cured else x.half()
            x = x - x.mean((2, 3), keepdim=True)
            return (x / x.square().mean((2, 3), keepdim=True).sqrt()).float()

    x, labels = glyphs(64, 6, 10, seed=72)
    x = 400 * x  # Hounsfield units
    layers = [
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(108, 6),
    ]
    model = nn.Sequential(Norm(), *layers)
    return model, (x, labels), {"loss": F.cross_entropy}, scored(lambda out: F.cross_entropy(out, labels), x)


@report(
    "numerics", "UG306 UG104 UG405", area="transformer", action=r"half|float16|float32|underflow|divi|zero|finite",
    steps=60, rate=3e-3,
    source="github.com/facebookresearch/xformers/issues/96",
    cause="the normalization of kernel attention underflows in half precision: zero is divided by zero",
)  # fmt: skip
def kernel_attention_underflows(cured: bool):
    directions = torch.randn(48, 24, generator=seeded(75))

    def kernel(x: Tensor) -> Tensor:
        x = x if cured else x.half()
        return (x @ directions.to(x.dtype).T - x.square().sum(2, keepdim=True) / 2).exp()

    def run(net: Net, x: Tensor) -> Tensor:
        q, k, v = net.query(x), net.key(x), net.value(x)
        q, k = kernel(q), kernel(k)
        mixed = q @ (k.transpose(1, 2) @ v.to(k.dtype)) / (q * k.sum(1, keepdim=True)).sum(2, keepdim=True)
        return net.head((x + mixed.float()).mean(1))

    g = seeded(76)
    x = torch.randn(96, 8, 24, generator=g)
    labels = (x[..., 0].amax(1) > 1.4).long()
    layers = {name: nn.Linear(24, 24) for name in ("query", "key", "value")}
    for name in ("query", "key"):
        nn.init.xavier_uniform_(layers[name].weight, 1.3)
    return Net(run, **layers, head=mlp(24, 24, 2)), (x, labels), {"loss": F.cross_entropy}


@report(
    "numerics", "UG104 UG405", "UG306 UG504", form="probe", area="reinforcement learning", few=4,
    action=r"deviation|std|one example|single|batch size|not finite|NaN",
    source="github.com/DLR-RM/stable-baselines3/issues/325; jolibrain/wheatley/pull/93",
    cause="the last minibatch has one example: the deviation of one advantage is zero over zero",
)  # fmt: skip
def deviation_of_one_advantage(cured: bool):
    g = seeded(77)
    state, action = torch.randn(49, 6, generator=g), torch.randint(0, 3, (49,), generator=g)
    gain = (action == state[:, :3].argmax(1)).float() + 0.1 * torch.randn(49, generator=g)
    model = mlp(6, 24, 3, act=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)

    def loop(probe, steps: int = 100) -> float:
        for step in range(steps):
            at = 16 * (step % 4)
            part = slice(at, at + 16)
            if cured and at + 16 > 49:
                continue
            advantage = gain[part] - gain[part].mean()
            advantage = advantage / (gain[part].std() + 1e-8)
            logp = model(state[part]).log_softmax(1)[torch.arange(len(advantage)), action[part]]
            loss = -(logp * advantage).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return scored(lambda out: F.cross_entropy(out, state[:, :3].argmax(1)), state)(model)

    return model, optimizer, loop, None, {}
