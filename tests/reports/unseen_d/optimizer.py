"""Optimizers and training loops: third collection, half D."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from registry import report
from samples import clusters, houses, log, mlp, scored, sgd
from torch import Tensor, nn


@report(
    "optimizer", "UG501 UG504", "UG104 UG405 UG306 UG402 UG404 UG109", area="mlp",
    action=r"learning rate|mean|sum|divide", steps=60,
    source="github.com/jax-ml/jax/pull/3113; peterroelants/peterroelants.github.io/issues/5",
    cause="the loss is the sum over the batch, not its mean: steps grow with the batch, and training diverges",
)  # fmt: skip
def loss_summed_over_the_batch(cured: bool):
    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(out, y, reduction="mean" if cured else "sum")

    x, y = houses(256, 8, seed=61)
    kwargs = {"loss": loss, "steps": 20, "optimizer": sgd(0.05, 0.0)}
    return mlp(8, 48, 1), (x, y), kwargs, scored(lambda out: F.mse_loss(out, y), x)


@report(
    "optimizer", "UG501 UG504", "UG104 UG405 UG306 UG304 UG402", form="probe", area="speech",
    action=r"learning rate|divide|accumulat", few=6,
    source="github.com/paiml/aprender/pull/2123; hirofumi0810/neural_sp/issues/168; fastai/fastai/issues/3023",
    cause="gradients of 32 parts are added up and not divided by 32: the rate is 32 times what was meant",
)  # fmt: skip
def accumulated_and_not_divided(cured: bool):
    x, labels = clusters(256, 16, 8, 0.9, seed=62)
    model = mlp(16, 48, 48, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.2, momentum=0.9)

    def loop(probe, steps: int = 60) -> float:
        for _ in range(steps):
            optimizer.zero_grad()
            for part in range(32):
                chosen = slice(8 * part, 8 * part + 8)
                loss = F.cross_entropy(model(x[chosen]), labels[chosen])
                (loss / 32 if cured else loss).backward()
            optimizer.step()
            log(probe, loss)
        return scored(lambda out: F.cross_entropy(out, labels), x)(model)

    return model, optimizer, loop, (x, labels), {"loss": F.cross_entropy}


@report(
    "optimizer", form="probe", area="reinforcement learning", action=r"target network|copy|update", boundary=True,
    no_rule="the target network is copied once and never again: values beyond one step are not learnt",
    says=r"target network|never (copied|updated)", few=90,
    source="github.com/higgsfield-ai/higgsfield/issues/14",
    cause="the target network is set before training and never updated: only rewards of one step are learnt",
)  # fmt: skip
def target_network_never_updated(cured: bool):
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
    aim = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    state = torch.eye(8) * 2.5
    reward = torch.zeros(8, 1)
    reward[6] = 1
    truth = 0.8 ** (6 - torch.arange(8.0))[:, None] * (torch.arange(8) < 7)[:, None]

    def loop(probe, steps: int = 300) -> float:
        for step in range(steps):
            after = torch.cat([aim(state)[1:], torch.zeros(1, 1)])
            after[6:] = 0
            loss = F.mse_loss(model(state), reward + 0.8 * after)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
            if cured and step % 30 == 29:
                aim.load_state_dict(model.state_dict())
        with torch.no_grad():
            return float((model(state) - truth).abs().mean())

    return model, optimizer, loop, None, {}
