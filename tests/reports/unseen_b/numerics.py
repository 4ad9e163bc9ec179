"""Numerics: second collection, half B."""

from __future__ import annotations

import torch
from registry import report
from samples import Net, adam, glyphs, houses, log, mlp, scored, seeded
from torch import Tensor


@report(
    "numerics", "UG104 UG405 UG306", "UG504 UG501", area="capsules",
    action=r"logsumexp|logarithm|log of|exponential|underflow|clamp|eps", steps=120, rate=5e-3,
    source="github.com/mlberkeley/scae-pytorch/pull/4",
    cause="a mixture's likelihood is summed as exponentials before the logarithm: far points have a likelihood of zero",
)  # fmt: skip
def likelihood_by_exponentials(cured: bool):
    def loss(out: Tensor, y: Tensor) -> Tensor:
        weight, place = out[:, :4].log_softmax(1), out[:, 4:]
        terms = weight - 0.5 * ((y - place) / 0.1).square()
        return -(terms.logsumexp(1) if cured else terms.exp().sum(1).log()).mean()

    x, y = houses(160, 8, seed=1)
    model = mlp(8, 32, 8)
    kwargs = {"loss": loss, "steps": 20, "optimizer": adam(5e-3)}
    score = scored(lambda out: ((out[:, :4].softmax(1) * out[:, 4:]).sum(1, True) - y).square().mean(), x)
    return model, (x, y), kwargs, score


@report(
    "numerics", "UG405", "UG202 UG104 UG306 UG504", area="accelerators", action=r"nan|missing|mask|where|not finite",
    steps=120, rate=5e-3,
    source="github.com/BLAST-AI-ML/synapse/pull/237",
    cause="missing targets are NaN and left out by nanmean: the loss is finite, and its gradient is zero times NaN",
)  # fmt: skip
def missing_targets_in_nanmean(cured: bool):
    x, y = houses(128, 8, seed=2)
    y = torch.cat([y, y.sin()], 1)
    there = torch.rand(y.shape, generator=seeded(3)) > 0.2
    y = torch.where(there, y, torch.nan)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        if cured:
            return (out - y)[~y.isnan()].square().mean()
        return (out - y).square().nanmean()

    score = scored(lambda out: (out - y)[there].square().mean(), x)
    return mlp(8, 48, 2), (x, y), {"loss": loss}, score


@report(
    "numerics", "UG104 UG405 UG306", "UG504 UG501 UG303 UG402 UG304", form="probe", area="variational autoencoder",
    action=r"logarithm|log of|clamp|logits|eps", few=60,
    source="github.com/iusaspb/deep_learning_Nikolenko_and_Co/issues/1",
    cause="1e-10 + 1 - p is exactly zero in float32 once p is 1, and so the epsilon does not help the logarithm",
)  # fmt: skip
def epsilon_lost_in_rounding(cured: bool):
    pictures = (glyphs(64, 6, 8, noise=0.0, seed=4)[0].flatten(1) > 0).float()
    eps = 1e-6 if cured else 1e-10
    model = Net(
        lambda net, x: net.decode(net.encode(x)).sigmoid(), encode=mlp(64, 48, 12), decode=mlp(12, 48, 64)
    )
    optimizer = torch.optim.Adam(model.parameters(), 3e-2)

    def loop(probe, steps: int = 150) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            p = model(pictures)
            loss = -(pictures * (eps + p).log() + (1 - pictures) * (eps + 1 - p).log()).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return loss.item()

    return model, optimizer, loop, None, {}
