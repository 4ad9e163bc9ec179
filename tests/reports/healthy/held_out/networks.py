"""Healthy trainings: networks that look suspicious and are right. Held-out half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import healthy
from samples import (
    Net,
    adam,
    chains,
    clusters,
    convnet,
    descend,
    encoder,
    glyphs,
    log,
    missed_modes,
    mixture,
    mlp,
    seeded,
    wrong_on,
)  # fmt: skip
from torch import Tensor, nn

BCE = F.binary_cross_entropy_with_logits


@healthy("cnn", steps=60)
def zero_initialized_head():
    x, labels = glyphs(96, 6)
    model = convnet(1, 6, 12)
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    return (
        model,
        (x, labels),
        {"loss": F.cross_entropy, "steps": 20, "optimizer": adam(2e-3)},
        wrong_on(x, labels),
    )


@healthy("fine-tuning", form="probe")
def frozen_backbone():
    """A trained body is frozen and kept in evaluation mode; only a new head is trained."""
    x, labels = glyphs(128, 6, seed=1)
    body, old = convnet(1, 6, 12)[:-1], nn.Linear(24, 3)
    first = torch.optim.Adam([*body.parameters(), *old.parameters()], 3e-3)
    descend(None, first, 60, lambda step: F.cross_entropy(old(body(x)), labels % 3))
    model = Net(
        lambda net, x: net.head(net.body(x)), body=body.requires_grad_(False).eval(), head=nn.Linear(24, 6)
    )
    optimizer = torch.optim.Adam(model.head.parameters(), 1e-2)

    def loop(probe, steps: int = 100) -> float:
        return descend(probe, optimizer, steps, lambda step: F.cross_entropy(model(x), labels))

    return model, optimizer, loop, None, {}


@healthy("gan", form="probe")
def gan_with_two_optimizers():
    """The usual order: what the generator's pass leaves in the discriminator is cleared before its next step."""
    generator, critic = mlp(4, 64, 64, 2), mlp(2, 64, 64, 1, act=lambda: nn.LeakyReLU(0.2))
    of_generator, optimizer = (
        torch.optim.Adam(m.parameters(), 2e-3, betas=(0.5, 0.99)) for m in (generator, critic)
    )
    g = seeded(5)

    def loop(probe, steps: int = 400) -> float:
        for step in range(steps):
            real, fake = mixture(128, step), generator(torch.randn(128, 4, generator=g))
            loss = BCE(critic(real), torch.ones(128, 1)) + BCE(critic(fake.detach()), torch.zeros(128, 1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
            of_generator.zero_grad()
            BCE(critic(fake), torch.ones(128, 1)).backward()
            of_generator.step()
        return missed_modes(generator(torch.randn(512, 4, generator=g)).detach())

    return critic, optimizer, loop, None, {}


@healthy("language model", steps=120, rate=5e-3)
def tied_word_embeddings():
    text = chains(48, 13, 20)

    def run(net: Net, text: Tensor) -> Tensor:
        h = net.rnn(net.embed(text) * 5)[0]
        return (net.back(h) @ net.embed.weight.T).transpose(1, 2)

    model = Net(run, embed=nn.Embedding(20, 32), rnn=nn.GRU(32, 48, batch_first=True), back=nn.Linear(48, 32))
    nn.init.normal_(model.embed.weight, std=0.2)
    return model, (text[:, :-1], text[:, 1:]), {"loss": F.cross_entropy, "steps": 20, "optimizer": adam(5e-3)}


@healthy("semi-supervised", form="probe")
def averaged_teacher():
    """Mean teacher: a copy follows by a moving average and gives soft targets."""
    x, labels = clusters(256, 16, 5, 0.8, seed=2)
    model, teacher = mlp(16, 64, 5), mlp(16, 64, 5).requires_grad_(False)
    teacher.load_state_dict(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    g = seeded(3)

    def loop(probe, steps: int = 120) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            noisy = x + 0.2 * torch.randn(x.shape, generator=g)
            out = model(noisy)
            loss = F.cross_entropy(out[:40], labels[:40]) + F.mse_loss(out.softmax(1), teacher(x).softmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(teacher.parameters(), model.parameters(), strict=True):
                    slow.lerp_(fast, 0.05)
            log(probe, loss)
        return wrong_on(x, labels)(teacher)

    return model, optimizer, loop, None, {}


@healthy("rl", form="probe")
def policy_gradient():
    """REINFORCE with a baseline: the loss is about zero, negative as often as not, and says nothing of the reward."""
    state, best = clusters(256, 8, 4, 0.8, seed=4)
    model = mlp(8, 32, 4, act=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    g = seeded(5)

    def loop(probe, steps: int = 150) -> float:
        for _ in range(steps):
            log_p = model(state).log_softmax(1)
            action = torch.multinomial(log_p.exp().detach(), 1, generator=g)[:, 0]
            reward = (action == best).float() + 0.2 * torch.randn(256, generator=g)
            advantage = (reward - reward.mean()) / (reward.std() + 1e-6)
            loss = -(advantage * log_p[torch.arange(256), action]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return wrong_on(state, best)(model)

    return model, optimizer, loop, None, {}


@healthy("rl", form="probe")
def q_learning():
    """DQN with a target network: the loss rises when the target is renewed, and that is as it should be."""
    places = 12
    model, target = mlp(places, 48, 2), mlp(places, 48, 2)
    target.load_state_dict(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    g = seeded(6)

    def loop(probe, steps: int = 300) -> float:
        for step in range(steps):
            place, action = (
                torch.randint(0, places, (64,), generator=g),
                torch.randint(0, 2, (64,), generator=g),
            )
            after = (place + 2 * action - 1).clamp(0, places - 1)
            reward = (after == places - 1).float()
            with torch.no_grad():
                goal = reward + 0.8 * (1 - reward) * target(F.one_hot(after, places).float()).amax(1)
            value = model(F.one_hot(place, places).float())[torch.arange(64), action]
            loss = F.smooth_l1_loss(value, goal)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            if step % 30 == 29:
                target.load_state_dict(model.state_dict())
            log(probe, loss)
        value = model(torch.eye(places)).amax(1)
        truth = 0.8 ** torch.arange(places - 2, -2, -1).clamp(min=0).float()
        return (value - truth).abs().mean().item()

    return model, optimizer, loop, None, {}


@healthy("physics", form="probe")
def physics_informed():
    model = mlp(1, 32, 32, 1, act=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    inside = torch.linspace(-1, 1, 64)[:, None].requires_grad_()
    edge = torch.tensor([[-1.0], [1.0]])
    truth = torch.sin(3.1416 * torch.linspace(-1, 1, 64))[:, None]

    def loop(probe, steps: int = 300) -> float:
        for _ in range(steps):
            u = model(inside)
            first = torch.autograd.grad(u.sum(), inside, create_graph=True)[0]
            second = torch.autograd.grad(first.sum(), inside, create_graph=True)[0]
            loss = (second / 9.87 + truth).square().mean() + model(edge).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return (model(inside) - truth).square().mean().item()

    return model, optimizer, loop, None, {}


@healthy("cnn", form="probe")
def batch_norm_after_few_steps():
    """After fifteen steps the running statistics have not caught up: evaluation differs, and will not for long."""
    x, labels = glyphs(128, 6, seed=2)
    model = convnet(1, 6, 12)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def loss_at(step: int) -> Tensor:
        part = slice(step * 32 % 128, step * 32 % 128 + 32)
        return F.cross_entropy(model(x[part]), labels[part])

    return (
        model,
        optimizer,
        lambda probe, steps=15: descend(probe, optimizer, steps, loss_at),
        (x, labels),
        {"loss": F.cross_entropy},
    )


@healthy("mlp", form="probe")
def dropout_of_a_half():
    """Training loss above evaluation loss, and noisy."""
    x, labels = clusters(256, 16, 6, 0.8, seed=8)
    model = nn.Sequential(
        nn.Linear(16, 96),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(96, 96),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(96, 6),
    )
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)

    def loop(probe, steps: int = 150) -> float:
        descend(probe, optimizer, steps, lambda step: F.cross_entropy(model(x), labels))
        return wrong_on(x, labels)(model)

    return model, optimizer, loop, (x, labels), {"loss": F.cross_entropy}


class Residual(nn.Module):
    """Two convolutions with BatchNorm beside a shortcut; the last gain starts at zero; may be left out at random."""

    def __init__(self, width: int, dropped: float = 0.0):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        nn.init.zeros_(self.body[-1].weight)
        self.dropped = dropped

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.rand(()) < self.dropped:
            return x
        return F.relu(x + self.body(x) / (1 - self.dropped if self.training else 1))


@healthy("cnn", form="probe")
def zero_gamma_resnet():
    """ResNet's usual recipe: SGD with momentum at 0.1, and residual branches that start at zero."""
    x, labels = glyphs(96, 6, seed=3)
    blocks = [Residual(16) for _ in range(3)]
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, 6)
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    g = seeded(1)

    def loss_at(step: int) -> Tensor:
        part = torch.randperm(96, generator=g)[:48]
        return F.cross_entropy(model(x[part]), labels[part])

    return (
        model,
        optimizer,
        lambda probe, steps=80: descend(probe, optimizer, steps, loss_at),
        (x, labels),
        {"loss": F.cross_entropy},
    )


@healthy("cnn", form="probe")
def stochastic_depth():
    """In any one step some branches get no gradient."""
    x, labels = glyphs(96, 6, seed=4)
    blocks = [Residual(16, 0.1 * i) for i in range(4)]
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, 6)
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)

    def loop(probe, steps: int = 80) -> float:
        descend(probe, optimizer, steps, lambda step: F.cross_entropy(model(x), labels))
        return wrong_on(x, labels)(model)

    return model, optimizer, loop, (x, labels), {"loss": F.cross_entropy}


@healthy("gan", form="probe")
def wasserstein_gradient_penalty():
    """A critic whose loss is negative and has a gradient of gradients; LeakyReLU is the usual function here."""
    generator, critic = mlp(2, 64, 64, 2), mlp(2, 64, 64, 1, act=lambda: nn.LeakyReLU(0.2))
    of_generator, optimizer = (
        torch.optim.Adam(m.parameters(), 3e-3, betas=(0.0, 0.9)) for m in (generator, critic)
    )
    g = seeded(7)

    def loop(probe, steps: int = 300) -> float:
        for step in range(steps):
            real, fake = mixture(64, step), generator(torch.randn(64, 2, generator=g))
            mixed = torch.lerp(real, fake.detach(), torch.rand(64, 1, generator=g)).requires_grad_()
            slope = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)[0].norm(dim=1)
            loss = critic(fake.detach()).mean() - critic(real).mean() + 0.5 * (slope - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
            if step % 3 == 0:
                of_generator.zero_grad()
                (-critic(fake).mean()).backward()
                of_generator.step()
        return missed_modes(generator(torch.randn(512, 2, generator=g)).detach())

    return critic, optimizer, loop, None, {}


@healthy("gnn", form="probe")
def graph_convolution():
    """Node classes of one graph; most nodes have no label, and the adjacency is an input of small numbers."""
    g = seeded(8)
    labels = torch.arange(90) % 3
    edges = torch.rand(90, 90, generator=g) < torch.where(labels[:, None] == labels, 0.12, 0.01)
    adjacency = (edges | edges.T | torch.eye(90, dtype=torch.bool)).float()
    degree = adjacency.sum(1)
    adjacency = adjacency / (degree[:, None] * degree).sqrt()
    x = torch.randn(90, 12, generator=g) + 0.8 * F.one_hot(labels, 12)
    known = torch.arange(90) < 18
    model = Net(
        lambda net, x, a: a @ net.second(F.relu(a @ net.first(x))),
        first=nn.Linear(12, 16),
        second=nn.Linear(16, 3),
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, weight_decay=5e-4)

    def loop(probe, steps: int = 100) -> float:
        descend(
            probe, optimizer, steps, lambda step: F.cross_entropy(model(x, adjacency)[known], labels[known])
        )
        return wrong_on((x, adjacency), labels)(model)

    return model, optimizer, loop, None, {}


@healthy("language model", steps=120, rate=3e-3)
def masked_language_model():
    """Only the words that were covered count; all other labels are -100."""
    text = chains(64, 12, 16, noise=0.0)
    covered = torch.rand(text.shape, generator=seeded(9)) < 0.15
    labels = torch.where(covered, text, -100)
    model = Net(
        lambda net, x: net.head(net.encoder(net.embed(x) + net.places)).transpose(1, 2),
        embed=nn.Embedding(17, 32), places=nn.Parameter(torch.randn(12, 32) * 0.2), encoder=encoder(32, 2),
        head=nn.Linear(32, 16),
    )  # fmt: skip
    return model, (text.masked_fill(covered, 16), labels), {"loss": F.cross_entropy}
