"""Cases of UG120: one of several terms of the loss has the wrong sign."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import (
    BCE_LOGITS,
    CE,
    MSE,
    Arguments,
    chain,
    healthy,
    labels,
    pictures,
    sick,
    values,
    vectors,
)
from torch import Tensor, nn


def fitted(loss: object, width: int = 6) -> Arguments:
    x = vectors()
    return chain(12, 32, width), (x, values(x, width)), {"loss": loss}


def drawn(loss: object, binary: bool = False) -> Arguments:
    """A picture from a picture."""
    x = pictures(16)
    y = F.avg_pool2d(x.mean(1, keepdim=True), 3, 1, 1)
    y = (y > 0.1).float() if binary else (y / y.std()).sigmoid()
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
    return model, (x, y), {"loss": loss}


def classified(loss: object) -> Arguments:
    x = vectors()
    return chain(12, 32, 4), (x, labels(x)), {"loss": loss}


def ssim(a: Tensor, b: Tensor) -> Tensor:
    mean = lambda t: F.avg_pool2d(t, 3, 1)  # noqa: E731
    ma, mb = mean(a), mean(b)
    va, vb, ab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c, d = 0.01**2, 0.03**2
    return ((2 * ma * mb + c) * (2 * ab + d) / ((ma**2 + mb**2 + c) * (va + vb + d))).mean()


def dice(out: Tensor, y: Tensor) -> Tensor:
    p = out.sigmoid()
    return (2 * (p * y).sum((1, 2, 3)) + 1) / (p.sum((1, 2, 3)) + y.sum((1, 2, 3)) + 1)


# ---- sick ------------------------------------------------------------------------------------------------------


@sick("UG120", "terms")
def cosine_beside_a_squared_error() -> Arguments:
    return fitted(lambda out, y: MSE(out, y) + 0.5 * F.cosine_similarity(out, y).mean())


@sick("UG120", "terms")
def structure_beside_an_absolute_error() -> Arguments:
    return drawn(lambda out, y: 0.15 * F.l1_loss(out, y) + 0.85 * ssim(out, y))


@sick("UG120", "terms")
def overlap_beside_cross_entropy() -> Arguments:
    return drawn(lambda out, y: BCE_LOGITS(out, y) + dice(out, y).mean(), True)


@sick("UG120", "terms")
def soft_intersection_over_union_added() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        p = torch.sigmoid(out)
        both = (p * y).sum()
        iou = both / (p.sum() + y.sum() - both + 1e-6)
        return torch.stack([F.binary_cross_entropy(p, y), iou]).sum()

    return drawn(loss, True)


@sick("UG120", "terms")
def correlation_beside_a_huber_loss() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        a, b = out - out.mean(0), y - y.mean(0)
        r = (a * b).sum() / (a.norm() * b.norm() + 1e-8)
        total = F.smooth_l1_loss(out, y)
        total = total + r
        return total

    return fitted(loss)


@sick("UG120", "terms")
def probability_of_the_right_class_beside_its_logarithm() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        right = out.softmax(-1)[torch.arange(len(y)), y]
        return CE(out, y) + 0.5 * right.mean()

    return classified(loss)


@sick("UG120", "terms")
def kernel_beside_an_error() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        near = torch.exp(-(out - y).pow(2).mean(1)).mean()
        return (out - y).abs().mean() + near

    return fitted(loss)


@sick("UG120", "terms")
def minus_in_front_of_one_minus_a_cosine() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        far = 1 - F.cosine_similarity(out, y, dim=-1)
        return F.mse_loss(out, y) - 0.3 * far.mean()

    return fitted(loss)


# ---- healthy ---------------------------------------------------------------------------------------------------


@healthy("UG120", "terms")
def one_minus_a_cosine_beside_a_squared_error() -> Arguments:
    return fitted(lambda out, y: MSE(out, y) + 0.5 * (1 - F.cosine_similarity(out, y).mean()))


@healthy("UG120", "terms")
def one_minus_the_structure() -> Arguments:
    return drawn(lambda out, y: 0.15 * F.l1_loss(out, y) + 0.85 * (1 - ssim(out, y)) / 2)


@healthy("UG120", "terms")
def overlap_subtracted() -> Arguments:
    return drawn(lambda out, y: BCE_LOGITS(out, y) - dice(out, y).mean().log(), True)


@healthy("UG120", "terms")
def focal_weights_of_certain_answers() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        each = CE(out, y, reduction="none")
        right = (-each).exp()
        return ((1 - right) ** 2 * each).mean() + 0.1 * each.mean()

    return classified(loss)


@healthy("UG120", "terms")
def a_penalty_of_large_outputs_and_small_ones() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        return MSE(out, y) + 0.01 * out.square().mean() + 0.1 * (1 - out.std(0)).relu().mean()

    return fitted(loss)


@healthy("UG120", "terms")
def confidence_that_is_held_back() -> Arguments:
    """A bonus for the entropy of the answers."""

    def loss(out: Tensor, y: Tensor) -> Tensor:
        p = out.softmax(1)
        entropy = -(p * out.log_softmax(1)).sum(1).mean()
        return CE(out, y) - 0.05 * entropy

    return classified(loss)


@healthy("UG120", "terms")
def similarities_that_are_logged() -> Arguments:
    shown: list[float] = []

    def loss(out: Tensor, y: Tensor) -> Tensor:
        shown.append(float(F.cosine_similarity(out, y).mean()))
        with torch.no_grad():
            scale = 1 + F.cosine_similarity(out, y).mean()
        return F.l1_loss(out, y) / scale.clamp(min=0.5)

    return fitted(loss)


@healthy("UG120", "terms")
def a_margin_between_right_and_wrong_ones() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        right = F.cosine_similarity(out, y)
        wrong = F.cosine_similarity(out, y.roll(1, 0))
        return (0.5 - right + wrong).relu().mean() + 0.1 * MSE(out, y)

    return fitted(loss)


@healthy("UG120", "terms")
def a_ratio_of_errors() -> Arguments:
    """Error over the targets' and outputs' size, whose denominator is largest where outputs are right or large."""

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return (out - y).square().sum() / (out.square().sum() + y.square().sum()) + MSE(out, y)

    return fitted(loss)
