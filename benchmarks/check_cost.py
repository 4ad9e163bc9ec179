"""What a check costs: its time over a plain forward and backward pass, and the memory that it takes beside training.

    python benchmarks/check_cost.py [--rounds N] [--device cuda] [--out FILE]

Time: `ug.check(model, batch)` against one plain forward and backward pass of the same model on the same batch,
interleaved; reported are the medians over rounds. `check(steps=4)` is compared with four plain training steps.
Memory: of a process of its own for each figure, the peak while a plain training step with Adam runs, and while a check
runs, for an MLP of 50 million parameters; beside it the size of the parameters and of Adam's state.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

import unitgain as ug

Case = tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]
STEPS = 4


def resnet18() -> Case:
    from reference import declare_torchvision_operators

    declare_torchvision_operators()
    import timm

    return timm.create_model("resnet18", num_classes=1000), (
        torch.randn(32, 3, 64, 64), torch.randint(0, 1000, (32,))
    )  # fmt: skip


class Block(nn.Module):
    """A transformer block as in nanoGPT, without dropout."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, T, W)
        b, t, w = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, w)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, vocabulary: int = 2048, width: int = 256, depth: int = 6, context: int = 128):
        super().__init__()
        self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x))).transpose(1, 2)  # (B, V, T)


def gpt() -> Case:
    tokens = torch.randint(0, 2048, (16, 129))
    return Gpt(), (tokens[:, :-1], tokens[:, 1:])


def mlp(width: int = 512) -> Case:
    sizes = [784, *[width] * 4]
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, 10)), (torch.randn(512, 784), torch.randint(0, 10, (512,)))


def large_mlp() -> Case:
    """50.3 million parameters."""
    layers = [m for _ in range(3) for m in (nn.Linear(4096, 4096), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(4096, 10)), (torch.randn(64, 4096), torch.randint(0, 10, (64,)))


CASES: dict[str, Callable[[], Case]] = {
    "ResNet-18 (timm), 32x3x64x64": resnet18,
    "GPT of 6 layers, 16x128 tokens": gpt,
    "MLP 784-512x4-10, batch 512": mlp,
    "MLP of 50.3 M parameters, batch 64": large_mlp,
}


def made(make: Callable[[], Case], device: str) -> Case:
    torch.manual_seed(0)
    model, (x, y) = make()
    return model.to(device), (x.to(device), y.to(device))


def seconds(work: Callable[[], object], device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def times(make: Callable[[], Case], rounds: int, device: str) -> tuple[float, float, float]:
    """(seconds of a plain pass, check over it, check(steps=4) over four plain steps): medians."""
    model, (x, y) = made(make, device)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def plain() -> None:
        F.cross_entropy(model(x), y).backward()
        model.zero_grad()

    def train() -> None:
        for _ in range(STEPS):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()

    def check() -> None:
        ug.check(model, (x, y), F.cross_entropy)

    def rehearse() -> None:
        ug.check(model, (x, y), F.cross_entropy, steps=STEPS, optimizer=optimizer)

    for work in (plain, train, check, rehearse):
        work()
    passes, looks, rehearsals = [], [], []
    for _ in range(rounds):
        before, look, after = seconds(plain, device), seconds(check, device), seconds(plain, device)
        passes += [before, after]
        looks.append(2 * look / (before + after))
        before, rehearsal, after = seconds(train, device), seconds(rehearse, device), seconds(train, device)
        rehearsals.append(2 * rehearsal / (before + after))
    return statistics.median(passes), statistics.median(looks), statistics.median(rehearsals)


def measure_peak(what: str, device: str) -> None:
    """Runs in a process of its own and prints MiB: the peak over what the model and the batch take."""
    model, (x, y) = made(large_mlp, device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def train() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    if what in ("train", "rehearse"):  # Adam's state is there before, as it is in the middle of training
        train()
    optimizer.zero_grad()
    ug.check(nn.Linear(4, 3), (torch.randn(8, 4), torch.randint(0, 3, (8,))))  # what loads at first use
    peak = _peak_cuda if device != "cpu" else _peak_resident
    print(peak({
        "pass": lambda: F.cross_entropy(model(x), y).backward(),
        "train": train,
        "check": lambda: ug.check(model, (x, y), F.cross_entropy),
        "rehearse": lambda: ug.check(model, (x, y), F.cross_entropy, steps=2, optimizer=optimizer),
    }[what]))  # fmt: skip


def _peak_cuda(work: Callable[[], object]) -> float:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _peak_resident(work: Callable[[], object]) -> float:
    before = _of_status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark begins anew
    work()
    return _of_status("VmHWM") - before


def _of_status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def peak(what: str, device: str) -> float:
    command = [sys.executable, __file__, "--peak", what, "--device", device]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.peak:
        measure_peak(options.peak, options.device)
        return
    where = torch.cuda.get_device_name() if options.device != "cpu" else f"{torch.get_num_threads()} threads"
    lines = ["# What a check costs", "",
             f"{datetime.date.today()}; python {platform.python_version()}, torch {torch.__version__}, {where}", "",
             f"command: python benchmarks/check_cost.py {' '.join(sys.argv[1:])}", "",
             "| model | plain forward and backward pass | check / pass | "
             f"check(steps={STEPS}) / {STEPS} plain steps |",
             "|---|---|---|---|"]  # fmt: skip
    for name, make in CASES.items():
        bare, look, rehearsal = times(make, options.rounds, options.device)
        lines.append(f"| {name} | {bare * 1e3:.1f} ms | {look:.2f} | {rehearsal:.2f} |")
        print(lines[-1], flush=True)
    model, _ = large_mlp()
    size = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
    found = {what: peak(what, options.device) for what in ("pass", "check", "train", "rehearse")}
    lines += ["", f"Memory, MLP of 50.3 M parameters: {size:.0f} MiB of parameters, twice that of Adam's state", "",
              "| what runs | peak above what was there before | above the plain one | in sizes of the model |",
              "|---|---|---|---|"]  # fmt: skip
    for what, text, base in (
        ("pass", "a plain forward and backward pass", "pass"), ("check", "check", "pass"),
        ("train", "a plain step with Adam", "train"), ("rehearse", "check(steps=2) with this Adam", "train"),
    ):  # fmt: skip
        more = found[what] - found[base]
        lines.append(f"| {text} | {found[what]:.0f} MiB | {more:.0f} MiB | {more / size:.2f} |")
    text = "\n".join([*lines, ""])
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
