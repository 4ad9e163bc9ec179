"""UG801 unregistered-weights: weights that the model uses and torch does not see.

Source: PyTorch's documentation of nn.Module, ModuleList and Parameter. The graph of the outputs is walked to the
tensors that get a gradient (_check/leaves.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._view import View
from ._words import MOST_KEPT, listed, plural

ABOUT = About(
    code="UG801",
    name="unregistered-weights",
    rank=175,
    exact=True,
    seen="The outputs depend on weights that are no parameters of the model: layers in a list, say.",
    matters=(
        "`model.parameters()` does not hold them, so the optimizer never moves them; `.to(device)`, `.state_dict()` "
        "and `.train()` pass them by."
    ),
    source="PyTorch documentation: Module, ModuleList, ModuleDict, Parameter.",
    measured=(
        "The graph that autograd made of the outputs ends at the tensors that get a gradient. Named are those that "
        "are neither parameters of the model nor inputs, nor held by the optimizer that was given, and that are an "
        "nn.Parameter or stand in an attribute of the model. Of a step of the caller's own only the latter are "
        "counted, as it may run other models. Sharded (FSDP) and compiled models are not judged."
    ),
    action="Keep layers in nn.ModuleList or nn.ModuleDict, and tensors as nn.Parameter in an attribute of a module.",
    effect="The optimizer trains them, and they are saved and moved with the model.",
    verify="`sum(p.numel() for p in model.parameters())` grows by what was named; check again.",
    silent=(
        "frozen modules in a list",
        "parameters of the loss, and of other models in a step of the caller's own",
        "inputs, and tensors that forward makes leaves for a gradient of its own",
    ),
)

ERROR = Threshold(0.5, "of all that could be learnt stays at its random start: training is badly hurt")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """weights: where they are held, "" where that is not known; shapes: of each; numbers: in all of them; share: of the
    numbers that could be learnt."""

    weights: Sequence[str]
    shapes: Sequence[Sequence[int]]
    numbers: int
    share: float


def judge(view: View) -> Iterator[Found[Evidence]]:
    leaves = view.facts.function.leaves
    if leaves is None:
        raise CannotJudge("the outputs' graph was not looked at")
    if not leaves:
        return
    numbers = sum(math.prod(leaf.shape) for leaf in leaves)
    share = numbers / max(1, numbers + (view.facts.model.parameters.trainable or 0))
    names = [".".join(part for part in (leaf.owner, leaf.name) if part) for leaf in leaves]
    known = [name for name in names if name]
    where = listed(known) if known else "in no attribute of the model"
    owner = next((leaf.owner for leaf in leaves if leaf.owner), None)
    cause = (
        "torch finds parameters in attributes that are modules or parameters, and in ModuleList and ModuleDict; it "
        "does not look into lists, dictionaries, other objects and functions, nor for what was computed from a "
        "parameter."
    )
    if not known:
        cause = (
            "The layer is made in forward, anew at each pass, or comes from outside of the model: a variable that a "
            "function uses."
        )
    yield ABOUT.found(
        "error" if share > ERROR else "warning",
        owner,
        f"the outputs depend on {plural(len(leaves), 'weight')} that the model does not hold as parameters ({where}): "
        f"{numbers:,} numbers, {share:.0%} of all that could be learnt",
        evidence=Evidence(
            names[:MOST_KEPT], [list(leaf.shape) for leaf in leaves[:MOST_KEPT]], numbers, share
        ),
        cause=cause,
    )


EXPLAINED_BY = ()

BAD = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(20, 64)]
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.head(x)


report = ug.check(Net(), (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(20, 64)])
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.head(x)


report = ug.check(Net(), (torch.randn(256, 20), torch.randint(10, (256,))))
"""
