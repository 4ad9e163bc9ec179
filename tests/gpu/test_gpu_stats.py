"""The statistics of tensors on a GPU are those that float64 on the CPU gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from shared import no_waiting
from torch import Tensor

from unitgain import stats

RELU = stats.Range(dead=(-math.inf, 0.0))
TANH = stats.Range((-0.97, 0.97), dead=(-0.9995, 0.9995), dead_tails=True)
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-10, torch.float16: 1e-5, torch.bfloat16: 1e-5}


def reference(x: Tensor, axis: int | None) -> dict[str, float]:
    """Written out in float64 with numpy; moments leave out what is not finite."""
    values = x.detach().cpu().double().numpy()
    finite = values[np.isfinite(values)]
    if not finite.size:
        return {"count": values.size, "nonfinite": 1.0 if values.size else math.nan}
    found = {
        "count": values.size, "mean": finite.mean(), "std": finite.std(), "rms": math.sqrt((finite**2).mean()),
        "min": finite.min(), "max": finite.max(), "absmax": np.abs(finite).max(),
        "nonfinite": 1 - finite.size / values.size,
    }  # fmt: skip
    if axis is not None and values.shape[axis] > 1 and finite.size == values.size:
        rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        found["sq_channel_mean"] = (rows.mean(1) ** 2).mean()
        found["channel_var"] = rows.var(1).mean()
    return {name: float(value) for name, value in found.items()}


def measured(x: Tensor, **how: object) -> dict[str, float]:
    partial = stats.summarize(x, **how)  # type: ignore[arg-type]
    return {name: float(values[0]) for name, values in stats.finish([partial]).items()}


def assert_right(x: Tensor, axis: int | None, tolerance: float = 1e-5) -> None:
    got, want = measured(x, channel_axis=axis), reference(x, axis)
    scale = want.get("absmax", 1.0) or 1.0
    for name, value in want.items():
        assert got[name] == pytest.approx(value, rel=tolerance, abs=tolerance * 1e-3 * scale, nan_ok=True), (
            name
        )


def layouts() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 8, 10, 12, generator=generator) * 3 + 1
    return {
        "plain": x,
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "transposed": x.transpose(1, 3),
        "strided": x[::2, :, 1::3],
        "expanded": x[:, :, :1, :1].expand(6, 8, 10, 12),
        "vector": x.flatten()[:1000],
        "matrix": x.reshape(48, 120),
        "number": x[0, 0, 0, 0],
        "one value": x[:1, :1, 0, 0],
    }


@pytest.mark.parametrize("dtype", list(ROUNDING), ids=str)
@pytest.mark.parametrize("layout", list(layouts()))
def test_moments_agree_for_every_layout_and_dtype(
    device: torch.device, layout: str, dtype: torch.dtype
) -> None:
    x = layouts()[layout].to(dtype)
    there = x.to(device)
    assert there.stride() == x.stride() or layout in ("strided", "expanded")
    for axis in {None, *range(min(x.dim(), 2))}:
        assert_right(there, axis, ROUNDING[dtype])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool], ids=str)
def test_integers_are_measured_exactly(device: torch.device, dtype: torch.dtype) -> None:
    x = torch.arange(300).reshape(3, 100).to(dtype)
    assert_right(x.to(device), None, 1e-12)


@pytest.mark.parametrize("sick", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_values_that_are_not_finite_are_counted_and_left_out(
    device: torch.device, dtype: torch.dtype, sick: float
) -> None:
    x = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[1, 2, 3] = x[0, 0, 0] = sick
    x[:, 4] = sick
    for axis in (None, 1):
        assert_right(x.to(device), axis)
    assert measured(torch.full((5,), sick, device=device, dtype=dtype))["nonfinite"] == 1


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4, 2)])
def test_empty_tensors_crash_nothing(device: torch.device, shape: tuple[int, ...]) -> None:
    got = measured(torch.empty(shape, device=device), channel_axis=1 if len(shape) > 1 else None)
    assert got["count"] == 0
    assert math.isnan(got["mean"])


def test_a_large_mean_does_not_swallow_a_small_std(device: torch.device) -> None:
    x = 1e3 + 1e-2 * torch.randn(8, 4, 64, generator=torch.Generator().manual_seed(0))
    assert_right(x.to(device), 1, 1e-4)


def test_millions_of_values_accumulate_without_drift(device: torch.device) -> None:
    x = torch.rand(3_000_000, generator=torch.Generator().manual_seed(0)) + 5
    assert_right(x.to(device), None, 1e-7 if device.type == "cuda" else 1e-5)


def test_squares_beyond_float32_stay_in_range(device: torch.device) -> None:
    for size in (1e-25, 1e25):
        assert_right((torch.randn(1000, generator=torch.Generator().manual_seed(0)) * size).to(device), None)


def test_units_cosine_spread_and_saturation_are_the_cpus(device: torch.device) -> None:
    x = torch.randn(16, 12, 6, 6, generator=torch.Generator().manual_seed(0))
    x[:, 3] = -1
    x[:, 5] = 4
    for function, values in ((RELU, x.relu()), (TANH, (x * 3).tanh())):
        for form in (torch.contiguous_format, torch.channels_last):
            y = values.contiguous(memory_format=form)
            how = {"channel_axis": 1, "batch_axis": 0, "function": function, "cosine": True, "spread": True}
            here, there = (stats.summarize(t, **how) for t in (y, y.to(device)))  # type: ignore[arg-type]
            assert here.alive is not None
            assert there.alive is not None
            assert torch.equal(here.alive, there.alive.cpu())
            want, got = stats.finish([here]), stats.finish([there])
            for name in ("zero", "saturated", "cosine", "spread", "std", "sq_channel_mean"):
                assert got[name][0] == pytest.approx(want[name][0], rel=1e-4, abs=1e-7, nan_ok=True), name


@pytest.mark.parametrize("size", [64, 1024])
def test_a_sample_is_taken_at_the_same_places(device: torch.device, size: int) -> None:
    for x in (torch.randn(100_003), torch.randn(8, 16, 9, 9).contiguous(memory_format=torch.channels_last)):
        assert torch.equal(stats.take_sample(x.to(device), size).cpu(), stats.take_sample(x, size))


def test_a_sample_on_another_stream_is_right_at_once(device: torch.device) -> None:
    """Indices that one stream had not finished making could be used by another."""
    x = torch.randn(777_777)
    there = x.to(device)
    if device.type == "cuda":
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            got = stats.take_sample(there, 512).cpu()
    else:
        got = stats.take_sample(there, 512)
    assert torch.equal(got, stats.take_sample(x, 512))
    assert torch.equal(stats.take_sample(there, 512).cpu(), got)


def test_summing_waits_for_nothing_and_fetching_keeps_every_type(device: torch.device) -> None:
    x = torch.randn(8, 16, 12, 12, device=device)
    how = {
        "channel_axis": 1,
        "batch_axis": 0,
        "function": RELU,
        "cosine": True,
        "spread": True,
        "sample": 256,
    }
    stats.summarize(x, **how)  # type: ignore[arg-type]
    if device.type == "cuda":
        torch.cuda.synchronize()
    with no_waiting():
        partial, other = (stats.summarize(x.relu() + i, **how) for i in range(2))  # type: ignore[arg-type]
        some, axis, batch = stats.take_examples(x, 1, 0, 1000, 3)
        third = stats.summarize(some, channel_axis=axis, batch_axis=batch, function=TANH)
        partial.merge(other)
        partial.merge(third)
    given = [holder[key] for holder, key in partial.places()]
    for mine, host in zip(given, stats.fetch(given)):
        assert host.device.type == "cpu"
        assert host.dtype == mine.dtype
        assert torch.equal(host, mine.cpu())
