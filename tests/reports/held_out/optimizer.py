"""Optimizers and training loops: held-out half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import (
    Net,
    boxes,
    encoder,
    log,
    missed_modes,
    mixture,
    mlp,
    seeded,
    sentences,
    series,
)  # fmt: skip
from torch import Tensor, nn

BCE = F.binary_cross_entropy_with_logits


@report(
    "optimizer", "UG507", "UG301 UG102 UG307 UG401 UG605 UG304 UG502 UG501 UG504", form="probe", area="depth",
    action=r"decay",
    source="github.com/tinghuiz/SfMLearner/issues/34",
    cause="a large weight decay (0.05 there), taken over from a library that did not apply it: the networks go to zero",
)  # fmt: skip
def weight_decay_in_depth_network(cured: bool):
    x, mask, _ = boxes(16, seed=3)
    depth = 0.4 + F.avg_pool2d(mask, 3, 1, 1)
    layers = [
        nn.Conv2d(1, 12, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, 1, 1),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
    ]
    model = nn.Sequential(*layers, nn.Conv2d(24, 12, 3, 1, 1), nn.ReLU(), nn.Conv2d(12, 1, 3, 1, 1))
    decay = 5e-5 if cured else 0.3

    def make(parameters) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, 5e-3, weight_decay=decay)

    optimizer = make(model.parameters())

    def loop(probe, steps: int = 200) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            loss = F.l1_loss(model(x), depth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return loss.item()

    return model, optimizer, loop, (x, depth), {"loss": F.l1_loss, "steps": 20, "optimizer": make}


@report(
    "optimizer", "UG508 UG502", "UG504", form="probe", area="segmentation", action=r"schedul|learning rate",
    source="github.com/ScrollPrize/villa/pull/1495",
    cause="the scheduler steps once per batch and was given its horizon in epochs: after a few "
    "batches the rate is zero",
)  # fmt: skip
def cosine_horizon_in_epochs(cured: bool):
    x, mask, _ = boxes(16, seed=4)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.SiLU(), nn.Conv2d(12, 12, 5, padding=2), nn.SiLU(), nn.Conv2d(12, 1, 1)
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    horizon = 120 if cured else 8
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / horizon))

    def loop(probe, steps: int = 120) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            loss = BCE(model(x), mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            log(probe, loss)
        return loss.item()

    return model, optimizer, loop, (x, mask), {"loss": BCE}


@report(
    "optimizer", "UG508 UG502", "UG504", form="probe", area="time-series", few=40,
    action=r"schedul|learning rate|gamma",
    source="github.com/LINCellularNeuroscience/VAME/issues/26",
    cause="with the schedule turned off, StepLR still runs, with gamma 0: after its first step the rate is zero",
)  # fmt: skip
def step_schedule_with_gamma_zero(cured: bool):
    x = series(48, 16, 3)

    def run(net: Net, x: Tensor) -> Tensor:
        code = net.code(net.read(x)[1][0])
        return net.out(net.write(code[:, None].expand(-1, x.shape[1], -1))[0])

    model = Net(
        run, read=nn.GRU(3, 32, batch_first=True), code=nn.Linear(32, 8), write=nn.GRU(8, 32, batch_first=True),
        out=nn.Linear(32, 3),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 20, gamma=1.0 if cured else 0.0)

    def loop(probe, steps: int = 150) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            loss = F.mse_loss(model(x), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            log(probe, loss)
        return loss.item()

    return model, optimizer, loop, (x, x), {"loss": F.mse_loss}


@report(
    "optimizer", "UG701", "UG502 UG503 UG508", form="probe", area="gan", action=r"optimizer",
    source="github.com/line/open-universe/issues/5; zhaoyuzhi/deepfillv2/pull/3",
    cause="one discriminator's parameters are listed twice, the other's never: it stays as it was",
)  # fmt: skip
def second_discriminator_not_in_optimizer(cured: bool):
    def discriminator() -> nn.Module:
        return mlp(1, 48, 48, 1, act=lambda: nn.LeakyReLU(0.2))

    # each of the two sees one coordinate
    both = Net(
        lambda net, x: (net.first(x[:, :1]), net.second(x[:, 1:])),
        first=discriminator(),
        second=discriminator(),
    )
    generator = mlp(4, 48, 48, 2)
    of_generator = torch.optim.Adam(generator.parameters(), 2e-3, betas=(0.5, 0.99))
    held = [*both.first.parameters(), *(both.second.parameters() if cured else ())]
    optimizer = torch.optim.Adam(held, 2e-3, betas=(0.5, 0.99))
    g = seeded(6)

    def loop(probe, steps: int = 400) -> float:
        for step in range(steps):
            real = (
                mixture(128, step) * torch.tensor([0.4, 0.1]) + 1
            )  # off centre, and narrow in the second coordinate
            fake = generator(torch.randn(128, 4, generator=g))
            loss = sum(BCE(a, torch.ones_like(a)) for a in both(real))
            loss = loss + sum(BCE(a, torch.zeros_like(a)) for a in both(fake.detach()))
            both.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
            of_generator.zero_grad()
            sum(BCE(a, torch.ones_like(a)) for a in both(fake)).backward()
            of_generator.step()
        fake = generator(torch.randn(512, 4, generator=g)).detach()
        real = mixture(512, 1000)[:, 1] * 0.1 + 1
        return float((fake[:, 1].sort().values - real.sort().values).abs().mean())

    return both, optimizer, loop, None, {}


@report(
    "optimizer", "UG702", "UG502 UG508 UG506 UG701", form="probe", area="gan", action=r"step|optimizer",
    source="github.com/Lornatang/ESRGAN-PyTorch/issues/39",
    cause="after the discriminator's backward pass the generator's optimizer steps again: the discriminator never does",
)  # fmt: skip
def discriminator_step_calls_other_optimizer(cured: bool):
    generator, critic = mlp(4, 64, 64, 2), mlp(2, 64, 64, 1, act=lambda: nn.LeakyReLU(0.2))
    of_generator = torch.optim.Adam(generator.parameters(), 2e-3, betas=(0.5, 0.99))
    optimizer = torch.optim.Adam(critic.parameters(), 2e-3, betas=(0.5, 0.99))
    g = seeded(8)

    def loop(probe, steps: int = 700) -> float:
        for step in range(steps):
            fake = generator(torch.randn(128, 4, generator=g))
            of_generator.zero_grad()
            BCE(critic(fake), torch.ones(128, 1)).backward()
            of_generator.step()
            optimizer.zero_grad()
            loss = BCE(critic(mixture(128, step)), torch.ones(128, 1)) + BCE(
                critic(fake.detach()), torch.zeros(128, 1)
            )
            loss.backward()
            (optimizer if cured else of_generator).step()
            log(probe, loss)
        return missed_modes(generator(torch.randn(512, 4, generator=g)).detach())

    return critic, optimizer, loop, None, {}


@report(
    "optimizer", "UG704", "UG502", form="probe", area="mixed precision", action=r"unscale|clip",
    source="github.com/Lightning-AI/pytorch-lightning/issues/9330, 9694; victorchall/EveryDream2trainer/pull/175",
    cause="gradients are clipped while the loss scale is still in them: after unscaling next to nothing is left",
)  # fmt: skip
def clip_before_unscale(cured: bool):
    text, _, labels = sentences(96, 10, 20, 4, seed=2)
    model = Net(
        lambda net, text: net.head(net.encoder(net.embed(text) + net.places).mean(1)),
        embed=nn.Embedding(20, 32), places=nn.Parameter(torch.randn(10, 32) * 0.3), encoder=encoder(32, 1),
        head=nn.Linear(32, 4),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)

    def loop(probe, steps: int = 150) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            loss = F.cross_entropy(model(text), labels)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            if cured:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            log(probe, loss)
        return loss.item()

    return model, optimizer, loop, (text, labels), {"loss": F.cross_entropy}


@report(
    "optimizer", "UG501 UG504", "UG102 UG307 UG303 UG304 UG503 UG403 UG401", form="probe", area="transformer",
    action=r"warm|learning rate",
    source="github.com/LiyuanLucasLiu/Transformer-Clinic/issues/16; huggingface/transformers/issues/735",
    cause="a post-norm transformer gets its full rate from the first step: without warm-up it does not converge",
)  # fmt: skip
def post_norm_without_warmup(cured: bool):
    text, _, labels = sentences(48, 8, 16, 4, seed=3)
    model = Net(
        lambda net, text: net.head(net.encoder(net.embed(text) + net.places)[:, 0]),
        embed=nn.Embedding(16, 48), places=nn.Parameter(torch.randn(8, 48) * 0.3),
        encoder=encoder(48, 8, norm_first=False), head=nn.Linear(48, 4),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, betas=(0.9, 0.98))
    warm = 40 if cured else 1
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, 1) * min(1, (40 / (step + 1)) ** 0.5)
    )  # fmt: skip

    def loop(probe, steps: int = 80) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            loss = F.cross_entropy(model(text), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            log(probe, loss)
        return loss.item()

    return model, optimizer, loop, (text, labels), {"loss": F.cross_entropy}
