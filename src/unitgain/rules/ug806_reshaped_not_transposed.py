"""UG806 reshaped-not-transposed: a view or reshape stands where axes should change places.

Source: PyTorch's documentation of Tensor.view, which never moves a value; reported often for pictures with channels
last and for the heads of attention. The measurement is ours (_check/reshapes.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View

ABOUT = About(
    code="UG806",
    name="reshaped-not-transposed",
    rank=97,
    seen="A view or reshape gives an axis another place, as a transpose would, but moves no value.",
    matters=(
        "Values of different channels, pixels, steps or heads get mixed: a picture becomes stripes of itself, and the "
        "outputs of one step hold those of others. The network trains on, and worse."
    ),
    source="PyTorch documentation of Tensor.view, Tensor.permute and Tensor.transpose.",
    measured=(
        "Every view and reshape of an activation in one forward pass. An axis keeps its place if the sizes "
        "behind it have the same product; one that does not, while a new axis has its size, was meant to be "
        "moved. Left alone: the first axis, axes of one or two, and shapes that stacking neighbouring steps "
        "gives as well."
    ),
    action="Move the axes first: x.permute(0, 3, 1, 2) or x.transpose(1, 2), then reshape.",
    effect="Each channel, step and head holds its own values.",
    verify="Check again.",
    silent=(
        "splitting an axis in two and merging neighbours",
        "a transpose or permute before the reshape",
        "examples that are regrouped, as windows and patches are",
        "flattening, and the first layers of decoders, which give a vector a shape",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """before, after: the shapes; axis: the size of the one that lost its place; where: the line of the caller's
    code."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    axis: int
    where: str | None


def judge(view: View) -> Iterator[Found[Evidence]]:
    reshapes = view.facts.comparison.reach.reshapes
    if reshapes is None:
        raise CannotJudge("which reshapes the model makes was not seen")
    for call in reshapes:
        where = f" ({call.where})" if call.where else ""
        yield ABOUT.found(
            "warning",
            view.facts.output.site,
            f"{call.function}{where} makes {call.after} of {call.before}: the axis of {call.size} changes "
            "its place, and no value does",
            evidence=Evidence(call.before, call.after, call.size, call.where),
            cause="A reshape keeps the order of the values: only a transpose or permute moves an axis.",
            remedy=f"Use permute or transpose{' at ' + call.where if call.where else ''} to move the axes, and reshape "
            f"only "
            "to split or merge neighbouring ones.",
        )
        return


EXPLAINED_BY = (Cause("UG603"),)

BAD = """
class Channels(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 16, 3), nn.Linear(16, 10)

    def forward(self, x):  # (N, H, W, C)
        x = x.reshape(len(x), 3, 20, 20)
        return self.head(F.relu(self.conv(x)).amax((2, 3)))


report = ug.check(Channels(), (torch.randn(32, 20, 20, 3), torch.randint(10, (32,))))
"""

GOOD = """
class Channels(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 16, 3), nn.Linear(16, 10)

    def forward(self, x):  # (N, H, W, C)
        x = x.permute(0, 3, 1, 2)
        return self.head(F.relu(self.conv(x)).amax((2, 3)))


report = ug.check(Channels(), (torch.randn(32, 20, 20, 3), torch.randint(10, (32,))))
"""
