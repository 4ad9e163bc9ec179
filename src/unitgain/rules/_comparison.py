"""What the loss compares, for rules about outputs, targets and loss: whether it could be asked, and in which words."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..record import AskedFacts, TwiceFacts, is_blank
from ._rule import BaseEvidence, CannotJudge, Threshold
from ._view import View
from ._words import show

FLOOR = Threshold(
    0.05,
    "of the loss that was measured: by so much right answers within the output's reach cost more than right answers "
    "outside of it; rounding and a clipped but wide range stay below",
)


@dataclass(frozen=True)
class Again(BaseEvidence):
    """first: the function that what goes into `second` has passed; where: the line of the caller's code that calls the
    second."""

    first: str
    second: str
    where: str | None


def again(view: View, softmax: bool) -> TwiceFacts | None:
    """The first softmax of a softmax in the loss, or the first other such pair."""
    return next((c for c in view.facts.comparison.reach.twice or () if c.is_softmax == softmax), None)


def in_words(function: str) -> str:
    """A loss function by its name, others as "the softmax"."""
    return function if function.endswith(("loss", "entropy", "logits")) else f"the {function}"


def at(where: str | None) -> str:
    return f" ({where})" if where else ""


def asked(view: View) -> AskedFacts:
    """What the loss answered; raises CannotJudge if it could not be asked."""
    facts = view.facts.comparison.asked
    if is_blank(
        replace(facts, falls=None, highest=None, critic=None, repels=None, not_corners=None)
    ):  # which are asked in another way
        if view.facts.mode == "check" and view.facts.loss.value is None:
            raise CannotJudge("no loss was measured", lacks="loss and targets")
        lacks = "what the loss compares" if view.facts.mode == "check" else ""
        raise CannotJudge("the loss could not be called on made-up outputs and targets", lacks=lacks)
    return facts


def stops_short(view: View) -> bool:
    """Whether the output's last function keeps it from where the loss is lowest."""
    facts = view.facts.comparison.asked
    return facts.within - facts.lowest > FLOOR * abs(view.loss)


def reach_in_words(view: View) -> str:
    """What the output can be, as the end of a sentence: "between 0 and 1", "0 or more"."""
    reach = view.facts.comparison.reach
    if math.isinf(reach.high):
        return f"{show(reach.low)} or more"
    return (
        f"{show(reach.high)} or less"
        if math.isinf(reach.low)
        else f"between {show(reach.low)} and {show(reach.high)}"
    )


def last_function(view: View) -> tuple[str, str | None]:
    """(the function that limits the output, as in "the sigmoid"; the site where it was measured)."""
    name = view.facts.comparison.reach.function
    fits = [m for m in reversed(view.activations) if name and (m.function == name or m.role == name)]
    site = fits[0].name if fits else view.facts.output.site
    return f"the {name}" if name else "the last function", site
