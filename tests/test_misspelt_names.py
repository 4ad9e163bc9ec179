"""A misspelt name of a site, parameter, module or kind is told, and what was probably meant; it is never ignored."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import unitgain as ug


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh()).append(nn.Linear(8, 3))


def test_every_place_that_takes_names(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    record = ug.check(model, torch.randn(8, 4)).record
    for misspelt, meant in (
        (lambda: record.site("activaton", "1"), "activation"),
        (lambda: ug.init_(model, batch=torch.randn(8, 4), only="2.wieght"), "there are"),
        (lambda: ug.remedies.hold_parameters_(model, optimizer, only=["2.wieght"]), "2.weight"),
        (lambda: ug.optim.AGC(optimizer, model=model, exclude=["2.wieght"]), "2.weight"),
        (lambda: ug.optim.param_groups(model, no_decay="2.wieght"), "2.weight"),
        (lambda: ug.theory.gain("rleu"), "relu"),
    ):
        with pytest.raises(ug.InputError, match=meant):
            misspelt()


def test_a_probe_says_which_of_its_names_nothing_had(model: nn.Module) -> None:
    """exclude= of a misspelt name measured what it should leave out, without a word; a single name was taken apart
    into letters."""
    for given in ({"exclude": ["2.wieght", "*.lora"]}, {"include": "2.wieght"}):
        probe = ug.Probe(model, torch.optim.SGD(model.parameters(), lr=0.1), every=1, **given).start()
        model(torch.randn(8, 4)).sum().backward()
        with pytest.warns(UserWarning, match=r"no site or parameter '2\.wieght'; did you mean '2\.weight'"):
            probe.stop()
    probe = ug.Probe(model, every=1, include="1")
    with probe:
        model(torch.randn(8, 4)).sum().backward()
    assert {site.name for site in probe.record.sites()} == {"1"}
