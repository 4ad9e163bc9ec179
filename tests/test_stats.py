"""Every statistic against a plain float64 NumPy reference, over shapes, dtypes, memory layouts and sick values.

Tolerances. Sums are float32 sums of at most a few thousand values here, so they are right to about 1e-5 of the
mean square (for a variance, which is a difference of two such sums) or of the rms (for a mean). Where a variance
would drown in that (below 1/1000 of the mean square) the tensor is read again, hence the total variance is right
to 1% of itself too, however large the mean. Counting statistics, minima and maxima are exact.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unitgain import stats
from unitgain.probe.histogram import histograms
from unitgain.stats import Range, finish, summarize, take_sample
from unitgain.stats.reduce import layout, reduce, reduce_without_waiting

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.uint8, torch.bool)
QUICK = settings(max_examples=120, deadline=None, derandomize=True)


def one(x: Tensor, **options) -> dict[str, float]:
    return {name: float(values[0]) for name, values in finish([summarize(x, **options)]).items()}


def reference(x: Tensor, channel_axis: int | None = None) -> dict[str, float]:
    """The definitions of docs/reference/record.md, written down as plainly as possible."""
    a = x.detach().double().numpy()
    finite = np.isfinite(a)
    kept = a[finite]
    out = {"count": a.size, "nonfinite": 1 - kept.size / a.size if a.size else math.nan}
    if not kept.size:
        return out
    out |= {
        "mean": kept.mean(), "std": kept.std(), "rms": np.sqrt(np.mean(kept**2)), "min": kept.min(),
        "max": kept.max(), "absmax": np.abs(kept).max(),
    }  # fmt: skip
    if channel_axis is not None and a.ndim and a.shape[channel_axis] > 1:
        rows = np.ma.masked_array(a, ~finite)
        rows = np.moveaxis(rows, channel_axis, 0).reshape(a.shape[channel_axis], -1)
        out["sq_channel_mean"] = float((rows.mean(1) ** 2).mean())  # over the channels with a finite value
        out["channel_var"] = float(rows.var(1).mean())
    return out


def assert_agrees(x: Tensor, channel_axis: int | None = None) -> None:
    got, want = one(x, channel_axis=channel_axis), reference(x, channel_axis)
    assert got["count"] == want["count"]
    assert got["nonfinite"] == pytest.approx(want["nonfinite"], abs=1e-12, nan_ok=True)
    if "mean" not in want:
        assert all(math.isnan(v) for k, v in got.items() if k not in ("count", "nonfinite")), got
        return
    rms, square = want["rms"], want["rms"] ** 2
    assert (got["min"], got["max"], got["absmax"]) == (want["min"], want["max"], want["absmax"])
    assert got["mean"] == pytest.approx(want["mean"], abs=1e-5 * rms)
    assert got["rms"] == pytest.approx(rms, rel=1e-5)
    assert got["std"] ** 2 == pytest.approx(want["std"] ** 2, rel=1e-2, abs=1e-13 * square)
    for name in ("sq_channel_mean", "channel_var"):
        if name in want:
            assert got[name] == pytest.approx(want[name], rel=1e-5, abs=2e-5 * square), name
        else:
            assert math.isnan(got[name]), name


SICK = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@st.composite
def tensors(draw, dtypes=FLOATS, max_rank: int = 5):
    """(tensor, channel axis): of any rank, magnitude, layout and health."""
    rank = draw(st.integers(0, max_rank))
    shape = [draw(st.integers(0 if draw(st.integers(0, 15)) == 0 else 1, 7)) for _ in range(rank)]
    dtype = draw(st.sampled_from(dtypes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if not dtype.is_floating_point:
        high = 2 if dtype == torch.bool else 100
        x = torch.from_numpy(np.asarray(rng.integers(0, high, shape))).to(dtype)
    else:
        wide = dtype not in (torch.float16,)
        scale = draw(st.sampled_from([1.0, 1e-3, 1e30, 1e-30, 0.0] if wide else [1.0, 1e-3, 30.0, 0.0]))
        mean = draw(st.sampled_from([0.0, 1.0, -30.0, 1e3])) * (scale or 1.0)
        x = torch.from_numpy(np.asarray(rng.standard_normal(shape) * scale + mean)).to(dtype)
        for kind in draw(st.sets(st.sampled_from(sorted(SICK)), max_size=2)) if draw(st.booleans()) else ():
            x = torch.where(
                torch.from_numpy(np.asarray(rng.random(shape) < 0.2)),
                torch.tensor(SICK[kind], dtype=dtype),
                x,
            )
    layout = draw(st.sampled_from(["plain", "transposed", "strided", "offset", "expanded", "channels_last"]))
    if layout == "transposed" and rank > 1:
        x = x.permute(*draw(st.permutations(range(rank))))
    elif layout == "strided" and rank:
        x = torch.cat([x, x], -1)[..., ::2]
    elif layout == "offset" and rank:
        x = torch.cat([x[:1] + 1 if x.dtype != torch.bool else x[:1], x])[1:]
    elif layout == "expanded":
        x = x.unsqueeze(0).expand(3, *x.shape)
    elif layout == "channels_last" and rank == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    axis = draw(st.one_of(st.none(), st.integers(0, x.dim() - 1))) if x.dim() else None
    return x, axis


@QUICK
@given(tensors())
def test_moments_agree_with_float64_for_every_layout_dtype_and_sickness(drawn) -> None:
    assert_agrees(*drawn)


@settings(QUICK, max_examples=30)
@given(tensors(dtypes=INTEGERS))
def test_integers_and_masks_are_measured_exactly(drawn) -> None:
    assert_agrees(*drawn)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_large_mean_does_not_swallow_a_small_std(dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(64, 50, generator=generator) * 0.5 + 1000).to(dtype)
    assert_agrees(x, 1)
    assert one(x)["std"] == pytest.approx(float(x.double().std(correction=0)), rel=1e-4)


def test_large_mean_with_nan_keeps_the_small_std() -> None:
    x = torch.randn(64, 50, generator=torch.Generator().manual_seed(0)) * 0.5 + 1000
    x[3, 4] = math.nan
    assert_agrees(x, 1)


@pytest.mark.parametrize("value", [0.1, 0.0, -3e20, 7e-25, 1.0])
def test_a_constant_tensor_has_no_std(value: float) -> None:
    got = one(torch.full((40, 30), value), channel_axis=1)
    assert got["std"] <= 1e-9 * abs(value)
    assert got["mean"] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 5)])
def test_empty_tensors_count_nothing_and_crash_nothing(shape) -> None:
    for axis in (None, *range(len(shape))):
        empty, full = (
            summarize(torch.empty(shape), channel_axis=axis),
            summarize(torch.ones(2, 3), channel_axis=1),
        )
        for order in ([empty, full], [full, empty]):
            out = finish(order)
            assert sorted(out["count"]) == [0, 6]
            assert np.nansum(out["mean"]) == 1


def test_millions_of_values_accumulate_without_drift() -> None:
    """float32 sums of squares over 4 million values: an accumulator that never splits would be off by percents."""
    x = torch.randn(1 << 22, generator=torch.Generator().manual_seed(0)) + 0.5
    for shape, axis in (((-1,), None), ((-1, 64), 1), ((64, 16, 64, 64), 1)):
        y = x.reshape(shape)
        got = one(y, channel_axis=axis)
        assert got["std"] == pytest.approx(float(x.double().std()), rel=1e-4)
        assert got["mean"] == pytest.approx(float(x.double().mean()), rel=1e-4)


def test_complex_sparse_and_half_tensors_are_measured_by_value() -> None:
    z = torch.tensor([3 + 4j, 0j])
    assert one(z)["absmax"] == 5
    dense = torch.tensor([[0.0, 2.0], [0.0, 4.0]])
    assert one(dense.to_sparse())["mean"] == 3  # stored values only


def test_no_reference_to_the_tensor_is_kept() -> None:
    import gc
    import weakref

    for shape, sample in (((4, 3), 2048), ((40, 30, 30), 256)):
        x = torch.randn(shape)
        storage = weakref.ref(x.untyped_storage())
        kept = summarize(
            x, channel_axis=1, batch_axis=0, cosine=True, sample=sample, function=Range(dead=(-math.inf, 0))
        )
        tensors_kept = [kept.total, kept.squares, kept.high, kept.low, kept.alive, kept.sample]
        assert all(t.untyped_storage().data_ptr() != x.untyped_storage().data_ptr() for t in tensors_kept)
        del x
        gc.collect()
        assert storage() is None


def test_measuring_changes_neither_the_tensor_nor_its_graph() -> None:
    x = torch.randn(8, 5, requires_grad=True) * 2
    before, version = x.detach().clone(), x._version
    summarize(
        x,
        channel_axis=1,
        batch_axis=0,
        cosine=True,
        sample=16,
        function=Range((-1, 1), dead=(-1, 1), dead_tails=True),
    )
    assert torch.equal(x, before)
    assert x._version == version


# ---- likeness of examples -----------------------------------------------------------------------------------


def likeness(x: Tensor, axis: int) -> tuple[float, float]:
    """(cosine, spread) with explicit loops over pairs."""
    rows = x.double().movedim(axis, 0).reshape(x.shape[axis], -1).numpy()
    scale = np.abs(rows).max() or 1.0
    rows = rows / scale
    norms = np.linalg.norm(rows, axis=1)
    pairs = [
        rows[i] @ rows[j] / (norms[i] * norms[j])
        for i in range(len(rows)) for j in range(len(rows)) if i != j and norms[i] > 0 and norms[j] > 0
    ]  # fmt: skip
    square = np.mean(rows**2)
    spread = np.sqrt(np.mean((rows - rows.mean(0)) ** 2) / square) if square > 0 else 0.0
    return (float(np.mean(pairs)) if pairs else math.nan), float(spread)


@settings(QUICK, max_examples=60)
@given(
    st.integers(2, 8), st.integers(1, 40), st.sampled_from([0.0, 1.0, 100.0]),
    st.sampled_from([1.0, 1e30, 1e-30, 0.0]), st.integers(0, 2), st.integers(0, 9999),
)  # fmt: skip
def test_cosine_and_spread_equal_the_mean_over_explicit_pairs(
    examples, features, shared, scale, dead, seed
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, features, generator=generator) + shared * torch.randn(
        features, generator=generator
    )
    x[:dead] = 0
    x = x * scale
    for axis, y in ((0, x), (1, x.T)):
        got, (cosine, spread) = one(y, batch_axis=axis, cosine=True, spread=True), likeness(y, axis)
        assert got["cosine"] == pytest.approx(cosine, abs=2e-5, nan_ok=True)
        assert got["spread"] == pytest.approx(spread, rel=1e-5, abs=1e-7)


def test_spread_of_identical_examples_is_zero_and_of_nearly_identical_ones_is_seen() -> None:
    row = torch.randn(1, 300)
    assert one(row.expand(16, 300), batch_axis=0, cosine=True, spread=True)["spread"] < 1e-12
    near = row.repeat(16, 1).double() * (1 + 1e-9 * torch.randn(16, 1).double())
    assert 1e-10 < one(near, batch_axis=0, cosine=True, spread=True)["spread"] < 1e-8


def test_spread_of_large_tensors_is_close_to_the_exact_one() -> None:
    x = torch.randn(128, 16, 9, 9, generator=torch.Generator().manual_seed(0)) + torch.randn(
        16, 9, 9, generator=torch.Generator().manual_seed(1)
    )
    assert one(x, batch_axis=0, cosine=True, spread=True)["spread"] == pytest.approx(
        likeness(x, 0)[1], rel=0.1
    )


# ---- functions ----------------------------------------------------------------------------------------------


@settings(QUICK, max_examples=60)
@given(tensors(dtypes=(torch.float32, torch.bfloat16)))
def test_zeros_are_counted_exactly_for_outputs_of_functions(drawn) -> None:
    x, axis = drawn
    x = torch.relu(x)
    if x.numel():
        got = one(x, channel_axis=axis, function=Range(dead=(-math.inf, 0.0)))
        zeros = int((x == 0).sum()) / x.numel()
        assert math.isnan(got["zero"]) if not torch.isfinite(x).any() else got["zero"] == pytest.approx(zeros)


def test_saturated_is_the_share_beyond_the_tails() -> None:
    x = torch.tanh(torch.randn(500, 20, generator=torch.Generator().manual_seed(0)) * 2)
    soft = Range((-0.97, 0.97), dead=(-0.9995, 0.9995), dead_tails=True)
    assert one(x, function=soft)["saturated"] == pytest.approx(float((x.abs() > 0.97).double().mean()))
    hard = Range((-1.0, 1.0), at_bound=True, dead=(-1, 1), dead_tails=True)
    assert one(x.mul(1.5).clamp(-1, 1), function=hard)["saturated"] == pytest.approx(
        float((x.mul(1.5).abs() >= 1).double().mean())
    )
    one_sided = Range((None, 6.0), at_bound=True, dead=(0.0, 0.0))
    y = torch.tensor([0.0, 0.0, 3.0, 6.0])
    assert one(y, function=one_sided)["saturated"] == 0.25  # the off state of a rectifier is not saturation


@pytest.mark.parametrize("axis", [1, -1])
def test_a_unit_is_alive_if_one_value_anywhere_is(axis: int) -> None:
    x = torch.zeros(6, 5, 4, 3) if axis == 1 else torch.zeros(6, 4, 5)
    unit = [slice(None)] * x.dim()
    unit[axis] = 2
    unit[0] = -1
    x[tuple(unit)] = 1e-3
    partial = summarize(x, channel_axis=axis % x.dim(), function=Range(dead=(-math.inf, 0.0)))
    assert partial.alive.tolist() == [False, False, True, False, False]


def test_dead_tails_means_every_value_in_a_flat_tail() -> None:
    flat = Range((-0.97, 0.97), dead=(-0.9995, 0.9995), dead_tails=True)
    x = torch.tensor([[1.0, -1.0, 0.9999], [-1.0, 0.5, 0.9999]])
    assert summarize(x, channel_axis=1, function=flat).alive.tolist() == [False, True, False]


def test_a_nan_does_not_make_a_live_unit_dead() -> None:
    flat = Range((-0.97, 0.97), dead=(-0.9995, 0.9995), dead_tails=True)
    x = torch.tensor([[0.1, 1.0], [math.nan, 1.0]])
    assert summarize(x, channel_axis=1, function=flat).alive.tolist() == [True, False]
    rectifier = Range(dead=(-math.inf, 0.0))
    y = torch.tensor([[0.1, 0.0], [math.nan, math.nan]])
    assert summarize(y, channel_axis=1, function=rectifier).alive.tolist() == [True, False]


# ---- merging ------------------------------------------------------------------------------------------------


@settings(QUICK, max_examples=80)
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=4), st.integers(1, 5), st.sampled_from([None, 1]),
    st.lists(st.sampled_from([0.0, 1000.0, -5.0]), min_size=4, max_size=4),
    st.lists(st.sampled_from([None, math.nan, math.inf]), min_size=4, max_size=4), st.integers(0, 9999),
)  # fmt: skip
def test_merged_parts_have_the_statistics_of_the_whole(sizes, channels, axis, means, sick, seed) -> None:
    """Gradient accumulation: micro-batches with other means, other sizes and other non-finite values."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for size, mean, bad in zip(sizes, means, sick):
        part = torch.randn(size, channels, 3, generator=generator) * 0.5 + mean
        if bad is not None:
            part[0, 0, 0] = bad
        parts.append(part)
    rectifier = Range((None, 900.0), dead=(-math.inf, 0.0))
    merged = summarize(parts[0], channel_axis=axis, function=rectifier)
    for part in parts[1:]:
        merged.merge(summarize(part, channel_axis=axis, function=rectifier))
    whole = torch.cat(parts)
    got = {name: float(v[0]) for name, v in finish([merged]).items()}
    exact = summarize(whole, channel_axis=axis, function=rectifier)
    want = {name: float(v[0]) for name, v in finish([exact]).items()}
    square = want["rms"] ** 2
    for name in ("count", "min", "max", "absmax", "nonfinite", "zero", "saturated"):
        assert got[name] == pytest.approx(want[name]), name
    for name in ("mean", "rms", "std"):
        assert got[name] == pytest.approx(want[name], rel=2e-3, abs=2e-6 * want["rms"]), name
    for name in ("sq_channel_mean", "channel_var"):
        assert got[name] == pytest.approx(want[name], rel=1e-4, abs=2e-5 * square, nan_ok=True), name
    assert (merged.alive is None) == (exact.alive is None)
    if exact.alive is not None:
        assert merged.alive.tolist() == exact.alive.tolist()


