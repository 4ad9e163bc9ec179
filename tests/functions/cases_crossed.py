"""Cases of UG107: weights, masks or advantages of each example that meet each example's loss across, all with all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import (
    BCE_LOGITS,
    CE,
    Arguments,
    Net,
    chain,
    healthy,
    labels,
    pictures,
    sick,
    values,
    vectors,
)
from torch import Tensor, nn
from torch.distributions import Normal


def weighed(loss: object, classes: int = 4) -> Arguments:
    x = vectors()
    return chain(12, 32, classes), (x, labels(x, classes)), {"loss": loss}


def gain(n: int = 64) -> Tensor:
    return torch.rand(n) + 0.5


@sick("UG107", "weights")
def weights_of_examples_in_a_column() -> Arguments:
    w = gain()[:, None]
    return weighed(lambda out, y: (CE(out, y, reduction="none") * w).mean())


@sick("UG107", "weights")
def advantages_in_a_column() -> Arguments:
    """Policy gradient: the critic's outputs are (N, 1)."""
    x, returns = vectors(), torch.randn(64)
    net = Net(lambda net, x: (net.actor(x), net.critic(x)), actor=chain(12, 32, 3), critic=chain(12, 32, 1))
    taken = torch.randint(0, 3, (64,))

    def step(net: nn.Module, x: Tensor) -> Tensor:
        logits, value = net(x)
        advantage = returns[:, None] - value
        logp = torch.distributions.Categorical(logits=logits).log_prob(taken)
        return -(logp * advantage.detach()).mean() + advantage.pow(2).mean()

    return net, x, {"step": step}


@sick("UG107", "weights")
def clipped_ratios_of_one_policy_to_another() -> Arguments:
    x, adv = vectors(), torch.randn(64, 1)
    net = chain(12, 32, 2)
    actions, old = torch.randn(64, 2), torch.randn(64) * 0.1 - 3

    def step(net: nn.Module, x: Tensor) -> Tensor:
        logp = Normal(net(x), 1.0).log_prob(actions).sum(-1)
        ratio = (logp - old).exp()
        inside = torch.clamp(ratio, 0.8, 1.2)
        return -torch.min(ratio * adv, inside * adv).mean()

    return net, x, {"step": step}


@sick("UG107", "weights")
def mask_of_pixels_with_a_channel_axis() -> Arguments:
    x = pictures(8)
    y = (x.mean(1) > 0).long()
    seen = (torch.rand(8, 1, 8, 8) > 0.3).float()
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def loss(out: Tensor, y: Tensor) -> Tensor:
        each = F.cross_entropy(out, y, reduction="none")  # (N, H, W)
        return torch.sum(each * seen) / seen.sum()

    return model, (x, y), {"loss": loss}


@sick("UG107", "weights")
def focal_factor_in_a_column() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        logp = F.log_softmax(out, dim=-1)
        right = logp.gather(1, y.unsqueeze(1))
        nll = F.nll_loss(logp, y, reduction="none")
        return ((1 - right.exp()) ** 2 * nll).sum() / len(y)

    return weighed(loss)


@sick("UG107", "weights")
def divided_by_the_variance_of_each_example() -> Arguments:
    x = vectors()
    y = values(x)[:, 0]
    sigma = torch.rand(64, 1) + 0.5
    model = Net(lambda net, x: net.body(x)[:, 0], body=chain(12, 32, 1))
    return model, (x, y), {"loss": lambda out, y: ((out - y) ** 2 / sigma**2).mean(dim=0).mean()}


@sick("UG107", "weights")
def confidences_behind_two_losses() -> Arguments:
    w = gain(64).view(-1, 1)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        each = w * F.binary_cross_entropy_with_logits(out[:, 0], (y % 2).float(), reduction="none")
        return torch.mean(each + 0.1 * CE(out, y, reduction="none"))

    return weighed(loss)


@sick("UG107", "weights")
def gates_of_a_model_that_returns_its_loss() -> Arguments:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.gate = chain(12, 32, 4), nn.Linear(12, 1)

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            out = self.body(x)
            each = F.cross_entropy(out, labels, reduction="none")
            g = self.gate(x).sigmoid()
            return {"loss": (g * each).mean() - 0.1 * g.log().mean(), "logits": out}

    x = vectors()
    return Gated(), {"x": x, "labels": labels(x)}, {"loss": None}


