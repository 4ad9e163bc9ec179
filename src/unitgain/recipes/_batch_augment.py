"""Augmentation of whole image batches as tensors, on the device where they are: random resized crops, mirroring, MixUp
and CutMix. Drawn for every image by itself, from torch's generator of that device.

    letters: B images, C channels, H, W and S positions, K classes
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .._base import InputError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's training images, pixels in 0..1


def normalize(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) -> float32, normalized per channel with ImageNet's mean and std."""
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    return images.float().div_(255).sub_(mean).div_(std)


def random_resized_crop(
    x: Tensor,
    size: int,
    area: tuple[float, float] = (0.35, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
) -> Tensor:
    """(B, C, H, W) float -> (B, C, size, size): of each image a part with a share of its area drawn from `area` and
    a width:height ratio from `ratio` (uniform in its logarithm), half of them mirrored; bilinear.

    Parts that are reduced are smoothed before, as much as the least reduced one needs, against aliasing.

    >>> random_resized_crop(torch.ones(2, 3, 40, 40), 16).shape
    torch.Size([2, 3, 16, 16])
    """
    if not 0 < area[0] <= area[1] <= 1:
        raise InputError(f"area {area}: expected shares of the image, least and most, between 0 and 1")
    count, _, height, width = x.shape
    draw = torch.rand(5, count, device=x.device)
    share = area[0] + (area[1] - area[0]) * draw[0]
    shape = torch.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * draw[1])
    pixels = share * height * width
    wide = ((pixels * shape).sqrt() / width).clamp(max=1)  # of the width
    high = ((pixels / shape).sqrt() / height).clamp(max=1)
    smallest = float(torch.minimum(wide * width, high * height).min()) / size
    if smallest >= 2:  # all parts are reduced by at least this much
        x = F.avg_pool2d(x, int(smallest))
    mirror = torch.where(draw[4] < 0.5, -1.0, 1.0) if flip else torch.ones_like(share)
    theta = torch.zeros(count, 2, 3, device=x.device)  # output position in -1..1 -> input position
    theta[:, 0, 0], theta[:, 1, 1] = wide * mirror, high
    theta[:, 0, 2], theta[:, 1, 2] = (1 - wide) * (2 * draw[2] - 1), (1 - high) * (2 * draw[3] - 1)
    grid = F.affine_grid(theta, [count, x.shape[1], size, size], align_corners=False)
    return F.grid_sample(x, grid.to(x.dtype), padding_mode="reflection", align_corners=False)


def soft_labels(labels: Tensor, classes: int, smoothing: float = 0.0) -> Tensor:
    """(B,) -> (B, K): 1 - smoothing on the label, and smoothing spread over all classes.

    >>> soft_labels(torch.tensor([1]), 4, smoothing=0.2)
    tensor([[0.0500, 0.8500, 0.0500, 0.0500]])
    """
    return F.one_hot(labels, classes).float().mul_(1 - smoothing).add_(smoothing / classes)


def smoothed(targets: Tensor, smoothing: float) -> Tensor:
    """The same for targets (B, K) that have been mixed: Brock et al. smooth after mixing."""
    return targets * (1 - smoothing) + smoothing / targets.shape[1]


@dataclass(frozen=True)
class Mix:
    """MixUp on one half of a batch and CutMix on the other; with one of the two, on the whole batch.

    mixup   alpha of Beta(alpha, alpha), from which each image's weight is drawn; 0: no MixUp
    cutmix  the same for the share of the area that another image's part replaces; 0: no CutMix

    x (B, C, H, W), y (B, K) -> the same shapes. Partners are the images of the same half in reversed order.

    Sources: Zhang et al. 2017 (arXiv 1710.09412); Yun et al. 2019 (arXiv 1905.04899); halves and alphas of Brock et
    al. 2021 (arXiv 2102.06171): 0.2 and 1.
    """

    mixup: float = 0.2
    cutmix: float = 1.0

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if not getattr(self, name) >= 0:
                raise InputError(f"Mix({name}={getattr(self, name)}): expected a number of at least 0")

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.mixup and self.cutmix:
            half = len(x) // 2
            first, second = mixup(x[:half], y[:half], self.mixup), cutmix(x[half:], y[half:], self.cutmix)
            return torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])
        if self.mixup:
            return mixup(x, y, self.mixup)
        return cutmix(x, y, self.cutmix) if self.cutmix else (x, y)


def mixup(x: Tensor, y: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """w times each image and target, plus 1 - w times those of the batch in reversed order; w from Beta(alpha,
    alpha)."""
    if not len(x):
        return x, y
    weight = _beta(alpha, len(x), x.device)
    w = weight.view(-1, *[1] * (x.dim() - 1))
    return x * w + x.flip(0) * (1 - w), y * weight[:, None] + y.flip(0) * (1 - weight[:, None])


def cutmix(x: Tensor, y: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """A rectangle of each image comes from the batch in reversed order; targets are mixed by its area."""
    if not len(x):
        return x, y
    count, _, height, width = x.shape
    kept = _beta(alpha, count, x.device)
    rows = _interval(height, (1 - kept).sqrt())  # (B, H)
    columns = _interval(width, (1 - kept).sqrt())
    inside = rows[:, :, None] & columns[:, None, :]  # (B, H, W)
    share = inside.float().mean((1, 2))[:, None]
    return torch.where(inside[:, None], x.flip(0), x), y * (1 - share) + y.flip(0) * share


def _interval(size: int, share: Tensor) -> Tensor:
    """(B, size) booleans: True on an interval of so much of the size, around a random middle, cut at the borders."""
    middle = torch.rand_like(share) * size
    at = torch.arange(size, device=share.device) + 0.5
    return (at - middle[:, None]).abs() < share[:, None] * size / 2


def _beta(alpha: float, count: int, device: torch.device) -> Tensor:
    """count draws from Beta(alpha, alpha)."""
    gamma = torch._standard_gamma(torch.full((2, count), alpha, device=device))
    return (gamma[0] / gamma.sum(0)).nan_to_num_(0.5)
