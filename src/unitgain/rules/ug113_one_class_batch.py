"""UG113 one-class-batch: all labels of the batch are the same.

Source: Bengio, Practical recommendations for gradient-based training of deep architectures (2012), on shuffling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View

ABOUT = About(
    code="UG113",
    name="one-class-batch",
    rank=110,
    seen="All labels of a batch are the same, although there are several classes.",
    matters=(
        "Data in files is often sorted by class. Without shuffling, a model learns one class after the other and forgets "
        "the one before; a single batch cannot show whether that is so."
    ),
    source=(
        "Bengio, Practical recommendations for gradient-based training of deep architectures, 2012: shuffle the examples."
    ),
    measured="The labels of one batch, where each example has one. For information, since one batch is not the data set.",
    action="Shuffle the training data (DataLoader(..., shuffle=True)), or look at what the labels are made of.",
    effect="Every batch holds examples of several classes, and its gradient is one of the whole task.",
    verify="Check again with another batch.",
    silent=("small batches", "masks and other targets with many labels for each example", "regression"),
)

LABELS = Threshold(16, "labels at least: fewer are all of one of two classes by chance once in 128 batches or more")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """label: that of all examples; labels: how many there are; classes: how many there could be."""

    label: int
    labels: int
    classes: int


def judge(view: View) -> Iterator[Found[Evidence]]:
    targets, classes = view.facts.comparison.targets, _classes(view)
    if targets.labels is None or classes < 2:
        raise CannotJudge("not a classifier with one label for each example")
    if targets.same_label is None or targets.labels < LABELS:
        return
    yield ABOUT.found(
        "info",
        None,
        f"all {targets.labels} labels of the batch are {targets.same_label}, of {classes} classes",
        evidence=Evidence(targets.same_label, targets.labels, classes),
        cause="The data is sorted by class and not shuffled, or the labels are made wrongly.",
    )


def _classes(view: View) -> int:
    takes = view.facts.comparison.asked.takes
    if takes in ("scores", "log_probabilities") or view.facts.loss.kind == "cross_entropy":
        return view.facts.target.classes or 0
    targets = view.facts.comparison.targets
    binary = takes in ("logits", "probabilities") and targets.min >= 0 and targets.max <= 1
    return 2 if binary else 0


EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
x, labels = torch.randn(640, 20), torch.arange(640) // 64  # sorted
report = ug.check(model, (x[:64], labels[:64]))
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
x, labels = torch.randn(640, 20), torch.arange(640) // 64
chosen = torch.randperm(640)[:64]
report = ug.check(model, (x[chosen], labels[chosen]))
"""
