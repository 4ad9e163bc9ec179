"""Healthy trainings whose losses, classes or bounded functions look like trouble: own networks, half of them held out.

Each function gives what is watched in one loop: (model, optimizer, loop), where `loop(log, steps)` trains and returns a
score of which less is better, or (model, batch, arguments of ug.check). `SEEN` was looked at while rules were changed;
`HELD_OUT` was written at the same time and run for the first time afterwards (benchmarks/results).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SEEN: dict[str, Callable[[], tuple[Any, ...]]] = {}
HELD_OUT: dict[str, Callable[[], tuple[Any, ...]]] = {}


def seen(build: Callable[[], tuple[Any, ...]]) -> Callable[[], tuple[Any, ...]]:
    SEEN[build.__name__] = build
    return build


def held_out(build: Callable[[], tuple[Any, ...]]) -> Callable[[], tuple[Any, ...]]:
    HELD_OUT[build.__name__] = build
    return build


def mlp(*sizes: int, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), act()]
    return nn.Sequential(*layers[:-1])


def ring(n: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    angle = torch.rand(n, generator=g) * 2 * math.pi
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * torch.randn(n, 2, generator=g)


def usual(optimizer: torch.optim.Optimizer, loss_at: Callable[[int], Tensor], before: Any = None) -> Any:
    """The usual loop; the score is the last loss."""

    def loop(log: Callable[[Tensor], None], steps: int = 150) -> float:
        loss = torch.zeros(())
        for step in range(steps):
            loss = loss_at(step)
            optimizer.zero_grad()
            loss.backward()
            if before is not None:
                before()
            optimizer.step()
            log(loss.detach())
        return float(loss)

    return loop


# ---- rare and many classes -----------------------------------------------------------------------------------


def _rare(classes: int, share: float, seed: int, n: int = 256) -> tuple[Tensor, Tensor]:
    """Features and labels, of which all but a share are class 0."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.where(
        torch.rand(n, generator=g) < share,
        torch.randint(1, classes, (n,), generator=g),
        torch.zeros(n).long(),
    )
    x = torch.randn(n, 10, generator=g)
    x[:, 0] += labels.sign() * 2
    return x, labels


@seen
def rare_defaults_in_credit():
    torch.manual_seed(3)
    return mlp(10, 24, 2), _rare(2, 0.03, 1), {}


@seen
def many_classes_by_zipf():
    torch.manual_seed(1)
    g = torch.Generator().manual_seed(1)
    weights = 1 / torch.arange(1, 201).float()
    labels = torch.multinomial(weights, 256, replacement=True, generator=g)
    return mlp(10, 32, 200), (torch.randn(256, 10, generator=g), labels), {}


@seen
def classes_weighted_by_their_rarity():
    torch.manual_seed(6)
    weight = torch.tensor([0.1, 5.0, 5.0, 5.0])
    return mlp(10, 32, 4), _rare(4, 0.06, 2), {"loss": nn.CrossEntropyLoss(weight=weight)}


@held_out
def background_in_segmentation():
    torch.manual_seed(4)
    g = torch.Generator().manual_seed(4)
    labels = (torch.rand(8, 16, 16, generator=g) < 0.02).long()
    x = torch.randn(8, 1, 16, 16, generator=g) + 2 * labels[:, None]
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))
    return model, (x, labels), {}


@held_out
def padding_outside_entities():
    torch.manual_seed(8)
    g = torch.Generator().manual_seed(8)
    text = torch.randint(0, 30, (16, 12), generator=g)
    tags = torch.where(text < 2, text + 1, torch.zeros_like(text))
    tags[:, 9:] = -100

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn = nn.Embedding(30, 16), nn.GRU(16, 24, batch_first=True)
            self.head = nn.Linear(24, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(self.embed(x))[0]).transpose(1, 2)

    return Tagger(), (text, tags), {}


