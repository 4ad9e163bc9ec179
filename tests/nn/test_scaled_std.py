"""Scaled weight standardization: what every row must be, in every layer, precision and setting."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unitgain import InputError, theory
from unitgain import nn as unn
from unitgain.nn import standardize_rows as rows_module
from unitgain.nn.scaled_std import standardized
from unitgain.nn.standardize_rows import _composed, standardize_rows

LAYERS = {
    "conv1d": (lambda **o: unn.ScaledStdConv1d(6, 8, 5, padding=2, groups=2, **o), (2, 6, 11)),
    "conv2d": (lambda **o: unn.ScaledStdConv2d(6, 8, 3, stride=2, groups=2, **o), (2, 6, 9, 10)),
    "conv2d depthwise": (lambda **o: unn.ScaledStdConv2d(6, 12, 3, groups=6, **o), (2, 6, 9, 10)),
    "conv2d same": (lambda **o: unn.ScaledStdConv2d(6, 8, 3, stride=2, padding="same", **o), (2, 6, 9, 10)),
    "conv2d reflect": (
        lambda **o: unn.ScaledStdConv2d(6, 8, 3, padding="symmetric", padding_mode="reflect", **o),
        (2, 6, 9, 10),
    ),
    "conv3d": (lambda **o: unn.ScaledStdConv3d(4, 6, 3, groups=2, **o), (2, 4, 5, 6, 7)),
    "transposed 1d": (lambda **o: unn.ScaledStdConvTranspose1d(6, 8, 4, stride=2, **o), (2, 6, 9)),
    "transposed 2d": (
        lambda **o: unn.ScaledStdConvTranspose2d(6, 8, 4, 2, 1, groups=2, **o),
        (2, 6, 9, 10),
    ),
    "transposed 3d": (lambda **o: unn.ScaledStdConvTranspose3d(4, 6, 3, groups=2, **o), (2, 4, 3, 4, 5)),
    "linear": (lambda **o: unn.ScaledStdLinear(10, 6, **o), (2, 10)),
}
each_layer = pytest.mark.parametrize("kind", LAYERS)


def units(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """(O, N): the weights that each output channel sees."""
    groups = layer.transposed_groups
    if not groups:
        return weight.flatten(1)
    by_output = weight.unflatten(0, (groups, -1)).transpose(1, 2)  # (groups, O/groups, C/groups, ...)
    return by_output.flatten(2).flatten(0, 1)


@each_layer
@pytest.mark.parametrize("eps_mode", ["clamp", "additive"])
def test_every_row_has_mean_zero_and_norm_gain_times_gamma(kind: str, eps_mode: str) -> None:
    layer = LAYERS[kind][0](gamma=1.7, input_scale=0.5, eps=1e-12, eps_mode=eps_mode)
    unscaled = units(layer, layer.standardized_weight())
    assert unscaled.sum(1).abs().max() <= 1e-6
    with torch.no_grad():
        layer.weight.add_(3.0)  # a mean far from 0 must not cost the variance its digits
        layer.gain.uniform_(-2, 2)
    rows = units(layer, layer.standardized_weight())
    stride = math.prod(layer.stride) ** 0.5 if layer.transposed_groups else 1.0
    assert rows.shape == (len(layer.gain), layer.fan_in)
    assert rows.sum(1).abs().max() <= 3e-5 * stride
    torch.testing.assert_close(
        rows.norm(dim=1), layer.gain.abs().flatten() * 1.7 * 0.5 * stride, rtol=2e-5, atol=0
    )


@each_layer
def test_state_dict_is_weight_gain_bias_and_folded_layers_compute_the_same(kind: str) -> None:
    make, shape = LAYERS[kind]
    layer, x = make(), torch.randn(shape)
    assert sorted(layer.state_dict()) == ["bias", "gain", "weight"]
    with torch.no_grad():
        layer.gain.uniform_(0.5, 2)
        layer.bias.normal_()
    net = nn.Sequential(layer, nn.Flatten())
    expected = net(x)
    folded = unn.fold_(copy.deepcopy(net))
    assert not any(hasattr(m, "gain") for m in folded.modules())
    torch.testing.assert_close(folded(x), expected, rtol=0, atol=0)


def test_a_layer_shared_by_two_places_is_still_shared_after_folding() -> None:
    layer = unn.ScaledStdLinear(4, 4)
    net = unn.fold_(nn.Sequential(layer, nn.ReLU(), nn.Sequential(layer)))
    assert net[0] is net[2][0]


@pytest.mark.parametrize("padding", ["same", "symmetric", "valid", 1, (0, 2)])
@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_padding_by_name_pads_as_it_says(padding, size) -> None:
    layer = unn.ScaledStdConv2d(2, 3, 3, stride=2, padding=padding)
    out = layer(torch.randn(1, 2, *size)).shape[2:]
    if padding == "same":
        assert out == tuple(math.ceil(n / 2) for n in size)
    else:
        pads = {"symmetric": (1, 1), "valid": (0, 0), 1: (1, 1), (0, 2): (0, 2)}[padding]
        assert out == tuple((n + 2 * p - 3) // 2 + 1 for n, p in zip(size, pads))


def test_same_padding_of_an_even_size_goes_to_the_end() -> None:
    layer = unn.ScaledStdConv2d(2, 3, 3, stride=2, padding="same")
    x = torch.randn(1, 2, 6, 6)
    by_hand = nn.functional.conv2d(
        nn.functional.pad(x, (0, 1, 0, 1)), layer.standardized_weight(), layer.bias, 2
    )
    torch.testing.assert_close(layer(x), by_hand)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 5),
    n=st.integers(2, 7),
    clamp=st.booleans(),
    eps=st.sampled_from([1e-6, 1e-3, 1.0]),
    seed=st.integers(0, 100),
)
def test_written_out_gradient_is_the_composed_one(
    rows: int, n: int, clamp: bool, eps: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    w, scale, g = (
        torch.randn(s, generator=generator, dtype=torch.float64) for s in ((rows, n), (rows,), (rows, n))
    )
    w[0] *= 1e-3  # a row below the clamp
    w.requires_grad_()
    scale.requires_grad_()
    ours = torch.autograd.grad(standardize_rows(w, scale, eps, clamp), (w, scale), g)
    theirs = torch.autograd.grad(_composed(w, scale, eps, clamp), (w, scale), g)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_second_derivatives_and_per_example_gradients_are_right() -> None:
    w = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    scale = torch.rand(3, dtype=torch.float64, requires_grad=True)
    for clamp in (False, True):
        assert torch.autograd.gradgradcheck(lambda a, b, c=clamp: standardize_rows(a, b, 1e-2, c), (w, scale))
    layer, x = unn.ScaledStdLinear(5, 3), torch.randn(4, 5)
    parameters = dict(layer.named_parameters())

    def loss(p, xi):
        return torch.func.functional_call(layer, p, (xi,)).square().sum()

    per_example = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    single = torch.func.grad(loss)(parameters, x[1])
    torch.testing.assert_close(per_example["weight"][1], single["weight"])


@pytest.fixture
def as_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that accelerators take, on the CPU: with batch norm, and without asking which rows are clamped."""
    monkeypatch.setattr(rows_module, "_on_cpu", lambda rows: False)


