"""What the integrations cost in each loop, with their defaults: runs with and without them, interleaved, medians.

    python benchmarks/integrations_overhead.py [--short 101] [--long 501] [--rounds 7] [--only PACKAGE] [--out FILE]

Every round trains the same small network for a short and a long run, each without the integration, with it, and without
it again, in alternating order. The difference of the long and the short run is the cost of steps; what is left of the
short run's is the cost of a run: hooks, the first look at the model, the report at the end. Figures are medians over
rounds of processor time, which other programs on the machine disturb less than the clock. The second bare run gives the
noise.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import torch
import torch.nn.functional as F
from reference import declare_torchvision_operators
from torch import nn

import unitgain as ug

declare_torchvision_operators()  # lightning and transformers import torchvision

WIDTH, DEPTH, BATCH = 256, 6, 64


def network() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(64, WIDTH), nn.GELU()]
    for _ in range(DEPTH):
        layers += [nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def data(steps: int) -> torch.utils.data.TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(steps * BATCH, 64, generator=generator)
    return torch.utils.data.TensorDataset(x, x[:, :10].argmax(1))


def plain_loop(steps: int, watched: bool) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    watching = (
        ug.watch(model, optimizer, to=lambda values, step: None) if watched else contextlib.nullcontext()
    )
    loader = torch.utils.data.DataLoader(data(steps), batch_size=BATCH)
    with watching:
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()


def lightning_loop(steps: int, watched: bool) -> None:
    import lightning.pytorch as pl

    from unitgain.integrations.lightning import UnitGain

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch, batch_idx):  # type: ignore[no-untyped-def]
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):  # type: ignore[no-untyped-def]
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[UnitGain()] if watched else [],
    )  # fmt: skip
    trainer.fit(Module(), torch.utils.data.DataLoader(data(steps), batch_size=BATCH))


def trainer_loop(steps: int, watched: bool) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    from unitgain.integrations.transformers import UnitGainCallback

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2, n_head=4, n_embd=128, vocab_size=256, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    rows = [{"input_ids": t, "labels": t} for t in torch.randint(256, (8 * steps, 64))]
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder, max_steps=steps, per_device_train_batch_size=8, report_to=[], use_cpu=True,
            disable_tqdm=True, save_strategy="no", logging_steps=50,
        )  # fmt: skip
        callbacks = [UnitGainCallback(to=None)] if watched else []
        Trainer(GPT2LMHeadModel(config), args, train_dataset=rows, callbacks=callbacks).train()


def fastai_loop(steps: int, watched: bool) -> None:
    from fastai.basics import CrossEntropyLossFlat, DataLoaders, Learner
    from fastai.callback.progress import no_bar  # noqa: F401  (adds Learner.no_bar)

    from unitgain.integrations.fastai import UnitGainCallback

    rows = data(steps)
    loaders = DataLoaders.from_dsets(
        rows, torch.utils.data.Subset(rows, range(BATCH)), bs=BATCH, num_workers=0
    )
    learn = Learner(
        loaders, network(), loss_func=CrossEntropyLossFlat(), cbs=[UnitGainCallback()] if watched else []
    )
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 1e-3)


Loop = Callable[[int, bool], None]  # (steps, whether it is watched)
LOOPS: dict[str, tuple[str, Loop]] = {
    "a loop of one's own, ug.watch (every=100)": ("torch", plain_loop),
    "Lightning, UnitGain (every=50)": ("lightning", lightning_loop),
    "Hugging Face Trainer, UnitGainCallback (every=50)": ("transformers", trainer_loop),
    "fastai, UnitGainCallback (every=50)": ("fastai", fastai_loop),
}


def timed(loop: Loop, steps: int, watched: bool) -> float:
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        loop(steps, watched)
    return time.process_time() - began


def costs(loop: Loop, short: int, long: int, rounds: int) -> dict[str, float]:
    """Medians over rounds: seconds of a bare step, ratios of the others' to it, seconds that a watched run costs beyond
    its steps."""
    lengths, kinds = (short, long), [("bare", False), ("watched", True), ("again", False)]
    found: dict[str, list[float]] = {name: [] for name in ("step", "watched", "again", "run")}
    for number in range(rounds):
        order = kinds if number % 2 == 0 else kinds[::-1]
        took = {(key, n): timed(loop, n, watched) for n in lengths for key, watched in order}
        step = {key: (took[key, long] - took[key, short]) / (long - short) for key, _ in kinds}
        found["step"].append(step["bare"])
        found["watched"].append(step["watched"] / step["bare"])
        found["again"].append(step["again"] / step["bare"])
        extra = short * (step["watched"] - step["bare"])
        found["run"].append(took["watched", short] - took["bare", short] - extra)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--short", type=int, default=101)
    parser.add_argument("--long", type=int, default=501)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=[package for package, _ in LOOPS.values()])
    parser.add_argument("--out")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = [
        "| loop | library | bare step, ms | a step with it | a second bare run | once a run, s |",
        "|---|---|---|---|---|---|",
    ]
    for name, (package, loop) in LOOPS.items():
        if given.only not in (None, package):
            continue
        try:
            library = f"{package} {version(package)}"
            timed(loop, 10, True)  # imports
        except (PackageNotFoundError, ImportError, RuntimeError) as error:
            lines.append(f"| {name} | {package} | not run: {type(error).__name__} | | | |")
            continue
        found = costs(loop, given.short, given.long, given.rounds)
        lines.append(
            f"| {name} | {library} | {found['step'] * 1e3:.2f} | {found['watched']:.3f} | {found['again']:.3f} | "
            f"{found['run']:.2f} |"
        )
        print(lines[-1], flush=True)
    where = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s)"
    text = "\n".join(
        [
            "# Integrations: what they cost with their defaults", "",
            f"Processor time, medians of {given.rounds} interleaved rounds. The cost of a step is the difference of "
            f"runs of {given.long} and {given.short} steps, as a ratio to the bare step. "
            f"{where}, torch {torch.__version__}, Python {platform.python_version()}. "
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
