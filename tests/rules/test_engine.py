"""Selection, order, verdict, baseline, comparison, catalogue and pages."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from build import Net, plain

import unitgain
from unitgain import InputError
from unitgain.record import Record
from unitgain.rules import (
    CATALOGUE,
    Diagnosis,
    Finding,
    Proof,
    compare,
    diagnose,
    explain,
    load_baseline,
    new_findings,
    reconsider,
    save_baseline,
)

ROOT = Path(__file__).parents[2]


def sick() -> Net:
    net = (
        Net()
        .input(mean=0.45, std=0.28, min=0, max=1)
        .linear("fc1", std=5.0)
        .norm("bn")
        .linear("fc2", std=5.0)
    )
    return (
        net.act("tanh", "tanh", saturated=0.3).linear("head", output=True).classifier(10, loss=9.0, rms=3.0)
    )


def test_errors_come_first_and_the_first_finding_gives_the_action() -> None:
    diagnosis = sick().diagnose()
    assert [f.code for f in diagnosis.findings] == ["UG101", "UG303", "UG201", "UG601"]
    assert diagnosis.verdict == "sick: 1 error, 1 warning"
    assert diagnosis.status == "sick"
    assert not diagnosis.ok
    assert diagnosis.first_action == diagnosis.findings[0].remedy


def test_a_remedy_that_did_not_help_is_no_first_action() -> None:
    net = sick()
    before = net.diagnose()
    vain = Proof("scale the last layer down", 100, "fresh batches", 2.0, 2.5, 0.1, "worse")
    first, second, *others = before.findings
    one = reconsider(net.record, before, [replace(first, proof=vain), second, *others])
    assert one.first_action == second.remedy
    both = reconsider(net.record, before, [replace(first, proof=vain), replace(second, proof=vain), *others])
    assert both.first_action.startswith("None of the remedies below helped")


def test_healthy_and_unknown() -> None:
    healthy = plain().diagnose()
    assert (healthy.status, healthy.first_action, healthy.ok) == ("healthy", "", True)
    assert healthy.verdict.startswith("healthy")
    assert diagnose(Record()).status == "unknown"
    assert plain().diagnose(select=["UG501"]).verdict.startswith("cannot tell")


def test_select_and_ignore_take_codes_prefixes_and_names() -> None:
    assert sick().codes(select=["UG1"]) == ["UG101"]
    assert sick().codes(select=["ug303", "input-not-normalized"]) == ["UG303", "ug201"]
    assert sick().codes(ignore=["UG101", "UG6", "saturated"]) == ["ug201"]


@pytest.mark.parametrize("option", ["select", "ignore"])
def test_unknown_rule_is_refused_with_the_one_that_was_meant(option: str) -> None:
    with pytest.raises(
        InputError, match=rf"{option}: no rule is called 'saturatd'; did you mean 'saturated'\?"
    ):
        sick().diagnose(**{option: ["saturatd"]})
    with pytest.raises(InputError, match=r"did you mean 'UG\d0"):
        sick().diagnose(**{option: ["UG999"]})
    with pytest.raises(InputError, match=rf"{option} '': a code \(UG303\), a prefix \(UG3\) or a name"):
        sick().diagnose(**{option: [""]})


def test_ignored_cause_explains_nothing() -> None:
    assert plain(depth=8, gain=0.3, back=0.3).codes(ignore=["UG301"]) == ["UG401"]


def test_diagnosis_of_a_saved_record_is_the_same(tmp_path: Path) -> None:
    net = sick()
    before = net.diagnose()
    net.record.save(tmp_path / "run.sqlite")
    assert diagnose(Record.load(tmp_path / "run.sqlite")) == before


def test_findings_survive_json() -> None:
    import json

    for finding in sick().diagnose().findings:
        assert Finding.from_dict(json.loads(json.dumps(finding.to_dict()))) == finding


def test_names_and_ranks_are_unique_and_texts_are_sentences() -> None:
    assert len({rule.name for rule in CATALOGUE.values()}) == len(CATALOGUE)
    assert len({rule.rank for rule in CATALOGUE.values()}) == len(CATALOGUE)
    for code, rule in CATALOGUE.items():
        assert code == rule.code
        for text in (
            rule.seen,
            rule.matters,
            rule.source,
            rule.measured,
            rule.action,
            rule.effect,
            rule.verify,
        ):
            assert text.endswith((".", ")")), f"{code}: {text}"


def test_explanations_have_no_circle_so_that_no_finding_can_vanish() -> None:
    # one way or the other, by conditions that exclude each other
    either = {("UG304", "UG501"), ("UG501", "UG504"), ("UG502", "UG508"), ("UG508", "UG502")}
    causes = {
        code: {cause.code for cause in rule.explained_by if (code, cause.code) not in either}
        for code, rule in CATALOGUE.items()
    }
    assert set().union(*causes.values()) <= set(CATALOGUE)

    def reaches(start: str, goal: str) -> bool:
        return any(cause == goal or reaches(cause, goal) for cause in causes[start])

    assert not [code for code in causes if reaches(code, code)]


def test_rule_pages_are_up_to_date() -> None:
    script = ROOT / "scripts" / "build_rule_pages.py"
    spec = importlib.util.spec_from_file_location("build_rule_pages", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    on_disk = {page.name: page.read_text(encoding="utf-8") for page in module.FOLDER.glob("*.md")}
    assert on_disk == module.pages(), "run python scripts/build_rule_pages.py"


def test_explain() -> None:
    assert explain("ug303") == explain("saturated")
    with pytest.raises(InputError, match="did you mean 'UG303'"):
        explain("UG333")


def test_baseline_accepts_what_was_there_and_not_what_got_worse(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    findings = sick().diagnose().findings
    save_baseline(path, findings[1:])
    accepted = load_baseline(path)
    assert [f.code for f in new_findings(findings, accepted)] == ["UG101"]
    worse = [Finding(f.code, f.name, "error", f.site, "") for f in findings if f.code == "UG303"]
    assert list(new_findings(worse, accepted)) == worse


@pytest.mark.parametrize("text", [
    "", "[]", "{}", '{"accepted": []}', '{"schema_version": 9, "accepted": []}',
    '{"schema_version": 1, "accepted": [3]}',
    '{"schema_version": 1, "accepted": [{"code": "UG101", "severity": "bad"}]}', "\x00",
])  # fmt: skip
def test_bad_baseline_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"baseline .*baseline.json: "):
        load_baseline(path)


def test_baseline_that_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_baseline(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be written"):
        save_baseline(tmp_path / "none" / "baseline.json", [])


def test_compare() -> None:
    warning = Finding("UG303", "saturated", "warning", "tanh", "30%")
    error = Finding("UG303", "saturated", "error", "tanh", "70%")
    other = Finding("UG101", "confident-at-init", "error", "head", "")
    info = Finding("UG601", "redundant-bias", "info", "b", "")
    table = [([warning], [warning], "same"), ([], [info], "same"), ([warning, other], [warning], "better"),
             ([error], [warning], "better"), ([warning], [error], "worse"), ([], [other], "worse"),
             ([warning], [other], "mixed")]  # fmt: skip
    for before, after, verdict in table:
        assert compare(before, after).verdict == verdict
    change = compare([warning, info], [warning, other])
    assert (change.resolved, change.new, change.unchanged) == ((info,), (other,), (warning,))


def test_records_with_infinite_statistics_are_judged_without_warnings() -> None:
    net = Net().input()
    for i in range(6):
        net.linear(
            f"fc{i}", rms=10.0 ** (30 * i) if i < 5 else math.inf, std=math.inf, gradient=10.0 ** (-60 * i)
        )
    assert "UG302" in net.linear("head", output=True).codes()


def test_a_verdict_of_some_rules_says_so() -> None:
    """ "healthy" was said of a network of which one rule was asked."""
    batch = torch.randn(64, 20), torch.randint(0, 4, (64,))
    model = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4))
    assert "(1 of " in unitgain.check(model, batch, select=["UG303", "UG102"], ignore=["UG303"]).verdict
    assert "were asked" not in unitgain.check(model, batch).verdict


def test_all_examples_that_are_not_finite_are_counted() -> None:
    model = torch.nn.Linear(4, 2)
    report = unitgain.check(model, torch.full((64, 4), float("nan")))
    (finding,) = [f for f in report.findings if f.code == "UG202"]
    assert "examples 0, 1, 2, 3 and 60 more" in finding.message


def test_a_printed_diagnosis_is_for_people() -> None:
    """It was the representation of a dataclass, a screen of it."""
    diagnosis = Diagnosis(
        (Finding("UG304", "dead-units", "error", "relu", "9 of 10 units are dead", remedy="Lower it."),),
        "sick: 1 error", "sick", "Lower the learning rate.",
    )  # fmt: skip
    assert str(diagnosis).splitlines() == [
        "sick: 1 error",
        "Do this first: Lower the learning rate.",
        "error UG304 dead-units at relu: 9 of 10 units are dead",
        "  Do: Lower it.",
    ]
