"""A seeded part of `make random-rates`: no training that diverges is called healthy, none that goes well is alarmed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

FILE = Path(__file__).parents[2] / "experiments" / "random_rates.py"


@pytest.fixture(scope="module")
def rates():
    spec = importlib.util.spec_from_file_location("random_rates", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["random_rates"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["random_rates"]


@pytest.mark.filterwarnings("ignore")  # losses that overflow on purpose
@pytest.mark.parametrize("first", [0, 20, *(pytest.param(n, marks=pytest.mark.slow) for n in (10, 30))])
def test_verdicts_on_random_pairs_fit_what_training_makes_of_them(rates, first: int) -> None:
    """At most one of ten alarms though it trains well: of a thousand, some do so after first steps that went far up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pairs = [rates.pair(number) for number in range(first, first + 10)]
        judged = [(str(one), rates.becomes(one), *rates.says(one)) for one in pairs]
    finally:
        torch.set_num_threads(threads)
    assert [row for row in judged if row[1] == "diverged" and row[2] == "healthy"] == []
    assert len([row for row in judged if row[1] == "trained well" and row[2] == "sick"]) <= 1, judged
