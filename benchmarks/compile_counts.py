"""What a Probe does to torch.compile: graphs, frames and graph breaks of one training with and without it.

    python benchmarks/compile_counts.py [--steps 7] [--every 3] [--only counting|inductor] [--out FILE]

Each row trains the same small network twice for the same steps. With a Probe, one step in --every is measured. Without
one, the same steps run eagerly (torch.compiler.set_stance), so that the weights can be compared bit for bit: eager and
compiled steps round differently. Counted are the graphs that the backend was given, the frames that were compiled, the
places where a graph was broken, how often a frame was compiled again because a guard failed, and the graphs that got no
CUDA graph although mode="reduce-overhead" asked for them: all of them, where there is no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import datetime
import platform
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo import convert_frame
from torch._dynamo.utils import counters

import unitgain as ug

LARGEST = 12  # examples of a batch
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(self.fc(self.norm(x)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 16), nn.Linear(16, 3)
        self.blocks = nn.ModuleList([Block(16), Block(16)])

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Counting:
    """A backend that runs what it is given as it is, and counts."""

    graphs = 0

    def __call__(self, module: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        self.graphs += 1
        return module.forward


Step = Callable[[Tensor, Tensor], None]
Way = Callable[[Net, torch.optim.Optimizer, dict[str, Any]], tuple[nn.Module, Step]]


def _plain(model: nn.Module, optimizer: torch.optim.Optimizer) -> Step:
    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def whole(model: Net, optimizer: torch.optim.Optimizer, how: dict[str, Any]) -> tuple[nn.Module, Step]:
    compiled: Any = torch.compile(model, fullgraph=True, **how)
    return compiled, _plain(compiled, optimizer)


def in_place(model: Net, optimizer: torch.optim.Optimizer, how: dict[str, Any]) -> tuple[nn.Module, Step]:
    model.compile(fullgraph=True, **how)
    return model, _plain(model, optimizer)


def regional(model: Net, optimizer: torch.optim.Optimizer, how: dict[str, Any]) -> tuple[nn.Module, Step]:
    for i, block in enumerate(model.blocks):
        model.blocks[i] = torch.compile(block, fullgraph=True, **how)  # type: ignore[call-overload]
    return model, _plain(model, optimizer)


def loss_function(
    model: Net, optimizer: torch.optim.Optimizer, how: dict[str, Any]
) -> tuple[nn.Module, Step]:
    loss = torch.compile(lambda x, y: F.cross_entropy(model(x), y), fullgraph=True, **how)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        loss(x, y).backward()
        optimizer.step()

    return model, step


def step_function(
    model: Net, optimizer: torch.optim.Optimizer, how: dict[str, Any]
) -> tuple[nn.Module, Step]:
    return model, torch.compile(_plain(model, optimizer), **how)


@dataclass(frozen=True)
class Row:
    name: str
    way: Way
    how: dict[str, Any]
    sizes: tuple[int, ...] = (LARGEST,)  # of the batches, one after another


ROWS = {
    "counting": [
        Row("model", whole, {}),
        Row("model.compile()", in_place, {}),
        Row("each block", regional, {}),
        Row("loss function", loss_function, {}),
        Row("step function, optimizer included", step_function, {}),
        Row("model, dynamic=True, three batch sizes", whole, {"dynamic": True}, (12, 9, 6)),
        Row("model, dynamic shapes found by itself, three batch sizes", whole, {}, (12, 9, 6)),
    ],
    "inductor": [
        Row("model", whole, {}),
        Row("model, dynamic=True, three batch sizes", whole, {"dynamic": True}, (12, 9, 6)),
        Row('model, mode="reduce-overhead"', whole, {"mode": "reduce-overhead"}),
        Row("each block", regional, {}),
    ],
}


@dataclass(frozen=True)
class Counts:
    graphs: int
    frames: int
    breaks: int
    recompiled: int
    skipped: int

    def numbers(self) -> tuple[int, ...]:
        return self.graphs, self.frames, self.breaks, self.recompiled, self.skipped

    def __str__(self) -> str:
        return " / ".join(map(str, self.numbers()))

    def beside(self, plain: Counts) -> str:
        """What a reader of the table wants to know of these, with a Probe, beside those without."""
        pairs = list(zip(self.numbers(), plain.numbers()))
        return "the same" if self == plain else "**more**" if any(a > b for a, b in pairs) else "fewer"


def train(row: Row, backend: str, *, probe: bool, steps: int, every: int) -> tuple[Counts, list[Tensor]]:
    torch._dynamo.reset()
    counters.clear()
    convert_frame.FRAME_COMPILE_COUNTER.clear()
    torch.manual_seed(0)
    model = Net().to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    counting = Counting()
    given, step = row.way(
        model, optimizer, row.how if backend == "inductor" else {**row.how, "backend": counting}
    )
    x, y = torch.randn(LARGEST, 6, device=DEVICE), torch.arange(LARGEST, device=DEVICE) % 3
    context = ug.Probe(given, optimizer, every=every, strict=True) if probe else contextlib.nullcontext()
    with context:
        for number in range(steps):
            size = row.sizes[number % len(row.sizes)]
            measured = not probe and number % every == 0
            with torch.compiler.set_stance("force_eager") if measured else contextlib.nullcontext():
                step(x[:size], y[:size])
    compiled = convert_frame.FRAME_COMPILE_COUNTER  # {frame: how often}
    counts = Counts(
        graphs=counters["stats"]["unique_graphs"], frames=len(compiled),
        breaks=sum(counters["graph_break"].values()), recompiled=sum(compiled.values()) - len(compiled),
        skipped=counters["inductor"]["cudagraph_skips"],
    )  # fmt: skip
    assert backend == "inductor" or counting.graphs == counts.graphs
    return counts, [copy.deepcopy(p.detach()) for p in model.parameters()]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--only", choices=list(ROWS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the compiler, about torch itself
    lines = [
        "# What a Probe does to torch.compile", "",
        f"{datetime.date.today()}; python {platform.python_version()}, torch {torch.__version__}, {DEVICE}; "
        f"{options.steps} steps, of which one in {options.every} is measured.", "",
        "Graphs / frames / graph breaks / recompilations / graphs without CUDA graphs, without a Probe and with one; "
        "then whether the weights are the same bit for bit.", "",
        "| backend | compiled | without | with a Probe | counts | weights |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for backend, rows in ROWS.items():
        if options.only not in (None, backend):
            continue
        for row in rows:
            found = [
                train(row, backend, probe=p, steps=options.steps, every=options.every) for p in (False, True)
            ]
            (plain, before), (probed, after) = found
            alike = all(torch.equal(p, q) for p, q in zip(before, after))
            lines.append(
                f"| {backend} | {row.name} | {plain} | {probed} | {probed.beside(plain)} | "
                f"{'equal' if alike else '**differ**'} |"
            )
            print(lines[-1], flush=True)
    text = "\n".join([*lines, ""])
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
