"""own: a model and examples of your own, trained with what the other recipes have.

`unitgain train my_model.py:make_model --data train.npz` is short for `unitgain train own --set target=... --set
data=...`. AdamW with one cycle; every fifth example is held out and evaluated after each epoch, of a data set its
validation examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._base import InputError, say
from .._batch import Batch, find_logits, map_tensors, read_batch
from ..targets import Source, load_model, load_source, parse_settings
from ..train import (
    ActivationStats,
    Callback,
    Checkpoint,
    Clip,
    Data,
    Distributed,
    Learner,
    Metrics,
    OneCycle,
    Recorder,
    accuracy,
)
from ._registry import Recipe
from ._runs import Outcome, RunFolder
from ._say import SayEpochs
from ._settings import above_zero, at_least, fractions

OptimizerName = Literal["adamw", "adam", "sgd"]


@dataclass(frozen=True)
class OwnConfig:
    """A model and examples, and how they are trained.

    target       package.module:callable, path/to/file.py:callable, a built-in model, timm:NAME, ...
    arguments    "key=value" texts for that callable; keys of --set that are none of these settings go here
    data         a .safetensors or .npz file, or a directory of images by class
    dataset      names or fashion-mnist, in the place of data
    normalize    image pixels get mean 0 and standard deviation 1
    loss         auto, cross_entropy, mse, bce_with_logits, nll, l1 or smooth_l1
    optimizer    adamw, adam or sgd (with momentum)
    lr           learning rate: the highest one if one_cycle, else the constant one
    weight_decay of adamw and sgd
    momentum     of sgd
    one_cycle    the rate rises over the first part of training and falls over the rest
    clip         largest norm of all gradients together, 0 none
    epochs       passes over the training examples
    batch_size   examples per step
    seed         of weights and data order
    every        measure each every-th step with a Probe, 0 none
    save_every   steps between checkpoints within an epoch; each epoch's end has one too; 0 none
    """

    target: str = ""
    arguments: tuple[str, ...] = ()
    data: str = ""
    dataset: str = ""
    normalize: bool = True
    loss: str = "auto"
    optimizer: OptimizerName = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    momentum: float = 0.9
    one_cycle: bool = True
    clip: float = 0.0
    epochs: int = 5
    batch_size: int = 64
    seed: int = 0
    every: int = 10
    save_every: int = 0

    def __post_init__(self) -> None:
        at_least(self, epochs=0, batch_size=1, every=0, save_every=0, weight_decay=0, clip=0, seed=0)
        above_zero(self, "lr")
        fractions(self, "momentum")


def train(
    config: OwnConfig,
    run: RunFolder | None = None,
    /,
    *,
    resume: bool = False,
    say: Callable[[str], None] = say,
) -> Outcome:
    """Trains, and evaluates after each epoch.

    metrics: train_loss, valid_loss; where classes are predicted, train_accuracy and accuracy (of what is held out).

    Raises InputError when the loss becomes NaN or infinite.
    """
    told = SayEpochs(say, "own", "(--set lr=1e-4), or see what unitgain check says of the model")
    learn = make_learner(config, run, [told])
    if resume and run is not None:
        learn.resume(run.checkpoints)
    learn.fit(config.epochs)
    metrics = {name: float(value) for name, value in learn.metrics.items()}
    learn.record.commit()
    return Outcome("own", config, learn.model, metrics, learn.seconds, learn.record)


def learner(config: OwnConfig) -> Learner:
    """Model, data and optimizer in a Learner, untrained; what `unitgain lr-find` sweeps."""
    return make_learner(config)


def make_learner(config: OwnConfig, run: RunFolder | None = None, more: Sequence[Callback] = ()) -> Learner:
    """The Learner that trains."""
    if not config.target:
        raise InputError("--set target=...: give the model, like my_model.py:make_model")
    torch.manual_seed(config.seed)
    model = load_model(config.target, parse_settings(config.arguments))
    source = load_source(
        model,
        data=config.data or None,
        dataset=config.dataset or None,
        count=config.batch_size,
        seed=config.seed,
        normalize=config.normalize,
    )
    parts = Data(Epochs(source.train, source.count, config.seed), Epochs(source.held, 4 * source.count))
    classes = _classifies(model, source, config.loss)
    callbacks: list[Callback] = [
        Distributed(), Metrics(*([_accuracy] if classes else []), train=True), Recorder(),
        *([OneCycle(config.lr)] if config.one_cycle else []), *([Clip(config.clip)] if config.clip else []),
        *([ActivationStats(config.every)] if config.every else []),
    ]  # fmt: skip
    if run is not None:
        callbacks.append(Checkpoint(run.checkpoints, every=config.save_every or None))
    return Learner(
        model, parts, config.loss, _optimizer(config, model), [*callbacks, *more],
        record=None if run is None else run.record,
    )  # fmt: skip


class Epochs:
    """Examples of any form (a tensor, a pair, a mapping) in batches; shuffled anew at each epoch if there is a seed.

    A resumed run goes on in the order where it was: `state_dict` and `load_state_dict`.
    """

    def __init__(self, examples: Any, count: int, seed: int | None = None):
        self.examples, self.count = examples, count
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)
        first = examples
        while not isinstance(first, Tensor):
            first = next(iter(first.values())) if isinstance(first, dict) else first[0]
        self.total = len(first)
        self._began = None if self.generator is None else self.generator.get_state()
        self._skip, self._at = 0, 0

    def __len__(self) -> int:
        return math.ceil(self.total / self.count)

    def __iter__(self) -> Iterator[Any]:
        skip, self._skip = self._skip, 0
        if self.generator is None:
            order = torch.arange(self.total)
        else:
            self._began = self.generator.get_state()
            order = torch.randperm(self.total, generator=self.generator)
        for number, rows in enumerate(order.split(self.count)):
            if number < skip:
                continue
            self._at = number + 1
            yield map_tensors(self.examples, lambda t, rows=rows: t[rows.to(t.device)] if t.dim() else t)
        self._at = 0
        if self.generator is not None:
            self._began = self.generator.get_state()

    def state_dict(self) -> dict[str, Any]:
        """The generator's state when the epoch began, and how many of its batches have been read."""
        return {"began": self._began, "at": self._at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next epoch goes on from there."""
        if self.generator is not None and state["began"] is not None:
            self.generator.set_state(state["began"])
            self._began = state["began"]
        self._skip = int(state["at"])


def _classifies(model: nn.Module, source: Source, loss: str) -> bool:
    """Whether logits over classes are compared with their numbers: then accuracy can be told."""
    batch = read_batch(source.batch, model)
    target = batch.labels
    return (
        isinstance(target, Tensor)
        and not target.is_floating_point()
        and target.dtype != torch.bool
        and target.dim() == 1
        and loss in ("auto", "cross_entropy", "nll")
        and batch.passed is None
        and _two_axes(model, batch)
    )


def _two_axes(model: nn.Module, batch: Batch) -> bool:
    from ..graph import trace

    output = trace(model, batch).output
    return output is not None and len(output.shape) == 2 and output.shape[1] > 1


def _accuracy(outputs: Any, targets: Tensor) -> Tensor:
    logits = find_logits(outputs)
    assert logits is not None
    return accuracy(logits, targets)


_accuracy.__name__ = "accuracy"  # the metric is called after it


def _optimizer(config: OwnConfig, model: nn.Module) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.lr)
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)


RECIPE = Recipe(
    "own",
    "a model and examples of your own: unitgain train my_model.py:make_model --data train.npz",
    OwnConfig(),
    train,
    learner,
)
