"""Random pairs of a network and a learning rate: is check ever content with a training that diverges, and does it alarm
on one that goes well?

Each pair is drawn from its number alone: a tiny network (MLP, convolutional, residual, recurrent, attention, words,
with and without norms, classification or regression), an optimizer, and a rate that is log-uniform within a decade and
a half of this network's cliff, the lowest rate at which forty steps of plain training end above their beginning. A
plain loop trains it for 100 steps on fresh batches and says what becomes of it. Then `ug.check(steps=20, data=...)`
gives its verdict on the untrained network.

    diverged      a loss that is not finite, or at the end above the first one or above that of a constant
    trained well  at the end below 0.7 of the first loss and of a constant's, no higher than in the middle, after the
                  first quarter never at three times the first, and at no third or tenth of the rate lower by more than
                  a tenth of a constant's loss
    between       the rest: slow, stuck, or at a rate that is clearly too large

    python experiments/random_rates.py [--pairs 1000] [--first 0] [--processes 2] [--to FILE.jsonl] [--out FILE]

A pair takes about half a second of one core. With --to every result is kept as a line, and a run that was interrupted
goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug

STEPS, CHECKED, TRIAL = 100, 20, 40
EXAMPLES = 32
DECADES = 1.5  # to either side of the cliff
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": torch.optim.SGD,
    "momentum": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "RMSprop": torch.optim.RMSprop,
}
Make = Callable[[Any], torch.optim.Optimizer]


class Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Recurrent(nn.Module):
    """A series of eight steps of eight numbers, and what its last state says."""

    def __init__(self, cell: Callable[..., nn.Module], width: int, outputs: int) -> None:
        super().__init__()
        self.rnn, self.head = cell(8, width, batch_first=True), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.view(-1, 8, 8))[0][:, -1])


class Attention(nn.Module):
    """Eight tokens of eight numbers through pre-norm or plain attention blocks, averaged."""

    def __init__(self, width: int, blocks: int, norm: bool, outputs: int) -> None:
        super().__init__()
        self.into, self.head = nn.Linear(8, width), nn.Linear(width, outputs)
        self.places = nn.Parameter(0.1 * torch.randn(8, width))
        norms = [nn.LayerNorm(width) if norm else nn.Identity() for _ in range(2 * blocks)]
        self.norms = nn.ModuleList(norms)
        self.mixers = nn.ModuleList(nn.MultiheadAttention(width, 2, batch_first=True) for _ in range(blocks))
        self.hidden = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.into(x.view(-1, 8, 8)) + self.places
        for i, (mix, hidden) in enumerate(zip(self.mixers, self.hidden, strict=True)):
            a = self.norms[2 * i](h)
            h = h + mix(a, a, a, need_weights=False)[0]
            h = h + hidden(self.norms[2 * i + 1](h))
        return self.head(h.mean(1))


class Words(nn.Module):
    """The signs of eight numbers as words of a vocabulary of sixteen, embedded and joined."""

    def __init__(self, width: int, act: type[nn.Module], outputs: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 8)
        self.rest = nn.Sequential(nn.Linear(128, width), act(), nn.Linear(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        bits = (x.view(-1, 16, 4) > 0).long()
        return self.rest(self.embed((bits * torch.tensor([1, 2, 4, 8])).sum(2)).flatten(1))


@dataclass(frozen=True)
class Pair:
    kind: str
    name: str  # of the optimizer
    rate: float
    make: Make
    loss: Callable[[Tensor, Tensor], Tensor]
    constant: float
    batches: list[tuple[Tensor, Tensor]]
    number: int

    def model(self) -> nn.Module:
        return network(self.number)[0]

    def __str__(self) -> str:
        return f"{self.number}: {self.kind}, {self.name} {self.rate:.2g}"


def network(number: int) -> tuple[nn.Module, str, bool]:
    """(network, its kind, whether it classifies)"""
    draw = random.Random(number)
    torch.manual_seed(number)
    width, depth = draw.choice((16, 24, 32)), draw.choice((1, 2, 3, 5))
    act = draw.choice((nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.LeakyReLU))
    norm, classifies = draw.random() < 0.4, draw.random() < 0.7
    kind = draw.choice(("mlp", "mlp", "conv", "residual", "recurrent", "attention", "words"))
    outputs = 10 if classifies else 4
    if kind == "recurrent":
        return Recurrent(draw.choice((nn.RNN, nn.GRU, nn.LSTM)), width, outputs), kind, classifies
    if kind == "attention":
        return Attention(width, min(depth, 2), norm, outputs), kind, classifies
    if kind == "words":
        return Words(width, act, outputs), kind, classifies
    layers: list[nn.Module] = []
    if kind == "conv":
        layers.append(nn.Unflatten(1, (1, 8, 8)))
        for i in range(min(depth, 3)):
            layers.append(nn.Conv2d(1 if i == 0 else 6, 6, 3, padding=1))
            layers += [nn.BatchNorm2d(6)] * norm
            layers.append(act())
        return (
            nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, outputs)),
            kind,
            classifies,
        )
    layers = [nn.Linear(64, width), *[nn.BatchNorm1d(width)] * norm, act()]
    for _ in range(depth - 1):
        inner = [nn.Linear(width, width), *[nn.BatchNorm1d(width)] * norm, act()]
        layers += [Residual(*inner)] if kind == "residual" else inner
    return nn.Sequential(*layers, nn.Linear(width, outputs)), kind, classifies


def batches_of(number: int, classifies: bool, count: int = STEPS) -> list[tuple[Tensor, Tensor]]:
    """Noise around the pattern of its class; or what four directions of it give, and a little noise."""
    g = torch.Generator().manual_seed(number)
    patterns = torch.randn(10, 64, generator=g)
    found = []
    for _ in range(count):
        y = torch.randint(0, 10, (EXAMPLES,), generator=g)
        x = (patterns[y] + torch.randn(EXAMPLES, 64, generator=g)) / math.sqrt(2)
        values = torch.tanh(x @ patterns[:4].T / 6) + 0.1 * torch.randn(EXAMPLES, 4, generator=g)
        found.append((x, y if classifies else values / 0.8))
    return found


def pair(number: int) -> Pair:
    draw = random.Random(-number - 1)
    _, kind, classifies = network(number)
    name = draw.choice(list(OPTIMIZERS))
    batches = batches_of(number, classifies)
    loss = F.cross_entropy if classifies else F.mse_loss
    constant = (
        math.log(10) if classifies else float(torch.cat([y for _, y in batches]).var(0, correction=0).mean())
    )
    offset = draw.uniform(-DECADES, DECADES)

    def at(rate: float) -> Pair:
        kind_of = OPTIMIZERS[name]
        return Pair(kind, name, rate, lambda p: kind_of(p, lr=rate), loss, constant, batches, number)

    return at(_cliff(at) * 10**offset)


def _cliff(at: Callable[[float], Pair]) -> float:
    """By halving the decades from 10^-5 to 10^3, to a third of a decade."""
    low, high = -5.0, 3.0
    while high - low > 1 / 3:
        middle = (low + high) / 2
        losses = trained(at(10**middle), TRIAL)
        if math.isfinite(losses[-1]) and sum(losses[-5:]) / 5 < losses[0]:
            low = middle
        else:
            high = middle
    return 10 ** ((low + high) / 2)


def trained(one: Pair, steps: int = STEPS, factor: float = 1.0) -> list[float]:
    """The losses of plain training, up to the first that is not finite. factor: of the rate"""
    model = one.model()
    optimizer, losses = one.make(model.parameters()), []
    for group in optimizer.param_groups:
        group["lr"] *= factor
    for x, y in one.batches[:steps]:
        loss = one.loss(model(x), y)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def becomes(one: Pair) -> str:
    """What plain training makes of a pair."""
    losses = trained(one)
    middle, end = (sum(losses[i : i + 15]) / 15 for i in (45, 85))
    if not math.isfinite(losses[-1]) or end > max(losses[0], 1.05 * one.constant):
        return "diverged"
    wild = max(losses[STEPS // 4 :]) > 3 * losses[0]
    if wild or end > 0.7 * min(losses[0], one.constant) or end > 1.1 * middle + 0.02:
        return "between"
    lower = [sum(trained(one, factor=factor)[-15:]) / 15 for factor in (1 / 3, 1 / 10)]
    return "trained well" if end < min(lower) + 0.1 * one.constant else "between"


def says(one: Pair) -> tuple[str, str]:
    """(status, codes of errors and warnings) of the untrained network."""
    report = ug.check(
        one.model(), one.batches[0], loss=one.loss, optimizer=one.make, steps=CHECKED, data=one.batches[1:]
    )
    codes = " ".join(f.code for f in report.findings if f.severity != "info")
    return report.diagnosis.status, codes


def judged(number: int) -> tuple[int, str, str, str, str]:
    """(number, the pair, what became of it, status, codes)"""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    one = pair(number)
    return number, str(one), becomes(one), *says(one)


def results(numbers: range, processes: int, file: Path | None) -> Iterator[tuple[str, str, str, str]]:
    """Of all pairs, those that are in the file first."""
    lines = file.read_text(encoding="utf-8").splitlines() if file is not None and file.exists() else []
    known = {row[0]: row[1:] for row in map(json.loads, lines) if row[0] in numbers}
    yield from known.values()  # type: ignore[misc]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for row in pool.imap_unordered(judged, [n for n in numbers if n not in known], chunksize=4):
            if file is not None:
                with file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(row) + "\n")
            yield row[1:]


def is_wrong(fate: str, status: str) -> bool:
    return (fate, status) in (("diverged", "healthy"), ("trained well", "sick"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    begin, table, wrong = time.perf_counter(), Counter[tuple[str, str]](), []
    numbers = range(arguments.first, arguments.first + arguments.pairs)
    for text, fate, status, codes in results(numbers, arguments.processes, arguments.to):
        table[fate, status] += 1
        if is_wrong(fate, status):
            wrong.append(f"{text}: {fate}, {status} {codes}".rstrip())
            print(wrong[-1], flush=True)
    statuses = ("healthy", "unknown", "sick")
    lines = ["| plain training | pairs | healthy | cannot tell | sick |", "|---|---|---|---|---|"]
    for fate in ("diverged", "between", "trained well"):
        row = [table[fate, status] for status in statuses]
        lines.append(f"| {fate} | {sum(row)} | {' | '.join(map(str, row))} |")
    lines += ["", f"{time.perf_counter() - begin:.0f} s"]
    print("\n".join(lines))
    if arguments.out:
        head = [
            "# Verdicts on random pairs of a network and a rate",
            "",
            f"{date.today()}; python {platform.python_version()}, torch {torch.__version__}, "
            f"{arguments.processes} processes of one thread each",
            "",
            f"command: python experiments/{Path(sys.argv[0]).name} --pairs {arguments.pairs} --first {arguments.first}",
            "",
        ]
        text = [*head, *lines, "", "Wrong ones:", "", *[f"- {line}" for line in wrong or ["none"]]]
        arguments.out.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
