"""makemore: the character MLP on names, in the five variants of the lecture and its two deep ones.

Source of procedure and figures: A. Karpathy, "Neural Networks: Zero to Hero", makemore part 3. One generator draws the
weights in the order of the lecture and then, for every step, the batch's indices; plain SGD; the whole splits are
evaluated at the end. Draws of 1,000 batches at once are the same stream as single ones.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from .._base import InputError, remove_leftovers, say
from .._check import target_facts
from ..data import Names, load_names
from ..models import CHAR_MLP_SEED as SEED
from ..models import CHAR_MLP_VARIANTS as VARIANTS
from ..models import CharMLP
from ..models import sample as sample_names
from ..nn import evaluating
from ..probe import Probe
from ..record import LossFacts, Record
from ..train import InMemoryLoader, Learner, checkpoint
from ._fused import FusedStep
from ._registry import Recipe
from ._runs import Outcome, RunFolder
from ._settings import at_least

_CHUNK = 1000  # steps that run without interruption
_PROGRESS = 20_000  # steps between two lines of progress
_KEEP = 2  # checkpoints
_OF_NETWORK = ("gain", "fan_in_scaling", "output_scale", "tanh", "hidden")

Variant = Literal["original", "softmax", "tanh", "kaiming", "batchnorm", "deep", "deep_batchnorm"]


@dataclass(frozen=True)
class MakemoreConfig:
    """The character MLP on names. The defaults are the lecture's.

    variant     initialization and norm; those of unitgain models 'char_mlp*'
    gain, fan_in_scaling, output_scale, tanh, hidden   of the network, where they differ from the variant's; see
                CharMLPConfig: gain=1, fan_in_scaling=none, tanh=false, hidden=[100,100]
    steps       batches to train on
    batch_size  examples per batch
    lr          learning rate before step drop_at
    late_lr     learning rate from there on
    drop_at     the step at which the rate drops
    seed        of weights and batches
    every       measure each every-th step with a Probe, 0 none; the weights are the same, bit for bit
    save_every  steps between checkpoints
    names       a file of names, one a line; "" finds one (unitgain data)
    """

    variant: Variant = "batchnorm"
    steps: int = 200_000
    batch_size: int = 32
    lr: float = 0.1
    late_lr: float = 0.01
    drop_at: int = 100_000
    seed: int = SEED
    every: int = 1000
    save_every: int = 10_000
    names: str = ""
    gain: float | None = None
    fan_in_scaling: Literal["none", "hidden", "all"] | None = None
    output_scale: float | None = None
    tanh: bool | None = None
    hidden: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        at_least(self, steps=1, batch_size=2, drop_at=0, seed=0, every=0, save_every=1, lr=0, late_lr=0)


def train(
    config: MakemoreConfig,
    run: RunFolder | None = None,
    *,
    resume: bool = False,
    say: Callable[[str], None] = say,
) -> Outcome:
    """Trains the variant.

    metrics: initial_loss (the first batch's); train_loss, val_loss and val_accuracy on the whole splits;
    steps_per_second, measuring and writing included.

    Raises InputError when the loss becomes NaN or infinite, and under torchrun.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "makemore: its steps take only 0.1 ms, so several processes would be slower; start it without torchrun"
        )
    return train_on(load_names(config.names or None), config, run, resume=resume, say=say)


def train_on(
    names: Names,
    config: MakemoreConfig,
    run: RunFolder | None = None,
    *,
    resume: bool = False,
    say: Callable[[str], None] = say,
) -> Outcome:
    """As `train`, with names that are loaded already."""
    training = Training(config, names, run)
    if resume and training.resume():
        say(f"continuing at step {training.step}")
    record = training.open_record()
    while training.step < config.steps:
        losses = training.advance()
        finite = losses.isfinite()
        if not bool(finite.all()):
            record.commit()
            step = training.step - len(losses) + int(finite.int().argmin())
            raise InputError(
                f"makemore: from step {step} on the loss is not finite; begin a new run with a lower rate "
                "(--set lr=0.01)"
            )
        if training.step % _PROGRESS == 0 or training.step == config.steps:
            rate = training.step / training.seconds
            say(f"step {training.step:7,d}  loss {float(losses.mean()):.4f}  {rate:,.0f} steps/s")
    model = training.model
    train_loss, _ = evaluate(model, names.train.x, names.train.y)
    val_loss, val_accuracy = evaluate(model, names.validation.x, names.validation.y)
    # the last step may make weights not finite, which the losses before it do not show
    if not math.isfinite(train_loss + val_loss):
        raise InputError(
            "makemore: the trained weights give no finite loss; begin a new run with a lower rate (--set lr=0.01)"
        )
    record.log(config.steps - 1, train_loss=train_loss, val_loss=val_loss)
    record.commit()
    metrics = {
        "initial_loss": training.initial_loss,
        "train_loss": train_loss,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "steps_per_second": config.steps / training.seconds,
    }
    return Outcome("makemore", config, model, metrics, training.seconds, record)


