"""image-folder: a classifier on one's own images, in directories by class or from Hugging Face datasets.

Each image is decoded once per epoch in a worker process and brought to a square (presizing, as fast.ai does); crops,
mirroring and mixing are done on whole batches where the model is. Training may begin with small images and go on with
larger ones, and is judged on larger ones than it trained on (Touvron et al. 2019, arXiv 1906.06423). The network is
normalizer-free by default, its constants measured on the first batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from .._base import InputError, say
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
    OneCycle,
    Recorder,
    accuracy,
)
from ._batch_augment import Mix
from ._image_training import (
    Calibrate,
    ImageBatches,
    Report,
    draw_batch,
    draw_mistakes,
    make_model,
    tell_unreadable,
    worker_count,
)
from ._images import CentreCrop, ImageItems, Presize, Split, find_images, make_loader
from ._registry import Recipe
from ._runs import Outcome, RunFolder

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ImageFolderConfig:
    """data         a directory, or hf:NAME: see images.find_images
    valid_share     held out of every class where the data has no validation part
    model           a name that `unitgain models` lists; wiring: of the normalizer-free ones
    pretrained      true or a file: start from trained weights (wiring=timm)
    sizes           sides of the training images in pixels; several are taken one after the other over the epochs
    presize         side of the squares that crops are taken from; 0: a quarter more than the largest of sizes
    eval_size       side of the validation images; 0: a quarter more than the last of sizes
    least_area      of the share of an image that a crop shows
    mixup, cutmix   see batch_augment.Mix; 0: none
    lr              highest rate of one cycle, SGD with Nesterov momentum; clipping: of AGC, 0: none
    ema             decay of a moving average of the weights, which is what is judged and kept; 0: none
    workers         processes that read images; -1: one for each core but one, at most 8
    corrupt         an image that cannot be decoded: "error" stops and names it, "skip" takes the next one and counts it
    every           a Probe measures each every-th step, 0: none
    """

    data: str = ""
    valid_share: float = 0.2
    model: str = "nf_resnet26"
    wiring: Literal["timm", "paper", "calibrated"] = "calibrated"
    pretrained: bool | str = False
    epochs: int = 10
    batch_size: int = 64
    lr: float = 0.2
    weight_decay: float = 5e-5
    clipping: float = 0.02
    sizes: tuple[int, ...] = (128, 160)
    presize: int = 0
    eval_size: int = 0
    least_area: float = 0.35
    flip: bool = True
    mixup: float = 0.0
    cutmix: float = 0.0
    smoothing: float = 0.1
    ema: float = 0.0
    precision: Precision = "float32"
    device: str = "auto"
    workers: int = -1
    corrupt: Literal["error", "skip"] = "error"
    seed: int = 0
    every: int = 0
    save_every: int = 0

    def __post_init__(self) -> None:
        least = {"epochs": 0, "batch_size": 2, "workers": -1, "every": 0, "save_every": 0, "presize": 0, "eval_size": 0,
                 "mixup": 0, "cutmix": 0, "weight_decay": 0, "clipping": 0}  # fmt: skip
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"--set {name}={getattr(self, name)}: expected at least {low}")
        for name in ("smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--set {name}={getattr(self, name)}: expected a number from 0 to below 1")
        if not self.lr > 0:
            raise InputError(f"--set lr={self.lr}: expected a number above 0")
        if not 0 < self.least_area <= 1:
            raise InputError(f"--set least_area={self.least_area}: expected a share above 0, at most 1")
        if not self.sizes or min(self.sizes) < 8:
            raise InputError(
                f"--set sizes={list(self.sizes)}: expected one or more sides in pixels, like [128, 160]"
            )
        if self.presize and self.presize < max(self.sizes):
            raise InputError(
                f"--set presize={self.presize}: at least the largest of sizes, {max(self.sizes)}, is right"
            )

    @property
    def squares(self) -> int:
        return self.presize or -(-5 * max(self.sizes) // 4)

    @property
    def judged_at(self) -> int:
        return self.eval_size or -(-5 * self.sizes[-1] // 4)


@dataclass(frozen=True)
class Pieces:
    """A Learner, and what drawing and counting need besides."""

    learn: Learner
    split: Split
    items: tuple[ImageItems, ImageItems]
    report: Report


def train(
    config: ImageFolderConfig,
    run: RunFolder | None = None,
    /,
    *,
    resume: bool = False,
    say: Callable[[str], None] = say,
) -> Outcome:
    """metrics: those of the last epoch, images_per_second in training passes, and unreadable (images left out).

    A run's folder gets plots/batch.png (what training sees) and plots/mistakes.png (the most confident ones)."""
    return run_pieces("image-folder", config, make_pieces(config, run, say), config.epochs, run, resume, say)


