"""Optimizers and training loops: fourth collection, half E."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import boxes, clusters, descend, houses, log, missed_modes, mixture, mlp, scored, seeded
from torch import nn


@report(
    "optimizer", "UG501 UG504", "UG104 UG306 UG405 UG302 UG304 UG114 UG402", form="probe", area="detection",
    action=r"rate|lr",
    source="github.com/facebookresearch/maskrcnn-benchmark/issues/295",
    cause="the rate is the one for eight devices and batches of 16, and training runs on one with batches of two",
)  # fmt: skip
def rate_of_eight_devices_on_one(cured: bool):
    x, mask, _ = boxes(64, seed=1)
    layers = [nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(16, 1, 5, padding=2))
    optimizer = torch.optim.SGD(model.parameters(), 0.4 / (8 if cured else 1), momentum=0.9)

    def loop(probe, steps: int = 120) -> float:
        for step in range(steps):
            part = slice(2 * (step % 32), 2 * (step % 32) + 2)
            loss = F.mse_loss(model(x[part]), mask[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return scored(lambda out: F.mse_loss(out, mask), x)(model)

    return model, optimizer, loop, (x[:2], mask[:2]), {"loss": F.mse_loss}


@report(
    "optimizer", "UG502", "UG510 UG110 UG114", form="probe", area="brain signals", action=r"rate|lr|schedul",
    source="github.com/SPOClab-ca/dn3/issues/6",
    cause="adding a scheduler silently sets the rate to 0.001, whatever was given",
)  # fmt: skip
def scheduler_starts_from_the_standard_rate(cured: bool):
    x, labels = clusters(192, 16, 6, 0.8, seed=2)
    model = mlp(16, 48, 6)
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    if not cured:
        optimizer.param_groups[0]["lr"] = 0.001
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)

    def loop(probe, steps: int = 150) -> float:
        return descend(
            probe,
            optimizer,
            steps,
            lambda step: (step and schedule.step(), F.cross_entropy(model(x), labels))[1],
        )

    return model, optimizer, loop, (x, labels), {"loss": F.cross_entropy}


@report(
    "optimizer", "UG506", "UG504 UG501 UG303 UG503 UG402 UG304", form="probe", area="gan", action=r"zero_grad|clear",
    source="github.com/Adversarial-Deep-Learning/code-soup/issues/69",
    cause="the discriminator's gradients are never cleared: its steps add up all it was ever told, the generator's too",
)  # fmt: skip
def critic_keeps_what_the_generator_left(cured: bool):
    generator, critic = mlp(4, 32, 32, 2), mlp(2, 48, 48, 1, act=lambda: nn.LeakyReLU(0.2))
    made = torch.optim.Adam(generator.parameters(), 2e-3, betas=(0.5, 0.99))
    optimizer = torch.optim.Adam(critic.parameters(), 2e-3, betas=(0.5, 0.99))
    g = seeded(3)

    def loop(probe, steps: int = 500) -> float:
        one, none = torch.ones(128, 1), torch.zeros(128, 1)
        for step in range(steps):
            fake = generator(torch.randn(128, 4, generator=g))
            if cured:
                optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(critic(mixture(128, step)), one)
            loss = loss + F.binary_cross_entropy_with_logits(critic(fake.detach()), none)
            loss.backward()
            optimizer.step()
            log(probe, loss)
            made.zero_grad()
            F.binary_cross_entropy_with_logits(critic(fake), one).backward()
            made.step()
        with torch.no_grad():
            return missed_modes(generator(torch.randn(512, 4, generator=seeded(4))))

    return critic, optimizer, loop, None, {}


@report(
    "optimizer", "UG501 UG302 UG605", "UG504 UG304 UG104 UG306 UG405 UG402 UG114 UG102", form="probe", area="mlp",
    action=r"rate|lr|initiali|scale|gain",
    source="github.com/MichalDanielDobrzanski/DeepLearningPython/issues/13",
    cause="sigmoids were replaced by ReLUs, and their rate of three and their unit weights were left: all units die",
)  # fmt: skip
def rectifiers_at_the_rate_of_sigmoids(cured: bool):
    x, y = houses(192, 8, seed=5)
    model = mlp(8, 30, 30, 1)
    for i, layer in enumerate(model):
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.2 if cured else 1.0, generator=seeded(i))
    optimizer = torch.optim.SGD(model.parameters(), 0.03 if cured else 3.0)

    def loop(probe, steps: int = 150) -> float:
        descend(probe, optimizer, steps, lambda step: F.mse_loss(model(x), y))
        return scored(lambda out: F.mse_loss(out, y), x)(model)

    return model, optimizer, loop, (x, y), {"loss": F.mse_loss}


@report(
    "optimizer", "UG509", "UG502 UG508", form="probe", area="fine-tuning", action=r"zero_grad|clear|accumul", few=24,
    source="github.com/huggingface/accelerate/issues/616; dscripka/openWakeWord/issues/316",
    cause="zero_grad stands at the top of the loop over micro-batches: of eight only the last one's gradient is used",
)  # fmt: skip
def cleared_at_the_top_of_the_accumulation(cured: bool):
    x, labels = clusters(256, 12, 6, 0.8, seed=6)
    model = mlp(12, 48, 6)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)

    def loop(probe, steps: int = 320) -> float:
        for step in range(steps):
            if not cured:
                optimizer.zero_grad()
            part = slice(16 * (step % 16), 16 * (step % 16) + 16)
            loss = F.cross_entropy(model(x[part]), labels[part]) / 8
            loss.backward()
            if step % 8 == 7:
                optimizer.step()
                log(probe, 8 * loss.detach())
                if cured:
                    optimizer.zero_grad()
        return scored(lambda out: F.cross_entropy(out, labels), x)(model)

    return model, optimizer, loop, (x[:64], labels[:64]), {"loss": F.cross_entropy}
