"""What every rule's file promises: examples that do what they say, numbers with reasons, and no list that names it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from build import Net

import unitgain.rules
from unitgain import theory
from unitgain.report import Report
from unitgain.rules import CATALOGUE, Diagnosis, _registry
from unitgain.rules._gains import GAINS
from unitgain.rules._rule import PRELUDE
from unitgain.rules._view import View

FOLDER = Path(unitgain.rules.__file__).parent
RULE_FILES = sorted(FOLDER.glob("ug*.py"))
# what comes out of judging, not judgement
NO_JUDGEMENT = {"__init__", "_baseline", "_compare", "_registry", "_gains"}
JUDGEMENT = [*RULE_FILES, *(p for p in sorted(FOLDER.glob("_*.py")) if p.stem not in NO_JUDGEMENT)]


def run(code: str, kind: str) -> tuple[Diagnosis, Any]:
    """(diagnosis, record) of a rule's example."""
    source = getattr(CATALOGUE[code], kind)
    held: dict[str, Any] = {}
    exec(compile(PRELUDE + source, f"{code} {kind}", "exec"), held)
    report = held["report"]
    if isinstance(report, Report):
        return report.diagnosis, report.record
    return report, (held.get("probe") or held["learner"]).record


# rules whose remedy is done to certain layers, inputs or parameters, so that it has to name them
AT_A_LAYER = {code for code in CATALOGUE if code[:3] in ("UG3", "UG4", "UG6")} | {
    "UG102",
    "UG205",
    "UG503",
    "UG701",
    "UG804",
}
AT_A_LAYER -= {"UG306", "UG403", "UG406", "UG407", "UG603"}  # a function, a line, or all of them


@pytest.mark.parametrize("code", CATALOGUE)
def test_in_the_bad_example_exactly_this_rule_fires(code: str) -> None:
    diagnosis, record = run(code, "bad")
    assert [f.code for f in diagnosis.findings] == [code]
    found = list(CATALOGUE[code].judge(View(record)))
    assert found
    assert all(isinstance(one.evidence, CATALOGUE[code].evidence) for one in found)
    named = {site.name for kind in ("input", "activation", "parameter") for site in record.sites(kind)}
    named |= {name.rpartition(".")[0] for name in named}
    for one in diagnosis.findings:  # "re-initialize the layer before" does not say which
        words = {word.strip(".:") for word in re.findall(r"[\w.\[\]:]+", one.remedy)}
        assert code not in AT_A_LAYER or words & named, one.remedy


@pytest.mark.parametrize("code", CATALOGUE)
def test_in_the_good_example_no_rule_fires(code: str) -> None:
    diagnosis, _ = run(code, "good")
    assert [(f.code, f.message) for f in diagnosis.findings] == []
    assert diagnosis.status != "sick"


# ---- numbers -------------------------------------------------------------------------------------------------

EVERYWHERE = {0, 1, 2}  # counts, ends of ranges, halves, squares, signs
JUSTIFIED: dict[tuple[str, float], str] = {
    ("_words", 50): "how many names evidence keeps",
    ("_words", 1_000_000): "digits that a message writes out",
    ("_words", 10.0): "the base of decades",
    ("_words", 4): "how many names a message lists",
    ("_trend", 3): "the standard deviation of a uniform draw within a is a / sqrt(3)",
    ("_updates", 10): "the base of decades",
    ("_scale", 10): "the base of decades",
    ("_gradient_scale", 10): "the base of decades",
    ("ug404_uneven_gradient", 10): "the base of decades",
    ("ug503_uneven_updates", 10): "the base of decades",
    ("ug304_dead_units", 6): "ends of the grid of an integral over a unit Gaussian",
    ("ug304_dead_units", 481): "points of that grid",
    ("_loss_curve", 3): "of 3 / 4: the quantile between which and 1/4 lies half of a Gaussian",
    ("_loss_curve", 4): "the same",
    ("_loss_curve", 6): "variance of a second difference of independent values: 1 + 4 + 1",
}


