"""What changed where a loss began to diverge: the learning rate, and the signal that grew most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._finding import Prescription
from ._loss_curve import is_sudden
from ._rule import Threshold
from ._updates import rate_that_fits
from ._view import View
from ._words import show

AT_ONCE = Threshold(
    2.0,
    "times the first loss, that every later level lies above: the very first steps did it",
)
CHANGED = Threshold(3.0, "times its median before: growth that is named")
NEAR = Threshold(
    20, "one part in so many of the run, before and after where it began, is searched for changes"
)
TENTH = Threshold(0.1, "of the rate, to be tried where none is known that worked")
RAISED = Threshold(1.5, "fold, by which a learning rate that rose is named")


@dataclass(frozen=True)
class Rate:
    """The learning rate where the loss began to diverge, and the one before that, if losses after steps at it were
    good; rising: whether that had been raised itself, as a warm-up does."""

    now: float
    before: float | None = None
    rising: bool = False


@dataclass(frozen=True)
class Grown:
    """The site whose activations, gradients or updates grew most where the loss began to diverge."""

    site: str
    kind: str
    before: float
    after: float


@dataclass(frozen=True)
class Change:
    """What was different where the loss began to diverge, as far as it was recorded; fits: the learning
    rate that the first updates suggest, where it is lower; sudden: whether the loss was at its lowest right before it
    was not finite, so that no step of the optimizer led there; broken: the first site whose activations held NaN or
    infinity, and the step."""

    rate: Rate | None
    grown: Grown | None
    fits: float | None = None
    sudden: bool = False
    broken: tuple[str, int] | None = None

    @property
    def good_rate(self) -> float | None:
        """The learning rate before it was raised, if it was."""
        rate = self.rate
        raised = rate is not None and rate.before is not None and rate.now > RAISED * rate.before
        return rate.before if rate is not None and raised else None

    @property
    def site(self) -> str | None:
        """Where to look first."""
        return (
            self.grown.site if self.grown is not None else self.broken[0] if self.broken is not None else None
        )

    def evidence(self) -> dict[str, Any]:
        """The fields that kinds of evidence have in common."""
        found: dict[str, Any] = {}
        if self.rate is not None:
            found |= {"lr": self.rate.now, "lr_before": self.rate.before}
        if (g := self.grown) is not None:
            found |= {"site": g.site, "kind": g.kind, "site_before": g.before, "site_after": g.after}
        elif self.broken is not None:
            found |= {"site": self.broken[0], "kind": "activation"}
        return found

    def __str__(self) -> str:
        words = []
        if self.rate is not None and self.good_rate is not None:
            words.append(f"the learning rate went from {show(self.good_rate)} to {show(self.rate.now)}")
        if (g := self.grown) is not None:
            words.append(f"the {g.kind} of {g.site} grew from {show(g.before)} to {show(g.after)}")
        text = f", where {' and '.join(words)}" if words else ""
        if self.broken is not None:
            site, step = self.broken
            text += f"; the first activations with NaN or infinity are those of {site} at step {step}"
        return text

    @property
    def cause(self) -> str:
        if self.sudden:
            return (
                "The loss was finite and at its lowest in the step before, so that no growing steps led there: "
                "a function has no finite value or slope there: the logarithm of 0, a division by 0, a root at 0."
            )
        if self.good_rate is not None:
            return "The learning rate was raised beyond what the model bears."
        if self.grown is not None:
            what = f"The {self.grown.kind} of {self.grown.site}"
            return f"{what} is what grew most there; a step that it led to went too far."
        return "Steps went too far: at this learning rate the weights moved to where the loss is higher."

    @property
    def prescription(self) -> Prescription | None:
        """The rate that still worked, or that the first updates suggest; where none is known, a tenth."""
        if self.sudden:
            return None
        right = self.good_rate or self.fits
        return Prescription(
            rate=float(TENTH) if right is None or self.rate is None else right / self.rate.now
        )

    @property
    def remedy(self) -> str:
        if self.sudden:
            return (
                "Look at each logarithm, division and root in the loss and the model: clamp their arguments, add a "
                "small eps inside, or use a form on logits (cross_entropy, binary_cross_entropy_with_logits)."
            )
        if self.rate is not None and self.good_rate is not None and not (self.rate.rising and self.fits):
            return f"Keep the learning rate below {show(self.rate.now)}: {show(self.good_rate)} still worked."
        if self.rate is not None and self.fits is not None:
            return f"Lower the learning rate from {show(self.rate.now)} to about {show(self.fits)}."
        if self.rate is not None and self.rate.before is None:
            return (
                f"Lower the learning rate well below {show(self.rate.now)}: at that rate the loss diverged."
            )
        return ""


def changed(view: View, steps: np.ndarray, losses: np.ndarray, began: int) -> Change:
    rate = _rate(view, steps, losses, began)
    fits = None if rate is None else rate_that_fits(view, int(steps[began]), rate.now)
    if fits is not None and rate is not None and rate.rising and rate.before is not None:
        fits = min(fits, rate.before)  # above that the loss rose
    grown = None if (sudden := is_sudden(steps, losses)) else _most_grown(view, steps, began)
    return Change(rate, grown, fits, sudden, _first_broken(view))


def _around(steps: np.ndarray, began: int) -> tuple[int, int]:
    """First and last step of what is searched for changes."""
    margin = max(1, len(steps) // int(NEAR))
    return int(steps[max(0, began - margin)]), int(steps[min(len(steps) - 1, began + margin)])


def _rate(view: View, steps: np.ndarray, losses: np.ndarray, began: int) -> Rate | None:
    before, after = _around(steps, began)
    rate_steps, rates = view.record.metric("lr", optional=True)
    known = np.isfinite(rates)
    rate_steps, rates = rate_steps[known], rates[known]
    near = rates[(rate_steps >= before) & (rate_steps <= after)]
    if not len(near):
        return None
    now, earlier = float(near.max()), rates[rate_steps <= before]
    past = float(earlier[-1]) if len(earlier) else now
    taken = int(rate_steps[rate_steps <= before][-1]) if len(earlier) else before
    begin = int(np.searchsorted(steps, taken, "right"))  # the first loss after a step at that rate
    later = losses[begin : max(began, begin) + 1]
    high = losses[0] + (AT_ONCE - 1) * abs(losses[0])
    good = np.isfinite(later).all() and np.median(later) <= high
    rising = len(earlier) > 1 and bool(earlier[-2] < past)
    return Rate(now, past, rising) if good else Rate(past)


def _most_grown(view: View, steps: np.ndarray, began: int) -> Grown | None:
    before, after = _around(steps, began)
    most, strongest = None, float(CHANGED)
    for kind in ("gradient", "activation", "update"):
        statistic = "std" if kind == "update" else "rms"
        for name, values in view.over_steps(kind, statistic).items():
            sampled = view.record.series(kind, name, statistic)[0]
            earlier = sampled < int(steps[began])
            if not earlier.any() and kind != "update":
                earlier = sampled == int(steps[began])  # the first step of all, before its update
            past = values[earlier & np.isfinite(values)]
            now = values[(sampled >= before) & (sampled <= after)]
            now = now[np.isfinite(now)]  # what is not finite any more is named by where that began
            if not len(past) or not len(now) or not np.median(past) > 0:
                continue
            reached, typical = float(now.max()), float(np.median(past))
            if reached / typical > strongest:
                most, strongest = Grown(name, kind, typical, reached), reached / typical
    return most


def _first_broken(view: View) -> tuple[str, int] | None:
    """(site, step), the earliest step and there the first in the order of execution, among the sites that were finite
    when measuring began: a mask's minus infinity is there from the first step on."""
    found: list[tuple[int, int, str]] = []
    for order, (name, values) in enumerate(view.over_steps("activation", "nonfinite").items()):
        broken = np.flatnonzero(values > 0)
        if len(broken) and broken[0] > 0:
            found.append(
                (int(view.record.series("activation", name, "nonfinite")[0][broken[0]]), order, name)
            )
    return (min(found)[2], min(found)[0]) if found else None
