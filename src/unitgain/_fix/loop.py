"""fix(): check, apply the remedy with the best expected effect, check again, keep it only if it helped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .._base import InputError
from .._check import check
from .._run import Snapshot, in_place, random_states
from ..report import Action, FixReport, Report
from ..rules import Finding
from ..rules.catalogue import resolve
from .patient import Input, Patient
from .plan import PLANS, WHEN_ASKED, Remedy

_COST = {"error": 100, "warning": 10, "info": 0}


def fix(
    model: nn.Module,
    batch: Any,
    loss: Any = "auto",
    *,
    only: Sequence[str] | None = None,
    dry_run: bool = False,
    reinitialize: bool | None = None,
    max_actions: int = 24,
) -> FixReport:
    """Repairs what can be repaired, in place, and proves every change by measuring again.

    Of the findings of `check`, the most important one is taken first and its remedies are tried in the order of
    their expected effect. One is kept if the finding that it was for is gone and nothing worse appeared; else it
    is undone, bit for bit. This goes on until nothing is left that has a remedy.

    model, batch, loss   as for `check`
    only          codes, prefixes or names of the findings to repair; without it all errors and warnings. Two
                  remedies are applied only when they are asked for by code: UG601 (takes a bias away, so the
                  state dict changes) and UG604 (replaces running statistics by those of this batch)
    dry_run       try everything, report it, and put everything back, random states too
    reinitialize  whether weights may be drawn anew or rescaled. None: only if the model looks untrained, which
                  it does unless a BatchNorm has seen batches or its loss is clearly below that of a guess (ln C for
                  cross entropy, the targets' variance for mean squared error; of another loss nobody knows, so
                  give reinitialize=False for a trained model with a loss of your own)
    max_actions   how many changes are tried at most

    The training flag, gradients and random state of the model stay as they are (random weights are drawn from
    torch's generator, as in torch.nn.init). A remedy may reveal what was hidden: a finding that appears only
    after a change is repaired too, or that change is undone. So `after` has no error and no warning of a kind that
    `before` had not.

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
    if max_actions < 1:
        raise InputError(f"max_actions: expected at least 1, got {max_actions}")
    wanted = resolve(only, "only") if only is not None else None
    repair = _Repair(Patient(model, batch, loss), wanted, reinitialize, max_actions, dry_run)
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
class _State:
    """A state of the model worth coming back to."""

    snapshot: Snapshot
    report: Report
    actions: int  # how many actions had been taken when it was reached
    input: Input


@dataclass
class _Repair:
    patient: Patient
    wanted: set[str] | None
    reinitialize: bool | None
    max_actions: int
    dry_run: bool
    actions: list[Action] = field(default_factory=list)
    tried: set[tuple[str, str | None, str]] = field(default_factory=set)
    known: set[str] = field(default_factory=set)  # codes of the findings before any action
    may_redraw: bool = False  # whether weights may be drawn anew or rescaled

    def run(self) -> FixReport:
        before = report = self._check()
        self.patient.read(before)
        self.known = {f.code for f in before.findings}
        self.may_redraw = (
            self.reinitialize if self.reinitialize is not None else self.patient.untrained(before)
        )
        best = self._state(report)
        while len(self.actions) < self.max_actions:
            chosen = next(self._candidates(report), None)
            if chosen is None:
                break
            finding, remedy = chosen
            self.tried.add((finding.code, finding.site, remedy.name))
            report = self._try(finding, remedy, report)
            if not self._revealed(report) and _cost(report) <= _cost(best.report):
                best = self._state(report)
        if report is not best.report:  # what was revealed on the way could not be repaired
            best.snapshot.restore()
            self.patient.input = best.input
            ended = len(self.actions) >= self.max_actions
            why = f"undone: it revealed {', '.join(sorted(self._revealed(report)))}, " + (
                f"not repaired within {self.max_actions} changes" if ended else "which no remedy cures here"
            )
            for i in range(best.actions, len(self.actions)):
                if self.actions[i].kept:
                    self.actions[i] = Action(**{**vars(self.actions[i]), "kept": False, "outcome": why})
        after = best.report
        return FixReport(
            before,
            after,
            tuple(self.actions),
            tuple(self._advice(after)),
            self.patient.input.normalized,
            self.dry_run,
        )

    # ---- one remedy ----------------------------------------------------------------------------------------

    def _try(self, finding: Finding, remedy: Remedy, report: Report) -> Report:
        """Applies one remedy; returns the report of the state that the model is then in."""
        snapshot, given = Snapshot(self.patient.model), self.patient.input
        try:
            changes = remedy.apply(self.patient, finding)
        except InputError:  # it does not apply to this model: nothing to tell
            changes = []
        if not changes:
            snapshot.restore()
            self.patient.input = given
            return report
        try:
            after = self._check()
        except InputError as error:
            snapshot.restore()
            self.patient.input = given
            self._note(finding, remedy, tuple(changes), False, f"undone: {error}")
            return report
        better, outcome = self._judge(finding, report, after)
        self._note(finding, remedy, tuple(changes), better, outcome)
        if better:
            return after
        snapshot.restore()
        self.patient.input = given
        return report

    def _judge(self, finding: Finding, before: Report, after: Report) -> tuple[bool, str]:
        """(whether to keep it, one line): the finding is gone, and nothing worse appeared that cannot be repaired."""
        was, now = _worst(before), _worst(after)
        numbers = _losses(before, after)
        left = _alike(after, finding)
        if len(left) >= len(_alike(before, finding)):
            return False, f"undone: {finding.code} is still there ({left[0].message})"
        new = [f for code, f in now.items() if code not in was and f.severity != "info"]
        worse = [f for f in new if f.severity == "error" and finding.severity != "error"]
        worse += [f for f in new if not self._repairable(f) and f not in worse]
        if worse:
            return False, "undone: " + "; ".join(f"{f.code} appeared: {f.message}" for f in worse[:2])
        raised = [
            f for code, f in now.items() if code in was and _COST[f.severity] > _COST[was[code].severity]
        ]
        if raised:
            return False, "undone: " + "; ".join(f"{f.code} became an {f.severity}" for f in raised[:2])
        if _cost(after) > _cost(before):
            return False, "undone: " + ", ".join(f"{f.code} appeared" for f in new) + ": more than it cured"
        gone = [code for code in was if code not in now]
        line = f"gone: {', '.join(gone)}{numbers}"
        return True, line + (f"; revealed: {', '.join(f.code for f in new)}" if new else "")

    def _note(
        self, finding: Finding, remedy: Remedy, changes: tuple[str, ...], kept: bool, outcome: str
    ) -> None:
        name = f"{finding.name}: {remedy.name}"
        self.actions.append(Action(finding.code, finding.site, name, changes, kept, outcome))

    # ---- what to do next -----------------------------------------------------------------------------------

    def _repairable(self, finding: Finding) -> bool:
        """Whether the loop would try to repair it if it appeared."""
        asked = finding.code not in WHEN_ASKED or (self.wanted is not None and finding.code in self.wanted)
        return asked and any(self.may_redraw or not r.redraws for r in PLANS.get(finding.code, ()))

    def _candidates(self, report: Report) -> Iterator[tuple[Finding, Remedy]]:
        """Findings as the report orders them, each with its remedies in order of expected effect."""
        revealed = self._revealed(report)
        for finding in report.findings:
            if not self._is_wanted(finding, revealed):
                continue
            for remedy in PLANS.get(finding.code, ()):
                if remedy.redraws and not self.may_redraw:
                    continue
                if (finding.code, finding.site, remedy.name) not in self.tried:
                    yield finding, remedy

    def _is_wanted(self, finding: Finding, revealed: set[str]) -> bool:
        if self.wanted is not None and finding.code not in revealed:
            return finding.code in self.wanted
        return finding.severity != "info" and finding.code not in WHEN_ASKED

    def _revealed(self, report: Report) -> set[str]:
        """Errors and warnings that were not there when the model came: ours to repair, asked for or not."""
        return {f.code for f in report.findings if f.severity != "info" and f.code not in self.known}

    def _advice(self, after: Report) -> Iterator[str]:
        for finding in after.findings:
            if finding.severity == "info":
                continue
            plan = PLANS.get(finding.code, ())
            if plan and not self.may_redraw and all(remedy.redraws for remedy in plan):
                yield (
                    f"{finding.code} {finding.name}: its remedy would redraw or rescale weights that look trained; "
                    "allow it with reinitialize=True (--reinitialize)"
                )
            else:
                yield f"{finding.code} {finding.name}: {finding.remedy}"

    def _check(self) -> Report:
        return check(self.patient.model, self.patient.batch, self.patient.loss)

    def _state(self, report: Report) -> _State:
        return _State(Snapshot(self.patient.model), report, len(self.actions), self.patient.input)


def _worst(report: Report) -> dict[str, Finding]:
    """The most severe finding of each code."""
    worst: dict[str, Finding] = {}
    for f in report.findings:
        if f.code not in worst or _COST[f.severity] > _COST[worst[f.code].severity]:
            worst[f.code] = f
    return worst


def _alike(report: Report, finding: Finding) -> list[Finding]:
    """Findings of its code; for an error or a warning those that are no mere remarks."""
    found = [f for f in report.findings if f.code == finding.code]
    return found if finding.severity == "info" else [f for f in found if f.severity != "info"]


def _cost(report: Report) -> int:
    """Errors first, then warnings."""
    return sum(_COST[f.severity] for f in report.findings)


def _losses(before: Report, after: Report) -> str:
    values = [(report.record.facts.get("loss") or {}).get("value") for report in (before, after)]
    if not all(isinstance(value, (int, float)) for value in values):
        return ""
    return f"; loss {values[0]:.4g} -> {values[1]:.4g}"
