"""nf-vs-bn: the same small ResNet with BatchNorm and normalizer-free on Fashion-MNIST, at three batch sizes.

It compares the test accuracy after the same number of examples, over seeds. Both networks are trained in the same way:
SGD with Nesterov momentum, one cycle of the learning rate, weight decay on weights only, no augmentation, data in
memory. A seed fixes the draw of the initial weights and the order of the examples. experiments/nf_vs_bn.py searched
each network's learning rate at each batch size on held-out training images, and the factor of AGC for the
normalizer-free one: smaller batches, with their noisier gradients, need larger factors. It also times the steps.

BatchNorm is evaluated twice: with the running statistics of training, and with exact ones measured on training images
(ug.nn.calibrate_), so that inaccurate running statistics do not make the network look worse than it is.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from .._base import InputError, say
from ..data import load_fashion_mnist
from ..nn import calibrate_, evaluating
from ..optim import param_groups
from ..train import Callback, CancelPass, Clip, InMemoryLoader, Learner, OneCycle
from ._registry import Recipe
from ._runs import Outcome, RunFolder
from ._settings import above_zero, at_least
from ._small_resnet import SmallResNet

Net = Literal["batchnorm", "normfree"]
NETS: tuple[Net, ...] = ("batchnorm", "normfree")
_EXACT_BATCH, _EXACT_BATCHES = 250, 20
Images = tuple[Tensor, Tensor]  # (N, 1, 28, 28) normalized, labels (N,)


@dataclass(frozen=True)
class NfVsBnConfig:
    """One entry per batch size in batch_sizes, examples, batchnorm_lr, normfree_lr and clipping.

    examples      seen in training, in whole batches; above 60,000 images repeat
    batchnorm_lr, normfree_lr   highest learning rate of the cycle
    clipping      of AGC; 0: none
    data          a folder with Fashion-MNIST's files; "" finds one (unitgain data)
    """

    batch_sizes: tuple[int, ...] = (256, 32, 4)
    examples: tuple[int, ...] = (60_000, 60_000, 60_000)
    batchnorm_lr: tuple[float, ...] = (0.2, 0.28, 0.0125)
    normfree_lr: tuple[float, ...] = (0.4, 0.28, 0.0125)
    seeds: tuple[int, ...] = (0, 1, 2)
    clipping: tuple[float, ...] = (0.04, 0.11, 0.32)
    weight_decay: float = 5e-4
    channels: tuple[int, ...] = (16, 32, 64, 128)
    depths: tuple[int, ...] = (1, 1, 1, 1)
    alpha: float = 1.0
    data: str = ""

    def __post_init__(self) -> None:
        for name in ("examples", "batchnorm_lr", "normfree_lr", "clipping"):
            if len(getattr(self, name)) != len(self.batch_sizes):
                raise InputError(
                    f"--set {name}={list(getattr(self, name))}: expected one number for each of batch_sizes "
                    f"{list(self.batch_sizes)}"
                )
        above_zero(self, "batchnorm_lr", "normfree_lr")
        at_least(self, clipping=0, batch_sizes=2, weight_decay=0)
        if not self.batch_sizes or not self.seeds:
            raise InputError("--set batch_sizes, seeds: expected at least one of each")
        short = next((b for b, n in zip(self.batch_sizes, self.examples) if n < b), None)
        if short is not None:
            raise InputError(f"--set examples={list(self.examples)}: less than one batch of {short}")

    def rate(self, net: Net, batch_size: int) -> float:
        rates = self.batchnorm_lr if net == "batchnorm" else self.normfree_lr
        return rates[self.batch_sizes.index(batch_size)]

    def clipping_at(self, batch_size: int) -> float:
        return self.clipping[self.batch_sizes.index(batch_size)]


@dataclass(frozen=True)
class Score:
    """Test accuracy in percent: as trained, and with exact batch statistics; and the seconds of training."""

    accuracy: float
    exact_accuracy: float
    seconds: float


def train(
    config: NfVsBnConfig,
    run: RunFolder | None = None,
    /,
    *,
    resume: bool = False,
    say: Callable[[str], None] = say,
) -> Outcome:
    """Trains every network at every batch size and seed.

    metrics: NET_BATCH, the mean accuracy over seeds, NET_BATCH_spread (standard deviation) and batchnorm_BATCH_exact.
    With a folder, a resumed run skips the trainings that have been completed.
    """
    train_set, test_set = read_data(config)
    scores: dict[str, list[float]] = _finished(run) if resume else {}
    model: nn.Module = SmallResNet("normfree", config.channels, config.depths, alpha=config.alpha)
    if run is not None and run.weights.is_file() and list(scores)[-1:] == [_last_key(config)]:
        model.load_state_dict(load_file(run.weights))  # everything has been trained
    for batch_size, examples in zip(config.batch_sizes, config.examples):
        for seed in config.seeds:
            for net in NETS:
                key = f"{net} {batch_size} {seed}"
                if key in scores:
                    continue
                model, score = fit(
                    config, net, batch_size, examples, config.rate(net, batch_size), seed, train_set, test_set
                )
                scores[key] = [score.accuracy, score.exact_accuracy, score.seconds]
                say(
                    f"batch {batch_size:3d} seed {seed} {net:9s} {score.accuracy:.2f}% "
                    f"(exact statistics {score.exact_accuracy:.2f}%) in {score.seconds:.0f} s"
                )
                if run is not None:
                    run.write_weights(model, run.weights.name)
                    run.write_json(run.trainings.name, {"scores": scores})
    metrics = summarize(config, scores)
    return Outcome("nf-vs-bn", config, model, metrics, sum(s[2] for s in scores.values()))


def summarize(config: NfVsBnConfig, scores: dict[str, list[float]]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for batch_size in config.batch_sizes:
        for net in NETS:
            rows = [scores[f"{net} {batch_size} {seed}"] for seed in config.seeds]
            metrics[f"{net}_{batch_size}"] = statistics.mean(r[0] for r in rows)
            metrics[f"{net}_{batch_size}_spread"] = (
                statistics.stdev(r[0] for r in rows) if len(rows) > 1 else 0.0
            )
            if net == "batchnorm":
                metrics[f"{net}_{batch_size}_exact"] = statistics.mean(r[1] for r in rows)
    return metrics


def read_data(config: NfVsBnConfig) -> tuple[Images, Images]:
    data = load_fashion_mnist(config.data or None, normalize=True)
    return (data.train.images, data.train.labels), (data.test.images, data.test.labels)


def fit(
    config: NfVsBnConfig,
    net: Net,
    batch_size: int,
    examples: int,
    lr: float,
    seed: int,
    train_set: Images,
    test_set: Images,
) -> tuple[SmallResNet, Score]:
    """One training: exactly examples // batch_size steps, in epochs over shuffled training images."""
    steps = examples // batch_size
    learn = make_learner(config, net, batch_size, lr, seed, train_set)
    learn.callbacks.append(_StopAfter(steps))
    assert learn.batches is not None
    epochs = -(-steps // learn.batches)
    began = time.perf_counter()
    learn.fit(epochs, callbacks=[_Cycle(lr, steps)])
    seconds = time.perf_counter() - began
    model = learn.model
    assert isinstance(model, SmallResNet)
    accuracy = evaluate(model, test_set)
    exact = accuracy
    if net == "batchnorm":
        kept = {name: b.clone() for name, b in model.named_buffers()}
        count = min(len(train_set[0]), _EXACT_BATCH * _EXACT_BATCHES)
        calibrate_(model, list(train_set[0][:count].split(_EXACT_BATCH)))
        exact = evaluate(model, test_set)
        for name, b in model.named_buffers():
            b.copy_(kept[name])
    return model, Score(accuracy, exact, seconds)


def learner(config: NfVsBnConfig) -> Learner:
    """The normalizer-free network at the first batch size."""
    train_set, _ = read_data(config)
    return make_learner(
        config, "normfree", config.batch_sizes[0], config.normfree_lr[0], config.seeds[0], train_set
    )


def make_learner(
    config: NfVsBnConfig, net: Net, batch_size: int, lr: float, seed: int, train_set: Images
) -> Learner:
    torch.manual_seed(seed)
    model = SmallResNet(net, config.channels, config.depths, alpha=config.alpha)
    loader = InMemoryLoader(train_set, batch_size, shuffle=True, drop_last=True, seed=seed)
    clipping = config.clipping_at(batch_size) if net == "normfree" else 0.0
    callbacks: list[Callback] = [Clip(agc=clipping)] if clipping else []
    return Learner(model, loader, F.cross_entropy, make_optimizer(model, lr, config), callbacks)


def make_optimizer(model: nn.Module, lr: float, config: NfVsBnConfig) -> torch.optim.Optimizer:
    groups = param_groups(model, config.weight_decay)
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, fused=True)


