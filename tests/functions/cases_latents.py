"""Cases of UG121: codes that a variational model draws, and what their divergence asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from function_rows import BCE_LOGITS, Arguments, Net, chain, healthy, sick
from torch import Tensor, nn

Outputs = tuple[Tensor, Tensor, Tensor]


def data(n: int = 96, width: int = 24, size: float = 1.0) -> Tensor:
    """Of four directions, so that a few numbers tell most of it."""
    x = torch.randn(n, 4) @ torch.randn(4, width) / 2 + 0.1 * torch.randn(n, width)
    return size * x / x.std()


def coder(deviation: Callable[[Tensor], Tensor], width: int = 24, code: int = 4, **options: Any) -> Net:
    """deviation: of the encoder's second half."""

    def run(net: Net, x: Tensor) -> Outputs:
        mean, spread = net.encode(x).chunk(2, 1)
        return net.decode(mean + deviation(spread) * torch.randn_like(mean)), mean, spread

    return Net(run, encode=chain(width, 32, 2 * code, **options), decode=chain(code, 32, width, **options))


def of_log_var(mean: Tensor, log_var: Tensor) -> Tensor:
    return -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()


def of_deviation(mean: Tensor, std: Tensor) -> Tensor:
    return 0.5 * (mean**2 + std**2 - 1 - 2 * std.log()).sum(1).mean()


def summed(out: Tensor, x: Tensor) -> Tensor:
    return (out - x).square().flatten(1).sum(1).mean()


def half_exp(log_var: Tensor) -> Tensor:
    return (log_var / 2).exp()


# ---- sick ------------------------------------------------------------------------------------------------------


@sick("UG121")
def error_averaged_over_pixels_beside_a_sum_over_the_code() -> Arguments:
    x = data(width=64)
    return coder(half_exp, 64), (x, x), {"loss": lambda o, t: F.mse_loss(o[0], t) + of_log_var(*o[1:])}


@sick("UG121")
def pixels_of_small_range_and_a_mean_of_errors_in_a_dictionary() -> Arguments:
    x = data(size=0.6)

    def run(net: Net, x: Tensor) -> dict[str, Tensor]:
        mean, log_var = net.mean(x), net.spread(x)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        return {"recon": net.decode(z), "mu": mean, "logvar": log_var}

    def loss(o: dict[str, Tensor], t: Tensor) -> Tensor:
        return (o["recon"] - t).pow(2).mean() + of_log_var(o["mu"], o["logvar"])

    model = Net(run, mean=chain(24, 32, 4), spread=chain(24, 32, 4), decode=chain(4, 32, 24))
    return model, (x, x), {"loss": loss}


@sick("UG121")
def deviation_of_a_softplus_and_an_exponential() -> Arguments:
    x = data()

    def run(net: Net, x: Tensor) -> Outputs:
        mean, raw = net.encode(x).chunk(2, 1)
        log_std = F.softplus(raw)
        return net.decode(mean + log_std.exp() * torch.randn_like(mean)), mean, log_std

    model = Net(run, encode=chain(24, 32, 8), decode=chain(4, 32, 24))
    return model, (x, x), {"loss": lambda o, t: summed(o[0], t) + of_log_var(o[1], 2 * o[2])}


@sick("UG121")
def log_variance_behind_a_relu() -> Arguments:
    x = data()

    def run(net: Net, x: Tensor) -> Outputs:
        h = F.relu(net.encode(x))
        mean, log_var = net.mean(h), F.relu(net.spread(h))
        noise = torch.randn(mean.shape)
        return net.decode(noise * torch.sqrt(log_var.exp()) + mean), mean, log_var

    model = Net(
        run, encode=nn.Linear(24, 32), mean=nn.Linear(32, 4), spread=nn.Linear(32, 4), decode=chain(4, 32, 24)
    )
    return model, (x, x), {"loss": lambda o, t: 2 * summed(o[0], t) + of_log_var(*o[1:])}


@sick("UG121")
def log_deviation_in_the_model_and_log_variance_in_the_loss() -> Arguments:
    """Both are one at zero; the divergence of a log-deviation lacks a factor of two, and is lowest elsewhere."""
    x = data()

    def divergence(mean: Tensor, log_std: Tensor) -> Tensor:
        return -0.5 * (1 + log_std - mean**2 - (2 * log_std).exp()).sum(1).mean()

    return coder(torch.exp), (x, x), {"loss": lambda o, t: 5 * summed(o[0], t) + divergence(*o[1:])}


@sick("UG121")
def output_taken_for_a_deviation_by_the_loss_alone() -> Arguments:
    x = data()
    loss = lambda o, t: summed(o[0], t) + of_deviation(o[1], o[2].abs() + 1e-6)  # noqa: E731
    return coder(half_exp), (x, x), {"loss": loss}