def test_parts_with_other_numbers_of_channels_still_add_up() -> None:
    """A module that gives another width on its second call: totals stay right, channel statistics are dropped."""
    a, b = torch.randn(4, 3) + 2000, torch.randn(5, 7)
    b[0, 0] = math.nan
    merged = summarize(a, channel_axis=1)
    merged.merge(summarize(b, channel_axis=1))
    got = {name: float(v[0]) for name, v in finish([merged]).items()}
    want = reference(torch.cat([a.flatten(), b.flatten()]))
    assert got["mean"] == pytest.approx(want["mean"], rel=1e-5)
    assert got["std"] == pytest.approx(want["std"], rel=1e-4)
    assert got["nonfinite"] == pytest.approx(want["nonfinite"])
    assert math.isnan(got["channel_var"])


def test_merging_an_empty_part_changes_nothing() -> None:
    x = torch.randn(4, 3)
    for first, second in ((x, x[:0]), (x[:0], x)):
        merged = summarize(first, channel_axis=1)
        merged.merge(summarize(second, channel_axis=1))
        got = {name: float(v[0]) for name, v in finish([merged]).items()}
        assert got["std"] == pytest.approx(reference(x)["std"], rel=1e-5)
        assert got["channel_var"] == pytest.approx(reference(x, 1)["channel_var"], rel=1e-5)


