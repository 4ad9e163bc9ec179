"""What the integrations cost in each loop, with their defaults, step by step.

    python benchmarks/integrations_overhead.py [--size tiny|real] [--steps 102] [--rounds 3] [--only NAME] [--out FILE]

A round trains the same network three times in lockstep: bare, with the integration, and bare again. Each training
runs in a thread of its own and waits, whenever it asks for a batch, until the others have made that step too, in a
random order: whatever else the machine does disturbs all three alike. Times are the threads' processor time. Of each
step the difference to the mean of the two bare ones is taken; the difference between these is the noise.

Judging the record (at 1, 2, 4, 8, ... sampled steps, in between for at most a hundredth of the time) is timed by
itself. "A cycle" is what a long run pays beside it: `every` steps of which one is measured, by medians. "This run" is
the sum of all its steps, judgements included, which in lockstep come up to three times as often. What a run costs
outside of its steps (hooks, the first look at the model, the last judgement and the report) stands for itself.

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
import random
import statistics
import sys
import tempfile
import threading
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
from unitgain.integrations.judging import Judge

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


class Lockstep:
    """Lets several trainings make their steps in turns. Each calls `mark` at the beginning of every step."""

    def __init__(self, number: int):
        self._turns = threading.Condition()
        self._running = set(range(number))
        self._waiting: list[int] = []  # whose turn it will be in this step
        self._random, self._number = random.Random(number), number
        self.marks: list[list[float]] = [[] for _ in range(number)]

    def mark(self) -> None:
        me = _own.number
        self.marks[me].append(time.thread_time())
        with self._turns:
            self._pass_on(me)
            self._turns.wait_for(lambda: self._waiting[0] == me)

    def leave(self) -> None:
        """This training is over, or has failed."""
        with self._turns:
            self._running.discard(_own.number)
            self._pass_on(_own.number)

    def enter(self, number: int) -> None:
        _own.number = number
        with self._turns:
            if not self._waiting:
                self._deal()
            self._turns.wait_for(lambda: self._waiting[0] == number)

    def _pass_on(self, me: int) -> None:
        self._waiting.remove(me)
        self._waiting = [other for other in self._waiting if other in self._running]
        if not self._waiting:
            self._deal()
        self._turns.notify_all()

    def _deal(self) -> None:
        order = self._random.sample(range(self._number), self._number)
        self._waiting = [one for one in order if one in self._running]


@contextlib.contextmanager
def judgements() -> Iterator[list[tuple[float, float]]]:
    """When the record was judged meanwhile and how long that took, in processor time of the thread."""
    found: list[tuple[float, float]] = []
    look = Judge.look

    def timed_look(*args: Any, **kwargs: Any) -> Any:
        began = time.thread_time()
        try:
            return look(*args, **kwargs)
        finally:
            found.append((began, time.thread_time() - began))

    Judge.look = timed_look  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Judge.look = look  # type: ignore[method-assign]


_own = threading.local()  # the number of this thread's training
_lockstep: list[Lockstep] = []  # the present one


class Batches(torch.utils.data.IterableDataset[Any]):
    """`steps` batches, each marked when it is asked for, and the end as well."""

    def __init__(self, kept: list[Any], steps: int):
        self.kept, self.steps = kept, steps

    def __iter__(self) -> Iterator[Any]:
        for step in range(self.steps):
            _lockstep[-1].mark()
            yield self.kept[step % len(self.kept)]
        _lockstep[-1].mark()

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


def plain_loop(size: Size, steps: int, every: int | None) -> None:
    given = batches(size, steps)
    model = network(size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with _watching(model, optimizer, every):
        for x, y in loader(given):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()


def accelerate_loop(size: Size, steps: int, every: int | None) -> None:
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


def _watching(model: nn.Module, optimizer: Any, every: int | None) -> contextlib.AbstractContextManager[Any]:
    if every is None:
        return contextlib.nullcontext()
    return ug.watch(model, optimizer, every=every, to=lambda values, step: None)


def lightning_loop(size: Size, steps: int, every: int | None) -> None:
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


def trainer_loop(size: Size, steps: int, every: int | None) -> None:
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

    def collate(examples: list[Any]) -> dict[str, Tensor]:
        _lockstep[-1].mark()
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


def fastai_loop(size: Size, steps: int, every: int | None) -> None:
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


Loop = Callable[[Size, int, "int | None"], None]  # (size, steps, every)


@dataclass(frozen=True)
class Row:
    """A loop and its integration, and every how many steps that measures unless told otherwise. ahead: how many batches
    are asked for before the step of the first one."""

    title: str
    package: str
    run: Loop
    every: int
    ahead: int = 0


ROWS = {
    "watch": Row("a loop of one's own, `ug.watch`", "torch", plain_loop, 100),
    "accelerate": Row("accelerate, `ug.watch`", "accelerate", accelerate_loop, 100),
    "lightning": Row("Lightning, `UnitGain`", "lightning", lightning_loop, 50),
    "transformers": Row(
        "Hugging Face Trainer, `UnitGainCallback`", "transformers", trainer_loop, 50, ahead=1
    ),
    "fastai": Row("fastai, `UnitGainCallback`", "fastai", fastai_loop, 50),
}


VARIANTS = ("bare", "with", "again")


@dataclass
class Run:
    """Seconds of the steps of one training, of the judgements in each, and of what is not a step."""

    steps: list[float]
    judging: list[float]
    around: float


def timed(row: Row, size: Size, steps: int, every: int, first: int = 0) -> dict[str, Run]:
    """The three trainings in lockstep. first: which of them is the first thread to be made."""
    lockstep, totals, errors = Lockstep(len(VARIANTS)), [0.0] * len(VARIANTS), []
    _lockstep.append(lockstep)

    def train(number: int) -> None:
        lockstep.enter(number)
        try:
            began = time.thread_time()
            row.run(size, steps, every if VARIANTS[number] == "with" else None)
            totals[number] = time.thread_time() - began
        except BaseException as error:
            errors.append(error)
        finally:
            lockstep.leave()

    threads = [threading.Thread(target=train, args=(number,)) for number in range(len(VARIANTS))]
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with quiet[0], quiet[1], judgements() as judged:
        for thread in (*threads[first:], *threads[:first]):
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    found = {}
    for name, marks, total in zip(VARIANTS, lockstep.marks, totals):
        spans = list(itertools.pairwise(marks[row.ahead :]))
        each = [end - start for start, end in spans]
        judging = [
            sum(took for began, took in judged if name == "with" and start <= began < end)
            for start, end in spans
        ]
        found[name] = Run(each, judging, total - sum(each))
    return found


def line(row: Row, every: int, rounds: list[dict[str, Run]]) -> str:
    """One row of the table. Times in microseconds."""
    others: list[float] = []
    sampled: list[float] = []
    noise: list[float] = []
    bare: list[float] = []
    for runs in rounds:
        for i, plain in enumerate(runs["bare"].steps):
            if i == 0:  # in which libraries set themselves up
                continue
            again, watched = runs["again"].steps[i], runs["with"].steps[i] - runs["with"].judging[i]
            bare += [plain, again]
            noise.append(again - plain)
            (others if i % every else sampled).append(watched - (plain + again) / 2)
    judged = [took for runs in rounds for took in runs["with"].judging if took]
    step = statistics.median(bare)
    other, measured = statistics.median(others), statistics.median(sampled)
    low, middle, high = statistics.quantiles(noise, n=4)
    whole = {name: statistics.median(sum(runs[name].steps[1:]) for runs in rounds) for name in VARIANTS}
    once = statistics.median(
        runs["with"].around - runs["bare"].around + runs["with"].steps[0] - runs["bare"].steps[0]
        for runs in rounds
    )
    cells = [
        row.title, f"{row.package} {version(row.package)}", every, f"{step * 1e6:,.0f}", f"{other * 1e6:+,.0f}",
        f"{measured * 1e6:+,.0f}", f"{1 + (other * (every - 1) + measured) / (every * step):.3f}",
        f"{len(judged) / len(rounds):.1f} of {statistics.median(judged or [0]) * 1e3:.0f} ms",
        f"{2 * whole['with'] / (whole['bare'] + whole['again']):.3f}",
        f"{middle * 1e6:+,.0f} ({low * 1e6:+,.0f} to {high * 1e6:+,.0f})", f"{whole['again'] / whole['bare']:.3f}",
        f"{once * 1e3:+,.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


COLUMNS = (
    "loop", "library", "every", "bare step, µs", "other steps, µs", "measured steps, µs", "a cycle, ratio",
    "judgements a run", "this run, ratio", "bare again, µs (quartiles)", "bare again, ratio", "once a run, ms",
)  # fmt: skip
HEAD = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="real")
    parser.add_argument("--steps", type=int, default=102)
    parser.add_argument("--every", type=int, help="instead of each integration's own default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=ROWS)
    parser.add_argument("--out")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # all of a training runs in its own thread then
    lines = list(HEAD)
    for name, row in ROWS.items():
        if given.only not in (None, name):
            continue
        every = given.every or row.every
        try:
            timed(row, SIZES["tiny"], 10, every)  # imports, and what is compiled or cached once
        except ImportError as error:
            lines.append(f"| {row.title} | not run: {error} | | | | | | | |")
            continue
        rounds = [
            timed(row, SIZES[given.size], given.steps, every, first % 3) for first in range(given.rounds)
        ]
        lines.append(line(row, every, rounds))
        print(lines[-1], flush=True)
    where = platform.processor() or platform.machine()
    where += f", {torch.get_num_threads()} thread(s) of {os.cpu_count()} cores"
    text = "\n".join(
        [
            "# Integrations: what they cost with their defaults", "",
            f"{datetime.date.today()}; processor time, {given.rounds} rounds of three trainings of {given.steps} "
            f"steps in lockstep; {where}, torch {torch.__version__}, Python {platform.python_version()}. "
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
