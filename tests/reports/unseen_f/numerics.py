"""Numerics: fourth collection, half F."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, clusters, houses, log, mlp, scored, seeded
from torch import Tensor, nn


@report(
    "numerics", "UG104 UG306 UG405", "UG504 UG501", area="compression",
    action=r"eps|zero|clamp|divi|deviation|log", steps=80, rate=5e-3, few=60,
    source="github.com/huzi96/Coarse2Fine-PyTorch/issues/16",
    cause="deviations of the entropy model have no lower bound: where codes are zero they reach zero, and divide",
)  # fmt: skip
def deviation_of_the_prior_reaches_zero(cured: bool):
    def loss(deviation: Tensor, y: Tensor) -> Tensor:
        if cured:
            deviation = deviation.clamp(min=0.1)
        return (deviation.log() + 0.5 * (y / deviation).square()).mean()

    x, _ = houses(192, 8, seed=1)
    y = (x[:, :4].exp() * torch.randn(192, 4, generator=seeded(2))).round()  # half of the codes are zero
    model = mlp(8, 48, 4)
    nn.init.constant_(model[-1].bias, 1.5)
    kwargs = {"loss": loss, "steps": 60, "optimizer": adam(5e-3)}
    return model, (x, y), kwargs, scored(lambda out: loss(out, y), x)


@report(
    "numerics", "UG702 UG405 UG104", "UG508 UG502 UG306", form="probe", area="mixed precision", few=40,
    action=r"scale|overflow|half|float16|infinite",
    source="github.com/tensorflow/tensorflow/issues/38357; NVIDIA/tacotron2/issues/112; keras-team/keras/issues/16100",
    cause="the loss scale is halved after an overflow, but never below one: gradients overflow at every step",
)  # fmt: skip
def loss_scale_held_at_one(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.float16):
            return net.body(x).float()

    x, y = houses(192, 8, seed=3)
    model = Net(run, body=mlp(8, 48, 1))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)

    def loop(probe, steps: int = 120) -> float:
        scale = 1024.0
        for _ in range(steps):
            loss = 1e6 * F.mse_loss(model(x), y)
            optimizer.zero_grad()
            (scale * loss).backward()
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            if all(bool(g.isfinite().all()) for g in gradients):
                for g in gradients:
                    g.div_(scale)
                optimizer.step()
            else:
                scale = scale / 2 if cured else max(scale / 2, 1.0)
            log(probe, loss)
        return scored(lambda out: F.mse_loss(out, y), x)(model)

    return model, optimizer, loop, None, {}


@report(
    "numerics", "UG104 UG306", "UG405 UG504 UG101", area="detection",
    action=r"logarithm|maximum|row|underflow|logsumexp", steps=60, few=40,
    source="github.com/amdegroot/ssd.pytorch/issues/483",
    cause="the maximum that is taken out of a log-sum-exp is the one of the whole batch: rows far below it underflow",
)  # fmt: skip
def log_sum_exp_with_one_maximum_for_all(cured: bool):
    def loss(out: Tensor, labels: Tensor) -> Tensor:
        top = out.detach().amax(1, keepdim=True) if cured else out.detach().max()
        total = (out - top).exp().sum(1, keepdim=True).log() + top
        return (total - out.gather(1, labels[:, None])).mean()

    x, labels = clusters(128, 12, 5, 0.6, seed=4)
    loud = torch.randn(128, 1, generator=seeded(5)).mul(1.5).exp()
    x = x * loud
    x = x / x.std()
    kwargs = {"loss": loss, "steps": 40, "optimizer": adam(2e-2)}
    return mlp(12, 32, 5), (x, labels), kwargs, scored(lambda out: F.cross_entropy(out, labels), x)
