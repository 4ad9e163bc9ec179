"""Healthy trainings: optimizers and loops. Development half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import healthy
from samples import (
    Net,
    boxes,
    convnet,
    descend,
    encoder,
    glyphs,
    houses,
    log,
    mlp,
    sentences,
    wrong_on,
)
from torch import Tensor, nn


@healthy("cnn", form="probe")
def gradient_accumulation():
    """Four backward passes to a step, and cleared after it."""
    x, labels = glyphs(128, 6)
    model = convnet(1, 6, 12)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def loop(probe, steps: int = 60) -> float:
        for step in range(steps):
            for i in range(4):
                part = slice((step * 4 + i) * 16 % 128, (step * 4 + i) * 16 % 128 + 16)
                loss = F.cross_entropy(model(x[part]), labels[part])
                (loss / 4).backward()
            optimizer.step()
            optimizer.zero_grad()
            log(probe, loss)
        return wrong_on(x, labels)(model)

    return model, optimizer, loop, (x[:32], labels[:32]), {"loss": F.cross_entropy}


@healthy("transformer", form="probe")
def decoupled_weight_decay():
    """AdamW with a decay of 0.1 on matrices and none on the rest: two groups."""
    text, _, labels = sentences(96, 8, 16, 3)
    model = Net(
        lambda net, text: net.head(net.encoder(net.embed(text) + net.places).mean(1)),
        embed=nn.Embedding(16, 32), places=nn.Parameter(torch.randn(8, 32) * 0.2), encoder=encoder(32, 2),
        head=nn.Linear(32, 3),
    )  # fmt: skip
    matrices = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, 2e-3)

    def loop(probe, steps: int = 100) -> float:
        return descend(probe, optimizer, steps, lambda step: F.cross_entropy(model(text), labels))

    return model, optimizer, loop, (text, labels), {"loss": F.cross_entropy}


@healthy("detection", form="probe")
def clip_at_every_step():
    """DETR's way: AdamW, and a clip of 0.1 below every gradient's norm. Adam does not mind the scale."""
    x, _, box = boxes(48)
    target = (box - box.mean(0)) / box.std(0)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, 2, 1),
        nn.GELU(),
        nn.Conv2d(12, 24, 3, 2, 1),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(384, 4),
    )
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)

    def clip() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)

    def loop(probe, steps: int = 120) -> float:
        return descend(probe, optimizer, steps, lambda step: F.l1_loss(model(x), target), clip)

    return model, optimizer, loop, (x, target), {"loss": F.l1_loss}


@healthy("transformer", form="probe")
def warmup_from_zero():
    """The first step has rate zero."""
    text, _, labels = sentences(96, 8, 16, 3, seed=2)
    model = Net(
        lambda net, text: net.head(net.encoder(net.embed(text) + net.places).mean(1)),
        embed=nn.Embedding(16, 32), places=nn.Parameter(torch.randn(8, 32) * 0.2),
        encoder=encoder(32, 2, norm_first=False),
        head=nn.Linear(32, 3),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step / 40, 1))

    def loss_at(step: int) -> Tensor:
        if step:
            schedule.step()
        return F.cross_entropy(model(text), labels)

    return (
        model,
        optimizer,
        lambda probe, steps=120: descend(probe, optimizer, steps, loss_at),
        (text, labels),
        {"loss": F.cross_entropy},
    )


@healthy("cnn", form="probe")
def bfloat16_autocast():
    x, labels = glyphs(96, 6)
    model = convnet(1, 6, 12)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)

    def loss_at(step: int) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(model(x), labels)

    return model, optimizer, lambda probe, steps=40: descend(probe, optimizer, steps, loss_at), None, {}


@healthy("regression", form="probe")
def lbfgs_fit():
    """A quasi-Newton method: several evaluations to a step, and steps of rate 1."""
    x, y = houses(128)
    model = mlp(8, 24, 1, act=nn.Tanh)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1, max_iter=10, line_search_fn="strong_wolfe")

    def loop(probe, steps: int = 15) -> float:
        value = torch.zeros(())

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            return loss

        for _ in range(steps):
            value = optimizer.step(closure)
            log(probe, value)
        return float(value)

    return model, optimizer, loop, (x, y), {"loss": F.mse_loss}
