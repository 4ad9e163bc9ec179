"""Two claims about the recipe makemore: lr_find's rates are as good as the lecture's, and its loop is faster.

    python experiments/makemore.py --out FILE.md [--short]

Rates: each of the lecture's variants trained with its hand-picked rate and with the one that lr_find suggests. Speed:
steps per second of `unitgain train makemore` and of the lecture's loop restated (makemore_plain.py), in turns on one
thread. Exit code 1 if a suggested rate costs more than a point of accuracy, or the variant with BatchNorm is less than
three times as fast.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from makemore_plain import PlainLoop
from unitgain import InputError
from unitgain.data import Names, load_names
from unitgain.recipes import LadderResult, Table
from unitgain.recipes.makemore import MakemoreConfig, Training, learner, make_model, train_on

VARIANTS = ("original", "softmax", "tanh", "kaiming", "batchnorm")
LARGEST_POINTS = 1.0  # of accuracy, by which the suggested rate may be worse than the hand-picked one
LEAST_RATIO = 3.0  # of steps per second, for the variant with BatchNorm


def rates(names: Names, short: bool, missed: list[str]) -> Table:
    """lr_find's suggestion beside the hand-picked rate."""
    base = MakemoreConfig(every=0)
    base = replace(base, steps=2000, drop_at=1000) if short else base
    rows = []
    for variant in VARIANTS:
        config = replace(base, variant=variant)
        learn = learner(config, names)
        before = [t.clone() for t in learn.model.state_dict().values()]
        rate = learn.lr_find(1e-4, 10.0, 100 if short else 1000).suggestion
        same = all(torch.equal(a, b) for a, b in zip(before, learn.model.state_dict().values()))
        if not same:
            missed.append(f"{variant}: lr_find changed the model")
        by_hand = accuracy(names, config)
        found = math.nan if rate is None else accuracy(names, replace(config, lr=rate))
        points, shown = 100 * (found - by_hand), "none" if rate is None else f"{rate:.2g}"
        print(f"{variant}: suggested rate {shown}, {points:+.2f} points of accuracy", flush=True)
        rows.append([variant, "yes" if same else "no", f"{config.lr:g}", f"{by_hand:.2%}", shown, f"{found:.2%}",
                     f"{points:+.2f}"])  # fmt: skip
        if not short and not points >= -LARGEST_POINTS:
            missed.append(f"{variant}: the suggested rate {shown} gives {points:+.2f} points of accuracy")
    columns = [
        "variant",
        "model as before",
        ">rate by hand",
        ">accuracy",
        ">lr_find's",
        ">accuracy",
        ">points",
    ]
    note = (
        f"accuracy: characters of the validation names guessed right after {base.steps:,d} steps; from step "
        f"{base.drop_at:,d} on the rate is {base.late_lr:g} in either case. The sweep has as many steps as the "
        "lecture's (1,000); model as before: weights and buffers are bit for bit the same after it."
    )
    return Table("Learning rates", columns, rows, [note])


def accuracy(names: Names, config: MakemoreConfig) -> float:
    """Of the validation names; NaN for a run that diverged."""
    try:
        return train_on(names, config, say=lambda line: None).metrics["val_accuracy"]
    except InputError:
        return math.nan


def speed(names: Names, short: bool, missed: list[str]) -> Table:
    """Both loops take turns, so that other load of the machine falls on both; each round gives a ratio."""
    rounds, steps = (3, 50) if short else (15, 500)
    rows = []
    for variant in VARIANTS:
        with one_thread():
            ours, theirs, apart = race(names, variant, rounds, steps)
        ratios = [a / b for a, b in zip(ours, theirs)]
        ratio = statistics.median(ratios)
        print(f"{variant}: {ratio:.2f} times the plain loop's steps per second", flush=True)
        rows.append([
            variant, f"{statistics.median(theirs):,.0f}", f"{statistics.median(ours):,.0f}", f"{ratio:.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}", f"{apart:.0e}",
        ])  # fmt: skip
        if variant == "batchnorm" and ratio < LEAST_RATIO and not short:
            missed.append(f"batchnorm: {ratio:.2f} times the plain loop's speed, less than {LEAST_RATIO:g}")
    columns = ["variant", ">plain, steps/s", ">ours, steps/s", ">ratio", ">least to most", ">losses apart"]
    note = (
        f"Medians of {rounds} rounds, in each of which both loops train in turn on one thread. plain: the lecture's "
        "loop restated, with autograd (experiments/makemore_plain.py). ours: unitgain train makemore, every loss "
        "recorded. losses apart: largest difference between the two loops' losses over the first 100 steps; the "
        "variant original is so saturated that it multiplies rounding from step to step."
    )
    return Table("Speed", columns, rows, [note])


def race(names: Names, variant: str, rounds: int, steps: int) -> tuple[list[float], list[float], float]:
    """Steps per second in each round, ours and the plain loop's; and how far apart their first 100 losses are."""
    turn = 4 * steps  # of ours, which take about as many seconds
    config = replace(MakemoreConfig(), variant=variant, every=0, steps=10**9, drop_at=10**9, save_every=turn)
    ours = Training(config, names)
    generator = torch.Generator().manual_seed(config.seed)
    model = make_model(config, generator)
    plain = PlainLoop(model, names.train.x, names.train.y, config.batch_size, generator)
    record = ours.open_record()
    first, reference = ours.advance()[:100], torch.tensor(plain.run(100, config.lr))  # warms both up
    apart = float((first - reference).abs().max())
    mine, theirs = [], []
    for _ in range(rounds):
        began, end = time.perf_counter(), ours.step + turn
        while ours.step < end:
            ours.advance()
        middle = time.perf_counter()
        plain.run(steps, config.lr)
        mine.append(turn / (middle - began))
        theirs.append(steps / (time.perf_counter() - middle))
    record.close()
    return mine, theirs, apart


@contextmanager
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def main() -> int:
    parser = argparse.ArgumentParser(description="Rates and speed of the recipe makemore.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--short", action="store_true", help="a few steps: does it run?")
    given = parser.parse_args()
    names, missed = load_names(), []
    tables = [rates(names, given.short, missed), speed(names, given.short, missed)]
    result = LadderResult("makemore: learning rates and speed", tables, missed, comparable=not given.short)
    given.out.write_text(result.markdown(" ".join(["python", *sys.argv])), encoding="utf-8")
    for line in missed:
        print(line)
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
