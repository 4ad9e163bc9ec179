"""Optimizers and training loops: development half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import (
    Net,
    boxes,
    clusters,
    convnet,
    glyphs,
    log,
    missed_modes,
    mixture,
    mlp,
    seeded,
    sentences,
    wrong_on,
)  # fmt: skip
from torch import nn

BCE = F.binary_cross_entropy_with_logits


def generator_and_discriminator() -> tuple[nn.Module, nn.Module]:
    return mlp(4, 64, 64, 2), mlp(2, 64, 64, 1, act=lambda: nn.LeakyReLU(0.2))


@report(
    "optimizer", "UG506", "UG504 UG501 UG303 UG503 UG402 UG304", form="probe", area="gan", action=r"zero_grad",
    source="github.com/opendp/smartnoise-sdk/issues/280; Hsintien-Ng/idinvert_pytorch-reproduced/issues/1; "
    "ajbrock/BigGAN-PyTorch/issues/25",
    cause="the discriminator's gradients are never cleared, those of the generator's passes through it included",
)  # fmt: skip
def discriminator_never_cleared(cured: bool):
    generator, critic = generator_and_discriminator()
    of_generator = torch.optim.Adam(generator.parameters(), 2e-3, betas=(0.5, 0.99))
    optimizer = torch.optim.Adam(critic.parameters(), 2e-3, betas=(0.5, 0.99))
    g = seeded(5)

    def loop(probe, steps: int = 400) -> float:
        for step in range(steps):
            real, fake = mixture(128, step), generator(torch.randn(128, 4, generator=g))
            loss = BCE(critic(real), torch.ones(128, 1)) + BCE(critic(fake.detach()), torch.zeros(128, 1))
            if cured:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
            of_generator.zero_grad()
            BCE(critic(fake), torch.ones(128, 1)).backward()
            of_generator.step()
        return missed_modes(generator(torch.randn(512, 4, generator=g)).detach())

    return critic, optimizer, loop, None, {}


@report(
    "optimizer", "UG506", "UG504 UG501 UG303 UG503 UG402 UG304", form="probe", area="detection", action=r"zero_grad",
    source="github.com/xingyizhou/CenterNet/issues/928; snakers4/silero-vad/pull/699",
    cause="backward and step without zero_grad: each step uses the sum of all gradients so far",
)  # fmt: skip
def detector_never_cleared(cured: bool):
    x, _, box = boxes(24)
    row, column = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    middle = box[:, :2] + box[:, 2:] / 2 - 0.5
    square = (column - middle[:, 0, None, None]).square() + (row - middle[:, 1, None, None]).square()
    heat = (-square / 4).exp()[:, None]
    model = nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 1, 1)
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)

    def loop(probe, steps: int = 100) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            loss = BCE(model(x), heat)
            if cured:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return loss.item()

    kwargs = {"loss": BCE, "steps": 20, "optimizer": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9)}
    return model, optimizer, loop, (x, heat), kwargs


class AdamWithFixedDecay(torch.optim.Adam):
    """Adam, and after each step all weights shrink by a share that does not depend on the rate."""

    def __init__(self, parameters, lr: float, shrink: float):
        super().__init__(parameters, lr)
        self.shrink = shrink

    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.mul_(1 - self.shrink)
        return loss


@report(
    "optimizer", "UG507", "UG301 UG102 UG307 UG401 UG605 UG304 UG502 UG501 UG504", form="probe", area="rnn",
    action=r"decay",
    source="github.com/deeplearning4j/deeplearning4j/issues/7076",
    cause="the decay is a step of its own, apart from the learning rate: when the schedule lowers the rate, it wins",
)  # fmt: skip
def decay_apart_from_the_rate(cured: bool):
    text, _, labels = sentences(160, 8, 20, 4)
    model = Net(
        lambda net, text: net.head(net.rnn(net.embed(text))[0].mean(1)),
        embed=nn.Embedding(20, 16), rnn=nn.GRU(16, 24, batch_first=True), head=nn.Linear(24, 4),
    )  # fmt: skip
    optimizer = AdamWithFixedDecay(model.parameters(), 1e-2, 1e-5 if cured else 0.03)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)

    def loop(probe, steps: int = 200) -> float:
        for _ in range(steps):
            loss = F.cross_entropy(model(text), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            log(probe, loss)
        return wrong_on(text, labels)(model)

    return model, optimizer, loop, (text, labels), {"loss": F.cross_entropy}


@report(
    "optimizer", "UG701", "UG502 UG503 UG508", form="probe", area="pruning", action=r"optimizer",
    source="github.com/microsoft/nni/issues/4521",
    cause="pruning puts smaller layers in place of the old ones, and the optimizer still holds the old ones' weights",
)  # fmt: skip
def stale_optimizer_after_pruning(cured: bool):
    x, labels = glyphs(64, 8, noise=0.6)
    model = convnet(1, 8, 16)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    model[0], model[1] = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
    model[3], model[4] = nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
    model[6] = nn.Conv2d(16, 32, 3, 2, 1, bias=False)
    if cured:
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def loop(probe, steps: int = 100) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            loss = F.cross_entropy(model(x), labels)
            model.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return loss.item()

    return model, optimizer, loop, (x, labels), {"loss": F.cross_entropy}


@report(
    "optimizer", "UG702", "UG502 UG508", form="probe", area="pose", action=r"optimizer\.step|step",
    source="github.com/ClementPinard/SfmLearner-Pytorch/issues/5; pytorch/pytorch/issues/3814",
    cause="with a scheduler, the loop calls scheduler.step() in place of optimizer.step(): weights never change",
)  # fmt: skip
def scheduler_in_place_of_optimizer(cured: bool):
    x, _, box = boxes(32)
    target = (box - box.mean(0)) / box.std(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.ELU(), nn.Flatten(), nn.Linear(512, 32), nn.ELU(), nn.Linear(32, 4)
    )
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 100, 0.5)

    def loop(probe, steps: int = 150) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            loss = F.smooth_l1_loss(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            if cured:
                optimizer.step()
            schedule.step()
            log(probe, loss)
        return loss.item()

    return model, optimizer, loop, (x, target), {"loss": F.smooth_l1_loss}


@report(
    "optimizer", "UG704", "UG502", form="probe", area="super-resolution", action=r"clip",
    source="github.com/twtygqyy/pytorch-vdsr/issues/2",
    cause="gradients are clipped to a norm of 0.0001: every step is made tiny, and training hardly moves",
)  # fmt: skip
def clip_at_a_ten_thousandth(cured: bool):
    sharp = glyphs(32, 4, noise=0.05)[0]
    blurred = F.interpolate(F.avg_pool2d(sharp, 2), scale_factor=2, mode="bilinear")
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    model = Net(lambda net, x: x + net.body(x), body=nn.Sequential(*layers, nn.Conv2d(16, 1, 3, padding=1)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def loop(probe, steps: int = 100) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            loss = F.mse_loss(model(blurred), sharp)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.4 if cured else 1e-4)
            optimizer.step()
            log(probe, loss)
        return loss.item()

    return model, optimizer, loop, (blurred, sharp), {"loss": F.mse_loss}


@report(
    "optimizer", "UG403", "UG502 UG508 UG702 UG701", form="probe", area="gan", action=r"detach",
    source="github.com/nikhilsinghmus/image2reverb/issues/37; wangle53/CSA-CDGAN/issues/5",
    cause="the generator's loss is taken of fake.detach(): nothing comes back to the generator",
)  # fmt: skip
def generator_step_on_detached_fake(cured: bool):
    generator, critic = generator_and_discriminator()
    optimizer = torch.optim.Adam(generator.parameters(), 2e-3, betas=(0.5, 0.99))
    of_critic = torch.optim.Adam(critic.parameters(), 2e-3, betas=(0.5, 0.99))
    g = seeded(5)

    def loop(probe, steps: int = 400) -> float:
        for step in range(steps):
            real, fake = mixture(128, step), generator(torch.randn(128, 4, generator=g))
            of_critic.zero_grad()
            (
                BCE(critic(real), torch.ones(128, 1)) + BCE(critic(fake.detach()), torch.zeros(128, 1))
            ).backward()
            of_critic.step()
            loss = BCE(critic(fake if cured else fake.detach()), torch.ones(128, 1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return missed_modes(generator(torch.randn(512, 4, generator=g)).detach())

    return generator, optimizer, loop, None, {}


@report(
    "optimizer", form="probe", area="rl", action=r"detach",
    no_rule="the value in the policy's loss is not detached: the policy's loss trains the critic", says=r"detach",
    source="github.com/astariul/encode-attend-navigate-pytorch/pull/3; keras-team/keras-io/issues/194",
    cause="the critic gets gradients from the policy's loss as well as from its own: training is unstable",
)  # fmt: skip
def critic_trained_by_policy_loss(cured: bool):
    state, best = clusters(256, 8, 4, 0.8, seed=9)
    model = Net(
        lambda net, s: (net.actor(s), net.critic(s)[:, 0]), actor=mlp(8, 32, 4, act=nn.Tanh),
        critic=mlp(8, 32, 1, act=nn.Tanh),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    g = seeded(2)

    def loop(probe, steps: int = 250) -> float:
        for _ in range(steps):
            logits, value = model(state)
            action = torch.multinomial(logits.softmax(1).detach(), 1, generator=g)[:, 0]
            reward = (action == best).float() + 0.5 * torch.randn(256, generator=g)
            advantage = reward - (value.detach() if cured else value)
            chosen = logits.log_softmax(1)[torch.arange(256), action]
            entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
            loss = -(advantage * chosen).mean() + F.mse_loss(value, reward) - 0.3 * entropy
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        with torch.no_grad():
            logits, value = model(state)
            expected = logits.softmax(1)[torch.arange(256), best]
            return F.mse_loss(value, expected).item()

    return model, optimizer, loop, None, {}
