"""Planted defects: what the loss compares. Networks of several families with a last function, a loss or targets that do
not fit."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from networks import (
    Recurrent,
    Then,
    Transformer,
    UNet,
    cnn,
    images,
    masks,
    mlp,
    numbers,
    pictures,
    series,
    texts,
    tokens,
    vectors,
)  # fmt: skip
from row import Case, sick
from torch import Tensor, nn

BCE, CE, MSE = F.binary_cross_entropy_with_logits, F.cross_entropy, F.mse_loss


def binary(x: Tensor, columns: int = 1) -> tuple[Tensor, Tensor]:
    """Targets (N, columns) of 0 and 1 beside the inputs."""
    return x, (x.flatten(1)[:, :columns] > 0).float()


def one_mask(n: int = 4) -> tuple[Tensor, Tensor]:
    """Pictures and a mask (N, 1, H, W) of 0 and 1."""
    x = pictures(n)
    return x, (x.mean(1, keepdim=True) > 0).float()


def scaled(batch: tuple[Tensor, Tensor], std: float, mean: float = 0.0) -> tuple[Tensor, Tensor]:
    return batch[0], batch[1] * std + mean


def rows(batch: tuple[Tensor, Tensor], classes: int = 10) -> tuple[Tensor, Tensor]:
    return batch[0], F.one_hot(batch[1], classes).float()


def dice(outputs: Tensor, target: Tensor) -> Tensor:
    return 1 - (2 * (outputs * target).sum() + 1) / (outputs.sum() + target.sum() + 1)


def standardized(x: Tensor, target: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return (x - x.mean(axes, keepdim=True)) / x.std(axes, keepdim=True), target


def still(x: Tensor, target: Tensor, feature: int) -> tuple[Tensor, Tensor]:
    """The feature (last axis) is the same everywhere."""
    x[..., feature] = 3.0
    return x, target


def skewed(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Three quarters of the labels are zero."""
    return batch[0], torch.where(torch.arange(len(batch[1])) % 4 > 0, 0, batch[1])


def shares(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Case:
    weight = torch.bincount(batch[1], minlength=10).float() / len(batch[1])
    return Case(model, batch, nn.CrossEntropyLoss(weight))


ROWS = (
    sick("mlp-sigmoid-before-logits", "UG105", lambda:
         Case(Then(mlp(out=1), torch.sigmoid), binary(vectors()[0]), BCE)),
    sick("unet-sigmoid-before-logits", "UG105", lambda: Case(Then(UNet(out=1), torch.sigmoid), one_mask(), BCE)),
    sick("rnn-sigmoid-before-cross-entropy", "UG105", lambda: Case(Then(Recurrent(), torch.sigmoid), series(), CE)),
    sick("unet-masks-of-255", "UG106", lambda: Case(UNet(out=1), scaled(one_mask(), 255), BCE)),
    sick("mlp-labels-of-both-signs", "UG106", lambda: Case(mlp(out=1), scaled(binary(vectors()[0]), 2, -1), BCE)),
    sick("transformer-nll-of-logits", "UG106", lambda: Case(
        Transformer(), tokens(), lambda o, t: F.nll_loss(o.flatten(0, 1), t.flatten()),
    )),
    sick("mlp-tanh-for-large-targets", "UG108", lambda: Case(Then(mlp(out=1), torch.tanh), scaled(numbers(), 3), MSE)),
    sick("cnn-relu-for-both-signs", "UG108", lambda: Case(
        Then(cnn(), torch.relu), (pictures(), torch.randn(16, 10)), nn.L1Loss(),
    )),
    sick("rnn-sigmoid-for-percents", "UG108", lambda: Case(
        Then(Recurrent(), torch.sigmoid), (series()[0], 100 * torch.rand(32, 10)), nn.HuberLoss(),
    )),
    sick("mlp-prices", "UG109", lambda: Case(mlp(out=1), scaled(numbers(), 8e4, 3e5), MSE)),
    sick("cnn-ages", "UG109", lambda: Case(cnn(), (pictures(), 40 + 12 * torch.randn(16, 10)), nn.L1Loss())),
    sick("rnn-tiny-currents", "UG109", lambda: Case(Recurrent(), (series()[0], 1e-6 * torch.randn(32, 10)), MSE)),
    sick("mlp-squared-error-of-softmax", "UG111", lambda:
         Case(Then(mlp(), lambda o: o.softmax(1)), rows(vectors()), MSE)),
    sick("cnn-several-labels-into-cross-entropy", "UG111", lambda: Case(
        cnn(), (pictures(), (torch.rand(16, 10) < 0.4).float()), CE,
    )),
    sick("unet-dice-of-scores", "UG111", lambda: Case(UNet(out=1), one_mask(), dice)),
    sick("mlp-softmax-over-one-unit", "UG112", lambda:
         Case(Then(mlp(out=1), nn.Softmax(1)), binary(vectors()[0]), "mse")),
    sick("unet-softmax-over-one-channel", "UG112", lambda: Case(
        Then(UNet(out=1), lambda o: o.softmax(1)), one_mask(), F.binary_cross_entropy,
    )),
    sick("mlp-cross-entropy-of-one-unit", "UG112", lambda: Case(mlp(out=1), binary(vectors()[0]), CE)),
    sick("mlp-one-class", "UG113", lambda: Case(mlp(), (vectors()[0], torch.full((64,), 3)))),
    sick("cnn-one-class", "UG113", lambda: Case(cnn(), (images()[0], torch.zeros(16, dtype=torch.long)))),
    sick("rnn-one-class", "UG113", lambda: Case(Recurrent(words=True), (texts()[0], torch.full((32,), 7)))),
    sick("mlp-relu-on-logits", "UG115", lambda: Case(Then(mlp(), torch.relu), vectors())),
    sick("unet-relu-on-logits", "UG115", lambda: Case(Then(UNet(), torch.relu), masks(), CE)),
    sick("rnn-softplus-before-bce", "UG115", lambda: Case(
        Then(Recurrent(), F.softplus), (series()[0], (torch.rand(32, 10) < 0.5).float()), BCE,
    )),
    sick("mlp-class-weights-are-shares", "UG118", lambda: shares(mlp(), skewed(vectors(256)))),
    sick("cnn-class-weights-are-shares", "UG118", lambda: shares(cnn(), skewed(images(96, size=16)))),
    sick("rnn-class-weights-are-shares", "UG118", lambda: shares(Recurrent(), skewed(series(128)))),
    sick("mlp-constant-column-standardized", "UG203", lambda: Case(mlp(), standardized(*still(*vectors(), 4), (0,)))),
    sick("rnn-constant-sensor-standardized", "UG203", lambda:
         Case(Recurrent(), standardized(*still(*series(), 2), (0, 1)))),
    sick("cnn-all-pictures-black", "UG203", lambda:
         Case(cnn(norm=None, bias=True), (torch.zeros(16, 3, 32, 32), images()[1]))),
)  # fmt: skip
