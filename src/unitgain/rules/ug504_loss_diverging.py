"""UG504 loss-diverging: the loss ends above its lowest level by more than noise explains, or is not finite.

Source: Goodfellow, Bengio and Courville, Deep Learning (2016), section 8.2.4, for what diverging is. The windows,
their noise, and how the step where it began is found are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._causes import units_died
from ._divergence import AT_ONCE, changed
from ._loss_curve import (
    ENDING,
    FAR,
    FIFTH,
    GRADIENT,
    IN_WINDOW,
    PROGRESS,
    REHEARSAL,
    WINDOWS,
    comes_back,
    course_of,
    diverged_from,
    falls_on_fresh_batches,
    finite_until,
    first_diverged,
    is_sudden,
    loss_curve,
    no_progress,
)
from ._moving_targets import steps_are_small, targets_move, why_no_objective
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View
from ._words import show

if TYPE_CHECKING:
    pass

ABOUT = About(
    code="UG504",
    name="loss-diverging",
    rank=280,
    seen=(
        "The recorded training loss, or that of rehearsed steps, ends higher than it has been, by more than its noise, "
        "or is NaN or infinite."
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
        "began, otherwise a warning. Rehearsed steps repeat one batch, so that fewer of them show a course. A "
        f"rehearsal whose loss does not fall (by {PROGRESS:.1%} in {REHEARSAL:g} steps) is no finding, but never "
        "healthy either: the verdict then is that it cannot be told. Where the loss is not known to compare with fixed "
        "targets, and outputs grew so far that the loss fell beside them, it is for information: targets that move "
        "with the model (Q-learning) raise the loss while it learns. So it is, and the verdict that it cannot be told, "
        "where the loss has been below zero (a policy gradient, a critic) and stays within ten times what it was, "
        "where the model takes part in another model's loss too (a GAN), and where no step moved the weights by a "
        "hundredth and nothing grew."
    ),
    action="Lower the learning rate, or clip gradients; go on from a checkpoint before that step.",
    effect="The loss goes on falling, or stays where it is.",
    verify="Train again from there and check the record.",
    needs="steps",
    wrecks=True,
    judges="the rehearsed loss",
    silent=(
        "a hump in the middle of a run, as a large learning rate makes that is lowered later",
        "noise of small batches",
        "Q-learning, whose loss grows with its returns; GANs and policy gradients (for information)",
    ),
)

STEPS = Threshold(
    40,
    "recorded losses: fewer show no course, only a loss that is not finite or ends far above its first",
)
REHEARSED = Threshold(10, "losses of a rehearsal, that take the place of those 40: they are all of one batch")
NOISE = Threshold(6.0, "standard errors: the lowest of 40 windows lies 2 below the rest by chance")
RISE = Threshold(0.1, "of the fall before it, or of the lowest level: less is no divergence")
TRENDLESS = Threshold(4, "windows at least, before their wandering is an estimate of noise")


@dataclass(frozen=True)
class Rise(BaseEvidence):
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


@dataclass(frozen=True)
class Leap(BaseEvidence):
    """Of a rehearsal that went far up and came down again: its first, highest and last loss, and what changed."""

    first: float
    highest: float
    last: float
    lr: float | None = None
    lr_before: float | None = None
    site: str | None = None
    kind: str | None = None
    site_before: float | None = None
    site_after: float | None = None


Evidence = Rise | Leap


def doubt(view: View) -> str | None:
    """A rehearsal that does not fall, or a loss that rises and may do so by right."""
    if why := no_progress(view):
        return why
    try:
        rises = next(
            (f for f in judge(view) if f.severity == "info" and not targets_move(view, _last(view))), None
        )
    except CannotJudge:
        return None
    return None if rises is None else f"{rises.message}. {rises.cause}"


def _last(view: View) -> float:
    return float(view.losses[1][-1])


def judge(view: View) -> Iterator[Found[Evidence]]:
    diverged, least_losses = first_diverged(view), REHEARSED if view.rehearsal else STEPS
    steps, losses = loss_curve(view, least_losses if diverged is None else 0)
    if is_sudden(*view.losses):
        return  # not finite from one step to the next, at its lowest: UG104 says so
    if comes_back(losses):  # of single batches, which UG104 names: the others' course says what the steps do
        finite = np.isfinite(losses)
        diverged, steps, losses = None, steps[finite], losses[finite]
    end = finite_until(losses)
    if end == 0:
        raise CannotJudge("the first recorded loss is not finite")
    if view.rehearsal and any(gradient.broken for gradient in view.parameter_gradients):
        raise CannotJudge("gradients were not finite before the first step was rehearsed")
    if view.facts.function.end.descent < GRADIENT:
        raise CannotJudge(
            "the gradient is not that of the loss (UG110), so that the loss's course says nothing about the rate"
        )
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
        if view.rehearsal and losses.max() > FAR * losses[0] > 0:
            yield _leap(view, steps, losses, float(last))
        return
    around = steps[0] if at_once else steps[course.middle(best)]
    if diverged is not None and (rise <= least or len(losses) < least_losses):
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
    change = changed(view, steps, losses, began)
    subject = "in the rehearsal the loss" if view.rehearsal else "the loss"
    level = "error" if diverged is not None or last > first + NOISE * course.error else "warning"
    other = None if not_finite else why_no_objective(view)
    if not other and not not_finite and not any((change.grown, change.good_rate)) and steps_are_small(view):
        other = "no step moved the weights far, and nothing that was measured grew: what moved is the data or a target"
    if not other and diverged is None and view.rehearsal and losses[-1] <= lowest:
        other = "it came down again, and ends at its lowest: at such steps it swings"
    moves = other or (not not_finite and targets_move(view, float(last)))
    yield ABOUT.found(
        "info" if moves else level,
        change.site,
        f"{subject}, {show(lowest)} around step {around}, {to} {when}; it began to diverge after step "
        f"{steps[began]}{change}",
        evidence=Rise(
            began=int(steps[began]),
            lowest=float(lowest),
            last=math.nan if not_finite else float(last),
            first=float(first),
            noise=course.error,
            **change.evidence(),
        ),
        cause=f"This may be right: {other}." if other else change.cause,
        remedy=f"Judge the training by what it is for, not by this loss. If the loss is to fall: {change.remedy}"
        if other
        else change.remedy,
        prescription=None if other else change.prescription,
    )


def _leap(view: View, steps: np.ndarray, losses: np.ndarray, last: float) -> Found[Leap]:
    """Steps on one batch that first lead far up, and then perhaps down again: they were too large."""
    top, first = int(np.argmax(losses)), float(losses[0])
    change = changed(view, steps, losses, max(0, int(np.argmax(losses > 2 * first)) - 1))
    return ABOUT.found(
        "error" if last > first else "info" if falls_on_fresh_batches(view) else "warning",
        change.site,
        f"in the rehearsal the loss rises from {show(first)} to {show(losses[top])} at step {steps[top]}, and is "
        f"{show(last)} in the end{change}",
        evidence=Leap(first, float(losses[top]), last, **change.evidence()),
        cause=change.cause,
        remedy=change.remedy,
        prescription=change.prescription,
    )


def _still_trains(cause: Found[BaseEvidence], effect: Found[Evidence], view: View) -> bool:
    """Large updates explain a loss that rises; one that has diverged for good is what matters, and is named itself. Of
    a rehearsal, which was to show that, the rate of its first steps is."""
    if not view.rehearsal and began_before(effect.evidence, cause.evidence):
        return False
    return view.rehearsal or (cause.severity == "error" and diverged_from(view) is None)


def began_before(rise: BaseEvidence, killing: BaseEvidence) -> bool:
    """Whether the loss began to rise before the units died of large steps, so that both come of what changed there."""
    since = getattr(killing, "since", None)
    return isinstance(rise, Rise) and since is not None and rise.began < since


def _was_there_before(cause: Found[BaseEvidence], effect: Found[Evidence], view: View) -> bool:
    """What a check finds in the first pass is the cause of what its rehearsal then does."""
    return view.rehearsal and cause.severity == "error"


def _rises_since_units_died(cause: Found[BaseEvidence], effect: Found[Evidence], view: View) -> bool:
    """A loss that rises, and does not leave."""
    return effect.severity == "warning" and units_died(cause, effect, view)  # type: ignore[arg-type]


EXPLAINED_BY = (
    Cause("UG304", _rises_since_units_died),
    Cause("UG407"),
    Cause("UG506"),
    Cause("UG507"),
    Cause("UG509"),
    Cause("UG511"),
    Cause("UG501", _still_trains),
    Cause("UG202", _was_there_before),
    Cause("UG302", _was_there_before),
    Cause("UG607", _was_there_before),
    Cause("UG201", _was_there_before),
)

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
