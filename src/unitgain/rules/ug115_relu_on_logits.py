"""UG115 relu-on-logits: a ReLU or another function without negative values right before a loss that takes logits.

Source: none of the field's texts; reported often. The loss is asked whether it takes logits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ._comparison import asked, last_function, reach_in_words, stops_short
from ._rule import About, BaseEvidence, Cause, Found, Threshold
from ._view import View
from ._words import show

ABOUT = About(
    code="UG115",
    name="relu-on-logits",
    rank=150,
    exact=True,
    seen="Scores pass a ReLU, or another function without negative values, before the softmax, sigmoid or loss.",
    matters=(
        "A class whose score is negative comes out as zero and gets no gradient; one whose scores all are never "
        "learns. A sigmoid behind it cannot say a probability below one half."
    ),
    source="Glorot, Bordes and Bengio, Deep sparse rectifier neural networks, 2011: rectifiers are for hidden layers.",
    measured=(
        "Bounds are followed through the functions of one forward pass and of the loss, and the loss is called on "
        "made-up outputs: it takes logits if it applies a softmax or a sigmoid. The ReLU may also stand before a "
        "softmax, log-softmax or sigmoid that ends the model, or before a loss inside of the model."
    ),
    action="Drop the last function and return the last layer's output.",
    effect="Scores of either sign, and a gradient for each class.",
    verify="Check again.",
    remedies=("drop-last-function",),
    silent=(
        "ReLU and softplus outputs for counts and amounts",
        "log-softmax, leaky ReLU, and differences of rectified features",
        "a softmax or sigmoid inside of the network, as attention and gates have it",
    ),
)


POOLED = Threshold(
    4, "values that the function gives for each output at least, where the outputs are averages of them"
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """low, high: what the last function can give; takes: "scores" (a softmax) or "logits" (a sigmoid)."""

    function: str | None
    low: float
    high: float
    takes: str
    lowest_within: float | None = None


@dataclass(frozen=True)
class Behind(BaseEvidence):
    """function: the one without negative values; behind: the softmax or sigmoid that follows it, "loss" for one inside
    of the loss; where: the call of the loss function."""

    function: str
    behind: str
    where: str | None = None


def judge(view: View) -> Iterator[Found[Evidence | Behind]]:
    facts, reach = view.facts.comparison.asked, view.facts.comparison.reach
    if facts.takes in ("logits", "scores") and reach.low >= 0 and reach.high > 1:
        yield _last(view)
        return
    behind = _behind(view)
    if behind is not None:
        what = "the loss's own softmax or sigmoid" if behind.behind == "loss" else f"the {behind.behind}"
        yield ABOUT.found(
            "warning",
            view.facts.output.site,
            f"{behind.function} lets no score below zero through to {what}"
            + (f" ({behind.where})" if behind.where else "")
            + ", and a score below zero gets no gradient",
            evidence=behind,
            cause="The activation function of the hidden layers was put behind the last layer too.",
            remedy=f"Drop {behind.function} between the last layer and {what}.",
        )
    elif not view.facts.comparison.calls:
        asked(view)  # raises where nothing could be asked


def _behind(view: View) -> Behind | None:
    comparison = view.facts.comparison
    takes, reach = comparison.asked.takes, comparison.reach
    if takes in ("log_probabilities", "probabilities") and reach.rectified and reach.behind:
        return Behind(reach.rectified, reach.behind)
    for call in comparison.calls or ():
        if call.rectified and call.behind:
            return Behind(call.rectified, call.behind, call.where)
    return None


def _last(view: View) -> Found[Evidence]:
    facts, reach = view.facts.comparison.asked, view.facts.comparison.reach
    name, site = last_function(view)
    short = stops_short(view)
    if not short and _is_averaged(view, site):
        return ABOUT.found(
            "info",
            site,
            f"{name} keeps the outputs at {reach_in_words(view)}, and the loss takes logits of either sign; each "
            "output is an average over many places, so that few are zero and most get a gradient",
            evidence=Evidence(reach.function, reach.low, reach.high, facts.takes or "", None),
            cause="SqueezeNet and others end like this, and train.",
            remedy=f"If classes are never predicted, drop {name} after the last layer.",
        )
    floor = (
        f": the loss cannot fall below {show(facts.within)}"
        if short
        else ", and a score below zero gets no gradient"
    )
    return ABOUT.found(
        "error" if short else "warning",
        site,
        f"{name} keeps the outputs at {reach_in_words(view)}, and the loss takes logits of either sign{floor}",
        evidence=Evidence(
            reach.function, reach.low, reach.high, facts.takes or "", facts.within if short else None
        ),
        cause="The activation function of the hidden layers was put behind the last layer too.",
        remedy=f"Drop {name} after the last layer.",
    )


def _is_averaged(view: View, site: str | None) -> bool:
    """Whether what the function gives is pooled: it has many values for each of the outputs."""
    given = next((m for m in view.activations if m.name == site), None)
    output = view.facts.output.shape
    return (
        given is not None and output is not None and math.prod(given.site.shape) >= POOLED * math.prod(output)
    )


EXPLAINED_BY: tuple[Cause, ...] = (Cause("UG112"),)

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10), nn.ReLU())
batch = torch.randn(256, 20), torch.randint(10, (256,))
report = ug.check(model, batch, F.cross_entropy)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
batch = torch.randn(256, 20), torch.randint(10, (256,))
report = ug.check(model, batch, F.cross_entropy)
"""