# ---- healthy ---------------------------------------------------------------------------------------------------


@healthy("UG107", "weights")
def weights_of_examples_in_a_row() -> Arguments:
    w = gain()
    return weighed(lambda out, y: (CE(out, y, reduction="none") * w).mean())


@healthy("UG107", "weights")
def all_pairs_of_scores_in_a_ranking() -> Arguments:
    x = vectors()
    model = Net(lambda net, x: net.body(x)[:, 0], body=chain(12, 32, 1))

    def loss(out: Tensor, y: Tensor) -> Tensor:
        apart, above = out[:, None] - out, (y[:, None] > y).float()
        return (above * F.softplus(-apart)).sum() / above.sum()

    return model, (x, values(x)[:, 0]), {"loss": loss}


@healthy("UG107", "weights")
def squared_distances_from_their_norms() -> Arguments:
    x = vectors()
    y = labels(x)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        z = F.normalize(out, dim=1)
        square = z.square().sum(1, keepdim=True)
        apart = (square + square.T - 2 * z @ z.T).clamp(min=1e-6)
        same = (y[:, None] == y[None, :]).float()
        return (same * apart + (1 - same) * F.relu(0.5 - apart)).mean()

    return chain(12, 32, 6), (x, y), {"loss": loss}


@healthy("UG107", "weights")
def weights_of_classes_and_of_examples() -> Arguments:
    w, of_classes = gain(64)[:, None], torch.tensor([0.9, 1.1, 1.0, 1.0])
    x = vectors()
    y = F.one_hot(labels(x), 4).float()
    loss = lambda out, y: (BCE_LOGITS(out, y, reduction="none") * w * of_classes).mean()  # noqa: E731
    return chain(12, 32, 4), (x, y), {"loss": loss}


@healthy("UG107", "weights")
def steps_that_are_masked_and_averaged() -> Arguments:
    x = torch.randn(10, 10, 6)  # as many examples as steps
    y = (x.mean(-1) > 0).long()
    seen = (torch.arange(10) < torch.randint(4, 11, (10, 1))).float()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        each = CE(out.transpose(1, 2), y, reduction="none")
        return ((each * seen).sum(1) / seen.sum(1)).mean()

    return chain(6, 32, 2), (x, y), {"loss": loss}


@healthy("UG107", "weights")
def kernels_of_two_samples() -> Arguments:
    """Maximum mean discrepancy of outputs and targets."""
    x = vectors()
    y = values(x, 3)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (-(a[:, None] - b[None]).square().sum(-1) / 3).exp().mean()

    loss = lambda out, y: F.mse_loss(out, y) + kernel(out, out) + kernel(y, y) - 2 * kernel(out, y)  # noqa: E731
    return chain(12, 32, 3), (x, y), {"loss": loss}


@healthy("UG107", "weights")
def advantages_in_a_column_that_is_squeezed() -> Arguments:
    x, returns = vectors(), torch.randn(64)
    net = Net(lambda net, x: (net.actor(x), net.critic(x)), actor=chain(12, 32, 3), critic=chain(12, 32, 1))
    taken = torch.randint(0, 3, (64,))

    def step(net: nn.Module, x: Tensor) -> Tensor:
        logits, value = net(x)
        advantage = returns - value.squeeze(-1)
        logp = logits.log_softmax(-1).gather(1, taken[:, None]).squeeze(1)
        return -(logp * advantage.detach()).mean() + advantage.pow(2).mean()

    return net, x, {"step": step}


@healthy("UG107", "weights")
def pinball_of_several_quantiles() -> Arguments:
    levels = torch.linspace(0.1, 0.9, 8)
    x = torch.randn(8, 12)  # as many examples as quantiles

    def loss(out: Tensor, y: Tensor) -> Tensor:
        off = y - out
        return torch.max(levels * off, (levels - 1) * off).mean()

    return chain(12, 32, 8), (x, values(x)), {"loss": loss}
