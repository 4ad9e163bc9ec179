"""fix(): check, apply the remedy with the best expected effect, check and train a little again, keep what helped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from .._base import InputError, headed, no_module, opens_compiled, told_in_cell
from .._batch import is_loader
from .._check import (
    Change,
    Course,
    Difference,
    Plan,
    Trials,
    both,
    check,
    compare,
    effort_for,
    looks_untrained,
    without_repeats,
)
from .._run import AfterFirst, OptimizerLike, Replayed, Snapshot, first_batch, in_place, random_states
from ..remedies import Remedy, State, Subject
from ..report import Action, FixReport, Report, Skipped
from ..rules import Finding, resolve
from .judging import cost_of, is_smaller, is_worse, losses_in_words, needs_proof, same_code, worst_of
from .plan import PLANS

_NO_BETTER = "it does not train better"
_NO_LONGER = f"{_NO_BETTER} for long: its lead more than halves towards the end"
STEPS = 200  # of the training that judges every change; fewer for a large model


@told_in_cell
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
    their expected effect. After each the model is checked again, and trained for 200 steps (fewer if it is large),
    which are taken back. A remedy is kept if the state after it is better than the one right before: the finding that
    it was for is gone (or smaller, and the loss ends lower), no other grew, and the loss of that training does not end
    higher than without it by more than its noise, also not on other examples than those by which it was chosen. Else it
    is undone, bit for bit. This goes on until nothing is left that has a remedy. In the end the outcome is compared
    with the model as it came; if it ends higher, all is taken back.

    model, batch, loss   as for `check`
    only          codes, prefixes or names of the findings to repair; without it all errors and warnings. Two
                  remedies are applied only when they are asked for by code: UG601 (takes a bias away, so the
                  state dict changes) and UG604 (replaces running statistics by those of this batch)
    dry_run       try everything, report it, and put everything back, random states too
    reinitialize  whether weights may be drawn anew or rescaled. None: only if the model looks untrained, which
                  it does unless a BatchNorm has seen batches or its loss is clearly below that of a guess (ln C for
                  cross entropy, the targets' variance for mean squared error; of another loss nobody knows, so
                  give reinitialize=False for a trained model with a loss of your own)
    prove         whether to train those steps too; without them findings alone decide
    optimizer, data   for these, as for `check`; Adam with learning rate 0.001, on the one batch. An optimizer over the
                  model's parameters is checked too: those that it does not hold are taken into it (UG701)
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
        raise no_module("model", model)
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
    plan = Plan(0, optimizer, data, prove=True)
    trials = Trials(model, batch, loss, None, plan, STEPS) if prove else None
    subject = Subject(model, batch, loss, optimizers=plan.given)
    repair = _Repair(subject, wanted, reinitialize, max_actions, dry_run, trials)
    if dry_run:
        with in_place(model, batch=batch, loss=loss, extra=plan.given):
            return repair.run()
    original, random = Snapshot(model, *plan.given), random_states.take()
    try:
        return repair.run()
    except BaseException:
        original.restore()
        random_states.put(random)
        raise


@dataclass
class _Best:
    """A state of the model worth coming back to, with the number of actions that led to it and how it trains."""

    state: State
    report: Report
    actions: int
    courses: _Courses | None


@dataclass
class _Courses:
    """How a model trains: on the examples by which changes are chosen, and on others, where there are such.

    make  trains it, True for on the others
    """

    make: Callable[[bool], Course | None]
    chosen_by: Course
    _other: Course | None = None
    _asked: bool = False

    @property
    def other(self) -> Course | None:
        """Trained only when it is asked for, while the model is in this state."""
        if not self._asked:
            self._asked, self._other = True, self.make(True)
        return self._other


def _beside(after: _Courses, before: _Courses) -> Difference:
    found = compare(before.chosen_by, after.chosen_by)
    if found.outcome == "worse" or before.other is None or after.other is None:
        return found
    return both(found, compare(before.other, after.other))


@dataclass
class _Repair:
    subject: Subject
    wanted: set[str] | None
    reinitialize: bool | None
    max_actions: int
    dry_run: bool
    trials: Trials | None
    courses: _Courses | None = None  # how the model trains now
    since: _Best | None = (
        None  # the last state after a change of what the loss means: before, it is not comparable
    )
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
        if self.trials is not None:
            steps = without_repeats(self.trials.plan, effort_for(before.record, STEPS).steps)
            self.trials.plan = replace(self.trials.plan, steps=steps)
        self.courses = self._trained() if self._plans_anything(report) else None
        if self.courses is not None:
            _ = self.courses.other  # the model is in this state now
        best = original = self._mark(report)
        while len(self.actions) < self.max_actions:
            chosen = next(self._candidates(report), None)
            if chosen is None:
                break
            finding, remedy = chosen
            self.tried.add((finding.code, finding.site, remedy.name))
            with headed(f"{finding.code}, {remedy.name}"):
                report = self._try(finding, remedy, report)
            if not self._revealed(report) and cost_of(report) <= cost_of(best.report):
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
        start = self.since or original
        if why := self._worse_than(start, best):
            start.state.restore()
            for i in range(start.actions, len(self.actions)):
                if self.actions[i].kept:
                    self.actions[i] = replace(self.actions[i], kept=False, outcome=why)
            best = start
        after = best.report
        return FixReport(
            before,
            after,
            tuple(self.actions),
            tuple(self._advice(after)),
            self.subject.input.normalized,
            self.dry_run,
            tuple(self.skipped),
            self._rehearsed(start.courses, best.courses),
        )

    def _plans_anything(self, report: Report) -> bool:
        return self.trials is not None and next(self._candidates(report), None) is not None

    def _trained(self) -> _Courses | None:
        """How the model trains as it is now, its input normalized as it is now; None where it cannot be trained."""
        if self.trials is None:
            return None
        trials, now = self.trials, Change("", lambda subject: setattr(subject, "input", self.subject.input))
        has_second = trials.has_second

        def make(second: bool) -> Course | None:
            try:
                return trials.run(now, second=second) if has_second or not second else None
            except InputError:  # it cannot be trained, or the data end
                return None

        first = make(False)
        if first is None:
            self.trials = None
        return None if first is None else _Courses(make, first)

    def _worse_than(self, original: _Best, best: _Best) -> str:
        """Why all is taken back: changes of which none trains worse by more than noise may do so together. "" where
        they do not."""
        kept = any(action.kept for action in self.actions[original.actions : best.actions])
        if not kept or original.courses is None or best.courses is None:
            return ""
        found = _beside(best.courses, original.courses)
        if found.outcome != "worse":
            return ""
        return f"undone: all changes together train worse; {self._in_words(found)}"

    def _rehearsed(self, first: _Courses | None, last: _Courses | None) -> str:
        """How the model trains before and after, one line."""
        if first is None or last is None or last is first:
            return ""
        found = _beside(last, first)
        on = first.chosen_by.on
        where = f"{on}, judged by the other half," if found.held else on
        ends, name = _ends(found), self.trials.optimizer_name if self.trials is not None else "the optimizer"
        return (
            f"after {self._steps} steps of {name} on {where} the loss is {ends[1]} instead of {ends[0]}"
            + (f" (noise {found.noise:.1g})" if found.noise else "")
        )

    @property
    def _steps(self) -> int:
        return self.trials.plan.steps if self.trials is not None else STEPS

    def _in_words(self, found: Difference) -> str:
        return f"trained for {self._steps} steps: {' -> '.join(_ends(found))}"

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
        if better and self.courses is not None:
            courses = self._trained()
            if remedy.other_loss:
                better, outcome = self._judge_new_loss(courses, outcome)
            else:
                better, outcome = self._judge_training(courses, outcome, needs_proof(finding, report, after))
            self.courses = courses if better else self.courses
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
            self.since = self._mark(after) if remedy.other_loss else self.since
            return after
        applied.undo()
        return report

    def _judge(self, finding: Finding, before: Report, after: Report) -> tuple[bool, str]:
        """(whether to keep it, one line), by findings: kind, severity and size."""
        was, now = worst_of(before), worst_of(after)
        numbers = losses_in_words(before, after)
        left = same_code(after, finding)
        if len(left) >= len(same_code(before, finding)) and not (self.trials and is_smaller(left, before)):
            return False, f"undone: {finding.code} is still there ({left[0].message})"
        new = [f for code, f in now.items() if code not in was and f.severity != "info"]
        worse = [f for f in new if f.severity == "error" and finding.severity != "error"]
        worse += [f for f in new if not self._plan(f) and f not in worse]
        if worse:
            return False, "undone: " + "; ".join(f"{f.code} appeared: {f.message}" for f in worse[:2])
        raised = [f for code, f in now.items() if code in was and is_worse(was[code], f)]
        if raised:
            return False, "undone: " + "; ".join(f"{f.code} became worse: {f.message}" for f in raised[:2])
        if cost_of(after) > cost_of(before):
            return False, "undone: " + ", ".join(f"{f.code} appeared" for f in new) + ": more than it cured"
        gone = [code for code in was if code not in now]
        line = f"gone: {', '.join(gone)}{numbers}" if gone else f"smaller: {finding.code}{numbers}"
        return True, line + (f"; revealed: {', '.join(f.code for f in new)}" if new else "")

    def _judge_training(self, courses: _Courses | None, outcome: str, must_help: bool) -> tuple[bool, str]:
        """The same by the short training: it must not end higher; lower where the findings alone do not decide."""
        assert self.courses is not None
        if courses is None:
            return False, "undone: the model cannot be trained any more"
        found = _beside(courses, self.courses)
        if found.passing and found.with_it < found.without:
            return False, f"undone: {_NO_LONGER}; {self._in_words(found)}"
        if found.outcome == "worse" or (must_help and found.outcome != "better"):
            return False, f"undone: {_NO_BETTER}; {self._in_words(found)}"
        return True, f"{outcome}; {self._in_words(found)}"

    def _judge_new_loss(self, courses: _Courses | None, outcome: str) -> tuple[bool, str]:
        """Where the loss was no measure before: it must come down now."""
        if courses is None or not courses.chosen_by.learns:
            return False, "undone: with it the loss does not come down"
        course = courses.chosen_by
        return (
            True,
            f"{outcome}; trained for {self._steps} steps: from {course.losses[0]:.4g} to {course.level:.4g}",
        )

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
            if (why := self._harmless(finding)) is not None:
                yield f"{finding.code} {finding.name}: {why}"
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

    def _harmless(self, finding: Finding) -> str | None:
        """What is said of a finding whose remedies were undone because the network, which learns, trains no better with
        them: to advise the same by hand would be to advise what has been tried."""
        tried = [a for a in self.actions if a.code == finding.code and a.site == finding.site]
        learns = self.courses is not None and self.courses.chosen_by.learns
        if not tried or not learns or not all(_NO_BETTER in a.outcome for a in tried):
            return None
        return (
            f"nothing: what is usually done about it was tried, and the network, which learns as it is, trained no "
            f"better with it for {self._steps} steps"
        )

    def _check(self) -> Report:
        of = self.subject
        return check(of.model, of.batch, of.loss, optimizer=of.optimizers or None)

    def _mark(self, report: Report) -> _Best:
        return _Best(self.subject.state(), report, len(self.actions), self.courses)


def _ends(found: Difference) -> list[str]:
    return [
        f"{level:.4g}" if math.isfinite(level) else "not finite" for level in (found.without, found.with_it)
    ]


def _named(finding: Finding, remedy: Remedy) -> str:
    return f"{finding.name}: {remedy.title}"
