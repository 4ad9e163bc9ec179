"""What measuring costs: one training step with a Probe over the bare step, interleaved with its rivals.

    python benchmarks/probe_overhead.py [--rounds N] [--out FILE] [--only resnet18|convnet|gpt2|mlp] [--memory]
                                        [--processor-time] [--threads N] [--no-rivals]

Every variant trains its own copy of the model on the same batch. A round runs each variant once, in random
order, for the same number of steps; a variant's ratio in a round is its time per step over the bare loop's in
the same round. Reported: the median of the ratios and their quartiles. The bare loop runs twice in each round
under two names; the second's ratio shows the noise.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import datetime
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from reference import declare_torchvision_operators

import unitgain as ug

CLOCK = [time.perf_counter]  # --processor-time: what other programs do on the machine counts less

Context = Callable[[nn.Module, torch.optim.Optimizer], contextlib.AbstractContextManager]


def probe(**options: object) -> Context:
    return lambda model, optimizer: ug.Probe(model, optimizer, **{"every": 1, **options})  # type: ignore[arg-type]


@contextlib.contextmanager
def nothing(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    yield


@contextlib.contextmanager
def plain_hooks(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """What a notebook does: mean, std and a histogram of every leaf's output. Forward only."""
    kept: list[object] = []

    def hook(_: nn.Module, __: object, output: torch.Tensor) -> None:
        x = output.detach()
        kept.append((x.mean().item(), x.std().item(), x.abs().float().histc(40, 0, 10)))
        del kept[:-100]

    handles = [m.register_forward_hook(hook) for m in model.modules() if not list(m.children())]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def wandb_watch(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Callable[[], None]]:
    """wandb.watch(log="all", log_freq=1) in offline mode, with the log call that its users make each step."""
    import wandb

    with tempfile.TemporaryDirectory() as folder:
        settings = wandb.Settings(console="off", silent=True, x_disable_stats=True)
        run = wandb.init(mode="offline", dir=folder, project="overhead", settings=settings)
        run.watch(model, log="all", log_freq=1)
        try:
            yield lambda: run.log({})
        finally:
            run.unwatch(model)
            run.finish()


