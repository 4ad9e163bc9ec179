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
from unitgain.record import ATOMS, LOG2_LOW, SIGNED_BINS, Histogram
from unitgain.record import HISTOGRAM_BINS as BINS


def plainly(values: np.ndarray) -> tuple[list[int], list[int], float, float, list[int]]:
    """(signed counts, atoms, low, high, log2 counts), one value after the other."""
    finite = [float(v) for v in values if np.isfinite(v)]
    inside = [v for v in finite if v not in ATOMS]
    log2 = [0] * BINS
    for v in finite:
        if v:
            log2[min(max(math.frexp(v)[1] - 1 - LOG2_LOW, 0), BINS - 1)] += 1
    exponents = sorted((max(math.frexp(v)[1], LOG2_LOW + 1) for v in inside), reverse=True)
    high = 2.0 ** exponents[len(inside) // 1000] if inside else 1.0
    low = -high if any(v < 0 for v in finite) else 0.0
    signed = [0] * SIGNED_BINS
    for v in inside:
        cell = math.floor(np.float32(v) * np.float32(SIGNED_BINS / (high - low))) + (
            SIGNED_BINS // 2 if low < 0 else 0
        )
        signed[min(max(cell, 0), SIGNED_BINS - 1)] += 1
    return signed, [finite.count(v) for v in ATOMS], low, high, log2


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(
        st.lists(
            st.floats(width=32)
            | st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e-45, 1.0, -1.0, 0.5, -2.0, 3e38]),
            max_size=30,
        ),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_counts_equal_plain_counting(drawn) -> None:
    counts = histograms([torch.tensor(values, dtype=torch.float32) for values in drawn])
    for i, values in enumerate(drawn):
        signed, atoms, low, high, log2 = plainly(np.array(values, dtype=np.float32))
        assert (counts.low[i], counts.high[i]) == (low, high)
        assert counts.atoms[i].tolist() == atoms
        assert counts.signed[i].tolist() == signed
        assert counts.log2[i].tolist() == log2


def test_a_few_outliers_do_not_squeeze_all_others_into_one_bin() -> None:
    torch.manual_seed(0)
    x = torch.randn(4000)
    x[7], x[1234], x[3000] = 1000.0, -5000.0, 700.0
    counts = histograms([x])
    assert counts.high[0] <= 8.0
    assert counts.signed[0].sum() == 4000, "outliers are counted in the open bins"
    assert np.count_nonzero(counts.signed[0]) > 50


def test_a_crash_is_not_cut_off() -> None:
    """The range was that of the first sample; 99% of the values of a later step may lie far beyond it."""
    before, after = torch.linspace(-1, 1, 100), 1e6 * torch.linspace(-1, 1, 100)
    counts = histograms([before, after])
    assert counts.high.tolist() == [1.0, 2.0**20]
    assert (counts.signed > 0).sum(axis=1).min() > 60


def test_bins_of_two_ranges_are_unions_of_each_other() -> None:
    """Rounding while one range is drawn on another would move values from bin to bin."""
    torch.manual_seed(0)
    x = torch.randn(5000)
    counts = histograms([x, torch.cat([x, 100 * torch.randn(5000)])])
    assert counts.high[1] > counts.high[0]
    found = [
        Histogram(
            0, "x", "signed", counts.low[i], counts.high[i], counts.signed[i], tuple(counts.atoms[i].tolist())
        )
        for i in (0, 1)
    ]
    coarse = found[1].edges
    assert found[0].onto(coarse).tolist() == np.histogram(x.numpy(), coarse)[0].tolist()


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
        rare = limit is not None and kind in ("parameter", "update")
        assert len(found) == 9 if not rare else len(found) in (2, 3), kind
        log2 = probe.record.histograms(kind, name, "log2")[0]
        assert [h.total for h in found] == [size] * len(found), kind
        if (kind, name) == ("activation", "1"):
            assert found[0].low == 0.0, "a ReLU has no negative value"
            assert found[0].atoms[1] > 0
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
    assert probe.record.histograms("activation", "1")[0].total == 18
    assert probe.record.value("activation", "1", "nonfinite") == pytest.approx(0.1)
    assert probe.record.value("activation", "1", "std") > 0
