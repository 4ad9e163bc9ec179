"""Optimizers and training loops: second collection, half B."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, chains, houses, log, mlp, scored, series
from torch import nn


@report(
    "optimizer", "UG509", form="probe", area="distillation", action=r"zero_grad|accumulat|clear",
    source="github.com/tientrandinh/Revisiting-Reverse-Distillation/issues/12; ZiqiaoPeng/DualTalk/issues/9; "
    "bytetriper/RAE/issues/67",
    cause="zero_grad stands before every backward, and the step after every eighth: seven of eight gradients are lost",
)  # fmt: skip
def cleared_at_every_microbatch(cured: bool):
    x, y = houses(512, 8, seed=1)
    y = y + torch.randn(512, 1, generator=torch.Generator().manual_seed(2))
    model = mlp(8, 48, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def loop(probe, steps: int = 100) -> float:
        at = 0
        for _ in range(steps):
            for part in range(8):
                if not cured or part == 0:
                    optimizer.zero_grad()
                index = (at + torch.arange(2)) % 512
                at += 2
                loss = F.mse_loss(model(x[index]), y[index])
                (loss / 8 if cured else loss).backward()
            optimizer.step()
            log(probe, loss)
        return scored(lambda out: F.mse_loss(out, y) - 1, x)(model)

    return model, optimizer, loop, (x[:64], y[:64]), {"loss": F.mse_loss}


@report(
    "optimizer", "UG501 UG504", "UG102 UG307 UG101 UG303 UG304 UG503", area="language model", action=r"learning rate",
    steps=150,
    source="github.com/rajveermalviya/language-modeling/issues/3; OpenNMT/OpenNMT-tf/issues/744",
    cause="the configuration has a learning rate of 1.0, which was SGD's, and the optimizer is Adam",
)  # fmt: skip
def adam_rate_of_one(cured: bool):
    text = chains(24, 13, 16, seed=3)
    x, after = text[:, :-1], text[:, 1:]
    model = Net(
        lambda net, text: net.head(net.rnn(net.embed(text))[0]).transpose(1, 2), embed=nn.Embedding(16, 24),
        rnn=nn.LSTM(24, 32, batch_first=True), head=nn.Linear(32, 16),
    )  # fmt: skip
    kwargs = {"loss": F.cross_entropy, "steps": 20, "optimizer": adam(1e-2 if cured else 1.0)}
    return model, (x, after), kwargs, scored(lambda out: F.cross_entropy(out, after), x)


@report(
    "optimizer", "UG508 UG502", form="probe", area="medical pictures", action=r"schedul|learning rate|epoch",
    source="github.com/ivadomed/ivadomed/pull/55; pytorch/tutorials/pull/640",
    cause="the scheduler steps after every batch, not every epoch: the learning rate is gone after a few batches",
)  # fmt: skip
def schedule_steps_per_batch(cured: bool):
    x = series(64, 12, 2, seed=4)
    x, y = x[:, :11].flatten(1), x[:, 11]
    model = mlp(22, 48, 2, act=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.1)

    def loop(probe, steps: int = 120) -> float:
        loss = torch.zeros(())
        for step in range(steps):
            loss = F.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
            if not cured or step % 60 == 59:
                schedule.step()
        return loss.item()

    return model, optimizer, loop, (x, y), {"loss": F.mse_loss}
