"""UG204 input-scrambled: the input was reshaped where it should have been transposed.

Source: PyTorch's documentation of Tensor.view, which never moves a value; reported often, of pictures with channels
last and of windows that are to go in time first. The measurement is ours (_check/scrambled.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View
from ._words import show

ABOUT = About(
    code="UG204",
    name="input-scrambled",
    rank=12,
    seen="Neighbouring values of the input are alike only when a reshape is undone that stood in the place of a "
    "transpose.",
    matters=(
        "A reshape gives the right shape and moves no value: pictures become stripes of themselves, and a window of a "
        "series holds values of many. The network trains on, and learns what little is left."
    ),
    source="PyTorch documentation of Tensor.view, Tensor.permute and Tensor.transpose.",
    measured=(
        "The mean distance between neighbouring pixels of pictures with two to four channels, as they are and read as "
        "channels last; and of windows (example, step, feature) the distance between neighbours in memory, which must "
        "jump exactly at the ends of windows."
    ),
    action="Transpose the data, and do not reshape it: permute(0, 3, 1, 2) for pictures, .T or transpose(0, 1) for "
    "windows.",
    effect="Neighbours in the input are neighbours in the picture or the series again.",
    verify="Check again, and look at one example.",
    silent=(
        "noise, and data without neighbours, of which no order is smoother",
        "series that are alike in all examples, and windows that overlap",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """input: its name; order: the shape in which neighbours are alike; times: how many times smoother it is there."""

    input: str
    order: Sequence[int]
    times: float


def judge(view: View) -> Iterator[Found[Evidence]]:
    features = view.facts.comparison.inputs
    if not features:
        raise CannotJudge("no floating-point input with features was measured")
    for found in features:
        if found.order is None:
            continue
        yield ABOUT.found(
            "warning",
            found.site,
            f"neighbouring values of {found.site} are {show(found.smoother)} times as much alike when it is read in "
            f"the "
            f"shape {found.order}: it was reshaped, not transposed",
            evidence=Evidence(found.site, found.order, found.smoother),
            cause="A reshape or view keeps the order of the values in memory: it gives axes other places without "
            "moving "
            "a value.",
        )


EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
base = F.interpolate(torch.randn(64, 3, 4, 4), size=(16, 16), mode="bicubic")
pictures = base.permute(0, 2, 3, 1).contiguous()  # (N, H, W, C), as files hold them
x = pictures.reshape(64, 3, 16, 16)
x = (x - x.mean()) / x.std()
model = nn.Sequential(
    nn.Conv2d(3, 16, 3, 2, 1),
    nn.ReLU(),
    nn.Conv2d(16, 16, 3, 2, 1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(256, 10),
)
report = ug.check(model, (x, torch.randint(10, (64,))))
"""

GOOD = """
base = F.interpolate(torch.randn(64, 3, 4, 4), size=(16, 16), mode="bicubic")
pictures = base.permute(0, 2, 3, 1).contiguous()
x = pictures.permute(0, 3, 1, 2)
x = (x - x.mean()) / x.std()
model = nn.Sequential(
    nn.Conv2d(3, 16, 3, 2, 1),
    nn.ReLU(),
    nn.Conv2d(16, 16, 3, 2, 1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(256, 10),
)
report = ug.check(model, (x, torch.randint(10, (64,))))
"""
