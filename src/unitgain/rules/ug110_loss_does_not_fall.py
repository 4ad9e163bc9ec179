"""UG110 loss-does-not-fall: a rehearsal on one batch does not lower the loss of that batch.

Source: Karpathy, A recipe for training neural networks (2019): overfit one batch. What is ours: both losses are taken
with the same random numbers, and a short step against the gradient shows whether it is the gradient of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ._flow import TRAINED
from ._loss_curve import GRADIENT, PROGRESS
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._updates import update_ratios
from ._view import View
from ._words import show
from .ug114_loss_at_constant import COLLAPSED, ONE_POINT

ABOUT = About(
    code="UG110",
    name="loss-does-not-fall",
    rank=260,
    seen="Twenty or more steps on one batch do not lower the loss of that batch, and no other finding says why.",
    matters="A network that cannot memorize one batch learns nothing from many.",
    source="Karpathy, A recipe for training neural networks, 2019.",
    measured=(
        "The loss of the batch before the first and after the last step, with the same random numbers for both "
        "(dropout, drawn noise). Where it did not fall, one short step against the gradient is made from the start, "
        "and what it lowers the loss by is compared with what the gradient says. Not judged: fresh batches, a model "
        "that is trained already, updates so small that the loss could not have fallen."
    ),
    action="Look at what comes between the model and the loss, and at the targets' order.",
    effect="The loss of one batch falls by a large part within some tens of steps.",
    verify="Check again with steps=50.",
    needs="steps",
    silent=("a model that is trained already", "small steps", "noisy losses that fall in the mean"),
)

STEPS = Threshold(20, "rehearsed steps: fewer may be a warm-up")
MOVED = Threshold(
    -3.5, "log10 of update:data: at it the weights move by half a percent in 20 steps, and the loss need not"
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """first, last: losses; updates: median log10 of update:data; descent: what a short step against the gradient lowers
    the loss by, over what the gradient says, NaN where that was not measured; reached, of: parameters with a
    gradient."""

    first: float
    last: float
    updates: float
    descent: float
    reached: int | None
    of: int | None

    @property
    def gradient_is_wrong(self) -> bool:
        return self.descent < GRADIENT


def judge(view: View) -> Iterator[Found[Evidence]]:
    end, first = view.facts.function.end, view.loss
    if not view.rehearsal or (math.isnan(end.loss) and not end.descent < GRADIENT):
        raise CannotJudge(f"needs a rehearsal of {STEPS:g} steps on one batch")
    if not first > 0:
        raise CannotJudge("the loss is zero or negative at first")
    if first - end.loss >= PROGRESS * first:
        return
    updates = float(np.median([np.nanmedian(values) for values in update_ratios(view).values()]))
    if not updates > MOVED:
        raise CannotJudge("the steps are too small to show whether the loss falls")
    constant = view.facts.loss_of_a_constant
    rises = not end.loss <= first * (1 + PROGRESS)  # or is not finite
    if first < TRAINED * constant or (not rises and first < TRAINED * end.constant):
        raise CannotJudge("the model is trained already: its loss need not fall further")
    if (
        end.spread < ONE_POINT
        and end.deviation < COLLAPSED * view.facts.output.spread * view.facts.output.rms
    ):
        raise CannotJudge("the outputs became the same for all examples (UG114)")
    gradients = view.facts.gradients
    found = Evidence(first, end.loss, updates, end.descent, gradients.reached, gradients.of)
    if rises and not found.gradient_is_wrong:
        return  # along a right gradient: the rate, which UG504 says
    how = "rises" if rises else "stays"
    cause, remedy = _why(found)
    yield ABOUT.found(
        "warning",
        None,
        f"the loss of the batch {how}: {show(first)} before and {show(end.loss)} after {view.facts.rehearsed_steps} "
        f"steps on it, with updates of 10^{updates:.1f} of the weights",
        evidence=found,
        cause=cause,
        remedy=remedy,
    )


def _why(found: Evidence) -> tuple[str, str]:
    ruled_out = f"A gradient reaches {found.reached} of {found.of} parameters, and the weights move."
    if math.isnan(found.descent):
        return ruled_out, ABOUT.action
    if found.gradient_is_wrong:
        return (
            f"{ruled_out} But the gradient is not that of the loss: a short step against it lowers the loss by "
            f"{found.descent:.0%} of what it promises.",
            "Look for an autograd.Function or a hook whose backward is not the derivative of its forward, weights that "
            "forward sets anew, and targets or noise that another call draws anew.",
        )
    return (
        f"{ruled_out} A short step against the gradient lowers the loss as it should; the optimizer's steps do not.",
        "Try a tenth of the rate, and look at the optimizer: its sign (maximize), what moves weights behind it, and "
        "whether targets are drawn or shuffled anew at each step.",
    )


def _rate_is_at_fault(cause: Found[BaseEvidence], effect: Found[Evidence], view: View) -> bool:
    return not effect.evidence.gradient_is_wrong and cause.severity != "info"


EXPLAINED_BY = (
    *(
        Cause(code)
        for code in (
            "UG102", "UG103", "UG104", "UG105", "UG106", "UG107", "UG108", "UG109", "UG111", "UG112", "UG115",
            "UG203", "UG301", "UG302", "UG303", "UG304", "UG306", "UG307", "UG401", "UG402", "UG403", "UG405", "UG406",
            "UG506", "UG507", "UG508", "UG606", "UG701", "UG702",
        )
    ),
    Cause("UG501", _rate_is_at_fault),
    Cause("UG502"),
)  # fmt: skip

BAD = """
class Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(-3, 3)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient  # the sign is wrong


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 10))

    def forward(self, x):
        return Clipped.apply(self.body(x))


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))), steps=20, optimizer=optimizer)
"""

GOOD = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 10))

    def forward(self, x):
        return self.body(x).clamp(-3, 3)


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))), steps=20, optimizer=optimizer)
"""
