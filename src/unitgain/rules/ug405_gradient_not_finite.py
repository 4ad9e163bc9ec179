"""UG405 gradient-not-finite: NaN or infinity that arises on the way back.

Source: PyTorch's documentation on gradients of functions where they are not differentiable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ._causes import ended_not_finite, is_error
from ._loss_curve import is_sudden
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View
from ._words import MOST_KEPT, as_layer, plural

ABOUT = About(
    code="UG405",
    name="gradient-not-finite",
    rank=60,
    seen="The loss is finite but a gradient is NaN or infinite.",
    matters="The next optimizer step destroys the weights.",
    source="PyTorch documentation: gradients of functions at points where they are not differentiable.",
    measured=(
        "Non-finite values in the gradients of parameters and activations, in backward order. In a training "
        "run only if the last two sampled steps both have them, since loss scaling overflows now and then by "
        "design."
    ),
    action=(
        "Look at what lies right after the named site: a root or norm at exactly zero, a division, a "
        "logarithm, an arccosine or arcsine at one, or torch.where around one of them (mask its input, not its output)."
    ),
    effect="Finite gradients.",
    verify="Check again.",
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """number: parameters whose gradient is not finite, and the first of their names; first: in backward order."""

    parameters: Sequence[str]
    number: int
    first: str


def judge(view: View) -> Iterator[Found[Evidence]]:
    if not view.parameter_gradients:
        raise CannotJudge("no gradient was measured")
    bad = [m for m in view.parameter_gradients if m.broken]
    if not bad or (view.training and (not _broken_twice(view) or is_sudden(*view.losses))):
        return  # what UG104 names has made every later gradient NaN
    parameter = max(bad, key=lambda m: m.position)
    site = max((m for m in view.gradients if m.broken), key=lambda m: m.position, default=None)
    where = f", first (in backward order) at {site.name}" if site else ""
    yield ABOUT.found(
        "error",
        site.name if site else parameter.name,
        f"NaN or infinity in the gradients of {plural(len(bad), 'parameter')}{where}; the last one in the "
        f"model is {parameter.name}",
        evidence=Evidence([m.name for m in bad][:MOST_KEPT], len(bad), parameter.name),
        cause=f"It arises between the output of {as_layer(site.name)} and the loss."
        if site
        else f"It arises in the backward of the module that owns {parameter.name}.",
        remedy=f"Look at what lies right after {as_layer(site.name) if site else parameter.name}: a root or norm at "
        "exactly zero, a division, a logarithm, an arccosine or arcsine at one, or torch.where around one of them "
        "(mask its input, not its output).",
    )


def _broken_twice(view: View) -> bool:
    steps = view.over_steps("parameter_gradient", "nonfinite")
    return any(len(values) >= 2 and values[-1] > 0 and values[-2] > 0 for values in steps.values())


EXPLAINED_BY = (
    Cause("UG119"),
    Cause("UG202"),
    Cause("UG306", is_error),
    Cause("UG104"),
    Cause("UG302"),
    Cause("UG504", ended_not_finite),
)

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 8))


def loss(z, target):
    distance = (z[:, None] - z).square().sum(-1).sqrt()  # to itself: 0, an infinite slope
    return F.mse_loss(distance, target)


report = ug.check(model, (torch.randn(32, 20), torch.ones(32, 32)), loss=loss)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 8))


def loss(z, target):
    distance = ((z[:, None] - z).square().sum(-1) + 1e-6).sqrt()
    return F.mse_loss(distance, target)


report = ug.check(model, (torch.randn(32, 20), torch.ones(32, 32)), loss=loss)
"""
