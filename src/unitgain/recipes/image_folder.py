"""image-folder: a classifier on one's own images, in directories by class or from Hugging Face datasets.

Each image is decoded once per epoch in a worker process and brought to a square (presizing, as fast.ai does); crops,
mirroring and mixing are done on whole batches on the device of the model. Training may begin with small images and
continue with larger ones, and is evaluated on larger ones than it trained on (Touvron et al. 2019, arXiv 1906.06423).
The network is normalizer-free by default, its constants measured on the first batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from .._base import InputError, say
from ..train import Callback, Learner, OneCycle, accuracy
from ._image_run import ImageConfig, Pieces, assemble, run_pieces
from ._image_training import Calibrate, ImageBatches, Report, make_model
from ._images import CentreCrop, ImageItems, Presize, find_images
from ._registry import Recipe
from ._runs import Outcome, RunFolder
from ._settings import at_least


@dataclass(frozen=True)
class ImageFolderConfig(ImageConfig):
    """valid_share  held out of every class where the data has no validation part
    model           a name that `unitgain models` lists
    wiring          how a normalizer-free model's constants are set
    pretrained      true or a file: start from trained weights (wiring=timm)
    sizes           sides of the training images in pixels; several are taken one after the other over the epochs
    presize         side of the squares that crops are taken from; 0: a quarter more than the largest of sizes
    eval_size       side of the validation images; 0: a quarter more than the last of sizes
    flip            half of the images are mirrored
    lr              highest rate of one cycle, SGD with Nesterov momentum
    """

    valid_share: float = 0.2
    model: str = "nf_resnet26"
    wiring: Literal["timm", "paper", "calibrated"] = "calibrated"
    pretrained: bool | str = False
    sizes: tuple[int, ...] = (128, 160)
    presize: int = 0
    flip: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, presize=0)
        if self.least_area > 1:
            raise InputError(f"--set least_area={self.least_area}: expected a share above 0, at most 1")
        if not self.sizes or min(self.sizes) < 8:
            raise InputError(
                f"--set sizes={list(self.sizes)}: expected one or more sides in pixels, like [128, 160]"
            )
        if self.presize and self.presize < max(self.sizes):
            raise InputError(
                f"--set presize={self.presize}: expected at least the largest of sizes, {max(self.sizes)}"
            )

    @property
    def squares(self) -> int:
        return self.presize or -(-5 * max(self.sizes) // 4)

    @property
    def evaluated_at(self) -> int:
        return self.eval_size or -(-5 * self.sizes[-1] // 4)


def train(
    config: ImageFolderConfig,
    run: RunFolder | None = None,
    /,
    *,
    resume: bool = False,
    say: Callable[[str], None] = say,
) -> Outcome:
    """Outcome, metrics and plots: see _image_run.run_pieces."""
    return run_pieces("image-folder", config, make_pieces(config, run, say), run, resume, say)


def learner(config: ImageFolderConfig) -> Learner:
    return make_pieces(config).learn


def make_pieces(
    config: ImageFolderConfig, run: RunFolder | None = None, say: Callable[[str], None] = say
) -> Pieces:
    if not config.data:
        raise InputError(
            "--set data=...: give the images: a directory, or hf:NAME for a Hugging Face dataset"
        )
    torch.manual_seed(config.seed)
    split = find_images(config.data, config.valid_share, config.seed)
    items = (
        ImageItems(split.train, Presize(config.squares), config.corrupt),
        ImageItems(split.valid, CentreCrop(config.evaluated_at, config.evaluated_at // 8), config.corrupt),
    )
    loaders = config.loaders(items)
    model = make_model(config.model, len(split.classes), config.wiring, config.pretrained)
    batches = ImageBatches(
        len(split.classes), config.sizes, least_area=config.least_area, flip=config.flip, mix=config.mix,
        smoothing=config.smoothing,
    )  # fmt: skip
    report = Report(say, lambda learn: f"  at {batches.size(learn.epoch, learn.epochs)} pixels")
    callbacks: list[Callback] = [OneCycle(config.lr, momentum=None)]
    if not config.pretrained:
        callbacks.append(Calibrate())
    return assemble(
        config, model, config.lr, split, items, loaders, batches, report, callbacks, run, accuracy=accuracy
    )


RECIPE = Recipe(
    "image-folder",
    "a classifier on your own images: directories by class, or a Hugging Face dataset",
    ImageFolderConfig(),
    train,
    learner,
)