class _Cycle(OneCycle):
    """One cycle over a number of steps, whether or not they make whole epochs. Momentum does not change."""

    def __init__(self, max_lr: float, steps: int):
        super().__init__(max_lr, momentum=None)
        self._steps = steps

    def before_fit(self, learn: Learner) -> None:
        super().before_fit(learn)
        self._total = self._steps


class _StopAfter(Callback):
    """Ends the last epoch at the given step, as if its data ended there."""

    order = 60

    def __init__(self, steps: int):
        self.steps = steps

    def after_batch(self, learn: Learner) -> None:
        if learn.steps >= self.steps:
            raise CancelPass


@torch.no_grad()
def evaluate(model: nn.Module, data: Images) -> float:
    """Accuracy in percent, in evaluation mode; training flags are put back."""
    with evaluating(model):
        right = sum(
            int((model(x).argmax(1) == y).sum()) for x, y in zip(data[0].split(1000), data[1].split(1000))
        )
    return 100 * right / len(data[1])


def _last_key(config: NfVsBnConfig) -> str:
    return f"{NETS[-1]} {config.batch_sizes[-1]} {config.seeds[-1]}"


def _finished(run: RunFolder | None) -> dict[str, list[float]]:
    import json

    if run is None or not run.trainings.exists():
        return {}
    return json.loads(run.trainings.read_text(encoding="utf-8"))["scores"]


RECIPE = Recipe(
    "nf-vs-bn",
    "the same ResNet with BatchNorm and normalizer-free, at batch 256, 32 and 4",
    NfVsBnConfig(),
    train,
    learner,
    presets={"short": NfVsBnConfig(examples=(2560, 1280, 400), seeds=(0,), channels=(8, 16), depths=(1, 1))},
)
