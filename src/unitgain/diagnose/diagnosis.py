"""A Diagnosis: what the rules said about one Record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .finding import Finding


@dataclass(frozen=True)
class Diagnosis:
    """What the rules said.

    findings      most important first
    verdict       one line
    status        "healthy", "sick" or "unknown"
    first_action  the one action that matters most, or ""
    abstained     {code: reason} of the rules that could not judge
    """

    findings: tuple[Finding, ...]
    verdict: str
    status: str
    first_action: str
    abstained: Mapping[str, str] = field(default_factory=dict)
