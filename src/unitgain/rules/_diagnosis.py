"""A Diagnosis: what all rules together say about one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .._base import card, paragraph
from ._finding import Finding


@dataclass(frozen=True)
class Diagnosis:
    """What the rules found in one record.

    findings      most important first
    verdict       one line: "sick: 2 errors, 1 warning", "healthy: ...", "cannot tell: ..."
    status        "healthy" (no error, no warning), "sick", or "unknown" when too little was measured to tell
    first_action  the one action that matters most, or "" if there is nothing to do
    abstained     {code: reason} of the rules that could not judge this record
    unseen        parts of the model that no rule can see into, one line each
    tried         which remedies were tried, and how, in one line; "" where none was
    asked         codes of the rules that were asked; empty where that is not known
    accepted      of the findings those that a baseline accepts; they stand last
    left_out      {what matters and could not be judged: why}, as a healthy verdict names it
    """

    findings: tuple[Finding, ...]
    verdict: str
    status: str
    first_action: str = ""
    abstained: Mapping[str, str] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    tried: str = ""
    asked: tuple[str, ...] = ()
    accepted: tuple[Finding, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if there is no error and no warning but accepted ones."""
        return all(f.severity == "info" for f in self.findings if f not in self.accepted)

    def __repr__(self) -> str:
        return f"<Diagnosis {self.verdict}>"

    def _repr_html_(self) -> str:
        """A notebook's card: the verdict, what to do first, and the findings."""
        parts = [paragraph(self.first_action, "Do this first:"), *(f._repr_html_() for f in self.findings)]
        return card(self.verdict, self.status, parts)

    def __str__(self) -> str:
        """The verdict, the first action, and each finding in two lines; a `Report(record, diagnosis)` prints all."""
        lines = [self.verdict]
        if self.first_action:
            lines.append(f"Do this first: {self.first_action}")
        return "\n".join([*lines, *map(str, self.findings)])
