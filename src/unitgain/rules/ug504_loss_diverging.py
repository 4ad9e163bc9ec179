"""UG504 loss-diverging: the loss ends above its lowest level by more than noise explains, or is not finite.

Source: Goodfellow, Bengio and Courville, Deep Learning (2016), section 8.2.4, for what diverging is. The windows,
their noise, and how the step where it began is found are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ._loss_curve import (
    ENDING,
    FAR,
    FIFTH,
    course_of,
    diverged_from,
    finite_until,
    first_diverged,
    loss_curve,
)
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View
from ._words import show

ABOUT = About(
    code="UG504",
    name="loss-diverging",
    rank=28,
    seen=(
        "The recorded training loss ends higher than it has been, by more than its noise, or is NaN or "
        "infinite."
    ),
    matters=(
        "What had been learnt is lost, and more steps do not bring it back: the weights have left the region "
        "where steps of this size lead down."
    ),
    source="Goodfellow, Bengio and Courville, Deep Learning, 2016, section 8.2.4.",
    measured=(
        "Medians over up to 40 windows of equal length. Noise: the standard error of a window's median, from "
        "the differences between neighbouring losses, or from how much the medians themselves wander if that "
        "is more. The rise is the last window's median minus the lowest one. It began after the last window "
        "that was within half the noise limit of the lowest; the learning rate there, and the site whose "
        "activations, gradients or updates grew most against their median before, are the evidence. However "
        f"short it is, a run has diverged whose last losses, at least {ENDING:g} and {1 / FIFTH:.0%} of all, are "
        f"not finite or more than {FAR:g} times the first. An error where the loss is not finite or above where it "
        "began, otherwise a warning."
    ),
    action="Lower the learning rate, or clip gradients; go on from a checkpoint before that step.",
    effect="The loss goes on falling, or stays where it is.",
    verify="Train again from there and check the record.",
    needs="run",
    silent=(
        "a hump in the middle of a run, as a large learning rate makes that is lowered later",
        "noise of small batches",
    ),
)

AT_ONCE = Threshold(
    2.0,
    "times the first loss, that every later level lies above: the very first steps did it",
)
STEPS = Threshold(
    40,
    "recorded losses: fewer show no course, only a loss that is not finite or ends far above its first",
)
WINDOWS = Threshold(40, "at most; enough to say when, with enough values in each")
NOISE = Threshold(6.0, "standard errors: the lowest of 40 windows lies 2 below the rest by chance")
RISE = Threshold(0.1, "of the fall before it, or of the lowest level: less is no divergence")
CHANGED = Threshold(3.0, "times its median before: growth that is named")
IN_WINDOW = Threshold(5, "losses at least in a window: fewer have no median that one outlier could not move")
TRENDLESS = Threshold(4, "windows at least, before their wandering is an estimate of noise")
NEAR = Threshold(
    20, "one part in so many of the run, before and after where it began, is searched for changes"
)
RAISED = Threshold(1.5, "fold, by which a learning rate that rose is named")


@dataclass(frozen=True)
class Rate:
    """The learning rate where the loss began to diverge, and the one before that, if losses after steps at it were
    good."""

    now: float
    before: float | None = None


@dataclass(frozen=True)
class Grown:
    """The site whose activations, gradients or updates grew most where the loss began to diverge."""

    site: str
    kind: str
    before: float
    after: float


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """began: the step; lowest, last, first: levels of the loss, last NaN where it is not finite; noise: of a level; and
    what changed there."""

    began: int
    lowest: float
    last: float
    first: float
    noise: float
    lr: float | None = None
    lr_before: float | None = None
    site: str | None = None
    kind: str | None = None
    site_before: float | None = None
    site_after: float | None = None


def judge(view: View) -> Iterator[Found[Evidence]]:
    diverged = first_diverged(view)
    steps, losses = loss_curve(view, STEPS if diverged is None else 0)
    end = finite_until(losses)
    if end == 0:
        raise CannotJudge("the first recorded loss is not finite")
    course = course_of(losses[:end], WINDOWS, IN_WINDOW, TRENDLESS)
    best = int(np.argmin(course.levels))
    first, lowest, last = course.levels[0], course.levels[best], course.levels[-1]
    # before the first window's level could show it; one lucky batch at the start is not the lowest of all
    at_once = lowest > AT_ONCE * losses[0] > 0 and losses[0] <= losses[:end].min()
    if at_once:
        first = lowest = losses[0]
    rise, fall = last - lowest, max(first - lowest, 0.0)
    least = max(NOISE * course.error, RISE * max(fall, abs(lowest)))
    if diverged is None and rise <= least:
        return
    around = steps[0] if at_once else steps[course.middle(best)]
    if diverged is not None and (rise <= least or len(losses) < STEPS):
        # too sudden or too early for windows: single losses show it
        began, best = diverged - 1, int(np.argmin(losses[:diverged]))
        first, lowest, last, around = losses[0], losses[best], losses[end - 1], steps[best]
    elif at_once:
        began = int(np.argmax(losses > AT_ONCE * losses[0])) - 1
    else:
        began = course.onset(best, NOISE / 2)
        began = began if diverged is None else min(began, diverged - 1)
    not_finite = end < len(losses)
    to = "is not finite" if not_finite else f"is {show(last)}"
    when = f"at step {steps[end]}" if not_finite and np.isfinite(losses[-1]) else "at the end"
    rate, grown = _rate(view, steps, losses, began), _most_grown(view, steps, began)
    risen = rate.before if rate and rate.before is not None and rate.now > RAISED * rate.before else None
    yield ABOUT.found(
        "error" if diverged is not None or last > first + NOISE * course.error else "warning",
        grown.site if grown else None,
        f"the loss {to} {when} after {show(lowest)} around step {around}; it began to diverge after step "
        f"{steps[began]}{_where(rate, risen, grown)}",
        evidence=Evidence(
            began=int(steps[began]),
            lowest=float(lowest),
            last=math.nan if not_finite else float(last),
            first=float(first),
            noise=course.error,
            lr=rate.now if rate else None,
            lr_before=rate.before if rate else None,
            site=grown.site if grown else None,
            kind=grown.kind if grown else None,
            site_before=grown.before if grown else None,
            site_after=grown.after if grown else None,
        ),
        cause=_cause(risen, grown),
        remedy=_remedy(rate, risen),
    )


def _around(steps: np.ndarray, began: int) -> tuple[int, int]:
    """First and last step of what is searched for changes."""
    margin = max(1, len(steps) // int(NEAR))
    return int(steps[max(0, began - margin)]), int(steps[min(len(steps) - 1, began + margin)])


def _rate(view: View, steps: np.ndarray, losses: np.ndarray, began: int) -> Rate | None:
    before, after = _around(steps, began)
    rate_steps, rates = view.record.metric("lr")
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
    return Rate(now, past) if good else Rate(past)


def _most_grown(view: View, steps: np.ndarray, began: int) -> Grown | None:
    before, after = _around(steps, began)
    most, strongest = None, float(CHANGED)
    for kind in ("gradient", "activation", "update"):
        statistic = "std" if kind == "update" else "rms"
        for name, values in view.over_steps(kind, statistic).items():
            sampled = view.record.series(kind, name, statistic)[0]
            past = values[(sampled < int(steps[began])) & np.isfinite(values)]
            now = values[(sampled >= before) & (sampled <= after)]
            if not len(past) or not len(now) or not np.median(past) > 0:
                continue
            reached, typical = (
                float(now.max()) if np.isfinite(now).all() else math.inf,
                float(np.median(past)),
            )
            if reached / typical > strongest:
                most, strongest = Grown(name, kind, typical, reached), reached / typical
    return most


def _where(rate: Rate | None, risen: float | None, grown: Grown | None) -> str:
    words = []
    if rate is not None and risen is not None:
        words.append(f"the learning rate went from {show(risen)} to {show(rate.now)}")
    if grown is not None:
        words.append(
            f"the {grown.kind} of {grown.site} grew from {show(grown.before)} to {show(grown.after)}"
        )
    return f", where {' and '.join(words)}" if words else ""


def _cause(risen: float | None, grown: Grown | None) -> str:
    if risen is not None:
        return "The learning rate was raised beyond what the model bears."
    if grown is not None:
        return (
            f"The {grown.kind} of {grown.site} is what grew most there; a step that it led to went too far."
        )
    return "Steps went too far: at this learning rate the weights moved to where the loss is higher."


def _remedy(rate: Rate | None, risen: float | None) -> str:
    if rate is not None and risen is not None:
        return f"Keep the learning rate below {show(rate.now)}: {show(risen)} still worked."
    if rate is not None and rate.before is None:
        return f"Lower the learning rate well below {show(rate.now)}: at that rate the loss diverged."
    return ""


def _still_trains(cause: Found[BaseEvidence], effect: Found[Evidence], view: View) -> bool:
    """Large updates explain a loss that rises; one that has diverged for good is what matters, and is named itself."""
    return cause.severity == "error" and diverged_from(view) is None


EXPLAINED_BY = (Cause("UG501", _still_trains),)

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
x = torch.randn(1024, 20)
y = x @ torch.randn(20, 1) / 20**0.5
with ug.Probe(model, optimizer, every=10) as probe:
    for step in range(120):
        if step == 80:
            optimizer.param_groups[0]["lr"] = 2.0  # a schedule with a wrong factor
        some = torch.randint(len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        probe.log(loss=loss.item())
report = ug.diagnose(probe.record)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
x = torch.randn(1024, 20)
y = x @ torch.randn(20, 1) / 20**0.5
with ug.Probe(model, optimizer, every=10) as probe:
    for step in range(120):
        if step == 80:
            optimizer.param_groups[0]["lr"] = 0.02
        some = torch.randint(len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        probe.log(loss=loss.item())
report = ug.diagnose(probe.record)
"""
