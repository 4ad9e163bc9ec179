"""What the integrations cost in each loop, with their defaults, step by step.

    python benchmarks/integrations_overhead.py [--size tiny|real] [--steps 101] [--rounds 7] [--only NAME] [--out FILE]

A round trains the same network bare, with the integration, and bare again, in an order that changes. The loader notes
this process's processor time whenever it is asked for a batch, so that every step of a run has its time; other programs
disturb it less than the clock. Of each step the median over the rounds is taken: steps that are measured, and those
after which the record is judged, stay apart from the others. What a run costs outside of its steps (hooks, the first
look at the model, the last judgement and the report) stands for itself. The second bare run gives the noise.

tiny is one linear layer: its microseconds are what a loop of any size pays. real has steps of 60 to 200 ms on one core.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import itertools
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from reference import declare_torchvision_operators
from torch import Tensor, nn

import unitgain as ug

declare_torchvision_operators()  # lightning and transformers import torchvision

KEPT = 8  # batches that a run goes through again and again


@dataclass(frozen=True)
class Size:
    """Of the network of all loops but Hugging Face's: layers, their width, examples of a batch; and of its GPT-2."""

    depth: int
    width: int
    batch: int
    gpt2: tuple[int, int, int, int]  # layers, width, rows, tokens


SIZES = {"tiny": Size(0, 16, 8, (1, 16, 2, 8)), "real": Size(6, 768, 256, (4, 192, 8, 96))}


class Batches(torch.utils.data.IterableDataset[Any]):
    """`steps` batches; `marks` are the times at which they were asked for, and at which there were no more."""

    def __init__(self, kept: list[Any], steps: int):
        self.kept, self.steps, self.marks = kept, steps, []

    def __iter__(self) -> Iterator[Any]:
        self.marks: list[float] = []
        for step in range(self.steps):
            self.marks.append(time.process_time())
            yield self.kept[step % len(self.kept)]
        self.marks.append(time.process_time())

    def __len__(self) -> int:
        return self.steps


def network(size: Size) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i in range(size.depth):
        layers += [nn.Linear(size.width if i else 64, size.width), nn.LayerNorm(size.width), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(size.width if size.depth else 64, 10))


def batches(size: Size, steps: int) -> Batches:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(size.batch, 64, generator=generator) for _ in range(KEPT)]
    return Batches([(x, x[:, :10].argmax(1)) for x in inputs], steps)


def loader(given: Batches) -> torch.utils.data.DataLoader[Any]:
    return torch.utils.data.DataLoader(given, batch_size=None)


def plain_loop(size: Size, steps: int, every: int | None) -> list[float]:
    given = batches(size, steps)
    model = network(size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with _watching(model, optimizer, every):
        for x, y in loader(given):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return given.marks


def accelerate_loop(size: Size, steps: int, every: int | None) -> list[float]:
    from accelerate import Accelerator

    given, model = batches(size, steps), network(size)
    accelerator = Accelerator(cpu=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model, optimizer = accelerator.prepare(model, optimizer)
    with _watching(model, optimizer, every):
        for x, y in loader(given):
            optimizer.zero_grad()
            accelerator.backward(F.cross_entropy(model(x), y))
            optimizer.step()
    return given.marks


def _watching(model: nn.Module, optimizer: Any, every: int | None) -> contextlib.AbstractContextManager[Any]:
    if every is None:
        return contextlib.nullcontext()
    return ug.watch(model, optimizer, every=every, to=lambda values, step: None)


def lightning_loop(size: Size, steps: int, every: int | None) -> list[float]:
    import lightning.pytorch as pl

    from unitgain.integrations.lightning import UnitGain

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(size)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    given = batches(size, steps)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[] if every is None else [UnitGain(every=every)],
    )  # fmt: skip
    trainer.fit(Module(), loader(given))
    return given.marks


def trainer_loop(size: Size, steps: int, every: int | None) -> list[float]:
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    from unitgain.integrations.transformers import UnitGainCallback

    layers, width, rows, tokens = size.gpt2
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=layers,
        n_head=4,
        n_embd=width,
        vocab_size=256,
        n_positions=tokens,
        bos_token_id=0,
        eos_token_id=0,
    )
    ids = torch.randint(256, (KEPT * rows, tokens))
    data = [{"input_ids": ids[i % len(ids)], "labels": ids[i % len(ids)]} for i in range(rows * steps)]
    marks: list[float] = []

    def collate(examples: list[Any]) -> dict[str, Tensor]:
        marks.append(time.process_time())
        return {key: torch.stack([e[key] for e in examples]) for key in examples[0]}

    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder, max_steps=steps, per_device_train_batch_size=rows, report_to=[], use_cpu=True,
            disable_tqdm=True, save_strategy="no", logging_steps=50,
        )  # fmt: skip
        callbacks: list[Any] = [] if every is None else [UnitGainCallback(every=every, to=None)]
        trainer = Trainer(
            GPT2LMHeadModel(config), args, train_dataset=data, data_collator=collate, callbacks=callbacks
        )
        trainer.train()
    return marks


