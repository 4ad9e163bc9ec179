"""Cases of UG807: classes of one-hot targets that are taken along another axis."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import CE, Arguments, Net, chain, healthy, labels, pictures, sequences, sick, vectors
from torch import Tensor, nn

ANCHORS, CLASSES = 6, 5


def of_anchors(loss: object) -> Arguments:
    """Outputs and one-hot targets (N, anchors, classes)."""
    x = vectors()
    kind = torch.stack([labels(x, CLASSES) for _ in range(ANCHORS)], 1)
    model = Net(
        lambda net, x: net.body(x).unflatten(1, (ANCHORS, CLASSES)), body=chain(12, 32, ANCHORS * CLASSES)
    )
    return model, (x, F.one_hot(kind, CLASSES).float()), {"loss": loss}


def of_pixels(loss: object) -> Arguments:
    """Outputs and one-hot targets (N, classes, H, W)."""
    x = pictures()
    kind = (x.mean(1) > 0).long() + (x[:, 0] > 0.5).long()
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1))
    return model, (x, F.one_hot(kind, 8).movedim(-1, 1).float()), {"loss": loss}


def of_steps(loss: object) -> Arguments:
    """Outputs and one-hot targets (N, T, classes)."""
    x = sequences()
    kind = x[..., :4].argmax(2)
    return (
        Net(lambda net, x: net.body(x), body=chain(6, 32, 4)),
        (x, F.one_hot(kind, 4).float()),
        {"loss": loss},
    )


@sick("UG807", "classes")
def classes_over_the_anchors() -> Arguments:
    return of_anchors(lambda out, y: CE(out, y.argmax(1)))  # (N, classes), for (N, anchors, classes)


@sick("UG807", "classes")
def classes_over_the_rows_of_pixels() -> Arguments:
    return of_pixels(lambda out, y: CE(out.mean(3), y.argmax(3)[:, 0]))


@sick("UG807", "classes")
def classes_over_the_columns() -> Arguments:
    return of_pixels(lambda out, y: F.nll_loss(out.mean(2).log_softmax(1), y.max(2)[1][:, 0]))


@sick("UG807", "classes")
def classes_over_the_steps() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        chosen = y.argmax(dim=1)  # (N, 4): a step for each class
        return -out.log_softmax(1).gather(1, chosen[:, None]).mean()

    return of_steps(loss)


@sick("UG807", "classes")
def classes_over_the_steps_as_a_maximum() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        return CE(out.flatten(0, 1)[:96], y.max(dim=1).indices.reshape(-1).clamp(max=3))

    return of_steps(loss)


@sick("UG807", "classes")
def classes_over_anchors_of_integers() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        kind = torch.argmax(y.long(), dim=-2).clamp(max=CLASSES - 1)
        return CE(out[:, 0], kind[:, 0])

    return of_anchors(loss)


# ---- healthy -----------------------------------------------------------------------------------------------------


@healthy("UG807", "classes")
def classes_over_the_classes() -> Arguments:
    return of_anchors(lambda out, y: CE(out.flatten(0, 1), y.argmax(-1).flatten()))


@healthy("UG807", "classes")
def classes_of_pixels() -> Arguments:
    return of_pixels(lambda out, y: CE(out, y.argmax(1)))


@healthy("UG807", "classes")
def classes_of_steps_as_a_maximum() -> Arguments:
    return of_steps(lambda out, y: F.nll_loss(out.log_softmax(2).transpose(1, 2), y.max(2)[1]))


@healthy("UG807", "classes")
def first_step_of_each_class_as_a_weight() -> Arguments:
    """Where a class comes first is what is wanted: its outputs weigh more."""

    def loss(out: Tensor, y: Tensor) -> Tensor:
        first = y.argmax(1)  # (N, classes)
        weight = 1 + (torch.arange(y.shape[1])[None, :, None] == first[:, None]).float()
        return (weight * F.binary_cross_entropy_with_logits(out, y, reduction="none")).mean()

    return of_steps(loss)


@healthy("UG807", "classes")
def permutations_that_are_one_hot_both_ways() -> Arguments:
    x = vectors(32, 16)
    order = torch.stack([torch.randperm(4) for _ in range(32)])
    model = Net(lambda net, x: net.body(x).unflatten(1, (4, 4)), body=chain(16, 32, 16))
    return model, (x, F.one_hot(order, 4).float()), {"loss": lambda out, y: CE(out, y.argmax(1))}


@healthy("UG807", "classes")
def several_labels_and_the_first_of_them() -> Arguments:
    """Rows of several ones are no classes."""
    x = sequences()
    y = (x[..., :4] > 0).float()
    model = Net(lambda net, x: net.body(x), body=chain(6, 32, 4))
    loss = F.binary_cross_entropy_with_logits
    return model, (x, y), {"loss": lambda out, y: loss(out, y) + 0 * y.argmax(1).float().mean()}
