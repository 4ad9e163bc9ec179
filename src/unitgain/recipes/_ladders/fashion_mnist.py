"""unitgain ladder fashion-mnist: seventeen rungs from torch's defaults to residual networks, beside published figures.

Source of the published figures: J. Howard, "Practical Deep Learning for Coders" part 2, lessons 17 to 19 (fast.ai);
one seed each, as the author printed them. Ours are means over seeds; half a point below counts as seed noise.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace

from ..._base import InputError, say
from ...data import ImageSplit
from ...targets import literal, parse_settings
from .. import fashion_mnist
from .._ladder import LadderOptions, LadderResult, Table
from .._settings import override
from ..fashion_mnist import RUNGS, FashionConfig, Images

PUBLISHED = {
    1: 0.45, 2: 0.70, 3: 0.853, 4: 0.872, 5: 0.866, 6: 0.874, 7: 0.849, 8: 0.899, 9: 0.852, 10: 0.876, 11: 0.853,
    12: 0.871, 13: 0.906, 14: 0.917, 15: 0.928, 16: 0.934, 17: 0.945,
}  # fmt: skip
RERUN = {13: 0.898}  # the author's own code, run again on two CPU cores under torch 2.13
COMPARED = range(3, 18)  # the first two show what goes wrong without the remedies
NOISE = 0.005  # of a mean over seeds, below the published figure
SEEDS = 3


def run(options: LadderOptions, say: Callable[[str], None] = say) -> LadderResult:
    """One table of accuracies.

    `--set rungs=[3,7]` chooses rungs; other settings hold for all of them. Raises InputError for a rung that does not
    exist and for settings that each rung decides by itself.
    """
    ladder = _Ladder(options, say)
    return LadderResult("Fashion-MNIST, rung by rung", [ladder.accuracies()], ladder.missed, ladder.applies)


class _Ladder:
    def __init__(self, options: LadderOptions, say: Callable[[str], None]):
        given = parse_settings(options.settings)
        for key in ("rung", "preset", "network", "seed"):
            if key in given:
                raise InputError(
                    f"--set {key}: the ladder sets this itself; choose rungs with --set rungs=[3,7]"
                )
        chosen = literal(given.pop("rungs")) if "rungs" in given else sorted(RUNGS)
        chosen = chosen if isinstance(chosen, list) else [chosen]
        unknown = next((rung for rung in chosen if rung not in RUNGS), None)
        if unknown is not None:
            raise InputError(
                f"--set rungs={chosen}: there is no rung {unknown!r}; they are 1 to {max(RUNGS)}"
            )
        short = {"epochs": 1, "late_epochs": 0, "batch_size": 64} if options.short else {}
        self.configs = {rung: override(replace(RUNGS[rung][1], **short), given) for rung in chosen}
        free = {"data", "every"}  # settings that change no accuracy
        self.applies = not options.short and set(given) <= free
        self.seeds = options.seeds or (1 if options.short else SEEDS)
        self.short, self.say = options.short, say
        self.missed: list[str] = []
        self.tested = 0  # images
        self._images: dict[tuple[bool, int], Images] = {}

    def _load(self, config: FashionConfig) -> Images:
        key = (config.normalize, config.held_out)
        if key not in self._images:
            self._images.clear()  # 220 MB each
            images = fashion_mnist.load(config)
            if self.short:
                parts = (ImageSplit(s.images[:512], s.labels[:512]) for s in (images.train, images.test))
                images = Images(*parts)
            self._images[key] = images
            self.tested = len(images.test)
        return self._images[key]

    def _train(self, config: FashionConfig) -> tuple[list[float], list[float]]:
        """(accuracy of each seed, seconds of each seed); a run that diverged has the accuracy NaN, and no seconds."""
        accuracies, seconds = [], []
        for seed in range(self.seeds):
            try:
                outcome = fashion_mnist.train(
                    replace(config, seed=seed), images=self._load(config), say=lambda line: None
                )
            except InputError:  # its loss became NaN or infinite
                accuracies.append(math.nan)
                continue
            assert outcome.record is not None
            outcome.record.close()
            accuracies.append(outcome.metrics["test_accuracy"])
            seconds.append(outcome.seconds)
        return accuracies, seconds

    def accuracies(self) -> Table:
        rows = []
        for rung, config in self.configs.items():
            accuracies, seconds = self._train(config)
            mean = statistics.mean(accuracies)
            self.say(f"rung {rung}: {_percent(mean)}")
            target = RERUN.get(rung, PUBLISHED[rung])
            if self.applies and rung in COMPARED and not mean >= target - NOISE:
                self.missed.append(f"rung {rung}: {_percent(mean)}, published {_percent(target)}")
            failed = sum(math.isnan(a) for a in accuracies)
            rows.append([
                str(rung), RUNGS[rung][0], f"{config.lr:g}", "diverges" if failed else _percent(mean),
                f"{failed} of {len(accuracies)} diverge" if failed else _range(accuracies),
                _percent(PUBLISHED[rung]) if self.applies else "",
                f"{100 * (mean - PUBLISHED[rung]):+.1f}" if self.applies and not failed else "",
                f"{statistics.mean(seconds):.1f}" if seconds else "",
            ])  # fmt: skip
        columns = [
            ">rung",
            "change",
            ">rate",
            ">mean",
            ">lowest to highest",
            ">published",
            ">points",
            ">seconds",
        ]
        notes = [
            f"Accuracy on {self.tested:,d} test images, {self.seeds} seed{'s' if self.seeds > 1 else ''} of weights "
            "and data order each. published: one seed of the author's. seconds: of one training. Rungs 9 to 12 have "
            "rung 7's network; every rung keeps the changes before it, but for the optimizer. Rung 13 is compared with "
            f"what the author's own code gave when it was run again on two CPU cores, {_percent(RERUN[13])}; 90.6% is "
            "what he printed. Rungs 1 and 2 may fail in the lesson too and are not compared."
        ]
        return Table("Accuracies", columns, rows, notes)


def _percent(part: float) -> str:
    return "none" if math.isnan(part) else f"{part:.2%}"


def _range(parts: list[float]) -> str:
    return f"{100 * min(parts):.2f} to {100 * max(parts):.2f}"
