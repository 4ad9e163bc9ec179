"""Cases of targets: boxes in another form (UG106), even ones and one for all outputs (UG111)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import CE, MSE, Arguments, Net, chain, healthy, labels, sick, vectors
from torch import Tensor, nn


def centres(n: int = 64) -> Tensor:
    size = 0.1 + 0.3 * torch.rand(n, 2)
    return torch.cat([size / 2 + (1 - size) * torch.rand(n, 2), size], 1)


def corners(box: Tensor) -> Tensor:
    return torch.cat([box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2], -1)


def places(n: int = 64) -> Tensor:
    box = corners(centres(n))
    return torch.cat([box[:, :2], box[:, 2:] - box[:, :2]], 1)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    inner = (torch.min(a[..., 2:], b[..., 2:]) - torch.max(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b)]
    return inner / (areas[0] + areas[1] - inner + 1e-7)


def generalized(a: Tensor, b: Tensor) -> Tensor:
    inner = (torch.min(a[..., 2:], b[..., 2:]) - torch.max(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b)]
    union = areas[0] + areas[1] - inner
    hull = (torch.max(a[..., 2:], b[..., 2:]) - torch.min(a[..., :2], b[..., :2])).prod(-1)
    return inner / union - (hull - union) / hull


def distant(a: Tensor, b: Tensor) -> Tensor:
    """Overlap less the squared distance of the centres over the hull's diagonal."""
    between = ((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2).square().sum(-1)
    hull = torch.max(a[..., 2:], b[..., 2:]) - torch.min(a[..., :2], b[..., :2])
    return overlap(a, b) - between / (hull.square().sum(-1) + 1e-7)


def boxed(target: Tensor, loss: object) -> Arguments:
    """From noisy features of the boxes."""
    x = torch.cat([target + 0.02 * torch.randn_like(target), target.square()], -1)
    return nn.Sequential(*chain(8, 32, 4), nn.Sigmoid()), (x, target), {"loss": loss}


# ---- boxes -----------------------------------------------------------------------------------------------------


@sick("UG106", "boxes")
def centres_given_to_an_overlap_of_corners() -> Arguments:
    return boxed(centres(), lambda out, y: (1 - overlap(out, y)).mean())


@sick("UG106", "boxes")
def centres_given_to_a_generalized_overlap() -> Arguments:
    return boxed(centres(), lambda out, y: 1 - generalized(out, y).mean())


@sick("UG106", "boxes")
def first_corner_and_size_given_to_an_overlap() -> Arguments:
    return boxed(places(), lambda out, y: (1 - overlap(out, y)).mean())


@sick("UG106", "boxes")
def centres_in_a_distance_overlap() -> Arguments:
    return boxed(centres(), lambda out, y: (1 - distant(out, y)).sum() / len(y))


@sick("UG106", "boxes")
def several_boxes_of_a_picture_as_centres() -> Arguments:
    target = centres(96).reshape(24, 4, 4)
    return boxed(target, lambda out, y: (1 - generalized(out, y)).mean())


@sick("UG106", "boxes")
def logarithm_of_the_overlap_of_centres() -> Arguments:
    return boxed(centres(), lambda out, y: -(overlap(out, y).clamp(min=1e-3)).log().mean())


@healthy("UG106", "boxes")
def centres_brought_to_corners_in_the_loss() -> Arguments:
    return boxed(centres(), lambda out, y: (1 - generalized(corners(out), corners(y))).mean())


@healthy("UG106", "boxes")
def corners_given_as_they_are() -> Arguments:
    return boxed(corners(centres()), lambda out, y: (1 - generalized(out, y)).mean() + F.l1_loss(out, y))


@healthy("UG106", "boxes")
def absolute_error_of_centres() -> Arguments:
    return boxed(centres(), lambda out, y: F.l1_loss(out, y))


@healthy("UG106", "boxes")
def absolute_error_and_overlap_of_corners() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        return 5 * F.l1_loss(out, y) + 2 * (1 - generalized(corners(out), corners(y))).mean()

    return boxed(centres(), loss)


@healthy("UG106", "boxes")
def four_numbers_that_are_no_boxes() -> Arguments:
    x = vectors()
    y = torch.rand(64, 4)
    return chain(12, 32, 4), (x, y), {"loss": lambda out, y: (1 - F.cosine_similarity(out, y)).mean()}


@healthy("UG106", "boxes")
def four_weighed_columns() -> Arguments:
    x = vectors()
    weights = torch.tensor([1.0, 1.0, 0.1, 0.1])
    return (
        chain(12, 32, 4),
        (x, torch.rand(64, 4)),
        {"loss": lambda o, y: ((o - y).square() * weights).mean()},
    )


# ---- targets that are nearly even ------------------------------------------------------------------------------


def classified(loss: object, classes: int = 5) -> Arguments:
    x = vectors(96)
    return chain(12, 32, classes), (x, labels(x, classes)), {"loss": loss}


def matched(loss: object) -> Arguments:
    """Two views of one thing."""
    x = vectors()

    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.normalize(net.one(x), dim=1), F.normalize(net.two(x), dim=1)

    return Net(run, one=chain(12, 32, 8), two=chain(12, 32, 8)), (x, torch.arange(64)), {"loss": loss}


@sick("UG111", "even")
def smoothing_of_nine_tenths() -> Arguments:
    return classified(nn.CrossEntropyLoss(label_smoothing=0.95))


@sick("UG111", "even")
def rows_smoothed_by_hand_the_wrong_way_round() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        soft = F.one_hot(y, 5) * 0.05 + 0.95 / 5
        return CE(out, soft)

    return classified(loss)


@sick("UG111", "even")
def similarities_times_the_temperature() -> Arguments:
    def loss(o: tuple[Tensor, Tensor], _: Tensor) -> Tensor:
        wanted = (o[0] @ o[0].T * 0.07).detach().softmax(1)
        return CE(o[0] @ o[1].T / 0.07, wanted)

    return matched(loss)


@sick("UG111", "even")
def similarities_without_a_temperature() -> Arguments:
    def loss(o: tuple[Tensor, Tensor], _: Tensor) -> Tensor:
        wanted = ((o[0] @ o[0].T + o[1] @ o[1].T) / 2).detach().mul(0.5).softmax(1)
        return CE(o[0] @ o[1].T / 0.1, wanted)

    return matched(loss)


@sick("UG111", "even")
def teacher_at_a_temperature_of_a_hundred() -> Arguments:
    x = vectors(96)
    teacher = 3 * torch.randn(96, 5)
    return chain(12, 32, 5), (x, (teacher / 100).softmax(1)), {"loss": CE}


@sick("UG111", "even")
def soft_targets_passed_a_softmax_twice() -> Arguments:
    x = vectors(96)
    once = (2 * torch.randn(96, 12)).softmax(1)
    return chain(12, 32, 12), (x, once.softmax(1)), {"loss": CE}


@healthy("UG111", "even")
def smoothing_of_a_tenth() -> Arguments:
    return classified(nn.CrossEntropyLoss(label_smoothing=0.1))


@healthy("UG111", "even")
def smoothing_of_three_tenths_of_two_classes() -> Arguments:
    return classified(nn.CrossEntropyLoss(label_smoothing=0.3), 2)


@healthy("UG111", "even")
def teacher_at_a_temperature_of_four() -> Arguments:
    x = vectors(96)
    return chain(12, 32, 10), (x, (4 * torch.randn(96, 10) / 4).softmax(1)), {"loss": CE}


@healthy("UG111", "even")
def similarities_over_the_temperature() -> Arguments:
    def loss(o: tuple[Tensor, Tensor], _: Tensor) -> Tensor:
        wanted = (o[0] @ o[0].T / 0.1).detach().softmax(1)
        return CE(o[0] @ o[1].T / 0.1, wanted)

    return matched(loss)


@healthy("UG111", "even")
def two_labels_mixed() -> Arguments:
    x = vectors(96)
    y = F.one_hot(labels(x, 5), 5).float()
    return chain(12, 32, 5), (0.6 * x + 0.4 * x.flip(0), 0.6 * y + 0.4 * y.flip(0)), {"loss": CE}


@healthy("UG111", "even")
def pairs_found_in_a_batch() -> Arguments:
    return matched(lambda o, y: CE(o[0] @ o[1].T / 0.1, y))


# ---- one target for all outputs --------------------------------------------------------------------------------


def expanded(classes: int, loss: object = MSE, dtype: torch.dtype = torch.float32) -> Arguments:
    x = vectors(120)
    y = labels(x, classes)[:, None].expand(-1, classes).to(dtype).clone()
    return chain(12, 32, classes), (x, y), {"loss": loss}


@sick("UG111", "one for all")
def class_numbers_laid_along_four_outputs() -> Arguments:
    return expanded(4)


@sick("UG111", "one for all")
def class_numbers_by_absolute_error() -> Arguments:
    return expanded(6, F.l1_loss)


@sick("UG111", "one for all")
def class_numbers_by_a_huber_loss() -> Arguments:
    return expanded(3, lambda out, y: (out - y).square().sum(1).mean())


@sick("UG111", "one for all")
def numbers_of_ten_classes() -> Arguments:
    return expanded(10)


@sick("UG111", "one for all")
def by_half_the_squared_error() -> Arguments:
    return expanded(5, lambda out, y: 0.5 * ((out - y) ** 2).mean())


@sick("UG111", "one for all")
def behind_a_module_of_torch() -> Arguments:
    return expanded(4, nn.MSELoss())


@healthy("UG111", "one for all")
def an_ensemble_of_regressions() -> Arguments:
    x = vectors()
    return chain(12, 32, 5), (x, torch.randn(64, 1).expand(-1, 5).clone()), {"loss": MSE}


@healthy("UG111", "one for all")
def quantiles_of_one_number() -> Arguments:
    q = torch.tensor([0.1, 0.5, 0.9])
    x = vectors()
    loss = lambda out, y: torch.maximum(q * (y - out), (q - 1) * (y - out)).mean()  # noqa: E731
    return chain(12, 32, 3), (x, torch.randint(0, 3, (64, 1)).float().expand(-1, 3).clone()), {"loss": loss}


@healthy("UG111", "one for all")
def counts_of_several_things() -> Arguments:
    x = vectors()
    return chain(12, 32, 4), (x, torch.randint(0, 4, (64, 4)).float()), {"loss": MSE}


@healthy("UG111", "one for all")
def one_hot_rows_with_cross_entropy() -> Arguments:
    x = vectors(96)
    return chain(12, 32, 4), (x, F.one_hot(labels(x), 4).float()), {"loss": CE}


@healthy("UG111", "one for all")
def numbers_beyond_the_outputs() -> Arguments:
    x = vectors()
    y = torch.randn(64, 1).mul(3).round().expand(-1, 3).clone()
    return chain(12, 32, 3), (x, y), {"loss": MSE}


@healthy("UG111", "one for all")
def single_output_of_whole_numbers() -> Arguments:
    x = vectors()
    return chain(12, 32, 1), (x, (x[:, :1] * 2).round()), {"loss": MSE}
