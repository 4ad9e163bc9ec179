"""A report as short Markdown that a person or a language model can act on: what was measured, what to change and where,
what was ruled out. Numbers are those of the findings; nothing is said that is not in the report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .._base import printable
from ..record import Record
from ..rules import CATALOGUE, Diagnosis, Finding
from .terminal import heading_parts
from .text import measured_rows, not_rewound

_MOST_EVIDENCE = 8  # numbers of one finding


def to_markdown(record: Record, diagnosis: Diagnosis) -> str:
    """The report as Markdown."""
    return "\n".join(_lines(record, diagnosis)).rstrip() + "\n"


def _lines(record: Record, diagnosis: Diagnosis) -> Iterator[str]:
    yield f"# unitgain: {_text(diagnosis.verdict)}"
    yield ""
    yield f"Measured: {_text(', '.join(heading_parts(record)))}."
    if diagnosis.first_action:
        yield ""
        yield f"**Do this first:** {_text(diagnosis.first_action)}"
    new = [finding for finding in diagnosis.findings if finding not in diagnosis.accepted]
    for number, finding in enumerate(new, start=1):
        yield ""
        yield from _finding(number, finding)
    if diagnosis.accepted:
        yield ""
        yield "## Accepted"
        yield ""
        for finding in diagnosis.accepted:
            at = f" at {_code(finding.site)}" if finding.site else ""
            yield f"- {finding.severity} {_text(finding.code)} {_text(finding.name)}{at}: {_text(finding.message)}"
    ruled_out = _ruled_out(diagnosis)
    if ruled_out:
        yield ""
        yield "## Ruled out"
        yield ""
        yield f"Judged, and nothing found: {', '.join(ruled_out)}."
    if diagnosis.tried:
        yield ""
        yield f"Tried: {_text(diagnosis.tried)}."
    if diagnosis.abstained or diagnosis.unseen:
        yield ""
        yield "## Not judged"
        yield ""
        for reason, codes in _by_reason(diagnosis).items():
            yield f"- {', '.join(codes)}: {reason}"
        for line in diagnosis.unseen:
            yield f"- {_text(line)}"
    if line := not_rewound(record.facts):
        yield ""
        yield f"Not put back after the run: {_text(line)}."


def _finding(number: int, finding: Finding) -> Iterator[str]:
    at = f" at {_code(finding.site)}" if finding.site else ""
    yield f"## {number}. {finding.severity}: {_text(finding.code)} {_text(finding.name)}{at}"
    yield ""
    yield f"- Seen: {_text(finding.message)}"
    if finding.evidence:
        numbers = [f"{name} {value}" for name, value in measured_rows(finding.evidence)]
        yield f"- Measured: {_text('; '.join(numbers[:_MOST_EVIDENCE]))}"
    for name, text in (("Cause", finding.cause), ("Change", finding.remedy)):
        if text:
            yield f"- {name}: {_text(text)}"
    if finding.where:
        yield f"- Where: {_code(finding.where)}"
    if finding.proof is not None:
        for other in finding.proof.others:
            yield f"- Also tried: {_text(other)}"
    for name, text in (("Expect", finding.effect), ("Verify", finding.verify)):
        if text:
            yield f"- {name}: {_text(text)}"
    for consequence in finding.consequences:
        yield f"- Explains: {_text(consequence)}"


def _ruled_out(diagnosis: Diagnosis) -> list[str]:
    """The rules that judged and found nothing, those that another finding explains left out."""
    said = {finding.code for finding in diagnosis.findings} | set(diagnosis.abstained)
    said |= {line.split()[0] for finding in diagnosis.findings for line in finding.consequences}
    asked = diagnosis.asked or tuple(CATALOGUE)
    return [f"{code} {CATALOGUE[code].name}" for code in asked if code not in said and code in CATALOGUE]


def _by_reason(diagnosis: Diagnosis) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for code, reason in diagnosis.abstained.items():
        found.setdefault(_text(reason), []).append(_text(code))
    return found


def _text(value: str) -> str:
    """Printable, on one line, with what Markdown would read as markup escaped."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(printable(value).split()))


def _code(value: str) -> str:
    return f"`{printable(value).replace('`', chr(39))}`"
