"""What the recipes on images share: from a batch of pixels to one of inputs and targets, progress, model and plots."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError, did_you_mean
from ..models import NF_REGNETS, NF_RESNETS, NFNETS, NormFreeNet, calibrate_, create, names
from ..report import save_figure
from ..train import Callback, Learner
from . import _image_figures as figures
from ._batch_augment import Mix, normalize, random_resized_crop, smoothed, soft_labels
from ._images import ImageItems, Split
from ._runs import RunFolder


class ImageBatches(Callback):
    """(uint8 (B, 3, H, W), labels (B,)) -> (normalized float32, targets), on the device where the batch is.

    In training passes: a random resized crop to `sizes`, mirroring, mixing, and targets (B, K) smoothed after the
    mixing. sizes are taken one after the other over the epochs in equal parts (progressive resizing); (): the
    items are cropped already. In validation passes pixels are normalized and labels stay numbers.
    """

    order = -65
    prepares = True

    def __init__(
        self,
        classes: int,
        sizes: Sequence[int] = (),
        *,
        least_area: float = 0.35,
        flip: bool = True,
        mix: Mix | None = None,
        smoothing: float = 0.0,
    ):
        self.classes, self.sizes, self.least_area, self.flip = classes, tuple(sizes), least_area, flip
        self.mix, self.smoothing = mix, smoothing

    def size(self, epoch: int, epochs: int) -> int:
        """
        >>> [ImageBatches(2, (96, 128)).size(epoch, 5) for epoch in range(5)]
        [96, 96, 96, 128, 128]
        """
        return self.sizes[min(len(self.sizes) - 1, epoch * len(self.sizes) // max(1, epochs))]

    def before_batch(self, learn: Learner) -> None:
        images, labels = learn.batch
        x = normalize(images)
        if not learn.training:
            learn.batch = x, labels
            return
        if self.sizes:
            x = random_resized_crop(
                x, self.size(max(0, learn.epoch), learn.epochs), (self.least_area, 1.0), flip=self.flip
            )
        elif self.flip:
            mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
            x = torch.where(mirrored, x.flip(3), x)
        y = labels
        if self.mix is not None or self.smoothing:
            y = soft_labels(labels, self.classes)
            if self.mix is not None:
                x, y = self.mix(x, y)
            y = smoothed(y, self.smoothing)
        learn.batch = x, y


class Report(Callback):
    """A line per epoch to `say`; sums the images for images per second of training passes."""

    order = 95
    essential = False

    def __init__(self, say: Callable[[str], None], note: Callable[[Learner], str] = lambda learn: ""):
        self.say, self.note = say, note
        self.images, self.seconds, self._began = 0, 0.0, 0.0

    def before_pass(self, learn: Learner) -> None:
        self._began = time.perf_counter()

    def after_batch(self, learn: Learner) -> None:
        if learn.training:
            self.images += learn.examples * learn.world

    def after_pass(self, learn: Learner) -> None:
        if learn.training:
            self.seconds += time.perf_counter() - self._began

    def after_epoch(self, learn: Learner) -> None:
        if learn.rank == 0:
            values = "  ".join(f"{name} {value:.4f}" for name, value in learn.metrics.items())
            self.say(f"epoch {learn.epoch + 1}/{learn.epochs}  {values}{self.note(learn)}")

    @property
    def rate(self) -> float:
        return self.images / self.seconds if self.seconds else float("nan")


class Calibrate(Callback):
    """Measures the constants of a network in `calibrated` wiring on the first batch of an untrained run (rank 0's:
    the others get its weights and buffers when DistributedDataParallel is made, so this comes before)."""

    order = -110

    def before_fit(self, learn: Learner) -> None:
        if (
            isinstance(learn.model, NormFreeNet)
            and learn.model.wiring == "calibrated"
            and not learn.resuming
            and not learn.steps
        ):
            x = learn.first_batch()[0]
            calibrate_(learn.model, x.to(next(learn.model.parameters()).device))


def make_model(name: str, classes: int, wiring: str, pretrained: bool | str, **options: Any) -> nn.Module:
    """A built-in model by name; it refuses options that it does not have."""
    if name not in names():
        near = did_you_mean(name, names(), most=0)
        raise InputError(
            f"--set model={name}: no built-in model has this name{near} (unitgain models lists them)"
        )
    if name in NF_RESNETS | NF_REGNETS | NFNETS:
        options = {"wiring": wiring, **options}
        if pretrained and wiring == "calibrated":
            raise InputError(
                f"--set pretrained={pretrained}: trained weights need the wiring they had: --set wiring=timm"
            )
    return create(name, num_classes=classes, pretrained=pretrained, **options)


def worker_count(asked: int) -> int:
    """-1: one for each core but one, at most 8."""
    cores = os.cpu_count() or 1
    return max(0, min(8, cores - 1)) if asked < 0 else asked


def prepared(learn: Learner, loader: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """A loader's batches as validation passes give them to the model, on its device."""
    device = next(learn.model.parameters()).device
    for images, labels in loader:
        yield normalize(images.to(device)), labels.to(device)


def draw_batch(learn: Learner, run: RunFolder, split: Split) -> None:
    """plots/batch.png: the first training batch as the model gets it."""
    x, y = learn.first_batch()
    _write(figures.show_batch(x, y, split.classes), run, "batch")


def draw_mistakes(learn: Learner, run: RunFolder, split: Split, loader: Any) -> None:
    """plots/mistakes.png, unless the model makes none."""
    found = figures.find_mistakes(learn.model, prepared(learn, loader))
    if found:
        _write(figures.show_mistakes(found, split.classes), run, "mistakes")


def _write(figure: Any, run: RunFolder, name: str) -> None:
    folder = run.path / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    save_figure(figure, folder / f"{name}.png")


def report_unreadable(items: Sequence[ImageItems], say: Callable[[str], None]) -> int:
    """How many images could not be read; prints the names of the first ten."""
    bad = [name for part in items for name in part.unreadable]
    for name in bad[:10]:
        say(f"not readable, not used: {name}")
    if len(bad) > 10:
        say(f"... and {len(bad) - 10} more")
    return len(bad)
