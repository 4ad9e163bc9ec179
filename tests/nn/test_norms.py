"""Norms against torch's: outputs, gradients, buffers and state dicts, over drawn shapes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError
from unitgain.graph import subtracts_mean

TORCH_BATCH = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
TORCH_INSTANCE = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
PRECISION = {torch.float32: 1e-6, torch.float64: 1e-13}


def twins(ours: nn.Module, theirs: nn.Module, dtype: torch.dtype, seed: int) -> None:
    """Same keys, and the same random gains, biases and buffers in both."""
    generator = torch.Generator().manual_seed(seed)
    for norm in (ours, theirs):
        norm.to(dtype)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    drawn = {
        k: torch.rand(v.shape, generator=generator).to(v.dtype) + 0.5 if v.is_floating_point() else v
        for k, v in theirs.state_dict().items()
    }
    ours.load_state_dict(drawn)
    theirs.load_state_dict(drawn)


def close(ours: Tensor, theirs: Tensor, exact: Tensor, scale: float, what: str) -> None:
    """Within the precision of the largest number; or, where few and similar values make the problem itself
    ill-conditioned, about as near to the float64 result as torch's."""
    assert ours.dtype == theirs.dtype
    tolerance = PRECISION[ours.dtype] * max(scale, theirs.abs().max().item())
    tolerance = max(tolerance, 4 * (theirs - exact).abs().max().item())
    difference = (ours - theirs).abs().max().item()
    assert difference <= tolerance, f"{what}: {difference:.2e} > {tolerance:.2e}"


def compare(
    make: Callable[[], tuple[nn.Module, nn.Module]],
    shapes: list[tuple[int, ...]],
    seed: int,
    dtype: torch.dtype,
) -> None:
    """Two training steps with different batches, then eval mode: outputs, all gradients and buffers."""
    ours, theirs = make()
    twins(ours, theirs, dtype, seed)
    norms = (ours, theirs, copy.deepcopy(theirs).double())
    generator = torch.Generator().manual_seed(seed + 1)
    for step, shape in enumerate(shapes):
        x = torch.randn(shape, generator=generator, dtype=dtype) * 2 + 1
        cotangent = torch.randn(shape, generator=generator, dtype=dtype)
        results = []
        for norm in norms:
            norm.train(step < len(shapes) - 1)
            norm.zero_grad()
            inputs = x.to(dtype if norm is not norms[2] else torch.float64, copy=True).requires_grad_()
            outputs = norm(inputs)
            outputs.backward(cotangent.to(outputs.dtype))
            results.append({n: p.grad for n, p in norm.named_parameters()})
            results[-1].update(norm.named_buffers(), output=outputs.detach(), input_gradient=inputs.grad)
        for name, expected in results[1].items():
            if expected.is_floating_point():
                # a parameter's gradient sums over all values
                scale = cotangent.numel() ** 0.5 if name in ("weight", "bias") else 1.0
                close(results[0][name], expected, results[2][name], scale, name)
            else:
                assert torch.equal(results[0][name], expected), name


sizes = st.integers(1, 5)
dtypes = st.sampled_from([torch.float32, torch.float64])


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(4, 9), c=sizes, positions=st.lists(sizes, max_size=3), seed=st.integers(0, 999), dtype=dtypes,
    momentum=st.sampled_from([0.1, 0.7, None]), affine=st.booleans(), track=st.booleans(),
    eps=st.sampled_from([1e-5, 1e-2]),
)  # fmt: skip
def test_batchnorm_is_torchs(n, c, positions, seed, dtype, momentum, affine, track, eps) -> None:
    arguments = {"eps": eps, "momentum": momentum, "affine": affine, "track_running_stats": track}
    compare(
        lambda: (ug.nn.BatchNorm(c, **arguments), TORCH_BATCH[len(positions)](c, **arguments)),
        [(n, c, *positions), (n + 3, c, *positions), (n, c, *positions)],
        seed,
        dtype,
    )


@settings(max_examples=60, deadline=None)
@given(
    n=sizes, c=sizes, positions=st.lists(st.integers(2, 5), min_size=1, max_size=3), seed=st.integers(0, 999),
    dtype=dtypes, affine=st.booleans(), track=st.booleans(),
)  # fmt: skip
def test_instancenorm_is_torchs(n, c, positions, seed, dtype, affine, track) -> None:
    positions = [4, *positions[1:]]
    arguments = {"affine": affine, "track_running_stats": track}
    compare(
        lambda: (ug.nn.InstanceNorm(c, **arguments), TORCH_INSTANCE[len(positions)](c, **arguments)),
        [(n, c, *positions), (n + 1, c, *positions), (n, c, *positions)],
        seed,
        dtype,
    )


