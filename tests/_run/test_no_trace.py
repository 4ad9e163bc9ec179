"""A sixteenth of the cells of no_trace.py; `make no-trace` runs all of them."""

from __future__ import annotations

import warnings

import no_trace
import pytest

from zoo import CASES

SAMPLE = no_trace.sample(part=0.06, seed=0)
PARTS = 16  # tests, so that two workers share them evenly


@pytest.mark.parametrize("part", range(PARTS))
def test_no_function_leaves_a_trace_in_any_model(part: int) -> None:
    bad = []
    for cell in SAMPLE[part::PARTS]:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of the models' own: deprecated parts, hooks on inputs without gradients
            warnings.filterwarnings("error", message="unitgain")
            outcome, left = no_trace.run(cell)
        if left or outcome not in no_trace.KNOWN:
            bad.append(f"{cell}: {outcome}: {left[:5]}")
    assert not bad, "\n".join(bad)


def test_the_sample_has_every_model_and_every_function() -> None:
    assert {cell.case for cell in SAMPLE} == set(CASES)
    assert {cell.function for cell in SAMPLE} == set(no_trace.FUNCTIONS)
    assert len(CASES) >= 45


def test_the_check_notices_a_function_that_leaves_a_trace(monkeypatch) -> None:
    monkeypatch.setitem(no_trace.FUNCTIONS, "check", lambda s: s.model(*s.case.batch[:1]))
    outcome, left = no_trace.run(no_trace.Cell("counts its calls", "check", "", 1))
    assert outcome == "returned"
    assert any("calls" in path for path in left)
    assert any("running_mean" in path for path in left)


@pytest.mark.parametrize("name", [n for n, make in CASES.items() if make().not_rewound])
def test_what_cannot_be_rewound_is_named_in_the_report(name: str) -> None:
    case = CASES[name]()
    report = no_trace.ug.check(case.model, case.batch, case.loss)
    assert set(report.record.facts.not_rewound or ()) == set(case.not_rewound)
    for path in case.not_rewound:
        assert path in " ".join(str(report).split())
