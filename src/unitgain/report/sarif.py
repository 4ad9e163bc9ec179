"""A report as SARIF 2.1.0, which code hosts show beside the lines that findings are about.

Schema: https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json. Findings that a baseline
accepts are there as suppressed results, as the standard has them.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from .._base import printable
from .._version import __version__
from ..rules import CATALOGUE, Diagnosis, Finding
from .json_report import dumps, plain
from .place import place_of

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_RULES = "https://github.com/unitgain/unitgain/blob/main/docs/reference/rules"


def to_sarif(diagnosis: Diagnosis, source: str | None = None) -> str:
    """The findings as a SARIF log of one run.

    source  the file that the model came from: findings of which no line is known are shown there
    """
    codes = sorted({finding.code for finding in diagnosis.findings})
    run = {
        "tool": {
            "driver": {
                "name": "unitgain",
                "version": __version__,
                "semanticVersion": __version__,
                "informationUri": "https://github.com/unitgain/unitgain",
                "rules": [_rule(code) for code in codes],
            }
        },
        "results": [
            _result(finding, codes.index(finding.code), finding in diagnosis.accepted, source)
            for finding in diagnosis.findings
        ],
        "invocations": [{"executionSuccessful": True}],
        "properties": {"verdict": diagnosis.verdict, "notJudged": dict(diagnosis.abstained)},
    }
    return dumps(plain({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}))


def _rule(code: str) -> dict[str, Any]:
    rule = CATALOGUE.get(code)
    if rule is None:
        return {"id": code}
    return {
        "id": code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": rule.seen},
        "fullDescription": {"text": rule.matters},
        "help": {"text": f"{rule.action} {rule.effect}"},
        "helpUri": f"{_RULES}/{code}.md",
    }


def _result(finding: Finding, rule: int, accepted: bool, source: str | None) -> dict[str, Any]:
    location: dict[str, Any] = {}
    place = place_of(finding, source)
    if place is not None:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": quote(place.file), "uriBaseId": "%SRCROOT%"} if not _is_absolute(place.file)
            else {"uri": "file://" + quote("/" + place.file.lstrip("/"))},
            "region": {"startLine": place.line},
        }  # fmt: skip
    if finding.site:
        location["logicalLocations"] = [{"fullyQualifiedName": printable(finding.site), "kind": "module"}]
    text = " ".join(part for part in (f"{_sentence(finding.message)}", finding.cause, finding.remedy) if part)
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": LEVELS[finding.severity],
        "message": {"text": printable(text, keep_lines=True)},
        "partialFingerprints": {"unitgain/v1": _fingerprint(finding)},
        "properties": {"site": finding.site, "evidence": dict(finding.evidence)},
    }
    if location:
        result["locations"] = [location]
    if accepted:
        result["suppressions"] = [{"kind": "external", "justification": "accepted in the baseline"}]
    return result


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or path[1:3] == ":/"


def _fingerprint(finding: Finding) -> str:
    """The same for the same finding in another run: code and site, as in a baseline."""
    return hashlib.sha256(f"{finding.code}\0{finding.site or ''}".encode()).hexdigest()[:32]
