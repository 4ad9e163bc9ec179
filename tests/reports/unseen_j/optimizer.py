"""Optimizers and loops: tenth unseen half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import chains, clusters, log, mlp, seeded, wrong_on
from torch import Tensor, nn


@report(
    "optimizer", "UG501 UG504", "UG304 UG302 UG104 UG306 UG402 UG405", form="probe", area="language model",
    action=r"divid|accumulat|rate|mean", source="github.com/agokrani/distillKitPlus/issues/5",
    cause="losses of 16 micro-batches are summed, not averaged: steps are 16 times as large as the rate was meant for",
)  # fmt: skip
def accumulated_without_dividing(cured: bool):
    text = chains(64, 12, 20, 0.05, seed=1)
    model = nn.Sequential(nn.Embedding(20, 24), nn.Flatten(), nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 20))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4, momentum=0.9)
    accumulate = 16
    pairs, following = text.unfold(1, 2, 1)[:, :-1].reshape(-1, 2), text[:, 2:].reshape(-1)
    g = seeded(2)

    def loop(probe, steps: int = 120) -> float:
        for _ in range(steps):
            total = 0.0
            for _ in range(accumulate):
                part = torch.randint(0, len(pairs), (8,), generator=g)
                loss = F.cross_entropy(model(pairs[part]), following[part])
                if cured:
                    loss = loss / accumulate
                loss.backward()
                total += float(loss) * (accumulate if cured else 1) / accumulate
            optimizer.step()
            optimizer.zero_grad()
            if probe is not None:
                probe.log(loss=total)
        return wrong_on(pairs, following)(model)

    return model, optimizer, loop, (pairs[:8], following[:8]), {"loss": F.cross_entropy}


@report(
    "optimizer", "UG502 UG508", "UG510", form="probe", area="genomics", few=60,
    action=r"mode|scheduler|plateau|rate",
    source="github.com/FunctionLab/selene/issues/115",
    cause="ReduceLROnPlateau in mode 'max' watches a loss: each time that it falls is a plateau, and the rate vanishes",
)  # fmt: skip
def plateau_waits_for_growth(cured: bool):
    g = seeded(3)
    bases = torch.randint(0, 4, (256, 20), generator=g)
    x = F.one_hot(bases, 4).float().transpose(1, 2)
    found = ((bases[:, :-1] == 1) & (bases[:, 1:] == 2)).any(1).float()
    layers = [
        nn.Conv1d(4, 24, 3),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(24, 1),
        nn.Flatten(0),
    ]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="min" if cured else "max", patience=2, factor=0.2
    )
    criterion = nn.BCEWithLogitsLoss()

    def loop(probe, steps: int = 400) -> float:
        epoch = []
        for i in range(steps):
            part = torch.randint(0, 256, (64,), generator=g)
            loss = criterion(model(x[part]), found[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
            epoch.append(float(loss))
            if i % 10 == 9:
                scheduler.step(sum(epoch) / len(epoch))
                epoch = []
        return float(criterion(model(x), found))

    return model, optimizer, loop, (x[:64], found[:64]), {"loss": criterion}


@report(
    "optimizer", "UG509", "UG113 UG502", form="probe", area="wake words", action=r"zero_grad|clear|accumulat",
    source="github.com/dscripka/openWakeWord/issues/316",
    cause="zero_grad comes in every iteration, the step only after 128 hard examples: all but the last part is lost",
)  # fmt: skip
def cleared_before_enough_examples(cured: bool):
    x, kind = clusters(512, 16, 2, 1.6, seed=4)
    x = x + 0.5 * (2 * kind[:, None] - 1)
    order = torch.cat([torch.arange(512)[kind == 1], torch.arange(512)[kind == 0]])
    x, kind = x[order], kind[order].float()
    loader = [(x[i::16], kind[i::16]) for i in range(16)]  # positives first in every batch
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid(), nn.Flatten(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)

    def loop(probe, steps: int = 100) -> float:
        accumulated = 0
        done = 0
        while done < steps:
            for inputs, wanted in loader:
                for half in (slice(0, 16), slice(16, 32)):  # a clip's positives, then its negatives
                    if not cured:
                        optimizer.zero_grad()
                    loss = F.binary_cross_entropy(model(inputs[half]), wanted[half]) / 8
                    loss.backward()
                    accumulated += len(inputs[half])
                    log(probe, loss)
                if accumulated >= 128 and done < steps:
                    optimizer.step()
                    optimizer.zero_grad()
                    accumulated, done = 0, done + 1
        return float(((model(x) > 0.5).float() != kind).float().mean())

    return model, optimizer, loop, loader[0], {"loss": F.binary_cross_entropy}


class TextEncoder(nn.Module):
    def __init__(self, words: int = 40):
        super().__init__()
        self.token_embedding = nn.Embedding(words, 16)
        self.project = mlp(16, 32, 8).requires_grad_(False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.project(self.token_embedding(ids)).mean(1)


@report(
    "optimizer", "UG507", "UG403", form="probe", area="textual inversion", action=r"decay",
    source="github.com/huggingface/diffusers/issues/1176",
    cause="gradients of all words but the new one are set to zero, and AdamW's decay shrinks those words all the same",
)  # fmt: skip
def decay_on_frozen_embeddings(cured: bool):
    encoder = TextEncoder()
    before = encoder.token_embedding.weight.detach().clone()
    g = seeded(5)
    wanted = torch.randn(8, generator=g) * 0.3
    decay = 0.0 if cured else 1e-2
    optimizer = torch.optim.AdamW(encoder.token_embedding.parameters(), lr=0.5, weight_decay=decay)

    def loop(probe, steps: int = 300) -> float:
        for _ in range(steps):
            ids = torch.randint(0, 39, (16, 4), generator=g)
            ids[:, 0] = 39  # the new word
            loss = F.mse_loss(encoder(ids), wanted.expand(16, 8))
            optimizer.zero_grad()
            loss.backward()
            weight = encoder.token_embedding.weight
            assert weight.grad is not None
            weight.grad[:39] = 0
            optimizer.step()
            log(probe, loss)
        return float((encoder.token_embedding.weight[:39] - before[:39]).norm() / before[:39].norm())

    return encoder, optimizer, loop, None, {}
