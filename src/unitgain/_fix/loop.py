"""fix(): check, apply the remedy with the best expected effect, check and train a little again, keep what helped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from .._base import InputError, opens_compiled
from .._batch import is_loader
from .._check import Change, Course, Difference, Plan, Trials, check, compare, effort_for, looks_untrained
from .._run import AfterFirst, OptimizerLike, Replayed, Snapshot, first_batch, in_place, random_states
from ..remedies import Remedy, State, Subject
from ..report import Action, FixReport, Report, Skipped
from ..rules import Finding, resolve
from .plan import PLANS

STEPS = 40  # fewer than the 100 of check(prove=True): every remedy that is tried costs one such training
STEPS_AT_THE_END = (
    200  # of the two trainings that compare the outcome with the state it began from; fewer for a large model
)
_GROWN = 1.1  # times the size before (and a little, for what is near zero): a finding that grew
_LITTLE = 0.05
_SMALLER = 0.9  # times the size before: a finding that is still there and shrank
_COST = {"error": 100, "warning": 10, "info": 0}


@opens_compiled
def fix(
    model: nn.Module,
    batch: Any,
    loss: Any = "auto",
    *,
    only: Sequence[str] | None = None,
    dry_run: bool = False,
    reinitialize: bool | None = None,
    prove: bool = True,
    optimizer: OptimizerLike | None = None,
    data: Iterable[Any] | None = None,
    max_actions: int = 24,
) -> FixReport:
    """Repairs what can be repaired, in place, and proves every change by measuring again.

    Of the findings of `check`, the most important one is taken first and its remedies are tried in the order of
    their expected effect. After each the model is checked again, and trained for 40 steps, which are taken back. A
    remedy is kept if the state after it is better than the one right before: the finding that it was for is gone (or
    smaller, and the loss ends lower), no other grew, and the loss of the 40 steps does not end higher than without
    it by more than its noise. Else it is undone, bit for bit. This goes on until nothing is left that has a remedy.
    In the end the model is trained for 200 steps (fewer if it is large) as it came and as it is then; if that ends
    higher, all is taken back.

    model, batch, loss   as for `check`
    only          codes, prefixes or names of the findings to repair; without it all errors and warnings. Two
                  remedies are applied only when they are asked for by code: UG601 (takes a bias away, so the
                  state dict changes) and UG604 (replaces running statistics by those of this batch)
    dry_run       try everything, report it, and put everything back, random states too
    reinitialize  whether weights may be drawn anew or rescaled. None: only if the model looks untrained, which
                  it does unless a BatchNorm has seen batches or its loss is clearly below that of a guess (ln C for
                  cross entropy, the targets' variance for mean squared error; of another loss nobody knows, so
                  give reinitialize=False for a trained model with a loss of your own)
    prove         whether to train those 40 steps too; without them findings alone decide
    optimizer, data   for these, as for `check`; Adam with learning rate 0.001, on the one batch
    max_actions   how many changes are tried at most

    The training flag, gradients and random state of the model stay as they are (random weights are drawn from
    torch's generator, as in torch.nn.init). A remedy may reveal what was hidden: a finding that appears only
    after a change is repaired too, or that change is undone. So `after` has no error and no warning of a kind that
    `before` had not, none that is larger, and trains no worse.

    Raises InputError as `check` does, and for an unknown code in `only`.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))
    >>> _ = nn.init.normal_(model[2].weight)  # far too large for 64 inputs
    >>> result = fix(model, (torch.randn(256, 8), torch.randint(0, 4, (256,))))
    >>> result.before.ok, result.after.ok, result.fixed
    (False, True, ('UG101',))
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected an nn.Module, got {type(model).__name__}")
    for name, given in (("prove", prove), ("dry_run", dry_run)):
        if not isinstance(given, bool):
            raise InputError(f"{name}: expected True or False, got {given!r}")
    if max_actions < 1:
        raise InputError(f"max_actions: expected at least 1, got {max_actions}")
    if is_loader(batch):
        loader, batch = batch, first_batch(batch)
        data = AfterFirst(loader) if data is None else data
    wanted = resolve(only, "only") if only is not None else None
    if data is not None and hasattr(data, "__next__"):
        data = Replayed(data)  # type: ignore[arg-type]
    trials = Trials(model, batch, loss, None, Plan(0, optimizer, data, prove=True), STEPS) if prove else None
    repair = _Repair(Subject(model, batch, loss), wanted, reinitialize, max_actions, dry_run, trials)
    if dry_run:
        with in_place(model, batch=batch, loss=loss):
            return repair.run()
    original, random = Snapshot(model), random_states.take()
    try:
        return repair.run()
    except BaseException:
        original.restore()
        random_states.put(random)
        raise


