"""UG511 clipped-after-step: gradients are clipped after the step that they were to be clipped for.

Source: PyTorch's documentation of mixed precision, which has clip_grad_norm_ between backward and step; reports of
loops in which it stands one line too low. The measurement is ours (probe/afterwards.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View
from ._words import show

ABOUT = About(
    code="UG511",
    name="clipped-after-step",
    rank=162,
    exact=True,
    seen="Gradients are made smaller after the optimizer's step, and are cleared before the next one.",
    matters=(
        "The step has used them as they were: clipping does nothing. Loss and weights leap where gradients are large, "
        "as without it."
    ),
    source="PyTorch documentation, Automatic mixed precision examples: gradient clipping.",
    measured=(
        "At sampled steps: a sample of a small parameter's gradient right after the optimizer's step and when the next "
        "forward pass begins. Clipping leaves no value larger, no sign changed, and part of the norm: not the same "
        "part each time."
    ),
    action="Call clip_grad_norm_ between loss.backward() and optimizer.step().",
    effect="No step is larger than the limit allows.",
    verify="Train some steps more under a Probe.",
    needs="run",
    silent=(
        "gradients that are cleared after the step, or added to by another pass",
        "momentum that is kept in the gradients: they are multiplied by one factor after every step",
        "clipping with a limit that no gradient reaches",
    ),
)

STEPS = Threshold(3, "sampled steps after which gradients became smaller, or all where fewer were finite")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """shrunk: of `judged` sampled steps; left: of the gradients' norm, median."""

    shrunk: int
    judged: int
    left: float


def judge(view: View) -> Iterator[Found[Evidence]]:
    after = view.facts.loop.after
    if not after.judged:
        raise CannotJudge(
            "no optimizer was watched in a loop of your own, or gradients are set to zero after its steps"
        )
    if after.shrunk < min(STEPS, after.judged):
        return
    yield ABOUT.found(
        "warning",
        None,
        f"after {after.shrunk} of {after.judged} sampled steps the gradients are made smaller, to {show(after.factor)} "
        "of their norm, when they have been used already",
        evidence=Evidence(after.shrunk, after.judged, after.factor),
        cause="clip_grad_norm_ (or clip_grad_value_) stands behind optimizer.step(): what it clips is cleared before "
        "the next step.",
        remedy="Move the clipping up, between loss.backward() and optimizer.step().",
    )


EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x = torch.randn(1024, 20)
y = x @ torch.randn(20, 1) / 20**0.5
with ug.Probe(model, optimizer, every=10) as probe:
    for step in range(100):
        some = torch.randint(len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
report = ug.diagnose(probe.record)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x = torch.randn(1024, 20)
y = x @ torch.randn(20, 1) / 20**0.5
with ug.Probe(model, optimizer, every=10) as probe:
    for step in range(100):
        some = torch.randint(len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
report = ug.diagnose(probe.record)
"""