@settings(max_examples=60, deadline=None)
@given(
    n=sizes, groups=sizes, per_group=st.integers(4, 6), positions=st.lists(sizes, max_size=3),
    seed=st.integers(0, 999), dtype=dtypes, affine=st.booleans(),
)  # fmt: skip
def test_groupnorm_is_torchs(n, groups, per_group, positions, seed, dtype, affine) -> None:
    c = groups * per_group
    compare(
        lambda: (ug.nn.GroupNorm(groups, c, affine=affine), nn.GroupNorm(groups, c, affine=affine)),
        [(n, c, *positions)] * 2,
        seed,
        dtype,
    )


@settings(max_examples=60, deadline=None)
@given(
    before=st.lists(sizes, max_size=3), shape=st.lists(st.integers(2, 6), min_size=1, max_size=3),
    seed=st.integers(0, 999), dtype=dtypes, affine=st.booleans(), bias=st.booleans(), as_int=st.booleans(),
)  # fmt: skip
def test_layernorm_is_torchs(before, shape, seed, dtype, affine, bias, as_int) -> None:
    shape = [4, *shape[1:]]
    given_shape = shape[0] if as_int and len(shape) == 1 else shape
    arguments = {"elementwise_affine": affine, "bias": bias}
    compare(
        lambda: (ug.nn.LayerNorm(given_shape, **arguments), nn.LayerNorm(given_shape, **arguments)),
        [(*before, *shape)] * 2,
        seed,
        dtype,
    )


@settings(max_examples=20, deadline=None)
@given(n=sizes, c=st.integers(2, 5), size=st.integers(2, 6), seed=st.integers(0, 999))
def test_whole_layer_norm_is_a_layer_norm_with_one_gain_and_one_bias(n, c, size, seed) -> None:
    x = torch.randn(
        n,
        c,
        size,
        size,
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
        requires_grad=True,
    )
    norm = ug.nn.WholeLayerNorm().double()
    with torch.no_grad():
        norm.weight.fill_(1.5)
        norm.bias.fill_(-0.5)
    expected = 1.5 * torch.nn.functional.layer_norm(x, x.shape[1:]) - 0.5
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(norm(x).pow(3).sum(), x),
        torch.autograd.grad(expected.pow(3).sum(), x),
        rtol=1e-9,
        atol=1e-9,
    )
    assert [p.shape for p in norm.parameters()] == [(), ()]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_keeps_its_dtype_and_is_summed_in_float32(dtype: torch.dtype) -> None:
    x = (torch.randn(4096, 2, generator=torch.Generator().manual_seed(0)) + 8).to(dtype)
    for ours, theirs in (
        (ug.nn.BatchNorm(2), nn.BatchNorm1d(2)),
        (ug.nn.GroupNorm(1, 2).to(dtype), nn.GroupNorm(1, 2).to(dtype)),
    ):
        got, expected = ours(x), theirs(x)
        assert got.dtype == dtype
        torch.testing.assert_close(got, expected, atol=2e-2, rtol=1e-2)
        for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
            torch.testing.assert_close(a, b)


def test_a_large_mean_does_not_cancel() -> None:
    x = torch.randn(512, 3, generator=torch.Generator().manual_seed(0)) + 1e4
    exact = nn.BatchNorm1d(3).double()(x.double()).float()
    torch.testing.assert_close(ug.nn.BatchNorm(3)(x), exact, atol=2e-3, rtol=0)


def test_second_derivatives_exist() -> None:
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(ug.nn.BatchNorm(3).double(), (x,))


