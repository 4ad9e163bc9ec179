"""Cases of UG119: losses without a minimum."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import BCE_LOGITS, CE, MSE, Arguments, Net, chain, healthy, labels, sick, values, vectors
from torch import Tensor


def autoencoder(loss: object) -> Arguments:
    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = net.encode(x).chunk(2, 1)
        return net.decode(mean + spread.exp() * torch.randn_like(mean)), mean, spread

    x = vectors(64, 12)
    return Net(run, encode=chain(12, 32, 8), decode=chain(4, 32, 12)), (x, x), {"loss": loss}


def classifier(loss: object) -> Arguments:
    x = vectors()
    y = F.one_hot(labels(x), 4).float() * 0.9 + 0.025
    return chain(12, 32, 4), (x, y), {"loss": loss}


def regression(loss: object, out: int = 1) -> Arguments:
    x = vectors()
    return chain(12, 32, out), (x, values(x)), {"loss": loss}


@sick("UG119")
def divergence_with_plus_log_sigma() -> Arguments:
    def loss(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        return MSE(out[0], x) + 0.5 * ((2 * out[2]).exp() + out[1].square() - 1 + 2 * out[2]).mean()

    return autoencoder(loss)


@sick("UG119")
def divergence_that_rewards_far_means() -> Arguments:
    def loss(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        return MSE(out[0], x) - out[1].abs().mean() + (2 * out[2]).exp().mean() - 2 * out[2].mean()

    return autoencoder(loss)


@sick("UG119")
def cross_entropy_of_swapped_arguments() -> Arguments:
    return classifier(lambda out, y: -(out * y.log_softmax(1)).sum(1).mean())


@sick("UG119")
def product_of_outputs_and_targets() -> Arguments:
    return regression(lambda out, y: -(out * y).mean())


@sick("UG119")
def penalty_that_is_subtracted() -> Arguments:
    x = vectors()
    return chain(12, 32, 4), (x, labels(x)), {"loss": lambda out, y: CE(out, y) - 0.1 * out.abs().mean()}


@sick("UG119")
def width_without_its_logarithm() -> Arguments:
    """The term that keeps the width small was left out of a Laplace likelihood."""

    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        return net.middle(x), net.width(x)

    x = vectors()
    model = Net(run, middle=chain(12, 24, 1), width=chain(12, 24, 1))
    return (
        model,
        (x, values(x)),
        {"loss": lambda out, y: ((out[0] - y).abs() * (-out[1]).exp() - out[1]).mean()},
    )


# ---- healthy -----------------------------------------------------------------------------------------------------


@healthy("UG119")
def divergence_with_its_sign() -> Arguments:
    def loss(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        return MSE(out[0], x) + 0.5 * ((2 * out[2]).exp() + out[1].square() - 1 - 2 * out[2]).mean()

    return autoencoder(loss)


@healthy("UG119")
def likelihood_with_a_width() -> Arguments:
    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        return net.middle(x), net.width(x)

    x = vectors()
    model = Net(run, middle=chain(12, 24, 1), width=chain(12, 24, 1))
    return (
        model,
        (x, values(x)),
        {"loss": lambda out, y: ((out[0] - y).abs() * (-out[1]).exp() + out[1]).mean()},
    )


@healthy("UG119")
def soft_targets() -> Arguments:
    return classifier(CE)


@healthy("UG119")
def two_sides_of_a_hinge() -> Arguments:
    x = vectors()
    y = values(x).sign()
    return chain(12, 32, 1), (x, y), {"loss": lambda out, y: (1 - y * out).clamp(min=0).mean()}


@healthy("UG119")
def cosine_of_outputs_and_targets() -> Arguments:
    x = vectors()
    return (
        chain(12, 32, 6),
        (x, values(x, 6)),
        {"loss": lambda out, y: -F.cosine_similarity(out, y, dim=1).mean()},
    )


@healthy("UG119")
def quantiles_and_logits() -> Arguments:
    x = vectors()
    y = (values(x) > 0).float()
    return (
        chain(12, 32, 1),
        (x, y),
        {"loss": lambda out, y: BCE_LOGITS(out, y) + (y - out).clamp(min=0).mean()},
    )
