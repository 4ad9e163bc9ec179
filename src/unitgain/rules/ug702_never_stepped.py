"""UG702 never-stepped: backward runs again and again, and the optimizer makes no step, or none any more.

Source: the documentation of torch.optim.Optimizer.step. That values are compared, so that steps under another name
count, is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._view import View

ABOUT = About(
    code="UG702",
    name="never-stepped",
    rank=90,
    seen="Gradients were computed in many passes, and the optimizer never made a step, or makes none any more.",
    matters="Nothing is trained, however long the loop runs.",
    source="PyTorch, documentation of torch.optim.Optimizer.step.",
    measured=(
        "Backward passes that brought gradients to the model's parameters, steps of the optimizer, and whether any "
        "parameter has another value than when measuring began: steps that are made under another name change them. "
        "And losses logged since the last step (`probe.log(loss=...)`), where the gradients that wait hold NaN or "
        "infinity."
    ),
    action="Call optimizer.step() after backward (with parentheses; with a GradScaler scaler.step(optimizer)).",
    effect="The parameters change, and the loss falls.",
    verify="Train again with a Probe: updates are measured.",
    needs="run",
    silent=(
        "gradients of several batches that are added up before a step",
        "steps of another optimizer, or by hand",
        "a Probe without an optimizer",
    ),
)

PASSES = Threshold(10, "backward passes: fewer may be the first part of an accumulated gradient")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """passes: without a step; broken: whether their gradients hold NaN or infinity."""

    passes: int
    broken: bool = False


def judge(view: View) -> Iterator[Found[Evidence]]:
    loop = view.facts.loop
    if loop.steps is None or loop.passes is None or not view.training:
        raise CannotJudge("no optimizer was watched in a loop of your own: give it to the Probe")
    if loop.moved and not loop.steps:
        return  # by steps under another name
    passes = loop.waiting or 0 if loop.steps else loop.passes
    if loop.waiting is not None and passes >= PASSES:
        yield _left_out(view, passes)
        return
    if loop.steps:
        return
    if loop.passes < PASSES:
        raise CannotJudge("fewer than ten backward passes")
    yield ABOUT.found(
        "error",
        None,
        f"{loop.passes} backward passes and no step of {view.facts.optimizer.name}: no parameter has changed",
        evidence=Evidence(loop.passes),
        cause="optimizer.step() is not called, or is called on another optimizer than that of this model.",
    )


def _left_out(view: View, passes: int) -> Found[Evidence]:
    steps, name = view.facts.loop.steps, view.facts.optimizer.name
    return ABOUT.found(
        "error",
        None,
        f"at least {passes} passes and no step of {name}{f' after {steps} steps' if steps else ''}: the gradients "
        "hold NaN or infinity",
        evidence=Evidence(passes, broken=True),
        cause="A GradScaler (or the loop) leaves out every step whose gradients are not finite, and says nothing. It "
        "halves its scale each time; where that does not help, the numbers are not too large but undefined.",
        remedy="Find what makes the gradients infinite or NaN: check(model, batch) on a batch of now names the first "
        "place. A logarithm, root or division at zero, or a value beyond float16's 65504, needs an eps, a clamp or "
        "float32.",
    )


EXPLAINED_BY = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
x, y = torch.randn(256, 20), torch.randint(10, (256,))
with ug.Probe(model, optimizer, every=10) as probe:
    for step in range(30):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step
report = ug.diagnose(probe.record)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
x, y = torch.randn(256, 20), torch.randint(10, (256,))
with ug.Probe(model, optimizer, every=10) as probe:
    for step in range(30):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
report = ug.diagnose(probe.record)
"""
