"""unitgain ladder makemore: the lecture's five variants, beside the losses that it gives for them.

Source of the published figures: A. Karpathy, "Neural Networks: Zero to Hero", makemore part 3. They are what the
lecture's code gives under torch 2.13 on a CPU, equal to the digits that the notebook prints where it prints them, but
for batchnorm (notebook: train 2.0668, val 2.1048). Ours follow the same random stream; the rest is rounding, which
200,000 steps amplify.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..._base import InputError, say
from ...data import load_names
from ...targets import parse_settings
from .._ladder import LadderOptions, LadderResult, Table
from .._settings import override
from ..makemore import MakemoreConfig, train_on

NAMES = "a9709ebc7a567f82800674afbc0e06c5f37b266b339e78de606f7a8023d4b118"  # SHA-256 of the lecture's, sorted
LARGEST = 0.002  # allowed difference of a loss after all steps
LARGEST_INITIAL = 1e-4
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
    """One table of losses. Raises InputError for settings that each rung decides by itself."""
    ladder = _Ladder(options, say)
    return LadderResult(
        "makemore, variant by variant", [ladder.losses()], ladder.missed, ladder.final_applies
    )


class _Ladder:
    """base: the settings that all variants share."""

    def __init__(self, options: LadderOptions, say: Callable[[str], None]):
        given = parse_settings(options.settings)
        for key in ("variant", "preset", "every"):
            if key in given:
                raise InputError(f"--set {key}: the ladder sets this itself; omit it")
        steps = 2000 if options.short else _BY_RECIPE.steps
        base = override(replace(_BY_RECIPE, every=0, steps=steps), given)
        self.base = base if "drop_at" in given else replace(base, drop_at=base.steps // 2)
        self.seeds, self.say = options.seeds or 1, say
        self.names = load_names(base.names or None)
        digest = hashlib.sha256("\n".join(sorted(self.names.words)).encode()).hexdigest()
        same_stream = (
            digest == NAMES and base.seed == _BY_RECIPE.seed and base.batch_size == _BY_RECIPE.batch_size
        )
        self.initial_applies = same_stream
        self.final_applies = (
            same_stream and replace(self.base, every=_BY_RECIPE.every, names="") == _BY_RECIPE
        )
        self.missed: list[str] = []

    def losses(self) -> Table:
        base, rows = self.base, []
        for variant, published in PUBLISHED.items():
            configs = [override(base, {"variant": variant, "seed": base.seed + s}) for s in range(self.seeds)]
            runs = [train_on(self.names, config, say=lambda line: None).metrics for config in configs]
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
            f"{base.seed}{more}. Equal probabilities for all 27 characters have the loss ln 27 = {math.log(27):.4f}."
        ]
        if not self.final_applies:
            notes.append("The published losses are for the lecture's settings and names; these differ.")
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