@dataclass
class _Best:
    """A state of the model worth coming back to, with the number of actions that led to it."""

    state: State
    report: Report
    actions: int
    course: Course | None


@dataclass
class _Repair:
    subject: Subject
    wanted: set[str] | None
    reinitialize: bool | None
    max_actions: int
    dry_run: bool
    trials: Trials | None
    course: Course | None = None  # how the model trains now
    actions: list[Action] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    tried: set[tuple[str, str | None, str]] = field(default_factory=set)
    known: set[str] = field(default_factory=set)  # codes of the findings before any action
    may_redraw: bool = False  # whether weights may be drawn anew or rescaled

    def run(self) -> FixReport:
        before = report = self._check()
        self.subject.classifies = before.record.facts.loss.kind == "cross_entropy"
        self.known = {f.code for f in before.findings}
        self.may_redraw = (
            self.reinitialize
            if self.reinitialize is not None
            else looks_untrained(self.subject.model, before)
        )
        self.course = first = self._trained() if self._plans_anything(report) else None
        best = original = self._mark(report)
        while len(self.actions) < self.max_actions:
            chosen = next(self._candidates(report), None)
            if chosen is None:
                break
            finding, remedy = chosen
            self.tried.add((finding.code, finding.site, remedy.name))
            report = self._try(finding, remedy, report)
            if not self._revealed(report) and _cost(report) <= _cost(best.report):
                best = self._mark(report)
        if report is not best.report:  # what was revealed on the way could not be repaired
            best.state.restore()
            ended = len(self.actions) >= self.max_actions
            why = f"undone: it revealed {', '.join(sorted(self._revealed(report)))}, " + (
                f"not repaired within {self.max_actions} changes" if ended else "which no remedy cures here"
            )
            for i in range(best.actions, len(self.actions)):
                if self.actions[i].kept:
                    self.actions[i] = replace(self.actions[i], kept=False, outcome=why)
        if best.actions and (why := self._worse_than(original, best)):
            original.state.restore()
            self.actions = [replace(a, kept=False, outcome=why) if a.kept else a for a in self.actions]
            best = original
        after = best.report
        return FixReport(
            before,
            after,
            tuple(self.actions),
            tuple(self._advice(after)),
            self.subject.input.normalized,
            self.dry_run,
            tuple(self.skipped),
            self._rehearsed(first, best.course),
        )

    def _plans_anything(self, report: Report) -> bool:
        return self.trials is not None and next(self._candidates(report), None) is not None

    def _trained(self) -> Course | None:
        """How the model trains as it is now, its input normalized as it is now; None where it cannot be trained."""
        if self.trials is None:
            return None
        try:
            return self.trials.run(Change("", lambda subject: setattr(subject, "input", self.subject.input)))
        except InputError:
            self.trials = None
            return None

    def _worse_than(self, original: _Best, best: _Best) -> str:
        """Why all is taken back: trained for longer, the model ends higher than as it came. "" where it does not."""
        if self.trials is None or not any(action.kept for action in self.actions):
            return ""
        steps, short = effort_for(best.report.record, STEPS_AT_THE_END).steps, self.trials.plan
        self.trials.plan = replace(short, steps=steps)
        try:
            now = self._trained()
            original.state.restore()
            before = self._trained()
            best.state.restore()
        finally:
            if self.trials is not None:
                self.trials.plan = short
        if now is None or before is None:
            return ""
        found = compare(before, now)
        if found.outcome != "worse":
            return ""
        return (
            f"undone: trained for {steps} steps, all changes together end higher: {' -> '.join(_ends(found))}"
        )

    def _rehearsed(self, first: Course | None, last: Course | None) -> str:
        """How the model trains before and after, one line."""
        if self.trials is None or first is None or last is None or last is first:
            return ""
        found = compare(first, last)
        ends, noise = _ends(found), found.noise
        where = f"{first.on}, judged by the other half," if found.held else first.on
        return (
            f"after {STEPS} steps of {self.trials.optimizer_name} on {where} the loss is {ends[1]} instead of {ends[0]}"
            + (f" (noise {noise:.1g})" if noise else "")
        )

    # ---- one remedy ----------------------------------------------------------------------------------------

    def _try(self, finding: Finding, remedy: Remedy, report: Report) -> Report:
        """Applies one remedy; returns the report of the state that the model is then in."""
        applied = remedy.apply(self.subject, finding)
        if not applied.changes:
            self.skipped.append(Skipped(finding.code, finding.site, _named(finding, remedy), applied.reason))
            return report
        try:
            after = self._check()
        except InputError as error:
            better, outcome, after = False, f"undone: {error}", report
        else:
            better, outcome = self._judge(finding, report, after)
        if better and self.course is not None:
            course = self._trained()
            better, outcome = self._judge_training(course, outcome, _needs_proof(finding, report, after))
            self.course = course if better else self.course
        self.actions.append(
            Action(
                finding.code,
                finding.site,
                _named(finding, remedy),
                applied.changes,
                better,
                outcome,
                applied.problems,
            )
        )
        if better:
            return after
        applied.undo()
        return report

    def _judge(self, finding: Finding, before: Report, after: Report) -> tuple[bool, str]:
        """(whether to keep it, one line), by findings: kind, severity and size."""
        was, now = _worst(before), _worst(after)
        numbers = _losses(before, after)
        left = _same_code(after, finding)
        if len(left) >= len(_same_code(before, finding)) and not (self.trials and _is_smaller(left, before)):
            return False, f"undone: {finding.code} is still there ({left[0].message})"
        new = [f for code, f in now.items() if code not in was and f.severity != "info"]
        worse = [f for f in new if f.severity == "error" and finding.severity != "error"]
        worse += [f for f in new if not self._plan(f) and f not in worse]
        if worse:
            return False, "undone: " + "; ".join(f"{f.code} appeared: {f.message}" for f in worse[:2])
        raised = [f for code, f in now.items() if code in was and _is_worse(was[code], f)]
        if raised:
            return False, "undone: " + "; ".join(f"{f.code} became worse: {f.message}" for f in raised[:2])
        if _cost(after) > _cost(before):
            return False, "undone: " + ", ".join(f"{f.code} appeared" for f in new) + ": more than it cured"
        gone = [code for code in was if code not in now]
        line = f"gone: {', '.join(gone)}{numbers}" if gone else f"smaller: {finding.code}{numbers}"
        return True, line + (f"; revealed: {', '.join(f.code for f in new)}" if new else "")

    def _judge_training(self, course: Course | None, outcome: str, must_help: bool) -> tuple[bool, str]:
        """The same by the short training: it must not end higher; lower where the findings alone do not decide."""
        assert self.course is not None
        if course is None:
            return False, "undone: the model cannot be trained any more"
        found = compare(self.course, course)
        line = f"trained for {STEPS} steps: {' -> '.join(_ends(found))}"
        if found.outcome == "worse" or (must_help and found.outcome != "better"):
            return False, f"undone: it does not train better; {line}"
        return True, f"{outcome}; {line}"

    # ---- what to do next -----------------------------------------------------------------------------------

    def _plan(self, finding: Finding) -> list[Remedy]:
        """The remedies that may be applied for a finding: it was asked for where it must be, and draws no weights anew
        that may not be."""
        asked = self.wanted is not None and finding.code in self.wanted
        plan = PLANS.get(finding.code, ())
        return [r for r in plan if (asked or not r.when_asked) and (self.may_redraw or not r.redraws)]

    def _candidates(self, report: Report) -> Iterator[tuple[Finding, Remedy]]:
        """Findings as the report orders them, each with its remedies in order of expected effect."""
        revealed = self._revealed(report)
        for finding in report.findings:
            if not self._is_wanted(finding, revealed):
                continue
            for remedy in self._plan(finding):
                if (finding.code, finding.site, remedy.name) not in self.tried:
                    yield finding, remedy

    def _is_wanted(self, finding: Finding, revealed: set[str]) -> bool:
        if self.wanted is not None and finding.code not in revealed:
            return finding.code in self.wanted
        return finding.severity != "info"

    def _revealed(self, report: Report) -> set[str]:
        """Errors and warnings that were not there when the model came: ours to repair, asked for or not."""
        return {f.code for f in report.findings if f.severity != "info" and f.code not in self.known}

    def _advice(self, after: Report) -> Iterator[str]:
        for finding in after.findings:
            if finding.severity == "info":
                continue
            at = f" (At {finding.where}.)" if finding.where else ""
            plan = PLANS.get(finding.code, ())
            unasked = self.wanted is None or finding.code not in self.wanted
            if plan and unasked and all(remedy.when_asked for remedy in plan):
                yield (
                    f'{finding.code} {finding.name}: {finding.remedy} (With only=["{finding.code}"], --only '
                    f"{finding.code}, fix tries to {plan[0].title}.)"
                )
            elif plan and not self.may_redraw and all(remedy.redraws for remedy in plan):
                yield (
                    f"{finding.code} {finding.name}: its remedy would redraw or rescale weights that look trained; "
                    "allow it with reinitialize=True (--reinitialize)"
                )
            else:
                yield f"{finding.code} {finding.name}: {finding.remedy}{at}"

    def _check(self) -> Report:
        return check(self.subject.model, self.subject.batch, self.subject.loss)

    def _mark(self, report: Report) -> _Best:
        return _Best(self.subject.state(), report, len(self.actions), self.course)


