"""What fix() is worth: networks that cannot start, as they come and repaired.

    UNITGAIN_DATA=... python experiments/fix_pays.py [--steps 20000] [--out FILE.md]

1. The makemore network with every weight from N(0, 1): findings before and after, first loss, and the validation loss
   after plain SGD (0.1, then 0.01 for the second half), repaired and not, on the same batches; three seeds, which
   draw the weights of either and the batches.
2. Deep networks without norms, all weights from N(0, 1): findings before and after, the std of every layer's output
   after, and the loss of Adam over 100 steps on one batch (best of rates 1e-3, 3e-4, 1e-4), repaired and not.
"""

from __future__ import annotations

import argparse
import copy
import math
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug

Batch = tuple[Tensor, Tensor]


def gaussian(model: nn.Module) -> nn.Module:
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.normal_(p)
    return model


# ---- makemore --------------------------------------------------------------------------------------------------


def train(model: nn.Module, names: ug.data.Names, steps: int, seed: int) -> float:
    """Validation loss after plain SGD."""
    batches = names.train.batches(32, torch.Generator().manual_seed(seed))
    parameters = list(model.parameters())
    for step in range(steps):
        x, y = next(batches)
        loss = F.cross_entropy(model(x), y)
        for p in parameters:
            p.grad = None
        loss.backward()
        rate = 0.1 if step < steps // 2 else 0.01
        with torch.no_grad():
            for p in parameters:
                assert p.grad is not None
                p.sub_(rate * p.grad)
    with torch.no_grad():
        return float(F.cross_entropy(model(names.validation.x), names.validation.y))


def makemore(steps: int) -> list[str]:
    names = ug.data.load_names()
    rows = [
        "| seed | findings before | after | first loss before | after | validation loss as it came | repaired | gain |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        model = gaussian(ug.models.create("char_mlp_original"))
        batch = next(names.train.batches(512, torch.Generator().manual_seed(seed)))
        sick = copy.deepcopy(model)
        result = ug.fix(model, batch)
        losses = [float(F.cross_entropy(m(batch[0]), batch[1]).detach()) for m in (sick, model)]
        ends = [train(m, names, steps, seed) for m in (sick, model)]
        rows.append(
            f"| {seed} | {codes(result.before)} | {codes(result.after)} | {losses[0]:.3f} | {losses[1]:.3f} | "
            f"{ends[0]:.4f} | {ends[1]:.4f} | {ends[0] - ends[1]:.4f} |"
        )
        print(rows[-1], flush=True)
    return rows


# ---- deep networks -----------------------------------------------------------------------------------------------


def mlp(activation: Callable[[], nn.Module], depth: int = 50, width: int = 256) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(64 if i == 0 else width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def cnn(depth: int = 30, channels: int = 32) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(3 if i == 0 else channels, channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return x + self.down(F.gelu(self.up(x)))


class Transformer(nn.Module):
    def __init__(self, width: int = 64, blocks: int = 12) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, width)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(blocks)])
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embedding(x)).mean(1))


def vectors(n: int = 256) -> Batch:
    x = torch.randn(n, 64)
    return x, (x @ torch.randn(64, 10)).argmax(1)


def images(n: int = 64) -> Batch:
    y = torch.arange(n) % 10
    return torch.randn(n, 3, 16, 16) + torch.randn(10, 3, 1, 1)[y], y


def tokens(n: int = 64) -> Batch:
    x = torch.randint(0, 50, (n, 16))
    return x, x[:, 0] % 10


DEEP: dict[str, tuple[Callable[[], nn.Module], Callable[[], Batch]]] = {
    "50-layer tanh MLP, width 256": (lambda: mlp(nn.Tanh), vectors),
    "50-layer ReLU MLP, width 256": (lambda: mlp(nn.ReLU), vectors),
    "50-layer GELU MLP, width 256": (lambda: mlp(nn.GELU), vectors),
    "30-layer CNN, 32 channels": (cnn, images),
    "12-block transformer, width 64, no norms": (Transformer, tokens),
}


RATES = (1e-3, 3e-4, 1e-4)


def adam(model: nn.Module, batch: Batch, steps: int = 100) -> tuple[float, float]:
    """(first loss, loss after the steps) of Adam, with the best of three learning rates; NaN if none stays finite."""
    first, ends = math.nan, []
    for rate in RATES:
        copied = copy.deepcopy(model)
        optimizer = torch.optim.Adam(copied.parameters(), rate)
        for step in range(steps):
            loss = F.cross_entropy(copied(batch[0]), batch[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            first = float(loss.detach()) if step == 0 else first
        ends.append(float(F.cross_entropy(copied(batch[0]), batch[1]).detach()))
    return first, min((end for end in ends if math.isfinite(end)), default=math.nan)


def deep(only: str = "") -> list[str]:
    rows = [
        "| network | findings before | after | std of layers after (residual ends) | fix, s | "
        "loss as it came, 100 steps | repaired, 100 steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (make, batches) in DEEP.items():
        if only not in name:
            continue
        torch.manual_seed(0)
        model, batch = gaussian(make()), batches()
        sick = copy.deepcopy(model)
        started = time.perf_counter()
        result = ug.fix(model, batch)
        seconds = time.perf_counter() - started
        stds = {s: v["std"] for s, v in result.after.record.values("activation", 0).items()}
        ends = [v for s, v in stds.items() if s.endswith((".attention", ".down"))]
        layers = [
            v for s, v in stds.items() if not s.endswith((".attention", ".down")) and not _readout(s, stds)
        ]
        spread = f"{min(layers):.2f} to {max(layers):.2f}" + (
            f" ({min(ends):.2f} to {max(ends):.2f})" if ends else ""
        )
        (a, b), (c, d) = adam(sick, batch), adam(model, batch)
        rows.append(
            f"| {name} | {codes(result.before)} | {codes(result.after)} | {spread} | {seconds:.1f} | "
            f"{a:.4g} to {b:.4g} | {c:.3f} to {d:.3f} |"
        )
        print(rows[-1], flush=True)
    return rows


def _readout(site: str, stds: dict[str, float]) -> bool:
    return site == list(stds)[-1]


def codes(report: ug.Report) -> str:
    found = [f"{f.code} {f.severity}" for f in report.findings if f.severity != "info"]
    return ", ".join(found) or "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--part", choices=("makemore", "deep"), action="append", help="only this part")
    parser.add_argument("--only", default="", help="of the deep networks, those whose names hold this")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    head = [
        "# What fix() is worth",
        "",
        f"{date.today()}; python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads",
        "",
        f"command: python experiments/{Path(sys.argv[0]).name} --steps {arguments.steps}",
        "",
        f"## The makemore network, all weights N(0, 1): ln 27 = {math.log(27):.3f}; {arguments.steps} steps of SGD",
        "",
    ]
    parts = arguments.part or ("makemore", "deep")
    text = [*head, *(makemore(arguments.steps) if "makemore" in parts else ["(not run)"])]
    text += ["", "## Deep networks without norms, all weights N(0, 1)", ""]
    text += deep(arguments.only) if "deep" in parts else ["(not run)"]
    if arguments.out:
        arguments.out.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
