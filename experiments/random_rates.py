"""Random pairs of a network and a learning rate: is check ever content with a training that diverges, and does it alarm
on one that goes well?

Each pair is drawn from its number alone: a network (MLP, convolutional, residual, with and without norms), an optimizer
and a rate, log-uniform over six decades. A plain loop trains it for 200 steps on fresh batches and says what becomes of
it. Then `ug.check(steps=20, data=...)` gives its verdict on the untrained network.

    diverged      a loss that is not finite, or at the end above the first one and above that of a constant
    trained well  at the end below 0.7 of the first loss and of a constant's, no higher than in the middle, and at no
                  third or tenth of the rate lower by more than a tenth of a constant's loss
    between       the rest: slow, stuck, or at a rate that is clearly too large

    python experiments/random_rates.py [--pairs 1000] [--first 0] [--out FILE]
"""

from __future__ import annotations

import argparse
import math
import platform
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug

STEPS, CHECKED = 200, 20
OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], float, float]] = {
    "SGD": (torch.optim.SGD, 1e-3, 1e3),
    "momentum": (lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9), 1e-4, 1e2),
    "Adam": (torch.optim.Adam, 1e-5, 1e1),
    "AdamW": (torch.optim.AdamW, 1e-5, 1e1),
    "RMSprop": (torch.optim.RMSprop, 1e-5, 1e1),
}


class Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def network(draw: random.Random) -> tuple[nn.Module, bool]:
    """(network, whether it takes images)"""
    width, depth = draw.choice((16, 32, 64)), draw.choice((1, 2, 3, 5))
    act = draw.choice((nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.LeakyReLU))
    norm = draw.random() < 0.4
    kind = draw.choice(("mlp", "mlp", "conv", "residual"))
    layers: list[nn.Module] = []
    if kind == "conv":
        for i in range(min(depth, 3)):
            layers.append(nn.Conv2d(1 if i == 0 else 8, 8, 3, padding=1))
            layers += [nn.BatchNorm2d(8)] * norm
            layers.append(act())
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 10)), True
    layers = [nn.Linear(64, width), *[nn.BatchNorm1d(width)] * norm, act()]
    for _ in range(depth - 1):
        inner = [nn.Linear(width, width), *[nn.BatchNorm1d(width)] * norm, act()]
        layers += [Residual(*inner)] if kind == "residual" else inner
    return nn.Sequential(*layers, nn.Linear(width, 10)), False


def batches(number: int, images: bool) -> Callable[[], Any]:
    """A function that draws a batch: noise around the pattern of its class."""
    generator = torch.Generator().manual_seed(number)
    patterns = torch.randn(10, 64, generator=generator)

    def draw() -> tuple[Tensor, Tensor]:
        y = torch.randint(0, 10, (64,), generator=generator)
        x = (patterns[y] + torch.randn(64, 64, generator=generator)) / math.sqrt(2)
        return (x.view(64, 1, 8, 8) if images else x), y

    return draw


def pair(number: int) -> tuple[nn.Module, str, Callable[[Any], torch.optim.Optimizer], list[Any]]:
    draw = random.Random(number)
    torch.manual_seed(number)
    model, images = network(draw)
    name = draw.choice(list(OPTIMIZERS))
    kind, low, high = OPTIMIZERS[name]
    rate = math.exp(draw.uniform(math.log(low), math.log(high)))
    data = batches(number, images)
    return model, f"{name} {rate:.2g}", lambda p: kind(p, lr=rate), [data() for _ in range(STEPS)]


def trained(number: int, factor: float = 1.0) -> list[float]:
    """The losses of plain training, up to the first that is not finite. factor: of the rate"""
    model, _, make, data = pair(number)
    optimizer, losses = make(model.parameters()), []
    for group in optimizer.param_groups:
        group["lr"] *= factor
    for x, y in data:
        loss = F.cross_entropy(model(x), y)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def becomes(number: int) -> str:
    """What plain training makes of a pair."""
    losses, constant = trained(number), math.log(10)
    middle, end = (sum(losses[i : i + 20]) / 20 for i in (90, 180))
    if not math.isfinite(losses[-1]) or end > max(losses[0], 1.05 * constant):
        return "diverged"
    if end > 0.7 * min(losses[0], constant) or end > 1.1 * middle + 0.02:
        return "between"
    lower = [sum(trained(number, factor)[-20:]) / 20 for factor in (1 / 3, 1 / 10)]
    return "trained well" if end < min(lower) + 0.1 * constant else "between"


def says(number: int) -> tuple[str, str]:
    """(status, codes of errors and warnings) of the untrained network."""
    model, _, make, data = pair(number)
    report = ug.check(model, data[0], optimizer=make, steps=CHECKED, data=data[1:])
    codes = " ".join(f.code for f in report.findings if f.severity != "info")
    return report.diagnosis.status, codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    begin, table, wrong = time.perf_counter(), Counter[tuple[str, str]](), []
    for number in range(arguments.first, arguments.first + arguments.pairs):
        fate = becomes(number)
        status, codes = says(number)
        table[fate, status] += 1
        if (fate, status) in (("diverged", "healthy"), ("trained well", "sick")):
            wrong.append(f"{number}: {pair(number)[1]}: {fate}, {status} {codes}")
            print(wrong[-1], flush=True)
    statuses = ("healthy", "unknown", "sick")
    lines = ["| plain training | pairs | healthy | cannot tell | sick |", "|---|---|---|---|---|"]
    for fate in ("diverged", "between", "trained well"):
        row = [table[fate, status] for status in statuses]
        lines.append(f"| {fate} | {sum(row)} | {' | '.join(map(str, row))} |")
    lines.append("")
    lines.append(f"{time.perf_counter() - begin:.0f} s")
    print("\n".join(lines))
    if arguments.out:
        head = [
            "# Verdicts on random pairs of a network and a rate",
            "",
            f"{date.today()}; python {platform.python_version()}, torch {torch.__version__}, one thread",
            "",
            f"command: python experiments/{Path(sys.argv[0]).name} --pairs {arguments.pairs} --first {arguments.first}",
            "",
        ]
        text = [*head, *lines, "", "Wrong ones:", "", *[f"- {line}" for line in wrong or ["none"]]]
        arguments.out.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
