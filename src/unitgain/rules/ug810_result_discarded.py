"""UG810 result-discarded: a function's result is dropped, and what it was given goes on unchanged.

Source: PyTorch's documentation: operations whose names end with an underscore work in place, others return a new
tensor. The measurement is ours (_check/discarded.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ._comparison import at
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View
from ._words import plural

ABOUT = About(
    code="UG810",
    name="result-discarded",
    rank=102,
    exact=True,
    seen="A function, a layer without weights or a sum is called as a statement of its own, and its result is dropped.",
    matters=(
        "F.relu(x), self.dropout(x), scores.masked_fill(mask, -inf), x.detach() and out + x return a new tensor and "
        "change nothing. Without x = in front, the activation, the dropout, the mask or the shortcut is not there, and "
        "there is no error."
    ),
    source="PyTorch documentation, torch.Tensor: what works in place has a name that ends with an underscore.",
    measured=(
        "Every call in one forward pass, and in the loss, of functions that return a tensor and have no other effect; "
        "the compiled code of the caller tells whether the value is dropped at once."
    ),
    action="Assign what the function returns: x = F.relu(x).",
    effect="What was written is computed: the activation, mask or shortcut takes part.",
    verify="Check again.",
    silent=(
        "functions and modules that work in place",
        "results with a name, kept on the module or in a list, printed or asserted, whether they are used or not",
        "modules that hold others, or that hooks listen to, called for what happens inside",
        "calls under torch.no_grad(), and norms that are to see a batch",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """number: of such lines; of the first, the function, the result's shape and the line of the caller's code."""

    number: int
    function: str
    shape: Sequence[int]
    where: str | None


def judge(view: View) -> Iterator[Found[Evidence]]:
    discarded = view.facts.comparison.reach.discarded
    if discarded is None:
        raise CannotJudge("what becomes of the functions' results was not seen")
    if not discarded:
        return
    first = discarded[0]
    function = first.function.lstrip("ir") if first.function in ("radd", "rsub", "rmul") else first.function
    yield ABOUT.found(
        "warning",
        view.facts.output.site,
        f"what {function}{at(first.where)} returns, {first.shape}, is dropped"
        + (f"; so is that of {plural(len(discarded) - 1, 'further call')}" if len(discarded) > 1 else ""),
        evidence=Evidence(len(discarded), function, first.shape, first.where),
        cause="It gives a new tensor and leaves its input as it is; the line stands alone, without an assignment.",
        remedy=f"Assign it{at(first.where)}, x = ... in front, or take the line away.",
    )


EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x):
        h = self.one(x).relu()
        h = self.two(h)
        F.relu(h)
        return self.three(torch.tanh(h))


report = ug.check(Net(), (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x):
        h = self.one(x).relu()
        h = self.two(h)
        h = F.relu(h)
        return self.three(torch.tanh(h))


report = ug.check(Net(), (torch.randn(256, 20), torch.randint(10, (256,))))
"""
