"""What lr_find suggests on every rung of the Fashion-MNIST ladder and on sick variants, and what trains at it.

For each network and seed: one `Learner.lr_find()` with its defaults, then whole trainings (the rung's epochs, the same
seed) at the rate by hand, at the suggested rate, at the top of the suggested range, at the rate at which a trial died,
and at what the sweep alone would have suggested. A training dies if its loss stops being finite or its test accuracy
ends below 30%. Sick variants should get no rate, and the finding to cure first.

Every measurement is kept in a file of lines, so that an interrupted run goes on where it was, and several may share the
work (--rungs). Trainings by hand stay valid when lr_find changes; --again does the others anew.

    python experiments/lr_find_ladder.py --to FILE.jsonl [--rungs 1 2 3] [--seeds 0 1] [--again]
    python experiments/lr_find_ladder.py --to FILE.jsonl --table
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unitgain import InputError
from unitgain.recipes import fashion_mnist as recipe
from unitgain.train import Learner

DEAD = 0.3  # of accuracy: a training that ends below has died; a guess is 0.1


def gaussian(model: nn.Module) -> None:
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.normal_(p)


def confident(model: nn.Module) -> None:
    with torch.no_grad():
        model.get_parameter("head.weight").mul_(30)


def silent(model: nn.Module) -> None:
    with torch.no_grad():
        model.get_parameter("conv2.bias").fill_(-30)


def tiny(model: nn.Module) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.01 if p.dim() > 1 else 0)


def softmax(model: nn.Module) -> None:
    model.add_module("softmax", nn.Softmax(1))


# name: (rung, what makes it sick)
SICK: dict[str, tuple[int, Callable[[nn.Module], None]]] = {
    "3, all weights N(0, 1)": (3, gaussian),
    "3, second layer silent": (3, silent),
    "3, weights x 0.01": (3, tiny),
    "3, head x 30": (3, confident),
    "7, a softmax before the loss": (7, softmax),
}


def configured(name: str) -> tuple[recipe.FashionConfig, Callable[[nn.Module], None]]:
    if name in SICK:
        rung, spoil = SICK[name]
        return recipe.RUNGS[rung][1], spoil
    return recipe.RUNGS[int(name)][1], lambda model: None


def learner(name: str, seed: int, images: recipe.Images, rate: float | None = None) -> Learner:
    config, spoil = configured(name)
    config = replace(config, seed=seed, lr=config.lr if rate is None else rate)
    learn = recipe.make_learner(config, images)
    spoil(learn.model)
    return learn


def trained(name: str, seed: int, images: recipe.Images, rate: float) -> float:
    """Test accuracy; NaN where the loss became NaN or infinite."""
    config, _ = configured(name)
    learn = learner(name, seed, images, rate)
    try:
        learn.fit(config.epochs, valid=False)
        if config.late_epochs:
            for group in learn.optimizer.param_groups:
                group["lr"] = config.late_lr * rate / config.lr
            learn.fit(config.late_epochs, valid=False)
    except InputError:
        return math.nan
    if not math.isfinite(learn.metrics["train_loss"]):
        return math.nan
    return recipe.evaluate(learn.model, images.test, flip=False, shift=0, fill=0.0, bfloat16=False)[0]


def measure(name: str, seed: int, images: recipe.Images, known: dict[str, Any] | None) -> dict[str, Any]:
    config, _ = configured(name)
    begin = time.process_time()
    found = learner(name, seed, images).lr_find()
    row: dict[str, Any] = {
        "name": name,
        "seed": seed,
        "by_hand": config.lr,
        "suggestion": found.suggestion,
        "valley": found.valley,
        "range": found.range,
        "cliff": found.cliff,
        "confidence": found.confidence,
        "reason": found.reason,
        "trials": len(found.trials),
        "seconds": round(time.process_time() - begin, 1),
    }
    rates = {
        "at_hand": config.lr,
        "at_suggestion": found.suggestion,
        "at_top": None if found.range is None else found.range[1],
        "at_cliff": found.cliff,
        "at_valley": found.valley,
    }
    done: dict[float, float] = {}
    for what, rate in rates.items():
        if what == "at_hand" and known is not None:
            row[what] = known[what]
            done[config.lr] = known[what]
        elif rate is not None:
            if rate not in done:
                done[rate] = trained(name, seed, images, rate)
            row[what] = done[rate]
    return row


def read(file: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The last line of each network and seed."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {(row["name"], row["seed"]): row for row in map(json.loads, lines)}


def table(rows: list[dict[str, Any]]) -> str:
    columns = {
        "by hand": ("by_hand", "at_hand"),
        "suggested": ("suggestion", "at_suggestion"),
        "sweep alone": ("valley", "at_valley"),
        "top of range": ("top", "at_top"),
        "a trial died at": ("cliff", "at_cliff"),
    }
    lines = [f"| network | seed | {' | '.join(columns)} | confidence | trials | CPU s |",
             "|" + "---|" * (len(columns) + 5)]  # fmt: skip
    for row in rows:
        row = {**row, "top": row["range"][1] if row["range"] else None}
        cells = [_cell(row.get(rate), row.get(end)) for rate, end in columns.values()]
        confidence = row["confidence"] or row["reason"].split(";")[0]
        lines.append(
            f"| {row['name']} | {row['seed']} | {' | '.join(cells)} | {confidence} | {row['trials']} | "
            f"{row['seconds']:.0f} |"
        )
    healthy = [row for row in rows if row["name"] not in SICK]
    given = [row for row in healthy if row["suggestion"] is not None]
    died = [row for row in given if not row["at_suggestion"] >= DEAD]
    valley_died = [
        row for row in healthy if row.get("at_valley") is not None and not row["at_valley"] >= DEAD
    ]
    near = [row for row in given if row["at_suggestion"] >= row["at_hand"] - 0.01 or not row["at_hand"] >= 0]
    top = [row for row in given if row.get("at_top") is not None and not row["at_top"] >= DEAD]
    cliffs = [row for row in given if row["cliff"] is not None]
    fell = [row for row in cliffs if not row["at_cliff"] >= DEAD]
    refused = [row for row in rows if row["name"] in SICK and row["suggestion"] is None]
    lines += ["", f"- rungs and seeds: {len(healthy)}; a rate suggested: {len(given)}; died at it: {len(died)}",
              f"- trainings that died at what the sweep alone suggests: {len(valley_died)}",
              f"- accuracy there at most a point below that by hand, or above: {len(near)} of {len(given)}",
              f"- trainings that died at the top of the range: {len(top)}",
              f"- a trial died: {len(cliffs)}; whole trainings at that rate that died: {len(fell)}",
              f"- sick variants refused: {len(refused)} of {sum(r['name'] in SICK for r in rows)}"]  # fmt: skip
    return "\n".join(lines)


def _cell(rate: float | None, accuracy: float | None) -> str:
    if rate is None:
        return "none"
    shown = "" if accuracy is None else " NaN" if math.isnan(accuracy) else f" {accuracy:.1%}"
    return f"{rate:.2g}:{shown}"


def main() -> None:
    parser = argparse.ArgumentParser(description="lr_find on the Fashion-MNIST ladder.")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--rungs", nargs="*", default=[*map(str, range(1, 14)), *SICK])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if given.table:
        rows = read(given.to)
        names = [*map(str, range(1, 14)), *SICK]
        print(table([rows[key] for key in sorted(rows, key=lambda key: (names.index(key[0]), key[1]))]))
        return
    before = read(given.to)
    images: dict[bool, recipe.Images] = {}
    for seed in given.seeds:
        for name in given.rungs:
            known = before.get((name, seed))
            if known is not None and not given.again:
                continue
            config, _ = configured(name)
            if config.normalize not in images:
                images[config.normalize] = recipe.load(config)
            row = measure(name, seed, images[config.normalize], known)
            with given.to.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