def run_pieces(
    name: str,
    config: Any,
    pieces: Pieces,
    epochs: int,
    run: RunFolder | None,
    resume: bool,
    say: Callable[[str], None],
) -> Outcome:
    """Trains, and draws into the run's folder; what both image recipes do."""
    learn = pieces.learn
    if resume and run is not None:
        learn.resume(run.checkpoints)
    elif run is not None and not learn.rank and epochs:
        draw_batch(learn, run, pieces.split)
    learn.fit(epochs)
    metrics = {**learn.metrics, "images_per_second": pieces.report.rate}
    if learn.rank == 0:
        metrics["unreadable"] = float(tell_unreadable(pieces.items, say))
        if run is not None:
            draw_mistakes(learn, run, pieces.split, make_loader(pieces.items[1], 64, train=False, workers=0))
    learn.record.commit()
    return Outcome(name, config, learn.model, metrics, learn.seconds, learn.record)


def learner(config: ImageFolderConfig) -> Learner:
    return make_pieces(config).learn


def make_pieces(
    config: ImageFolderConfig, run: RunFolder | None = None, say: Callable[[str], None] = say
) -> Pieces:
    if not config.data:
        raise InputError(
            "--set data=...: which images? Name a directory, or hf:NAME for a Hugging Face dataset"
        )
    torch.manual_seed(config.seed)
    split = find_images(config.data, config.valid_share, config.seed)
    items = (
        ImageItems(split.train, Presize(config.squares), config.corrupt),
        ImageItems(split.valid, CentreCrop(config.judged_at, config.judged_at // 8), config.corrupt),
    )
    workers = worker_count(config.workers)
    loaders = tuple(
        make_loader(part, config.batch_size, train=first, workers=workers, seed=config.seed)
        for part, first in zip(items, (True, False))
    )
    model = make_model(config.model, len(split.classes), config.wiring, config.pretrained)
    mix = Mix(config.mixup, config.cutmix) if config.mixup or config.cutmix else None
    batches = ImageBatches(
        len(split.classes), config.sizes, least_area=config.least_area, flip=config.flip, mix=mix,
        smoothing=config.smoothing,
    )  # fmt: skip
    report = Report(say, lambda learn: f"  at {batches.size(learn.epoch, learn.epochs)} pixels")
    callbacks: list[Callback] = [
        Device(config.device), Distributed(), batches, Metrics(accuracy), Recorder(), report,
        OneCycle(config.lr, momentum=None),
    ]  # fmt: skip
    if not config.pretrained:
        callbacks.append(Calibrate())
    callbacks += common_callbacks(
        config.clipping, config.precision, config.ema, config.every, config.save_every, run
    )
    groups = param_groups(model, config.weight_decay)
    optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)
    record = None if run is None else run.record
    return Pieces(
        Learner(model, loaders, F.cross_entropy, optimizer, callbacks, record=record), split, items, report
    )


def common_callbacks(
    clipping: float, precision: Precision, ema: float, every: int, save_every: int, run: RunFolder | None
) -> list[Callback]:
    found: list[Callback] = []
    if clipping:
        found.append(Clip(agc=clipping))
    if precision != "float32":
        found.append(MixedPrecision({"bfloat16": torch.bfloat16, "float16": torch.float16}[precision]))
    if ema:
        found.append(EMA(ema, keep=True))
    if every:
        found.append(ActivationStats(every))
    if run is not None:
        found.append(Checkpoint(run.checkpoints, every=save_every or None))
    return found


RECIPE = Recipe(
    "image-folder",
    "a classifier on your own images: directories by class, or a Hugging Face dataset",
    ImageFolderConfig(),
    train,
    learner,
)
