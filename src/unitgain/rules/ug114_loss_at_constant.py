"""UG114 loss-at-constant: training ends where a constant output is.

Source: Schroff, Kalenichenko and Philbin, FaceNet (2015), section 3.2: the hardest triplets collapse all embeddings to
one point, and the loss stays at the margin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View
from ._words import show

ABOUT = About(
    code="UG114",
    name="loss-at-constant",
    rank=255,
    seen="While steps are made the outputs become the same for all examples, and the loss stays at a constant's.",
    matters=(
        "A network whose outputs no longer depend on its input has the loss of a constant: the margin of a triplet "
        "loss, the entropy of the class shares, the variance of the targets. It seldom recovers."
    ),
    source="Schroff, Kalenichenko and Philbin, FaceNet, 2015, section 3.2.",
    measured=(
        "A rehearsal of 20 steps or more on one batch: the deviation of the outputs (rms over examples of the "
        "difference from the mean example) before and after, the same over their rms, and the loss where every example "
        "is given the mean output. Of a run: the same deviation at the first and the last step at which a Probe "
        "compares examples, and a loss that no longer moves and has not fallen far."
    ),
    action="Lower the learning rate, and start again from new weights.",
    effect="Outputs keep telling the examples apart, and the loss falls below that of a constant.",
    verify="Check again with the same steps.",
    needs="steps",
    silent=(
        "targets that are the same for all examples",
        "first steps near chance",
        "heads that begin at zero",
    ),
)

STEPS = Threshold(20, "steps: before, an output may be near constant on its way")
COLLAPSED = Threshold(
    0.2,
    "of the deviation that the outputs had at first is left: a bias that learns the mean leaves it as it is",
)
ONE_POINT = Threshold(
    0.2, "deviation over rms: logits that shrink from a confident start still differ by more"
)
FLAT = Threshold(0.01, "of its level, that the second half of a run's losses ranges over: it no longer moves")
LEFT = Threshold(
    0.3,
    "of a run's first loss: constant outputs give about so much or more; what fell further has learnt something",
)
NEAR = Threshold(0.02, "of the loss: by so much it may lie below that of the mean output")


@dataclass(frozen=True)
class InRehearsal(BaseEvidence):
    """loss: at the end; constant: with the mean output for every example; first, last: deviation of the outputs;
    spread: the last over rms."""

    loss: float
    constant: float
    first: float
    last: float
    spread: float


@dataclass(frozen=True)
class InTraining(BaseEvidence):
    """loss: the level at which a run stays; first, last: deviation of the outputs between examples, at the first and
    the
    last step at which it was measured; spread: the last over rms."""

    loss: float
    first: float
    last: float
    spread: float


Evidence = InRehearsal | InTraining


def judge(view: View) -> Iterator[Found[Evidence]]:
    if view.training:
        yield from _in_training(view)
        return
    found = _collapse(view)
    if found is None:
        return
    output = view.output
    yield ABOUT.found(
        "error",
        output.name if output is not None else None,
        f"the outputs became the same for all examples (they differ by {show(found.first)} at first and by "
        f"{show(found.last)} at the end), and the loss stays at {show(found.loss)}: that of the mean output for all "
        f"is {show(found.constant)}",
        evidence=found,
        cause=_why(view),
    )


def _in_training(view: View) -> Iterator[Found[InTraining]]:
    """Outputs that came together while the loss stayed where it was."""
    output, losses = view.output, view.losses[1]
    if output is None or len(losses) < STEPS or not np.isfinite(losses).all():
        raise CannotJudge(f"needs {STEPS:g} finite losses of a run, and the model's output")
    level = float(np.median(losses[len(losses) // 2 :]))
    flat = np.ptp(losses[len(losses) // 2 :]) <= FLAT * abs(level)
    if not flat or level < LEFT * losses[0] or losses[0] <= 0:
        return
    steps, cosines = view.record.series("activation", output.name, "cosine")
    sizes = dict(zip(*view.record.series("activation", output.name, "rms")))
    known = [
        (sizes[s], c) for s, c in zip(steps, cosines) if s in sizes and (math.isfinite(c) or sizes[s] == 0)
    ]
    if len(known) < 2 or known[0][0] == 0:
        return
    first, last = (size * math.sqrt(max(0.0, 1 - c)) if size else 0.0 for size, c in (known[0], known[-1]))
    spread = last / known[-1][0] if last else 0.0
    if last > COLLAPSED * first or spread > ONE_POINT:
        return
    yield ABOUT.found(
        "error",
        output.name,
        f"the outputs became the same for all examples (they differ by {show(first)} at first and by {show(last)} "
        f"at the end), and the loss stays at {show(level)}, after {show(float(losses[0]))} at first: what constant "
        "outputs give, such as the margin of a triplet loss",
        evidence=InTraining(level, first, last, spread),
        cause=_why(view),
        remedy="Lower the learning rate, and take all triplets of a batch, or semi-hard negatives, until examples are "
        "apart; then the hardest ones.",
    )


def _why(view: View) -> str:
    if view.facts.loss.kind in ("cross_entropy", "mse"):
        return "Updates too large killed the units or saturated them, so that only biases still learn."
    return (
        "Updates too large, or a loss that is lower for one point than for points not yet separated: the hardest "
        "triplets, pairs that only attract each other."
    )


def _collapse(view: View) -> InRehearsal | None:
    end, output = view.facts.function.end, view.facts.output
    first = output.spread * output.rms
    targets = view.facts.comparison.targets
    if not view.rehearsal or (view.facts.rehearsed_steps or 0) < STEPS or math.isnan(end.spread):
        raise CannotJudge(f"needs a rehearsal of {STEPS:g} steps or more on one batch")
    if math.isnan(end.constant):
        raise CannotJudge("the loss could not be asked what a constant output gives")
    if targets.different == 1 or targets.std == 0 or view.facts.output.zero_head:
        return None
    apart = end.spread > ONE_POINT or end.deviation > COLLAPSED * first
    if apart or end.loss < (1 - NEAR) * end.constant:
        return None
    return InRehearsal(end.loss, end.constant, first, end.deviation, end.spread)


def _matters(cause: Found[BaseEvidence], effect: Found[Evidence], view: View) -> bool:
    return cause.severity != "info"


EXPLAINED_BY = (
    Cause("UG102"),
    Cause("UG104"),
    Cause("UG501", _matters),
    Cause("UG504"),
    Cause("UG507"),
    Cause("UG705"),
)

_START = """
def hardest(outputs, labels):
    apart, same = torch.cdist(outputs, outputs), labels[:, None] == labels
    return F.relu((apart * same).amax(1) - (apart + 1e6 * same).amin(1) + 0.3).mean()


def all_pairs(outputs, labels):
    apart, same = torch.cdist(outputs, outputs), (labels[:, None] == labels).float()
    return (same * apart + (1 - same) * F.relu(3 - apart)).mean()


model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
batch = torch.randn(128, 20), torch.randint(4, (128,))
"""

BAD = f"""
{_START.strip()}
report = ug.check(model, batch, loss=hardest, steps=150, optimizer=optimizer)
"""

GOOD = f"""
{_START.strip()}
report = ug.check(model, batch, loss=all_pairs, steps=150, optimizer=optimizer)
"""
