"""Loss functions: third collection, half D."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, clusters, houses, log, missed_modes, mixture, mlp, scored, seeded
from torch import Tensor, nn


@report(
    "loss", "UG108 UG111", "UG110", area="explanations", action=r"sigmoid|softmax", steps=150, rate=5e-3,
    source="github.com/carla-recourse/CARLA/issues/117; Pilhyeon/BaSNet-pytorch/issues/19",
    cause="outputs of a softmax go into binary cross entropy with several labels a row: they cannot all become one",
)  # fmt: skip
def softmax_for_several_labels(cured: bool):
    g = seeded(53)
    x = torch.randn(192, 10, generator=g)
    y = (x @ torch.randn(10, 5, generator=g) + 0.3 * torch.randn(192, 5, generator=g) > 0).float()
    model = mlp(10, 48, 5, last=nn.Sigmoid() if cured else nn.Softmax(1))
    score = scored(lambda p: ((p > 0.5).float() != y).float().mean(), x)
    return model, (x, y), {"loss": F.binary_cross_entropy}, score


@report(
    "loss", "UG303", "UG401 UG304 UG114 UG502 UG501 UG504", form="probe", area="GAN", action=r"sigmoid|saturat|last",
    source="github.com/ozanciga/gans-with-pytorch/issues/2; guyuchao/Vessel-wgan-pytorch/issues/2",
    cause="the critic of a Wasserstein GAN ends in a sigmoid: once it saturates, the generator gets no gradient",
)  # fmt: skip
def critic_ends_in_a_sigmoid(cured: bool):
    critic = mlp(2, 48, 48, 1, last=None if cured else nn.Sigmoid())
    maker = mlp(4, 48, 48, 2)
    both = nn.ModuleDict({"critic": critic, "maker": maker})
    of_critic = torch.optim.Adam(critic.parameters(), 2e-3, betas=(0.5, 0.9))
    of_maker = torch.optim.Adam(maker.parameters(), 1e-3, betas=(0.5, 0.9))
    g = seeded(54)

    def slope(real: Tensor, made: Tensor) -> Tensor:
        share = torch.rand(len(real), 1, generator=g)
        between = (share * real + (1 - share) * made).requires_grad_()
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        return (gradient.norm(dim=1) - 1).square().mean()

    def loop(probe, steps: int = 150) -> float:
        for step in range(steps):
            for turn in range(3):
                real, noise = mixture(64, seed=3 * step + turn), torch.randn(64, 4, generator=g)
                made = maker(noise).detach()
                loss = critic(made).mean() - critic(real).mean() + slope(real, made)
                of_critic.zero_grad()
                loss.backward()
                of_critic.step()
            fooled = -critic(maker(torch.randn(64, 4, generator=g))).mean()
            of_maker.zero_grad()
            fooled.backward()
            of_maker.step()
            log(probe, fooled)
        with torch.no_grad():
            return missed_modes(maker(torch.randn(256, 4, generator=seeded(55))))

    return both, [of_critic, of_maker], loop, None, {}


@report(
    "loss", "UG119", "UG106 UG504 UG501", area="forecasts", steps=120, rate=3e-3,
    action=r"sign|minus|negative|minimum|absolute",
    source="github.com/scikit-learn/scikit-learn/pull/6133",
    cause="the quantile loss has no minus below the prediction: it is negative there, and falls without end",
)  # fmt: skip
def quantile_loss_without_minus(cured: bool):
    def pinball(out: Tensor, y: Tensor, sign: float = -1.0) -> Tensor:
        over = y - out
        return torch.where(over > 0, 0.8 * over, sign * 0.2 * over).mean()

    x, y = houses(192, 8, seed=57)
    y = y + 0.3 * torch.randn(192, 1, generator=seeded(58))
    kwargs = {
        "loss": lambda out, y: pinball(out, y, -1.0 if cured else 1.0),
        "steps": 20,
        "optimizer": adam(3e-3),
    }
    return mlp(8, 32, 1), (x, y), kwargs, scored(lambda out: pinball(out, y), x)


@report(
    "loss", area="variational autoencoder", action=r"variance|sigma|softplus|activation", steps=200, rate=5e-3,
    may="UG110 UG114",
    no_rule="the logarithm of the variance goes through a softplus: no latent variable has a deviation below one",
    says=r"softplus|variance|sigma",
    source="github.com/wohlert/semi-supervised-pytorch/issues/16",
    cause="softplus of the log-variance is never negative: the noise is at least that of the prior",
)  # fmt: skip
def softplus_on_the_log_variance(cured: bool):
    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_var = net.encode(x).chunk(2, 1)
        log_var = log_var if cured else F.softplus(log_var)
        return net.decode(mean + (log_var / 2).exp() * torch.randn_like(mean)), mean, log_var

    def loss(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        again, mean, log_var = out
        divergence = 0.5 * (log_var.exp() + mean.square() - 1 - log_var).sum(1).mean()
        return (again - x).square().sum(1).mean() * 2 + divergence

    x = clusters(192, 12, 6, 0.2, seed=60)[0]
    model = Net(run, encode=mlp(12, 48, 8), decode=mlp(4, 48, 12))
    score = scored(lambda out: F.mse_loss(out[0], x), x)
    return model, (x, x), {"loss": loss}, score
