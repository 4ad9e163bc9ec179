"""The plot of adaptive gradient clipping, from a record alone."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn

import unitgain as ug
from unitgain import InputError


def test_draws_what_was_clipped_from_the_saved_record(tmp_path) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    path = tmp_path / "run.sqlite"
    with ug.Probe(model, optimizer, to=path, every=1) as probe, ug.optim.AGC(optimizer, model, probe=probe):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(16, 4)).square().mean().backward()
            optimizer.step()
    record = ug.Record.load(path)
    figure = ug.plots.agc(record)
    above, below = figure.axes
    np.testing.assert_allclose(above.get_lines()[0].get_ydata(), 100 * record.metric("agc")[1])
    assert [t.get_text() for t in below.get_yticklabels()] == ["0.weight", "0.bias", "2.bias"]
    file = io.BytesIO()
    figure.savefig(file, dpi=40)
    assert file.tell() > 1000


def test_a_record_without_clipping_is_told() -> None:
    with pytest.raises(InputError, match=r"AGC\(optimizer, model, probe=probe\)"):
        ug.plots.agc(ug.Record())