def evaluate(model: torch.nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """(cross entropy, part of the characters guessed right) on a whole split, in evaluation mode; training flags are
    put back."""
    loss, right = torch.zeros((), dtype=torch.float64), 0
    with torch.no_grad(), evaluating(model):
        for a, b in zip(x.split(20_000), y.split(20_000)):
            logits = model(a)
            loss += F.cross_entropy(logits, b, reduction="sum")
            right += int((logits.argmax(1) == b).sum())
    return float(loss) / len(y), right / len(y)


def make_model(config: MakemoreConfig, generator: torch.Generator | None = None) -> CharMLP:
    """The variant's network, with what the settings say of it."""
    given = {name: getattr(config, name) for name in _OF_NETWORK if getattr(config, name) is not None}
    network = replace(VARIANTS[config.variant], **given)
    return CharMLP(network, generator or torch.Generator().manual_seed(config.seed))


def learner(config: MakemoreConfig, names: Names | None = None) -> Learner:
    """The same model, batches and optimizer in a Learner, for `lr_find`. Its epochs have 1,000 batches."""
    names = names or load_names(config.names or None)
    generator = torch.Generator().manual_seed(config.seed)
    model = make_model(config, generator)
    loader = InMemoryLoader(
        (names.train.x, names.train.y), config.batch_size, replacement=True, batches=1000, generator=generator
    )
    return Learner(model, loader, F.cross_entropy, lambda p: torch.optim.SGD(p, lr=config.lr))


def sample(config: MakemoreConfig, weights: Mapping[str, Tensor], n: int, seed: int) -> list[str]:
    """n names by a trained model, the same ones for the same seed."""
    model = make_model(config)
    model.load_state_dict(weights)
    return sample_names(model, torch.Generator().manual_seed(seed), n)


class Training:
    """Model, generator, record and position of one run, and how they are stored."""

    def __init__(self, config: MakemoreConfig, names: Names, run: RunFolder | None = None):
        self.config, self.run = config, run
        self.x, self.y = names.train.x, names.train.y
        self.data = hashlib.sha256("\n".join(names.words).encode()).hexdigest()
        self.generator = torch.Generator().manual_seed(config.seed)
        self.model = make_model(config, self.generator)
        self.fused = FusedStep(self.model, config.batch_size)
        self.step, self.seconds = 0, 0.0
        self.initial_loss = float("nan")

    def open_record(self) -> Record:
        path = None if self.run is None else self.run.record
        if path is not None and path.exists() and self.step:
            self.record = Record.reopen(path, before=self.step)
        else:
            self.record = Record(path, overwrite=True)
        self.measured = (
            _Measured(self.model, self.fused, self.record, self.config) if self.config.every else None
        )
        return self.record

    def advance(self) -> Tensor:
        """Trains to the end of the chunk; the losses of its steps."""
        began = time.perf_counter()
        config, at, end = self.config, self.step, self._chunk_end()
        lr = config.lr if at < config.drop_at else config.late_lr
        rows = torch.randint(0, len(self.y), (end - at, config.batch_size), generator=self.generator)
        losses = self._run(self.x[rows], self.y[rows], lr)
        if at == 0:
            self.initial_loss = float(losses[0])
            self._describe()
        steps = [(at + i, "loss", loss) for i, loss in enumerate(losses.tolist())]
        self.record.add_metrics([*steps, (at, "lr", lr)])
        self.record.commit(every=0.5)
        self.step = end
        due = end % config.save_every == 0 or end == config.steps
        if self.run is not None and due and bool(losses.isfinite().all()):
            self._save(self.seconds + time.perf_counter() - began)
        self.seconds += time.perf_counter() - began
        return losses

    def _chunk_end(self) -> int:
        """Chunks end at multiples of 1,000, and at steps where the rate drops, a checkpoint is due or training ends."""
        config, at = self.config, self.step
        stops = [at - at % _CHUNK + _CHUNK, config.steps, at - at % config.save_every + config.save_every]
        if at < config.drop_at:
            stops.append(config.drop_at)
        return min(stops)

    def _run(self, x: Tensor, y: Tensor, lr: float) -> Tensor:
        """x (S, B, T), y (S, B) -> losses (S,), of which every `every`-th step is measured."""
        if self.measured is None:
            return self.fused.run(x, y, lr)
        losses, begin = [], 0
        for cut in range(-self.step % self.config.every, len(x), self.config.every):
            losses.append(self.fused.run(x[begin:cut], y[begin:cut], lr))
            losses.append(self.measured.step(self.step + cut, x[cut], y[cut], lr))
            begin = cut + 1
        losses.append(self.fused.run(x[begin:], y[begin:], lr))
        return torch.cat(losses)

    def _describe(self) -> None:
        """Facts for the rules about losses."""
        y = self.y[: self.config.batch_size]
        logits = torch.zeros(len(y), VARIANTS[self.config.variant].vocabulary)
        loss = LossFacts("cross_entropy", "cross_entropy", self.initial_loss)
        target = target_facts(y, logits, "cross_entropy")
        self.record.set_facts(replace(self.record.facts, mode="training", loss=loss, target=target))

    # ---- checkpoints ---------------------------------------------------------------------------------------

    def _save(self, seconds: float) -> None:
        assert self.run is not None
        self.record.commit()  # all steps before a checkpoint must be in the record
        state = {
            "recipe": "makemore", "data": self.data, "step": self.step, "seconds": seconds,
            "initial_loss": self.initial_loss, "model": self.model.state_dict(),
            "generator": self.generator.get_state(),
        }  # fmt: skip
        folder = self.run.checkpoints
        checkpoint.write(folder / checkpoint.name_of(self.step), state)
        for old in checkpoint.list_folder(folder)[:-_KEEP]:
            old.unlink(missing_ok=True)

    def resume(self) -> bool:
        """Continues from the last checkpoint; False if there is none."""
        if self.run is None:
            return False
        remove_leftovers(self.run.checkpoints)
        found = checkpoint.list_folder(self.run.checkpoints)
        if not found:
            return False
        path = found[-1]
        state = checkpoint.read(path)
        if not isinstance(state, dict) or state.get("recipe") != "makemore":
            raise InputError(f"checkpoint {path}: not one of the recipe makemore")
        if state["data"] != self.data:
            raise InputError(
                f"checkpoint {path}: its run had other names; resume it with the same file of names"
            )
        self.model.load_state_dict(state["model"])  # copies: the fused step keeps its tensors
        self.generator.set_state(state["generator"])
        self.step, self.seconds, self.initial_loss = state["step"], state["seconds"], state["initial_loss"]
        return True


class _Measured:
    """A step seen by a Probe: forward and backward pass through the ordinary module, then the fused step on the same
    batch as the optimizer's, so that the training is the same as without measuring."""

    def __init__(self, model: CharMLP, fused: FusedStep, record: Record, config: MakemoreConfig):
        self.model, self.optimizer = model, _FusedOptimizer(model, fused, config.lr)
        self.probe = Probe(model, self.optimizer, every=config.every, to=record)

    def step(self, number: int, x: Tensor, y: Tensor, lr: float) -> Tensor:
        """x (B, T), y (B,) -> losses (1,)."""
        self.probe.go_to(number)
        buffers = [(b, b.clone()) for b in self.model.buffers()]
        self.probe.start()
        try:
            F.cross_entropy(self.model(x), y).backward()
            for buffer, before in buffers:
                buffer.copy_(before)
            self.optimizer.batch = x, y
            self.optimizer.param_groups[0]["lr"] = lr
            self.optimizer.step()
        finally:
            self.probe.stop()
            self.optimizer.zero_grad()
        return self.optimizer.losses


class _FusedOptimizer(torch.optim.Optimizer):
    """A fused step in the place of an optimizer's, for the Probe to watch."""

    def __init__(self, model: CharMLP, fused: FusedStep, lr: float):
        super().__init__(model.parameters(), {"lr": lr})
        self.fused = fused
        self.batch: tuple[Tensor, Tensor] | None = None
        self.losses = torch.zeros(1)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert self.batch is not None
        x, y = self.batch
        self.losses = self.fused.run(x[None], y[None], self.param_groups[0]["lr"])


RECIPE = Recipe(
    "makemore",
    "character MLP on names, in the variants of the makemore lecture",
    MakemoreConfig(),
    train,
    learner,
    {name: MakemoreConfig(variant=name) for name in get_args(Variant)},
    sample,
)
