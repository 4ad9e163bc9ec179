"""Every sick training is named by its rule, and what only looks like it gets no alarm from any rule."""

from __future__ import annotations

import random
import warnings
from collections import Counter

import loop_cases as cases
import pytest
import rate_cases as rates
import torch

from unitgain.rules import Diagnosis

# healthy in what is asked here, and rightly told otherwise: a teacher that is not frozen
ALSO = {"a_momentum_teacher_inside_the_model": {"UG403"}}
RULES = sorted({row.rule for row in cases.ROWS})


def diagnosed(row: cases.Row) -> Diagnosis:
    torch.manual_seed(0)
    random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what the sick do
        return row.build()


def alarms(diagnosis: Diagnosis) -> set[str]:
    return {f.code for f in diagnosis.findings if f.severity != "info"}


@pytest.mark.parametrize("row", [r for r in (*cases.ROWS, *rates.ROWS) if r.sick], ids=lambda row: row.name)
def test_a_sick_training_is_named_and_nothing_else_is(row: cases.Row) -> None:
    diagnosis = diagnosed(row)
    named = alarms(diagnosis) | {line.split()[0] for f in diagnosis.findings for line in f.consequences}
    assert row.rule in named, [f.message for f in diagnosis.findings]
    # units die of steps that are too large
    assert alarms(diagnosis) == ({"UG501"} if row.rule not in alarms(diagnosis) else {row.rule})


@pytest.mark.parametrize(
    "row", [r for r in (*cases.ROWS, *rates.ROWS) if not r.sick], ids=lambda row: row.name
)
def test_a_healthy_look_alike_gets_no_alarm(row: cases.Row) -> None:
    diagnosis = diagnosed(row)
    assert alarms(diagnosis) <= ALSO.get(row.name, set()), [f.message for f in diagnosis.findings]


def test_each_rule_has_at_least_six_of_either_kind_and_half_of_them_held_out() -> None:
    for rule in RULES:
        for is_sick in (True, False):
            names = [r.name for r in cases.ROWS if (r.rule, r.sick) == (rule, is_sick)]
            assert len(names) >= 6
            assert len(names) // 2 - 1 <= len(cases.HELD_OUT.intersection(names)) <= len(names) // 2
    assert max(Counter(r.name for r in cases.ROWS).values()) == 1
