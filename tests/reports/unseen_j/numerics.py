"""Numerics: tenth unseen half."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from registry import report
from samples import clusters, glyphs, log, mlp, scored, seeded
from torch import Tensor, nn


class ArcMargin(nn.Module):
    """Adds a margin to the angle between an example and its class's centre."""

    def __init__(self, width: int, classes: int, least: float, scale: float = 8.0, margin: float = 0.3):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, width))
        nn.init.xavier_uniform_(self.weight)
        self.least, self.scale, self.margin = least, scale, margin

    def forward(self, features: Tensor, label: Tensor) -> Tensor:
        cosine = F.linear(F.normalize(features), F.normalize(self.weight)).clamp(-1, 1)
        sine = torch.sqrt((1.0 - torch.pow(cosine, 2)).clamp(self.least, 1))
        moved = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        one_hot = F.one_hot(label, len(self.weight)).bool()
        return F.cross_entropy(self.scale * torch.where(one_hot, moved, cosine), label)


class FaceModel(nn.Module):
    def __init__(self, least: float, x: Tensor, labels: Tensor):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(16, 32), nn.PReLU(), nn.Linear(32, 2))
        self.metric_fc = ArcMargin(2, 4, least)
        with torch.no_grad():  # each class begins at the features of one of its examples
            for c in range(4):
                self.metric_fc.weight[c] = self.backbone(x[labels == c][0])

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.metric_fc(self.backbone(x), labels)


@report(
    "numerics", "UG405", "UG104", area="faces", action=r"eps|clamp|sqrt|root|square", rate=5e-3,
    source="github.com/ronghuaiyang/arcface-pytorch/issues/91",
    cause="the sine is the root of 1 - cosine ** 2, which is 0 for an example at its centre: an infinite derivative",
)  # fmt: skip
def sine_of_the_margin(cured: bool):
    x, labels = clusters(128, 16, 4, 0.5, seed=1)
    return FaceModel(1e-6 if cured else 0.0, x, labels), {"x": x, "labels": labels}, {"loss": None}


class FocalLoss(nn.Module):
    """Of probabilities, as they come from a sigmoid."""

    def __init__(self, eps_in_log: float, gamma: float = 2.0):
        super().__init__()
        self.eps_in_log, self.gamma = eps_in_log, gamma

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        eps, add = 1e-8, self.eps_in_log
        y_pred = torch.clamp(y_pred, eps, 1 - eps)
        right = y_true * torch.pow(1 - y_pred, self.gamma) * torch.log(y_pred + add)
        wrong = (1 - y_true) * torch.pow(y_pred, self.gamma) * torch.log(1 - y_pred + add)
        return -(right + wrong).mean()


@report(
    "numerics", "UG104 UG405", "UG201 UG303 UG501 UG504 UG105", area="defects", action=r"eps|1 ?- ?|logits|float|round",
    source="github.com/NVIDIA/apex/issues/358", steps=150,
    cause="1 - 1e-8 is 1 in float32: a probability of 1 passes the clamp, and 0 times the logarithm of 0 is NaN",
)  # fmt: skip
def epsilon_rounds_away(cured: bool):
    x, labels = clusters(200, 10, 2, 0.8, seed=2)
    x = 25 * x
    layers = [nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid(), nn.Flatten(0)]

    def error(p: Tensor) -> float:
        return float(((p > 0.5).long() != labels).float().mean() + 0 * p.sum())

    return (
        nn.Sequential(*layers),
        (x, labels.float()),
        {"loss": FocalLoss(1e-6 if cured else 0.0)},
        scored(error, x),
    )


class PPO:
    def __init__(self, least: int):
        self.least = least
        self.policy = mlp(4, 32, 3, act=nn.Tanh)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), 3e-3)

    def update(self, states: Tensor, actions: Tensor, old: Tensor, adv: Tensor) -> Tensor:
        if len(adv) >= self.least:
            adv = (adv - adv.mean()) / (adv.std() + 1e-8)
        ratio = (F.log_softmax(self.policy(states), 1).gather(1, actions[:, None]).squeeze(1) - old).exp()
        loss = -torch.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


@report(
    "numerics", "UG104", "UG405 UG504 UG306", form="probe", area="reinforcement",
    action=r"std|deviation|one example|batch|drop_last|single", source="github.com/araffin/sbx/pull/57",
    cause="advantages are divided by their standard deviation, which is NaN where the last mini-batch has one of them",
)  # fmt: skip
def advantage_of_a_batch_of_one(cured: bool):
    g = seeded(3)
    ppo = PPO(least=2 if cured else 1)
    rule = torch.randn(4, 3, generator=g)

    def loop(probe, steps: int = 150) -> float:
        done = 0
        while done < steps:
            states = torch.randn(97, 4, generator=g)
            with torch.no_grad():
                log_probs = F.log_softmax(ppo.policy(states), 1)
            actions = torch.multinomial(log_probs.exp().nan_to_num(1 / 3), 1, generator=g).squeeze(1)
            reward = (states @ rule).argmax(1).eq(actions).float()
            old = log_probs.gather(1, actions[:, None]).squeeze(1)
            for part in torch.randperm(97, generator=g).split(16):
                log(probe, ppo.update(states[part], actions[part], old[part], reward[part] - reward.mean()))
                done += 1
        states = torch.randn(256, 4, generator=g)
        out = ppo.policy(states)
        return float((out.argmax(1) != (states @ rule).argmax(1)).float().mean() + 0 * out.sum())

    return ppo.policy, ppo.optimizer, loop, None, {}


@report(
    "numerics", "UG104 UG405", "UG504 UG306", form="probe", area="metric learning", few=80,
    action=r"zero|clamp|max\(|divi|active|empty|mean",
    source="github.com/KevinMusgrave/pytorch-metric-learning/issues/107",
    cause="the loss is divided by the number of triplets that still violate the margin: with none, it is 0 / 0",
)  # fmt: skip
def no_active_triplet(cured: bool):
    x, labels = glyphs(48, 4, 10, noise=0.15, seed=4)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 16))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    same = labels[:, None] == labels
    another = same & ~torch.eye(48, dtype=torch.bool)
    anchor, positive, negative = (another[:, :, None] & ~same[:, None]).nonzero(as_tuple=True)

    def triplet_loss(embeddings: Tensor) -> Tensor:
        distance = (embeddings[:, None] - embeddings).square().sum(-1)
        relued = F.relu(distance[anchor, positive] - distance[anchor, negative] + 0.2)
        active = (relued > 0).sum()
        return relued.sum() / (active.clamp(min=1) if cured else active)

    def loop(probe, steps: int = 120) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            optimizer.zero_grad()
            loss = triplet_loss(model(x))
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return float(loss)

    return model, optimizer, loop, None, {}
