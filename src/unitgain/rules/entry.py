"""An Entry: everything that is written about one rule. The rule itself holds only the logic.

Messages, the command line's `unitgain rules`, the documentation pages and the thresholds that the rules
compare with all come from here, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .finding import SEVERITIES, Finding


@dataclass(frozen=True)
class Threshold:
    """A number that a rule compares with, and why it is that number."""

    value: float
    why: str


@dataclass(frozen=True)
class Entry:
    """What is written about one rule.

    code, name  stable ("UG101", "confident-at-init")
    rank        of two findings of equal severity the one with the smaller rank comes first
    seen        what is seen when it fires
    matters     why it matters
    source      where that is shown
    measured    how the numbers come about, and what is left out on purpose
    thresholds  by the names under which the rule reads them
    action      what to do
    effect      what to expect then
    verify      how to see that it worked
    auto        True if `unitgain fix` is meant to do it
    silent      healthy things that look like it and keep the rule silent
    """

    code: str
    name: str
    rank: int
    seen: str
    matters: str
    source: str
    measured: str
    thresholds: Mapping[str, Threshold]
    action: str
    effect: str
    verify: str
    auto: bool = False
    silent: tuple[str, ...] = field(default=())

    def limit(self, threshold: str) -> float:
        """The value of one threshold."""
        return self.thresholds[threshold].value

    def finding(
        self,
        severity: str,
        site: str | None,
        message: str,
        *,
        cause: str,
        evidence: Mapping[str, Any],
        remedy: str = "",
    ) -> Finding:
        """A Finding of this rule; the remedy is the entry's action where the numbers say nothing better."""
        assert severity in SEVERITIES, severity
        return Finding(
            code=self.code,
            name=self.name,
            severity=severity,
            site=site,
            message=message,
            evidence=dict(evidence),
            cause=cause,
            remedy=remedy or self.action,
            effect=self.effect,
            verify=self.verify,
            auto=self.auto,
        )

    def page(self) -> str:
        """The entry as Markdown: one page of docs/reference/rules, and what `unitgain rules CODE` prints."""
        parts = [f"# {self.code} {self.name}", self.seen, "## Why it matters", self.matters]
        parts += [f"Source: {self.source}", "## How it is measured", self.measured]
        if self.thresholds:
            rows = [f"| {name} | {t.value:g} | {t.why} |" for name, t in self.thresholds.items()]
            parts += ["## Thresholds", "\n".join(["| name | value | why |", "|---|---|---|", *rows])]
        if self.silent:
            parts += ["## Stays silent on", "\n".join(f"- {trap}" for trap in self.silent)]
        parts += ["## What to do", self.action, "## What to expect", self.effect]
        parts += ["## How to verify", self.verify]
        return "\n\n".join(parts) + "\n"
