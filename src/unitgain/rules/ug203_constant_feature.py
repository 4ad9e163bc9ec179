"""UG203 constant-feature: a feature, or the whole input, has one value in all examples.

Source: scikit-learn's VarianceThreshold, for features of one value. That the reason is a division by their standard
deviation where they are NaN is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..record import FeatureFacts
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View
from ._words import listed, plural

ABOUT = About(
    code="UG203",
    name="constant-feature",
    rank=10,
    seen="A feature is NaN in all examples, the whole input is constant, or a feature has one value in all examples.",
    matters=(
        "A constant feature that is divided by its standard deviation of zero is NaN, and so is everything after it. "
        "From an input that is the same for all examples nothing can be learnt."
    ),
    source="scikit-learn documentation: VarianceThreshold; StandardScaler leaves constant features undivided.",
    measured="Values of each feature (axis 1, or the last one) over the batch, of floating-point inputs.",
    action="Leave the feature out, or divide by its standard deviation only where that is not zero.",
    effect="Every input is finite and says something about its example.",
    verify="Check again.",
    silent=(
        "pixels, sparse and one-hot columns: features that are zero, and features of anything but plain rows",
        "masks and other inputs beside one that differs",
        "a single example",
    ),
)

EXAMPLES = Threshold(32, "examples at least, so that a column of one value is no chance")
COLUMNS = Threshold(64, "columns at most: of more, rows are flattened pictures, or sparse")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """features: which, counted from 0; of: how many there are; empty: whether they are NaN; whole: the whole input is
    the same for all examples; one_value: all of its values are."""

    features: Sequence[int]
    of: int
    empty: bool = False
    whole: bool = False
    one_value: bool = False


def judge(view: View) -> Iterator[Found[Evidence]]:
    inputs = view.facts.comparison.inputs
    if not inputs:
        raise CannotJudge("no floating-point input with features was measured")
    for one in inputs:
        if one.empty:
            yield _empty(one)
    whole = [one for one in inputs if one.same and one.examples > 1 and not one.empty]
    if len(whole) == len(view.inputs):
        yield from (_whole(one) for one in whole)
        return
    for one in inputs:
        columns = one.constant or ()
        if one.vectors and columns and one.examples >= EXAMPLES and one.features <= COLUMNS and not one.same:
            yield _columns(one, columns)


def _empty(one: FeatureFacts) -> Found[Evidence]:
    assert one.empty
    names = listed(str(i) for i in one.empty)
    return ABOUT.found(
        "error",
        one.site,
        f"{one.site}: {plural(len(one.empty), 'feature')} of {one.features} (number {names}) are NaN or infinite in "
        f"all {one.examples} examples, and all others are finite",
        evidence=Evidence(one.empty, one.features, empty=True),
        cause="A constant feature was standardized: its standard deviation is zero, and zero by zero is NaN.",
        remedy=(
            "Leave the constant feature out, or divide by its standard deviation only where that is not zero (take "
            "1 there)."
        ),
    )


def _whole(one: FeatureFacts) -> Found[Evidence]:
    what = "all values are the same" if one.one_value else f"all {one.examples} examples are the same"
    return ABOUT.found(
        "warning",
        one.site,
        f"{one.site}: {what}",
        evidence=Evidence((), one.features, whole=True, one_value=one.one_value),
        cause="The inputs say nothing about their examples: the data was not read, or one example was repeated.",
        remedy="Look at how the batch is made: its inputs do not differ.",
    )


def _columns(one: FeatureFacts, columns: Sequence[int]) -> Found[Evidence]:
    return ABOUT.found(
        "info",
        one.site,
        f"{one.site}: {plural(len(columns), 'feature')} of {one.features} (number "
        f"{listed(str(i) for i in columns)}) has one "
        f"value in all {one.examples} examples",
        evidence=Evidence(columns, one.features),
        cause="What is the same for all examples adds to the bias only.",
    )


EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
x = torch.randn(256, 20)
x[:, 7] = 4.0  # the same for all examples
report = ug.check(model, ((x - x.mean(0)) / x.std(0), torch.randint(10, (256,))))
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
x = torch.randn(256, 20)
x[:, 7] = 4.0
std = x.std(0)
x = (x - x.mean(0)) / torch.where(std > 0, std, 1.0)
report = ug.check(model, (x, torch.randint(10, (256,))))
"""
