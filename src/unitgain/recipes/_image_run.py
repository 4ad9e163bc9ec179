"""What image-folder and imagenet have in common: settings, the Learner that they are made into, and the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from ..optim import param_groups
from ..train import (
    EMA,
    ActivationStats,
    Callback,
    Checkpoint,
    Clip,
    Device,
    Distributed,
    Learner,
    Metrics,
    MixedPrecision,
    Progress,
    Recorder,
)
from ._batch_augment import Mix
from ._image_training import (
    ImageBatches,
    Report,
    draw_batch,
    draw_mistakes,
    report_unreadable,
    worker_count,
)
from ._images import ImageItems, Split, make_loader
from ._runs import Outcome, RunFolder
from ._settings import above_zero, at_least, fractions


@dataclass(frozen=True)
class ImageConfig:
    """data         a directory, or hf:NAME for a Hugging Face dataset
    least_area      smallest share of an image that a crop shows
    clipping        of adaptive gradient clipping; 0: none
    mixup, cutmix   parameters of the beta distributions that MixUp and CutMix draw their shares from; 0: none
    smoothing       label smoothing, after mixing
    ema             decay of a moving average of the weights, which is what is evaluated and kept; 0: none
    precision       what autocast computes in; float32: no autocast
    workers         processes that read images; -1: one for each core but one, at most 8
    corrupt         an image that cannot be decoded: "error" stops and names it, "skip" takes the next one and counts it
    every           a Probe measures each every-th step; 0: none
    save_every      steps between checkpoints within an epoch; each epoch's end has one too; 0: none
    """

    data: str = ""
    epochs: int = 10
    batch_size: int = 64
    lr: float = 0.2
    weight_decay: float = 5e-5
    clipping: float = 0.02
    eval_size: int = 0
    least_area: float = 0.35
    mixup: float = 0.0
    cutmix: float = 0.0
    smoothing: float = 0.1
    ema: float = 0.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    workers: int = -1
    corrupt: Literal["error", "skip"] = "error"
    seed: int = 0
    every: int = 0
    save_every: int = 0

    def __post_init__(self) -> None:
        at_least(
            self, epochs=0, batch_size=2, weight_decay=0, clipping=0, eval_size=0, mixup=0, cutmix=0, workers=-1,
            every=0, save_every=0,
        )  # fmt: skip
        above_zero(self, "lr", "least_area")
        fractions(self, "smoothing", "ema")

    @property
    def mix(self) -> Mix | None:
        return Mix(self.mixup, self.cutmix) if self.mixup or self.cutmix else None

    def loaders(self, items: Sequence[ImageItems]) -> tuple[Any, ...]:
        """Of training items and of validation items."""
        return tuple(
            make_loader(
                part, self.batch_size, train=first, workers=worker_count(self.workers), seed=self.seed
            )
            for part, first in zip(items, (True, False))
        )


@dataclass(frozen=True)
class Pieces:
    """A Learner, and what drawing and counting need."""

    learn: Learner
    split: Split
    items: tuple[ImageItems, ImageItems]
    report: Report


def assemble(
    config: ImageConfig,
    model: nn.Module,
    lr: float,
    split: Split,
    items: tuple[ImageItems, ImageItems],
    loaders: tuple[Any, ...],
    batches: ImageBatches,
    report: Report,
    callbacks: Sequence[Callback],
    run: RunFolder | None,
    **metrics: Any,
) -> Pieces:
    """Trains by SGD with Nesterov momentum 0.9, without weight decay on gains and biases.

    callbacks, metrics   those of the recipe; those that the settings name are added
    """
    optimizer = torch.optim.SGD(param_groups(model, config.weight_decay), lr=lr, momentum=0.9, nesterov=True)
    every = [
        Device(config.device),
        Distributed(),
        batches,
        Metrics(**metrics),
        Recorder(),
        report,
        *callbacks,
    ]
    if config.clipping:
        every.append(Clip(agc=config.clipping))
    if config.precision != "float32":
        every.append(MixedPrecision(getattr(torch, config.precision)))
    if config.ema:
        every.append(EMA(config.ema, keep=True))
    if config.every:
        every.append(ActivationStats(config.every))
    if run is not None:
        every.append(Checkpoint(run.checkpoints, every=config.save_every or None))
    record = None if run is None else run.record
    return Pieces(
        Learner(model, loaders, F.cross_entropy, optimizer, every, record=record), split, items, report
    )


def run_pieces(
    name: str,
    config: ImageConfig,
    pieces: Pieces,
    run: RunFolder | None,
    resume: bool,
    say: Callable[[str], None],
) -> Outcome:
    """Trains, and draws into the run's folder.

    metrics: those of the last epoch, images_per_second in training passes, and unreadable (images that were not used).
    A run's folder gets plots/batch.png (training images) and plots/mistakes.png (the most confident mistakes)."""
    learn = pieces.learn
    if resume and run is not None:
        learn.resume(run.checkpoints)
    elif run is not None and not learn.rank and config.epochs:
        draw_batch(learn, run, pieces.split)
    learn.fit(config.epochs, callbacks=[Progress(table=False)])
    metrics = {**learn.metrics, "images_per_second": pieces.report.rate}
    if learn.rank == 0:
        metrics["unreadable"] = float(report_unreadable(pieces.items, say))
        if run is not None:
            draw_mistakes(learn, run, pieces.split, make_loader(pieces.items[1], 64, train=False, workers=0))
    learn.record.commit()
    return Outcome(name, config, learn.model, metrics, learn.seconds, learn.record)