def fastai_loop(size: Size, steps: int, every: int | None) -> list[float]:
    from fastai.basics import CrossEntropyLossFlat, DataLoaders, Learner
    from fastai.callback.progress import no_bar  # noqa: F401  (adds Learner.no_bar)

    from unitgain.integrations.fastai import UnitGainCallback

    given = batches(size, steps)
    callbacks = [] if every is None else [UnitGainCallback(every=every)]
    learn = Learner(
        DataLoaders(loader(given), loader(batches(size, 1))), network(size), loss_func=CrossEntropyLossFlat(),
        cbs=callbacks,
    )  # fmt: skip
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 1e-3)
    return given.marks


Loop = Callable[[Size, int, "int | None"], "list[float]"]  # (size, steps, every) -> marks


@dataclass(frozen=True)
class Row:
    """A loop and its integration, and every how many steps that measures unless told otherwise."""

    title: str
    package: str
    run: Loop
    every: int


ROWS = {
    "watch": Row("a loop of one's own, `ug.watch`", "torch", plain_loop, 100),
    "accelerate": Row("accelerate, `ug.watch`", "accelerate", accelerate_loop, 100),
    "lightning": Row("Lightning, `UnitGain`", "lightning", lightning_loop, 50),
    "transformers": Row("Hugging Face Trainer, `UnitGainCallback`", "transformers", trainer_loop, 50),
    "fastai": Row("fastai, `UnitGainCallback`", "fastai", fastai_loop, 50),
}


@dataclass
class Run:
    """Seconds of the steps of one run (the first, in which libraries set themselves up, is left out), and of what is
    not a step."""

    steps: list[float]
    around: float


def timed(row: Row, size: Size, steps: int, every: int | None) -> Run:
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        marks = row.run(size, steps, every)[:steps]  # Trainer looks one batch ahead
    total = time.process_time() - began
    each = [after - before for before, after in itertools.pairwise(marks)]
    return Run(each, total - sum(each))


def measured(row: Row, size: Size, steps: int, every: int, rounds: int) -> dict[str, Run]:
    """Of each variant the run whose every step is the median over the rounds."""
    kinds: list[tuple[str, int | None]] = [("bare", None), ("with", every), ("again", None)]
    found: dict[str, list[Run]] = {name: [] for name, _ in kinds}
    for number in range(rounds):
        for name, given in kinds[number % 3 :] + kinds[: number % 3]:
            found[name].append(timed(row, size, steps, given))
    return {
        name: Run(
            [statistics.median(times) for times in zip(*(run.steps for run in runs))],
            statistics.median(run.around for run in runs),
        )
        for name, runs in found.items()
    }


def line(row: Row, every: int, found: dict[str, Run]) -> str:
    """One row of the table. Times of the steps in microseconds."""
    bare, again, watched = (found[name] for name in ("bare", "again", "with"))
    step = statistics.median(bare.steps[1:])
    at = [i for i in range(len(watched.steps)) if i % every == 0]
    sampled = [watched.steps[i] for i in at[1:]] or [watched.steps[0]]
    others = statistics.median(time for i, time in enumerate(watched.steps) if i not in at)
    whole = [sum(run.steps[1:]) for run in (watched, again, bare)]
    return (
        f"| {row.title} | {row.package} {version(row.package)} | {every} | {step * 1e6:,.0f} | "
        f"{(others - step) * 1e6:+,.0f} | {(statistics.mean(sampled) - step) * 1e6:+,.0f} | "
        f"{whole[0] / whole[2]:.3f} | {whole[1] / whole[2]:.3f} | "
        f"{(watched.steps[0] - bare.steps[0] + watched.around - bare.around) * 1e3:+,.0f} |"
    )


HEAD = [
    "| loop | library | every | bare step, µs | other steps, µs | measured steps, µs | all steps, ratio | "
    "bare again, ratio | once a run, ms |",
    "|---|---|---|---|---|---|---|---|---|",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="real")
    parser.add_argument("--steps", type=int, default=101)
    parser.add_argument("--every", type=int, help="instead of each integration's own default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=ROWS)
    parser.add_argument("--out")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = list(HEAD)
    for name, row in ROWS.items():
        if given.only not in (None, name):
            continue
        every = given.every or row.every
        try:
            timed(row, SIZES["tiny"], 10, every)  # imports
        except ImportError as error:
            lines.append(f"| {row.title} | not run: {error} | | | | | | | |")
            continue
        lines.append(line(row, every, measured(row, SIZES[given.size], given.steps, every, given.rounds)))
        print(lines[-1], flush=True)
    where = platform.processor() or platform.machine()
    where += f", {torch.get_num_threads()} thread(s) of {os.cpu_count()} cores"
    text = "\n".join(
        [
            "# Integrations: what they cost with their defaults", "",
            f"{datetime.date.today()}; processor time, medians of {given.rounds} interleaved rounds of {given.steps} "
            f"steps; {where}, torch {torch.__version__}, Python {platform.python_version()}. "
            f"Command: `python benchmarks/integrations_overhead.py {' '.join(sys.argv[1:])}`.",
            "", *lines, "",
        ]
    )  # fmt: skip
    print(text)
    if given.out:
        with open(given.out, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
