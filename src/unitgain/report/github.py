"""Findings as GitHub's workflow commands: an annotation at the line that each is about.

`::error file=,line=,title=::message`, see docs.github.com/actions/reference/workflows-and-actions/workflow-commands.
What could end the command or begin another one is escaped as the runner undoes it.
"""

from __future__ import annotations

from .._base import printable
from ..rules import Diagnosis
from .place import place_of

_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}


def to_github(diagnosis: Diagnosis, source: str | None = None) -> str:
    """A line for each finding that a baseline does not accept, and the verdict.

    source  the file that the model came from: findings of which no line is known are shown there
    """
    lines = []
    for finding in diagnosis.findings:
        if finding in diagnosis.accepted:
            continue
        at = f" at {finding.site}" if finding.site else ""
        properties = {"title": f"{finding.code} {finding.name}{at}"}
        place = place_of(finding, source)
        if place is not None:
            properties = {"file": place.file, "line": str(place.line), **properties}
        written = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
        text = f"{finding.message}\n{finding.remedy}".strip()
        lines.append(f"::{_COMMANDS[finding.severity]} {written}::{_data(text)}")
    lines.append(f"unitgain: {printable(diagnosis.verdict)}")
    return "\n".join(lines) + "\n"


def _data(text: str) -> str:
    text = printable(text, keep_lines=True)
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
