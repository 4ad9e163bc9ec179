"""UG502 updates-too-small: the optimizer changes the weights by less than a ten-thousandth of their size per step.

Source: Karpathy, makemore part 3 (2022), whose rule of thumb is a thousandth. Deviations: the update is what the
optimizer really did, and Adam-like optimizers that repeat one batch are granted what noise would shorten
(_updates.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ._causes import came_with_divergence, is_error, names_a_group, rounded_away, units_died
from ._finding import Prescription
from ._loss_curve import IN_WINDOW, WINDOWS, course_of, loss_falls
from ._rule import About, Cause, Found, Threshold
from ._updates import ADAPTIVE_GRANTED, ADAPTIVE_STEPS, TARGET, UpdateEvidence, has_converged, settled_updates
from ._view import View
from ._words import plural, show

if TYPE_CHECKING:
    from . import ug508_stopped_learning as ug508

ABOUT = About(
    code="UG502",
    name="updates-too-small",
    rank=620,
    seen="The optimizer changes the weights by less than a ten-thousandth of their size per step.",
    matters="Training is needlessly slow.",
    source="Karpathy, makemore part 3, 2022 (10^-3 as a rule of thumb).",
    measured=(
        "As for UG501. A weight with a gradient that is not changed at all counts as minus infinity. Updates that were "
        "larger in the first quarter of the steps became small because the loss converged or a schedule lowered the "
        "rate, and are no finding; where the recorded loss falls clearly all the same, it is for information. In a run "
        "whose loss falls along a straight line, by less than a tenth in all, half of the rule of thumb is too small."
    ),
    action="Raise the learning rate.",
    effect="Updates near the share of the weights that the message calls right.",
    verify="Check again with steps: the median log10(update:data) is near that.",
    needs="steps",
    silent=(
        "a learning rate of zero at the start of a warm-up",
        "a run that has converged: its gradients are small",
    ),
)

TRENDLESS = Threshold(4, "windows at least, before their wandering is an estimate of noise")
WARNING = Threshold(-4.0, "log10(update:data): a tenth of the rule of thumb of a thousandth")

SLOW = Threshold(-3.3, "the same, half of the rule of thumb, where the loss shows that steps could be longer")
CREEPING = Threshold(100, "recorded losses, in which a training gets somewhere")
CREPT = Threshold(0.1, "of the first loss, by which it has fallen in them all: less is nearly nothing")
STRAIGHT = Threshold(
    1.5,
    "fold between the fall of the first and of the second half: a line, and neither a plateau nor a start",
)
ERRORS = Threshold(6.0, "standard errors of a level, that the fall of each half is above")

Evidence = UpdateEvidence


def judge(view: View) -> Iterator[Found[Evidence]]:
    updates = settled_updates(view, TARGET, ADAPTIVE_GRANTED, ADAPTIVE_STEPS)
    creeps = updates.judged >= WARNING and _creeps(view)
    limit = SLOW if creeps else WARNING
    small_before = updates.early - updates.granted < limit
    if updates.judged >= limit or not small_before or has_converged(view, updates.ratios):
        return
    rates = updates.rates
    yield ABOUT.found(
        "info" if loss_falls(view) and not creeps else "warning",
        None,
        f"{updates.optimizer} {_changes(updates.median)} (median of {plural(len(updates.ratios), 'weight')}); about "
        f"10^{updates.target:.1f} is right",
        evidence=updates.evidence(),
        cause="The learning rate is too small for these weights and gradients"
        + (": the loss falls by the same little at every step." if creeps else "."),
        remedy=f"Raise the learning rate from {', '.join(map(show, rates))} to about "
        f"{', '.join(show(rate * updates.factor) for rate in rates)}."
        if rates and math.isfinite(updates.factor)
        else f"Raise the learning rate: multiply it by {show(updates.factor)}."
        if math.isfinite(updates.factor)
        else "",
        prescription=Prescription(rate=updates.factor) if math.isfinite(updates.factor) else None,
    )


def _creeps(view: View) -> bool:
    """Whether the loss of a run falls along a line, by little in all: nothing has been learnt that would change its
    slope, and there is no noise that longer steps would have to bear."""
    losses = view.losses[1]
    if not view.training or len(losses) < CREEPING or not np.isfinite(losses).all() or not losses[0] > 0:
        return False
    course = course_of(losses, WINDOWS, IN_WINDOW, TRENDLESS)
    middle = len(course.levels) // 2
    one, two = course.levels[0] - course.levels[middle], course.levels[middle] - course.levels[-1]
    least = max(ERRORS * course.error, 0.0)
    if min(one, two) <= least or one + two > CREPT * losses[0]:
        return False
    return bool(max(one, two) <= STRAIGHT * min(one, two) and (np.diff(course.levels) < 0).all())


def _changes(median: float) -> str:
    if math.isfinite(median):
        return f"changes the weights by 10^{median:.1f} of their size per step"
    return "does not change the weights at all"


def _all_stopped(cause: Found[ug508.Evidence], effect: Found[Evidence], view: View) -> bool:
    return not rounded_away(cause, view)


EXPLAINED_BY = (
    Cause("UG301", is_error),
    Cause("UG401", is_error),
    Cause("UG509"),
    Cause("UG508", _all_stopped),
    Cause("UG704"),
    Cause("UG507"),
    Cause("UG304", units_died),
    Cause("UG503", names_a_group),
    Cause("UG504", came_with_divergence),
)

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
batch = torch.randn(256, 20), torch.randint(10, (256,))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
report = ug.check(model, batch, steps=10, optimizer=optimizer)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
batch = torch.randn(256, 20), torch.randint(10, (256,))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
report = ug.check(model, batch, steps=10, optimizer=optimizer)
"""
