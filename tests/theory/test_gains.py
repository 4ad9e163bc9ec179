"""Gains against the exact values, closed forms and random numbers; and what may not have a gain."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unitgain import InputError, theory

# normalizer-free fact sheet, "exact" column: seven decimals
EXACT = {
    "identity": 1.0, "elu": 1.2708434, "celu": 1.2708434, "gelu": 1.7009262, "gelu_tanh": 1.7009166,
    "leaky_relu": 1.7048316, "logsigmoid": 1.9191260, "relu": 1.7128586, "relu6": 1.7128586, "selu": 1.0,
    "sigmoid": 4.8013134, "silu": 1.7871872, "softsign": 2.3375334, "softplus": 1.9191260, "tanh": 1.5925374,
    "mish": 1.5920254, "hardswish": 1.8138715,
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_centered_gain_agrees_with_the_exact_column(name: str) -> None:
    assert theory.centered_gain(name) == pytest.approx(EXACT[name], abs=1e-7)


def test_relu_is_exact_to_rounding_where_gauss_hermite_is_not() -> None:
    assert theory.centered_gain("relu") == pytest.approx(math.sqrt(2 / (1 - 1 / math.pi)), rel=1e-12)
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    std = F.relu(torch.tensor(nodes)).numpy()
    mean = weights @ std / math.sqrt(2 * math.pi)
    assert abs(mean - 1 / math.sqrt(2 * math.pi)) > 1e-4  # what the fine panels are there for
    assert theory.mean_shift("relu") == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-13)


@pytest.mark.parametrize(
    ("name", "param"), [("linear", None), ("relu", None), ("leaky_relu", 0.01), ("leaky_relu", 0.3)]
)
def test_gain_is_torchs_where_torchs_is_exact(name: str, param: float | None) -> None:
    ours = theory.gain(nn.LeakyReLU(param)) if param else theory.gain(name)
    assert ours == pytest.approx(nn.init.calculate_gain(name, param), rel=1e-12)


def test_constants_are_the_ones_in_use_and_say_why_they_differ() -> None:
    rows = theory.constants()
    for row in rows:
        if row.source.startswith("torch"):
            assert row.theirs == pytest.approx(nn.init.calculate_gain(row.activation), rel=1e-15)
        else:
            assert -1e-9 < row.deviation < 1.2e-3
        assert bool(row.why) == (abs(row.deviation) > 1e-9), row
    sampled = [r.deviation for r in rows if r.source.startswith("DeepMind") and r.why]
    assert 4e-4 < sum(sampled) / len(sampled) < 6e-4  # "about 0.05% high"


@settings(max_examples=40, deadline=None)
@given(
    kink=st.floats(-4, 4),
    left=st.floats(-3, 3),
    right=st.floats(-3, 3),
    jump=st.sampled_from([0.0, 0.7]),
    std=st.floats(0.05, 20),
)
def test_kinks_and_jumps_anywhere_are_exact(
    kink: float, left: float, right: float, jump: float, std: float
) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        d = x - kink
        return torch.where(d < 0, left * d, right * d + jump)

    # closed form: with a = kink/std, E of the parts of a truncated normal
    a = kink / std
    cdf, pdf = 0.5 * math.erfc(-a / math.sqrt(2)), math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
    below1 = std * (-pdf - a * cdf)  # E (x - kink) for x < kink
    below2 = std**2 * ((1 + a * a) * cdf + a * pdf)
    above1, above2 = -kink - below1, std**2 + kink**2 - below2
    mean = left * below1 + right * above1 + jump * (1 - cdf)
    square = left**2 * below2 + right**2 * above2 + 2 * right * jump * above1 + jump**2 * (1 - cdf)
    got = theory.moments(f, std)
    scale = max(1.0, abs(left), abs(right)) * max(1.0, std, abs(kink))
    assert got.mean == pytest.approx(mean, abs=1e-11 * scale)
    assert got.rms**2 == pytest.approx(square, abs=1e-11 * scale**2)


@pytest.mark.parametrize("std", [1e-6, 1e-3, 10.0, 1e6])
def test_an_activation_narrower_than_the_panels_is_not_missed(std: float) -> None:
    x = torch.linspace(-12, 12, 4_000_001, dtype=torch.float64)
    y = torch.tanh(std * x) ** 2 * torch.exp(-x * x / 2)
    expected = math.sqrt(torch.trapezoid(y, x).item() / math.sqrt(2 * math.pi))
    assert theory.moments("tanh", std).rms == pytest.approx(expected, rel=1e-6)


def test_steep_growth_reaches_further_out() -> None:
    got = theory.moments(torch.exp, std=5.0)
    assert got.mean == pytest.approx(math.exp(12.5), rel=1e-11)
    assert got.rms == pytest.approx(math.exp(25), rel=1e-11)


def test_std_keeps_its_digits_beside_a_large_mean() -> None:
    shifted = theory.moments(lambda x: F.relu(x) + 1e6)
    assert shifted.std == pytest.approx(theory.moments("relu").std, rel=1e-8)


def test_mean_of_the_input() -> None:
    assert theory.moments("relu", std=2.0, mean=1e3).mean == pytest.approx(1e3, rel=1e-12)
    assert theory.moments("sigmoid", std=0.0) == theory.Moments(0.5, 0.0, 0.5)


@pytest.mark.parametrize(
    "f", [torch.relu_, nn.ReLU(inplace=True), F.relu, nn.ReLU(), "relu", lambda x: x.clamp(min=0)]
)
def test_names_functions_modules_and_in_place_ones_agree(f) -> None:
    assert theory.gain(f) == pytest.approx(math.sqrt(2), rel=1e-12)
    assert theory.backward_gain(f) == pytest.approx(math.sqrt(2), rel=1e-12)


def test_a_module_is_left_as_it_is() -> None:
    slope = nn.PReLU(init=0.25)
    assert theory.gain(slope) == pytest.approx(math.sqrt(2 / (1 + 0.25**2)), rel=1e-12)
    assert slope.weight.dtype == torch.float32
    assert slope.weight.requires_grad
    assert slope.weight.grad is None


def test_a_callable_in_low_precision_is_good_to_its_precision() -> None:
    assert theory.gain(lambda x: x.float().tanh()) == pytest.approx(theory.gain("tanh"), rel=1e-6)


def test_backward_gain_against_a_formula() -> None:
    # erf'(x)^2 = 4/pi exp(-2 x^2), whose mean is 4/pi / sqrt(1 + 4 q)
    for q in (0.1, 1.0, 9.0):
        expected = 1 / math.sqrt(4 / math.pi / math.sqrt(1 + 4 * q))
        assert theory.backward_gain(torch.erf, math.sqrt(q)) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize(
    ("f", "says"),
    [
        (lambda x: x.softmax(-1), "other elements"),
        (lambda x: x - x.mean(), "other elements"),
        (nn.GLU(), r"shape \(96,\)"),
        (nn.LayerNorm(192), "failed"),
        (nn.PReLU(8), "failed"),
        (torch.log, "value at x = -12 is nan"),
        (lambda x: 1 / x, "value at x"),
        (lambda x: torch.exp(x * x), "not finite"),
        (nn.Dropout(0.001), r"random.*\.eval\(\)"),
        (nn.RReLU(), "random"),
        (lambda x: x + torch.rand_like(x), "random"),
        (lambda x: (x, x), "returned tuple"),
        (lambda x: x.sum(), r"returned shape \(\)"),
        (math.tanh, "failed"),
        (lambda x: 0 * x, "zero for almost every input"),
        ("rleu", "unknown; did you mean 'relu'"),
        (3, "give a name"),
    ],
)
def test_what_has_no_gain_is_named(f, says: str) -> None:
    state = torch.get_rng_state()
    with pytest.raises(InputError, match=says):
        theory.gain(f)
    assert torch.equal(state, torch.get_rng_state())


def test_a_constant_has_no_centered_gain_and_a_detached_function_no_backward_gain() -> None:
    with pytest.raises(InputError, match="constant"):
        theory.centered_gain(lambda x: 0 * x + 1)
    with pytest.raises(InputError, match="no gradient flows"):
        theory.backward_gain(lambda x: torch.from_numpy(np.tanh(x.detach().numpy())))
    with pytest.raises(InputError, match="std is -1"):
        theory.gain("tanh", std=-1.0)


@pytest.mark.parametrize("leak", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("maxv", [None, 2.0, 0.3])
def test_zero_mean_relu_has_mean_zero_and_its_gain(leak: float, maxv: float | None) -> None:
    sub, gain = theory.zero_mean_relu(leak, maxv)

    def f(x: torch.Tensor) -> torch.Tensor:
        y = F.leaky_relu(x, leak) - sub
        return y if maxv is None else y.clamp(max=maxv)

    got = theory.moments(f)
    assert abs(got.mean) < 1e-11
    assert gain == pytest.approx(1 / got.std, rel=1e-9)
    if maxv is None:
        assert sub == pytest.approx((1 - leak) / math.sqrt(2 * math.pi), rel=1e-12)


def test_no_mean_of_zero_below_a_bound_of_zero() -> None:
    with pytest.raises(InputError, match="positive"):
        theory.zero_mean_relu(0.1, maxv=0.0)
