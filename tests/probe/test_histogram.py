"""Histograms count every value of a sample once, in the bin whose edges enclose it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unitgain import Probe
from unitgain.probe.histogram import histograms, underflow
from unitgain.record import HISTOGRAM_BINS as BINS
from unitgain.record import LOG2_LOW


def plainly(values: np.ndarray, top: float) -> tuple[np.ndarray, np.ndarray]:
    linear, log2 = np.zeros(BINS, int), np.zeros(BINS, int)
    for value in np.abs(values[np.isfinite(values)]):
        linear[int(min(np.float32(value) * np.float32(BINS / top), BINS - 1))] += 1
        if value > 0:
            log2[min(max(math.frexp(float(value))[1] - 1 - LOG2_LOW, 0), BINS - 1)] += 1
    return linear, log2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(width=32) | st.sampled_from([0.0, math.nan, math.inf, 1e-45, 1.0]), max_size=30),
            st.sampled_from([1.0, 1e-30, 1e30, 2.5]),
        ),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_counts_equal_plain_counting(drawn) -> None:
    samples = [torch.tensor(values, dtype=torch.float32) for values, _ in drawn]
    linear, log2 = histograms(samples, [top for _, top in drawn])
    with np.errstate(over="ignore"):
        for i, (values, top) in enumerate(drawn):
            want = plainly(np.array(values, dtype=np.float32), top)
            assert linear[i].tolist() == want[0].tolist()
            assert log2[i].tolist() == want[1].tolist()


def test_underflow_is_the_share_of_subnormal_magnitudes() -> None:
    tiny = torch.finfo(torch.float16).smallest_normal
    x = torch.tensor([0.0, tiny, -tiny / 2, tiny / 4, 1.0])
    assert underflow(x, tiny) == 0.5
    assert math.isnan(underflow(torch.zeros(3), tiny))


@pytest.mark.parametrize("limit", [None, 65_536])
def test_a_recorded_histogram_holds_all_values_of_a_small_tensor(limit) -> None:
    model = nn.Sequential(nn.Linear(10, 12), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Probe(model, optimizer, limit=limit, strict=True, every=1) as probe:
        for _ in range(9):  # with a limit, those of parameters come at every 8th sampled step
            out = model(torch.randn(20, 10))
            out.square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    for kind, size in (("activation", 240), ("gradient", 240), ("parameter", 120), ("update", 120)):
        name = {"activation": "1", "gradient": "1"}.get(kind, "0.weight")
        found = probe.record.histograms(kind, name)
        linear, later = found[0], found[-1]
        rare = limit is not None and kind in ("parameter", "update")
        assert len(found) == 9 if not rare else len(found) in (2, 3), kind
        log2 = probe.record.histograms(kind, name, "log2")[0]
        assert linear.counts.sum() == size, kind
        assert (linear.low, linear.high) == (later.low, later.high), "the range is set by the first sample"
        zero = probe.record.value(kind, name, "zero")
        assert zero == pytest.approx(1 - log2.counts.sum() / size)
    relu = probe.record.value("activation", "1", "zero", 8)
    assert relu == pytest.approx(float((out == 0).float().mean()))


def test_a_histogram_survives_values_that_are_not_finite() -> None:
    class Sick(nn.Module):
        def forward(self, x):
            y = x.clone()
            y[0, 0], y[1, 1] = math.nan, math.inf
            return y

    model = nn.Sequential(nn.Linear(4, 4), Sick(), nn.ReLU())
    with Probe(model, strict=True, every=1) as probe:
        model(torch.randn(5, 4)).nansum().backward()
    assert probe.record.histograms("activation", "1")[0].counts.sum() == 18
    assert probe.record.value("activation", "1", "nonfinite") == pytest.approx(0.1)
    assert probe.record.value("activation", "1", "std") > 0
