"""UG809 one-module-many-times: a list that was made by multiplication holds one module in every place.

Source: Python's documentation of sequences (values in s * n are not copied); reported often for blocks and heads. The
measurement is ours (_check/shared.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..record import SharedFacts
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View

ABOUT = About(
    code="UG809",
    name="one-module-many-times",
    rank=101,
    exact=True,
    seen="A ModuleList or Sequential holds one and the same module in every place, and its calls build on each other.",
    matters=(
        "The network has the weights of one layer where it seems to have those of many: it learns less, and all layers "
        "get the sum of each other's gradients. Heads that share a module and their input give the same outputs."
    ),
    source="Python documentation, sequence operations: in [block] * n the items are not copied.",
    measured=(
        "Every ModuleList and Sequential whose children are one object with trainable parameters, and in one pass how "
        "its calls hang together: one on what the other gave, on the same input, or apart."
    ),
    action="Make each one anew: nn.ModuleList([Block() for _ in range(n)]).",
    effect="As many layers' weights as there are layers.",
    verify="Check again: the number of parameters is n times as large.",
    silent=(
        "layers that are called again and again in a loop",
        "lists whose members are shared in part",
        "shared heads that are called on different inputs, as those of detectors (for information)",
        "modules without parameters",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """times: how often the list at this path holds the module; how: "chain", "alike" or "apart"."""

    times: int
    module: str
    how: str


def judge(view: View) -> Iterator[Found[Evidence]]:
    shared = view.facts.function.shared
    if shared is None:
        raise CannotJudge("lists of one module were not looked for")
    for found in shared:
        yield ABOUT.found(
            "warning" if found.how in ("chain", "alike") else "info",
            found.path or None,
            f"{found.path or 'the model'} holds one {found.module} {found.times} times{_together(found)}",
            evidence=Evidence(found.times, found.module, found.how),
            cause="Multiplying a list does not copy what it holds: all places share one set of weights.",
            remedy=f"Make each {found.module} anew, [{found.module}(...) for _ in range({found.times})]. Where sharing "
            "is meant, keep one and call it in a loop.",
        )


def _together(found: SharedFacts) -> str:
    return {"chain": ", one after another", "alike": ", and all give the same"}.get(found.how, "")


EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
block = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU())
model = nn.Sequential(nn.Linear(20, 64), nn.Sequential(*[block] * 3), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
blocks = [nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU()) for _ in range(3)]
model = nn.Sequential(nn.Linear(20, 64), nn.Sequential(*blocks), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""
