"""UG701 not-in-optimizer: trainable parameters get gradients, but no optimizer changes them.

Source: the documentation of torch.optim (parameters are given when the optimizer is made). What is left out is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._view import View
from ._words import MOST_KEPT, listed, plural

ABOUT = About(
    code="UG701",
    name="not-in-optimizer",
    rank=210,
    seen="Trainable parameters get gradients, but are in no optimizer and never change.",
    matters=(
        "They stay at their random start, and the rest of the model has to make do with them: training seems to work "
        "and ends far above what the model could reach."
    ),
    source="PyTorch, documentation of torch.optim.",
    measured=(
        "Parameters that require gradients, got one that is not zero, are in no parameter group of the optimizer, and "
        "have the very values that they had when measuring began (so that parameters of a second optimizer do not "
        "count). Beside them, tensors of the optimizer that are no longer the model's: a model that was copied or made "
        "anew, or a head that was replaced, after the optimizer was made."
    ),
    action=(
        "Make the optimizer from all of the model's parameters, after the model is complete; add the missing ones by "
        "optimizer.add_param_group. What is not to be trained: requires_grad_(False)."
    ),
    effect="The whole model learns.",
    verify="Check again with this optimizer.",
    remedies=("hold-parameters",),
    needs="steps",
    exact=True,
    silent=(
        "frozen parameters, and parameters without a gradient",
        "several optimizers, each with a part of the model",
        "an optimizer that also trains something outside of the model",
    ),
)

WHOLE = Threshold(0.5, "of the trainable parameters' numbers: most of the model is not trained")
STEPS = Threshold(
    10, "optimizer steps of a run: a second optimizer may step less often than the one that is watched"
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """missing: names, at most 50; count: of all; share: of the model's trainable numbers; foreign: tensors in the
    optimizer that are not the model's."""

    missing: tuple[str, ...]
    count: int
    share: float
    foreign: int


def judge(view: View) -> Iterator[Found[Evidence]]:
    loop, optimizer = view.facts.loop, view.facts.optimizer
    if loop.missing is None or optimizer.groups is None:
        raise CannotJudge("no optimizer was given")
    if view.training and (loop.steps or 0) < STEPS:
        raise CannotJudge("fewer than ten optimizer steps: another optimizer may step later")
    if not loop.missing:
        return
    foreign = optimizer.foreign or 0
    share = _share(view, loop.missing)
    held = sum(len(group.parameters) for group in optimizer.groups)
    stale = foreign > 0 and (not held or foreign >= len(loop.missing))
    yield ABOUT.found(
        "error" if share > WHOLE or not held else "warning",
        loop.missing[0],
        f"{plural(len(loop.missing), 'trainable parameter')} with {share:.0%} of the model's weights "
        f"{'gets' if len(loop.missing) == 1 else 'get'} gradients, but {optimizer.name} does not hold "
        f"{'it' if len(loop.missing) == 1 else 'them'} ({listed(loop.missing)})"
        + (
            f"; it holds {plural(foreign, 'tensor')} that {'is' if foreign == 1 else 'are'} not the model's"
            if stale
            else ""
        ),
        evidence=Evidence(loop.missing[:MOST_KEPT], len(loop.missing), share, foreign),
        cause="The optimizer was made before the model, or this part of it, was copied or replaced."
        if stale
        else "The optimizer was made from a part of the model's parameters.",
        remedy="Make the optimizer from all of the model's parameters, after the model is complete; or give it "
        f"{listed(loop.missing)} by optimizer.add_param_group. What is not to be trained: requires_grad_(False).",
    )


def _share(view: View, names: tuple[str, ...]) -> float:
    counts = {site.name: math.prod(site.shape) for site in view.record.sites("parameter")}
    trainable = view.facts.model.parameters.trainable or sum(counts.values())
    return min(1.0, sum(counts.get(name, 0) for name in names) / max(1, trainable))


EXPLAINED_BY = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
ug.init_(model)
optimizer = torch.optim.SGD(model[4].parameters(), lr=0.02)
batch = torch.randn(256, 20), torch.randint(10, (256,))
report = ug.check(model, batch, steps=10, optimizer=optimizer)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
ug.init_(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
batch = torch.randn(256, 20), torch.randint(10, (256,))
report = ug.check(model, batch, steps=10, optimizer=optimizer)
"""
