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
    rank=1100,
    seen="All labels of a batch are the same, although there are several classes.",
    matters=(
        "Data in files is often sorted by class. Without shuffling, a model learns one class after the other and "
        "forgets the one before; a single batch cannot show whether that is so."
    ),
    source=(
        "Bengio, Practical recommendations for gradient-based training of deep architectures, 2012: shuffle the "
        "examples."
    ),
    measured=(
        "The labels of one batch, where each example has one, or a map of them: for information, since one batch is "
        "not the data set. "
        "A Probe reads the labels of the sampled batches off the gradient of the logits, which a softmax with cross "
        "entropy makes negative at the label alone: a warning where batches are of one class and the class changes, "
        "or where all batches of a rehearsal on data are of the same one."
    ),
    action="Shuffle the training data (DataLoader(..., shuffle=True)), or look at what the labels are made of.",
    effect="Every batch holds examples of several classes, and its gradient is one of the whole task.",
    verify="Check again with another batch.",
    silent=("small batches", "maps of labels with any other class in them", "regression"),
)

LABELS = Threshold(
    16, "labels at least: fewer are all of one of two classes by chance once in 128 batches or more"
)
ALL = Threshold(5, "further batches: a rare class leaves out a few in a row, and seldom all")
BATCHES = Threshold(3, "batches of one class at least: of two of them the class may change by chance")
SHARE = Threshold(0.5, "of the batches: a rare class may fill a batch now and then on purpose")


@dataclass(frozen=True)
class OfABatch(BaseEvidence):
    """label: that of all examples; labels: how many there are; classes: how many there could be."""

    label: int
    labels: int
    classes: int


@dataclass(frozen=True)
class OfARun(BaseEvidence):
    """batches: sampled ones of which the labels are known; of_one_class: of these; different: classes of those."""

    batches: int
    of_one_class: int
    different: int


Evidence = OfABatch | OfARun


def judge(view: View) -> Iterator[Found[Evidence]]:
    given = view.facts.batches
    if (given.batches or 0) >= ALL and given.label is not None and _classes(view) >= 2:
        yield _of_all(view, given.label, (given.batches or 0) + 1)
        return
    if view.training or (view.facts.labels.different or 0) > 1:
        yield from _of_a_run(view)
        return
    targets, classes = view.facts.comparison.targets, _classes(view)
    if targets.labels is None and classes >= 2 and targets.different == 1 and _examples(view) >= LABELS:
        yield _of_maps(view, classes)
        return
    if targets.labels is None or classes < 2:
        raise CannotJudge("not a classifier with one label for each example")
    if targets.same_label is None or targets.labels < LABELS:
        return
    yield ABOUT.found(
        "info",
        None,
        f"all {targets.labels} labels of the batch are {targets.same_label}, of {classes} classes",
        evidence=OfABatch(targets.same_label, targets.labels, classes),
        cause="The data is sorted by class and not shuffled, or the labels are made wrongly.",
    )


def _of_maps(view: View, classes: int) -> Found[OfABatch]:
    targets = view.facts.comparison.targets
    return ABOUT.found(
        "info",
        None,
        f"all {targets.count} labels of the batch's {_examples(view)} examples are {targets.min:g}, of {classes} "
        "classes",
        evidence=OfABatch(int(targets.min), targets.count or 0, classes),
        cause="The labels are made wrongly (divided by 255 as if they were pictures, and rounded to zero), or no "
        "example of this batch holds another class.",
        remedy="Look at what the labels are made of, before they go into the batches.",
    )


def _examples(view: View) -> int:
    return max((m.examples for m in view.activations), default=0)


def _of_all(view: View, label: int, batches: int) -> Found[OfABatch]:
    labels = view.facts.target.count or view.facts.comparison.targets.count or 0
    return ABOUT.found(
        "warning",
        None,
        f"all labels of all {batches} batches are {label}, of {_classes(view)} classes",
        evidence=OfABatch(label, labels, _classes(view)),
        cause="The labels are made wrongly: divided by 255 as if they were pictures and rounded to zero, read from "
        "another column, or looked up by a name that is not there. A network that gives this one answer to everything "
        "is right.",
        remedy="Look at what the labels are made of, before they go into the batches.",
    )


def _of_a_run(view: View) -> Iterator[Found[Evidence]]:
    labels = view.facts.labels
    if not labels.batches:
        raise CannotJudge("the labels are not known: they are read off the gradient of a classifier's logits")
    of_one, different = labels.of_one_class or 0, labels.different or 0
    if of_one < BATCHES or of_one < SHARE * labels.batches or different < 2:
        return
    yield ABOUT.found(
        "warning",
        None,
        f"{of_one} of {labels.batches} sampled batches hold labels of one class only, and of {different} different "
        "ones in turn: the data is not shuffled",
        evidence=OfARun(labels.batches, of_one, different),
        cause="The data is sorted by class: each batch pulls everything towards its own class.",
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
