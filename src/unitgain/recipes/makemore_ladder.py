"""unitgain ladder makemore: the lecture's five variants beside its losses, its loop's speed and its hand-picked rate.

Source of the published figures: A. Karpathy, "Neural Networks: Zero to Hero", makemore part 3. They are what the
lecture's code gives under torch 2.13 on a CPU, equal to the digits that the notebook prints where it prints them, but
for batchnorm (notebook: train 2.0668, val 2.1048). Ours follow the same random stream; what is left is rounding, which
200,000 steps make larger.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from .._base import InputError, say
from ..data import load_names
from ..targets import parse_settings
from .ladder import LadderOptions, LadderResult, Table
from .makemore import MakemoreConfig, Training, learner, make_model, train_on
from .makemore_plain import PlainLoop
from .settings import override

NAMES = "a9709ebc7a567f82800674afbc0e06c5f37b266b339e78de606f7a8023d4b118"  # SHA-256 of the lecture's, sorted
LARGEST = 0.002  # difference of a loss after all steps
LARGEST_INITIAL = 1e-4
LEAST_RATIO = 3.0  # of steps per second, for the variant with BatchNorm
LARGEST_POINTS = 1.0  # of accuracy, by which the suggested rate may be worse than the hand-picked one
_BY_RECIPE = MakemoreConfig()


@dataclass(frozen=True)
class Published:
    """Losses: initial is the first batch's, train and val are those of whole splits. NaN: not known."""

    initial: float
    train: float
    val: float


PUBLISHED = {
    "original": Published(27.8817, 2.1220, 2.1655),
    "softmax": Published(3.3221, 2.0696, 2.1311),
    "tanh": Published(3.3135, 2.0356, 2.1027),
    "kaiming": Published(math.nan, 2.0377, 2.1070),
    "batchnorm": Published(3.3239, 2.0674, 2.1057),
}


def run(options: LadderOptions, say: Callable[[str], None] = say) -> LadderResult:
    """Losses, speed and learning rates, one table each.

    Raises InputError for settings that each rung decides by itself.
    """
    ladder = _Ladder(options, say)
    tables = [ladder.losses(), ladder.rates(), ladder.speed()]
    return LadderResult("makemore, variant by variant", tables, ladder.missed, ladder.final_applies)


