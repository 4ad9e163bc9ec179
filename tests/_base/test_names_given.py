"""What takes a list of names says so of anything else, wherever it is taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import unitgain as ug

MODEL, X = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(16, 8)
SGD = torch.optim.SGD(MODEL.parameters(), lr=0.1)
CALLS: dict[str, Callable[[object], object]] = {
    "Probe(include": lambda names: ug.Probe(MODEL, include=names),  # type: ignore[arg-type]
    "Probe(exclude": lambda names: ug.Probe(MODEL, exclude=names),  # type: ignore[arg-type]
    "init_(only": lambda names: ug.init_(MODEL, batch=X, only=names),  # type: ignore[arg-type]
    "hold_parameters_(only": lambda names: ug.remedies.hold_parameters_(MODEL, SGD, only=names),  # type: ignore[arg-type]
    "select": lambda names: ug.check(MODEL, X, select=names),  # type: ignore[arg-type]
    "ignore": lambda names: ug.check(MODEL, X, ignore=names),  # type: ignore[arg-type]
    "only": lambda names: ug.fix(MODEL, X, only=names),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("given", [7, [3]])
@pytest.mark.parametrize("argument", CALLS)
def test_no_names_are_an_input_error_that_names_the_argument(argument: str, given: object) -> None:
    with pytest.raises(ug.InputError) as error:
        CALLS[argument](given)
    assert str(error.value).startswith(argument)
    assert "a list of names, is right" in str(error.value)