def literals(path: Path) -> Iterator[tuple[float, int]]:
    """(number, line) of every number that is written out in code, but for thresholds and ranks."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    exempt: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Threshold":
            exempt.update(ast.walk(node))
        if isinstance(node, ast.keyword) and node.arg == "rank":
            exempt.update(ast.walk(node))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or node in exempt or isinstance(node.value, bool):
            continue
        if isinstance(node.value, (int, float)):
            yield node.value, node.lineno


def test_every_number_that_is_compared_with_is_a_threshold_with_its_reason() -> None:
    found = [(path.stem, value, line) for path in JUDGEMENT for value, line in literals(path)]
    stray = [row for row in found if row[1] not in EVERYWHERE and row[:2] not in JUSTIFIED]
    assert not stray, "give it a name and a reason: NAME = Threshold(number, why)"
    assert set(JUSTIFIED) == {row[:2] for row in found if row[1] not in EVERYWHERE}


def test_a_stray_number_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "ug999_x.py"
    file.write_text(
        'LIMIT = Threshold(0.3, "why")\nx = About(rank=7)\nif y > 0.97 * LIMIT + z[2]:\n    pass\n'
    )
    assert list(literals(file)) == [(0.97, 3), (2, 3)]


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_threshold_says_why(code: str) -> None:
    assert all(len(threshold.why) > 25 for threshold in CATALOGUE[code].thresholds.values())


def test_gains_written_out_are_those_of_theory() -> None:
    assert pytest.approx(GAINS, rel=1e-6) == {name: theory.gain(name) for name in GAINS}
    assert set(theory.NAMES) - set(GAINS) == {"sigmoid", "hardsigmoid"}


# ---- files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RULE_FILES, ids=[path.stem for path in RULE_FILES])
def test_a_file_says_where_its_rule_comes_from_and_stays_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    code, name = path.stem[:5].upper(), path.stem[6:].replace("_", "-")
    assert text.startswith(f'"""{code} {name}: ')
    assert "\nSource: " in (ast.get_docstring(ast.parse(text)) or "")
    assert text.count("\n") < 400


def test_a_file_that_lacks_a_part_says_which() -> None:
    module = ModuleType("unitgain.rules.ug998_toy")
    module.ABOUT, module.judge = CATALOGUE["UG101"], lambda view: iter(())  # type: ignore[attr-defined]
    with pytest.raises(
        AssertionError, match=r"ug998_toy: a rule's file holds Evidence, EXPLAINED_BY, BAD, GOOD too"
    ):
        _registry.assemble(module)


def test_a_file_of_another_name_than_its_rule_is_refused() -> None:
    from unitgain.rules import ug101_confident_at_init as rule

    module = ModuleType("unitgain.rules.ug101_sure_at_init")
    vars(module).update({key: value for key, value in vars(rule).items() if not key.startswith("__")})
    with pytest.raises(
        AssertionError, match=r"the file of UG101 confident-at-init is called ug101_confident_at_init"
    ):
        _registry.assemble(module)


def test_the_rule_of_the_contributing_page_is_found_and_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adding a rule costs one file: nothing but the file's presence makes it known."""
    page = FOLDER.parents[2] / "docs" / "contributing" / "add-a-rule.md"
    (source,) = re.findall(r"```python\n(\"\"\"UG999 .*?)```", page.read_text(encoding="utf-8"), re.S)
    (tmp_path / "ug999_large_bias.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(unitgain.rules, "__path__", [*unitgain.rules.__path__, str(tmp_path)])
    found = _registry._discover()
    monkeypatch.delitem(sys.modules, "unitgain.rules.ug999_large_bias")
    assert list(found) == [*CATALOGUE, "UG999"]
    assert "| share | 0.9 |" in found["UG999"].page()
    assert [value for value, _ in literals(tmp_path / "ug999_large_bias.py") if value not in EVERYWHERE] == []
    monkeypatch.setitem(CATALOGUE, "UG999", found["UG999"])
    assert [f.code for f in run("UG999", "bad")[0].findings] == ["UG999"]
    assert [f.code for f in run("UG999", "good")[0].findings] == []
    fires, silent = (Net().linear("fc", weight={"rms": rms}).codes(select=["UG999"]) for rms in (0.95, 0.1))
    assert (fires, silent) == (["ug999"], [])
