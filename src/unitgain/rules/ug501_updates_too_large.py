"""UG501 updates-too-large: the optimizer changes the weights by more than a hundredth of their size per step.

Source: Karpathy, makemore part 3 (2022), whose rule of thumb is a thousandth. Deviations: the update is what the
optimizer really did, and Adam-like optimizers that repeat one batch are granted what noise would shorten
(_updates.py). A recorded loss that falls all the same lowers the severity: the rule of thumb is not what matters then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import ug302_exploding_activations as ug302
from . import ug304_dead_units as ug304
from . import ug504_loss_diverging as ug504
from . import ug607_residual_growth as ug607
from ._causes import is_error, units_died
from ._finding import Prescription
from ._flow import norm_follows
from ._later_rise import why_it_may_rise
from ._loss_curve import (
    diverged_from,
    falls_beyond_noise,
    falls_on_fresh_batches,
    leaps,
    leapt_on_fresh_batches,
    steps_lead_down,
)
from ._moving_targets import why_no_objective
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._updates import (
    ADAPTIVE_GRANTED,
    ADAPTIVE_STEPS,
    TARGET,
    UpdateEvidence,
    Updates,
    free_of_norms,
    is_adaptive,
    rate_that_fits,
    settled_updates,
    update_ratios,
)
from ._view import View
from ._words import plural, show

if TYPE_CHECKING:
    from . import ug202_input_not_finite as ug202

ABOUT = About(
    code="UG501",
    name="updates-too-large",
    rank=340,
    seen="The optimizer changes the weights by more than a hundredth of their size per step.",
    matters="Weights are replaced rather than tuned: the loss jumps, units die, and training may diverge.",
    source="Karpathy, makemore part 3, 2022 (10^-3 as a rule of thumb).",
    measured=(
        "log10(std(update)/std(weight)) for weights of two dimensions or more, where the update is what the "
        "optimizer really did; the median over the later half of the sampled steps, then over the weights. Weights "
        "that began at exactly zero have no ratio. Adam-like optimizers take full-sized first steps whatever the "
        "gradient, so they are judged from ten steps on, and before only by the limit for errors. Weights that a "
        "normalization follows do not count, since their scale does not matter, nor do steps of a run after its "
        "loss diverged (UG504). Where the recorded losses fall and never rise far above the first one, such steps "
        "lead down: it is for information then, and a warning instead of an error; a rehearsal on different batches "
        "(data=) decides that. Where its loss leapt up for more than a third of it, or where its steps are such as "
        "have led to a later rise (large ones with momentum, first ones of Adam that replace the weights), that "
        "cannot be told. Where one batch is repeated, Adam-like optimizers are allowed adaptive_granted more, unless "
        "the loss of that batch rises far above the first one. Small networks, language models with clipped gradients "
        "and Adadelta train well with updates beyond a hundredth. Where most units of a layer died in the course of a "
        "run, the updates up to then are judged, not the later ones of what is left."
    ),
    action="Lower the learning rate.",
    effect="Updates near the share of the weights that the message calls right, and a loss that falls smoothly.",
    verify="Check again with steps: the median log10(update:data) is near that (-3; -2.4 where Adam repeats a batch).",
    needs="steps",
    silent=("updates of more than a hundredth under which the loss falls smoothly (for information)",),
    wrecks=True,
)

WARNING = Threshold(-2.0, "log10(update:data): ten times the rule of thumb of a thousandth")
ERROR = Threshold(
    -1.0, "log10(update:data): a hundred times the rule of thumb, a tenth of the weights at every step"
)

MEMORIZED = Threshold(
    -1.1,
    "log10(update:data): a batch that is repeated can be memorized even with such steps; other batches are not learnt",
)

FAR_ALREADY = Threshold(
    -1.5,
    "log10(update:data), from which a loss that falls in a short rehearsal may rise later, as it did at such rates in "
    "one of forty random networks",
)

TENTH = Threshold(0.1, "of the rate, to be tried where the first updates do not say which is right")


@dataclass(frozen=True)
class Killing(UpdateEvidence):
    """Steps after which most units of a layer were dead, so that later steps say nothing of the rate. largest: of
    log10(update:data) up to then, median over the weights; layer, died, units: where most died; since, until: between
    which sampled steps."""

    largest: float
    layer: str
    died: int
    units: int
    since: int
    until: int


Evidence = UpdateEvidence | Killing


def judge(view: View) -> Iterator[Found[UpdateEvidence | Killing]]:
    killing = _killing(view)
    if killing is not None:
        yield killing
    else:
        yield from _judge_course(view)


def _killing(view: View) -> Found[Killing] | None:
    """Most units of a layer died in the course of a run, after updates that are too large: what is left of the network
    has no gradients, and its updates are small whatever the rate."""
    if not view.training:
        return None
    try:
        dead = next((f for f in ug304.judge(view) if isinstance(f.evidence, ug304.Died)), None)
    except CannotJudge:
        return None
    if dead is None or not isinstance(dead.evidence, ug304.Died) or dead.severity != "error":
        return None
    largest = dead.evidence.updates
    if largest is None or not largest > WARNING:
        return None
    try:
        updates = settled_updates(view, TARGET, ADAPTIVE_GRANTED, ADAPTIVE_STEPS, full_sized_too=True)
    except CannotJudge:
        return None
    layer = next(name for name in dead.evidence.sites if name == dead.site)
    row = dead.evidence.sites[layer]
    then = [float(rate) for step, rate in zip(*view.record.metric("lr", optional=True)) if step <= row.last]
    rates = [max(then)] if then else updates.rates
    fits = rate_that_fits(view, row.first, max(rates)) if rates else None
    factor = fits / max(rates) if fits is not None else TENTH
    when = f"step {row.first}" if row.first == row.last else f"steps {row.first} to {row.last}"
    return ABOUT.found(
        "error",
        None,
        f"{updates.optimizer} changed the weights by up to 10^{largest:.1f} of their size per step, after which "
        f"{row.died} of {row.units} units of {layer} were dead ({when}); about 10^{updates.target:.1f} is right",
        evidence=Killing(
            **vars(updates.evidence()),
            largest=largest,
            layer=layer,
            died=row.died,
            units=row.units,
            since=row.first,
            until=row.last,
        ),
        cause="The learning rate is too large for these weights and gradients: steps moved the weights to where units "
        "are off for every example. The small updates since then are those of a network without gradients.",
        remedy=f"Lower the learning rate from {_each(rates)} to about {_each(rate * factor for rate in rates)}."
        if rates
        else f"Lower the learning rate: multiply it by {show(factor)}.",
        prescription=Prescription(rate=factor),
    )


def _judge_course(view: View) -> Iterator[Found[UpdateEvidence]]:
    try:
        limit, updates = WARNING, settled_updates(view, TARGET, ADAPTIVE_GRANTED, ADAPTIVE_STEPS)
    except CannotJudge:  # the first steps of Adam, which are full-sized: a rate far too large shows there too
        updates = settled_updates(view, TARGET, ADAPTIVE_GRANTED, ADAPTIVE_STEPS, full_sized_too=True)
        limit = ERROR
        if updates.judged <= limit:
            raise
    every = limit is WARNING and updates.least > WARNING  # every weight at every step
    fresh = view.rehearsal and bool(view.facts.fresh_batches)
    granted = updates.median > WARNING >= updates.judged
    leapt = limit is WARNING and granted and not fresh and leaps(view)
    if updates.judged > limit or every or leapt:
        updates = free_of_norms(view, updates)
    if updates.judged <= limit and not every and not (leapt and updates.median > WARNING):
        return
    falls = _falls_on_fresh_batches(view, updates.judged) if fresh else steps_lead_down(view)
    far = updates.judged > ERROR or (falls and view.rehearsal and updates.median > MEMORIZED)
    far = far and not (falls and fresh)
    other = None if falls else why_no_objective(view)
    within = updates.judged <= WARNING and not len(view.losses[1])  # granted, and no loss says otherwise
    rates, factor = updates.rates, updates.factor if falls else _factor(view, updates)
    yield ABOUT.found(
        ("warning" if far else "info") if falls or within or other else ("error" if far else "warning"),
        None,
        f"{updates.optimizer} changes the weights by 10^{updates.median:.1f} of their size per step (median of "
        f"{plural(len(updates.ratios), 'weight')}); about 10^{updates.target:.1f} is right",
        evidence=updates.evidence(),
        cause="The learning rate is large for these weights and gradients, but the loss falls at it"
        + (" on every batch." if fresh else ".")
        if falls
        else f"The learning rate is large for these weights. Whether too large, the loss does not say: {other}."
        if other
        else "The learning rate is too large for these weights and gradients.",
        remedy="Raise the learning rate from a tenth of it over the first steps (a warm-up), or lower it."
        if falls and leapt_on_fresh_batches(view) > 1
        else "Nothing: the rehearsal on different batches shows that this rate works (prove=True tries lower ones)."
        if falls and fresh
        else f"Lower the learning rate from {_each(rates)} to about {_each(rate * factor for rate in rates)}."
        if rates
        else f"Lower the learning rate: multiply it by {show(factor)}.",
        prescription=Prescription(rate=factor),
    )


def _each(rates: Iterable[float]) -> str:
    """Groups of parameters often have the same rate."""
    return ", ".join(dict.fromkeys(map(show, rates)))


def _factor(view: View, updates: Updates) -> float:
    """What to multiply the rates by where the loss does not fall: what the first step suggests, if that lowers them
    less, since later updates are those of a network that is wrecked. Momentum lengthens later steps by up to
    1 / (1 - momentum). Adam's first step is full-sized whatever the gradient, and says nothing."""
    if is_adaptive(view) or not updates.rates or not any(updates.rates):
        return updates.factor
    highest = max(updates.rates)
    fits = rate_that_fits(view, min(view.record.frame("update")["step"]), highest)
    if fits is None:
        return updates.factor
    momentum = max((group.momentum for group in view.facts.optimizer.groups or ()), default=0.0)
    return max(updates.factor, (1 - momentum) * fits / highest)


