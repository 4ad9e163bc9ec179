"""UG508 stopped-learning: weights get gradients, and the optimizer's steps do not change them at all.

Source: none; an update of exactly zero is its own evidence. What explains it, and what is left out, is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._causes import names_a_group, rounded_away
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._updates import has_converged, no_update
from ._view import View
from ._words import listed, plural, show

if TYPE_CHECKING:
    from . import ug502_updates_too_small as ug502

ABOUT = About(
    code="UG508",
    name="stopped-learning",
    rank=250,
    seen="Weights get gradients, but the optimizer's steps do not change them at all.",
    matters="Nothing is learnt from then on, however long training goes on.",
    source="None: an update of exactly zero is its own evidence.",
    measured=(
        "Updates (after minus before, of a sample of each parameter) that are exactly zero where the gradient is "
        "not, in at least half of the sampled steps. Embeddings, whose sampled rows may all have rested, and "
        "parameters that the optimizer does not hold (UG701) are left out."
    ),
    action=(
        "Look at the learning rate at that step: a schedule that steps once per batch, where it was meant for epochs, "
        "brings it to zero; raise it, or step the schedule once per epoch."
    ),
    effect="The weights move, and the loss goes on falling.",
    verify="Train again with a Probe: updates are near a thousandth of the weights.",
    needs="run",
    silent=(
        "a run that has converged: its gradients, and with them its updates, are rounded away",
        "the first steps of a warm-up, the last steps of a schedule",
        "weights without a gradient (UG403), frozen weights",
    ),
)

SUSTAINED = Threshold(0.5, "of the sampled steps: a warm-up begins at zero, and many schedules end there")
STEPS = Threshold(3, "sampled steps: fewer are not sustained")
LOWERED = Threshold(1e-3, "of the highest learning rate: what a schedule leaves where it ends too early")
COARSE = ("float16", "bfloat16")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """stopped: parameters, of `of`; since: the first sampled step after which all of them stay; lr: the learning rate
    there, and the highest one."""

    stopped: int
    of: int
    since: int
    lr: float | None = None
    highest: float | None = None


def judge(view: View) -> Iterator[Found[Evidence]]:
    if not view.training:
        raise CannotJudge("a rehearsal is too short to tell")
    held, none = view.facts.optimizer.held, no_update(view)
    judged = {name: v for name, v in none.items() if (held is None or name in held) and _counts(view, name)}
    if not judged or max(len(v) for v in judged.values()) < STEPS:
        raise CannotJudge("fewer than three optimizer steps were measured")
    stopped = {n: v for n, v in judged.items() if v.mean() >= SUSTAINED and v[-1]}
    if not stopped or has_converged(view, stopped):
        return
    steps = sorted({int(s) for s in view.record.frame("update")["step"]})
    moving = max((int(np.nonzero(~v)[0][-1]) + 1 if (~v).any() else 0) for v in stopped.values())
    since = steps[min(moving, len(steps) - 1)]
    rates = dict(zip(*view.record.metric("lr", optional=True)))
    now, highest = float(rates.get(since, np.nan)), max(rates.values(), default=np.nan)
    whole = len(stopped) == len(judged)
    lowered = now <= LOWERED * highest
    deliberate = not whole and all(_rate_of(view, name) == 0 for name in stopped)
    yield ABOUT.found(
        "info" if deliberate else "error" if whole else "warning",
        None if whole else next(iter(stopped)),
        f"from step {since} on, {plural(len(stopped), 'parameter')} of {len(judged)} got gradients and "
        f"{'was' if len(stopped) == 1 else 'were'} not changed at all{'' if whole else f' ({listed(stopped)})'}",
        evidence=Evidence(len(stopped), len(judged), since, _known(now), _known(float(highest))),
        cause=_cause(view, next(iter(stopped)), now, float(highest), lowered, deliberate),
        remedy=_remedy(view, next(iter(stopped)), float(highest), lowered, deliberate),
    )


def _counts(view: View, name: str) -> bool:
    site = view.record.site("update", name)
    return site is not None and site.attributes.get("role") != "embedding"


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _rate_of(view: View, name: str) -> float:
    group = view.facts.optimizer.group_of(name)
    return group.lr if group is not None else np.nan


def _is_coarse(view: View, name: str) -> bool:
    site = view.record.site("update", name)
    return site is not None and site.dtype in COARSE


def _cause(view: View, name: str, now: float, highest: float, lowered: bool, deliberate: bool) -> str:
    if deliberate:
        return "Their parameter group has a learning rate of zero."
    if lowered:
        return f"The learning rate was {show(now)} by then, where it had been {show(highest)}."
    if _is_coarse(view, name):
        return "Steps at this learning rate are smaller than the weights' last digit in half precision: rounded away."
    if now == 0:
        return "The learning rate is zero."
    return "Something between the gradient and the weights takes the whole step away."


def _remedy(view: View, name: str, highest: float, lowered: bool, deliberate: bool) -> str:
    if deliberate:
        return "If they are to stay as they are, requires_grad_(False) saves their gradients too."
    if lowered:
        return (
            f"Raise the learning rate again (it was {show(highest)}), and step its schedule as often as it was made "
            "for: scheduler.step() once per epoch, or a schedule whose lengths are counted in batches."
        )
    if _is_coarse(view, name):
        return (
            "Keep the weights in float32 and run the model under torch.autocast, or raise the learning rate."
        )
    return ""


def _rounded(cause: Found[ug502.Evidence], effect: Found[Evidence], view: View) -> bool:
    return rounded_away(effect, view)


EXPLAINED_BY = (
    Cause("UG509"),
    Cause("UG704"),
    Cause("UG503", names_a_group),
    Cause("UG502", _rounded),
)

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.1)  # meant for epochs
x = torch.randn(1024, 20)
y = x.abs().sum(1, keepdim=True) - 16
with ug.Probe(model, optimizer, every=10) as probe:
    for step in range(120):
        some = torch.randint(len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
report = ug.diagnose(probe.record)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.1)
x = torch.randn(1024, 20)
y = x.abs().sum(1, keepdim=True) - 16
with ug.Probe(model, optimizer, every=10) as probe:
    for step in range(120):
        some = torch.randint(len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 16 == 15:  # the end of an epoch
            schedule.step()
report = ug.diagnose(probe.record)
"""
