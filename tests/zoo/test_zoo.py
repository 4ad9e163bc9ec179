"""Every planted defect is found, called by its name and by no second one; healthy networks are left in peace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from evaluate import HEALTHY, SICK, absent, examine, repair
from row import Healthy, Sick, fill
from torch import nn

from unitgain.rules import CATALOGUE

# judged on what one check gives; rules about training runs are not planted here
CODES = [code for code, rule in CATALOGUE.items() if rule.needs != "run"]


def parameters(rows: Sequence[Sick] | Sequence[Healthy]) -> list:
    return [pytest.param(row, id=row.id) for row in rows]


@pytest.mark.parametrize("row", parameters(SICK))
def test_a_planted_defect_is_found_and_nothing_else(row: Sick) -> None:
    outcome = examine(row)
    assert not outcome.missing, outcome
    assert not outcome.alarms, outcome
    assert not outcome.crowd, outcome


@pytest.mark.parametrize("row", parameters(SICK[::13]))  # all of them: make zoo
def test_repairing_leaves_nothing_that_was_not_there_before(row: Sick) -> None:
    outcome = repair(row)
    assert not outcome.worse, outcome


@pytest.mark.parametrize("row", parameters(HEALTHY))
def test_a_healthy_network_gets_no_error_and_no_warning(row: Healthy, torchvision_operators: None) -> None:
    if absent(row):
        pytest.skip(f"{row.needs} is not installed")
    outcome = examine(row)
    assert not outcome.loud, outcome


def test_the_zoo_covers_every_code_three_times_and_ids_are_unique() -> None:
    planted = Counter(text.split("|")[0] for row in SICK for text in row.must)
    assert not [code for code in CODES if planted[code] < 3]
    assert set(planted) <= set(CODES)
    ids = [row.id for row in (*SICK, *HEALTHY)]
    assert len(ids) == len(set(ids))


def test_a_pattern_that_matches_nothing_plants_nothing_and_says_so() -> None:
    with pytest.raises(AssertionError, match="nothing would be planted"):
        fill(nn.Linear(2, 2), "fc1.weight", 0.0)
