"""Numerics: third collection, half C."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, boxes, clusters, log, mlp, scored, sentences
from torch import Tensor, nn


@report(
    "numerics", "UG104 UG405 UG306", "UG504 UG501", form="probe", area="segmentation",
    action=r"logarithm|log of|eps|log_softmax|cross_entropy|clamp", few=2,
    source="github.com/MarvinTeichmann/tensorflow-fcn/issues/18",
    cause="the epsilon is added to the scores before the softmax, where it changes nothing: probabilities become zero",
)  # fmt: skip
def epsilon_added_to_the_scores(cured: bool):
    x, labels = clusters(192, 12, 6, 0.3, seed=71)
    wanted = F.one_hot(labels, 6).half()
    model = mlp(12, 64, 6)
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)

    def loop(probe, steps: int = 250) -> float:
        for _ in range(steps):
            scores = model(x).half()  # as under autocast
            p = scores.softmax(1) + 1e-4 if cured else (scores + 1e-4).softmax(1)
            loss = -(wanted * p.log()).sum(1).float().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return scored(lambda out: F.cross_entropy(out, labels), x)(model)

    return model, optimizer, loop, None, {}


@report(
    "numerics", "UG405", "UG104 UG306 UG504", area="text",
    action=r"root|sqrt|norm|zero|eps|clamp|not finite|derivative", steps=80, rate=5e-3,
    source="github.com/pytorch/pytorch/issues/2421; pytorch/pytorch/pull/2775",
    cause="a text without words has the vector zero, and the root of its squared length has an infinite derivative",
)  # fmt: skip
def length_of_an_empty_text(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        x = (net.embed(text) * (text > 0)[..., None]).sum(1)
        squares = x.square().sum(1, keepdim=True)
        length = (squares + 1e-12).sqrt() if cured else squares.sqrt().clamp(min=1e-6)
        return net.head(4 * x / length)

    text, _, labels = sentences(128, 8, 20, 3, shortest=3, seed=73)
    text[[5, 60]] = 0
    model = Net(run, embed=nn.Embedding(20, 16), head=mlp(16, 24, 3))
    return (
        model,
        (text, labels),
        {"loss": F.cross_entropy},
        scored(lambda out: F.cross_entropy(out, labels), text),
    )


@report(
    "numerics", "UG104 UG405", "UG202 UG306", area="GAN", steps=80, rate=5e-3,
    action=r"divi|zero|constant|not finite|NaN",
    source="github.com/facebookresearch/pytorch_GAN_zoo/issues/89",
    cause="(v - min) / (max - min) is zero over zero where all values are equal, as in a map without an object",
)  # fmt: skip
def range_of_equal_values(cured: bool):
    def stretched(v: Tensor) -> Tensor:
        low, high = v.amin((1, 2, 3), keepdim=True), v.amax((1, 2, 3), keepdim=True)
        if cured:
            return torch.where(high > low, (v - low) / (high - low).clamp(min=1e-6), v)
        return (v - low) / (high - low)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(out, stretched(y))

    x, mask, _ = boxes(32, 12, seed=74)
    y = mask * torch.linspace(0.5, 1.5, 32)[:, None, None, None]
    y[[3, 20]] = 0
    model = nn.Sequential(nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 1, 5, padding=2))
    there = y.amax((1, 2, 3)) > 0
    score = scored(lambda out: F.mse_loss(out[there], (mask > 0).float()[there]), x)
    return model, (x, y), {"loss": loss}, score
