"""A baseline: findings that were looked at and accepted, so that only new ones fail.

The file is JSON, meant to be kept under version control:

    {"schema_version": 1,
     "accepted": [{"code": "UG303", "site": "tanh1", "severity": "warning", "message": "..."}]}

A finding is the same one if code and site agree. One that is worse than what was accepted (an error where a
warning was) is new.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .._base import InputError
from ._diagnosis import Diagnosis
from ._finding import SEVERITIES, Finding
from ._words import plural

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Accepted:
    """What is remembered of an accepted finding."""

    code: str
    site: str | None
    severity: str
    message: str = ""


def save_baseline(path: str | os.PathLike[str], findings: Iterable[Finding]) -> None:
    """Writes the findings as accepted ones; an existing file is replaced in one step.

    Raises InputError if the path cannot be written.
    """
    rows = [{"code": f.code, "site": f.site, "severity": f.severity, "message": f.message} for f in findings]
    text = json.dumps({"schema_version": SCHEMA_VERSION, "accepted": rows}, indent=2) + "\n"
    partial = f"{os.fspath(path)}.part"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"baseline {os.fspath(path)}: cannot be written: {error.strerror}") from error


def load_baseline(path: str | os.PathLike[str]) -> tuple[Accepted, ...]:
    """The accepted findings of a file that save_baseline wrote.

    Raises InputError if it cannot be read, is not a baseline, or was written by a newer version.
    """
    where = f"baseline {os.fspath(path)}"
    try:
        with open(path, encoding="utf-8") as file:
            body = json.load(file)
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise InputError(f"{where}: not JSON ({error})") from error
    if not isinstance(body, dict) or not isinstance(body.get("accepted"), list):
        raise InputError(
            f'{where}: not a baseline; it should hold {{"schema_version": 1, "accepted": [...]}}'
        )
    version = body.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise InputError(
            f"{where}: schema_version {version!r} is not known; this unitgain reads up to {SCHEMA_VERSION}"
        )
    accepted = []
    for number, row in enumerate(body["accepted"]):
        if not isinstance(row, dict) or "code" not in row or row.get("severity", "error") not in SEVERITIES:
            raise InputError(
                f"{where}: entry {number} needs a code and a severity of {', '.join(SEVERITIES)}"
            )
        accepted.append(
            Accepted(
                str(row["code"]), row.get("site"), row.get("severity", "error"), str(row.get("message", ""))
            )
        )
    return tuple(accepted)


def new_findings(findings: Iterable[Finding], accepted: Sequence[Accepted]) -> tuple[Finding, ...]:
    """The findings that the baseline does not accept, in their order."""
    worst = {(row.code, row.site): SEVERITIES.index(row.severity) for row in accepted}
    return tuple(f for f in findings if SEVERITIES.index(f.severity) > worst.get((f.code, f.site), -1))


def accept(diagnosis: Diagnosis, accepted: Sequence[Accepted]) -> Diagnosis:
    """The diagnosis of what is new: accepted findings stand last and are named in the verdict. Where nothing else is
    wrong, the status is "healthy"."""
    new = new_findings(diagnosis.findings, accepted)
    known = tuple(finding for finding in diagnosis.findings if finding not in new)
    judged = [finding for finding in known if finding.severity != "info"]
    if not known:
        return diagnosis
    counts = ", ".join(
        plural(sum(f.severity == severity for f in judged), severity)
        for severity in ("error", "warning")
        if any(f.severity == severity for f in judged)
    )
    findings = (*new, *known)
    worst = next((f for f in new if f.severity != "info"), None)
    if worst is not None:
        added = [f for f in new if f.severity != "info"]
        parts = [
            plural(sum(f.severity == severity for f in added), f"new {severity}")
            for severity in ("error", "warning")
            if any(f.severity == severity for f in added)
        ]
        verdict = f"sick: {', '.join(parts)}" + (f" ({counts} accepted)" if counts else "")
        kept = diagnosis.first_action if worst == diagnosis.findings[0] else worst.remedy
        return replace(diagnosis, findings=findings, accepted=known, verdict=verdict, first_action=kept)
    if not judged:
        return replace(diagnosis, findings=findings, accepted=known)
    return replace(
        diagnosis, findings=findings, accepted=known, status="healthy", first_action="",
        verdict=f"nothing new: {counts} accepted in the baseline",
    )  # fmt: skip
