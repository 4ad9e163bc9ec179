"""UG115 relu-on-logits: a ReLU or another function without negative values right before a loss that takes logits.

Source: none of the field's texts; reported often. The loss is asked whether it takes logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._comparison import asked, last_function, reach_in_words, stops_short
from ._rule import About, BaseEvidence, Cause, Found
from ._view import View
from ._words import show

ABOUT = About(
    code="UG115",
    name="relu-on-logits",
    rank=150,
    exact=True,
    seen="The outputs pass a ReLU, or another function without negative values, right before a loss that takes logits.",
    matters=(
        "A class whose score is negative comes out as zero and gets no gradient; one whose scores all are never "
        "learns. A sigmoid behind it cannot say a probability below one half."
    ),
    source="Glorot, Bordes and Bengio, Deep sparse rectifier neural networks, 2011: rectifiers are for hidden layers.",
    measured=(
        "Bounds are followed through the functions of one forward pass, and the loss is called on made-up outputs: it "
        "takes logits if it applies a softmax or a sigmoid."
    ),
    action="Drop the last function and return the last layer's output.",
    effect="Scores of either sign, and a gradient for each class.",
    verify="Check again.",
    remedies=("drop-last-function",),
    silent=(
        "ReLU and softplus outputs for counts and amounts",
        "log-softmax, leaky ReLU, and differences of rectified features",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """low, high: what the last function can give; takes: "scores" (a softmax) or "logits" (a sigmoid)."""

    function: str | None
    low: float
    high: float
    takes: str
    lowest_within: float | None = None


def judge(view: View) -> Iterator[Found[Evidence]]:
    facts, reach = asked(view), view.facts.comparison.reach
    if facts.takes not in ("logits", "scores") or not reach.low >= 0 or reach.high <= 1:
        return
    name, site = last_function(view)
    short = stops_short(view)
    floor = (
        f": the loss cannot fall below {show(facts.within)}"
        if short
        else ", and a score below zero gets no gradient"
    )
    yield ABOUT.found(
        "error" if short else "warning",
        site,
        f"{name} keeps the outputs at {reach_in_words(view)}, and the loss takes logits of either sign{floor}",
        evidence=Evidence(
            reach.function, reach.low, reach.high, facts.takes, facts.within if short else None
        ),
        cause="The activation function of the hidden layers was put behind the last layer too.",
        remedy=f"Drop {name} after the last layer.",
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