@held_out
def weighted_sum_over_classes():
    torch.manual_seed(5)
    weight = torch.tensor([0.2, 3.0, 3.0])

    def loss(out: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(out, labels, weight=weight, reduction="sum") / len(labels)

    return mlp(10, 32, 3), _rare(3, 0.2, 7), {"loss": loss}


# ---- adversaries ---------------------------------------------------------------------------------------------


def _adversaries(seed: int, rate: float, act: Callable[[], nn.Module] = nn.ReLU) -> tuple[Any, ...]:
    torch.manual_seed(seed)
    generator, judge = mlp(4, 32, 32, 2), mlp(2, 32, 32, 1, act=act)
    optimizers = [torch.optim.Adam(m.parameters(), rate, betas=(0.5, 0.999)) for m in (generator, judge)]
    return generator, judge, *optimizers, torch.Generator().manual_seed(seed)


def _spread(points: Tensor) -> float:
    return float((points.norm(dim=1) - 1).abs().mean())


@seen
def gan_watched_at_the_judge():
    generator, judge, of_generator, of_judge, g = _adversaries(1, 1e-3, nn.LeakyReLU)
    bce = F.binary_cross_entropy_with_logits

    def loop(log: Any, steps: int = 300) -> float:
        for step in range(steps):
            fake = generator(torch.randn(64, 4, generator=g))
            of_generator.zero_grad()
            bce(judge(fake), torch.ones(64, 1)).backward()
            of_generator.step()
            of_judge.zero_grad()
            real = bce(judge(ring(64, step)), torch.ones(64, 1))
            loss = real + bce(judge(fake.detach()), torch.zeros(64, 1))
            loss.backward()
            of_judge.step()
            log(loss.detach())
        return _spread(generator(torch.randn(256, 4, generator=g)))

    return judge, of_judge, loop


@seen
def hinge_critic_frozen_for_the_generator():
    generator, judge, of_generator, of_judge, g = _adversaries(2, 2e-3, nn.LeakyReLU)

    def loop(log: Any, steps: int = 300) -> float:
        for step in range(steps):
            fake = generator(torch.randn(64, 4, generator=g))
            loss = F.relu(1 - judge(ring(64, step))).mean() + F.relu(1 + judge(fake.detach())).mean()
            of_judge.zero_grad()
            loss.backward()
            of_judge.step()
            log(loss.detach())
            judge.requires_grad_(False)
            of_generator.zero_grad()
            (-judge(fake).mean()).backward()
            of_generator.step()
            judge.requires_grad_(True)
        return _spread(generator(torch.randn(256, 4, generator=g)))

    return judge, of_judge, loop


@held_out
def least_squares_gan_watched_at_the_generator():
    generator, judge, of_generator, of_judge, g = _adversaries(3, 1e-3, nn.LeakyReLU)

    def loop(log: Any, steps: int = 300) -> float:
        for step in range(steps):
            fake = generator(torch.randn(64, 4, generator=g))
            of_judge.zero_grad()
            ((judge(ring(64, step)) - 1).square().mean() + judge(fake.detach()).square().mean()).backward()
            of_judge.step()
            of_generator.zero_grad()
            loss = (judge(fake) - 1).square().mean()
            loss.backward()
            of_generator.step()
            log(loss.detach())
        return _spread(generator(torch.randn(256, 4, generator=g)))

    return generator, of_generator, loop


@held_out
def wasserstein_with_clipped_weights():
    generator, judge, of_generator, _, g = _adversaries(4, 1e-3)
    of_judge = torch.optim.RMSprop(judge.parameters(), 5e-4)

    def loop(log: Any, steps: int = 300) -> float:
        for step in range(steps):
            fake = generator(torch.randn(64, 4, generator=g))
            loss = judge(fake.detach()).mean() - judge(ring(64, step)).mean()
            of_judge.zero_grad()
            loss.backward()
            of_judge.step()
            log(loss.detach())
            with torch.no_grad():
                for p in judge.parameters():
                    p.clamp_(-0.3, 0.3)
            if step % 3 == 0:
                of_generator.zero_grad()
                (-judge(fake).mean()).backward()
                of_generator.step()
        return _spread(generator(torch.randn(256, 4, generator=g)))

    return judge, of_judge, loop


# ---- losses without a floor ----------------------------------------------------------------------------------


def _bandit(seed: int) -> tuple[Tensor, Tensor, torch.Generator]:
    g = torch.Generator().manual_seed(seed)
    state = torch.randn(128, 6, generator=g)
    return state, state[:, :4].argmax(1), g


@seen
def actor_critic_with_entropy():
    torch.manual_seed(1)
    state, best, g = _bandit(1)
    model = mlp(6, 48, 5, act=nn.Tanh)  # four actions and a value
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def loss_at(_: int) -> Tensor:
        out = model(state)
        log_p, value = out[:, :4].log_softmax(1), out[:, 4]
        action = torch.multinomial(log_p.exp().detach(), 1, generator=g)[:, 0]
        reward = (action == best).float()
        advantage = reward - value
        entropy = -(log_p.exp() * log_p).sum(1).mean()
        policy = -(advantage.detach() * log_p[torch.arange(128), action]).mean()
        return policy + 0.5 * advantage.square().mean() - 0.01 * entropy

    return model, optimizer, usual(optimizer, loss_at)


@seen
def deterministic_actor_climbs_its_critic():
    torch.manual_seed(2)
    state, _, g = _bandit(2)
    actor, critic = mlp(6, 32, 1, act=nn.Tanh), mlp(7, 32, 1)
    of_actor = torch.optim.Adam(actor.parameters(), 1e-3)
    of_critic = torch.optim.Adam(critic.parameters(), 3e-3)

    def loop(log: Any, steps: int = 200) -> float:
        for _ in range(steps):
            action = actor(state).tanh()
            tried = (action.detach() + 0.3 * torch.randn(128, 1, generator=g)).clamp(-1, 1)
            reward = -(tried - state[:, :1].sign() * 0.5).square() - 0.5
            of_critic.zero_grad()
            F.mse_loss(critic(torch.cat([state, tried], 1)), reward).backward()
            of_critic.step()
            of_actor.zero_grad()
            loss = -critic(torch.cat([state, action], 1)).mean()
            loss.backward()
            of_actor.step()
            log(loss.detach())
        return float((actor(state).tanh() - state[:, :1].sign() * 0.5).abs().mean())

    return actor, of_actor, loop


@held_out
def proximal_policy():
    torch.manual_seed(3)
    state, best, g = _bandit(3)
    model = mlp(6, 48, 4, act=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def loop(log: Any, steps: int = 160) -> float:
        for step in range(steps):
            if step % 4 == 0:
                with torch.no_grad():
                    old = model(state).log_softmax(1)
                    action = torch.multinomial(old.exp(), 1, generator=g)
                    reward = (action[:, 0] == best).float()
                    advantage = (reward - reward.mean()) / (reward.std() + 1e-6)
            new = model(state).log_softmax(1)
            ratio = (new - old).gather(1, action)[:, 0].exp()
            loss = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(loss.detach())
        return float((model(state).argmax(1) != best).float().mean())

    return model, optimizer, loop


@held_out
def reinforce_without_baseline():
    torch.manual_seed(5)
    state, best, g = _bandit(5)
    model = mlp(6, 32, 4)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)

    def loss_at(_: int) -> Tensor:
        log_p = model(state).log_softmax(1)
        action = torch.multinomial(log_p.exp().detach(), 1, generator=g)[:, 0]
        return -(torch.where(action == best, 1.0, -0.3) * log_p[torch.arange(128), action]).mean()

    return model, optimizer, usual(optimizer, loss_at)


# ---- functions that are meant to be bounded ------------------------------------------------------------------


class _Coupling(nn.Module):
    def __init__(self, bounded: Callable[[Tensor], Tensor], flip: bool) -> None:
        super().__init__()
        self.net, self.bounded, self.flip = mlp(1, 24, 24, 2, act=nn.Tanh), bounded, flip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.flip(1).chunk(2, 1) if self.flip else x.chunk(2, 1)
        scale, shift = self.net(a).chunk(2, 1)
        log_scale = self.bounded(scale)
        return torch.cat([a, b * log_scale.exp() + shift], 1), log_scale[:, 0]


class _Flow(nn.Module):
    def __init__(self, bounded: Callable[[Tensor], Tensor], depth: int = 6) -> None:
        super().__init__()
        self.steps = nn.ModuleList(_Coupling(bounded, bool(i % 2)) for i in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        volume = torch.zeros(len(x))
        for step in self.steps:
            x, change = step(x)
            volume = volume + change
        return 0.5 * x.square().sum(1) + math.log(2 * math.pi) - volume


@seen
def flow_with_bounded_scales():
    torch.manual_seed(2)
    model = _Flow(lambda s: 2 * torch.tanh(s))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    x = 0.3 * ring(256, 1)
    return model, optimizer, usual(optimizer, lambda _: model(x).mean())


@seen
def highway_gates_close():
    torch.manual_seed(4)

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.gate, self.change = nn.Linear(10, 32), nn.Linear(32, 32), nn.Linear(32, 32)
            self.head = nn.Linear(32, 2)
            nn.init.constant_(self.gate.bias, -5.0)

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x).relu()
            open_ = F.hardtanh(self.gate(h), 0.0, 1.0) + self.gate(h).sigmoid()
            return self.head(h + open_ * self.change(h).relu())

    return Gated(), _rare(2, 0.5, 3), {}


@held_out
def flow_with_sigmoid_scales():
    torch.manual_seed(7)
    model = _Flow(lambda s: torch.sigmoid(s + 2).log())
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    x = 0.3 * ring(256, 2)
    return model, optimizer, usual(optimizer, lambda _: model(x).mean())


@held_out
def actions_within_limits():
    """A tanh that bounds an action and is right to sit at its limits: the best action is the largest."""
    torch.manual_seed(6)
    state, _, _ = _bandit(6)
    actor = mlp(6, 32, 1)
    optimizer = torch.optim.Adam(actor.parameters(), 1e-2)

    def loss_at(_: int) -> Tensor:
        force = 2 * torch.tanh(actor(state))
        return (3 - force * state[:, :1].sign()).square().mean()

    return actor, optimizer, usual(optimizer, loss_at)


# ---- large rates that work -----------------------------------------------------------------------------------


class _Words(nn.Module):
    def __init__(self, cell: type[nn.RNNBase], words: int, width: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(words, width), nn.Linear(width, words)
        self.rnn = cell(width, width, batch_first=True)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0]).transpose(1, 2)


