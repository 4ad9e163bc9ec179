"""A training step and folded inference of NF-ResNet-50 beside timm's, on this machine.

    python benchmarks/normfree.py [--model NAME] [--batch N] [--size N] [--rounds N] [--channels-last] [--out FILE]

Both networks hold the same weights and see the same batch. A round times each variant once, in random order;
reported are the medians of the ratios within a round, and the quartiles. A step is forward, cross entropy and
backward, without an optimizer. "plain" is the folded network: the same convolutions with nothing to standardize.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from reference import declare_torchvision_operators

import unitgain as ug


def step(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    def run() -> None:
        model.train()
        F.cross_entropy(model(x), y).backward()
        for parameter in model.parameters():
            parameter.grad = None

    return run


def inference(model: nn.Module, x: Tensor) -> Callable[[], None]:
    def run() -> None:
        model.eval()
        with torch.inference_mode():
            model(x)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nf_resnet50")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    declare_torchvision_operators()
    import timm

    theirs = timm.create_model(arguments.model)
    ours = ug.models.create(arguments.model, drop_rate=0.0, stochastic_depth=0.0)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(arguments.batch, 3, arguments.size, arguments.size)
    y = torch.randint(0, 1000, (arguments.batch,))
    if arguments.channels_last:
        theirs, ours = (m.to(memory_format=torch.channels_last) for m in (theirs, ours))
        x = x.to(memory_format=torch.channels_last)
    folded = ug.nn.fold_(copy.deepcopy(ours))
    variants = {
        "timm step": step(theirs, x, y),
        "ours step": step(ours, x, y),
        "plain step": step(folded, x, y),
        "timm inference": inference(theirs, x),
        "ours inference": inference(ours, x),
        "folded inference": inference(folded, x),
    }
    rounds: list[dict[str, float]] = []
    for number in range(arguments.rounds + 1):
        times = {}
        for name in random.sample(list(variants), len(variants)):
            start = time.perf_counter()
            variants[name]()
            times[name] = time.perf_counter() - start
        if number:  # the first one warms up
            rounds.append(times)
    result: dict[str, object] = {
        "date": datetime.date.today().isoformat(),
        "model": arguments.model, "batch": arguments.batch, "size": arguments.size,
        "channels_last": arguments.channels_last, "rounds": arguments.rounds,
        "threads": torch.get_num_threads(), "torch": torch.__version__, "timm": timm.__version__,
        "machine": platform.machine(),
        "seconds": {name: statistics.median(r[name] for r in rounds) for name in variants},
    }  # fmt: skip
    ratios = {
        "training step / timm's": ("ours step", "timm step"),
        "training step / plain": ("ours step", "plain step"),
        "inference / timm's": ("ours inference", "timm inference"),
        "folded inference / timm's": ("folded inference", "timm inference"),
    }
    for label, (a, b) in ratios.items():
        low, middle, high = statistics.quantiles([r[a] / r[b] for r in rounds], n=4)
        result[label] = {"median": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)]}
        print(f"{label:28} {middle:.3f}  ({low:.3f} to {high:.3f})")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
