"""UG118 weights-favour-frequent-class: class weights grow with the classes' frequency.

Source: King and Zeng, Logistic regression in rare events data (2001); scikit-learn's class_weight="balanced", which is
one over the frequency. Shares taken for weights are often reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import correlation

from ..record import LossCallFacts
from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._view import View
from ._words import plural, show

ABOUT = About(
    code="UG118",
    name="weights-favour-frequent-class",
    rank=155,
    seen="The loss weighs classes, and weighs those more that are more frequent anyway.",
    matters=(
        "The frequent classes have most of the loss without weights; with these the rare ones have next to none, and "
        "are never predicted."
    ),
    source="King and Zeng, Logistic regression in rare events data, 2001; scikit-learn, class_weight='balanced'.",
    measured=(
        "The weights that a call of cross_entropy, nll_loss or binary_cross_entropy_with_logits gets, in the loss or "
        "in the model, against the labels of the batch that it counts: the correlation of the logarithms and "
        "of the ranks."
    ),
    action="Take one over the frequency: weight = labels / (classes * count of each class).",
    effect="Rare classes count as much as frequent ones.",
    verify="Check again, and compare the recall of each class.",
    silent=(
        "weights that fall with the frequency, or have nothing to do with it",
        "classes of about equal frequency",
        "a weight of zero for what is to be ignored",
        "fewer than 64 labels",
    ),
)

LABELS = Threshold(64, "labels at least: the shares of fewer are chance")
UNEVEN = Threshold(
    2.0, "times as many labels of the most frequent class as of the rarest: less is no imbalance"
)
CLASSES = Threshold(2, "classes with a weight and labels: fewer cannot be compared")
APART = Threshold(1.2, "fold between the largest weight and the smallest: less changes nothing")
ALIKE = Threshold(0.9, "of the correlations: weights that are chosen for other reasons stay below")
STEEP = Threshold(
    1.5,
    "fold in the weight for one fold in the count, in logarithms: weights made of counts grow no faster than they",
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """weights, counts: {class: its weight}, {class: its labels in this batch}; where: the call."""

    weights: Mapping[str, float]
    counts: Mapping[str, int]
    function: str
    where: str | None


def judge(view: View) -> Iterator[Found[Evidence]]:
    calls = view.facts.comparison.calls
    if calls is None:
        raise CannotJudge("which loss functions are called was not seen")
    for call in calls:
        if not _favours_the_frequent(call):
            continue
        weights, counts = call.weights or {}, call.counts or {}
        most, least = max(counts, key=counts.__getitem__), min(_rated(call), key=counts.__getitem__)
        yield ABOUT.found(
            "warning",
            view.facts.output.site,
            f"{call.function}{f' ({call.where})' if call.where else ''} gives class {most}, with "
            f"{plural(counts[most], 'label')} of {sum(counts.values())}, the weight {show(weights[most])}, and class "
            f"{least}, with {counts[least]}, the weight {show(weights[least])}",
            evidence=Evidence(weights, counts, call.function, call.where),
            cause="The weights are shares or counts of the classes, where one over these was meant.",
            remedy="Invert the class weights: weight = labels / (classes * count of each class); for pos_weight, "
            "negatives / positives.",
        )  # fmt: skip
        return


def _rated(call: LossCallFacts) -> list[str]:
    """Classes that have a weight and labels."""
    weights, counts = call.weights or {}, call.counts or {}
    return [c for c, w in weights.items() if w > 0 and counts.get(c, 0) > 0]


def _favours_the_frequent(call: LossCallFacts) -> bool:
    classes = _rated(call)
    if len(classes) < CLASSES:
        return False
    weights, counts = [(call.weights or {})[c] for c in classes], [(call.counts or {})[c] for c in classes]
    if sum(counts) < LABELS or max(counts) < UNEVEN * min(counts) or max(weights) < APART * min(weights):
        return False
    log_weights, log_counts = [math.log(w) for w in weights], [math.log(n) for n in counts]
    slope = (max(log_weights) - min(log_weights)) / (max(log_counts) - min(log_counts))
    if slope > STEEP:
        return False
    ranks = correlation(_ranks(weights), _ranks(counts))
    return ranks > ALIKE and correlation(log_weights, log_counts) > ALIKE


def _ranks(values: list[float] | list[int]) -> list[float]:
    """Equal values share their mean rank."""
    ordered = sorted(values)
    return [ordered.index(v) + (ordered.count(v) - 1) / 2 for v in values]


EXPLAINED_BY = ()

BAD = """
x = torch.randn(400, 20)
y = (x[:, 0] > 1.3).long()  # one in ten
share = torch.bincount(y) / len(y)
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2))
report = ug.check(model, (x, y), nn.CrossEntropyLoss(weight=share))
"""

GOOD = """
x = torch.randn(400, 20)
y = (x[:, 0] > 1.3).long()
weight = len(y) / (2 * torch.bincount(y))
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2))
report = ug.check(model, (x, y), nn.CrossEntropyLoss(weight=weight))
"""
