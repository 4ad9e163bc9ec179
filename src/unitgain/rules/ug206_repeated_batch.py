"""UG206 repeated-batch: every batch of the data is the same.

Source: none; reports of next(iter(loader)) in a loop and of data sets that do not use their index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View

ABOUT = About(
    code="UG206",
    name="repeated-batch",
    rank=126,
    exact=True,
    seen="Every batch of the data holds the same examples and the same targets.",
    matters=(
        "The network learns a few examples by heart, and the loss falls as if it learnt the task. What it does with "
        "others is not to be seen in training."
    ),
    source="PyTorch documentation of torch.utils.data.DataLoader: iter() begins anew.",
    measured="The batches that data= gives for a rehearsal are compared with each other, value by value.",
    action=(
        "Iterate over the loader itself: next(iter(loader)) begins anew at each step. If it does not, look whether the "
        "data set uses the index that it is given."
    ),
    effect="Each step sees other examples.",
    verify="Check again.",
    needs="steps",
    silent=(
        "a rehearsal on one batch, and data of a single batch",
        "the same examples in another order, or with other targets",
        "a few batches in turn",
    ),
)

BATCHES = Threshold(3, "batches at least: two may be alike by chance where examples are few")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """batches: that were compared."""

    batches: int


def judge(view: View) -> Iterator[Found[Evidence]]:
    given = view.facts.batches
    if given.batches is None or given.batches < BATCHES:
        raise CannotJudge("no rehearsal on data of several batches")
    if given.repeated:
        yield ABOUT.found(
            "warning",
            None,
            f"all {given.batches} batches of the data are the same",
            evidence=Evidence(given.batches),
            cause="A new iterator is made for each step, or the data set gives the same examples for every index.",
        )


EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
dataset = torch.utils.data.TensorDataset(torch.randn(320, 20), torch.randint(10, (320,)))
loader = torch.utils.data.DataLoader(dataset, 64)
data = [next(iter(loader)) for _ in range(5)]
report = ug.check(model, data[0], data=data, steps=5)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
dataset = torch.utils.data.TensorDataset(torch.randn(320, 20), torch.randint(10, (320,)))
loader = torch.utils.data.DataLoader(dataset, 64)
report = ug.check(model, loader, steps=5)
"""
