"""UG505 hockey-stick: training began by unlearning its initialization.

Source: Karpathy, Neural Networks: Zero to Hero, makemore part 3 (2022), where the curve's shape has this name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ._loss_curve import loss_curve
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View

ABOUT = About(
    code="UG505",
    name="hockey-stick",
    rank=420,
    seen="Most of the loss's fall is in the first hundredth of the steps, from above ln(C).",
    matters=(
        "That part of the curve is spent on squashing logits that were too large from the start, which a better "
        "initialization avoids; it also hides the rest of the curve."
    ),
    source="Karpathy, Neural Networks: Zero to Hero, makemore part 3, 2022.",
    measured=(
        "The first recorded loss against ln(C), and its fall up to the end of the first hundredth of the "
        "steps as a part of the fall to the median of the last tenth."
    ),
    action="Scale the last layer's weights down (times 0.1 or less) and set its bias to zero.",
    effect="The loss starts at ln(C) and all of its curve shows learning.",
    verify="Train again: the first loss is within a few percent of ln(C).",
    needs="run",
    silent=(
        "a loss that starts at ln(C), however fast it falls",
        "short runs",
    ),
)

STEPS = Threshold(200, "recorded losses: a hundredth of fewer is hardly a step")
ABOVE = Threshold(1.2, "times ln(C), as for UG101: default heads stay below it")
EARLY = Threshold(0.01, "of the steps: learning takes longer than squashing logits does")
PART = Threshold(0.5, "of the fall: most of it was unlearning, not learning")
LAST = Threshold(10, "the last of so many equal parts of the run gives the loss that it ends with")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """first: the first loss; reached: after early_steps; last: at the end; expected: ln(C); part: of the fall that the
    early steps made."""

    first: float
    reached: float
    last: float
    expected: float
    part: float
    early_steps: int


def judge(view: View) -> Iterator[Found[Evidence]]:
    classes = view.facts.classes
    if classes < 2:
        raise CannotJudge("not a classifier with cross entropy, or its number of classes is not recorded")
    steps, losses = loss_curve(view, STEPS)
    if steps[0] > 0:
        raise CannotJudge("the loss of the first step is not recorded")
    if not np.isfinite(losses).all():
        raise CannotJudge(f"needs the finite losses of {STEPS:g} steps or more")
    expected, first = math.log(classes), float(losses[0])
    if first <= ABOVE * expected:
        return
    early = max(1, round(EARLY * len(losses)))
    reached = float(np.median(losses[early : 2 * early]))
    last = float(np.median(losses[-max(1, len(losses) // int(LAST)) :]))
    part = (first - reached) / (first - last) if first > last else 0.0
    if part < PART:
        return
    yield ABOUT.found(
        "warning",
        None,
        f"{min(part, 1.0):.0%} of the loss's fall from {first:.2f} to {last:.2f} is in the first {early} of "
        f"{len(losses)} steps; from an even guess, ln({classes}) = {expected:.2f}, the curve would begin lower",
        evidence=Evidence(first, reached, last, expected, part, early),
        cause="The untrained model is confident, and wrong: its logits are too large.",
    )


EXPLAINED_BY = (Cause("UG101"),)

BAD = """
x = torch.randn(1024, 20)
y = (x @ torch.randn(20, 10)).argmax(1)
model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 10))
nn.init.normal_(model[2].weight, std=4.0)
loader = ug.train.InMemoryLoader((x, y), batch_size=16, shuffle=True)
learner = ug.train.Learner(
    model, loader, F.cross_entropy, lambda p: torch.optim.Adam(p, 0.02), [ug.train.Recorder()]
)
learner.fit(4)
report = ug.diagnose(learner.record, ignore=["UG101"])  # which says the same of the first loss alone
"""

GOOD = """
x = torch.randn(1024, 20)
y = (x @ torch.randn(20, 10)).argmax(1)
model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 10))
nn.init.normal_(model[2].weight, std=0.01)
loader = ug.train.InMemoryLoader((x, y), batch_size=16, shuffle=True)
learner = ug.train.Learner(
    model, loader, F.cross_entropy, lambda p: torch.optim.Adam(p, 0.02), [ug.train.Recorder()]
)
learner.fit(4)
report = ug.diagnose(learner.record, ignore=["UG101"])  # which says the same of the first loss alone
"""
