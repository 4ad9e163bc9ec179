"""Targets and shapes: tenth unseen half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import boxes, houses, mlp, scored, seeded
from torch import Tensor, nn


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 48), nn.Tanh())
        self.policy, self.value = nn.Linear(48, 4), nn.Linear(48, 1)

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(states)
        return self.policy(hidden), self.value(hidden)


@report(
    "target", "UG107", "UG110 UG510", area="reinforcement", action=r"squeeze|shape|view|reshape", rate=5e-3,
    source="github.com/pytorch/rl/issues/1243",
    cause="log-probabilities (N,) times advantages (N, 1) is (N, N): each action meets the advantages of all",
)  # fmt: skip
def advantage_column_times_row(cured: bool):
    g = seeded(1)
    states = torch.randn(192, 6, generator=g)
    best = (states @ torch.randn(6, 4, generator=g)).argmax(1)
    actions = torch.randint(0, 4, (192,), generator=g)
    returns = 2.0 * (actions == best).float() + 0.2 * torch.randn(192, generator=g)

    def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        logits, value = model(batch["states"])
        advantage = batch["returns"] - value.detach()  # (N, 1), like everything that the critic gives
        loss_value = F.mse_loss(value, batch["returns"])
        log_prob = F.log_softmax(logits, 1)[range(len(logits)), batch["actions"]]
        log_prob = log_prob[:, None] if cured else log_prob
        return loss_value - (advantage * log_prob).mean()

    score = scored(lambda out: float((out[0].argmax(1) != best).float().mean()), states)
    batch = {"states": states, "actions": actions, "returns": returns[:, None]}
    return ActorCritic(), batch, {"step": step}, score


class SmallUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU())
        self.inner = nn.Sequential(
            nn.Conv2d(12, 24, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(24, 12, 2, 2), nn.ReLU()
        )
        self.outc = nn.Conv2d(24, 1, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.down(pictures)
        return torch.sigmoid(self.outc(torch.cat([x, self.inner(x)], 1)))


@report(
    "target", "UG106", "UG504 UG119", area="segmentation", action=r"255|0 and 1|0 to 1|range", rate=3e-3, steps=150,
    source="github.com/milesial/Pytorch-UNet/issues/78",
    cause="masks hold 0 and 255 where binary cross entropy takes 0 and 1: the loss is negative and falls without end",
)  # fmt: skip
def masks_of_255(cured: bool):
    pictures, mask, _ = boxes(24, 16, seed=2)
    grey = (mask * 255).byte()
    masks = grey.float() / 255 if cured else grey.float()

    class Criterion(nn.Module):
        def forward(self, probabilities: Tensor, wanted: Tensor) -> Tensor:
            p = probabilities.clamp(1e-6, 1 - 1e-6)
            return -(wanted * p.log() + (1 - wanted) * (1 - p).log()).mean()

    score = scored(lambda out: float(((out > 0.5).float() != mask).float().mean()), pictures)
    return SmallUNet(), (pictures, masks), {"loss": Criterion()}, score


@report(
    "target", "UG107", area="reinforcement", action=r"sum|shape|squeeze|keepdim", rate=5e-3,
    source="github.com/thu-ml/tianshou/issues/40",
    cause="log-probabilities are not summed over the action's dimensions: the critic's target is (N, 6), not (N, 1)",
)  # fmt: skip
def log_probabilities_of_each_dimension(cured: bool):
    g = seeded(3)
    states, actions = torch.randn(128, 5, generator=g), torch.tanh(torch.randn(128, 6, generator=g))
    rewards = states[:, :1] * actions[:, :1] - actions[:, 1:2].square()
    means = torch.randn(128, 6, generator=g)
    log_prob = torch.distributions.Normal(0.0, 1.0).log_prob(means)
    summed = rewards - 0.2 * log_prob.sum(1, keepdim=True)
    target_q = summed if cured else rewards - 0.2 * log_prob
    critic = mlp(11, 64, 64, 1)

    def critic_loss(q: Tensor, target_q: Tensor) -> Tensor:
        return F.mse_loss(q, target_q)

    x = torch.cat([states, actions], 1)
    return critic, (x, target_q), {"loss": critic_loss}, scored(lambda q: F.mse_loss(q, summed), x)


@report(
    "target", "UG108", area="autoencoder", rate=3e-3, steps=400,
    action=r"sigmoid|range|last|linear|normaliz|standardiz",
    source="github.com/mikesj-public/convolutional_autoencoder/pull/9",
    cause="pixels are standardized and the network's last function gives no negative values: the dark half is cut off",
)  # fmt: skip
def pixels_standardized_for_a_sigmoid(cured: bool):
    g = seeded(4)
    basis = torch.rand(3, 64, generator=g)
    pixels = (torch.rand(128, 3, generator=g) @ basis / 3).view(128, 1, 8, 8)
    mean, deviation = pixels.mean(), pixels.std()
    x = pixels if cured else (pixels - mean) / deviation
    layers = [
        nn.Flatten(),
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Linear(32, 64),
        nn.Sigmoid(),
        nn.Unflatten(1, (1, 8, 8)),
    ]
    score = scored(
        lambda out: ((out if cured else out * deviation + mean) - pixels).square().mean() / pixels.var(), x
    )
    return nn.Sequential(*layers), (x, x), {"loss": nn.MSELoss()}, score


@report(
    "target", area="reinforcement", action=r"done|terminal|end of", rate=1e-2, steps=300, boundary=True,
    no_rule="the target of a finished episode contains the value of a state after its end",
    says=r"\bdone\b|terminal|episode",
    source="github.com/navneet-nmk/pytorch-rl/issues/2",
    cause="`done` is not used in the targets: where an episode ends, the value of the next state is added all the same",
)  # fmt: skip
def bootstraps_past_the_end(cured: bool):
    """A corridor of eight places: one step to the right each, a reward of 1 at the end."""
    place = torch.arange(8)
    states, after = F.one_hot(place, 9).float(), F.one_hot((place + 1) % 8, 9).float()
    reward, done = (place == 7).float(), (place == 7).float()
    truth = 0.8 ** (7 - place).float()

    def step(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        states, reward, after, done = batch
        with torch.no_grad():
            coming = model(after).squeeze(1)
        target = reward + 0.8 * coming * ((1 - done) if cured else 1)
        return F.smooth_l1_loss(model(states).squeeze(1), target)

    score = scored(lambda v: F.mse_loss(v.squeeze(1), truth).sqrt(), states)
    return mlp(9, 32, 1), (states, reward, after, done), {"step": step}, score


@report(
    "target", "UG111", "UG103", area="tagging of pictures", action=r"BCE|binary|sigmoid", rate=3e-3, steps=300,
    source="github.com/ThilinaRajapakse/simpletransformers/issues/101",
    cause="an example has several labels, and the loss is a softmax's cross entropy, which shares out one probability",
)  # fmt: skip
def several_labels_into_a_softmax(cured: bool):
    x, _ = houses(256, 10, seed=5)
    tags = (x @ torch.randn(10, 6, generator=seeded(6)) > 0.5).float()
    criterion = nn.BCEWithLogitsLoss() if cured else nn.CrossEntropyLoss()
    chosen = torch.sigmoid if cured else lambda scores: scores.softmax(1)
    score = scored(lambda out: float(((chosen(out) > 0.5).float() != tags).float().mean()), x)
    return mlp(10, 64, 6), (x, tags), {"loss": criterion}, score