# ---- samples ------------------------------------------------------------------------------------------------


@QUICK
@given(st.integers(1, 60_000), st.integers(1, 4096), st.integers(0, 3))
def test_samples_stay_inside_and_cover_the_tensor_evenly(count: int, size: int, offset: int) -> None:
    memory = torch.arange(-offset, count + 5)
    x = memory[offset : offset + count]
    got = take_sample(x, size)
    assert 0 <= int(got.min()) <= int(got.max()) < count
    if count <= max(size, stats.RUN):
        assert torch.equal(got, x)
        return
    runs = got.reshape(-1, stats.RUN)
    assert torch.equal(runs, runs[:, :1] + torch.arange(stats.RUN)), "runs are contiguous"
    assert len(runs) == min(max(size // stats.RUN, 2), count // stats.RUN)
    stretch = count / len(runs)
    gaps = torch.diff(torch.cat([torch.tensor([0]), runs[:, 0], torch.tensor([count])]))
    assert int(gaps.max()) <= 2 * stretch + 2 * stats.RUN, "a part of the tensor is never looked at"
    assert int(gaps[1:-1].min() if len(gaps) > 2 else 16) >= stats.RUN, "values are counted twice"


@pytest.mark.parametrize(
    "shape", [(512, 27), (512, 65), (3000, 35), (331, 101), (64, 64, 8, 8), (32, 48, 7, 7), (50, 27, 16)]
)
@pytest.mark.parametrize("size", [2048, 16_384])
def test_samples_see_every_channel(shape, size: int) -> None:
    """A distance between runs near a multiple of the channels' period would see the same few channels for ever."""
    channels = torch.arange(shape[1]).view(-1, *[1] * (len(shape) - 2)).expand(shape).contiguous()
    for x in (
        channels,
        channels.contiguous(memory_format=torch.channels_last) if channels.dim() == 4 else channels,
    ):
        shares = torch.bincount(take_sample(x, size), minlength=shape[1]).double()
        shares = shares / shares.mean()
        assert shares.min() > 0.2
        assert shares.max() < 3


@QUICK
@given(tensors(dtypes=(torch.float32, torch.int64)), st.sampled_from([1, 16, 100]))
def test_every_sampled_value_is_a_value_of_the_tensor(drawn, size: int) -> None:
    x, _ = drawn
    known = {repr(v) for v in x.flatten().tolist()}
    assert {repr(v) for v in take_sample(x, size).tolist()} <= known


def test_a_sample_is_a_copy() -> None:
    x = torch.zeros(10)
    sample = take_sample(x, 100)
    x.fill_(1)
    assert sample.sum() == 0


def test_finish_of_nothing_is_nothing() -> None:
    assert finish([]) == {}


def test_many_partials_at_once_equal_one_at_a_time() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(4, c, 2, generator=generator) + c for c in (1, 3, 8)] + [
        torch.tensor(2.0),
        torch.full((2, 2), math.nan),
    ]
    parts = [summarize(x, channel_axis=1 if x.dim() > 1 else None) for x in drawn]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = finish(parts)
    for i, x in enumerate(drawn):
        alone = one(x, channel_axis=1 if x.dim() > 1 else None)
        for name, values in together.items():
            assert values[i] == pytest.approx(alone[name], nan_ok=True), (i, name)


# ---- accelerators, simulated -------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_channel_without_a_finite_value_is_not_called_dead(bad: float) -> None:
    x = torch.randn(8, 3).relu()
    x[:, 1] = bad
    x[:, 2] = 0
    relu = stats.Range(dead=(-math.inf, 0.0))
    assert stats.summarize(x, channel_axis=1, function=relu).alive.tolist() == [True, True, False]


def test_an_accelerator_gives_the_extremes_of_the_finite_values_only() -> None:
    """Values that are not finite counted as zeros: a channel of NaN was dead, and the minimum of positives was 0."""
    x = torch.rand(8, 3, 4) + 1
    x[0, 0, 0] = math.nan
    x[:, 1] = math.inf
    m = layout(x, 1)
    there, here = reduce_without_waiting(m), reduce(m)
    assert torch.equal(there.high, here.high.float())
    assert torch.equal(there.low, here.low.float())
    assert there.low[1] > there.high[1], "no finite value: tells nothing"
    for name, value in stats.finish([here]).items():
        if name not in ("sq_channel_mean", "channel_var"):  # exact only where one may wait
            assert stats.finish([there])[name][0] == pytest.approx(value[0], rel=1e-6, nan_ok=True), name


class Elsewhere(torch.Tensor):
    """A tensor that says it lies on another device, and refuses to be joined with what lies elsewhere."""

    where: torch.device = torch.device("cuda", 1)  # type: ignore[assignment]

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.cat:
            assert all(isinstance(t, cls) for t in args[0]), "tensors of several devices in one call"
        out = super().__torch_function__(func, types, args, kwargs or {})
        if func is torch.Tensor.cpu:
            return out.as_subclass(torch.Tensor)
        return out

    @property
    def device(self):
        return self.where


def test_tensors_of_a_model_that_lies_on_several_devices_are_joined_device_by_device() -> None:
    here = [torch.randn(3, 4) for _ in range(5)]
    spread = [t.as_subclass(Elsewhere) if i % 2 else t for i, t in enumerate(here)]
    assert torch.equal(stats.to_host(spread), stats.to_host(here))
    want, got = stats.flat_numbers(here), stats.flat_numbers(spread)
    for name, values in want.items():
        assert np.array_equal(values, got[name], equal_nan=True), name
    mine, theirs = histograms(here), histograms(spread)
    assert all(np.array_equal(a, b) for a, b in zip(vars(mine).values(), vars(theirs).values()))


def test_joining_does_not_alias_the_tensors() -> None:
    x = torch.zeros(3)
    stats.to_host([x]).add_(1)
    assert x.sum() == 0


def _shapes_and_arguments() -> list[tuple[Tensor, dict]]:
    """Several of each layout, activation function and sickness, so that some are reduced together and some are not."""
    torch.manual_seed(0)
    found: list[tuple[Tensor, dict]] = []
    for number in range(20):
        tokens = {"channel_axis": 2, "batch_axis": 0, "cosine": number % 3 == 0, "sample": 64}
        found.append((torch.randn(2, 16, 24) * 10.0 ** (number - 10), tokens))
        images = {"channel_axis": 0, "batch_axis": 1, "sample": 64, "function": Range(dead=(-math.inf, 0.0))}
        found.append((torch.randn(6, 4, 9).sub(1.5).relu(), images))
        rows = {
            "channel_axis": 1,
            "batch_axis": 0,
            "function": Range(saturated=(-0.9, 0.9)),
            "count_zeros": False,
        }
        found.append((torch.randn(32, 8).tanh(), rows))
        found.append((torch.randn(5, 7, dtype=torch.float64), {"sample": 64}))
    found += [
        (torch.randn(2, 16, 24) + 1e4, {"channel_axis": 2}),  # squares cancel
        (torch.full((2, 16, 24), math.nan), {"channel_axis": 2}),
        (torch.randn(2, 16, 24) * 1e30, {"channel_axis": 2}),
        (torch.zeros(2, 16, 24), {"channel_axis": 2}),
        (torch.empty(0, 3), {"channel_axis": 1}),
        (torch.tensor(2.0), {}),
        (torch.randn(2, 16, 24).transpose(1, 2), {"channel_axis": 1}),
        (torch.randn(16, 24).to_sparse(), {}),
        (torch.randint(5, (8, 3)), {"channel_axis": 1}),
    ]
    return found


def test_many_tensors_reduced_together_give_the_numbers_of_one_at_a_time() -> None:
    given = _shapes_and_arguments()
    together, alone = stats.summarize_many(given), [summarize(tensor, **how) for tensor, how in given]
    ours, theirs = finish(together), finish(alone)
    for name, values in theirs.items():
        about = np.nan_to_num(theirs["rms"]) if name == "mean" else np.where(name == "cosine", 1.0, 0.0)
        nearly = np.abs(ours[name] - values) <= 1e-4 * np.abs(values) + 1e-5 * about
        same = np.isnan(ours[name]) & np.isnan(values) | (ours[name] == values)
        assert (nearly | same).all(), f"{name}: {ours[name]} and {values}"
    for one, other in zip(together, alone):
        assert (one.alive is None) == (other.alive is None)
        assert one.alive is None or other.alive is None or torch.equal(one.alive, other.alive)
        assert (one.sample is None) == (other.sample is None)
        assert one.sample is None or other.sample is None or torch.equal(one.sample, other.sample)
