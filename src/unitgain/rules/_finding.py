"""A Finding: one named problem with its evidence, cause and prescription."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

SEVERITIES = ("info", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """One named problem.

    code, name    stable ("UG101", "confident-at-init")
    severity      "error": training fails or is badly hurt; "warning": accuracy or speed is lost; "info"
    site          the name of the site it is about, or None for the whole model
    message       one line with the measured numbers: what a person reads first
    evidence      the numbers, by name
    cause         why it is so, one or two sentences
    remedy        what to do, concretely
    effect        what to expect after doing it
    verify        how to see that it worked
    auto          True if the remedy is a change to the model that can be made mechanically
    consequences  other symptoms that this finding explains, one line each
    """

    code: str
    name: str
    severity: str
    site: str | None
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    cause: str = ""
    remedy: str = ""
    effect: str = ""
    verify: str = ""
    auto: bool = False
    consequences: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "evidence": dict(self.evidence), "consequences": list(self.consequences)}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Finding:
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in body.items() if k in known}
        return cls(**{**values, "consequences": tuple(values.get("consequences", ()))})
