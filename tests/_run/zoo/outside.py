"""Models whose loss runs other modules, or that share something with an object outside."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from .case import CLASSES, FEATURES, Body, Case, case, vectors


def critic() -> nn.Module:
    first = spectral_norm(nn.Linear(CLASSES, 4))
    model = nn.Sequential(first, nn.BatchNorm1d(4), nn.LeakyReLU(), nn.Linear(4, 1))
    model[3].weight.grad = torch.ones(1, 4)
    model[1].eval()
    return model


@case
def discriminator_in_the_loss() -> Case:
    judge = critic()
    return Case(Body(), loss=lambda out, y: -judge(out).mean(), outside={"critic": judge})


@case
def gradient_penalty_of_a_discriminator() -> Case:
    judge = nn.Sequential(nn.Linear(CLASSES, 4), nn.Tanh(), nn.Linear(4, 1))

    def loss(out: Tensor, y: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(judge(out).sum(), out, create_graph=True)
        return gradient.norm(dim=1).mean() - judge(out).mean()

    return Case(Body(), loss=loss, outside={"critic": judge})


class Center(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(CLASSES, CLASSES))
        self.register_buffer("seen", torch.zeros(()))
        self.centers.grad = torch.ones(CLASSES, CLASSES)

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        self.seen += 1
        return F.cross_entropy(out, y) + (out - self.centers[y]).square().mean()


@case
def loss_with_parameters() -> Case:
    loss = Center()
    return Case(Body(), loss=loss, outside={"loss": loss})


@case
def penalty_over_the_parameters() -> Case:
    model = Body()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out, y) + 0.1 * sum(p.square().sum() for p in model.parameters())

    return Case(model, loss=loss)


@case
def leaves_in_the_loss() -> Case:
    weights = [torch.zeros((), requires_grad=True), torch.ones(3, requires_grad=True)]
    weights[1].grad = torch.ones(3)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out * weights[1], y) * weights[0].exp() + weights[0]

    return Case(Body(), loss=loss, outside={"weights": weights})


@case
def weights_shared_with_an_object_outside() -> Case:
    model = Body()
    other = nn.Linear(FEATURES, FEATURES)
    other.weight = model.fc.weight
    views = [model.fc.weight.detach(), model.head.weight.data[:2], model.state_dict()]
    return Case(model, outside={"other": other, "views": views})


@case
def teacher_in_the_loss() -> Case:
    teacher = Body().eval()
    batch = vectors()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = teacher.train()(batch[0])
        return F.mse_loss(out, wanted)

    return Case(Body(), batch, loss, {"teacher": teacher})


@case
def discriminator_trained_in_the_loss() -> Case:
    judge = critic()
    optimizer = torch.optim.Adam(judge.parameters(), 0.1)
    judge[3].bias.grad = torch.ones(1)
    optimizer.step()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        judge(out.detach()).mean().backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.9
        return -judge(out).mean()

    return Case(Body(), loss=loss, outside={"critic": judge, "optimizer": optimizer})


GLOBAL: nn.Module


@case
def a_global_module_in_the_loss() -> Case:
    global GLOBAL
    GLOBAL = critic().eval()
    return Case(
        Body(),
        loss=lambda out, y: F.cross_entropy(out, y) - GLOBAL.train()(out).mean(),
        outside={"it": GLOBAL},
    )


class Collector:
    """Keeps what a model's hooks see."""

    def __init__(self) -> None:
        self.activations: list[Tensor] = []
        self.calls = 0

    def hook(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.activations.append(output.detach())
        self.calls += 1


@case
def hooks_of_an_object_outside() -> Case:
    model, collector, seen = Body(), Collector(), {}
    model.fc.register_forward_hook(collector.hook)
    model.norm.register_forward_hook(lambda m, i, o: seen.update({len(seen): o.detach().mean()}))
    return Case(model, outside={"collector": collector, "seen": seen})


@case
def loss_that_remembers() -> Case:
    class Remembers:
        def __init__(self) -> None:
            self.values, self.baseline = [], torch.zeros(())

        def __call__(self, out: Tensor, y: Tensor) -> Tensor:
            value = F.cross_entropy(out, y)
            self.values.append(float(value.detach()))
            self.baseline.mul_(0.9).add_(value.detach())
            return value - self.baseline

    loss = Remembers()
    return Case(Body(), loss=loss, outside={"loss": loss})
