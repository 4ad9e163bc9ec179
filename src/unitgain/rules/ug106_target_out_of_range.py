"""UG106 target-out-of-range: a loss that cannot be negative is, because of what it is given.

Source: none of the field's texts; the cases are reported often (masks of 0 and 255, labels of -1 and 1, raw scores into
a loss that takes log-probabilities). The loss is asked how low it gets, and how low with targets between 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..record import LossCallFacts
from ._comparison import asked
from ._rule import About, BaseEvidence, Cause, Found, Threshold
from ._view import View
from ._words import show

ABOUT = About(
    code="UG106",
    name="target-out-of-range",
    rank=70,
    exact=True,
    seen=(
        "A cross entropy gets targets outside of 0 to 1, or outputs that are no log-probabilities where it takes "
        "those: it becomes negative, or lowest at wrong answers, which it cannot be for targets and outputs in "
        "range. Or it does not look at the outputs of one of two targets, such as a hinge of 0 and 1."
    ),
    matters=(
        "Such a loss falls without end as the outputs grow, or has its minimum at nonsense. Training looks good for a "
        "while, since the loss falls, and then diverges."
    ),
    source="PyTorch documentation: BCEWithLogitsLoss, NLLLoss and CTCLoss say what targets and inputs they take.",
    measured=(
        "The loss is called on right answers of growing size with the batch's targets and with the same clipped to "
        "0 to 1. A loss of class indices that falls by the same amount for each number added to all outputs takes "
        "log-probabilities, whose exponentials sum to one. Of targets of two values, the outputs at one are changed; "
        "of class numbers, one for each example, the loss's slope is taken at made-up outputs: rows of a class without "
        "any. Of boxes, what answers that equal the targets cost, box by box, as they are and brought to corners. Of "
        "torch's losses of -1 and 1 (cosine_embedding_loss, hinge_embedding_loss, margin_ranking_loss, "
        "soft_margin_loss), wherever they are called: whether their targets are 0 and 1; of binary cross entropies: "
        "whether they are -1 and 1."
    ),
    action="Bring the targets into the range 0 to 1.",
    effect="The loss has a minimum at right answers, and is not negative.",
    verify="Check again.",
    remedies=("log-softmax",),
    silent=(
        "label smoothing and soft targets",
        "targets that the loss scales or masks itself",
        "losses that may be negative: likelihoods of densities, critics, policy gradients, hinge losses of -1 and 1",
        "log-softmax before nll or CTC",
        "a third value in targets of a loss of -1 and 1 (a tie), losses that are weighted or masked afterwards",
    ),
)

BYTE = Threshold(255, "the largest value of 8-bit masks, as image files hold them")
BYTES = Threshold(100, "a largest whole target above it, up to 255, is that of an 8-bit mask")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """min, max: of the targets; negative: the lowest loss that was seen on made-up outputs, None if not asked; takes:
    what the loss takes outputs for, None if not known."""

    min: float
    max: float
    negative: float | None
    takes: str | None


def judge(view: View) -> Iterator[Found[Evidence]]:
    call = next((c for c in view.facts.comparison.calls or () if c.instead), None)
    if call is not None:
        yield _other_labels(view, call)
        return
    facts, targets = asked(view), view.facts.comparison.targets
    if facts.not_corners:
        yield _no_corners(view)
        return
    if facts.takes is None and math.isnan(facts.silent_label):
        return
    if facts.negative < 0:
        yield ABOUT.found(
            "error",
            view.facts.output.site,
            f"the targets run from {show(targets.min)} to {show(targets.max)}, and the loss takes them for "
            f"probabilities: it falls to {show(facts.negative)} and below on growing outputs, where it could not be "
            "negative",
            evidence=Evidence(targets.min, targets.max, facts.negative, facts.takes),
            cause="Outside of 0 to 1, one of the two terms of a cross entropy changes its sign, and nothing holds the "
            "outputs back.",
            remedy=_into_range(view),
        )
    elif facts.backwards:
        yield ABOUT.found(
            "error",
            view.facts.output.site,
            f"the targets run from {show(targets.min)} to {show(targets.max)}, and the loss takes them for "
            "probabilities: right answers cost more than none",
            evidence=Evidence(targets.min, targets.max, None, facts.takes),
            cause="Outside of 0 to 1, one of the two terms of a cross entropy changes its sign.",
            remedy=_into_range(view),
        )
    elif not math.isnan(facts.silent_label):
        yield _silent(view, facts.silent_label)
    elif facts.takes == "log_probabilities" and view.facts.target.kind == "class_index":
        yield from _no_log_probabilities(view)


def _other_labels(view: View, call: LossCallFacts) -> Found[Evidence]:
    """Labels of two values in the place of the two others that a loss function of torch takes."""
    low, high = call.instead or (math.nan, math.nan)
    signs = low == 0  # what it takes
    takes = "-1 and 1" if signs else "0 and 1"
    return ABOUT.found(
        "error",
        view.facts.output.site,
        f"the targets of F.{call.function} are {show(low)} and {show(high)}, and it takes {takes}"
        + (f" ({call.where})" if call.where else ""),
        evidence=Evidence(low, high, None, None),
        cause="A target of 0 is neither of the two: its outputs get no gradient, or one that does not depend on the "
        "label."
        if signs
        else "A target of -1 changes the sign of one of the two terms, and nothing holds the outputs back.",
        remedy="Map targets of 0 and 1 to -1 and 1: 2 * targets - 1."
        if signs
        else "Map targets of -1 and 1 to 0 and 1: (targets + 1) / 2.",
    )


def _silent(view: View, label: float) -> Found[Evidence]:
    targets = view.facts.comparison.targets
    if view.facts.target.kind == "class_index":
        return ABOUT.found(
            "warning",
            view.facts.output.site,
            f"the loss does not look at examples of class {label:g}, whatever their outputs are: only those of other "
            "classes count",
            evidence=Evidence(targets.min, targets.max, None, None),
            cause=f"Class {label:g} has a weight of zero in the loss, is the one to be ignored, or is masked away.",
            remedy=f"Give class {label:g} a weight above zero (weight= and ignore_index= of the loss, and masks). If "
            "it is to be left out on purpose, leave its examples out of the data.",
        )
    other = targets.max if label == targets.min else targets.min
    of_signs = (
        f"If it is a hinge, or takes signs, map {show(label)} to {show(-other)}; else"
        if not label
        else "Else"
    )
    return ABOUT.found(
        "warning",
        view.facts.output.site,
        f"the loss does not look at outputs whose target is {show(label)}, whatever they are, only at those of "
        f"{show(other)}",
        evidence=Evidence(targets.min, targets.max, None, None),
        cause=f"It multiplies by the target, and a term for {show(label)} is missing, or it takes targets of -1 and 1.",
        remedy=f"{of_signs} give those targets a term of their own: without one, the same output for all is right.",
    )


def _no_corners(view: View) -> Found[Evidence]:
    targets = view.facts.comparison.targets
    return ABOUT.found(
        "error",
        view.facts.output.site,
        "answers that equal the targets cost more for some boxes than for others, and the same for all once both are "
        "brought to corners",
        evidence=Evidence(targets.min, targets.max, None, None),
        cause="The loss takes boxes for two corners (x1, y1, x2, y2), and they are given as a centre, or a corner, and "
        "a size: sizes are compared as if they were places.",
        remedy="Bring outputs and targets to corners before the overlap is taken: (x - w/2, y - h/2, x + w/2, y + h/2) "
        "of a centre and a size, (x, y, x + w, y + h) of a corner and a size.",
    )


def _no_log_probabilities(view: View) -> Iterator[Found[Evidence]]:
    reach, targets = view.facts.comparison.reach, view.facts.comparison.targets
    if reach.log_probabilities or reach.high <= 0:
        return
    probabilities = reach.low == 0 and reach.high == 1
    what = "probabilities" if probabilities else "scores of any size"
    effect = "it is negative from the start" if probabilities else "it falls without end as all outputs grow"
    yield ABOUT.found(
        "error",
        view.facts.output.site,
        f"the outputs are {what}, and the loss takes log-probabilities: {effect}",
        evidence=Evidence(targets.min, targets.max, None, "log_probabilities"),
        cause="Only of log-probabilities, which are never above zero, can the loss not be negative.",
        remedy=(
            "Take the logarithm: replace the softmax by a log_softmax."
            if probabilities
            else "Apply log_softmax over the classes before this loss, or take cross entropy, which does it."
        ),
    )


def _into_range(view: View) -> str:
    targets = view.facts.comparison.targets
    if targets.whole and targets.min >= 0 and BYTES < targets.max <= BYTE:
        return f"Divide the targets by {show(targets.max)}: they look like an 8-bit mask."
    if (targets.min, targets.max) == (-1, 1) and targets.whole:
        return "Map targets of -1 and 1 to 0 and 1: (targets + 1) / 2."
    if targets.whole and math.isfinite(targets.max) and targets.max - targets.min == 1:
        return f"Subtract {show(targets.min)} from the targets, so that they are 0 and 1."
    if targets.min == 0:
        return (
            f"Bring the targets into the range 0 to 1: divide them by {show(targets.max)}, or take squared error if "
            "they are amounts."
        )
    return (
        f"Bring the targets into the range 0 to 1: (targets - {show(targets.min)}) / "
        f"{show(targets.max - targets.min)}, or "
        "take squared error if they are amounts."
    )


EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 1))
x = torch.randn(16, 3, 12, 12)
mask = (x.mean(1, keepdim=True) > 0)[..., 1:-1, 1:-1] * 255.0  # as the file has it
report = ug.check(model, (x, mask), F.binary_cross_entropy_with_logits)
"""

GOOD = """
model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 1))
x = torch.randn(16, 3, 12, 12)
mask = (x.mean(1, keepdim=True) > 0)[..., 1:-1, 1:-1] * 255.0
report = ug.check(model, (x, mask / 255), F.binary_cross_entropy_with_logits)
"""