def _falls_on_fresh_batches(view: View, judged: float) -> bool:
    """Steps that are not far too large may lower the loss slowly at first."""
    slowly = (
        judged <= FAR_ALREADY and np.isfinite(view.losses[1]).all() and falls_beyond_noise(view.losses[1])
    )
    return falls_on_fresh_batches(view) or bool(slowly)


def doubt(view: View) -> str | None:
    """First steps that went far up, or steps so large that a short rehearsal does not show where they lead: of the
    trainings whose loss falls there, most go well and some diverge later."""
    try:
        if not view.facts.fresh_batches or next(_judge_course(view), None) is None:
            return None
        updates = settled_updates(view, TARGET, ADAPTIVE_GRANTED, ADAPTIVE_STEPS, full_sized_too=True)
        return why_it_may_rise(view, free_of_norms(view, updates))
    except CannotJudge:
        return None


def _of_a_batch(cause: Found[ug202.Evidence], effect: Found[UpdateEvidence], view: View) -> bool:
    """The loss was lost to a batch of the data, so that the rehearsal says nothing of the rate."""
    return cause.evidence.batch > 0


def _not_of_these_steps(cause: Found[ug304.Evidence], effect: Found[UpdateEvidence], view: View) -> bool:
    """Units that died date the large steps, unless these are known to have killed them."""
    return not isinstance(effect.evidence, Killing) and units_died(cause, effect, view)


