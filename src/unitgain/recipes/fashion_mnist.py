"""fashion-mnist: small networks on Fashion-MNIST, from the rungs of a published ladder to our best.

The rungs are those of J. Howard, "Practical Deep Learning for Coders" part 2, lessons 17 to 19 (fast.ai), each with
one thing changed, with our own LSUV, norms and optimizers. `default` and `best` are ours: networks
without normalization layers, well initialized. docs/fashion-mnist.md has accuracies and how settings were chosen.

The data are in memory as tensors, are scaled once, and batches are gathered without work per image. The test set is
used once, after training; settings were tuned on held-out training images (`held_out`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base import InputError, say
from ..data import FASHION_MNIST_MEAN, FASHION_MNIST_STD, ImageSplit, load_fashion_mnist
from ..nn import evaluating
from ..optim import SGD, Adam, Momentum, RMSProp
from ..train import (
    EMA,
    LSUV,
    ActivationStats,
    Callback,
    Checkpoint,
    Distributed,
    InMemoryLoader,
    Learner,
    Metrics,
    MixedPrecision,
    OneCycle,
    Progress,
    Recorder,
    accuracy,
)
from . import _fashion_models as models
from ._augment import Augment
from ._registry import Recipe
from ._runs import Outcome, RunFolder
from ._say import SayEpochs
from ._settings import above_zero, at_least, fractions

Network = Literal["plain", "deeper", "residual", "normfree", "nf_resnet"]
SIDE = 28  # pixels
OptimizerName = Literal["sgd", "torch_sgd", "momentum", "rmsprop", "adam", "adamw"]


@dataclass(frozen=True)
class FashionConfig:
    """A network on Fashion-MNIST, how it is trained, and how it is evaluated.

    network      plain, deeper, residual, normfree or nf_resnet: see recipes/_fashion_models.py
    widths       its channels
    depths       nf_resnet: blocks of each stage
    first_kernel residual: side of the first block's kernels
    activation   plain, deeper, residual: relu, or general_relu with leak 0.1 and shift 0.4
    norm         plain: none, layer or batch
    init         torch's default; kaiming: the ladder's, in which every convolution, also the first and the last, has
                 the gain of its activation's leak, and biases and linear layers are torch's; lsuv: that and then LSUV
                 on the first batch
    normalize    inputs of mean 0 and std 1 instead of 0..1
    optimizer    ours by name; torch_sgd is torch's; adamw is our Adam with weight_decay
    lr           learning rate: the highest one if one_cycle, else the constant one
    momentum     of torch_sgd, which sums gradients (g + m g' + ...), and of our Momentum, which averages them
    square_momentum  of our RMSProp: the part of the mean square that is kept from step to step
    weight_decay decoupled, per unit of learning rate
    decay_norms  whether it also takes biases and gains
    eps          of adam and adamw, inside the root
    epochs       passes over the training images
    one_cycle    the rate rises over the first part of training (warm_up) and falls over the rest
    warm_up      that part
    late_epochs  number of further epochs at late_lr
    late_lr      their rate
    batch_size   images per step, over all ranks
    shift        augmentation: images are moved by up to this number of pixels
    flip         augmentation: half of the images are mirrored
    erase        augmentation: side of a square that is blanked, 0 none
    smoothing    label smoothing
    drop         dropout before nf_resnet's head
    ema          decay of a moving average of the weights, which is then evaluated and kept; 0 none
    flip_test    evaluate the mean of the logits of each image and of its mirror image
    shift_test   evaluate the mean over the image and four copies moved by this number of pixels; 0 none
    bfloat16     autocast: several times as fast where the processor multiplies bfloat16 matrices (AMX), else slower
    seed         of weights, data order and augmentation
    every        measure each every-th step with a Probe, 0 none; the weights are the same, bit for bit
    save_every   steps between checkpoints within an epoch; each epoch's end has one too; 0 none
    held_out     number of training images that are not trained on, but evaluated instead of the test set
    data         folder of the four files; "" finds them (unitgain data)
    """

    network: Network = "normfree"
    widths: tuple[int, ...] = (16, 32, 64)
    depths: tuple[int, ...] = ()
    first_kernel: int = 3
    activation: Literal["relu", "general_relu"] = "relu"
    norm: Literal["none", "layer", "batch"] = "none"
    init: Literal["default", "kaiming", "lsuv"] = "default"
    normalize: bool = True
    optimizer: OptimizerName = "adamw"
    lr: float = 2e-2
    momentum: float = 0.0
    square_momentum: float = 0.99
    weight_decay: float = 0.01
    eps: float = 1e-10
    decay_norms: bool = True
    epochs: int = 3
    one_cycle: bool = True
    warm_up: float = 0.3
    late_epochs: int = 0
    late_lr: float = 0.0
    batch_size: int = 256
    shift: int = 0
    flip: bool = False
    erase: int = 0
    smoothing: float = 0.1
    drop: float = 0.0
    ema: float = 0.0
    flip_test: bool = False
    shift_test: int = 0
    bfloat16: bool = False
    seed: int = 0
    every: int = 10
    save_every: int = 0
    held_out: int = 0
    data: str = ""

    def __post_init__(self) -> None:
        at_least(
            self, epochs=0, late_epochs=0, batch_size=2, shift=0, erase=0, shift_test=0, every=0, save_every=0,
            held_out=0, weight_decay=0, late_lr=0,
        )  # fmt: skip
        fractions(self, "ema", "smoothing", "drop", "warm_up", "momentum", "square_momentum")
        above_zero(self, "lr")
        for name in ("shift", "shift_test", "erase"):
            if getattr(self, name) >= SIDE:
                raise InputError(
                    f"--set {name}={getattr(self, name)}: expected less than the {SIDE} pixels of an image's side"
                )
        if not self.widths or min(self.widths) < 1:
            raise InputError(
                f"--set widths={list(self.widths)}: expected one or more channels, like [16, 32, 64]"
            )
        if self.first_kernel < 1 or self.first_kernel % 2 == 0:
            raise InputError(f"--set first_kernel={self.first_kernel}: expected an odd number, like 3 or 5")
        if self.network == "nf_resnet" and len(self.depths) != len(self.widths):
            raise InputError(
                f"--set depths={list(self.depths)}: expected a number of blocks for each of the widths"
            )


_plain = FashionConfig(
    network="plain", widths=(8, 16, 32, 64), normalize=False, init="default", weight_decay=0.0, eps=1e-5,
    smoothing=0.0, one_cycle=False, batch_size=1024, every=0, lr=0.2,
    optimizer="torch_sgd", momentum=0.85,  # the lesson's first loop keeps 0.85 of the gradients from step to step
)  # fmt: skip
_kaiming = replace(_plain, init="kaiming")
_scaled = replace(_kaiming, normalize=True)
_general = replace(_scaled, activation="general_relu")
_batch_norm = replace(_general, norm="batch", lr=0.4)
_one_cycle = replace(
    _batch_norm, optimizer="adamw", lr=6e-2, weight_decay=0.01, eps=1e-10, one_cycle=True, epochs=5
)
_residual = replace(_one_cycle, network="residual", widths=(8, 16, 32, 64, 128, 256), lr=2e-2)
_wider = replace(_residual, widths=(16, 32, 64, 128, 256, 512), first_kernel=5, lr=1e-2)

RUNGS: dict[int, tuple[str, FashionConfig]] = {
    1: ("torch's initialization, ReLU", _plain),
    2: ("Kaiming initialization", _kaiming),
    3: ("and inputs normalized", _scaled),
    4: ("GeneralReLU(leak 0.1, sub 0.4)", _general),
    5: ("LSUV", replace(_general, init="lsuv")),
    6: ("whole-layer LayerNorm", replace(_general, norm="layer")),
    7: ("BatchNorm", _batch_norm),
    8: ("batch 256, 3 epochs at 0.2, then 2 at 0.05",
        replace(_batch_norm, batch_size=256, lr=0.2, momentum=0.9, late_epochs=2, late_lr=0.05)),
    9: ("our SGD", replace(_batch_norm, optimizer="sgd", momentum=0.0)),
    10: ("our Momentum", replace(_batch_norm, optimizer="momentum", lr=1.5, momentum=0.9)),
    11: ("our RMSProp", replace(_batch_norm, optimizer="rmsprop", lr=3e-3, square_momentum=0.999)),
    12: ("our Adam", replace(_batch_norm, optimizer="adam", lr=6e-3)),
    13: ("AdamW, one cycle, 5 epochs", _one_cycle),
    14: ("one more convolution, up to 128 channels",
         replace(_one_cycle, network="deeper", widths=(8, 16, 32, 64, 128))),
    15: ("residual blocks", _residual),
    16: ("wider residual blocks", _wider),
    17: ("crops, mirror images, 20 epochs, and both at test time",
         replace(_wider, epochs=20, shift=1, flip=True, flip_test=True)),
}  # fmt: skip

DEFAULT = FashionConfig()
BEST = FashionConfig(
    network="nf_resnet", widths=(32, 64, 128), depths=(2, 2, 2), epochs=27, lr=3e-2, weight_decay=0.05,
    decay_norms=False, batch_size=256, shift=1, flip=True, erase=6, drop=0.1, ema=0.999, flip_test=True,
    shift_test=1, bfloat16=True, every=100,
)  # fmt: skip
PRESETS: dict[str, FashionConfig] = {
    "default": DEFAULT,
    "best": BEST,
    **{f"rung{number}": config for number, (_, config) in RUNGS.items()},
}


@dataclass(frozen=True)
class Images:
    """The images for training and for evaluation."""

    train: ImageSplit
    test: ImageSplit


def load(config: FashionConfig) -> Images:
    """The data set; with held_out, a fixed choice of training images instead of the test set."""
    found = load_fashion_mnist(config.data or None, normalize=config.normalize)
    if not config.held_out:
        return Images(found.train, found.test)
    count = len(found.train)
    if config.held_out >= count:
        raise InputError(f"--set held_out={config.held_out}: there are {count} training images")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    parts = order[config.held_out :], order[: config.held_out]
    return Images(*(ImageSplit(found.train.images[part], found.train.labels[part]) for part in parts))


def train(
    config: FashionConfig,
    run: RunFolder | None = None,
    /,
    *,
    resume: bool = False,
    say: Callable[[str], None] = say,
    images: Images | None = None,
) -> Outcome:
    """Trains and evaluates once. metrics: train_loss (of the last epoch), test_accuracy, test_loss; seconds are those
    of training, measuring included, evaluation and reading the data not.

    Raises InputError when the loss becomes NaN or infinite.

    images  data that are in memory already
    """
    images = load(config) if images is None else images
    words = {
        "train_loss": "loss",
        "train_accuracy": "training accuracy",
    }  # no test image is used before the end
    told = SayEpochs(say, "fashion-mnist", "(--set lr=0.01)", words)
    learn = make_learner(config, images, run, [told])
    if resume and run is not None:
        learn.resume(run.checkpoints)
    within = Progress(table=False)
    learn.fit(config.epochs, valid=False, callbacks=[within])
    if config.late_epochs:
        for group in learn.optimizer.param_groups:
            group["lr"] = config.late_lr
        learn.fit(config.late_epochs, valid=False, callbacks=[within])
    correct, loss = evaluate(
        learn.model, images.test, flip=config.flip_test, shift=config.shift_test, fill=_background(config),
        bfloat16=config.bfloat16,
    )  # fmt: skip
    metrics = {"test_accuracy": correct, "test_loss": loss}
    if "train_loss" in learn.metrics:
        metrics = {"train_loss": learn.metrics["train_loss"], **metrics}
    last = max(0, learn.steps - 1)
    learn.record.add_metrics((last, name, metrics[name]) for name in ("test_accuracy", "test_loss"))
    learn.record.commit()
    return Outcome("fashion-mnist", config, learn.model, metrics, learn.seconds, learn.record)


def learner(config: FashionConfig) -> Learner:
    """Model, data and optimizer in a Learner, untrained; what `unitgain lr-find` sweeps."""
    return make_learner(config, load(config))


def make_learner(
    config: FashionConfig, images: Images, run: RunFolder | None = None, more: Sequence[Callback] = ()
) -> Learner:
    """The Learner that trains. Weights come from torch's global generator, seeded here; so does augmentation; the order
    of the data has its own generator."""
    torch.manual_seed(config.seed)
    model = make_model(config)
    augments = config.shift or config.flip or config.erase
    loader = InMemoryLoader(
        (images.train.images, images.train.labels), config.batch_size, shuffle=True, seed=config.seed,
        transform=Augment(config.shift, config.flip, config.erase, _background(config)) if augments else None,
    )  # fmt: skip
    callbacks: list[Callback] = [Distributed(), Metrics(accuracy, train=True), Recorder()]
    if config.init == "lsuv":
        callbacks.append(LSUV(where="activation"))
    if config.one_cycle:
        callbacks.append(OneCycle(config.lr, warm_up=config.warm_up))
    if config.bfloat16:
        callbacks.append(MixedPrecision(torch.bfloat16))
    if config.ema:
        callbacks.append(EMA(config.ema, keep=True))
    if config.every:
        callbacks.append(ActivationStats(config.every))
    if run is not None:
        callbacks.append(Checkpoint(run.checkpoints, every=config.save_every or None))
    return Learner(
        model, loader, nn.CrossEntropyLoss(label_smoothing=config.smoothing), make_optimizer(config, model),
        [*callbacks, *more], record=None if run is None else run.record,
    )  # fmt: skip


def _background(config: FashionConfig) -> float:
    """The value of black in the inputs."""
    return -FASHION_MNIST_MEAN / FASHION_MNIST_STD if config.normalize else 0.0


def make_model(config: FashionConfig) -> nn.Module:
    """The network with its initialization."""
    made = {
        "plain": lambda: models.plain(config.widths, config.activation, config.norm),
        "deeper": lambda: models.deeper(config.widths, config.activation),
        "residual": lambda: models.residual(config.widths, config.activation, config.first_kernel),
        "normfree": lambda: models.normfree(config.widths),
        "nf_resnet": lambda: models.nf_resnet(config.widths, config.depths, config.drop),
    }[config.network]()
    if config.init != "default":
        leak = models.LEAK if config.activation == "general_relu" else 0.0
        for module in made.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=leak)
    return made


def make_optimizer(config: FashionConfig, model: nn.Module) -> torch.optim.Optimizer:
    decay = config.weight_decay
    groups: list[dict[str, Any]] = [{"params": list(model.parameters()), "weight_decay": decay}]
    if decay and not config.decay_norms:
        weights = [
            p for p in model.parameters() if p.dim() > 1 and p.numel() > len(p)
        ]  # not biases, not gains
        others = [p for p in model.parameters() if not (p.dim() > 1 and p.numel() > len(p))]
        groups = [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "sgd": SGD, "torch_sgd": torch.optim.SGD, "momentum": Momentum, "rmsprop": RMSProp, "adam": Adam, "adamw": Adam,
    }  # fmt: skip
    options: dict[str, float] = {}
    if config.optimizer in ("adam", "adamw"):
        options["eps"] = config.eps
    elif config.optimizer in ("torch_sgd", "momentum"):
        options["momentum"] = config.momentum
    elif config.optimizer == "rmsprop":
        options["square_momentum"] = config.square_momentum
    return makers[config.optimizer](groups, lr=config.lr, **options)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    split: ImageSplit,
    *,
    flip: bool = False,
    shift: int = 0,
    fill: float = 0.0,
    bfloat16: bool = False,
    batch_size: int = 1000,
) -> tuple[float, float]:
    """(accuracy, cross entropy) over a split, in evaluation mode; training flags are put back.

    flip   logits are the mean over each image and its mirror image
    shift  and over both moved by this number of pixels up, down, left and right, with `fill` where they leave nothing
    """
    device = next(model.parameters()).device
    right, loss = 0, 0.0
    with evaluating(model):
        for x, y in zip(split.images.split(batch_size), split.labels.split(batch_size)):
            x, y = x.to(device), y.to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits = torch.stack([model(view).float() for view in _views(x, flip, shift, fill)]).mean(0)
            right += int((logits.argmax(1) == y).sum())
            loss += float(F.cross_entropy(logits, y, reduction="sum"))
    return right / len(split), loss / len(split)


def _views(x: Tensor, flip: bool, shift: int, fill: float) -> Iterator[Tensor]:
    """The images (B, C, H, W), then their copies for evaluation."""
    height, width = x.shape[2:]
    padded = F.pad(x, (shift,) * 4, value=fill)
    moves = [(0, 0), (shift, 0), (-shift, 0), (0, shift), (0, -shift)] if shift else [(0, 0)]
    for down, along in moves:
        moved = padded[:, :, shift + down : shift + down + height, shift + along : shift + along + width]
        yield moved
        if flip:
            yield moved.flip(3)


RECIPE = Recipe(
    name="fashion-mnist",
    summary="small networks on Fashion-MNIST: rungs 1 to 17 of a published ladder, the quick default, the best",
    config=DEFAULT,
    train=train,
    learner=learner,
    presets=PRESETS,
)
