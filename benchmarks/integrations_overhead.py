"""What the integrations cost in each loop, with their defaults: steps with and without them, interleaved, medians.

    python benchmarks/integrations_overhead.py [--steps 150] [--rounds 5] [--out FILE]

Every round trains the same small network once without and once with the integration, in alternating order; the ratio is
that of the medians over rounds, of processor time, which other programs on the machine disturb less than the clock. A
second bare run gives the noise.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import torch
import torch.nn.functional as F
from torch import nn

import unitgain as ug

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


LOOPS: dict[str, tuple[str, Callable[[int, bool], None]]] = {
    "a loop of one's own, ug.watch (every=100)": ("torch", plain_loop),
    "Lightning, UnitGain (every=50)": ("lightning", lightning_loop),
    "Hugging Face Trainer, UnitGainCallback (every=50)": ("transformers", trainer_loop),
    "fastai, UnitGainCallback (every=50)": ("fastai", fastai_loop),
}


def timed(loop: Callable[[int, bool], None], steps: int, watched: bool) -> float:
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        loop(steps, watched)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = ["| loop | library | bare, s of processor | ratio | a second bare run |", "|---|---|---|---|---|"]
    for name, (package, loop) in LOOPS.items():
        try:
            library = f"{package} {version(package)}"
            timed(loop, 10, True)  # imports
        except (PackageNotFoundError, ImportError, RuntimeError) as error:
            lines.append(f"| {name} | {package} | not run: {type(error).__name__} | | |")
            continue
        runs: dict[str, list[float]] = {"bare": [], "watched": [], "again": []}
        for number in range(given.rounds):
            order = [("bare", False), ("watched", True), ("again", False)]
            for key, watched in order if number % 2 == 0 else reversed(order):
                runs[key].append(timed(loop, given.steps, watched))
        bare, watched, again = (statistics.median(runs[key]) for key in ("bare", "watched", "again"))
        lines.append(f"| {name} | {library} | {bare:.2f} | {watched / bare:.3f} | {again / bare:.3f} |")
    where = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s)"
    text = "\n".join(
        [
            "# Integrations: what they cost with their defaults",
            "",
            f"Processor time of whole runs of {given.steps} steps, start and end included; medians of {given.rounds} "
            "interleaved rounds. "
            f"{where}, torch {torch.__version__}, Python {platform.python_version()}. "
            "Command: `python benchmarks/integrations_overhead.py`.",
            "",
            *lines,
            "",
        ]
    )
    print(text)
    if given.out:
        with open(given.out, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
