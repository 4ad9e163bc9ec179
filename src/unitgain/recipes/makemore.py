"""makemore: the character MLP on names, in the five variants of the lecture and its two deep ones.

Source of procedure and figures: A. Karpathy, "Neural Networks: Zero to Hero", makemore part 3. One generator draws the
weights in the order of the lecture and then, for every step, the batch's indices; plain SGD; the whole splits are
evaluated at the end. Draws of 1,000 batches at once are the same stream as single ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkup.facts import target_facts
from ..data import load_names
from ..data.names import Names
from ..errors import InputError
from ..models.char_mlp import SEED, VARIANTS, CharMLP
from ..probe import Probe
from ..record import Record
from ..train import InMemoryLoader, Learner, checkpoint
from .fused import FusedStep
from .runs import Outcome, RunFolder
from .settings import as_json

_CHUNK = 1000  # steps between two looks at anything else; checkpoints and changes of the rate fall on its ends
_KEEP = 2

Variant = Literal["original", "softmax", "tanh", "kaiming", "batchnorm", "deep", "deep_batchnorm"]


@dataclass(frozen=True)
class MakemoreConfig:
    """lr holds for the steps before `drop_at`, late_lr from there on.

    every       a Probe measures each every-th step, 0 none; the weights come out the same, bit for bit
    save_every  steps between checkpoints, in a run with a folder
    names       a file of names; "" finds one (unitgain data)
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

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("batch_size", 2), ("drop_at", 0), ("every", 0), ("save_every", 1)):
            if getattr(self, name) < least:
                raise InputError(f"--set {name}={getattr(self, name)}: expected at least {least}")


def train(
    config: MakemoreConfig, run: RunFolder | None = None, *, resume: bool = False, say: Callable[[str], None] = print
) -> Outcome:
    """Trains the variant. metrics: initial_loss (the first batch's), train_loss, val_loss, steps_per_second."""
    names = load_names(config.names or None)
    training = _Training(config, names, run)
    began, first = time.perf_counter(), training.resume() if resume and run is not None else 0
    record = training.open_record(first)
    if first:
        say(f"going on at step {first}")
    at = first
    while at < config.steps:
        end = training.next_stop(at)
        losses = training.advance(at, end)
        if at // _TOLD != end // _TOLD or end == config.steps:
            say(f"step {end:7d}  loss {float(losses.mean()):.4f}  {(end - first) / (time.perf_counter() - began):.0f}/s")
        at = end
        if run is not None and (at % config.save_every == 0 or at == config.steps):
            training.save(at)
    seconds = time.perf_counter() - began
    rate = (config.steps - first) / seconds if config.steps > first else float("nan")
    metrics = {
        "initial_loss": training.initial_loss,
        "train_loss": evaluate(training.model, names.train.x, names.train.y),
        "val_loss": evaluate(training.model, names.validation.x, names.validation.y),
        "steps_per_second": rate,
    }
    last = max(0, config.steps - 1)
    record.add_metrics((last, name, metrics[name]) for name in ("train_loss", "val_loss"))
    return Outcome("makemore", config, training.model, metrics, seconds, record)


_TOLD = 20_000