@sick("UG121")
def exponential_left_out_of_the_divergence() -> Arguments:
    x = data()

    def divergence(mean: Tensor, log_var: Tensor) -> Tensor:
        return 0.5 * (mean**2 + log_var**2 - log_var - 1).sum(1).mean()

    return coder(half_exp), (x, x), {"loss": lambda o, t: 2 * summed(o[0], t) + divergence(*o[1:])}


@sick("UG121")
def pictures_averaged_by_a_convolutional_model() -> Arguments:
    x = data(64, 64).unflatten(1, (1, 8, 8)) * 0.5

    def run(net: Net, x: Tensor) -> Outputs:
        mean, log_var = net.encode(x).chunk(2, 1)
        return net.decode(mean + half_exp(log_var) * torch.randn_like(mean)), mean, log_var

    encode = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 8))
    model = Net(run, encode=encode, decode=nn.Sequential(chain(4, 32, 64), nn.Unflatten(1, (1, 8, 8))))
    return model, (x, x), {"loss": lambda o, t: F.mse_loss(o[0], t) + of_log_var(*o[1:])}


# ---- healthy ---------------------------------------------------------------------------------------------------


@healthy("UG121")
def squares_summed_like_the_divergence() -> Arguments:
    x = data()
    return coder(half_exp), (x, x), {"loss": lambda o, t: summed(o[0], t) + of_log_var(*o[1:])}


@healthy("UG121")
def averaged_both_with_a_small_factor() -> Arguments:
    x = data()
    loss = lambda o, t: F.mse_loss(o[0], t) + 1e-3 * of_log_var(*o[1:])  # noqa: E731
    return coder(half_exp), (x, x), {"loss": loss}


@healthy("UG121")
def deviation_of_a_softplus() -> Arguments:
    x = data()

    def run(net: Net, x: Tensor) -> Outputs:
        mean, raw = net.encode(x).chunk(2, 1)
        std = F.softplus(raw) + 1e-4
        return net.decode(mean + std * torch.randn_like(mean)), mean, std

    model = Net(run, encode=chain(24, 32, 8), decode=chain(4, 32, 24))
    return model, (x, x), {"loss": lambda o, t: summed(o[0], t) + of_deviation(*o[1:])}


@healthy("UG121")
def a_distribution_of_torch() -> Arguments:
    x = data()

    def run(net: Net, x: Tensor) -> Outputs:
        mean, log_std = net.encode(x).chunk(2, 1)
        return net.decode(torch.distributions.Normal(mean, log_std.exp()).rsample()), mean, log_std

    def loss(o: Outputs, t: Tensor) -> Tensor:
        coded = torch.distributions.Normal(o[1], o[2].exp())
        prior = torch.distributions.Normal(torch.zeros_like(o[1]), torch.ones_like(o[1]))
        return summed(o[0], t) + torch.distributions.kl_divergence(coded, prior).sum(1).mean()

    return Net(run, encode=chain(24, 32, 8), decode=chain(4, 32, 24)), (x, x), {"loss": loss}


@healthy("UG121")
def free_bits() -> Arguments:
    x = data()

    def loss(o: Outputs, t: Tensor) -> Tensor:
        mean, log_var = o[1:]
        each = -0.5 * (1 + log_var - mean**2 - log_var.exp())
        return summed(o[0], t) + each.clamp(min=0.2).sum(1).mean()

    return coder(half_exp), (x, x), {"loss": loss}


@healthy("UG121")
def binary_pixels() -> Arguments:
    x = (data() > 0).float()

    def loss(o: Outputs, t: Tensor) -> Tensor:
        return BCE_LOGITS(o[0], t, reduction="sum") / len(t) + of_log_var(*o[1:])

    return coder(half_exp), (x, x), {"loss": loss}


@healthy("UG121")
def noise_in_a_regression_that_learns_its_deviation() -> Arguments:
    """A likelihood: the deviation is that of the error, and no prior's."""
    x = data()
    y = 0.3 * torch.tanh(x[:, :2])

    def run(net: Net, x: Tensor) -> Outputs:
        mean, log_std = net.body(x).chunk(2, 1)
        return mean + log_std.exp() * torch.randn_like(mean), mean, log_std

    def loss(o: Outputs, t: Tensor) -> Tensor:
        return (o[2] + 0.5 * ((t - o[1]) / o[2].exp()) ** 2).sum(1).mean()

    return Net(run, body=chain(24, 32, 4)), (x, y), {"loss": loss}


@healthy("UG121")
def noise_of_a_fixed_size() -> Arguments:
    x = data()

    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        code = net.encode(x)
        return net.decode(code + 0.1 * torch.randn_like(code)), code

    def loss(o: tuple[Tensor, Tensor], t: Tensor) -> Tensor:
        return F.mse_loss(o[0], t) + 1e-3 * o[1].square().mean()

    return Net(run, encode=chain(24, 32, 4), decode=chain(4, 32, 24)), (x, x), {"loss": loss}
