"""UG510 still-a-guess: a classifier's loss stays at that of a guess, although the weights have moved far.

Source: Karpathy, A recipe for training neural networks (2019), for the loss to expect of a guess
and for looking at what goes into the network. When it counts is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ._loss_curve import IN_WINDOW, course_of, last_quarter, loss_curve
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._updates import way_of_the_weights
from ._view import View
from ._words import show

ABOUT = About(
    code="UG510",
    name="still-a-guess",
    rank=265,
    seen="After a hundred steps and more a classifier's loss is still that of a guess by the classes' frequencies.",
    matters=(
        "A network that has learnt anything at all about its inputs is below that. Where the weights have moved far "
        "and it is not, the targets do not follow from the inputs as the network gets them."
    ),
    source="Karpathy, A recipe for training neural networks, 2019.",
    measured=(
        "The median of the last quarter of the recorded losses against the entropy of the labels, which a Probe reads "
        "off the gradient of the logits; how far the weights went, as the sum of update:data over all steps."
    ),
    action=(
        "Look at an input and its target where the network gets them: whether they are shuffled, sorted and augmented "
        "together, and whether anything of the input is left after preprocessing."
    ),
    effect="The loss falls below that of a guess within some tens of steps.",
    verify="Train again with a Probe.",
    needs="run",
    silent=(
        "a discriminator at its balance, and other losses that are no cross entropy of classes",
        "small steps and short runs",
        "hard tasks of which a little is learnt: the loss lies below the guess by more than its noise",
    ),
)

LOSSES = Threshold(100, "recorded losses: hard tasks, and warm-ups, stay at a guess at first")
WINDOWS = Threshold(20, "parts of the curve, whose levels say how much a level wanders")
TRENDLESS = Threshold(3, "levels at least, before their wandering is an estimate of noise")
ERRORS = Threshold(3.0, "standard errors of a level, below the guess: more is learning")
NEAR = Threshold(0.01, "of the guess, below it: less is within the error of the labels' frequencies")
FARTHEST = Threshold(0.05, "of the guess, below it: more is learning, however noisy the losses are")
ABOVE = Threshold(0.1, "of the guess, above it: more is another trouble, or another loss")
BATCHES = Threshold(5, "sampled batches whose labels are known: of fewer, frequencies are not")
MOVED = Threshold(
    0.3,
    "update:data added up over all steps, of the median weight: by then other trainings have learnt something",
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """loss: of the last quarter; guess: cross entropy of the labels' frequencies; moved: update:data added up, of the
    median weight; losses: how many were recorded."""

    loss: float
    guess: float
    moved: float
    losses: int


def judge(view: View) -> Iterator[Found[Evidence]]:
    labels = view.facts.labels
    if not view.training or labels.batches is None or labels.batches < BATCHES or not labels.guess > 0:
        raise CannotJudge("the labels are not known: they are read off the gradient of a classifier's logits")
    steps, losses = loss_curve(view, LOSSES)
    if not np.isfinite(losses).all():
        return
    course = course_of(losses, WINDOWS, IN_WINDOW, TRENDLESS)
    last = last_quarter(losses)
    room = max(NEAR * labels.guess, ERRORS * course.error)
    if not labels.guess - min(room, FARTHEST * labels.guess) <= last <= (1 + ABOVE) * labels.guess:
        return
    if last < float(np.median(losses[: len(losses) // 2])) - room:
        return  # it falls, whatever it is called: a loss with class weights passes by this value
    moved = way_of_the_weights(view, int(steps[-1]) + 1)
    if not moved >= MOVED:
        raise CannotJudge("the weights have hardly moved")
    yield ABOUT.found(
        "warning",
        None,
        f"after {int(steps[-1]) + 1} steps the loss is {show(last)}, and a guess by the classes' frequencies has "
        f"{show(labels.guess)}: nothing is learnt of the inputs, although the steps of the weights add up to "
        f"{show(moved)} times their size",
        evidence=Evidence(last, labels.guess, moved, len(losses)),
        cause=(
            "Inputs and targets do not belong together (shuffled, sorted or joined apart), or the inputs say nothing "
            "after preprocessing."
        ),
        remedy=(
            f"{ABOUT.action} Then give one batch to ug.check with steps=50: a network that memorizes it can learn."
        ),
    )


EXPLAINED_BY = tuple(
    Cause(code)
    for code in (
        "UG102", "UG103", "UG104", "UG105", "UG106", "UG107", "UG108", "UG111", "UG112", "UG113", "UG114", "UG115",
        "UG203", "UG204", "UG301", "UG302", "UG303", "UG304", "UG306", "UG307", "UG401", "UG402", "UG403", "UG405",
        "UG406", "UG501", "UG502", "UG504", "UG506", "UG507", "UG508", "UG509", "UG602", "UG603", "UG606", "UG701",
        "UG702", "UG704", "UG705",
    )
)  # fmt: skip

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
x = torch.randn(1024, 20)
y = (x @ torch.randn(20, 4)).argmax(1)
with ug.Probe(model, optimizer, every=5) as probe:
    for step in range(300):
        some, others = torch.randint(len(x), (64,)), torch.randint(len(x), (64,))
        loss = F.cross_entropy(model(x[some]), y[others])  # shuffled apart
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        probe.log(loss=loss)
report = ug.diagnose(probe.record)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
x = torch.randn(1024, 20)
y = (x @ torch.randn(20, 4)).argmax(1)
with ug.Probe(model, optimizer, every=5) as probe:
    for step in range(300):
        some = torch.randint(len(x), (64,))
        loss = F.cross_entropy(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        probe.log(loss=loss)
report = ug.diagnose(probe.record)
"""
