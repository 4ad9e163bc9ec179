"""Cases of UG108: a further output whose last function keeps it from where the loss is lowest."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from function_rows import Arguments, Net, chain, healthy, pictures, sick, values, vectors
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]


def two_headed(loss: object, last: Callable[[Tensor], Tensor], columns: int = 1) -> Arguments:
    """A network with a mean and another output, behind a function."""
    x = vectors()
    model = Net(
        lambda net, x: (net.mean(h := net.body(x).relu()), last(net.other(h))),
        body=chain(12, 32),
        mean=nn.Linear(32, columns),
        other=nn.Linear(32, columns),
    )
    return model, (x, values(x, columns)), {"loss": loss}


def of_log_variance(out: Pair, y: Tensor) -> Tensor:
    mean, s = out
    return 0.5 * (s + (y - mean).square() * (-s).exp()).mean()


def of_log_width(out: Pair, y: Tensor) -> Tensor:
    return (out[1] + (y - out[0]).abs() * (-out[1]).exp()).mean()


@sick("UG108", "further")
def softplus_on_a_log_variance() -> Arguments:
    return two_headed(of_log_variance, F.softplus)


@sick("UG108", "further")
def relu_on_a_log_variance() -> Arguments:
    return two_headed(of_log_variance, torch.relu, 3)


@sick("UG108", "further")
def softplus_on_a_log_width() -> Arguments:
    return two_headed(of_log_width, nn.Softplus())


@sick("UG108", "further")
def exponential_on_a_log_variance() -> Arguments:
    return two_headed(of_log_variance, torch.exp)


@sick("UG108", "further")
def log_deviation_behind_a_square() -> Arguments:
    def loss(out: Pair, y: Tensor) -> Tensor:
        return -torch.distributions.Normal(out[0], out[1].exp()).log_prob(y).mean()

    return two_headed(loss, lambda h: F.softplus(h) + 0.0)


@sick("UG108", "further")
def uncertainty_of_pixels_behind_a_relu() -> Arguments:
    x = pictures()
    y = F.avg_pool2d(x.mean(1, keepdim=True), 3, 1, 1)
    model = Net(
        lambda net, x: {"depth": net.depth(h := net.body(x).relu()), "doubt": net.doubt(h).relu()},
        body=nn.Conv2d(3, 8, 3, padding=1),
        depth=nn.Conv2d(8, 1, 1),
        doubt=nn.Conv2d(8, 1, 1),
    )
    return model, (x, y), {"loss": lambda out, y: of_log_variance((out["depth"], out["doubt"]), y)}


# ---- healthy -----------------------------------------------------------------------------------------------------


@healthy("UG108", "further")
def plain_log_variance() -> Arguments:
    return two_headed(of_log_variance, lambda h: h)


@healthy("UG108", "further")
def softplus_on_a_variance() -> Arguments:
    return two_headed(lambda out, y: F.gaussian_nll_loss(out[0], y, out[1]), lambda h: F.softplus(h) + 1e-4)


@healthy("UG108", "further")
def softplus_on_a_deviation_that_is_clamped() -> Arguments:
    def loss(out: Pair, y: Tensor) -> Tensor:
        s = out[1].clamp(min=1e-3)
        return (s.log() + 0.5 * ((y - out[0]) / s).square()).mean()

    return two_headed(loss, F.softplus)


@healthy("UG108", "further")
def precision_that_is_positive() -> Arguments:
    def loss(out: Pair, y: Tensor) -> Tensor:
        return 0.5 * (out[1] * (y - out[0]).square() - (out[1] + 1e-6).log()).mean()

    return two_headed(loss, F.softplus)


@healthy("UG108", "further")
def weights_of_an_attention_to_errors() -> Arguments:
    def loss(out: Pair, y: Tensor) -> Tensor:
        w = out[1] / out[1].mean()
        return (w * (y - out[0]).square()).mean()

    return two_headed(loss, F.softplus)


@healthy("UG108", "further")
def code_that_is_kept_sparse() -> Arguments:
    def loss(out: Pair, y: Tensor) -> Tensor:
        return (y - out[0]).square().mean() + 0.01 * out[1].abs().mean()

    return two_headed(loss, torch.relu)