class _Ladder:
    """base: the settings that all variants share; found: {variant: the metrics of each seed}."""

    def __init__(self, options: LadderOptions, say: Callable[[str], None]):
        given = parse_settings(options.settings)
        for key in ("variant", "preset", "every"):
            if key in given:
                raise InputError(f"--set {key}: a ladder decides this by itself; leave it out")
        base = override(
            replace(_BY_RECIPE, every=0, steps=2000 if options.short else _BY_RECIPE.steps), given
        )
        self.base = base if "drop_at" in given else replace(base, drop_at=base.steps // 2)
        self.seeds, self.short, self.say = options.seeds or 1, options.short, say
        self.names = load_names(base.names or None)
        digest = hashlib.sha256("\n".join(sorted(self.names.words)).encode()).hexdigest()
        same_stream = (
            digest == NAMES and base.seed == _BY_RECIPE.seed and base.batch_size == _BY_RECIPE.batch_size
        )
        self.initial_applies = same_stream
        self.final_applies = (
            same_stream and replace(self.base, every=_BY_RECIPE.every, names="") == _BY_RECIPE
        )
        self.found: dict[str, list[dict[str, float]]] = {}
        self.missed: list[str] = []

    def _config(self, variant: str, seed: int | None = None) -> MakemoreConfig:
        return override(self.base, {"variant": variant, "seed": self.base.seed if seed is None else seed})

    def _train(self, config: MakemoreConfig) -> dict[str, float]:
        return train_on(self.names, config, say=_silent).metrics

    # ---- losses --------------------------------------------------------------------------------------------

    def losses(self) -> Table:
        base, rows = self.base, []
        for variant, published in PUBLISHED.items():
            runs = [self._train(self._config(variant, base.seed + s)) for s in range(self.seeds)]
            self.found[variant] = runs
            self.say(f"{variant}: val loss {runs[0]['val_loss']:.4f}")
            self._compare(variant, runs[0], published)
            row = [variant]
            for split, applies in (("initial", self.initial_applies), ("train", self.final_applies),
                                   ("val", self.final_applies)):  # fmt: skip
                theirs = getattr(published, split) if applies else math.nan
                row += [f"{runs[0][f'{split}_loss']:.4f}", "" if math.isnan(theirs) else f"{theirs:.4f}"]
            row.append(
                f"{round(runs[0]['val_loss'] - published.val, 4) + 0.0:+.4f}" if self.final_applies else ""
            )
            if self.seeds > 1:
                values = [r["val_loss"] for r in runs]
                row.append(f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}")
            rows.append(row)
        columns = [
            "variant",
            ">initial",
            ">published",
            ">train",
            ">published",
            ">val",
            ">published",
            ">difference",
        ]
        columns += [f">val, {self.seeds} seeds"] * (self.seeds > 1)
        more = f" and the {self.seeds - 1} after it (mean ± standard deviation)" if self.seeds > 1 else ""
        notes = [
            f"{base.steps:,d} steps of SGD, batches of {base.batch_size}, learning rate {base.lr:g} and from step "
            f"{base.drop_at:,d} on {base.late_lr:g}; {len(self.names.words):,d} names ({self.names.source}); seed "
            f"{base.seed}{more}. An even guess has the loss ln 27 = {math.log(27):.4f}."
        ]
        if not self.final_applies:
            notes.append(
                "These are not the lecture's settings and names, for which the published losses are."
            )
        return Table("Losses", columns, rows, notes)

    def _compare(self, variant: str, found: dict[str, float], published: Published) -> None:
        gap = abs(found["initial_loss"] - published.initial)
        if self.initial_applies and gap > LARGEST_INITIAL:
            self.missed.append(
                f"{variant}: the initial loss is {found['initial_loss']:.4f}, not {published.initial}"
            )
        for split in ("train", "val") if self.final_applies else ():
            gap = found[f"{split}_loss"] - getattr(published, split)
            if abs(gap) > LARGEST:
                self.missed.append(f"{variant}: the {split} loss is off by {gap:+.4f}, more than {LARGEST}")

    # ---- learning rates ------------------------------------------------------------------------------------

    def rates(self) -> Table:
        """lr_find's suggestion beside the hand-picked rate."""
        base, rows = self.base, []
        for variant, runs in self.found.items():
            config, by_hand = self._config(variant), runs[0]["val_accuracy"]
            learn = learner(config, self.names)
            before = [t.clone() for t in learn.model.state_dict().values()]
            rate = learn.lr_find(1e-4, 10.0, 100 if self.short else 1000).suggestion
            same = all(torch.equal(a, b) for a, b in zip(before, learn.model.state_dict().values()))
            if not same:
                self.missed.append(f"{variant}: lr_find changed the model")
            row = [variant, "yes" if same else "no", f"{config.lr:g}", f"{by_hand:.2%}"]
            accuracy = math.nan if rate is None else self._accuracy_at(config, rate)
            found = "none" if rate is None else f"{rate:.2g}"
            points = 100 * (accuracy - by_hand)
            self.say(f"{variant}: suggested rate {found}, {points:+.2f} points of accuracy")
            rows.append(
                [*row, "none" if rate is None else f"{rate:.2g}", f"{accuracy:.2%}", f"{points:+.2f}"]
            )
            if not points >= -LARGEST_POINTS and not self.short:
                self.missed.append(
                    f"{variant}: the suggested rate {found} gives {points:+.2f} points of accuracy"
                )
        columns = [
            "variant",
            "model as before",
            ">rate by hand",
            ">accuracy",
            ">lr_find's",
            ">accuracy",
            ">points",
        ]
        notes = [
            f"accuracy: characters of the validation names guessed right after {base.steps:,d} steps; from step "
            f"{base.drop_at:,d} on the rate is {base.late_lr:g} in either case. The sweep has as many steps as the "
            "lecture's (1,000); model as before: weights and buffers are bit for bit the same after it."
        ]
        return Table("Learning rates", columns, rows, notes)

    def _accuracy_at(self, config: MakemoreConfig, rate: float) -> float:
        try:
            return self._train(replace(config, lr=rate))["val_accuracy"]
        except InputError:
            return math.nan  # it diverged

    # ---- speed ---------------------------------------------------------------------------------------------

    def speed(self) -> Table:
        """Both loops take turns, so that whatever else the machine does falls on both; each round gives a ratio."""
        rounds, steps = (3, 50) if self.short else (15, 500)
        rows = []
        for variant in PUBLISHED:
            with _one_thread():
                ours, theirs, apart = self._race(variant, rounds, steps)
            ratios = [a / b for a, b in zip(ours, theirs)]
            ratio = statistics.median(ratios)
            self.say(f"{variant}: {ratio:.2f} times the plain loop's steps per second")
            rows.append([
                variant, f"{statistics.median(theirs):,.0f}", f"{statistics.median(ours):,.0f}", f"{ratio:.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}", f"{apart:.0e}",
            ])  # fmt: skip
            if variant == "batchnorm" and ratio < LEAST_RATIO and not self.short:
                self.missed.append(
                    f"batchnorm: {ratio:.2f} times the plain loop's speed, less than {LEAST_RATIO:g}"
                )
        columns = [
            "variant",
            ">plain, steps/s",
            ">ours, steps/s",
            ">ratio",
            ">least to most",
            ">losses apart",
        ]
        notes = [
            f"Medians of {rounds} rounds, in each of which both loops train in turn on one thread. plain: the lecture's"
            " loop restated, autograd and all (recipes/makemore_plain.py). ours: unitgain train makemore, every loss "
            "recorded. losses apart: largest difference between the two loops' losses over the first 100 steps; "
            "saturated as it is, the variant original multiplies rounding from step to step."
        ]
        return Table("Speed", columns, rows, notes)

    def _race(self, variant: str, rounds: int, steps: int) -> tuple[list[float], list[float], float]:
        """Steps per second in each round: ours, the plain loop's; and how far apart their first 100 losses are."""
        turn = 4 * steps  # of ours, to about as many seconds
        config = replace(self._config(variant), steps=10**9, drop_at=10**9, save_every=turn)
        ours, plain = Training(config, self.names), self._plain(config)
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

    def _plain(self, config: MakemoreConfig) -> PlainLoop:
        generator = torch.Generator().manual_seed(config.seed)
        model, train = make_model(config, generator), self.names.train
        return PlainLoop(model, train.x, train.y, config.batch_size, generator)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _silent(_: str) -> None:
    pass
