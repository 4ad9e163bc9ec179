"""UG506 gradients-not-cleared: an optimizer step uses a gradient that an earlier step has used already.

Source: the documentation of torch.optim.Optimizer.zero_grad. How it is decided (probe/loop.py) is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._view import View
from ._words import listed, plural

ABOUT = About(
    code="UG506",
    name="gradients-not-cleared",
    rank=160,
    seen="An optimizer step uses gradients that still contain what the step before used.",
    matters=(
        "backward adds to the gradients that are there. Without clearing, each step follows the sum of all gradients "
        "so far: old batches and old weights count as much as new ones, the sum grows with every step, and training "
        "swings, stalls or diverges at rates that would be right."
    ),
    source="PyTorch, documentation of torch.optim.Optimizer.zero_grad.",
    measured=(
        "In sampled steps: whether a parameter's gradient, at the moment when the next one is added to it, is the "
        "very tensor that the step before used, unchanged and not zero; and whether that is still so when the "
        "optimizer steps. Nothing is compared with a limit but the number of such steps."
    ),
    action=(
        "Call optimizer.zero_grad() once for each optimizer step: before backward, or right after optimizer.step(). "
        "With several optimizers, call that of each."
    ),
    effect="Each step follows the gradient of its own batch; a larger learning rate becomes possible.",
    verify="Train again with a Probe, or look at the norm of a gradient: it no longer grows from step to step.",
    needs="run",
    silent=(
        "gradients of several batches that are added up before one step",
        "a GAN whose generator's pass leaves gradients in the discriminator, if they are cleared before its own step",
        "gradients set to None, to zero, or replaced",
    ),
    wrecks=True,
)

STEPS = Threshold(2, "sampled steps at least that use gradients again: a single one may be meant")
SHARE = Threshold(0.1, "of the sampled steps: who clears at the wrong place does it wrong at most of them")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """steps: of `judged` sampled ones, those that used gradients again; parameters: whose; of: how many there are."""

    steps: int
    judged: int
    parameters: tuple[str, ...]
    of: int


def judge(view: View) -> Iterator[Found[Evidence]]:
    reused = view.facts.loop.reused
    if view.facts.loop.steps is None:
        raise CannotJudge("no optimizer was watched in a loop of your own: give it to the Probe")
    if not reused.judged:
        raise CannotJudge("fewer than two optimizer steps, or only the first was sampled")
    if reused.steps < min(STEPS, reused.judged) or reused.steps < SHARE * reused.judged:
        return
    names = reused.parameters
    whose = f"{len(names)} of {plural(reused.of, 'parameter')}" + (
        f": {listed(names)}" if len(names) < reused.of else ""
    )
    yield ABOUT.found(
        "error",
        None,
        f"{reused.steps} of {plural(reused.judged, 'sampled step')} used gradients that still held those of the step "
        f"before ({whose})",
        evidence=Evidence(reused.steps, reused.judged, names, reused.of),
        cause="zero_grad() is not called between these steps, or not for these parameters.",
    )


EXPLAINED_BY = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.005)
x = torch.randn(1024, 20)
y = x @ torch.randn(20, 1) / 20**0.5
with ug.Probe(model, optimizer, every=10) as probe:
    for step in range(60):
        some = torch.randint(len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        loss.backward()
        optimizer.step()
report = ug.diagnose(probe.record)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
x = torch.randn(1024, 20)
y = x @ torch.randn(20, 1) / 20**0.5
with ug.Probe(model, optimizer, every=10) as probe:
    for step in range(60):
        some = torch.randint(len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
report = ug.diagnose(probe.record)
"""
