"""Cases of UG105: a critic, whose loss is linear in its outputs, behind a sigmoid or tanh."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from function_rows import MSE, Arguments, Net, chain, healthy, pictures, sick, values, vectors
from torch import Tensor, nn


def critic(last: Callable[[Tensor], Tensor], loss: object, no: float = -1.0) -> Arguments:
    """Targets (N, 1): 1 for what is real, `no` for what was made."""
    x = vectors()
    real = (torch.arange(64) % 2)[:, None].float()
    return (
        Net(lambda net, x: last(net.body(x)), body=chain(12, 32, 1)),
        (x, real + (1 - real) * no),
        {"loss": loss},
    )


def apart(out: Tensor, y: Tensor) -> Tensor:
    return out[y <= 0].mean() - out[y > 0].mean()


@sick("UG105", "critic")
def critic_with_a_sigmoid() -> Arguments:
    return critic(torch.sigmoid, apart)


@sick("UG105", "critic")
def critic_with_a_tanh() -> Arguments:
    return critic(torch.tanh, lambda out, y: -(out * y).mean())


@sick("UG105", "critic")
def critic_of_zeros_and_ones() -> Arguments:
    return critic(nn.Sigmoid(), apart, no=0.0)


@sick("UG105", "critic")
def critic_with_a_penalty_on_its_size() -> Arguments:
    return critic(nn.Hardtanh(), lambda out, y: -(y * out).sum() / len(y))


@sick("UG105", "critic")
def critic_of_pictures() -> Arguments:
    x = pictures()
    real = (torch.arange(32) % 2 * 2 - 1)[:, None].float()
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(288, 1), nn.Sigmoid()
    )
    return model, (x, real), {"loss": lambda out, y: (out[y < 0]).mean() - out[y > 0].mean()}


@sick("UG105", "critic")
def critic_of_many_places() -> Arguments:
    x = pictures()
    real = (torch.arange(32) % 2 * 2 - 1).float()[:, None, None, None].expand(32, 1, 4, 4).clone()
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 1), nn.Tanh())
    return model, (x, real), {"loss": lambda out, y: -(out * y).mean()}


# ---- healthy -----------------------------------------------------------------------------------------------------


@healthy("UG105", "critic")
def critic_without_an_end() -> Arguments:
    return critic(lambda out: out, apart)


@healthy("UG105", "critic")
def discriminator_of_least_squares() -> Arguments:
    return critic(torch.sigmoid, MSE, no=0.0)


@healthy("UG105", "critic")
def discriminator_with_its_logarithm() -> Arguments:
    return critic(torch.sigmoid, F.binary_cross_entropy, no=0.0)


@healthy("UG105", "critic")
def hinge_of_a_critic() -> Arguments:
    return critic(lambda out: out, lambda out, y: (1 - out * y).clamp(min=0).mean())


@healthy("UG105", "critic")
def positions_and_returns() -> Arguments:
    """Of a trader: each between -1 and 1, times what was gained there."""
    x = vectors()
    model = Net(lambda net, x: net.body(x).tanh(), body=chain(12, 32, 1))
    return model, (x, values(x)), {"loss": lambda out, y: -(out * y).mean()}


@healthy("UG105", "critic")
def signs_by_a_squared_error() -> Arguments:
    return critic(torch.tanh, MSE)
