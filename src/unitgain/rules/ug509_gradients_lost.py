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
    seen="Gradients come back from the loss, and the optimizer steps without them: they were cleared in between.",
    matters=(
        "The step uses no gradient at all. Weights stay as they are, or only shrink by their decay, and the loss stays "
        "where it is, without an error."
    ),
    source="PyTorch documentation: Optimizer.zero_grad, Optimizer.step.",
    measured=(
        "At each sampled step: whether a gradient has come to any parameter of the optimizer since the step before, "
        "and whether any has one, other than zero, when the optimizer is called. Steps whose closure computes the "
        "gradient are not meant."
    ),
    action="Call zero_grad() before loss.backward() or after optimizer.step(), never between the two.",
    effect="Every step uses the gradient of its own batch.",
    verify="Train some steps more under a Probe.",
    needs="run",
    silent=(
        "a discriminator's gradients that its generator's pass leaves, which are cleared before its own pass",
        "closures, as LBFGS takes them",
        "batches whose loss is zero, and optimizers that keep gradients elsewhere",
    ),
)

STEPS = Threshold(3, "sampled steps without a gradient: one may be a batch that was left out on purpose")
MOST = Threshold(0.5, "of the sampled steps: a loop that leaves out a bad batch now and then does so rarely")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """lost: sampled steps before which the gradients were cleared; of: sampled steps."""

    lost: int
    of: int


def judge(view: View) -> Iterator[Found[Evidence]]:
    loop = view.facts.loop
    if loop.sampled is None or loop.lost is None:
        raise CannotJudge("no optimizer was watched in a loop of your own: give it to the Probe")
    if loop.lost < STEPS or loop.lost < MOST * loop.sampled:
        return
    name = view.facts.optimizer.name or "the optimizer"
    yield ABOUT.found(
        "error",
        None,
        f"at {loop.lost} of {loop.sampled} sampled steps {name} had no gradient, although backward had given some: "
        "they were cleared before the step",
        evidence=Evidence(loop.lost, loop.sampled),
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
