"""What `unitgain demo` shows: a badly initialized network, what is wrong, the repair, and its effect on training.

The networks are the character MLP of makemore part 3 (A. Karpathy, "Neural Networks: Zero to Hero"): first
with every weight standard normal, then with the hidden and the output layer scaled down. Both draw their
weights and batches from generators of the same seed, in the lecture's order, so they see the same examples
and, where names.txt is at hand, start from the losses that the lecture prints.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from . import models
from ._base import console as make_console
from ._base import printable
from ._check import check
from .data import NameSplit, load_names
from .report import Report

if TYPE_CHECKING:
    from rich.console import Console

SEED = 2147483647  # the lecture's
BATCH = 32
LEARNING_RATE = 0.1
_CHUNK = 50  # steps between two updates of a progress bar
_NAMES = 10  # sampled from each network


@dataclass
class Contender:
    """One of the two networks, its endless batches, and the first of them, on which it is checked."""

    title: str
    model: models.CharMLP
    batches: Iterator[tuple[Tensor, Tensor]]
    first: tuple[Tensor, Tensor]


def run(out: str = "demo-report.html", *, steps: int = 4000, console: Console | None = None) -> list[Report]:
    """Checks both networks, trains each for `steps` steps and prints it all; writes the first one's report.

    Returns both reports, that of the badly initialized network first. Raises InputError if the names or `out` cannot be
    used.
    """
    console = console or make_console()
    names = load_names()
    _say(console, f"{len(names.words):,} names ({names.source}), {len(names.train):,} training examples.")
    _say(console, "A network reads three characters and predicts the next one.\n")

    bad = _contender("as first built", "char_mlp_original", names.train)
    good = _contender("scaled well", "char_mlp_tanh", names.train)
    console.rule("1. Every weight drawn from N(0, 1)")
    reports = [check(bad.model, bad.first, F.cross_entropy)]
    console.print(reports[0])
    reports[0].save(out)
    console.rule("2. The same network, hidden and output layer scaled")
    reports.append(check(good.model, good.first, F.cross_entropy))
    console.print(reports[1])

    console.rule(f"3. Both trained on the same batches, SGD at {LEARNING_RATE}")
    _train([bad, good], steps, console)
    losses = [_loss(c.model, names.validation) for c in (bad, good)]
    console.print(_comparison([bad, good], reports, losses))
    if losses[0] > losses[1]:
        behind = f"{losses[0] - losses[1]:.2f}"
        _say(console, f"After {steps:,} steps the first network is {behind} behind, by its start alone.\n")
    for contender in (bad, good):
        generator = torch.Generator().manual_seed(SEED)
        _say(console, f"Names from the network {contender.title}:")
        _say(console, "  " + ", ".join(models.sample(contender.model, generator, n=_NAMES)))
    _say(console, f"\nReport of the first network, to open in a browser: {os.path.abspath(out)}")
    return reports


def _say(console: Console, text: str) -> None:
    """Plain text: a path with brackets is no markup, and is not broken over lines."""
    console.print(printable(text, keep_lines=True), markup=False, highlight=False, soft_wrap=True)


def _contender(title: str, name: str, split: NameSplit) -> Contender:
    generator = torch.Generator().manual_seed(SEED)
    model = models.create(name, generator=generator)
    assert isinstance(model, models.CharMLP)
    batches = split.batches(BATCH, generator)
    return Contender(title, model, batches, next(batches))


def _train(contenders: list[Contender], steps: int, console: Console) -> None:
    """Plain SGD, the networks taking turns, so that their bars run side by side."""
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("loss {task.fields[loss]:6.3f}"),
        TimeRemainingColumn(),
    )
    with _one_thread(), Progress(*columns, console=console) as progress:
        tasks = [progress.add_task(c.title, total=steps, loss=math.nan) for c in contenders]
        optimizers = [torch.optim.SGD(c.model.parameters(), LEARNING_RATE) for c in contenders]
        for start in range(0, steps, _CHUNK):
            count = min(_CHUNK, steps - start)
            for contender, optimizer, task in zip(contenders, optimizers, tasks):
                # the first step's batch is the one that was checked
                loss = sum(_step(contender, optimizer, start + i == 0) for i in range(count)) / count
                progress.update(task, advance=count, loss=loss)


def _step(contender: Contender, optimizer: torch.optim.Optimizer, first: bool) -> float:
    x, y = contender.first if first else next(contender.batches)
    loss = F.cross_entropy(contender.model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices this small are multiplied faster by one thread than they are dealt out to two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _loss(model: models.CharMLP, split: NameSplit) -> float:
    return F.cross_entropy(model(split.x), split.y).item()


def _comparison(contenders: list[Contender], reports: list[Report], losses: list[float]) -> Table:
    table = Table()
    for column in ("network", "first batch's loss", "tanh saturated", "validation loss"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    for contender, report, validation in zip(contenders, reports, losses):
        first = report.record.facts.loss.value
        assert first is not None
        saturated = report.record.value("activation", "tanh", "saturated")
        table.add_row(contender.title, f"{first:.4f}", f"{saturated:.0%}", f"{validation:.4f}")
    even = math.log(contenders[0].model.config.vocabulary)
    table.caption = f"Giving all 27 characters the same probability costs ln 27 = {even:.4f}."
    return table
