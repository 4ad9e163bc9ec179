"""What adaptive gradient clipping costs: agc_ on NFNet-F0's parameters beside timm's and beside the memory itself.

    python benchmarks/agc.py [--rounds N] [--model NAME] [--out FILE]

Every variant works on its own copy of the gradients of one model. A round runs each once, in random order; a
variant's ratio in a round is its time over that of its yardstick in the same round. Reported: medians with
quartiles. Yardsticks: timm's adaptive_clip_grad, and one pass that reads weights and gradients and writes
gradients (torch.add with out). The pass runs twice per round under two names; the second's ratio is the noise.

Gradients are drawn so that none, a tenth, or all of the units are clipped. Clipping changes them, so that they are
put back before each run, outside of the time taken.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from reference import declare_torchvision_operators

import unitgain as ug

CASES = {"none": 0.0, "a tenth": 0.1, "all": 1.0}


def gradients(parameters: Sequence[torch.Tensor], share: float) -> list[torch.Tensor]:
    """Gradients of which a share of the units (rows) lies above the limit of 0.01, the others below it."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for p in parameters:
        g = torch.randn(p.shape, generator=generator)
        rows = g.view(p.shape[0], -1) if p.dim() > 1 else g.view(1, -1)
        weights = p.detach().reshape(rows.shape)
        limit = 0.01 * weights.norm(dim=1, keepdim=True).clamp_min(1e-3)
        above = torch.rand(len(rows), 1, generator=generator) < share
        rows.mul_(limit / rows.norm(dim=1, keepdim=True) * torch.where(above, 2.0, 0.5))
        found.append(g)
    return found


def one_pass(parameters: Sequence[torch.Tensor]) -> None:
    """Reads weights and gradients, writes gradients."""
    for p in parameters:
        assert p.grad is not None
        torch.add(p.detach(), p.grad, out=p.grad)


def measure(
    variants: dict[str, Callable[[], object]], put_back: Callable[[], None], rounds: int
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(-2, rounds):
        order = list(variants)
        random.Random(number).shuffle(order)
        for name in order:
            put_back()
            start = time.perf_counter()
            variants[name]()
            took = time.perf_counter() - start
            if number >= 0:
                found[name].append(took)
    return found


def row(name: str, times: list[float], found: dict[str, list[float]]) -> str:
    cells = [name, f"{statistics.median(times) * 1e3:.1f}"]
    for yardstick in ("timm adaptive_clip_grad", "one pass"):
        ratios = [a / b for a, b in zip(times, found[yardstick])]
        low, middle, high = statistics.quantiles(ratios, n=4)
        cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--model", default="dm_nfnet_f0", help="of timm")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    declare_torchvision_operators()
    import timm
    from timm.utils.agc import adaptive_clip_grad

    torch.manual_seed(0)
    parameters = list(timm.create_model(options.model).parameters())
    size = sum(p.numel() for p in parameters)
    lines = [
        "# What adaptive gradient clipping costs", "",
        f"{datetime.date.today()}; python {platform.python_version()}, torch {torch.__version__}, "
        f"timm {timm.__version__}, "
        f"{torch.get_num_threads()} threads, {os.cpu_count()} cores, {platform.machine()}", "",
        f"command: python benchmarks/agc.py {' '.join(sys.argv[1:])}".rstrip(), "",
        f"{options.model}: {size:,} float32 parameters in {len(parameters)} tensors; "
        f"medians of {options.rounds} rounds (quartiles)", "",
    ]  # fmt: skip
    for case, share in CASES.items():
        kept = gradients(parameters, share)
        for p, g in zip(parameters, kept):
            p.grad = g.clone()

        def put_back(kept: list[torch.Tensor] = kept) -> None:
            for p, g in zip(parameters, kept):
                assert p.grad is not None
                p.grad.copy_(g)

        variants: dict[str, Callable[[], object]] = {
            "one pass": lambda: one_pass(parameters),
            "one pass again (noise)": lambda: one_pass(parameters),
            "timm adaptive_clip_grad": lambda: adaptive_clip_grad(parameters, 0.01),
            "ug.optim.agc_": lambda: ug.optim.agc_(parameters, 0.01),
            'ug.optim.agc_(gains="channel")': lambda: ug.optim.agc_(parameters, 0.01, gains="channel"),
        }
        found = measure(variants, put_back, options.rounds)
        lines += [
            f"### Units clipped: {case}",
            "",
            "| variant | ms | over timm's | over one pass |",
            "|---|---|---|---|",
        ]
        lines += [row(name, times, found) for name, times in found.items()] + [""]
    text = "\n".join(lines)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
