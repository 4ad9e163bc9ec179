"""Two diagnoses side by side: what a change resolved, what it brought, and whether it helped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ._finding import SEVERITIES, Finding


@dataclass(frozen=True)
class Comparison:
    """before -> after.

    resolved   findings that are gone (as they were before)
    new        findings that came (as they are now)
    unchanged  findings of the same code and site, as they are now, possibly of another severity
    verdict    "better", "worse", "mixed" or "same". Only errors and warnings count
    """

    resolved: tuple[Finding, ...]
    new: tuple[Finding, ...]
    unchanged: tuple[Finding, ...]
    verdict: str

    def __str__(self) -> str:
        return (
            f"{self.verdict}: {len(self.resolved)} resolved, {len(self.new)} new, "
            f"{len(self.unchanged)} unchanged"
        )


def compare(before: Iterable[Finding], after: Iterable[Finding]) -> Comparison:
    """Compares two lists of findings by code and site.

    >>> sick = Finding("UG101", "confident-at-init", "error", "head", "loss 27.88")
    >>> str(compare([sick], []))
    'better: 1 resolved, 0 new, 0 unchanged'
    """
    old = {(f.code, f.site): f for f in before}
    now = {(f.code, f.site): f for f in after}
    change = {key: _weight(now.get(key)) - _weight(old.get(key)) for key in {**old, **now}}
    up, down = any(c > 0 for c in change.values()), any(c < 0 for c in change.values())
    verdict = {(False, False): "same", (True, False): "worse", (False, True): "better"}.get(
        (up, down), "mixed"
    )
    return Comparison(
        resolved=tuple(f for key, f in old.items() if key not in now),
        new=tuple(f for key, f in now.items() if key not in old),
        unchanged=tuple(f for key, f in now.items() if key in old),
        verdict=verdict,
    )


def _weight(finding: Finding | None) -> int:
    return 0 if finding is None else SEVERITIES.index(finding.severity)
