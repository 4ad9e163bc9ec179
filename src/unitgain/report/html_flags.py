"""Which layers, and which of their numbers, the findings are about. The page colours these and nothing else: a number
far from a rule of thumb that no rule minds is drawn like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..record import Record
from ..rules import SEVERITIES, Finding
from .layers import Layer, key_of_finding, parameter_owner

LEVELS = {"error": "sick", "warning": "watch", "info": ""}
"""What a layer is called by the worst finding about it; "" is healthy."""

# the column of the table, and the row of a chart, that shows what a rule judges
COLUMNS = {
    "UG301": "std", "UG302": "std", "UG605": "std", "UG607": "std", "UG303": "saturated", "UG304": "dead",
    "UG305": "mean", "UG201": "std", "UG104": "nonfinite", "UG202": "nonfinite", "UG306": "nonfinite",
    "UG405": "gradient", "UG401": "gradient", "UG402": "gradient", "UG403": "gradient", "UG406": "gradient",
    "UG404": "gradient_ratio", "UG501": "update_ratio", "UG502": "update_ratio", "UG503": "update_ratio",
    "UG507": "update_ratio", "UG508": "update_ratio",
}  # fmt: skip

Key = tuple[str, str]


@dataclass(frozen=True)
class Concern:
    """One layer that a finding names; said: what the finding says of it ("68%"), or ""."""

    number: int
    said: str = ""


@dataclass
class Flags:
    """What the findings say of one layer.

    level    "sick", "watch" or ""
    codes    of all findings that name it
    columns  {column: level} of the numbers that they judge
    """

    level: str = ""
    codes: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)


def concerns_of(record: Record, finding: Finding, numbers: Mapping[Key, int]) -> list[Concern]:
    """The layers that a finding names, its own site first, then those of its evidence, each once."""
    found: dict[int, str] = {}
    own = key_of_finding(record, finding)
    if own is not None and own in numbers:
        found[numbers[own]] = ""
    for name, said in _names_in(finding.evidence):
        number = _number_of(record, name, numbers)
        if number is not None:
            found[number] = found.get(number) or said
    return [Concern(number, said) for number, said in found.items()]


def flags_of(record: Record, findings: Sequence[Finding], layers: Sequence[Layer]) -> list[Flags]:
    """One for each layer."""
    numbers = {layer.key: layer.number for layer in layers}
    flags = [Flags() for _ in layers]
    for finding in findings:
        level = LEVELS.get(finding.severity, "")
        for concern in concerns_of(record, finding, numbers):
            one = flags[concern.number - 1]
            one.level = worse(one.level, level)
            if finding.code not in one.codes:
                one.codes.append(finding.code)
            column = COLUMNS.get(finding.code)
            if column and level:
                one.columns[column] = worse(one.columns.get(column, ""), level)
    return flags


def worse(*levels: str) -> str:
    """The worst of several levels.

    >>> worse("", "watch", "sick"), worse("", "")
    ('sick', '')
    """
    order = ["", *(LEVELS[s] for s in SEVERITIES if LEVELS[s])]
    return max(levels, key=order.index, default="")


def _names_in(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(text that may be a site's name, what is said beside it) of everything in a finding's evidence."""
    for value in evidence.values():
        if isinstance(value, str):
            yield value, ""
        elif isinstance(value, Mapping):
            for name, said in value.items():
                yield str(name), said if isinstance(said, str) else _said(said)
        elif isinstance(value, (list, tuple)):
            for item in value:
                if isinstance(item, str):
                    yield item, ""


def _said(value: Any) -> str:
    from .text import value_text

    return value_text(value, 3) if isinstance(value, (int, float)) else ""


def _number_of(record: Record, name: str, numbers: Mapping[Key, int]) -> int | None:
    for kind in ("activation", "input"):
        if (kind, name) in numbers:
            return numbers[kind, name]
    parameter = record.site("parameter", name)
    return numbers.get(("activation", parameter_owner(parameter))) if parameter else None
