"""imagenet: the settings that NFNets and NF-ResNets were trained with on ImageNet (Brock et al. 2021).

Papers: arXiv 2102.06171 (NFNet) and arXiv 2101.08692 (NF-ResNet). SGD with Nesterov momentum 0.9, rate 0.1 x batch/256
after 5 epochs of linear warm-up, half a cosine down to 0; no weight decay on gains and biases; label smoothing 0.1
after mixing. NFNets also have AGC 0.01, RandAugment, MixUp 0.2 and CutMix 1 on half a batch each, a moving average of
decay 0.99999, bfloat16. Evaluation at a larger size: the image brought to (size + 32)^2 without keeping its
proportions, of which the middle is taken.

Known deviations: NF-RegNet's rate ends at 0, not at 0.001; crops and RandAugment are Pillow's, RandAugment's list is
that of its paper (_rand_augment.py); master weights stay float32 under bfloat16 autocast, where DeepMind's code casts
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch.optim.lr_scheduler import LambdaLR

from .._base import InputError, say
from ..models import NF_REGNETS, NF_RESNETS, NFNETS
from ..train import Callback, Learner, Schedule, accuracy
from ._image_run import ImageConfig, Pieces, assemble, run_pieces
from ._image_training import Calibrate, ImageBatches, Report, make_model
from ._images import CentreCrop, ImageItems, RandomCrop, find_images
from ._rand_augment import RandAugment
from ._registry import Recipe
from ._runs import Outcome, RunFolder
from ._settings import at_least


@dataclass(frozen=True)
class ImagenetConfig(ImageConfig):
    """
    train_size, eval_size   sides of the images in pixels; 0: the model's own
    batch_size       of all processes together
    lr               at batch 256; the highest rate is lr x batch_size / 256
    warm_up          epochs in which the rate rises from 0
    rand_augment, magnitude   operations per image and how strong; 0 operations: none
    drop_rate, stochastic_depth   -1: the model's own
    checkpointing    computes activations again in the backward pass instead of keeping them
    """

    epochs: int = 360
    batch_size: int = 4096
    lr: float = 0.1
    weight_decay: float = 2e-5
    clipping: float = 0.01
    least_area: float = 0.08
    mixup: float = 0.2
    cutmix: float = 1.0
    ema: float = 0.99999
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    save_every: int = 1000
    model: str = "nfnet_f0"
    wiring: Literal["timm", "paper", "calibrated"] = "paper"
    warm_up: float = 5.0
    train_size: int = 0
    rand_augment: int = 4
    magnitude: float = 5.0
    drop_rate: float = -1.0
    stochastic_depth: float = -1.0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, warm_up=0, train_size=0, rand_augment=0)
        if self.model not in VARIANTS:
            raise InputError(
                f"--set model={self.model}: expected a model of the papers; unitgain models 'nf*' lists them"
            )

    @property
    def highest_lr(self) -> float:
        return self.lr * self.batch_size / 256


VARIANTS = NFNETS | NF_RESNETS | NF_REGNETS


def train(
    config: ImagenetConfig,
    run: RunFolder | None = None,
    /,
    *,
    resume: bool = False,
    say: Callable[[str], None] = say,
) -> Outcome:
    """As image-folder's, with the metric top5 added."""
    return run_pieces("imagenet", config, make_pieces(config, run, say), run, resume, say)


def learner(config: ImagenetConfig) -> Learner:
    return make_pieces(config).learn


def make_pieces(
    config: ImagenetConfig, run: RunFolder | None = None, say: Callable[[str], None] = say
) -> Pieces:
    if not config.data:
        raise InputError(
            "--set data=...: give ImageNet's directory, with train/CLASS and val/CLASS, or hf:NAME"
        )
    torch.manual_seed(config.seed)
    variant = VARIANTS[config.model]
    train_size, eval_size = config.train_size or variant.train_size, config.eval_size or variant.test_size
    split = find_images(config.data, seed=config.seed)
    augment = RandAugment(config.rand_augment, config.magnitude) if config.rand_augment else None
    items = (
        ImageItems(split.train, RandomCrop(train_size, config.least_area, augment), config.corrupt),
        ImageItems(split.valid, CentreCrop(eval_size, squash=True), config.corrupt),
    )
    loaders = config.loaders(items)
    own = {"drop_rate": config.drop_rate, "stochastic_depth": config.stochastic_depth}
    options: dict[str, Any] = {name: value for name, value in own.items() if value >= 0}
    model = make_model(
        config.model, len(split.classes), config.wiring, False, checkpointing=config.checkpointing, **options
    )
    batches = ImageBatches(len(split.classes), mix=config.mix, smoothing=config.smoothing)
    per_epoch = len(loaders[0])
    factor = warm_up_and_cosine(round(config.warm_up * per_epoch), config.epochs * per_epoch)
    callbacks: list[Callback] = [Calibrate(), Schedule(lambda o: LambdaLR(o, factor))]
    return assemble(
        config, model, config.highest_lr, split, items, loaders, batches, Report(say), callbacks, run,
        accuracy=accuracy, top5=top5,
    )  # fmt: skip


def warm_up_and_cosine(warm_up: int, steps: int) -> Callable[[int], float]:
    """Step -> share of the highest rate: a line from 0 over warm_up steps, then half a cosine to 0 at the last.

    >>> [round(warm_up_and_cosine(2, 6)(step), 3) for step in range(7)]
    [0.0, 0.5, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    warm_up = min(warm_up, steps)

    def factor(step: int) -> float:
        if step < warm_up:
            return step / warm_up
        return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up)))

    return factor


def top5(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Fraction of examples whose target is among the five largest outputs."""
    best = outputs.topk(min(5, outputs.shape[1]), 1).indices
    return (best == targets[:, None]).any(1).float().mean()


_NFNET = ImagenetConfig()
# magnitudes of RandAugment: 5 for F0, 10 for F1 and F2, 15 from F3 on
_NFNETS = {
    f"nfnet_f{n}": replace(_NFNET, model=f"nfnet_f{n}", magnitude=m)
    for n, m in enumerate((5, 10, 10, 15, 15, 15, 15, 15))
}
_NF_RESNET = replace(
    _NFNET, batch_size=1024, epochs=90, weight_decay=1e-4, clipping=0.0, rand_augment=0, mixup=0.0, cutmix=0.0,
    ema=0.0, precision="float32",
)  # fmt: skip
_NF_REGNET_DECAY = {"b0": 5e-5, "b1": 6e-5, "b2": 7e-5, "b3": 8e-5, "b4": 9e-5, "b5": 1e-4}  # as in the code
PRESETS: dict[str, ImagenetConfig] = {
    **_NFNETS,
    **{f"nf_resnet{depth}": replace(_NF_RESNET, model=f"nf_resnet{depth}") for depth in (50, 101, 152, 200, 288)},
    **{
        f"nf_regnet_{name}": replace(
            _NFNET, model=f"nf_regnet_{name}", batch_size=1024, weight_decay=decay, clipping=0.0, rand_augment=0,
            precision="float32",
        )
        for name, decay in _NF_REGNET_DECAY.items()
    },
}  # fmt: skip

RECIPE = Recipe(
    "imagenet",
    "NFNets, NF-ResNets and NF-RegNets with their papers' settings, on ImageNet or a directory like it",
    _NFNET,
    train,
    learner,
    PRESETS,
)
