"""Optimizers and training loops: third collection, half C."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, clusters, log, mlp, scored, seeded, series
from torch import Tensor, nn


@report(
    "optimizer", "", "UG501 UG504 UG402 UG104 UG405 UG306 UG303 UG704", form="probe", area="graphs over time",
    action=r"clip|before", few=20,
    no_rule="gradients are clipped after the step: what is clipped is cleared before it is used", says=r"clip",
    source="github.com/VGraphRNN/VGRNN/issues/4; awslabs/graphstorm/issues/1366; jongwook/onsets-and-frames/issues/24",
    cause="clip_grad_norm_ stands after optimizer.step(): the step has used the gradients as they were",
)  # fmt: skip
def clipped_after_the_step(cured: bool):
    x = series(48, 30, 2, seed=63)
    model = Net(
        lambda net, x: net.head(net.rnn(x)[0]), rnn=nn.RNN(2, 32, batch_first=True), head=nn.Linear(32, 2)
    )
    optimizer = torch.optim.SGD(model.parameters(), 3.0, momentum=0.9)

    def loop(probe, steps: int = 120) -> float:
        for _ in range(steps):
            loss = F.mse_loss(model(x[:, :-1]), x[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            if cured:
                nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()
            if not cured:
                nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            log(probe, loss)
        return scored(lambda out: F.mse_loss(out, x[:, 1:]), x[:, :-1])(model)

    return model, optimizer, loop, (x[:, :-1], x[:, 1:]), {"loss": F.mse_loss}


@report(
    "optimizer", "UG502 UG508", form="probe", area="language and pictures", action=r"learning rate|schedul|warm",
    source="github.com/Vision-CAIR/MiniGPT-4/pull/263",
    cause="the warm-up counts the steps of an epoch, not all of them: the rate falls back to its start every epoch",
)  # fmt: skip
def warm_up_starts_again_every_epoch(cured: bool):
    x, labels = clusters(160, 12, 6, 0.7, seed=64)
    model = mlp(12, 48, 6)
    optimizer = torch.optim.AdamW(model.parameters(), 0.0)

    def loop(probe, steps: int = 150) -> float:
        for step in range(steps):
            counted = step if cured else step % 5
            optimizer.param_groups[0]["lr"] = 1e-7 + (5e-3 - 1e-7) * min(1.0, (counted / 50) ** 3)
            part = slice(32 * (step % 5), 32 * (step % 5) + 32)
            loss = F.cross_entropy(model(x[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return scored(lambda out: F.cross_entropy(out, labels), x)(model)

    return model, optimizer, loop, (x, labels), {"loss": F.cross_entropy}


class Similar(nn.Module):
    """Embeddings, their cosines to class centres, and a scale and a shift for them."""

    def __init__(self, cured: bool):
        super().__init__()
        self.embed, self.centres = mlp(12, 48, 8), nn.Parameter(torch.randn(6, 8, generator=seeded(65)))
        double = torch.tensor([2.0, 0.0], dtype=torch.float64)
        self.scale = nn.Parameter(double.float()) if cured else nn.Parameter(double).float()

    def forward(self, x: Tensor) -> Tensor:
        alike = F.normalize(self.embed(x), dim=1) @ F.normalize(self.centres, dim=1).T
        return alike * self.scale[0] + self.scale[1]


@report(
    "optimizer", "UG801", area="speaker verification", action=r"Parameter|regist|leaf|optimizer", steps=250, rate=1e-2,
    source="github.com/CorentinJ/Real-Time-Voice-Cloning/issues/237",
    cause="nn.Parameter(...).to(...) is no parameter but a tensor made from one: the similarity's scale is not trained",
)  # fmt: skip
def parameter_converted_after_it_was_made(cured: bool):
    x, labels = clusters(192, 12, 6, 0.5, seed=66)
    score = scored(lambda out: F.cross_entropy(out, labels), x)
    return Similar(cured), (x, labels), {"loss": F.cross_entropy}, score
