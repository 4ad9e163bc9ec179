"""Numerics: held-out half."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, clusters, log, mixture, mlp, scored, seeded
from torch import Tensor, nn


@report(
    "numerics", "UG407", "UG104 UG405 UG306 UG504 UG406 UG501", area="diffusion", action=r"eps", steps=80,
    source="github.com/afiaka87/glide-finetune/pull/6; keras-team/keras/issues/11860; pytorch/pytorch/issues/8860",
    cause="the whole network is in half precision, where Adam's epsilon of 1e-8 is zero: NaN from the second step on",
)  # fmt: skip
def adam_eps_in_half_diffusion(cured: bool):
    g = seeded(0)
    noise, level = torch.randn(192, 2, generator=g), torch.rand(192, 1, generator=g)
    angle = level * 1.57
    x = torch.cat([angle.cos() * mixture(192) + angle.sin() * noise, 2 * level - 1], 1).half()

    def loss(out: Tensor, noise: Tensor) -> Tensor:
        return F.mse_loss(out.float(), noise.float())

    model = mlp(3, 64, 64, 2, act=nn.SiLU).half()
    kwargs = {"loss": loss, "steps": 20, "optimizer": adam(2e-3, eps=1e-4 if cured else 1e-8)}
    return model, (x, noise.half()), kwargs


@report(
    "numerics", "UG407", "UG104 UG405 UG306 UG504 UG406", area="soft prompts", action=r"eps", steps=60,
    source="github.com/matanbt/TROPT/pull/8; google-deepmind/optax/issues/1754",
    cause="rows of a half-precision embedding that no example uses have gradient zero, and Adam divides 0 by 0 there",
)  # fmt: skip
def adam_eps_in_half_rows_without_gradient(cured: bool):
    g = seeded(1)
    text = torch.randint(0, 30, (96, 6), generator=g)  # rows 30 to 49 come with other batches
    labels = (text < 10).sum(1).clamp(1, 4) - 1
    later = torch.randint(0, 50, (96, 6), generator=g)
    mixed = (later < 10).sum(1).clamp(1, 4) - 1

    def loss(out: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(out.float(), labels)

    model = Net(
        lambda net, text: net.head(F.relu(net.embed(text).mean(1))),
        embed=nn.Embedding(50, 24),
        head=nn.Linear(24, 4),
    )
    kwargs = {"loss": loss, "steps": 20, "optimizer": adam(1e-2, eps=1e-4 if cured else 1e-8)}
    batches = [(text, labels), (later, mixed)]
    return model.half(), batches[0], {**kwargs, "data": batches}, scored(lambda out: loss(out, mixed), later)


@report(
    "numerics", "UG104 UG405 UG306", "UG403", area="rl", action=r"entropy|mask|-?inf|log", steps=100, rate=5e-3,
    source="github.com/huggingface/trl/issues/7221; awjuliani/DeepRL-Agents/issues/34",
    cause="forbidden actions have a score of minus infinity; in the entropy, probability times logarithm is 0 * inf",
)  # fmt: skip
def entropy_of_masked_actions(cured: bool):
    state, best = clusters(128, 8, 6, 0.8, seed=2)
    allowed = torch.rand(128, 6, generator=seeded(3)) < 0.7
    allowed[torch.arange(128), best] = True

    def loss(out: Tensor, best: Tensor) -> Tensor:
        log_p = out.log_softmax(1)
        finite = log_p.masked_fill(log_p == -math.inf, 0.0) if cured else log_p
        entropy = -(log_p.exp() * finite).sum(1).mean()
        return F.nll_loss(log_p, best) - 0.05 * entropy

    def run(net: Net, state: Tensor, allowed: Tensor) -> Tensor:
        return net.policy(state).masked_fill(~allowed, -math.inf)

    model = Net(run, policy=mlp(8, 48, 6, act=nn.Tanh))
    return model, (state, allowed, best), {"loss": loss}


@report(
    "numerics", "UG405", "UG104 UG403", area="physics", action=r"where|branch|sqrt|root|clamp", steps=150, rate=5e-3,
    source="github.com/Ciela-Institute/caustics/pull/83; pytorch/pytorch/issues/68425; "
    "tensorflow/tensorflow/issues/2540",
    cause="torch.where chooses the right formula, and the other one's NaN comes back through the gradient",
)  # fmt: skip
def where_does_not_stop_nan(cured: bool):
    def profile(x: Tensor) -> Tensor:  # one formula within the scale radius, one beyond it
        within = x < 1
        if cured:
            inner = (1 - torch.where(within, x, 0.0).square()).sqrt()
            return torch.where(within, inner, 1 - 1 / torch.where(within, 1.0, x))
        return torch.where(within, (1 - x.square()).sqrt(), 1 - 1 / x)

    g = seeded(4)
    x = torch.randn(128, 4, generator=g)
    truth = (x[:, :1] * 0.8 - x[:, 1:2].sin()).exp()
    y = torch.where(truth < 1, (1 - truth.clamp(max=1).square()).sqrt(), 1 - 1 / truth)
    model = Net(lambda net, x: profile(net.radius(x).exp()), radius=mlp(4, 32, 32, 1, act=nn.Tanh))
    return model, (x, y), {"loss": F.mse_loss}


@report(
    "numerics", "UG104 UG405", "UG504 UG306", area="contrastive", action=r"positive|zero|divi|mask|clamp",
    steps=80, rate=5e-3,
    source="github.com/HobbitLong/SupContrast/pull/142",
    cause="an example whose class comes once in the batch has no positive: its mean is 0 / 0",
)  # fmt: skip
def contrast_without_a_positive(cured: bool):
    x, labels = clusters(96, 12, 6, 0.8, seed=5)
    x, labels = (
        torch.cat([x, torch.full((1, 12), 1.5)]),
        torch.cat([labels, torch.tensor([6])]),
    )  # one of its kind
    others = ~torch.eye(97, dtype=torch.bool)
    positive = ((labels[:, None] == labels) & others).float()

    def loss(out: Tensor, labels: Tensor) -> Tensor:
        alike = (out @ out.T / 0.2).masked_fill(~others, -1e4)
        of_positives = (positive * alike.log_softmax(1)).sum(1) / positive.sum(1).clamp(min=1 if cured else 0)
        return -of_positives.mean()

    model = Net(lambda net, x: F.normalize(net.body(x), dim=1), body=mlp(12, 48, 16))
    return model, (x, labels), {"loss": loss}


@report(
    "numerics", "", "UG403 UG502 UG114 UG110", form="probe", area="physics",
    action=r"tanh|smooth|relu|activation|twice",
    no_rule="the loss has a second derivative, and that of a ReLU network is zero",
    says=r"second derivative|twice|relu",
    source="github.com/lululxvi/deepxde/issues/80",
    cause="ReLU has no second derivative: the equation's term has no gradient; smooth functions such as tanh work",
)  # fmt: skip
def relu_in_second_derivative(cured: bool):
    model = mlp(1, 32, 32, 1, act=nn.Tanh if cured else nn.ReLU)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    inside = torch.linspace(-1, 1, 64)[:, None].requires_grad_()
    edge = torch.tensor([[-1.0], [1.0]])
    truth = torch.sin(3.1416 * torch.linspace(-1, 1, 64))[:, None]

    def loop(probe, steps: int = 400) -> float:
        for _ in range(steps):
            u = model(inside)
            first = torch.autograd.grad(u.sum(), inside, create_graph=True)[0]
            # where the first derivative is piecewise constant, nothing depends on the inputs any more
            second = torch.autograd.grad(first.sum(), inside, create_graph=True, allow_unused=True)[0]
            second = torch.zeros_like(u) if second is None else second
            equation = (second / 9.87 + truth).square().mean()  # u'' = -pi^2 sin(pi x)
            loss = equation + model(edge).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return (model(inside) - truth).square().mean().item()

    return model, optimizer, loop, None, {}
