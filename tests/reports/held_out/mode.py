"""Training and evaluation mode: held-out half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, boxes, chains, log, scored, seeded
from torch import nn

BCE = F.binary_cross_entropy_with_logits


@report(
    "mode", "UG705", "UG504 UG501 UG703 UG604", form="probe", area="segmentation",
    action=r"train\(\)|train mode|training mode",
    source="github.com/wkentaro/pytorch-fcn/issues/57, pull/56",
    cause="validation within the epoch puts the network into evaluation mode, and nothing puts it back",
)  # fmt: skip
def eval_left_on_after_validation_in_segmentation(cured: bool):
    x, mask, _ = boxes(64, seed=5)
    layers: list[nn.Module] = []
    for fan_in in (1, 12, 12, 12, 12):
        layers += [nn.Conv2d(fan_in, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(12, 1, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.3, momentum=0.9)

    def loop(probe, steps: int = 60) -> float:
        for step in range(steps):
            if step % 20 == 0:  # an epoch begins
                model.train()
            if step % 20 == 2:  # validation
                model.eval()
                with torch.no_grad():
                    model(x[48:])
                model.train(cured)
            part = slice(step % 3 * 16, step % 3 * 16 + 16)
            loss = BCE(model(x[part]), mask[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        model.eval()
        return BCE(model(x[48:]), mask[48:]).item()

    return model, optimizer, loop, (x[:16], mask[:16]), {"loss": BCE}


@report(
    "mode", "UG705", "UG504", form="probe", area="translation", action=r"train\(\)|train mode|training mode",
    source="github.com/joeynmt/joeynmt/issues/184; webis-de/small-text/issues/40; asyml/texar-pytorch/issues/310",
    cause="after the first validation the rest of the epoch is trained in evaluation mode: without dropout",
)  # fmt: skip
def eval_left_on_after_validation_in_translation(cured: bool):
    text = chains(64, 13, 18, seed=8)
    x, after, held = text[:48, :-1], text[:48, 1:], text[48:, :-1]
    model = Net(
        lambda net, x: net.head(net.drop(net.rnn(net.drop(net.embed(x)))[0])).transpose(1, 2),
        embed=nn.Embedding(18, 32), rnn=nn.GRU(32, 64, batch_first=True), drop=nn.Dropout(0.3), head=nn.Linear(64, 18),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)

    def loop(probe, steps: int = 100) -> float:
        without = 0
        for step in range(steps):
            if step % 25 == 4:  # validation
                model.eval()
                with torch.no_grad():
                    model(held)
                model.train(cured)
            without += not model.training
            loss = F.cross_entropy(model(x), after)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return without / steps  # the share of steps that were made without the dropout that was asked for

    return model, optimizer, loop, (x, after), {"loss": F.cross_entropy}


@report(
    "mode", "UG703 UG604 UG602", "", area="cnn", action=r"momentum|running|recompute|calibrat|statistics", steps=0,
    source="github.com/pytorch/vision/issues/8250; kazuto1011/deeplab-pytorch/issues/79; "
    "affinelayer/pix2pix-tensorflow/issues/126",
    cause="BatchNorm's momentum of 0.99 comes from another library, where it means 0.01: the "
    "statistics are the last batch's",
)  # fmt: skip
def batch_norm_momentum_of_another_library(cured: bool):
    x, _, box = boxes(64, seed=6)
    y = (box - box.mean(0)) / box.std(0)
    x = x + torch.linspace(-3, 3, 64)[:, None, None, None]  # light differs
    layers = [
        nn.Conv2d(1, 12, 3, 2, 1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, 2, 1),
        nn.BatchNorm2d(24),
    ]
    model = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(384, 4))
    for norm in (layers[1], layers[4]):
        norm.momentum = 0.01 if cured else 0.99
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    g = seeded(2)
    for step in range(300):
        part = torch.randperm(64, generator=g)[:4]
        if step == 299:
            part = torch.arange(4)  # the darkest come last
        optimizer.zero_grad()
        F.mse_loss(model(x[part]), y[part]).backward()
        optimizer.step()
    return model.eval(), (x, y), {"loss": F.mse_loss}, scored(lambda out: F.mse_loss(out, y), x)