def _text(words: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    rows = [torch.randint(0, words, (24,), generator=g)]
    for _ in range(16):
        rows.append((rows[-1] * 3 + 1) % words)
    return torch.stack(rows, 1)


@seen
def word_model_at_rate_thirty():
    torch.manual_seed(1)
    model, text = _Words(nn.LSTM, 20, 32), _text(20, 1)
    optimizer = torch.optim.SGD(model.parameters(), 30.0)
    return model, optimizer, usual(
        optimizer,
        lambda _: F.cross_entropy(model(text[:, :-1]), text[:, 1:]),
        lambda: nn.utils.clip_grad_norm_(model.parameters(), 0.25),
    )  # fmt: skip


@held_out
def word_model_that_hesitates():
    torch.manual_seed(9)
    model, text = _Words(nn.GRU, 24, 24), _text(24, 2)
    optimizer = torch.optim.SGD(model.parameters(), 15.0)
    return model, optimizer, usual(
        optimizer,
        lambda _: F.cross_entropy(model(text[:, :-1]), text[:, 1:]),
        lambda: nn.utils.clip_grad_norm_(model.parameters(), 0.3),
    )  # fmt: skip


# ---- autoencoders --------------------------------------------------------------------------------------------


class _Vae(nn.Module):
    def __init__(self, act: Callable[[], nn.Module], width: int, last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encode, self.decode = mlp(32, width, 8, act=act), mlp(4, width, 32, act=act)
        self.last, self.generator = last, torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encode(x).chunk(2, 1)
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=self.generator)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()
        return self.last(self.decode(z)), divergence


def _codes(seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    kinds = (torch.rand(6, 32, generator=g) < 0.3).float()
    return kinds[torch.randint(0, 6, (128,), generator=g)]


@seen
def variational_autoencoder_of_bits():
    torch.manual_seed(2)
    model, x = _Vae(nn.ReLU, 48, lambda h: h.sigmoid().clamp(1e-6, 1 - 1e-6)), _codes(1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def loss_at(_: int) -> Tensor:
        out, divergence = model(x)
        return F.binary_cross_entropy(out, x, reduction="sum") / len(x) + divergence

    return model, optimizer, usual(optimizer, loss_at)


@held_out
def variational_autoencoder_with_logarithms():
    torch.manual_seed(3)
    model, x = _Vae(nn.ReLU, 64, torch.sigmoid), _codes(2)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)

    def loss_at(_: int) -> Tensor:
        out, divergence = model(x)
        bits = x * (out + 1e-7).log() + (1 - x) * (1 - out + 1e-7).log()
        return divergence - bits.sum(1).mean()

    return model, optimizer, usual(optimizer, loss_at)


@held_out
def teacher_that_follows_its_student():
    """The loss against a moving average rises at first: the two begin as one."""
    torch.manual_seed(4)
    student = mlp(8, 32, 8)
    teacher = copy.deepcopy(student).requires_grad_(False)
    head = nn.Linear(8, 8)
    model = nn.ModuleDict({"student": student, "head": head})
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    g = torch.Generator().manual_seed(4)
    x = torch.randn(256, 8, generator=g)

    def loop(log: Any, steps: int = 200) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            one, other = (x + 0.2 * torch.randn(256, 8, generator=g) for _ in range(2))
            loss = 1 - F.cosine_similarity(head(student(one)), teacher(other), dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for p, q in zip(teacher.parameters(), student.parameters(), strict=True):
                    p.lerp_(q, 0.02)
            log(loss.detach())
        return float(loss)

    return model, optimizer, loop
