"""A report as JUnit XML, which every CI system shows: a test case for each finding, and one for all rules that passed.

The dialect is what pytest writes (xunit2): testsuites > testsuite > testcase > failure | skipped | system-out.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from .._base import printable
from ..record import Record
from ..rules import CATALOGUE, Diagnosis, Finding
from .place import place_of

_FAILING = ("error", "warning")


def to_junit(record: Record, diagnosis: Diagnosis, source: str | None = None) -> str:
    """Errors and warnings fail; those that a baseline accepts, and rules that could not judge, are skipped; findings
    for information are passed tests with the text as their output.

    source  the file that the model came from: findings of which no line is known name it
    """
    suite = ET.Element("testsuite", name=_clean(f"unitgain {record.facts.model.name or 'model'}"))
    for finding in diagnosis.findings:
        _case(suite, finding, finding in diagnosis.accepted, source)
    for code, reason in diagnosis.abstained.items():
        case = ET.SubElement(suite, "testcase", classname="unitgain", name=_named(code), time="0")
        ET.SubElement(case, "skipped", message=_clean(reason))
    found = {finding.code for finding in diagnosis.findings}
    for code in diagnosis.asked:
        if code not in found and code not in diagnosis.abstained:
            ET.SubElement(suite, "testcase", classname="unitgain", name=_named(code), time="0")
    cases = list(suite)
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("errors", "0")
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    suites = ET.Element("testsuites", name="unitgain")
    suites.append(suite)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _case(suite: ET.Element, finding: Finding, accepted: bool, source: str | None) -> None:
    at = f" at {finding.site}" if finding.site else ""
    case = ET.SubElement(
        suite, "testcase", classname="unitgain", name=_clean(f"{_named(finding.code)}{at}"), time="0"
    )
    place = place_of(finding, source)
    if place is not None:
        case.set("file", _clean(place.file))
        case.set("line", str(place.line))
    told = "\n".join(
        f"{name}: {text}"
        for name, text in (
            ("Cause", finding.cause), ("Do", finding.remedy), ("Expect", finding.effect), ("Where", finding.where)
        )
        if text
    )  # fmt: skip
    if finding.severity not in _FAILING:
        ET.SubElement(case, "system-out").text = _clean(f"{finding.message}\n{told}")
    elif accepted:
        ET.SubElement(case, "skipped", message=_clean(f"accepted in the baseline: {finding.message}"))
    else:
        failure = ET.SubElement(case, "failure", message=_clean(finding.message), type=finding.severity)
        failure.text = _clean(told)


def _named(code: str) -> str:
    return f"{code} {CATALOGUE[code].name}" if code in CATALOGUE else code


def _clean(text: str) -> str:
    """Printable, and of the characters that XML allows."""
    return printable(text, keep_lines=True)
