"""Cases of UG116: the loss compares a target with another place of the outputs than its own; and of UG807: its softmax
runs along another axis than that of the classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import BCE_LOGITS, CE, MSE, Arguments, Net, chain, healthy, labels, pictures, sick, vectors
from torch import Tensor, nn

PLACES, LOSS = "places", "loss"


def along_time(width: int = 3) -> nn.Module:
    """(N, 4, T) to (N, width, T)."""
    return nn.Sequential(nn.Conv1d(4, 24, 5, padding=2), nn.ReLU(), nn.Conv1d(24, width, 1))


def waves(n: int = 24, steps: int = 10) -> tuple[Tensor, Tensor]:
    """(N, 4, T) and a class of three for each step."""
    x = torch.randn(n, 4, steps)
    return x, torch.bucketize(x[:, 0] + x[:, 1], torch.tensor([-0.6, 0.6]))


def by_step(width: int = 3) -> nn.Module:
    """(N, T, 4) to (N, T, width)."""
    return Net(
        lambda net, x: net.head(net.rnn(x)[0]), rnn=nn.GRU(4, 24, batch_first=True), head=nn.Linear(24, width)
    )


def pixels(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, width, 1))


# ---- places ----------------------------------------------------------------------------------------------------


@sick("UG116", PLACES)
def scores_viewed_as_rows_of_classes() -> Arguments:
    x, y = waves()
    return along_time(), (x, y), {"loss": lambda out, y: CE(out.reshape(-1, 3), y.reshape(-1))}


@sick("UG116", PLACES)
def pixels_viewed_as_rows_of_classes() -> Arguments:
    x = pictures()
    y = torch.bucketize(x.mean(1), torch.tensor([-0.5, -0.1, 0.3]))
    return pixels(4), (x, y), {"loss": lambda out, y: F.nll_loss(out.log_softmax(1).view(-1, 4), y.view(-1))}


@sick("UG116", PLACES)
def steps_viewed_as_classes() -> Arguments:
    x, y = waves()
    return by_step(), (x.mT, y), {"loss": lambda out, y: CE(out.reshape(len(out), 3, -1), y)}


@sick("UG116", PLACES)
def tags_of_each_step_viewed_in_the_outputs_shape() -> Arguments:
    x, _ = waves()
    y = (x[:, :3] > 0).float().mT  # (N, T, 3), and the outputs are (N, 3, T)
    return along_time(), (x, y), {"loss": lambda out, y: BCE_LOGITS(out.reshape(y.shape), y)}


@sick("UG116", PLACES)
def heatmaps_reshaped_to_channels_last() -> Arguments:
    x = pictures()
    y = torch.stack([x.mean(1), x[:, 0] - x[:, 1]], 3)  # (N, H, W, 2)
    return pixels(2), (x, y), {"loss": lambda out, y: MSE(out, y.reshape(out.shape))}


@sick("UG116", PLACES)
def labels_with_the_steps_first() -> Arguments:
    x, y = waves()
    return by_step(), (x.mT, y), {"loss": lambda out, y: CE(out.reshape(-1, 3), y.T.reshape(-1))}


@sick("UG116", PLACES)
def outputs_turned_and_labels_not() -> Arguments:
    x, y = waves()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return CE(out.transpose(0, 1).reshape(-1, 3), y.reshape(-1), weight=torch.tensor([1.0, 2.0, 1.0]))

    return by_step(), (x.mT, y), {"loss": loss}


@sick("UG116", PLACES)
def two_values_for_each_step_viewed() -> Arguments:
    x, _ = waves()
    y = torch.stack([x.sum(1), x[:, 0]], 2) / 2  # (N, T, 2)
    return along_time(2), (x, y), {"loss": lambda out, y: F.smooth_l1_loss(out.view(-1, 2), y.view(-1, 2))}


@healthy("UG116", PLACES)
def scores_permuted_to_rows_of_classes() -> Arguments:
    x, y = waves()
    return along_time(), (x, y), {"loss": lambda out, y: CE(out.mT.reshape(-1, 3), y.reshape(-1))}


@healthy("UG116", PLACES)
def scores_with_classes_in_the_middle() -> Arguments:
    x, y = waves()
    return along_time(), (x, y), {"loss": CE}


@healthy("UG116", PLACES)
def steps_in_one_row() -> Arguments:
    x, y = waves()
    return by_step(), (x.mT, y), {"loss": lambda out, y: CE(out.flatten(0, 1), y.flatten())}


@healthy("UG116", PLACES)
def both_with_the_steps_first() -> Arguments:
    x, y = waves()
    y = y.masked_fill(torch.rand(y.shape) < 0.2, -100)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        rows = out.transpose(0, 1).reshape(-1, 3)
        return CE(rows, y.T.reshape(-1), weight=torch.tensor([1.0, 2.0, 1.0]))

    return by_step(), (x.mT, y), {"loss": loss}


@healthy("UG116", PLACES)
def heatmaps_permuted() -> Arguments:
    x = pictures()
    y = torch.stack([x.mean(1), x[:, 0] - x[:, 1]], 3)
    return pixels(2), (x, y), {"loss": lambda out, y: MSE(out, y.permute(0, 3, 1, 2))}


@healthy("UG116", PLACES)
def distances_of_sorted_values() -> Arguments:
    x, _ = waves()
    y = x[:, 0]
    return along_time(1), (x, y), {"loss": lambda out, y: (out[:, 0].sort(1)[0] - y.sort(1)[0]).abs().mean()}


@healthy("UG116", PLACES)
def each_target_takes_the_nearest_output() -> Arguments:
    x, _ = waves()
    y = torch.stack([x[:, 0], x[:, 1]], 2)  # points (N, T, 2), in any order

    def loss(out: Tensor, y: Tensor) -> Tensor:
        far = torch.cdist(out.mT, y)
        return far.amin(1).mean() + far.amin(2).mean()

    return along_time(2), (x, y), {"loss": loss}


@healthy("UG116", PLACES)
def overlap_of_whole_masks() -> Arguments:
    x = pictures()
    y = (x.mean(1, keepdim=True) > 0).float()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        p = out.sigmoid()
        return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)

    return pixels(1), (x, y), {"loss": loss}


# ---- the axis of a softmax in the loss ----------------------------------------------------------------------------


@sick("UG807", LOSS)
def log_softmax_over_the_examples() -> Arguments:
    x = vectors(96)
    return chain(12, 32, 4), (x, labels(x)), {"loss": lambda out, y: F.nll_loss(out.log_softmax(0), y)}


@sick("UG807", LOSS)
def softmax_over_the_examples_of_two_views() -> Arguments:
    x = vectors(48)
    y = F.one_hot(labels(x), 4).float().expand(2, -1, -1)
    model = Net(lambda net, x: net.body(x), body=chain(12, 32, 4))
    views = torch.stack([x, x + 0.1 * torch.randn(x.shape)])
    return model, (views, y), {"loss": lambda out, y: -(y * (out / 0.5).log_softmax(1)).sum(2).mean()}


@sick("UG807", LOSS)
def softmax_over_the_examples_of_sequences() -> Arguments:
    x, y = waves()
    rows = F.one_hot(y, 3).float()
    return (
        by_step(),
        (x.mT, rows),
        {"loss": lambda out, y: -(y * (out.softmax(0) + 1e-6).log()).sum(2).mean()},
    )


@sick("UG807", LOSS)
def softmax_over_the_steps() -> Arguments:
    x, y = waves()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return -out.log_softmax(1).gather(2, y[..., None]).mean()

    return by_step(), (x.mT, y), {"loss": loss}


@sick("UG807", LOSS)
def softmax_over_the_columns_of_a_picture() -> Arguments:
    x = pictures()
    y = torch.bucketize(x.mean(1), torch.tensor([-0.5, -0.1, 0.3]))
    rows = F.one_hot(y, 4).permute(0, 3, 1, 2).float()
    return pixels(4), (x, rows), {"loss": lambda out, y: -(y * out.log_softmax(-1)).sum(1).mean()}


@sick("UG807", LOSS)
def softmax_without_an_axis() -> Arguments:
    x = vectors(96)
    y = labels(x)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        chances = F.softmax(out, dim=0)
        return -(chances[torch.arange(len(y)), y] + 1e-8).log().mean()

    return chain(12, 32, 4), (x, y), {"loss": loss}


@healthy("UG807", LOSS)
def softmax_over_the_classes_of_two_views() -> Arguments:
    x = vectors(48)
    y = F.one_hot(torch.where(labels(x) > 2, 0, labels(x)), 4).float().expand(2, -1, -1)
    model = Net(lambda net, x: net.body(x), body=chain(12, 32, 4))
    views = torch.stack([x, x + 0.1 * torch.randn(x.shape)])
    return model, (views, y), {"loss": lambda out, y: -(y * (out / 0.5).log_softmax(2)).sum(2).mean()}


@healthy("UG807", LOSS)
def pairs_in_both_directions() -> Arguments:
    x = vectors(48)
    model = Net(
        lambda net, x: 5 * F.normalize(net.one(x), dim=1) @ F.normalize(net.two(x), dim=1).T,
        one=chain(12, 16), two=chain(12, 16),
    )  # fmt: skip
    return model, (x, torch.arange(48)), {"loss": lambda out, y: (CE(out, y) + CE(out.T, y)) / 2}


@healthy("UG807", LOSS)
def softmax_over_the_steps_to_point_at_one() -> Arguments:
    x, _ = waves()
    return (
        by_step(1),
        (x.mT, x[:, 0].argmax(1)),
        {"loss": lambda out, y: F.nll_loss(out.log_softmax(1)[..., 0], y)},
    )


@healthy("UG807", LOSS)
def heatmaps_that_sum_to_one() -> Arguments:
    x = pictures()
    y = (2 * torch.stack([x.mean(1), x[:, 0]], 1)).flatten(2).softmax(2).view(-1, 2, 8, 8)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return -(y.flatten(2) * out.flatten(2).log_softmax(2)).sum(2).mean()

    return pixels(2), (x, y), {"loss": loss}


@healthy("UG807", LOSS)
def sequences_by_class() -> Arguments:
    x, y = waves()
    rows = F.one_hot(y, 3).float()
    return by_step(), (x.mT, rows), {"loss": lambda out, y: -(y * out.log_softmax(2)).sum(2).mean()}


@healthy("UG807", LOSS)
def assignments_balanced_over_the_batch() -> Arguments:
    x = vectors(96)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        used = out.softmax(1).mean(0)
        return CE(out, y) + 0.1 * (used * used.log()).sum()

    return chain(12, 32, 4), (x, labels(x)), {"loss": loss}
