"""The collection is in order: cases build, variants differ, sources are given, and halves are as they were drawn."""

from __future__ import annotations

import importlib.util
import math
import re
from collections import Counter
from pathlib import Path

import judge
import pytest
import registry
from registry import Case

import train

HERE = Path(__file__).parent
CASES = registry.load(*registry.HALVES)
REPORTED = [case for case in CASES if case.kind != "healthy"]
HEALTHY = [case for case in CASES if case.kind == "healthy"]
# How often each kind of cause was seen among about 190 reports
SHARES = {
    "graph": 0.24, "target": 0.20, "loss": 0.16, "optimizer": 0.13, "numerics": 0.13, "data": 0.09, "mode": 0.05,
    "init": 0.04,
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore")  # reported code warns: that is part of what was reported


def names(cases: list[Case]) -> list[str]:
    return [case.name for case in cases]


# Plain trainings do not depend on the package: every fourth here, all of them by train.py.
@pytest.mark.parametrize("case", REPORTED[::4], ids=names(REPORTED[::4]))
def test_both_variants_train_and_come_apart(case: Case) -> None:
    reported, cured = (train.trained(case, variant, case.few) for variant in (False, True))
    assert math.isfinite(cured)
    assert reported != cured  # not a number differs from everything


@pytest.mark.parametrize("case", HEALTHY, ids=names(HEALTHY))
def test_healthy_trainings_build_and_train(case: Case) -> None:
    assert math.isfinite(train.trained(case, True, 3))


@pytest.mark.parametrize("case", REPORTED, ids=names(REPORTED))
def test_a_case_says_where_it_was_reported_and_how_it_is_judged(case: Case) -> None:
    assert re.match(
        r"github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+|discuss\.pytorch\.org/t/|[\w-]+\.(github\.io|in)/",
        case.source,
    )
    assert case.kind in SHARES
    assert len(case.cause) > 30
    assert case.area
    assert case.action
    assert re.compile(case.action, re.I)
    assert case.must or case.no_rule
    assert bool(case.says) == bool(case.no_rule)
    assert all(re.fullmatch(r"UG\d{3}", code) for code in case.must | case.may)
    assert not case.must & case.may


def test_variants_go_to_their_halves_in_turn_and_say_how_they_are_judged() -> None:
    cases = registry.load(*registry.VARIANTS)
    files = {case.build.__code__.co_filename for case in cases}
    for file in files:
        halves = [case.half for case in cases if case.build.__code__.co_filename == file]
        assert halves == [registry.VARIANTS[i % 2] for i in range(len(halves))]
    for case in cases:
        assert case.must
        assert case.action
        assert len(case.cause) > 20
        assert not case.must & case.may
        assert all(re.fullmatch(r"UG\d{3}", code) for code in case.must | case.may)


QUICK = {case.name: case for case in registry.load("variants_g") if case.form == "check"}


@pytest.mark.parametrize("name", ["labels_in_percent", "likelihood_of_every_pair", "layers_in_a_dictionary"])
def test_a_few_variants_are_named_and_their_cures_silent(name: str) -> None:
    case = QUICK[name]
    found = judge.examined(case, cured=False)
    assert judge.verdict_on(case, found) == "named", found.alarms
    assert not judge.examined(case, cured=True).alarms


def test_halves_are_as_drawn_before_any_case_was_reproduced() -> None:
    halves, kinds = {}, {}
    for folder in (
        "held_out",
        "unseen_b",
        "unseen_d",
        "unseen_f",
        "unseen_j",
    ):  # one draw for each collection
        spec = importlib.util.spec_from_file_location(f"reports_draw_{folder}", HERE / folder / "draw.py")
        assert spec is not None
        assert spec.loader is not None
        draw = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(draw)
        halves |= {name: half for name, half in draw.HALF.items() if name not in draw.DROPPED}
        kinds |= draw.KIND
    assert {case.name: case.half for case in CASES} == halves
    assert {case.name: case.kind for case in CASES} == {name: kinds[name] for name in halves}


def test_kinds_come_about_as_often_as_people_report_them() -> None:
    counts = Counter(case.kind for case in REPORTED)
    total = sum(SHARES.values())
    for kind, share in SHARES.items():
        assert counts[kind] / len(REPORTED) == pytest.approx(share / total, abs=0.04)
