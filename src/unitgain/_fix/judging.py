"""Whether the findings after a change are better than before it: by kind, severity and size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..report import Report
from ..rules import Finding

_GROWN = 1.1  # times the size before (and a little, for what is near zero): a finding that grew
_LITTLE = 0.05
_SMALLER = 0.9  # times the size before: a finding that is still there and shrank
_COST = {"error": 100, "warning": 10, "info": 0}


def worst_of(report: Report) -> dict[str, Finding]:
    """The most severe finding of each code."""
    worst: dict[str, Finding] = {}
    for f in report.findings:
        if f.code not in worst or _COST[f.severity] > _COST[worst[f.code].severity]:
            worst[f.code] = f
    return worst


def same_code(report: Report, finding: Finding) -> list[Finding]:
    """Findings of its code; for an error or a warning those that are not for information only."""
    found = [f for f in report.findings if f.code == finding.code]
    return found if finding.severity == "info" else [f for f in found if f.severity != "info"]


def is_worse(was: Finding, now: Finding) -> bool:
    """More severe, or as severe and larger."""
    if was.severity != now.severity:
        return _COST[now.severity] > _COST[was.severity]
    if was.size is None or now.size is None or now.severity == "info":
        return False
    return now.size > max(_GROWN * was.size, was.size + _LITTLE)


def is_smaller(left: Sequence[Finding], before: Report) -> bool:
    """Whether the findings that are left are all smaller than the one that was there, and no more severe."""
    was = next((f for f in before.findings if f.code == left[0].code), None)
    if was is None or was.size is None:
        return False
    return all(
        f.size is not None and f.size < _SMALLER * was.size and _COST[f.severity] <= _COST[was.severity]
        for f in left
    )


def needs_proof(finding: Finding, before: Report, after: Report) -> bool:
    """Whether findings alone do not decide: as many are left, as severe as before."""
    left = len(same_code(after, finding))  # one of two inputs that is normalized needs no proof
    return (left > 0 and left >= len(same_code(before, finding))) or cost_of(after) >= cost_of(before)


def cost_of(report: Report) -> int:
    """Errors first, then warnings."""
    return sum(_COST[f.severity] for f in report.findings)


def losses_in_words(before: Report, after: Report) -> str:
    was, now = before.record.facts.loss.value, after.record.facts.loss.value
    if was is None or now is None or not (math.isfinite(was) and math.isfinite(now)):
        return ""
    return f"; loss {was:.4g} -> {now:.4g}"
