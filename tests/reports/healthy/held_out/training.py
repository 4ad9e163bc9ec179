"""Healthy trainings: optimizers and loops. Held-out half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import healthy
from samples import (
    Net,
    chains,
    convnet,
    descend,
    encoder,
    glyphs,
    log,
    sentences,
    series,
    wrong_on,
)
from torch import Tensor, nn


@healthy("rnn", form="probe")
def clip_at_one():
    x = series(48, 25, 2)
    model = Net(
        lambda net, x: net.head(net.rnn(x)[0]), rnn=nn.LSTM(2, 48, batch_first=True), head=nn.Linear(48, 2)
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.3, momentum=0.9)

    def clip() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)

    def loop(probe, steps: int = 120) -> float:
        return descend(probe, optimizer, steps, lambda step: F.mse_loss(model(x[:, :-1]), x[:, 1:]), clip)

    return model, optimizer, loop, (x[:, :-1], x[:, 1:]), {"loss": F.mse_loss}


@healthy("cnn", form="probe")
def cosine_to_zero():
    """The rate ends at zero, when all is learnt."""
    x, labels = glyphs(96, 6)
    model = convnet(1, 6, 12)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)

    def loss_at(step: int) -> Tensor:
        if step:
            schedule.step()
        return F.cross_entropy(model(x), labels)

    return (
        model,
        optimizer,
        lambda probe, steps=100: descend(probe, optimizer, steps, loss_at),
        (x, labels),
        {"loss": F.cross_entropy},
    )


@healthy("cnn", form="probe")
def sharpness_aware():
    """SAM: a step up the gradient, a second backward pass there, back, and the step with that gradient."""
    x, labels = glyphs(96, 6, seed=2)
    model = convnet(1, 6, 12)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)

    def loop(probe, steps: int = 60) -> float:
        for _ in range(steps):
            loss = F.cross_entropy(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            with torch.no_grad():
                norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
                moves = [p.grad * (0.05 / (norm + 1e-12)) for p in model.parameters()]
                for p, move in zip(model.parameters(), moves, strict=True):
                    p.add_(move)
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            with torch.no_grad():
                for p, move in zip(model.parameters(), moves, strict=True):
                    p.sub_(move)
            optimizer.step()
            log(probe, loss)
        return wrong_on(x, labels)(model)

    return model, optimizer, loop, (x, labels), {"loss": F.cross_entropy}


@healthy("fine-tuning", form="probe")
def rates_by_depth():
    """A trained body and a new head: rates fall by depth, a hundredfold from the head to the embedding."""
    text, _, labels = sentences(128, 8, 16, 3)
    model = Net(
        lambda net, text: net.head(net.encoder(net.embed(text) + net.places).mean(1)),
        embed=nn.Embedding(16, 32), places=nn.Parameter(torch.randn(8, 32) * 0.2), encoder=encoder(32, 2),
        head=nn.Linear(32, 3),
    )  # fmt: skip
    descend(
        None,
        torch.optim.Adam(model.parameters(), 3e-3),
        60,
        lambda step: F.cross_entropy(model(text), labels),
    )
    model.head = nn.Linear(32, 3)
    groups = [
        {"params": [model.embed.weight, model.places], "lr": 3e-5},
        {"params": model.encoder.layers[0].parameters(), "lr": 1e-4},
        {"params": model.encoder.layers[1].parameters(), "lr": 3e-4},
        {"params": model.head.parameters(), "lr": 3e-3},
    ]
    optimizer = torch.optim.AdamW(groups)

    def loop(probe, steps: int = 80) -> float:
        return descend(probe, optimizer, steps, lambda step: F.cross_entropy(model(text), labels))

    return model, optimizer, loop, (text, labels), {"loss": F.cross_entropy}


@healthy("language model", form="probe")
def word_model_with_sgd():
    """The word model's recipe of old: SGD at a rate of 20 with a clip of 0.25, on a small-scale start."""
    text = chains(32, 21, 24)
    model = Net(
        lambda net, x: net.head(net.rnn(net.embed(x))[0]).transpose(1, 2),
        embed=nn.Embedding(24, 32), rnn=nn.LSTM(32, 48, batch_first=True), head=nn.Linear(48, 24),
    )  # fmt: skip
    for p in (model.embed.weight, model.head.weight):
        nn.init.uniform_(p, -0.1, 0.1)
    nn.init.zeros_(model.head.bias)
    optimizer = torch.optim.SGD(model.parameters(), 20.0)

    def clip() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)

    def loop(probe, steps: int = 150) -> float:
        return descend(
            probe, optimizer, steps, lambda step: F.cross_entropy(model(text[:, :-1]), text[:, 1:]), clip
        )

    return model, optimizer, loop, (text[:, :-1], text[:, 1:]), {"loss": F.cross_entropy}