def _kills(cause: Found[BaseEvidence], effect: Found[Evidence], view: View) -> bool:
    """What explains units that died in the course of a run explains the steps that killed them."""
    return isinstance(effect.evidence, Killing) and cause.severity != "info"


def _kills_there(cause: Found[BaseEvidence], effect: Found[Evidence], view: View) -> bool:
    return isinstance(effect.evidence, Killing) and cause.site == effect.evidence.layer


def _diverged_too(cause: Found[ug504.Evidence], effect: Found[Evidence], view: View) -> bool:
    """The loss left for good, or began to rise before, which says more than the units that died of the same steps."""
    return (
        isinstance(effect.evidence, Killing)
        and (diverged_from(view) is not None or ug504.began_before(cause.evidence, effect.evidence))
        and is_error(cause, effect, view)
    )


def _growth_makes_them(cause: Found[BaseEvidence], effect: Found[UpdateEvidence], view: View) -> bool:
    """Without the growth the same rate would not change the weights too much: gradients grow as the scale does. It was
    there at the first step, and Adam-like optimizers do not see the size of gradients."""
    if is_adaptive(view):
        return False
    updates = view.over_steps("update", "ratio")
    ratios = [updates[name][0] for name in update_ratios(view) if name in updates]
    ratios = [ratio for ratio in ratios if math.isfinite(ratio)]
    rule = ug607 if cause.code == "UG607" else ug302
    grown = next(rule.judge(View(view.record, first=True)), None)
    if grown is None or not ratios:
        return False
    end = view.tensor(grown.evidence.last_site)
    if end is not None and norm_follows(view, end):
        return False  # it divides the gradients by what the scale has grown to
    return bool(np.median(ratios) - _decades(grown.evidence) <= WARNING)


def _decades(evidence: ug302.Evidence | ug607.Evidence) -> float:
    """By how many decades gradients are smaller where the scale does not grow: those of the whole growth, and once more
    those of one layer or branch, which multiplies them too."""
    if isinstance(evidence, ug607.Evidence):
        return math.log10(evidence.change * evidence.per_block) / 2  # of variance
    return math.log10(evidence.change * (evidence.per_block or evidence.per_layer or 1.0))


EXPLAINED_BY = (
    Cause("UG302", _growth_makes_them),
    Cause("UG607", _growth_makes_them),
    Cause("UG407"),
    Cause("UG506"),
    Cause("UG509"),
    Cause("UG511"),
    Cause("UG507"),
    Cause("UG113", _kills),
    Cause("UG705", _kills),
    Cause("UG108", _kills_there),
    Cause("UG115", _kills_there),
    Cause("UG504", _diverged_too),
    Cause("UG304", _not_of_these_steps),
    Cause("UG202", _of_a_batch),
)

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
batch = torch.randn(256, 20), torch.randint(10, (256,))
optimizer = torch.optim.SGD(model.parameters(), lr=3.0)
report = ug.check(model, batch, steps=10, optimizer=optimizer)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
batch = torch.randn(256, 20), torch.randint(10, (256,))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
report = ug.check(model, batch, steps=10, optimizer=optimizer)
"""
