"""UG104 loss-not-finite: the loss is NaN or infinite.

Source: IEEE 754. Where an input or an activation was not finite before, that is the finding, and this its
consequence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._causes import is_error
from ._loss_curve import comes_back, finite_until, is_sudden
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View
from ._words import show

if TYPE_CHECKING:
    from . import ug111_loss_does_not_fit_task as ug111

ABOUT = About(
    code="UG104",
    name="loss-not-finite",
    rank=40,
    seen="The loss is NaN or infinite.",
    matters="One optimizer step with it makes every weight NaN.",
    source="IEEE 754: NaN and infinity propagate through arithmetic.",
    measured=(
        "The loss on the batch; named as a consequence where an input or an activation was not finite before. Of a run "
        "the recorded losses: some that are not finite between finite ones, or all from one step on, before which the "
        "loss was at its lowest. (One that rises first has diverged, which UG504 says.)"
    ),
    action=(
        "Compute the loss by hand on this batch's outputs and targets: a logarithm of zero, a division by "
        "zero (an average over no target) or an overflow is in it."
    ),
    effect="A finite loss and finite gradients.",
    verify="Check again: the loss is finite.",
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """first_site: the first activation that is not finite."""

    loss: float
    output_absmax: float
    first_site: str | None


@dataclass(frozen=True)
class Gaps(BaseEvidence):
    """broken: how many of the recorded losses (losses) are not finite, between finite ones; first: the step of the
    first."""

    broken: int
    losses: int
    first: int


def judge(view: View) -> Iterator[Found[Evidence | Gaps]]:
    if view.facts.mode == "training" and len(view.losses[1]):
        yield from _now_and_then(view)
        return
    if view.facts.loss.value is None:
        raise CannotJudge("no loss was measured")
    if math.isfinite(view.loss):
        steps, losses = view.losses
        if view.rehearsal and is_sudden(steps, losses):
            yield _at_once(view, int(steps[finite_until(losses)]), losses[finite_until(losses)])
        return
    empty = next((c for c in view.facts.comparison.calls or () if c.labels and not c.counted), None)
    if empty is not None and empty.labels:
        where = f" ({empty.where})" if empty.where else ""
        yield ABOUT.found(
            "error",
            view.facts.output.site,
            f"the loss is {view.loss}: all {empty.labels} labels of {empty.function}{where} are ignored",
            evidence=Evidence(view.loss, view.facts.output.absmax, None),
            cause="The mean over no label is zero divided by zero.",
            remedy="Leave out batches without a label that counts, or sum the losses and divide by the number of "
            "labels, at least one.",
        )
        return
    first = next((m for m in view.activations if m.broken), None)
    where = f"; first at {first.name}" if first else ", although every activation is finite"
    yield ABOUT.found(
        "error",
        first.name if first else view.facts.output.site,
        f"the loss is {view.loss}{where}",
        evidence=Evidence(view.loss, view.facts.output.absmax, first.name if first else None),
        cause=f"{first.name} is the first tensor that is not finite."
        if first
        else f"The loss function itself makes it, from finite outputs and the targets.{_outputs(view)}",
    )


def _now_and_then(view: View) -> Iterator[Found[Gaps]]:
    """Of a run: losses that are not finite between finite ones, so that no weight has become NaN by them."""
    steps, losses = view.losses
    if is_sudden(steps, losses):
        yield _at_once(view, int(steps[finite_until(losses)]), losses[finite_until(losses)])
    if not comes_back(losses):
        return  # all are finite; or it stays so after a rise: a divergence, which UG504 judges
    finite = np.isfinite(losses)
    first, broken = int(np.argmin(finite)), int((~finite).sum())
    yield ABOUT.found(
        "warning",
        view.facts.output.site,
        f"the loss is {losses[first]} at {broken} of {len(losses)} recorded steps, the first of them step "
        f"{int(steps[first])}, and finite in between",
        evidence=Gaps(broken, len(losses), int(steps[first])),
        cause="Weights are finite, so that those batches have no gradient or their steps were left out. A mean over no "
        "label is zero divided by zero: batches all of whose labels are ignored, or whose mask is empty.",
        remedy="Look at the batch of that step: leave out batches without a label that counts, or divide the sum of "
        "the "
        "losses by the number of labels, at least one.",
    )


def _at_once(view: View, step: int, loss: float) -> Found[Evidence]:
    """No growing steps led there: a function was given what it has no finite value or slope for."""
    broken = [m for m in (*view.activations, *view.parameter_gradients) if m.broken]
    where = f", seen at {broken[0].name}" if broken else ""
    return ABOUT.found(
        "error",
        None,
        f"the loss is {loss} from step {step} on{where}, and was at its lowest right before",
        evidence=Evidence(float(loss), view.facts.output.absmax, None),
        cause="No growing steps led there: a function has no finite value or slope there: the logarithm of 0, a "
        "division by 0, a root at 0, an arc cosine at 1, an exponential that overflows.",
        remedy="Look at each logarithm, division, root and exponential in the loss and the model: clamp their "
        "arguments, add a small eps inside, or use a form on logits (cross_entropy, binary_cross_entropy_with_logits, "
        "logsumexp).",
    )


def _outputs(view: View) -> str:
    """What a loss of the caller's own may stumble over in finite outputs."""
    if view.facts.loss.kind != "other":
        return ""
    site, least = view.output, view.facts.output.min
    if least < 0 and math.isnan(view.loss):
        return f" The outputs go down to {show(least)}: if it takes their logarithm or root, that is NaN."
    if site is not None and site["zero"] > 0:
        zeros = f"{site['zero']:.2%} of the outputs are zero"
        return f" {zeros}: if it takes their logarithm or divides by them, that is not finite."
    return ""


def _of_logarithms(cause: Found[ug111.Divergence], effect: Found[Evidence], view: View) -> bool:
    """A divergence takes the logarithm of its targets."""
    return getattr(cause.evidence, "target", None) == "log_probabilities"


EXPLAINED_BY = (Cause("UG202"), Cause("UG306", is_error), Cause("UG302"), Cause("UG111", _of_logarithms))

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))


def loss(output, target):
    return (output - target).log().mean()  # a logarithm of negative numbers


report = ug.check(model, (torch.randn(256, 20), torch.randn(256, 1)), loss=loss)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))


def loss(output, target):
    return (output - target).square().log1p().mean()


report = ug.check(model, (torch.randn(256, 20), torch.randn(256, 1)), loss=loss)
"""
