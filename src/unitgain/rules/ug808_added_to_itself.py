"""UG808 added-to-itself: an activation is added to itself, where the input of its block was meant.

Source: He et al., Deep residual learning (2015), for the sum that is meant; reported often for `x += x` and for a
shortcut that an in-place function overwrites. The measurement is ours (_check/doubled.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ._comparison import at
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View
from ._words import plural

ABOUT = About(
    code="UG808",
    name="added-to-itself",
    rank=99,
    exact=True,
    seen="A sum of two activations has the same tensor on both sides: it doubles one, and the other is left out.",
    matters=(
        "Where the input of a block was to be added to its output, nothing leads around the block: gradients of a deep "
        "network have to pass all of its layers, and the scale doubles at each of them. Or the block's own output is "
        "thrown away."
    ),
    source="He, Zhang, Ren and Sun, Deep residual learning for image recognition, 2015.",
    measured=(
        "Every sum of one forward pass whose two sides are one tensor that parameters and inputs made. A tensor "
        "that a module or a function has handed on as it was given is left alone."
    ),
    action="Add the input of the block to its output: shortcut = x first, out + shortcut at the end.",
    effect="Gradients find a way around each block, and the scale no longer doubles.",
    verify="Check again.",
    silent=(
        "x + identity(x), where the identity is a module, as in networks with several ways",
        "2 * x, x * x and concatenations of x with itself",
        "sums of a weight and its transpose",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """number: of such sums in one pass; of the first, the shape and the line of the caller's code."""

    number: int
    shape: Sequence[int]
    where: str | None


def judge(view: View) -> Iterator[Found[Evidence]]:
    doubled = view.facts.comparison.reach.doubled
    if doubled is None:
        raise CannotJudge("which activations the model adds was not seen")
    if not doubled:
        return
    first = doubled[0]
    yield ABOUT.found(
        "warning",
        view.facts.output.site,
        f"activations {first.shape} are added to themselves{at(first.where)}"
        + (f"; {plural(len(doubled), 'such sum')} in all" if len(doubled) > 1 else ""),
        evidence=Evidence(len(doubled), first.shape, first.where),
        cause="Both names in the sum stand for one tensor: one was assigned in place of the other, or a function that "
        "works in place (F.relu(x, inplace=True), x += ...) has changed the tensor that was kept for the shortcut.",
        remedy=f"Add the input of the block there{at(first.where)}: keep it under a name of its own, and let no "
        "function work on it in place. Where doubling is meant, write 2 * x.",
    )


EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.ReLU())

    def forward(self, x):
        x = self.layers(x)
        x = x + x
        return x


model = nn.Sequential(nn.Linear(20, 32), Block(), Block(), nn.Linear(32, 10))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.ReLU())

    def forward(self, x):
        return x + self.layers(x)


model = nn.Sequential(nn.Linear(20, 32), Block(), Block(), nn.Linear(32, 10))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""
