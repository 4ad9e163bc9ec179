"""Short trials at constant learning rates: where does this network die?

Too high a rate often kills a network only after some dozen steps: a ReLU network's units fall silent, and the loss goes
back to what constant outputs give and stays there. A sweep has long gone on to other rates by then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

_FALL = 0.02  # of the loss at the beginning: a smaller fall is not learning
_NOISE = 4.0  # standard errors of a trial's last quarter: nor is a smaller one than this
_KEPT = 0.25  # of the fall: a training that has kept less of it has gone back to where it began
_STUCK = 0.1  # of the fall at a lower rate: a training that gets less far has not learned
_HALVINGS = 7  # of the sweep's rate, before the network counts as one that no rate suits
_DOUBLINGS = 2
_BETTER = (
    0.05  # of its fall: what a higher rate's loss must lie below that of the sweep's rate to be taken instead
)
_LOWER = 1 / 4  # of a rate at which nothing was learned: does the network learn at that?

Outcome = Literal["learned", "undecided", "died"]


@dataclass(frozen=True)
class Trial:
    """One short training at a constant rate, from the untrained network.

    order    which order of the data: 0 is the one that training would take
    losses   (steps,), fewer if the loss became NaN or infinite
    outcome  "learned", "died", or "undecided": the loss had not yet fallen by more than its noise
    detail   how it died, else ""
    """

    rate: float
    order: int
    losses: np.ndarray
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True)
class Cliff:
    """What the trials show. suggestion: the rate to take; highest_safe: the highest rate worth a training, which is the
    suggestion, or a higher one at whose double a trial survived too; lowest_deadly: the lowest rate that killed one.
    None where there is none."""

    trials: tuple[Trial, ...]
    suggestion: float | None
    highest_safe: float | None
    lowest_deadly: float | None

    def describe(self, rate: float | None) -> str:
        parts = []
        if rate is not None:
            here = [t for t in self.trials if t.rate == rate]
            learned = sum(t.outcome == "learned" for t in here)
            parts.append(
                f"at {rate:.1e} {learned} of {len(here)} trials of {len(here[0].losses)} steps learned"
            )
            if learned < len(here):
                parts[0] += " and none died"
        deadly = self.lowest_deadly
        if deadly is not None:
            there = [t for t in self.trials if t.rate == deadly]
            died = [t for t in there if t.outcome == "died"]
            parts.append(f"at {deadly:.1e} {len(died)} of {len(there)} died ({died[0].detail})")
        return "; ".join(parts)


Train = Callable[[float, int], "tuple[list[float], bool]"]


def find_cliff(train: Train, rate: float, begin: np.ndarray, trials: int) -> Cliff:
    """Looks for the highest of rate, rate / 2, rate / 4, ... at which so many trials survive, and for the lowest rate
    above that at which one dies.

    train  (rate, order of the data) -> (losses of a short training from the untrained network, whether its last
           outputs are the same for every example)
    begin  losses of the untrained network
    """
    done: list[Trial] = []

    def survives_in(rate: float, order: int) -> bool:
        losses, constant = train(rate, order)
        done.append(_judge(rate, order, np.array(losses), constant, begin))
        done[:] = _stuck(done)
        return done[-1].outcome != "died"

    def survives(rate: float, count: int, first: int = 0) -> bool:
        return all(survives_in(rate, order) for order in range(first, first + count))

    def never_began(rate: float) -> bool:
        """Whether a trial stayed where it began, although a much lower rate learns."""
        if all(t.outcome == "learned" for t in done if t.rate == rate):
            return False
        survives(rate * _LOWER, 1)
        return rate in _deadly(done)

    def highest_that_survives(rate: float) -> float | None:
        """Of the rate, its half, its quarter, ..."""
        for _ in range(_HALVINGS + 1):
            if survives(rate, trials) and not never_began(rate):
                return rate
            rate /= 2
        return None

    chosen = highest_that_survives(rate)
    if chosen is not None and not _deadly(done):
        for factor in range(1, _DOUBLINGS + 1):
            if not survives_in(rate * 2**factor, 0):
                break
        better = _best(done, rate)
        if better == rate or survives(better, trials - 1, first=1):
            chosen = better
    lowest = min(_deadly(done), default=math.inf)
    if (
        chosen is not None and lowest <= 2 * chosen and not survives(chosen, trials, first=trials)
    ):  # near the cliff
        chosen = highest_that_survives(chosen / 2)
    lowest = min(_deadly(done), default=None)
    safe = None if chosen is None else max(chosen, _highest_with_margin(done, lowest))
    return Cliff(tuple(done), chosen, safe, lowest)


def _highest_with_margin(trials: list[Trial], lowest: float | None) -> float:
    """The highest rate that killed no trial and at whose double, or higher, one survived: a rate that was tried once,
    for a part of a training, may still kill the whole."""
    survived = sorted({t.rate for t in trials if lowest is None or t.rate < lowest})
    return max((rate for rate in survived if 2 * rate <= survived[-1] * (1 + 1e-9)), default=0.0)


def _deadly(trials: list[Trial]) -> set[float]:
    return {t.rate for t in trials if t.outcome == "died"}


def _best(trials: list[Trial], rate: float) -> float:
    """The rate whose trial with the data in their first order ends lowest; the given one unless that is clearly so."""
    ends = {t.rate: _end(t.losses) for t in trials if t.order == 0 and t.outcome == "learned"}
    if rate not in ends:
        return rate
    best = min(ends, key=lambda at: ends[at])
    first = next(float(t.losses[0]) for t in trials if t.rate == rate)
    return best if ends[rate] - ends[best] > _BETTER * (first - ends[rate]) else rate


def _end(losses: np.ndarray) -> float:
    return float(np.median(losses[-max(3, len(losses) // 4) :]))


def _judge(rate: float, order: int, losses: np.ndarray, constant: bool, begin: np.ndarray) -> Trial:
    def trial(outcome: Outcome, detail: str = "") -> Trial:
        return Trial(rate, order, losses, outcome, detail)

    if not len(losses) or not np.isfinite(losses).all():
        return trial("died", "the loss became NaN or infinite")
    first = float(np.mean(begin))
    width = max(3, len(losses) // 4)
    error = float(np.std(losses[: len(begin)] if len(begin) < 3 else begin)) / math.sqrt(width)
    least = max(_FALL * abs(first), _NOISE * error)
    end, low = _end(losses), _lowest_mean(losses, width // 2 + 1)
    if end > first + least:
        return trial("died", f"the loss ended at {end:.3g}, above the {first:.3g} where it began")
    if constant and end > low + least:
        return trial("died", f"the outputs became the same for every example, at a loss of {end:.3g}")
    if first - low > least and first - end < _KEPT * (first - low):
        return trial("died", f"the loss fell to {low:.3g} and went back to {end:.3g}")
    return trial("learned" if first - end > least else "undecided")


def _stuck(trials: list[Trial]) -> list[Trial]:
    """Undecided trials at rates above one that learned have died: they never left the loss where they began."""
    learned = [t for t in trials if t.outcome == "learned"]
    if not learned:
        return trials
    lowest = min(t.rate for t in learned)
    return [
        Trial(t.rate, t.order, t.losses, "died", "the loss stayed where it began, and a lower rate learned")
        if t.outcome == "undecided" and t.rate > lowest
        else t
        for t in trials
    ]


def _lowest_mean(losses: np.ndarray, width: int) -> float:
    return float(np.convolve(losses, np.ones(width) / width, mode="valid").min())
