"""UG707 drops-most: a dropout leaves next to nothing.

Source: Srivastava et al. (2014), whose p is the probability to keep a unit, as in TensorFlow 1 (keep_prob); PyTorch's
p is the probability to drop it. That few units are left is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._comparison import at
from ._flow import why_trained
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View
from ._words import as_layer, plural, show

ABOUT = About(
    code="UG707",
    name="drops-most",
    rank=557,
    seen="A dropout drops nearly all of a layer's values, so that a few are left.",
    matters=(
        "What a layer says is then mostly noise of the mask: its variance is p / (1 - p) times the mean square, nine "
        "times at p = 0.9. Training is slow and ends far above what the network could reach."
    ),
    source=(
        "Srivastava et al., Dropout, 2014, whose p is the share that is kept; PyTorch documentation of "
        "torch.nn.Dropout, whose p is the share that is dropped."
    ),
    measured=(
        "Every call of a dropout function of torch in train mode, those of attention and between recurrent layers "
        "included: its probability, and how many values it leaves of one example, of one step of a sequence, or of the "
        "keys of one query."
    ),
    action="If the number was meant as the share to keep, give one minus it.",
    effect="The outputs of two passes over one batch resemble each other.",
    verify="Check again.",
    silent=(
        "dropout of the batch itself, as in denoising autoencoders",
        "layers so wide that a hundred values are left",
        "dropout that is switched off",
    ),
)

INFO = Threshold(0.75, "more than is usual; networks for video and for graphs go up to 0.8")
WARNING = Threshold(
    0.85,
    "shares to keep are 0.9 and 0.95 in most recipes, shares to drop are not above 0.8 where few units are left",
)
LEFT = Threshold(100, "values that are left: two-stream networks drop nine in ten of 4096, and train well")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """calls: how many dropouts beyond the limit; function, probability, where: of the worst; left: values that it keeps
    on average."""

    calls: int
    function: str
    probability: float
    left: float
    where: str | None

    @property
    def size(self) -> float:
        """The probability."""
        return self.probability


def judge(view: View) -> Iterator[Found[Evidence]]:
    drops = view.facts.comparison.reach.drops
    if drops is None:
        raise CannotJudge("calls of dropout in train mode were not seen")
    few = [d for d in drops if d.probability >= WARNING and (1 - d.probability) * d.values < LEFT]
    high = few or [d for d in drops if d.probability >= INFO]
    if not high:
        return
    worst = max(high, key=lambda d: d.probability)
    name = worst.site or worst.function
    left = (1 - worst.probability) * worst.values
    what = "weights of a query" if "attention" in worst.function else "values"
    more = f", and {plural(len(high) - 1, 'more dropout')} likewise" if len(high) > 1 else ""
    kept = show(1 - worst.probability)
    yield ABOUT.found(
        "warning" if few and not why_trained(view) else "info",
        worst.site or None,
        f"{name}{at(worst.where)} drops with probability {show(worst.probability)}: of "
        f"{worst.values} {what} it keeps {show(left)}{more}",
        evidence=Evidence(len(high), worst.function, worst.probability, left, worst.where),
        cause="PyTorch's p is the share that is dropped; older programs and papers give the share that is kept.",
        remedy=f"If {show(worst.probability)} was meant as the share that {as_layer(name)} is to keep, give {kept}: p "
        "is the share to drop.",
    )


EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.9), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""
