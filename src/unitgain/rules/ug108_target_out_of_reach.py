"""UG108 target-out-of-reach: targets lie beyond what the output's last function can give.

Source: none; arithmetic. Bounds are followed through the functions behind the last layer, and the loss is asked whether
it minds, so that masked targets do not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..record import FurtherFacts
from ._comparison import asked, last_function, reach_in_words
from ._rule import About, BaseEvidence, Cause, Found, Threshold
from ._view import View
from ._words import show

ABOUT = About(
    code="UG108",
    name="target-out-of-reach",
    rank=100,
    exact=True,
    seen=(
        "Targets lie beyond what the output's last function (tanh, sigmoid, ReLU, softmax) can give, or all outputs "
        "lie where it is flat. Or the loss is lowest below zero of a further output, a log-variance say, whose last "
        "function (softplus, ReLU, exp) keeps it above."
    ),
    matters=(
        "These targets cannot be learnt however long training goes on: the outputs are pushed into the function's flat "
        "end, where gradients vanish."
    ),
    source="Arithmetic.",
    measured=(
        "Bounds are followed through all functions and constants behind the last layer. A target counts if the loss "
        "would be lower at it than at the nearest value that the output can give. A further output is given one value "
        "for all examples, above zero and below it, while what has the targets' shape is nearly right."
    ),
    action="Drop the last function, or scale the targets into its range.",
    effect="Every target can be reached.",
    verify="Check again.",
    remedies=("drop-last-function",),
    silent=(
        "outputs that are scaled to the targets' range behind the function",
        "ReLU or softplus outputs for counts and amounts",
        "targets that the loss masks",
        "a few outliers",
        "variances, deviations and rates, which the loss does not take below zero",
    ),
)

WARNING = Threshold(0.01, "of the targets: a rounding error or an outlier is no reason to change the model")
FLAT = ("relu", "relu6", "clamp", "clip", "hardtanh", "clamp_min", "hardsigmoid")
ERROR = Threshold(0.1, "of the targets: the error of these dominates the loss once the others are fitted")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """beyond: share of the targets; low, high: what the output can be; min, max: of the targets."""

    beyond: float
    function: str | None
    low: float
    high: float
    min: float
    max: float


@dataclass(frozen=True)
class Further(BaseEvidence):
    """place: of the output among all; function: its last one."""

    place: int
    function: str


def judge(view: View) -> Iterator[Found[Evidence | Further]]:
    for further in view.facts.comparison.reach.further or ():
        if further.beyond:
            yield _further(view, further)
            return
    asked(view)
    reach, targets = view.facts.comparison.reach, view.facts.comparison.targets
    name, site = last_function(view)
    if _is_stuck(view):
        output = view.facts.output
        yield ABOUT.found(
            "error",
            site,
            f"all outputs are {show(output.max)}, where {name} at the end is flat, and the targets run from "
            f"{show(targets.min)} to {show(targets.max)}",
            evidence=Evidence(
                targets.beyond, reach.function, reach.low, reach.high, targets.min, targets.max
            ),
            cause=f"What goes into {name} lies on its flat side for every example, so that no gradient passes.",
            remedy=(
                f"Drop {name} after the last layer; if the outputs must be positive, start with a larger bias there."
            ),
        )
        return
    if not targets.beyond > WARNING:
        return
    yield ABOUT.found(
        "error" if targets.beyond > ERROR else "warning",
        site,
        f"{targets.beyond:.0%} of the targets ({show(targets.min)} to {show(targets.max)}) lie beyond what {name} at "
        f"the end can give: {reach_in_words(view)}",
        evidence=Evidence(targets.beyond, reach.function, reach.low, reach.high, targets.min, targets.max),
        cause=f"Whatever the weights are, the output is {reach_in_words(view)}.",
        remedy=f"Drop {name} after the last layer{_or_scale(view)}.",
    )


def _further(view: View, further: FurtherFacts) -> Found[Further]:
    return ABOUT.found(
        "warning",
        view.facts.output.site,
        f"output {further.place + 1} has passed {further.function} and is 0 or more, and the loss is lowest where "
        "it is below zero",
        evidence=Further(further.place, further.function),
        cause="The loss takes it for a logarithm, as of a variance, and exponentiates it itself: behind "
        f"{further.function} the variance is never below one, however sure the network could be.",
        remedy=f"Drop {further.function} at the end of this output, or let the loss take it for the variance itself.",
    )


def _is_stuck(view: View) -> bool:
    """Whether every output lies at the lower end, a flat one, and not every target does."""
    reach, output, targets = view.facts.comparison.reach, view.facts.output, view.facts.comparison.targets
    flat = reach.function in FLAT and view.facts.comparison.asked.takes == "values"
    return flat and output.min == output.max == reach.low and targets.max > reach.low


def _or_scale(view: View) -> str:
    reach, targets = view.facts.comparison.reach, view.facts.comparison.targets
    if math.isinf(reach.high) or math.isinf(reach.low):
        return "; targets of both signs need outputs of both signs"
    factor = (reach.high - reach.low) / (targets.max - targets.min)
    shift = f" - {show(targets.min)}" if targets.min else ""
    back = f" + {show(reach.low)}" if reach.low > 0 else f" - {show(-reach.low)}" if reach.low < 0 else ""
    return f", or scale the targets into its range: (targets{shift}) * {show(factor)}{back}"


EXPLAINED_BY: tuple[Cause, ...] = (Cause("UG112"), Cause("UG111"))

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1), nn.Tanh())
x = torch.randn(256, 20)
y = x.sum(1, keepdim=True) / 20**0.5  # a third of these are larger than 1
report = ug.check(model, (x, y), F.mse_loss)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
x = torch.randn(256, 20)
y = x.sum(1, keepdim=True) / 20**0.5
report = ug.check(model, (x, y), F.mse_loss)
"""