def _ends(found: Difference) -> list[str]:
    return [
        f"{level:.4g}" if math.isfinite(level) else "not finite" for level in (found.without, found.with_it)
    ]


def _named(finding: Finding, remedy: Remedy) -> str:
    return f"{finding.name}: {remedy.title}"


def _worst(report: Report) -> dict[str, Finding]:
    """The most severe finding of each code."""
    worst: dict[str, Finding] = {}
    for f in report.findings:
        if f.code not in worst or _COST[f.severity] > _COST[worst[f.code].severity]:
            worst[f.code] = f
    return worst


def _same_code(report: Report, finding: Finding) -> list[Finding]:
    """Findings of its code; for an error or a warning those that are not for information only."""
    found = [f for f in report.findings if f.code == finding.code]
    return found if finding.severity == "info" else [f for f in found if f.severity != "info"]


def _is_worse(was: Finding, now: Finding) -> bool:
    """More severe, or as severe and larger."""
    if was.severity != now.severity:
        return _COST[now.severity] > _COST[was.severity]
    if was.size is None or now.size is None or now.severity == "info":
        return False
    return now.size > max(_GROWN * was.size, was.size + _LITTLE)


def _is_smaller(left: Sequence[Finding], before: Report) -> bool:
    """Whether the findings that are left are all smaller than the one that was there, and no more severe."""
    was = next((f for f in before.findings if f.code == left[0].code), None)
    if was is None or was.size is None:
        return False
    return all(
        f.size is not None and f.size < _SMALLER * was.size and _COST[f.severity] <= _COST[was.severity]
        for f in left
    )


def _needs_proof(finding: Finding, before: Report, after: Report) -> bool:
    """Whether findings alone do not decide: as many are left, as severe as before."""
    return bool(_same_code(after, finding)) or _cost(after) >= _cost(before)


def _cost(report: Report) -> int:
    """Errors first, then warnings."""
    return sum(_COST[f.severity] for f in report.findings)


def _losses(before: Report, after: Report) -> str:
    was, now = before.record.facts.loss.value, after.record.facts.loss.value
    if was is None or now is None or not (math.isfinite(was) and math.isfinite(now)):
        return ""
    return f"; loss {was:.4g} -> {now:.4g}"
