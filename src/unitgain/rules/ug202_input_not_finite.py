"""UG202 input-not-finite: the batch holds NaN or infinity, or a later one does.

Source: IEEE 754. Additive masks, which hold minus infinity on purpose, are recognized by their name, or by what comes
out: a softmax turns minus infinity into zero, whereas a weight would turn it into infinity or NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..record import BrokenFacts
from ._flow import is_additive_mask
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View
from ._words import listed

if TYPE_CHECKING:
    from . import ug203_constant_feature as ug203

ABOUT = About(
    code="UG202",
    name="input-not-finite",
    rank=0,
    seen="NaN or infinity in the batch, its targets, or another batch of the data.",
    matters="It reaches every weight within one step.",
    source="IEEE 754: NaN and infinity propagate through arithmetic.",
    measured=(
        "Fraction of non-finite values in each floating-point input, and the examples that hold them. Of targets, and "
        "of the batches of a rehearsal's data: in the first one whose loss is not finite."
    ),
    action=(
        "Find out where the data loader lets NaN or infinity through (a missing value, a division by a zero "
        "standard deviation, a logarithm of zero) and repair or drop these examples."
    ),
    effect="NaN and infinity disappear from activations, loss and gradients too.",
    verify="Check again on the same examples.",
    silent=(
        "an additive mask that holds minus infinity: outputs and loss are finite",
        "targets that are NaN where they are missing, if the loss leaves them out",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """nonfinite: fraction of the values; bad_examples: which hold them, the first 20; batch: which of the data's they
    are in, 0 for the one that is checked; in_targets: whether they are in its targets."""

    nonfinite: float
    bad_examples: Sequence[int]
    batch: int = 0
    in_targets: bool = False


def judge(view: View) -> Iterator[Found[Evidence]]:
    broken = view.facts.batches.broken
    if broken is not None:
        yield _in_a_batch(broken)
    elif not view.inputs:
        raise CannotJudge("no input was measured")
    for measured in view.inputs:
        if not measured.broken or is_additive_mask(view, measured):
            continue
        bad = list(measured.site.attributes.get("bad_examples", ()))
        total = int(measured.site.attributes.get("bad_count", len(bad)))
        which = f" (examples {listed((str(i) for i in bad), total=total)})" if bad else ""
        yield ABOUT.found(
            "error",
            measured.name,
            f"{measured.name}: {measured['nonfinite']:.2%} of the values are NaN or infinite{which}",
            evidence=Evidence(measured["nonfinite"], bad),
            cause="The batch holds NaN or infinity before the model sees it.",
        )


def _in_a_batch(broken: BrokenFacts) -> Found[Evidence]:
    in_targets, which = broken.tensor == "targets", f"batch {broken.batch} of the data"
    examples = listed(str(i) for i in broken.examples)
    tensor = "the targets" if in_targets else broken.tensor
    return ABOUT.found(
        "error",
        None,
        f"{broken.share:.2%} of {tensor}{f' in {which}' if broken.batch else ''} are NaN or infinite (examples "
        f"{examples}), and so is the loss",
        evidence=Evidence(broken.share, broken.examples, broken.batch, in_targets),
        cause=f"{which if broken.batch else 'The batch'} holds NaN or infinity before the model sees it.".capitalize(),
    )


def _whole_features(cause: Found[ug203.Evidence], effect: Found[Evidence], view: View) -> bool:
    return cause.evidence.empty and cause.site == effect.site


EXPLAINED_BY = (Cause("UG203", _whole_features),)

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
x = torch.randn(256, 20)
x[3, 7] = float("nan")  # a missing value
report = ug.check(model, (x, torch.randint(10, (256,))))
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
x = torch.randn(256, 20)
x[3, 7] = float("nan")
complete = x.isfinite().all(1)
report = ug.check(model, (x[complete], torch.randint(10, (int(complete.sum()),))))
"""