def test_channels_last_images_are_normalized_alike() -> None:
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    for norm in (ug.nn.BatchNorm(4), ug.nn.GroupNorm(2, 4), ug.nn.InstanceNorm(4), ug.nn.WholeLayerNorm()):
        y = norm(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(y, norm(x))
        assert y.is_contiguous(memory_format=torch.channels_last), f"{norm}: the memory format was lost"


def test_an_empty_batch_passes_through_as_through_torchs() -> None:
    for norm in (
        ug.nn.GroupNorm(2, 4),
        ug.nn.LayerNorm(5),
        ug.nn.BatchNorm(4).eval(),
        ug.nn.InstanceNorm(4).eval(),
    ):
        assert norm(torch.zeros(0, 4, 5)).shape == (0, 4, 5)


def test_weight_averaging_recomputes_the_statistics_of_our_batchnorm() -> None:
    """torch's update_bn finds norms by torch's base class; before, it left ours at mean 0."""
    data = [3 + 2 * torch.randn(64, 3, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    ours, theirs = nn.Sequential(ug.nn.BatchNorm(3)), nn.Sequential(nn.BatchNorm1d(3))
    for model in (ours, theirs):
        torch.optim.swa_utils.update_bn(data, model)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    assert ours[0].running_mean.mean() > 2.5


def test_torchs_tools_replace_our_batchnorm() -> None:
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(ug.nn.BatchNorm(3, momentum=0.3)))
    assert type(synchronized[0]) is nn.SyncBatchNorm
    assert synchronized[0].momentum == 0.3
    model = nn.Sequential(ug.nn.BatchNorm(3))
    torch.func.replace_all_batch_norm_modules_(model)
    assert model[0].running_mean is None
    y = torch.vmap(model.eval())(torch.randn(2, 8, 3))
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 3), atol=1e-6, rtol=0)


def test_statistics_that_are_no_longer_tracked_stay_as_they_are() -> None:
    ours, theirs = ug.nn.BatchNorm(3), nn.BatchNorm1d(3)
    x = 5 + torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    for norm in (ours, theirs):
        norm(x)
        norm.track_running_stats = False
        norm(x)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_norms_say_whose_mean_they_subtract() -> None:
    said = subtracts_mean
    batch, instance = ug.nn.BatchNorm(4), ug.nn.InstanceNorm(4, track_running_stats=True)
    assert said(batch) == said(instance) == "channel"
    assert said(batch.eval()) is said(instance.eval()) is None  # a constant: a bias before it does something
    assert said(ug.nn.BatchNorm(4, track_running_stats=False).eval()) == "channel"
    assert said(ug.nn.GroupNorm(2, 4)) == "group"
    assert said(ug.nn.GroupNorm(4, 4)) == "channel"
    assert said(ug.nn.LayerNorm(4)) == said(ug.nn.WholeLayerNorm()) == "layer"


def test_a_probe_takes_them_for_norms_and_finds_their_channels() -> None:
    model = nn.Sequential(
        nn.Conv1d(3, 6, 3), ug.nn.BatchNorm(6), nn.ReLU(), nn.Conv1d(6, 4, 3), ug.nn.GroupNorm(2, 4)
    )
    sites = {s.name: s for s in ug.check(model, torch.randn(8, 3, 16)).record.sites("activation")}
    assert (sites["1"].attributes["role"], sites["1"].channel_axis) == ("norm", 1)
    assert sites["1"].attributes["subtracts_mean"] == "channel"
    assert sites["4"].attributes["subtracts_mean"] == "group"


@pytest.mark.parametrize(
    ("make", "shape", "says"),
    [
        (lambda: ug.nn.BatchNorm(4), (1, 4), "1 value per channel"),
        (lambda: ug.nn.BatchNorm(4), (8, 3), r"\(N, 4, \*\)"),
        (lambda: ug.nn.InstanceNorm(4), (8, 4, 1), "one position"),
        (lambda: ug.nn.InstanceNorm(4), (8, 4), "one position"),
        (lambda: ug.nn.LayerNorm(4), (8, 3), r"last sizes should be \(4,\)"),
        (lambda: ug.nn.GroupNorm(2, 4), (8, 6, 2), r"\(N, 4, \*\)"),
        (lambda: ug.nn.WholeLayerNorm(), (8,), r"\(N, \*\)"),
        (lambda: ug.nn.GroupNorm(4, 4), (8, 4, 1), "one value per group"),
        (lambda: ug.nn.GroupNorm(3, 4), (), "do not split"),
        (lambda: ug.nn.BatchNorm(0), (), "num_features is 0"),
        (lambda: ug.nn.BatchNorm(4, momentum=2.0), (), "momentum is 2.0"),
        (lambda: ug.nn.LayerNorm(()), (), "normalized_shape is empty"),
    ],
)
def test_wrong_inputs_and_arguments_are_named(make, shape, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()(torch.zeros(shape))
