"""Augmentation of whole batches: drawn for every image by itself, with no work per image in Python."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .._base import InputError


@dataclass(frozen=True)
class Augment:
    """Shifts, mirrors and erases the images of a batch (x, y), x (B, C, H, W); drawn from torch's global generator.

    shift  up to so many pixels in each direction: a crop of the padded image
    flip   mirrored left to right, half of them
    erase  side of a square set to `fill` at a place anywhere in the image (parts may lie outside); 0: none
    fill   value of padding and erased places: the background, in the units of x

    >>> x = torch.arange(2 * 28 * 28.0).view(2, 1, 28, 28)
    >>> changed, y = Augment(shift=2, flip=True, erase=7)((x, torch.tensor([0, 1])))
    >>> changed.shape, y.tolist()
    (torch.Size([2, 1, 28, 28]), [0, 1])
    """

    shift: int = 0
    flip: bool = False
    erase: int = 0
    fill: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shift", "erase"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"Augment({name}={getattr(self, name)}): expected a whole number of at least 0"
                )

    def __call__(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *rest = batch
        if self.shift or self.flip:
            x = self._move(x)
        return (self._erase(x) if self.erase else x, *rest)

    def _move(self, x: Tensor) -> Tensor:
        """Shift and mirror in one gather, from each pixel's place in the padded image."""
        count, channels, height, width = x.shape
        s, device = self.shift, x.device
        padded = F.pad(x, (s, s, s, s), value=self.fill)
        rows = torch.arange(height, device=device) + torch.randint(
            0, 2 * s + 1, (count, 1), device=device
        )  # (B, H)
        columns = torch.arange(width, device=device).expand(count, width)
        if self.flip:
            mirrored = torch.rand(count, 1, device=device) < 0.5
            columns = torch.where(mirrored, width - 1 - columns, columns)
        columns = columns + torch.randint(0, 2 * s + 1, (count, 1), device=device)  # (B, W)
        places = (
            rows[:, :, None] * (width + 2 * s) + columns[:, None, :]
        )  # (B, H, W), into the flattened padded image
        places = places.view(count, 1, -1).expand(count, channels, -1)
        return padded.flatten(2).gather(2, places).view(x.shape)

    def _erase(self, x: Tensor) -> Tensor:
        count, _, height, width = x.shape
        inside = []
        for size in (height, width):
            middle = torch.randint(0, size, (count, 1), device=x.device)
            first = middle - self.erase // 2
            at = torch.arange(size, device=x.device)
            inside.append((at >= first) & (at < first + self.erase))  # (B, size)
        square = inside[0][:, :, None] & inside[1][:, None, :]  # (B, H, W)
        return x.masked_fill(square[:, None], self.fill)
