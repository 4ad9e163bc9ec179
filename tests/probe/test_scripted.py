"""Scripted modules refuse hooks; a model with one was not measured at all."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import unitgain as ug

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def test_a_scripted_part_is_passed_over_and_the_rest_is_measured() -> None:
    model = nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Linear(4, 4)), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ug.Probe(model, optimizer, strict=True, every=1) as probe:
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    assert [site.name for site in probe.record.sites("activation")] == ["0", "2"]
    assert "1.weight" in {site.name for site in probe.record.sites("update")}


def test_a_model_scripted_as_a_whole_is_refused_by_name() -> None:
    with pytest.raises(ug.InputError, match="scripted"):
        ug.Probe(torch.jit.script(nn.Linear(2, 2)), every=1)
