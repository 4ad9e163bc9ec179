"""UG502 updates-too-small: the optimizer changes the weights by less than a ten-thousandth of their size per step.

Source: Karpathy, makemore part 3 (2022), whose rule of thumb is a thousandth. Deviations: the update is what the
optimizer really did, and Adam-like optimizers that repeat one batch are granted what noise would shorten
(_updates.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from ._causes import came_with_divergence
from ._finding import Prescription
from ._rule import About, Cause, Found, Threshold
from ._updates import ADAPTIVE_GRANTED, ADAPTIVE_STEPS, TARGET, UpdateEvidence, settled_updates
from ._view import View
from ._words import plural, show

ABOUT = About(
    code="UG502",
    name="updates-too-small",
    rank=62,
    seen="The optimizer changes the weights by less than a ten-thousandth of their size per step.",
    matters="Training is needlessly slow.",
    source="Karpathy, makemore part 3, 2022 (10^-3 as a rule of thumb).",
    measured="As for UG501.",
    action="Raise the learning rate.",
    effect="Updates near a thousandth of the weights.",
    verify="Check again with steps: the median log10(update:data) is near -3.",
    needs="steps",
    silent=("a learning rate of zero at the start of a warm-up",),
)

WARNING = Threshold(-4.0, "log10(update:data): a tenth of the rule of thumb of a thousandth")

Evidence = UpdateEvidence


def judge(view: View) -> Iterator[Found[Evidence]]:
    updates = settled_updates(view, TARGET, ADAPTIVE_GRANTED, ADAPTIVE_STEPS)
    if updates.judged >= WARNING:
        return
    rates = updates.rates
    yield ABOUT.found(
        "warning",
        None,
        f"{updates.optimizer} changes the weights by 10^{updates.median:.1f} of their size per step (median of "
        f"{plural(len(updates.ratios), 'weight')}); about 10^{updates.target:.1f} is right",
        evidence=updates.evidence(),
        cause="The learning rate is too small for these weights and gradients.",
        remedy=f"Raise the learning rate from {', '.join(map(show, rates))} to about "
        f"{', '.join(show(rate * updates.factor) for rate in rates)}."
        if rates
        else f"Raise the learning rate: multiply it by {show(updates.factor)}.",
        prescription=Prescription(rate=updates.factor),
    )


EXPLAINED_BY = (Cause("UG504", came_with_divergence),)

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
