"""Advice is a hypothesis until it is tried: check(prove=True).

The model is trained for some steps as it is, and again from the same state on the same batches with each remedy that a
finding prescribes: numbers for the optimizer, factors for weights, or a registered remedy. What ends lower is kept and
says so; what does not is not advised. A finding is made less severe where its remedies do not help and the network
trains well without them: what it measured is true, but training does not suffer from it.

Two things are not refuted so: an exact comparison (`About.exact`), which holds whatever a short training shows; and
anything where neither training learnt, as from labels that nothing predicts.

A repeated batch is weaker evidence than fresh ones, since it can be memorized at rates at which training fails: there
a refuted finding goes down by one level only, and one about the learning rate no further than to a warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from torch import nn

from .._base import InputError, headed
from .._batch import Loss
from ..remedies import REMEDIES, Remedy, Subject
from ..report import Report
from ..rules import CATALOGUE, SEVERITIES, Finding, Prescription, Proof, reconsider
from .effort import effort_for
from .job import Step
from .rehearsal import Plan
from .trials import STEPS, Change, Course, Difference, Trials, both, compare
from .untrained import looks_untrained

_MOST_FOR_A_FINDING = 3
_PARTS = (0.1, 0.01)  # of a prescribed rate at which nothing is learnt
_DECAY = 0.01  # factor of a weight decay that is tried in the place of a lower learning rate
_DECAY_IS_IT = "The weight decay is too large: with less of it the same learning rate trains better."
_HARMLESS = "Training does not suffer from it: the network trains well as it is."


def prove(
    report: Report,
    model: nn.Module,
    batch: Any,
    loss: str | Loss | None,
    step: Step | None,
    plan: Plan,
    *,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> Report:
    """The report after its remedies were tried; where nothing can be trained, the same with the reason."""
    effort = effort_for(report.record, STEPS)
    left = effort.trials
    trials = Trials(model, batch, loss, step, plan, effort.steps)
    try:
        base = trials.run()
    except InputError as error:
        diagnosis = replace(report.diagnosis, tried=f"nothing could be tried: {error}")
        return Report(report.record, diagnosis)
    may_redraw = looks_untrained(model, report)
    findings, tried, put_off = [], 0, 0
    again = _Again(trials)
    for finding in report.findings:
        worth = finding.severity != "info" or finding.prescription is not None
        changes = list(islice(changes_for(finding, trials, may_redraw), _MOST_FOR_A_FINDING)) if worth else []
        put_off += bool(changes) and not left
        with headed(f"trying what {finding.code} advises"):
            best, used = _best(changes[:left], trials, base, again)
        left -= used
        tried += best is not None
        findings.append(finding if best is None else _judged(finding, *best, base))
    level = f"{base.level:.4g}" if base.finite else "not finite"
    course = f"the loss goes from {base.losses[0]:.4g} to {level}"
    by = f"{trials.plan.steps} steps of {trials.optimizer_name} on {base.on}"
    line = (
        f"{tried} of the findings' remedies, each by {by}; without any {course}"
        if tried
        else f"nothing, since no finding has a remedy that a short training can try; in {by} {course}"
    )
    if put_off:
        line += f"; those of {put_off} more were not, since a step of this model computes much"
    diagnosis = reconsider(
        report.record, report.diagnosis, findings, tried=line, doubt=base.doubt, select=select, ignore=ignore
    )
    return Report(report.record, diagnosis)


class _Again:
    """Trainings on other examples than those by which the best remedy was chosen."""

    def __init__(self, trials: Trials):
        self._trials, self._possible = trials, trials.has_second
        self._base: Course | None = None

    def confirmed(self, change: Change, found: Difference) -> Difference:
        """The comparison with a second one beside it, where there are other examples."""
        if not self._possible:
            return found
        try:
            base = self._base or self._trials.run(second=True)
            self._base = base
            return both(found, compare(base, self._trials.run(change, second=True)))
        except InputError:  # the data end
            self._possible = False
            return found


def _best(
    changes: Sequence[Change], trials: Trials, base: Course, again: _Again
) -> tuple[tuple[Change, Proof] | None, int]:
    """(of these changes the one that ends lowest by more than noise, with the others in its proof, or None if none
    could be tried; how many trainings that took)."""
    tried: list[_Tried] = []
    for change in changes:
        try:
            course = trials.run(change)
        except InputError:
            continue  # it does not apply to this model
        tried.append((change, course, compare(base, course)))
        if change.apply is not None and tried[-1][2].outcome == "better":
            break
    if not tried:
        return None, 0
    best = _lowest(tried)
    first = base.held[0] if base.held else base.losses[0]
    for change in _lower_still(best[0], trials):
        if best[1].learns_below(first):
            break
        course = trials.run(change)
        tried.append((change, course, compare(base, course)))
        best = _lowest(tried)
    used = len(tried)
    if best[2].outcome == "better":
        best = (*best[:2], again.confirmed(best[0], best[2]))
        used += 1

    def proof(change: Change, course: Course, found: Difference) -> Proof:
        on = f"{base.on}, judged by the other half" if found.held else base.on
        ends = (found.without, found.with_it, found.noise, found.outcome)
        return Proof(change.words, trials.plan.steps, on, *ends, passing=found.passing)

    others = tuple(str(proof(*one)) for one in tried if one[0] is not best[0])
    shown = replace(proof(*best), others=others)
    learnt = base.learns or any(course.learns_below(first) for _, course, _ in tried)
    if shown.outcome == "same" and not learnt:
        shown = replace(shown, outcome="open")
    return (best[0], shown), used


_Tried = tuple[Change, Course, Difference]


def _lowest(tried: Sequence[_Tried]) -> _Tried:
    best = tried[0]
    for one in tried[1:]:
        if _is_lower(one, best):
            best = one
    return best


def _lower_still(change: Change, trials: Trials) -> Iterator[Change]:
    """A tenth and a hundredth of a lower learning rate, for where the network still learns nothing at it: a loss that
    stays at a guess is lower than one that has exploded, and no cure."""
    prescription = change.prescription
    if change.apply is None and prescription.rate < 1:
        for part in _PARTS:
            lower = replace(prescription, rate=part * prescription.rate)
            yield Change(_words(lower, trials), prescription=lower)


def _is_lower(one: _Tried, other: _Tried) -> bool:
    """By more than noise: of two that end alike the earlier one, which is what the rule prescribes."""
    rank = ("better", "same", "worse")
    if one[2].outcome != other[2].outcome:
        return rank.index(one[2].outcome) < rank.index(other[2].outcome)
    return compare(other[1], one[1]).outcome == "better"


def changes_for(finding: Finding, trials: Trials, may_redraw: bool) -> Iterator[Change]:
    """What a finding prescribes, as something to try: its numbers, halfway to them, then its registered remedies."""
    prescription = finding.prescription
    if prescription is not None:
        yield Change(_words(prescription, trials), prescription=prescription)
        if prescription.rate != 1:
            half = replace(prescription, rate=math.sqrt(prescription.rate))
            yield Change(_words(half, trials), prescription=half)
        decay = _weight_decay(trials)
        if prescription.rate < 1 and decay > 0:
            less = Prescription(options={"weight_decay": _DECAY * decay})
            yield Change(_words(less, trials), prescription=less)
    for name in CATALOGUE[finding.code].remedies if finding.code in CATALOGUE else ():
        remedy = REMEDIES[name]
        if remedy.when_asked or remedy.other_loss or not remedy.refutes:
            continue
        if may_redraw or not remedy.redraws:
            yield Change(remedy.title, lambda subject, remedy=remedy: _work(remedy, subject, finding))


def _work(remedy: Remedy, subject: Subject, finding: Finding) -> None:
    done = remedy.apply(subject, finding)
    if not done.changes:
        raise InputError(done.reason)


def _weight_decay(trials: Trials) -> float:
    return max((float(group.get("weight_decay") or 0.0) for group in _groups(trials)), default=0.0)


def _groups(trials: Trials) -> list[dict[str, Any]]:
    return [group for optimizer in trials.plan.given for group in optimizer.param_groups]


def _words(prescription: Prescription, trials: Trials) -> str:
    """What a prescription does, as an order."""
    parts = []
    if prescription.rate != 1:
        rates = dict.fromkeys(
            f"{float(g['lr']) * prescription.rate:.2g}" for g in _groups(trials) if "lr" in g
        )
        to = f" (to {', '.join(rates)})" if rates else ""
        parts.append(f"multiply the learning rate by {prescription.rate:.2g}{to}")
    parts += [f"set {name} to {value:.2g}" for name, value in prescription.options.items()]
    parts += [f"multiply {name} by {factor:.3g}" for name, factor in prescription.scale.items()]
    parts += [f"add {amount:.3g} to {name}" for name, amount in prescription.shift.items()]
    return ", ".join(parts)


def _judged(finding: Finding, change: Change, proof: Proof, base: Course) -> Finding:
    """The finding with what was tried in its remedy, and less severe where training does not suffer from it."""
    idle = finding.remedy.startswith("Nothing")  # the rule itself says that all is well
    if proof.outcome == "better":
        own = change.apply is not None or change.prescription == finding.prescription
        tried = (
            f"{finding.remedy} Tried. {proof}."
            if own and not idle
            else f"{proof.order}. Tried: {proof.result}."
        )
        prescription = finding.prescription if change.apply is not None else change.prescription
        decay = prescription is not None and "weight_decay" in prescription.options
        return replace(
            finding,
            cause=_DECAY_IS_IT if decay and not own else finding.cause,
            remedy=tried,
            proof=proof,
            prescription=prescription,
        )
    if finding.code in CATALOGUE and CATALOGUE[finding.code].exact:
        shown = "which a short training does not refute, since it is a comparison that holds or does not"
        return replace(
            finding,
            remedy=f"{finding.remedy} (Tried, {shown}: {proof}.)",
            proof=replace(proof, outcome="open"),
        )
    if proof.outcome == "open":
        shown = "neither training learnt anything that it was not shown, so that this says nothing"
        return replace(finding, remedy=f"{finding.remedy} (Tried, but {shown}: {proof}.)", proof=proof)
    level = SEVERITIES.index(finding.severity)
    if base.learns:
        only_rate = finding.prescription is not None and finding.prescription.rate != 1
        least = SEVERITIES.index("warning") if only_rate else 0
        level = 0 if base.fresh else max(min(level, least), level - 1)
    return replace(
        finding,
        severity=SEVERITIES[level],
        cause=_HARMLESS if base.learns and level == 0 else finding.cause,
        remedy=f"Nothing. Tried, and of no help: {proof}."
        if idle
        else f"Not the usual remedy, {_vain(proof)}: {proof}. (It is: {finding.remedy})",
        proof=proof,
    )


def _vain(proof: Proof) -> str:
    if proof.passing and proof.with_it < proof.without:
        return "which gives a head start that goes when it is tried"
    return "which did not help when it was tried"
