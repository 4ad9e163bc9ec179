"""Loss functions: tenth unseen half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import boxes, clusters, glyphs, log, mlp, scored, seeded
from torch import Tensor, nn


class TransferLearning(nn.Module):
    """Written for a trainer: forward gives what is predicted, training_step the loss."""

    def __init__(self, sigmoid: bool):
        super().__init__()
        self.feature_extractor = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Flatten())
        self.fc = nn.Sequential(nn.Linear(8 * 25, 32), nn.ReLU(), nn.Linear(32, 1))
        self.sigmoid = sigmoid

    def forward(self, x: Tensor) -> Tensor:
        logits = self.fc(self.feature_extractor(x))
        return torch.sigmoid(logits) if self.sigmoid else logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int = 0) -> dict[str, Tensor]:
        x, y = batch
        y_logits = self(x)
        return {"loss": F.binary_cross_entropy_with_logits(y_logits, y.view(-1, 1).float())}


@report(
    "loss", "UG105", "UG114", area="transfer learning", action=r"sigmoid", rate=1e-3, steps=200,
    source="github.com/Lightning-AI/pytorch-lightning/issues/18272",
    cause="forward ends in a sigmoid and the loss is the one with logits: no example can be rated below one half",
)  # fmt: skip
def sigmoid_then_with_logits(cured: bool):
    x, labels = glyphs(192, 6, 12, noise=0.5, seed=1)
    x = x[:, :, :11, :11]
    rare = (labels == 2).long()

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            out = model(x)
            p = out if model.sigmoid else out.sigmoid()
            return float(F.binary_cross_entropy(p, rare[:, None].float()))

    step = lambda model, batch: model.training_step(batch)  # noqa: E731
    return TransferLearning(sigmoid=not cured), (x, rare), {"step": step}, score


class KLDivTeacherList(nn.Module):
    def __init__(self, logarithm: bool):
        super().__init__()
        self.kl = nn.KLDivLoss(reduction="batchmean")
        self.logarithm = logarithm

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        own = scores.log_softmax(-1) if self.logarithm else scores.softmax(-1)
        return self.kl(own, labels.softmax(-1))


@report(
    "loss", "UG111 UG106", "UG119 UG114", area="ranking", action=r"log", rate=5e-3,
    source="github.com/sebastian-hofstaetter/matchmaker/issues/18",
    cause="nn.KLDivLoss gets probabilities where it takes their logarithms: it rewards one winner in each list",
)  # fmt: skip
def divergence_without_a_logarithm(cured: bool):
    g = seeded(2)
    lists = torch.randn(64, 10, 6, generator=g)
    teacher = 2 * torch.sin(lists @ torch.randn(6, generator=g))
    model = nn.Sequential(mlp(6, 48, 1, act=nn.Tanh), nn.Flatten(1))
    right = lambda out: F.kl_div(out.log_softmax(-1), teacher.softmax(-1), reduction="batchmean")  # noqa: E731
    return model, (lists, teacher), {"loss": KLDivTeacherList(cured)}, scored(right, lists)


def dice(scores: Tensor, target: Tensor, beta: float = 1.0, smooth: float = 1.0) -> Tensor:
    """F-measure of probabilities, over each picture."""
    p = scores.sigmoid().flatten(1)
    t = target.flatten(1)
    hit = (p * t).sum(1)
    return ((1 + beta**2) * hit + smooth) / (beta**2 * t.sum(1) + p.sum(1) + smooth)


@report(
    "loss", "UG120", "UG504", area="medical segmentation", action=r"1 ?-|sign|minus|negat", rate=3e-3,
    source="github.com/sraashis/easytorch/pull/38",
    cause="the dice loss gives the overlap itself, not one minus it: training makes the overlap small",
)  # fmt: skip
def dice_minimized(cured: bool):
    pictures, mask, _ = boxes(32, 16, seed=3)
    layers = [nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU()]

    def loss(scores: Tensor, target: Tensor) -> Tensor:
        overlap = dice(scores, target).mean()
        return 1 - overlap if cured else overlap

    model = nn.Sequential(*layers, nn.Conv2d(12, 1, 1))
    return model, (pictures, mask), {"loss": loss}, scored(lambda out: 1 - dice(out, mask).mean(), pictures)


class Bandit:
    """An agent that plays in a room with noisy rewards; the policy's entropy is to keep it exploring."""

    def __init__(self, policy: nn.Module, sign: float):
        self.policy, self.sign = policy, sign
        self.optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
        self.g = seeded(4)
        self.rule = torch.randn(5, 6, generator=self.g)

    def best(self, states: Tensor) -> Tensor:
        return (states @ self.rule).argmax(1)

    def update(self) -> Tensor:
        states = torch.randn(64, 5, generator=self.g)
        probs = self.policy(states).softmax(-1)
        actions = torch.multinomial(probs.detach(), 1, generator=self.g).squeeze(1)
        rewards = (actions == self.best(states)).float() + 0.5 * torch.randn(64, generator=self.g)
        advantages = (rewards - rewards.mean()) / rewards.std()
        log_prob = probs.gather(1, actions[:, None]).squeeze(1).clamp(min=1e-8).log()
        entropy = -(probs * probs.clamp(min=1e-8).log()).sum(-1).mean()
        loss = -(advantages * log_prob).mean() + self.sign * 0.2 * entropy
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


@report(
    "loss", "UG120", form="probe", area="reinforcement", action=r"sign|minus|subtract|negat",
    source="github.com/DLR-RM/stable-baselines3/issues/127",
    cause="the entropy's part of the loss lacks its minus: the policy is driven to one action instead of exploring",
)  # fmt: skip
def entropy_punished(cured: bool):
    policy = mlp(5, 32, 6, act=nn.Tanh)
    agent = Bandit(policy, -1.0 if cured else 1.0)

    def loop(probe, steps: int = 400) -> float:
        for _ in range(steps):
            log(probe, agent.update())
        states = torch.randn(512, 5, generator=seeded(5))
        return float((policy(states).argmax(1) != agent.best(states)).float().mean())

    return policy, agent.optimizer, loop, None, {}


class AnchorLoss(nn.Module):
    """Binary cross entropy of all classes, with a weight for those that are rated too high."""

    def __init__(self, negated: bool, gamma: float = 0.5):
        super().__init__()
        self.negated, self.gamma = negated, gamma

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        wanted = F.one_hot(target, scores.size(1)).float()
        logpt = F.logsigmoid(scores)
        logpt_neg = F.logsigmoid(-scores if self.negated else 1 - scores)
        weight = (1 + scores.detach().sigmoid() * wanted) ** self.gamma
        return -(wanted * logpt + (1 - wanted) * weight * logpt_neg).sum(1).mean()


@report(
    "loss", area="classification", action=r"logsigmoid|1 ?-|complement|negat", rate=3e-3, steps=100,
    no_rule="the probability of the other answer is taken as the sigmoid of one minus the score",
    says=r"logsigmoid|complement|sigmoid of (one|1) minus",
    source="github.com/slryou41/AnchorLoss/issues/2",
    cause="F.logsigmoid(1 - x) stands for log(1 - sigmoid(x)), which is F.logsigmoid(-x): ratings come out too high",
)  # fmt: skip
def log_sigmoid_of_one_minus(cured: bool):
    x, labels = clusters(256, 12, 8, 2.0, seed=6)
    wanted = F.one_hot(labels, 8).float()
    score = scored(lambda out: float((out.sigmoid().mean() - wanted.mean()).abs()), x)
    return mlp(12, 24, 8), (x, labels), {"loss": AnchorLoss(negated=cured)}, score
