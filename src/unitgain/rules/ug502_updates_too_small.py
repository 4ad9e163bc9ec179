"""UG502 updates-too-small: the optimizer changes the weights by less than a ten-thousandth of their size per step.

Source: Karpathy, makemore part 3 (2022), whose rule of thumb is a thousandth. Deviations: the update is what the
optimizer really did, and Adam-like optimizers that repeat one batch are granted what noise would shorten
(_updates.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ._causes import came_with_divergence, is_error, names_a_group, units_died
from ._finding import Prescription
from ._loss_curve import loss_falls
from ._rule import About, Cause, Found, Threshold
from ._updates import ADAPTIVE_GRANTED, ADAPTIVE_STEPS, TARGET, UpdateEvidence, has_converged, settled_updates
from ._view import View
from ._words import plural, show

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
        "rate, and are no finding; where the recorded loss falls clearly all the same, it is for information."
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

WARNING = Threshold(-4.0, "log10(update:data): a tenth of the rule of thumb of a thousandth")

Evidence = UpdateEvidence


def judge(view: View) -> Iterator[Found[Evidence]]:
    updates = settled_updates(view, TARGET, ADAPTIVE_GRANTED, ADAPTIVE_STEPS)
    small_before = updates.early - updates.granted < WARNING
    if updates.judged >= WARNING or not small_before or has_converged(view, updates.ratios):
        return
    rates = updates.rates
    yield ABOUT.found(
        "info" if loss_falls(view) else "warning",
        None,
        f"{updates.optimizer} {_changes(updates.median)} (median of {plural(len(updates.ratios), 'weight')}); about "
        f"10^{updates.target:.1f} is right",
        evidence=updates.evidence(),
        cause="The learning rate is too small for these weights and gradients.",
        remedy=f"Raise the learning rate from {', '.join(map(show, rates))} to about "
        f"{', '.join(show(rate * updates.factor) for rate in rates)}."
        if rates and math.isfinite(updates.factor)
        else f"Raise the learning rate: multiply it by {show(updates.factor)}."
        if math.isfinite(updates.factor)
        else "",
        prescription=Prescription(rate=updates.factor) if math.isfinite(updates.factor) else None,
    )


def _changes(median: float) -> str:
    if math.isfinite(median):
        return f"changes the weights by 10^{median:.1f} of their size per step"
    return "does not change the weights at all"


EXPLAINED_BY = (
    Cause("UG301", is_error),
    Cause("UG401", is_error),
    Cause("UG509"),
    Cause("UG508"),
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
