"""UG105 sigmoid-before-logits: the outputs are squeezed into a short interval, and the loss takes logits.

Source: PyTorch's documentation of BCEWithLogitsLoss. That the loss is asked whether it applies a sigmoid or a softmax,
so that losses of one's own count too, is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..record import TwiceFacts
from ._comparison import (
    Again,
    again,
    asked,
    at,
    in_words,
    last_function,
    reach_in_words,
    stops_short,
)
from ._rule import About, BaseEvidence, Cause, Found, Threshold
from ._view import View
from ._words import show

ABOUT = About(
    code="UG105",
    name="sigmoid-before-logits",
    rank=110,
    exact=True,
    seen=(
        "The outputs have passed a sigmoid (or another function with narrow bounds), and the loss applies a sigmoid "
        "or a softmax itself; or it applies two. Or the loss is a critic's, whose scores need no bounds."
    ),
    matters=(
        "The second sigmoid sees numbers between 0 and 1 only, so that it gives 0.5 to 0.73: the loss cannot come near "
        "zero however right the model is, a probability below one half cannot be said, and gradients shrink."
    ),
    source="PyTorch documentation: BCEWithLogitsLoss combines a sigmoid layer and the binary cross entropy.",
    measured=(
        "Bounds are followed through the functions of one forward pass. The loss is called on made-up targets and on "
        "right answers of many sizes: it takes logits if large ones of either sign are best, and the finding is that "
        "right answers within the bounds cost more. In one pass, a sigmoid is followed to each function of logits that "
        "the loss, or the model's own loss, calls. A critic's loss is linear in the outputs, and of two targets "
        "falls by the outputs of one and rises by those of the other."
    ),
    action="Drop the last function and return logits; apply it only where probabilities are shown.",
    effect="The loss can reach zero, and gradients are several times larger.",
    verify="Check again: nothing limits the outputs.",
    remedies=("drop-last-function",),
    silent=(
        "sigmoid outputs under binary cross entropy or squared error, autoencoders and discriminators among them",
        "logits that happen to lie between 0 and 1",
        "bounds so wide that they cost nothing, such as 10 tanh(x)",
        "positions of a trader, and other outputs that are multiplied with numbers of many sizes",
    ),
)

NARROW = Threshold(
    2.01, "length of the interval: that of tanh and of a cosine; wider ones are clips on purpose"
)


@dataclass(frozen=True)
class Bounds(BaseEvidence):
    """low, high: what the last function can give; lowest: the lowest loss for right answers, and within those
    bounds."""

    function: str | None
    low: float
    high: float
    lowest: float
    lowest_within: float
    takes: str


@dataclass(frozen=True)
class Critic(BaseEvidence):
    """function: the last one; low, high: what it can give."""

    function: str | None
    low: float
    high: float


Evidence = Bounds | Again | Critic


def judge(view: View) -> Iterator[Found[Bounds | Again | Critic]]:
    reach = view.facts.comparison.reach
    narrow = reach.high - reach.low < NARROW
    if narrow and view.facts.comparison.asked.critic:
        yield _of_a_critic(view)
        return
    call = again(view, softmax=False)
    facts = view.facts.comparison.asked if call else asked(view)
    limits = narrow and facts.takes in ("logits", "scores") and stops_short(view)
    is_softmax = facts.takes == "scores" and "softmax" in (reach.function or "")  # that is UG103's
    if not limits or facts.takes is None or is_softmax:
        if call is not None:
            yield _in_the_loss(view, call)
        return
    name, site = last_function(view)
    applies = "a sigmoid" if facts.takes == "logits" else "a softmax"
    yield ABOUT.found(
        "error" if reach.low == 0 else "warning",
        site,
        f"{name} keeps the outputs {reach_in_words(view)}, and the loss applies {applies} to them again: it cannot "
        f"fall below {show(facts.within)} (without: {show(facts.lowest)})",
        evidence=Bounds(reach.function, reach.low, reach.high, facts.lowest, facts.within, facts.takes),
        cause="The loss expects logits, any number of either sign.",
        remedy=f"Drop {name} after the last layer and return logits, or take a loss of probabilities.",
    )


def _of_a_critic(view: View) -> Found[Critic]:
    reach, (name, site) = view.facts.comparison.reach, last_function(view)
    return ABOUT.found(
        "warning",
        site,
        f"{name} keeps the outputs {reach_in_words(view)}, and the loss is their difference between two kinds of "
        "examples, as a critic's",
        evidence=Critic(reach.function, reach.low, reach.high),
        cause="Such a loss drives the outputs as far apart as they go: into both flat ends of the function, where no "
        "gradient is left, neither for the critic nor for its generator.",
        remedy=f"Drop {name} after the last layer: a critic's score has no bounds; a gradient penalty or weights of "
        "limited norm hold it.",
    )


def _in_the_loss(view: View, call: TwiceFacts) -> Found[Again]:
    """A sigmoid or softmax before a function that takes logits."""
    return ABOUT.found(
        "warning" if call.first == "tanh" else "error",
        view.facts.output.site,
        f"{in_words(call.second)}{at(call.where)} takes logits, and is given what has passed the {call.first}",
        evidence=Again(call.first, call.second, call.where),
        cause=f"Its input lies within the bounds of the {call.first}, in the loss or in the model.",
        remedy=f"Give {call.second}{at(call.where)} the logits themselves, without {call.first}, or take a loss of "
        "probabilities.",
    )


EXPLAINED_BY: tuple[Cause, ...] = (Cause("UG112"),)

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())
x = torch.randn(256, 20)
y = (x.sum(1, keepdim=True) > 0).float()
report = ug.check(model, (x, y), F.binary_cross_entropy_with_logits)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
x = torch.randn(256, 20)
y = (x.sum(1, keepdim=True) > 0).float()
report = ug.check(model, (x, y), F.binary_cross_entropy_with_logits)
"""
