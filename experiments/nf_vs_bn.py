"""The same small ResNet with BatchNorm and normalizer-free on Fashion-MNIST: accuracy by batch size, and step times.

    python experiments/nf_vs_bn.py --run DIR --out benchmarks/results/DATE-nf-vs-bn.md      all stages
    python experiments/nf_vs_bn.py --run DIR --stage tune|train|time|report                 one of them

tune finds each network's learning rate, and AGC's factor, at each batch size on held-out training images; train uses
them on all training images and judges by the test images. What is in DIR already is not repeated, so an interrupted run
continues. Step times are interleaved: a round takes one step of every variant in random order; medians over --seconds
per batch size. They need a machine without other load, so they can be measured separately.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from unitgain._base import say
from unitgain.optim import AGC
from unitgain.recipes import RunFolder, as_json, nf_vs_bn, processor
from unitgain.recipes._small_resnet import SmallResNet, Variant
from unitgain.recipes.nf_vs_bn import NETS, Images, Net, NfVsBnConfig

TRIAL = (25_600, 16_000, 8_000)  # examples per trial of a rate, at the three batch sizes
GRID = (0.2, 0.4, 0.8)  # rates at batch 256; times the square root of batch/256 at others
CLIPPING = 0.04  # where the search for AGC's factor begins at batch 256; divided by that root at others
_RATE_STEP, _CLIPPING_STEP = 2.0, 4.0  # from one value to the next
_FURTHER = 3  # values beyond an end of the grid, at most
_HELD_OUT = 10_000
NAMES = {"batchnorm": "BatchNorm", "normfree": "normalizer-free"}


def tune(
    config: NfVsBnConfig,
    examples: dict[int, int],
    known: dict[str, float],
    keep: Callable[[], None],
    say: Callable[[str], None] = say,
) -> dict[str, float]:
    """The settings with the best held-out accuracy: {"NET BATCH": rate}, and AGC's factor {"clipping BATCH": c}.

    The last 10,000 training images in a fixed random order are held out, so test images have no influence; seed 0;
    BatchNorm is evaluated with exact statistics. GRID times the square root of batch/256 is tried; while the best rate
    is at one of its ends, another one beyond that end, up to three times. Then, with the normalizer-free network's
    rate, AGC's factor in the same way: CLIPPING over that root, a quarter of it and four times as much.

    examples  seen in each trial, per batch size
    known     {"batchnorm BATCH RATE" or "normfree BATCH RATE CLIPPING": percent}: what is there is not trained again;
              what is new is put in, and `keep` called
    """
    (x, y), _ = nf_vs_bn.read_data(config)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    kept, held_out = order[:-_HELD_OUT], order[-_HELD_OUT:]
    parts = (x[kept], y[kept]), (x[held_out], y[held_out])

    def score(net: Net, batch_size: int, clipping: float, lr: float) -> float:
        key = f"{net} {batch_size} {lr:.4g}" + (f" {clipping:.4g}" if net == "normfree" else "")
        if key not in known:
            trial = replace(config, clipping=(clipping,) * len(config.batch_sizes))
            found = nf_vs_bn.fit(trial, net, batch_size, examples[batch_size], lr, 0, *parts)[1]
            known[key] = found.exact_accuracy
            say(f"tuning {key}: {found.exact_accuracy:.2f}%")
            keep()
        return known[key]

    best: dict[str, float] = {}
    for b in config.batch_sizes:
        root = (b / 256) ** 0.5
        rates, clipping = [rate * root for rate in GRID], CLIPPING / root
        for net in NETS:
            best[f"{net} {b}"] = _search(rates, _RATE_STEP, partial(score, net, b, clipping))
        factors = [clipping / _CLIPPING_STEP, clipping, clipping * _CLIPPING_STEP]
        with_rate = partial(score, "normfree", b, lr=best[f"normfree {b}"])
        best[f"clipping {b}"] = _search(factors, _CLIPPING_STEP, with_rate)
    return best


def _search(values: list[float], spacing: float, score: Callable[[float], float]) -> float:
    """The value of the highest score, to four digits; while it is at an end, one more is tried beyond it."""
    top = max(values, key=score)
    for _ in range(_FURTHER):
        if values[0] < top < values[-1]:
            break
        values = [values[0] / spacing, *values] if top == values[0] else [*values, values[-1] * spacing]
        top = max(values, key=score)
    return float(f"{top:.4g}")


def step_times(config: NfVsBnConfig, batch_size: int, data: Images, seconds: float) -> dict[str, float]:
    """Median seconds of a training step of each variant, at one of the configuration's batch sizes: "batchnorm", "bare"
    (the same without its norms), "normfree", and "unclipped" (normfree without AGC). Each round runs all of them in
    random order, for about so many seconds."""
    batch = data[0][:batch_size], data[1][:batch_size]
    variants: dict[str, tuple[Variant, bool]] = {
        "batchnorm": ("batchnorm", False), "bare": ("bare", False), "normfree": ("normfree", True),
        "unclipped": ("normfree", False),
    }  # fmt: skip
    generator, times = random.Random(0), {name: [] for name in variants}
    with _steppers(config, variants, batch, config.clipping_at(batch_size)) as steps:
        for step in steps.values():
            step()
            step()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times["bare"]) < 3:
            for name in generator.sample(list(steps), len(steps)):
                began = time.perf_counter()
                steps[name]()
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


@contextmanager
def _steppers(
    config: NfVsBnConfig, variants: dict[str, tuple[Variant, bool]], batch: Images, clipping: float
) -> Iterator[dict[str, Callable[[], None]]]:
    steps: dict[str, Callable[[], None]] = {}
    clips: list[Any] = []
    for name, (variant, clipped) in variants.items():
        model = SmallResNet(variant, config.channels, config.depths, alpha=config.alpha)
        optimizer = nf_vs_bn.make_optimizer(model, 1e-3, config)
        if clipped and clipping:
            clips.append(AGC(optimizer, model, clipping=clipping))
        steps[name] = _step(model, optimizer, batch)
    try:
        yield steps
    finally:
        for clip in clips:
            clip.remove()


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Images) -> Callable[[], None]:
    def step() -> None:
        F.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def folder(path: str, config: NfVsBnConfig) -> RunFolder:
    return RunFolder(path, "nf-vs-bn", as_json(config), resume=True)


def run_search(config: NfVsBnConfig, run: RunFolder) -> None:
    path = run.path / "tuning.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"accuracy": {}}
    known = stored["accuracy"]
    seen = dict(zip(config.batch_sizes, (min(n, m) for n, m in zip(config.examples, TRIAL))))
    best = tune(config, seen, known, lambda: run.write_json("tuning.json", {"accuracy": known}), say)
    run.write_json("tuning.json", {"accuracy": known, "examples": list(seen.values()), "best": best})


def tuned(config: NfVsBnConfig, run: RunFolder) -> NfVsBnConfig:
    """The settings with the rates that were found; as they are where tuning has not ended."""
    path = run.path / "tuning.json"
    best = json.loads(path.read_text(encoding="utf-8")).get("best") if path.exists() else None
    if best is None:
        return config
    rates = {f"{n}_lr": tuple(best[f"{n} {b}"] for b in config.batch_sizes) for n in NETS}
    return replace(config, **rates, clipping=tuple(best[f"clipping {b}"] for b in config.batch_sizes))


def check_trained_with(config: NfVsBnConfig, run: RunFolder) -> None:
    """Trainings that are there already must have had these rates and factors."""
    path = run.path / "trained-with.json"
    if not path.exists() or json.loads(path.read_text(encoding="utf-8")) != json.loads(
        json.dumps(as_json(config))
    ):
        raise SystemExit(f"{run.path}: its trainings had other rates or factors; begin in another folder")


def measure_times(config: NfVsBnConfig, run: RunFolder, seconds: float) -> None:
    train_set, _ = nf_vs_bn.read_data(config)
    times = {}
    for batch_size in config.batch_sizes:
        times[str(batch_size)] = step_times(config, batch_size, train_set, seconds)
        say(f"batch {batch_size}: {times[str(batch_size)]}")
    run.write_json("times.json", {"seconds": seconds, "times": times})


def report(config: NfVsBnConfig, run: RunFolder) -> str:
    scores = json.loads((run.path / "trainings.json").read_text(encoding="utf-8"))["scores"]
    timed = json.loads((run.path / "times.json").read_text(encoding="utf-8"))
    trials = json.loads((run.path / "tuning.json").read_text(encoding="utf-8"))
    m = nf_vs_bn.summarize(config, scores)
    seeds = len(config.seeds)
    lines = [
        "# BatchNorm and normalizer-free: the same small ResNet on Fashion-MNIST",
        "",
        f"{datetime.date.today()}; python {platform.python_version()}, torch {torch.__version__}, one thread, "
        f"{processor()}",
        "",
        f"command: make nf-vs-bn; seeds {', '.join(map(str, config.seeds))}; channels {config.channels}, depths "
        f"{config.depths}, weight decay {config.weight_decay:g}; training took "
        f"{sum(s[2] for s in scores.values()) / 60:.0f} minutes (other programs were running)",
        "",
        f"## Test accuracy, percent: mean of {seeds} seeds (standard deviation)",
        "",
        "| batch | examples seen | steps | BatchNorm | BatchNorm, exact statistics | normalizer-free | difference |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for b, examples in zip(config.batch_sizes, config.examples):
        cells = [f"{m[f'{n}_{b}']:.2f} ({m[f'{n}_{b}_spread']:.2f})" for n in NETS]
        difference = m[f"normfree_{b}"] - m[f"batchnorm_{b}"]
        lines.append(
            f"| {b} | {examples // b * b:,d} | {examples // b:,d} | {cells[0]} | {m[f'batchnorm_{b}_exact']:.2f} | "
            f"{cells[1]} | {difference:+.2f} |"
        )
    lines += [
        "",
        "Each training:",
        "",
        "| batch | seed | network | rate | clipping | accuracy | exact statistics |",
        "|---:|---:|---|---:|---:|---:|---:|",
    ]
    for b in config.batch_sizes:
        for seed in config.seeds:
            for n in NETS:
                score = scores[f"{n} {b} {seed}"]
                exact = f"{score[1]:.2f}" if n == "batchnorm" else ""
                clipping = f"{config.clipping_at(b):g}" if n == "normfree" else ""
                lines.append(
                    f"| {b} | {seed} | {NAMES[n]} | {config.rate(n, b):g} | {clipping} | {score[0]:.2f} | {exact} |"
                )
    lines += [
        "",
        f"Rates and AGC's factor were chosen on 10,000 held-out training images after "
        f"{', '.join(map(str, trials['examples']))} examples (percent right, BatchNorm with exact statistics; of the "
        "normalizer-free network rate/factor):",
        "",
    ]
    for b in config.batch_sizes:
        for n in NETS:
            tried = {
                tuple(k.split()[2:]): v for k, v in trials["accuracy"].items() if k.startswith(f"{n} {b} ")
            }
            cells = [
                f"{'/'.join(what)} {v:.2f}"
                for what, v in sorted(tried.items(), key=lambda t: [float(x) for x in t[0]])
            ]
            lines.append(f"- batch {b}, {NAMES[n]}: {', '.join(cells)}")
    lines += [
        "", f"## A training step, ms: medians of interleaved rounds, {timed['seconds']:g} s per batch size", "",
        "| batch | BatchNorm | without its norms | share of BatchNorm | normalizer-free | without AGC |",
        "|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for b in config.batch_sizes:
        t = {name: 1e3 * value for name, value in timed["times"][str(b)].items()}
        lines.append(
            f"| {b} | {t['batchnorm']:.2f} | {t['bare']:.2f} | {1 - t['bare'] / t['batchnorm']:.0%} | "
            f"{t['normfree']:.2f} | {t['unclipped']:.2f} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="runs/nf-vs-bn")
    parser.add_argument("--stage", choices=("tune", "train", "time", "report", "all"), default="all")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out")
    parser.add_argument("--short", action="store_true", help="a few steps: does it run?")
    options: Any = parser.parse_args()
    torch.set_num_threads(1)
    config = nf_vs_bn.RECIPE.presets["short"] if options.short else NfVsBnConfig()
    run = folder(options.run, config)
    if options.stage in ("tune", "all"):
        run_search(config, run)
    config = tuned(config, run)
    if options.stage in ("train", "all"):
        if (run.path / "trainings.json").exists():
            check_trained_with(config, run)
        run.write_json("trained-with.json", as_json(config))
        nf_vs_bn.train(config, run, resume=True, say=say)
    if options.stage in ("time", "all"):
        measure_times(config, run, options.seconds)
    if options.stage in ("report", "all"):
        text = report(config, run)
        print(text)
        if options.out:
            Path(options.out).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
