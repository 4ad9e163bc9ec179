"""Accuracy and time of the recipe fashion-mnist: five seeds of the default, three of the preset best.

    python experiments/fashion_mnist.py --out FILE.md [--default-seeds 5] [--best-seeds 3] [--short]

Every run is the recipe's own, as `unitgain train fashion-mnist` makes it, with everything measured; seconds are those
of training, measuring included. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from unitgain.data import ImageSplit
from unitgain.recipes import LadderResult, Outcome, Table, fashion_mnist

TARGETS = {
    "default": (0.90, 8.0),
    "best": (0.94, 600.0),
}  # of each run: accuracy at least, seconds of training at most


def measure(preset: str, seeds: int, short: bool) -> tuple[Table, list[str]]:
    """One run per seed; what missed its target."""
    config = fashion_mnist.PRESETS[preset]
    if short:
        config = replace(config, epochs=1)
    images = fashion_mnist.load(config)
    if short:
        images = fashion_mnist.Images(
            *(ImageSplit(s.images[:2048], s.labels[:2048]) for s in (images.train, images.test))
        )
    rows: list[list[str]] = []
    outcomes: list[Outcome] = []
    missed: list[str] = []
    least, most = TARGETS[preset]
    for seed in range(seeds):
        time.sleep(0 if short else 3)
        outcome = fashion_mnist.train(replace(config, seed=seed), images=images)
        accuracy, record = outcome.metrics["test_accuracy"], outcome.record
        assert record is not None
        measured = len(set(record.frame("activation")["step"]))
        record.close()
        outcomes.append(replace(outcome, record=None))
        rows.append([str(seed), f"{accuracy:.2%}", f"{outcome.metrics['test_loss']:.4f}", f"{outcome.seconds:.2f}",
                     str(measured)])  # fmt: skip
        print(f"{preset}, seed {seed}: {accuracy:.2%}, {outcome.seconds:.2f} s", flush=True)
        if not short and accuracy < least:
            missed.append(f"{preset}, seed {seed}: {accuracy:.2%}, less than {least:.0%}")
        if not short and outcome.seconds > most:
            missed.append(f"{preset}, seed {seed}: {outcome.seconds:.1f} s, more than {most:g}")
    accuracies = [o.metrics["test_accuracy"] for o in outcomes]
    seconds = [o.seconds for o in outcomes]
    rows.append(["mean", f"{statistics.mean(accuracies):.2%}", "", f"{statistics.mean(seconds):.2f}", ""])
    parameters = sum(p.numel() for p in outcomes[0].model.parameters())
    title = "The default" if preset == "default" else "--set preset=best"
    notes = [
        f"{parameters:,d} parameters, {config.epochs} epochs. Steps measured: by a Probe, histograms included."
    ]
    return Table(
        title, [">seed", ">test accuracy", ">test loss", ">seconds", ">steps measured"], rows, notes
    ), missed


def main() -> int:
    parser = argparse.ArgumentParser(description="Five seeds of the default, three of best.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--default-seeds", type=int, default=5)
    parser.add_argument("--best-seeds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="one epoch of few images: does it run?")
    given = parser.parse_args()
    tables, missed = [], []
    for preset, seeds in (("default", given.default_seeds), ("best", given.best_seeds)):
        if seeds:
            table, late = measure(preset, seeds, given.short)
            tables.append(table)
            missed += late
    result = LadderResult(
        "Fashion-MNIST: the default and the best", tables, missed, comparable=not given.short
    )
    given.out.write_text(result.markdown(" ".join(["python", *sys.argv])), encoding="utf-8")
    for line in missed:
        print(line)
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
