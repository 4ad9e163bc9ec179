"""A claim about the Fashion-MNIST ladder: the rates that lr_find suggests are as good as the hand-picked ones.

    python experiments/fashion_mnist_rates.py --out FILE.md [--short]

Four rungs (no norm, BatchNorm, one cycle, residual blocks), each trained with its hand-picked rate and with the one
that lr_find suggests after one sweep with seed 0. Exit code 1 if a suggested rate costs more than a point of accuracy.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from dataclasses import replace
from pathlib import Path

from unitgain import InputError
from unitgain.data import ImageSplit
from unitgain.recipes import LadderResult, Table
from unitgain.recipes import fashion_mnist as recipe

SEEDS = {
    3: 12,
    7: 3,
    13: 3,
    14: 1,
}  # of each rung; rung 3's results spread over two points, rung 14 takes minutes
LARGEST_POINTS = 1.0  # of accuracy, by which the suggested rate may be worse than the hand-picked one


def load(config: recipe.FashionConfig, short: bool) -> recipe.Images:
    images = recipe.load(config)
    if not short:
        return images
    return recipe.Images(*(ImageSplit(s.images[:512], s.labels[:512]) for s in (images.train, images.test)))


def accuracy(config: recipe.FashionConfig, seed: int, images: recipe.Images) -> float:
    """Of one training; NaN if it diverged."""
    try:
        outcome = recipe.train(replace(config, seed=seed), images=images, say=lambda line: None)
    except InputError:
        return math.nan
    assert outcome.record is not None
    outcome.record.close()
    return outcome.metrics["test_accuracy"]


def measure(short: bool) -> tuple[Table, list[str]]:
    rows, missed = [], []
    for rung, count in SEEDS.items():
        config, seeds = recipe.RUNGS[rung][1], range(1 if short else count)
        if short:
            config = replace(config, epochs=1, batch_size=64)
        images = load(config, short)
        by_hand = statistics.mean(accuracy(config, seed, images) for seed in seeds)
        rate = recipe.make_learner(replace(config, seed=0), images).lr_find().suggestion
        found = math.nan
        if rate is not None:
            found = statistics.mean(accuracy(replace(config, lr=rate), seed, images) for seed in seeds)
        points, shown = 100 * (found - by_hand), "none" if rate is None else f"{rate:.2g}"
        print(f"rung {rung}: suggested rate {shown}, {points:+.2f} points", flush=True)
        rows.append([str(rung), f"{config.lr:g}", f"{by_hand:.2%}", shown, f"{found:.2%}", f"{points:+.1f}",
                     str(len(seeds))])  # fmt: skip
        if not short and not points >= -LARGEST_POINTS:
            missed.append(f"rung {rung}: the suggested rate {shown} gives {points:+.1f} points")
    note = "lr_find swept once, with seed 0. Accuracies are means over the same seeds of both rates."
    columns = [">rung", ">rate by hand", ">accuracy", ">lr_find's", ">accuracy", ">points", ">seeds"]
    return Table("Learning rates", columns, rows, [note]), missed


def main() -> int:
    parser = argparse.ArgumentParser(description="Rates of the Fashion-MNIST ladder.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--short", action="store_true", help="one epoch of few images: does it run?")
    given = parser.parse_args()
    table, missed = measure(given.short)
    result = LadderResult("Fashion-MNIST: learning rates", [table], missed, comparable=not given.short)
    given.out.write_text(result.markdown(" ".join(["python", *sys.argv])), encoding="utf-8")
    for line in missed:
        print(line)
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
