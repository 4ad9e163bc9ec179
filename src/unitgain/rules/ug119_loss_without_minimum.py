"""UG119 loss-without-minimum: the loss falls for ever as an output moves on.

Source: none; reports of divergences with a wrong sign, of arguments that changed places, and of rewards without a
minus. The measurement is ours (_check/floor.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..record import LossCallFacts
from ._comparison import at
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View

ABOUT = About(
    code="UG119",
    name="loss-without-minimum",
    rank=72,
    exact=True,
    seen="The loss of these targets has no minimum: it falls without end as an output moves on against its slope.",
    matters=(
        "Training then does not bring the outputs to the targets but lets one of them grow, as fast as the learning "
        "rate allows. The loss looks better at every step, far below zero, until numbers overflow."
    ),
    source="Arithmetic.",
    measured=(
        "The loss is called on the batch's outputs, each tensor of them moved on its own against its gradient, by 100 "
        "and by 10,000 times the largest output or target. It has no minimum if it still falls between the two, by a "
        "hundredth or more of what the slope promises. Only losses that depend on the targets are asked, and outputs "
        "that no last function limits. A cross entropy of torch whose target has a gradient, and whose input has none, "
        "has them in the wrong order."
    ),
    action=(
        "Look for a wrong sign in front of a term (a divergence, an entropy, a logarithm), for arguments of the loss "
        "that changed places, and for a penalty that was subtracted."
    ),
    effect="The loss has a minimum where the outputs fit the targets.",
    verify="Check again.",
    silent=(
        "densities and critics, whose losses do not depend on targets",
        "targets of -1 and 1",
        "losses of log-probabilities",
        "terms of the loss among the outputs, as a code book's or a balance of experts is",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """loss: on the batch."""

    loss: float


def judge(view: View) -> Iterator[Found[Evidence]]:
    if (call := view.facts.comparison.swapped) is not None:
        yield _swapped(view, call)
        return
    falls = view.facts.comparison.asked.falls
    if falls is None:
        raise CannotJudge("the loss is not one of targets, or could not be called on other outputs")
    if any(call.given in ("scores", "probabilities") for call in view.facts.comparison.calls or ()):
        return  # a divergence that is given no logarithms, which UG111 names
    if falls:
        yield ABOUT.found(
            "error",
            view.facts.output.site,
            "the loss has no minimum: it falls without end, in proportion, as an output moves on against its slope",
            evidence=Evidence(view.loss),
            cause="A term is linear in an output where it should have a lowest value: its sign is wrong, or outputs "
            "and "
            "targets have changed places in a call.",
        )


def _swapped(view: View, call: LossCallFacts) -> Found[Evidence]:
    return ABOUT.found(
        "error",
        view.facts.output.site,
        f"{call.function}{at(call.where)} is given the targets as its input, and the outputs as its targets",
        evidence=Evidence(view.loss),
        cause="Its target has a gradient and its input has none: the arguments changed places. In its target such a "
        "loss is linear, and has no minimum.",
        remedy=f"Give {call.function}{at(call.where)} the outputs first and the targets second.",
    )


EXPLAINED_BY: tuple[Cause, ...] = (Cause("UG106"),)

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
x, y = torch.randn(256, 20), F.one_hot(torch.randint(10, (256,)), 10).float()


def cross_entropy(weights, scores):
    return -(weights * scores.log_softmax(1)).sum(1).mean()


report = ug.check(model, (x, y), cross_entropy)  # which is given (outputs, targets)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
x, y = torch.randn(256, 20), F.one_hot(torch.randint(10, (256,)), 10).float()


def cross_entropy(weights, scores):
    return -(weights * scores.log_softmax(1)).sum(1).mean()


report = ug.check(model, (x, y), lambda outputs, targets: cross_entropy(targets, outputs))
"""
