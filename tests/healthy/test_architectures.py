"""Public architectures at their own initialization, loss, optimizer and rate: `make healthy`, and here one by one."""

from __future__ import annotations

import importlib.util

import examine
import pytest
from architecture import ALL, Architecture, held_out

# rightly told, as trying it shows: a tanh RNN at rate 20 whose loss rises, and seven convolutions with torch's default
# weights that SGD hardly moves; a last block whose backcast nobody uses
RIGHTLY = {"word_rnn": {"UG501"}, "all_cnn": {"UG502"}, "nbeats": {"UG403"}}


def test_no_group_is_left_out_and_half_of_them_were_held_out() -> None:
    assert len(ALL) >= 140
    assert len({row.name for row in ALL}) == len(ALL)
    assert abs(len(held_out()) - len(ALL) / 2) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
def test_a_public_architecture_gets_no_alarm(row: Architecture, torchvision_operators: None) -> None:
    if row.needs and importlib.util.find_spec(row.needs) is None:
        pytest.skip(f"{row.needs} is not installed")
    result = examine.examine(row)
    assert "failed" not in dict(result), result
    assert {alarm["code"] for alarm in result["alarms"]} <= RIGHTLY.get(row.name, set()), result