@pytest.mark.usefixtures("as_on_an_accelerator")
@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize("eps", [1e-4, 0.3, 50.0])
def test_what_accelerators_compute_is_the_composed_result_with_both_derivatives(
    clamp: bool, eps: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    w = 3 + torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    w[1] = 3 + 1e-3 * w[1]  # below the clamp
    w[2] = 0.25
    factor = torch.randn(4, generator=generator, dtype=torch.float64)
    factor[3] = 0
    g = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    w.requires_grad_()
    factor.requires_grad_()
    ours, theirs = standardize_rows(w, factor, eps, clamp), _composed(w, factor, eps, clamp)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (w, factor), g),
        torch.autograd.grad(theirs, (w, factor), g),
        rtol=1e-9,
        atol=1e-9,
    )
    inputs = [w.detach()[[0, 3]].requires_grad_(), factor.detach()[[0, 3]].requires_grad_()]
    assert torch.autograd.gradcheck(lambda a, b: standardize_rows(a, b, eps, clamp), inputs)
    assert torch.autograd.gradgradcheck(lambda a, b: standardize_rows(a, b, eps, clamp), inputs)


@pytest.mark.usefixtures("as_on_an_accelerator")
@pytest.mark.parametrize("eps_mode", ["clamp", "additive"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_on_accelerators_types_layouts_and_per_example_gradients_are_as_here(
    eps_mode: str, kernel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    plain = unn.ScaledStdConv2d(6, 8, kernel, groups=2, eps_mode=eps_mode, gamma="relu")
    layers = [plain, copy.deepcopy(plain).to(memory_format=torch.channels_last)]
    layers += [copy.deepcopy(plain).to(dtype) for dtype in (torch.float64, torch.bfloat16, torch.float16)]
    for layer in layers:
        found = []
        for on_cpu in (False, True):
            monkeypatch.setattr(rows_module, "_on_cpu", lambda rows, on_cpu=on_cpu: on_cpu)
            weight = layer.standardized_weight()
            assert weight.dtype == layer.weight.dtype
            assert kernel == 1 or weight.stride() == layer.weight.stride()
            found.append(
                [weight, *torch.autograd.grad(weight.float().pow(3).sum(), list(layer.parameters())[:1])]
            )
        torch.testing.assert_close(found[0], found[1])
    monkeypatch.setattr(rows_module, "_on_cpu", lambda rows: False)
    layer, x = unn.ScaledStdLinear(5, 3, eps_mode=eps_mode), torch.randn(4, 5)
    parameters = dict(layer.named_parameters())

    def loss(p, xi):
        return torch.func.functional_call(layer, p, (xi,)).square().sum()

    per_example = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    single = torch.func.grad(loss)(parameters, x[1])
    torch.testing.assert_close(per_example["weight"][1], single["weight"])


def test_an_input_scale_that_is_a_buffer_counts_also_without_gains() -> None:
    layer = unn.ScaledStdConv2d(3, 4, 3, gain=None, input_scale=0.5)
    want = layer.standardized_weight()
    layer.input_scale_as_buffer()
    torch.testing.assert_close(layer.standardized_weight(), want)


def test_rows_that_are_constant_give_zero_weights_and_finite_gradients() -> None:
    for eps_mode in ("clamp", "additive"):
        layer = unn.ScaledStdConv2d(3, 4, 3, eps_mode=eps_mode)
        nn.init.constant_(layer.weight, 0.5)
        layer(torch.randn(1, 3, 5, 5)).sum().backward()
        assert layer.standardized_weight().abs().max() < 1e-4
        assert layer.weight.grad.isfinite().all()


def test_the_two_eps_conventions_differ_as_published() -> None:
    torch.manual_seed(0)
    for n, shrunk in ((64, 0.969), (1536, 0.628), (4608, 0.422)):
        weight = torch.randn(256, n) * n**-0.5 * 0.1
        assert standardized(weight, 1.0, 1e-4).norm(dim=1).mean().item() == pytest.approx(1, abs=1e-5)
        additive = standardized(weight, 1.0, 1e-5, "additive").norm(dim=1).mean().item()
        assert additive == pytest.approx(shrunk, abs=2e-3)


@pytest.mark.parametrize(("channels", "kernel"), [(6, 3), (6, 1), (16, 1), (2, (1, 3))])
def test_channels_last_weights_give_the_same_and_stay_channels_last(channels: int, kernel) -> None:
    layer = unn.ScaledStdConv2d(channels, 8, kernel, groups=2 if channels > 2 else 1)
    other = copy.deepcopy(layer).to(memory_format=torch.channels_last)
    weight = other.standardized_weight()
    assert weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(weight, layer.standardized_weight())
    (g,) = torch.autograd.grad(weight.pow(3).sum(), other.weight)
    (expected,) = torch.autograd.grad(layer.standardized_weight().pow(3).sum(), layer.weight)
    torch.testing.assert_close(g, expected)


def test_autocast_leaves_the_standardization_in_float32() -> None:
    layer = unn.ScaledStdConv2d(6, 8, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.standardized_weight().dtype == torch.float32
        assert layer.standardized_weight().sum((1, 2, 3)).abs().max() < 1e-5
        y = layer(torch.randn(1, 6, 5, 5))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_pure_bfloat16_is_off_by_the_rounding_of_the_result_only() -> None:
    layer = unn.ScaledStdConv2d(64, 8, 3).bfloat16()
    wide = copy.deepcopy(layer).float()
    weight = layer.standardized_weight()
    assert weight.dtype == torch.bfloat16
    assert torch.equal(weight, wide.standardized_weight().bfloat16())
    assert 1e-5 < weight.float().sum((1, 2, 3)).abs().max() < 2e-2
    layer(torch.randn(1, 64, 5, 5).bfloat16()).float().square().sum().backward()
    assert layer.weight.grad.isfinite().all()


def test_fan_in_of_one_is_refused_with_the_reason() -> None:
    for make in (
        lambda: unn.ScaledStdConv2d(8, 8, 1, groups=8),
        lambda: unn.ScaledStdLinear(1, 4),
        lambda: unn.ScaledStdConvTranspose1d(4, 4, 1, groups=4),
        lambda: unn.scaled_std_(nn.Conv2d(8, 8, 1, groups=8)),
        lambda: unn.StdConv2d(8, 8, 1, groups=8),
    ):
        with pytest.raises(InputError, match="one number minus its mean is 0"):
            make()


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(InputError, match="eps_mode is 'max'"):
        unn.ScaledStdLinear(4, 4, eps_mode="max")
    with pytest.raises(InputError, match="eps is -1"):
        unn.ScaledStdLinear(4, 4, eps=-1)
    with pytest.raises(InputError, match="padding is 'full'"):
        unn.ScaledStdConv2d(4, 4, 3, padding="full")
    with pytest.raises(InputError, match=r"gamma 'rulu'.*theory"):
        unn.ScaledStdLinear(4, 4, gamma="rulu")


def test_gamma_by_name_keeps_the_variance_through_ten_layers() -> None:
    for name, function in (("relu", torch.relu), ("silu", nn.functional.silu), ("tanh", torch.tanh)):
        assert unn.gamma_of(name) == pytest.approx(theory.centered_gain(function), rel=1e-9)
        torch.manual_seed(1)
        x = torch.randn(256, 512)
        for _ in range(10):
            x = unn.ScaledStdLinear(512, 512, gamma=name)(function(x))
        assert 0.8 < x.var(0, correction=0).mean().item() < 1.25


@pytest.mark.parametrize("stride", [1, 2])
def test_transposed_convolutions_keep_the_variance_for_any_stride(stride: int) -> None:
    layer = unn.ScaledStdConvTranspose2d(64, 32, 4, stride=stride)
    y = layer(torch.randn(4, 64, 20, 20))[..., 4:-4, 4:-4]
    assert y.var().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, groups=2),
        nn.Linear(5, 3),
        nn.ConvTranspose2d(4, 6, 4, stride=2, groups=2),
        nn.Conv1d(4, 6, 3).bfloat16(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_parametrization_equals_the_layer_and_folds_away(layer: nn.Module) -> None:
    like: dict = {"eps_mode": "additive", "gamma": "relu", "gain": 1.5}
    original = layer.weight.detach().clone()
    kind = getattr(unn, f"ScaledStd{type(layer).__name__}")
    if isinstance(layer, nn.Linear):
        twin = kind(5, 3, **like)
    else:
        transposed = {"stride": 2} if isinstance(layer, nn.ConvTranspose2d) else {}
        twin = kind(4, 6, layer.kernel_size, groups=layer.groups, **transposed, **like).to(original.dtype)
    with torch.no_grad():
        twin.weight.copy_(original)
    unn.scaled_std_(layer, **like)
    torch.testing.assert_close(layer.weight, twin.standardized_weight())
    layer.weight.float().square().sum().backward()
    assert layer.parametrizations.weight[0].gain.grad is not None
    weight = layer.weight.detach().clone()
    with pytest.raises(InputError, match="already"):
        unn.scaled_std_(layer)
    unn.remove_scaled_std_(layer)
    assert torch.equal(layer.weight, weight)
    assert not hasattr(layer, "parametrizations")
    with pytest.raises(InputError, match="not standardized"):
        unn.remove_scaled_std_(layer)


def test_parametrization_comes_off_without_folding_too_and_refuses_other_modules() -> None:
    layer = nn.Linear(4, 3)
    original = layer.weight.detach().clone()
    unn.remove_scaled_std_(unn.scaled_std_(layer, gain=None), fold=False)
    assert torch.equal(layer.weight, original)
    with pytest.raises(InputError, match="BatchNorm2d has no weight with rows"):
        unn.scaled_std_(nn.BatchNorm2d(3))


def test_plain_weight_standardization_has_unit_rows_and_finite_gradients_for_constant_ones() -> None:
    layer = unn.StdConv2d(8, 6, 3, stride=2, padding="same", groups=2)
    rows = layer.standardized_weight().flatten(1)
    torch.testing.assert_close(rows.std(1, correction=0), torch.ones(6), rtol=1e-3, atol=0)
    assert layer(torch.randn(1, 8, 7, 8)).shape == (1, 6, 4, 4)
    nn.init.constant_(layer.weight, 1.0)
    layer(torch.randn(1, 8, 7, 8)).sum().backward()
    assert layer.weight.grad.isfinite().all()