class Trainer:
    """One variant: its own model, optimizer and hooks, entered for as long as the benchmark lasts."""

    def __init__(
        self,
        model: nn.Module,
        batch: tuple[torch.Tensor, torch.Tensor],
        context: Context,
        stack: contextlib.ExitStack,
    ):
        self.model = copy.deepcopy(model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.batch = batch
        entered = stack.enter_context(context(self.model, self.optimizer))
        self.after = entered if callable(entered) else None

    def steps(self, count: int) -> float:
        x, y = self.batch
        start = CLOCK[0]()
        for _ in range(count):
            self.optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(self.model(x), y).backward()
            self.optimizer.step()
            if self.after is not None:
                self.after()
        return (CLOCK[0]() - start) / count


def ratios(
    model: nn.Module,
    batch: tuple[torch.Tensor, torch.Tensor],
    variants: dict[str, tuple[Context, int]],
    rounds: int,
) -> dict[str, list[float]]:
    """{variant: its ratio to the bare loop in each round}; "bare" holds seconds per step instead."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    with contextlib.ExitStack() as stack:
        trainers = {n: Trainer(model, batch, c, stack) for n, (c, _) in variants.items()}
        for trainer in trainers.values():
            trainer.steps(3)
        for number in range(rounds):
            order = [n for n in variants if n != "bare"]
            random.Random(number).shuffle(order)
            times: dict[str, float] = {}
            bare: list[float] = []
            for name in order:
                steps = variants[name][1]
                before = trainers["bare"].steps(steps)
                times[name] = trainers[name].steps(steps)
                after = trainers["bare"].steps(steps)
                bare += [before, after]
                times[name] /= (before + after) / 2
            found["bare"].append(statistics.median(bare))
            for name in order:
                found[name].append(times[name])
    return found


def resnet18() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    declare_torchvision_operators()
    import timm

    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=1000)
    return model, (torch.randn(32, 3, 64, 64), torch.randint(0, 1000, (32,)))


def convnet() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    return ug.models.create("convnet"), (torch.randn(1024, 1, 28, 28), torch.randint(0, 10, (1024,)))


def mlp() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    layers = nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5)
    return nn.Sequential(*layers), (torch.randn(64, 20), torch.randint(0, 5, (64,)))


def gpt2() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    declare_torchvision_operators()
    from transformers import GPT2Config, GPT2LMHeadModel

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gpt2 = GPT2LMHeadModel(
                GPT2Config(n_layer=4, n_head=4, n_embd=128, vocab_size=512, n_positions=64)
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.gpt2(input_ids=x).logits.transpose(1, 2)

    torch.manual_seed(0)
    return Logits(), (torch.randint(0, 512, (8, 64)), torch.randint(0, 512, (8, 64)))


def table(title: str, found: dict[str, list[float]]) -> list[str]:
    bare = statistics.median(found["bare"])
    lines = [f"### {title}", "", f"bare step: {bare * 1e3:.1f} ms (median of {len(found['bare'])} rounds)", "",
             "| variant | ratio (median) | quartiles |", "|---|---|---|"]  # fmt: skip
    for name, values in found.items():
        if name != "bare":
            low, _, high = statistics.quantiles(values, n=4)
            lines.append(f"| {name} | {statistics.median(values):.3f} | {low:.3f} to {high:.3f} |")
    return [*lines, ""]


def memory_over_steps(steps: int = 10_000) -> list[str]:
    """Resident memory of a small model's probed training, early and late."""
    model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))
    optimizer = torch.optim.Adam(model.parameters())
    x, y = torch.randn(64, 20), torch.randint(0, 5, (64,))
    at: dict[int, float] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        ug.Probe(model, optimizer, every=1, to=Path(folder) / "r.sqlite"),
    ):
        for step in range(steps + 1):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            if step in (steps // 10, steps // 2, steps):
                at[step] = _resident()
    first = at[steps // 10]
    lines = [
        "### Memory of a Probe, every=1, written to a file",
        "",
        "| step | resident MiB | change |",
        "|---|---|---|",
    ]
    return [*lines, *(f"| {s} | {m:.1f} | {m - first:+.1f} |" for s, m in at.items()), ""]


def _resident() -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=["resnet18", "convnet", "gpt2", "mlp"])
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--memory", action="store_true", help="also the memory over 10,000 steps")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--processor-time", action="store_true", help="in place of the time on the clock")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.processor_time:
        CLOCK[0] = time.process_time
    rivals: dict[str, tuple[Context, int]] = {
        "plain forward hooks (mean, std, histc)": (plain_hooks, 2),
        'wandb.watch(log="all")': (wandb_watch, 2),
    }
    lines = [
        "# What measuring costs", "",
        f"{datetime.date.today()}; python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, {os.cpu_count()} cores, {_processor()}", "",
        f"command: python benchmarks/probe_overhead.py {' '.join(sys.argv[1:])}".rstrip(), "",
    ]  # fmt: skip
    for name, make, title in (
        ("resnet18", resnet18, "ResNet-18 (timm), 32x3x64x64"),
        ("convnet", convnet, "five-convolution net, batch 1024 of 28x28"),
        ("gpt2", gpt2, "GPT-2 of 4 layers and width 128, 8 x 64 tokens"),
        ("mlp", mlp, "three linear layers of width 64, batch 64"),
    ):
        if options.only not in (None, name):
            continue
        block = {"resnet18": 2, "mlp": 200}.get(name, 10)
        variants: dict[str, tuple[Context, int]] = {
            "bare": (nothing, block),
            "bare again (noise)": (nothing, block),
            "Probe, every step, all signals and histograms": (probe(), block),
            "Probe, every step, scalars only": (probe(histograms=False), block),
            "Probe, every=10": (probe(every=10), 10),
        }
        if not options.no_rivals:
            variants |= {label: (context, block) for label, (context, _) in rivals.items()}
        model, batch = make()
        lines += table(title, ratios(model, batch, variants, options.rounds))
        rare = {"bare": (nothing, 100), "Probe, every=100": (probe(every=100), 100)}
        if not options.no_rivals:
            lines += table(title + ", blocks of 100 steps", ratios(model, batch, rare, 3))
    if options.memory:
        lines += memory_over_steps()
    text = "\n".join(lines)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


if __name__ == "__main__":
    main()
