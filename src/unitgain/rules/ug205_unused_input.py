"""UG205 unused-input: of several inputs, one changes nothing.

Source: torchtest2, which asks whether outputs depend on inputs. That each input is exchanged by itself, and how, is
ours (_check/unused_inputs.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View
from ._words import listed

ABOUT = About(
    code="UG205",
    name="unused-input",
    rank=125,
    exact=True,
    seen="The model takes several inputs, and its outputs do not depend on one of them.",
    matters=(
        "What that input knows is lost: a second picture that is never compared, edges without their features, a mask "
        "that masks nothing. The network trains on the rest without an error."
    ),
    source="torchtest2 (2024), which tests that outputs depend on inputs.",
    measured=(
        "Each input's examples are exchanged, or its values moved where it has no axis of examples, and every tensor "
        "that comes out is compared: in evaluation mode, in train mode, and once parameters that are zero have moved. "
        "The random numbers are the same."
    ),
    action="Look at where forward uses that input: another variable may stand in its place.",
    effect="The outputs depend on every input.",
    verify="Check again.",
    silent=(
        "a single input (UG102)",
        "inputs that are the same for all examples, such as positions and masks of ones",
        "targets, which only the loss uses",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """unused: names of the inputs, as in a record."""

    unused: tuple[str, ...]


def judge(view: View) -> Iterator[Found[Evidence]]:
    unused = view.facts.function.unused_inputs
    if unused is None:
        raise CannotJudge("the model does not take several inputs")
    if not unused:
        return
    one = len(unused) == 1
    yield ABOUT.found(
        "warning",
        unused[0],
        f"{listed(unused)} {'changes' if one else 'change'} nothing: with {'its' if one else 'their'} values exchanged "
        "no output changes",
        evidence=Evidence(unused),
        cause="forward does not use it, or what is computed from it goes nowhere.",
        remedy=f"Look at where forward uses {listed(unused)}: another variable may stand in "
        f"{'its' if one else 'their'} place.",
    )


EXPLAINED_BY: tuple[Cause, ...] = (
    Cause("UG102"),
    Cause("UG104"),
    Cause("UG117"),
    Cause("UG306"),
    Cause("UG403"),
    Cause("UG805"),
    Cause("UG810"),
)

BAD = """
class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(20, 32), nn.ReLU()), nn.Linear(64, 1)

    def forward(self, one, other):
        return self.head(torch.cat([self.body(one), self.body(one)], 1))


batch = torch.randn(64, 20), torch.randn(64, 20), torch.rand(64, 1).round()
report = ug.check(Pair(), batch, loss="bce_with_logits")
"""

GOOD = """
class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(20, 32), nn.ReLU()), nn.Linear(64, 1)

    def forward(self, one, other):
        return self.head(torch.cat([self.body(one), self.body(other)], 1))


batch = torch.randn(64, 20), torch.randn(64, 20), torch.rand(64, 1).round()
report = ug.check(Pair(), batch, loss="bce_with_logits")
"""