def evaluate(model: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    """Cross entropy over a whole split, in evaluation mode; training flags come back."""
    was = model.training
    model.eval()
    with torch.no_grad():
        parts = [F.cross_entropy(model(a), b, reduction="sum") for a, b in zip(x.split(20_000), y.split(20_000))]
    model.train(was)
    return float(sum(parts)) / len(y)


def make_model(config: MakemoreConfig, generator: torch.Generator | None = None) -> CharMLP:
    return CharMLP(VARIANTS[config.variant], generator or torch.Generator().manual_seed(config.seed))


def learner(config: MakemoreConfig) -> Learner:
    """The same model, data and optimizer in a Learner, for `lr_find`. Its epochs have 1,000 batches."""
    names = load_names(config.names or None)
    generator = torch.Generator().manual_seed(config.seed)
    model = make_model(config, generator)
    loader = InMemoryLoader(
        (names.train.x, names.train.y), config.batch_size, replacement=True, batches=1000, generator=generator
    )
    return Learner(model, loader, F.cross_entropy, lambda p: torch.optim.SGD(p, lr=config.lr))


class _Training:
    """Model, generator and record of one run, and how they are stored."""

    def __init__(self, config: MakemoreConfig, names: Names, run: RunFolder | None):
        self.config, self.run = config, run
        self.x, self.y = names.train.x, names.train.y
        self.generator = torch.Generator().manual_seed(config.seed)
        self.model = make_model(config, self.generator)
        self.fused = FusedStep(self.model, config.batch_size)
        self.initial_loss = float("nan")
        self.record: Record | None = None
        self.measured: _Measured | None = None

    def next_stop(self, at: int) -> int:
        """The end of the chunk: multiples of 1,000, and wherever something else happens."""
        config = self.config
        stops = [at - at % _CHUNK + _CHUNK, config.steps, at - at % config.save_every + config.save_every]
        if at < config.drop_at:
            stops.append(config.drop_at)
        return min(stops)

    def advance(self, at: int, end: int) -> Tensor:
        config = self.config
        lr = config.lr if at < config.drop_at else config.late_lr
        rows = torch.randint(0, len(self.y), (end - at, config.batch_size), generator=self.generator)
        x, y = self.x[rows], self.y[rows]  # (S, B, T), (S, B)
        cuts = [s for s in range(at, end) if config.every and s % config.every == 0]
        losses, begin = [], at
        for cut in cuts:
            losses.append(self.fused.run(x[begin - at : cut - at], y[begin - at : cut - at], lr))
            assert self.measured is not None
            losses.append(self.measured.step(cut, x[cut - at], y[cut - at], lr))
            begin = cut + 1
        losses.append(self.fused.run(x[begin - at :], y[begin - at :], lr))
        found = torch.cat(losses)
        if at == 0:
            self.initial_loss = float(found[0])
        assert self.record is not None
        rows_of_losses = [(at + i, "loss", loss) for i, loss in enumerate(found.tolist())]
        self.record.add_metrics([*rows_of_losses, (at, "lr", lr)])
        self.record.commit(every=0.5)
        return found

    def open_record(self, first: int) -> Record:
        path = None if self.run is None else self.run.record
        if path is not None and path.exists() and first:
            self.record = Record.reopen(path, before=first)
        else:
            self.record = Record(path, overwrite=True)
        if self.config.every:
            self.measured = _Measured(self.model, self.fused, self.record, self.config)
        self._describe(self.record)
        return self.record

    def _describe(self, record: Record) -> None:
        """What the rules about loss curves ask for."""
        y = self.y[: self.config.batch_size]
        target = target_facts(y, torch.zeros(len(y), VARIANTS[self.config.variant].vocabulary), "cross_entropy")
        fact: dict[str, Any] = {"name": "cross_entropy", "kind": "cross_entropy"}
        record.set_meta("facts", {**record.facts, "mode": "training", "loss": fact, "target": target})
        record.commit()

    def save(self, step: int) -> None:
        assert self.run is not None
        assert self.record is not None
        self.record.commit()
        state = {
            "recipe": "makemore", "settings": as_json(self.config), "step": step, "model": self.model.state_dict(),
            "generator": self.generator.get_state(), "initial_loss": self.initial_loss,
        }  # fmt: skip
        folder = self.run.checkpoints
        checkpoint.write(folder / checkpoint.name_of(step), state)
        for old in checkpoint.list_folder(folder)[:-_KEEP]:
            old.unlink(missing_ok=True)

    def resume(self) -> int:
        """The step that the last checkpoint was written after; 0 without one."""
        assert self.run is not None
        found = checkpoint.list_folder(self.run.checkpoints)
        if not found:
            return 0
        checkpoint.sweep(self.run.checkpoints)
        state = _checked(checkpoint.read(found[-1]), found[-1])
        with torch.no_grad():
            for name, tensor in self.model.state_dict().items():
                tensor.copy_(state["model"][name])
        self.generator.set_state(state["generator"])
        self.initial_loss = state["initial_loss"]
        return state["step"]


def _checked(state: Any, path: Path) -> dict[str, Any]:
    if not isinstance(state, dict) or state.get("recipe") != "makemore":
        raise InputError(f"checkpoint {path}: not one of the recipe makemore")
    return state


class _Measured:
    """A step seen by a Probe: forward and backward pass through the ordinary module, then the fused step on the same
    batch as the optimizer's, so that the training is the same as without measuring."""

    def __init__(self, model: CharMLP, fused: FusedStep, record: Record, config: MakemoreConfig):
        self.model, self.optimizer = model, _FusedOptimizer(model, fused, config.lr)
        self.probe = Probe(model, self.optimizer, every=1, to=record)

    def step(self, number: int, x: Tensor, y: Tensor, lr: float) -> Tensor:
        self.probe.go_to(number)
        self.probe.start()
        buffers = {name: b.clone() for name, b in self.model.named_buffers()}
        try:
            loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])
            self.optimizer.batch = x, y
            self.optimizer.param_groups[0]["lr"] = lr
            self.optimizer.step()
        finally:
            self.probe.stop()
            self.model.zero_grad()
        return self.optimizer.losses


class _FusedOptimizer(torch.optim.Optimizer):
    def __init__(self, model: CharMLP, fused: FusedStep, lr: float):
        super().__init__(model.parameters(), {"lr": lr})
        self.fused = fused
        self.batch: tuple[Tensor, Tensor] | None = None
        self.losses = torch.zeros(1)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert self.batch is not None
        x, y = self.batch
        self.losses = self.fused.run(x[None], y[None], self.param_groups[0]["lr"])
