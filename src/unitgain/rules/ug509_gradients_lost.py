"""UG509 gradients-lost: gradients are cleared between backward and the step.

Source: PyTorch's documentation of Optimizer.zero_grad, which says what it does, and reports of loops in which it stands
one line too low. The measurement is ours (probe/loop.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View

ABOUT = About(
    code="UG509",
    name="gradients-lost",
    rank=161,
    exact=True,
    seen=(
        "Gradients come back from the loss, and the optimizer steps without them: they were cleared in between. Or "
        "those of several parts of a batch come, and all but the last part's are cleared."
    ),
    matters=(
        "The step uses no gradient at all. Weights stay as they are, or only shrink by their decay, and the loss stays "
        "where it is, without an error. Where gradients are to be added up over parts of a batch, the step uses the "
        "last part's alone: the batch is as small as one part, and all the work for the others is thrown away."
    ),
    source="PyTorch documentation: Optimizer.zero_grad, Optimizer.step.",
    measured=(
        "At each sampled step: whether a gradient has come to any parameter of the optimizer since the step before, "
        "and whether any has one, other than zero, when the optimizer is called. Steps whose closure computes the "
        "gradient are not meant. And whether gradients of two passes or more are cleared one by one before the "
        "step, each with a forward pass of its own, while no other optimizer steps, no input has a gradient, the "
        "weights stay, and the step uses the last pass's gradient as it came."
    ),
    action="Call zero_grad() before loss.backward() or after optimizer.step(), never between the two.",
    effect="Every step uses the gradient of its own batch.",
    verify="Train some steps more under a Probe.",
    needs="run",
    silent=(
        "a discriminator's gradients that its generator's pass leaves, which are cleared before its own pass",
        "closures, as LBFGS takes them",
        "batches whose loss is zero, and optimizers that keep gradients elsewhere",
        "SAM, adversarial examples, and gradients of several tasks that are put together by hand",
    ),
)

STEPS = Threshold(3, "sampled steps without a gradient: one may be a batch that was left out on purpose")
MOST = Threshold(0.5, "of the sampled steps: a loop that leaves out a bad batch now and then does so rarely")


@dataclass(frozen=True)
class Lost(BaseEvidence):
    """lost: sampled steps before which the gradients were cleared; of: sampled steps."""

    lost: int
    of: int


@dataclass(frozen=True)
class Parts(BaseEvidence):
    """thrown: sampled steps that used the last of several passes alone; parts: passes of one step; of: sampled
    steps."""

    thrown: int
    parts: int
    of: int


Evidence = Lost | Parts


def judge(view: View) -> Iterator[Found[Lost | Parts]]:
    loop = view.facts.loop
    if loop.sampled is None or loop.lost is None:
        raise CannotJudge("no optimizer was watched in a loop of your own: give it to the Probe")
    name = view.facts.optimizer.name or "the optimizer"
    if loop.thrown is not None and STEPS <= loop.thrown >= MOST * loop.sampled:
        yield ABOUT.found(
            "error",
            None,
            f"at {loop.thrown} of {loop.sampled} sampled steps {name} had the gradient of the last of {loop.parts} "
            "passes alone: those of the others were cleared",
            evidence=Parts(loop.thrown, loop.parts or 0, loop.sampled),
            cause="zero_grad() is called for each part of a batch whose gradients are to be added up.",
            remedy="Call zero_grad() once for each step, right after optimizer.step(), not before each backward(); and "
            f"divide the loss of each part by their number, {loop.parts}.",
        )
        return
    if loop.lost < STEPS or loop.lost < MOST * loop.sampled:
        return
    yield ABOUT.found(
        "error",
        None,
        f"at {loop.lost} of {loop.sampled} sampled steps {name} had no gradient, although backward had given some: "
        "they were cleared before the step",
        evidence=Lost(loop.lost, loop.sampled),
        cause="zero_grad() is called between loss.backward() and optimizer.step().",
    )


EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x, y = torch.randn(256, 20), torch.randint(10, (256,))
with ug.Probe(model, optimizer, every=1) as probe:
    for step in range(6):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
report = ug.diagnose(probe.record)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x, y = torch.randn(256, 20), torch.randint(10, (256,))
with ug.Probe(model, optimizer, every=1) as probe:
    for step in range(6):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
report = ug.diagnose(probe.record)
"""
