"""Runs the rules over a record: selection, one finding per cause, order, verdict, first action."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..record import Record
from ._causes import fold, had_from_the_start
from ._diagnosis import Diagnosis
from ._finding import SEVERITIES, Finding
from ._registry import CATALOGUE, resolve
from ._rule import CannotJudge, Found
from ._view import View
from ._words import listed, plural


def diagnose(
    record: Record,
    *,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> Diagnosis:
    """What the rules say about a record.

    select  run only these rules: codes ("UG101"), prefixes ("UG1") or names ("saturated")
    ignore  leave these out. A rule that does not run explains nothing either: what would have been
            named as its consequence stands for itself then

    Raises InputError for a code, prefix or name that no rule has.

    >>> diagnose(Record()).verdict
    'cannot tell: nothing was measured'
    """
    codes = set(CATALOGUE) if select is None else resolve(select, "select")
    codes -= resolve(ignore, "ignore") if ignore else set()
    with record.at_one_moment():
        return _diagnosed(record, codes)


def _diagnosed(record: Record, codes: set[str]) -> Diagnosis:
    view = View(record)
    found: list[Found[Any]] = []
    abstained: dict[str, str] = {}
    lacking: dict[str, str] = {}
    for code, rule in CATALOGUE.items():
        if code not in codes:
            continue
        try:
            found += rule.judge(view)
        except CannotJudge as reason:
            abstained[code] = str(reason)
            if reason.lacks:
                lacking[reason.lacks] = str(reason)
    found += had_from_the_start(found, view, {code: CATALOGUE[code] for code in codes})
    return _concluded(view, fold(found, view, CATALOGUE), codes, abstained, lacking)


def reconsider(
    record: Record,
    diagnosis: Diagnosis,
    findings: Sequence[Finding],
    *,
    tried: str = "",
    doubt: str = "",
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> Diagnosis:
    """The diagnosis after remedies were tried: with these findings in place of its own.

    tried  what was tried, one line
    doubt  what the trials showed that keeps a model without findings from being called healthy
    """
    codes = (set(CATALOGUE) if select is None else resolve(select, "select")) - (
        resolve(ignore, "ignore") if ignore else set()
    )
    view = View(record)
    new = _concluded(view, findings, codes, diagnosis.abstained, diagnosis.left_out)
    if doubt and new.status == "healthy":
        new = replace(new, status="unknown", verdict=f"cannot tell: {doubt}")
    return replace(new, tried=tried)


def _concluded(
    view: View,
    findings: Sequence[Finding],
    codes: set[str],
    abstained: Mapping[str, str],
    lacking: Mapping[str, str],
) -> Diagnosis:
    ordered = sorted(findings, key=_importance)
    left_out = {**lacking, **dict(_left_out(view, codes, abstained))}
    status, verdict = _verdict(view, ordered, codes, abstained, left_out)
    first = _most_worth_doing(ordered) if status == "sick" else None
    action = "" if status != "sick" else first.remedy if first else _NOTHING_HELPED
    unseen, asked = _unseen(view), tuple(sorted(codes))
    return Diagnosis(
        tuple(ordered), verdict, status, action, abstained, unseen, asked=asked, left_out=left_out
    )


_NOTHING_HELPED = "None of the remedies below helped when it was tried: start from the findings' causes."


def _most_worth_doing(findings: Sequence[Finding]) -> Finding | None:
    """Of the errors and warnings the first one; where their remedies were tried, what ended at the lowest loss. An
    error whose remedy cannot be tried, a line of code say, keeps its place. None where all were tried in vain."""
    judged = [f for f in findings if f.severity != "info"]
    if not judged:
        return None
    helped = [f for f in judged if f.proof is not None and f.proof.outcome == "better"]
    unknown = [f for f in judged if f.proof is None or f.proof.outcome == "open"]
    if not helped or (judged[0].severity == "error" and judged[0] in unknown):
        return unknown[0] if unknown else None
    return min(helped, key=lambda f: f.proof.with_it if f.proof else 0.0)


def _importance(finding: Finding) -> tuple[int, int]:
    return -SEVERITIES.index(finding.severity), CATALOGUE[finding.code].rank


def _verdict(
    view: View,
    findings: Sequence[Finding],
    codes: set[str],
    abstained: Mapping[str, str],
    left_out: Mapping[str, str],
) -> tuple[str, str]:
    """(status, one line)."""
    count = {severity: sum(f.severity == severity for f in findings) for severity in SEVERITIES}
    if count["error"] or count["warning"]:
        parts = [plural(count[s], s) for s in ("error", "warning") if count[s]]
        return "sick", f"sick: {', '.join(parts)}"
    if not view.activations:
        return "unknown", f"cannot tell: {_missing(view, abstained)}"
    doubts = (rule.doubt(view) for code, rule in CATALOGUE.items() if code in codes and rule.doubt)
    if doubt := next(filter(None, doubts), None):
        return "unknown", f"cannot tell: {doubt}"
    if len(codes) == len(abstained):
        return "unknown", "cannot tell: none of the rules that were asked could judge this record"
    notes = [f"{count['info']} for information"] if count["info"] else []
    if len(codes) < len(CATALOGUE):
        notes.append(f"{len(codes)} of {len(CATALOGUE)} rules were asked")
    if not view.parameter_gradients and not view.gradients:
        notes.append("no gradient was measured")
    by_reason: dict[str, list[str]] = {}
    for what, why in left_out.items():
        by_reason.setdefault(why.removeprefix(f"{what}: "), []).append(what)
    notes += [f"{listed(what)} not judged: {why}" for why, what in by_reason.items()]
    if _unseen(view):
        notes.append("the inside of recurrent layers is not seen")
    if view.rehearsal and view.facts.fresh_batches is False:
        notes.append("rehearsed on one batch, which can be memorized at rates at which training fails")
    return "healthy", "healthy: no errors, no warnings" + (f" ({'; '.join(notes)})" if notes else "")


def _left_out(view: View, codes: set[str], abstained: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(what, why) of what only rules judge of which none could. Steps matter only in a rehearsal."""
    for what in dict.fromkeys(rule.judges for rule in CATALOGUE.values() if rule.judges):
        rules = [rule for rule in CATALOGUE.values() if rule.judges == what]
        asked_for = view.rehearsal or all(rule.needs == "batch" for rule in rules)
        if asked_for and {rule.code for rule in rules} <= codes & set(abstained):
            yield what, abstained[rules[-1].code]


def _missing(view: View, abstained: Mapping[str, str]) -> str:
    """What a record without activations lacks."""
    if view.training and len(view.losses[1]):
        judges = (code for code, rule in CATALOGUE.items() if rule.doubt and rule.judges)
        reasons = (abstained[code] for code in judges if code in abstained)
        return next(reasons, "only the loss was judged")
    return "no activation was measured" if view.steps else "nothing was measured"


def _unseen(view: View) -> tuple[str, ...]:
    """What no rule can see in this model, however much is measured: the inside of fused recurrent layers."""
    layers = dict.fromkeys(
        f"{m.site.attributes.get('path') or m.name} ({m.site.module})"
        for m in view.activations
        if m.role == "recurrent"
    )
    if not layers:
        return ()
    return (f"gates and states inside {listed(list(layers))}: only the output is measured",)
