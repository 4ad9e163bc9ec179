"""Maps, fixed points and predictions: against closed forms, and against wide random networks."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from unitgain import InputError, theory

CORRELATIONS = [-1.0, -0.5, 0.0, 0.3, 0.9, 0.999, 1 - 1e-9, 1.0]


@pytest.mark.parametrize("c", CORRELATIONS)
def test_correlation_map_of_relu_is_the_arc_cosine_kernel(c: float) -> None:
    expected = (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / math.pi
    assert theory.correlation_map("relu", c, 2**0.5) == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("c", CORRELATIONS)
@pytest.mark.parametrize("q", [1e-4, 1.7, 400.0])
def test_correlation_map_of_erf_is_the_arc_sine_kernel(c: float, q: float) -> None:
    expected = math.asin(2 * c * q / (1 + 2 * q)) / math.asin(2 * q / (1 + 2 * q))
    assert theory.correlation_map(torch.erf, c, variance=q) == pytest.approx(expected, abs=1e-10)


def test_correlation_of_a_function_with_jumps_away_from_zero() -> None:
    # P(x1 > 0.5 and x2 > 0.5) by one-dimensional quadrature of the conditional normal
    c = 0.6
    x = torch.linspace(0.5, 12, 2_000_001, dtype=torch.float64)
    tail = torch.special.ndtr((c * x - 0.5) / math.sqrt(1 - c * c))
    both = torch.trapezoid(tail * torch.exp(-x * x / 2), x).item() / math.sqrt(2 * math.pi)
    one = 0.5 * math.erfc(0.5 / math.sqrt(2))
    got = theory.correlation_map(lambda x: (x > 0.5).double(), c, variance=1.0)
    assert got == pytest.approx(both / one, rel=1e-9)


def test_fixed_points_of_erf_satisfy_the_closed_form() -> None:
    sigma_w, sigma_b = 1.5, 0.2
    (point,) = theory.fixed_points(torch.erf, sigma_w, sigma_b).points
    q = point.variance
    assert sigma_w**2 * 2 / math.pi * math.asin(2 * q / (1 + 2 * q)) + sigma_b**2 == pytest.approx(
        q, rel=1e-9
    )
    chi = sigma_w**2 * 4 / math.pi / math.sqrt(1 + 4 * q)
    assert theory.chi(torch.erf, sigma_w, sigma_b) == pytest.approx(chi, rel=1e-9)
    assert point.stability == "stable"
    h = 1e-5 * q
    numeric = (
        theory.variance_map(torch.erf, q + h, sigma_w, sigma_b)
        - theory.variance_map(torch.erf, q - h, sigma_w, sigma_b)
    ) / (2 * h)
    assert point.slope == pytest.approx(numeric, rel=1e-6)


@pytest.mark.parametrize("name", ["tanh", "selu", "elu", "gelu", "silu", "mish", "softsign", "sigmoid"])
def test_with_its_gain_every_activation_keeps_variance_one(name: str) -> None:
    points = theory.fixed_points(name, theory.gain(name)).points
    assert any(p.variance == pytest.approx(1, rel=1e-6) for p in points)


def test_which_activations_hold_the_variance_they_are_scaled_to() -> None:
    stability = {
        name: next(
            p.stability for p in theory.fixed_points(name, theory.gain(name)).points if p.variance > 0.5
        )
        for name in ("tanh", "selu", "elu", "gelu", "silu", "mish")
    }
    assert stability == {
        "tanh": "stable",
        "selu": "stable",
        "elu": "stable",
        "gelu": "unstable",
        "silu": "unstable",
        "mish": "unstable",
    }
    selu = theory.fixed_points("selu").points[-1]
    assert selu.slope == pytest.approx(0.7826, abs=1e-4)  # Klambauer et al. 2017


def test_relu_keeps_every_variance_and_says_so() -> None:
    assert theory.fixed_points("relu", 2**0.5) == ((), True)
    assert theory.depth_scale("relu", 2**0.5) == (math.inf, math.inf)
    assert theory.edge_of_chaos("relu") == (pytest.approx(2**0.5), None)


def test_growth_without_a_fixed_point_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"grows without bound.*variance=1.0"):
        theory.chi("relu", sigma_w=2.0)
    assert theory.chi("relu", sigma_w=2.0, variance=1.0) == pytest.approx(2.0)


@pytest.mark.parametrize("sigma_b", [0.05, 0.3, 1.0])
def test_edge_of_chaos_has_chi_one_at_its_own_fixed_point(sigma_b: float) -> None:
    sigma_w, variance = theory.edge_of_chaos("tanh", sigma_b)
    assert variance is not None
    assert theory.variance_map("tanh", variance, sigma_w, sigma_b) == pytest.approx(variance, rel=1e-8)
    assert theory.chi("tanh", sigma_w, sigma_b, variance) == pytest.approx(1.0, abs=1e-10)


def test_edge_of_chaos_at_zero_variance() -> None:
    assert theory.edge_of_chaos("tanh").sigma_w == pytest.approx(1.0, abs=1e-9)
    assert theory.edge_of_chaos("silu").sigma_w == pytest.approx(2.0, abs=1e-9)  # 1 / f'(0)
    with pytest.raises(InputError, match="no sigma_w"):
        theory.edge_of_chaos("relu", sigma_b=0.1)


def test_depth_scale_is_what_iterating_the_maps_shows() -> None:
    sigma_w, sigma_b = 1.2, 0.3
    (point,) = theory.fixed_points("tanh", sigma_w, sigma_b).points
    scale = theory.depth_scale("tanh", sigma_w, sigma_b)
    q = 1.01 * point.variance
    misses = []
    for _ in range(3):
        misses.append(q - point.variance)
        q = theory.variance_map("tanh", q, sigma_w, sigma_b)
    assert -1 / math.log(misses[2] / misses[1]) == pytest.approx(scale.variance, rel=0.02)
    c = 0.999
    after = theory.correlation_map("tanh", c, sigma_w, sigma_b)
    assert -1 / math.log((1 - after) / (1 - c)) == pytest.approx(scale.correlation, rel=0.01)


def test_above_the_edge_inputs_part_to_a_correlation_below_one() -> None:
    c, slope = theory.correlation_fixed_point("tanh", 2.5, 0.3)
    assert 0 < c < 0.9
    assert theory.correlation_map("tanh", c, 2.5, 0.3) == pytest.approx(c, abs=1e-8)
    h = 1e-4
    ends = [theory.correlation_map("tanh", c + d, 2.5, 0.3) for d in (-h, h)]
    assert slope == pytest.approx((ends[1] - ends[0]) / (2 * h), rel=1e-5)
    assert theory.correlation_fixed_point("tanh", 2.5).correlation == 0.0  # no bias, odd function


@settings(max_examples=15, deadline=None)
@given(
    c=st.floats(-1, 1), q=st.floats(0.01, 50), name=st.sampled_from(["gelu", "relu6", "hardshrink", "elu"])
)
def test_a_correlation_stays_one_and_grows_with_its_argument(c: float, q: float, name: str) -> None:
    here = theory.correlation_map(name, c, variance=q)
    assert -1 - 1e-9 <= here <= 1 + 1e-9
    if c >= 0:  # a power series in c with coefficients that are not negative
        assert here <= theory.correlation_map(name, min(1.0, c + 0.01), variance=q) + 1e-9
    assert theory.correlation_map(name, 1.0, variance=q) == pytest.approx(1.0, abs=1e-9)


WIDTH, DEPTH, NETS, PAIRS = 1024, 8, 12, 8


@pytest.mark.parametrize(
    ("name", "f", "sigma_w", "sigma_b"),
    [
        ("relu", F.relu, 2**0.5, 0.0),
        ("tanh", torch.tanh, 5 / 3, 0.2),
        ("gelu", F.gelu, 1.0, 0.1),
        ("leaky", lambda x: F.leaky_relu(x, 0.1) - 0.359, 1.63, 0.0),
    ],
)
def test_prediction_agrees_with_wide_random_networks(name, f, sigma_w: float, sigma_b: float) -> None:
    """Within sampling error: the mean over networks lies within 5 standard errors (and 2e-3) at every layer."""
    predicted = theory.predict_stack(f, DEPTH, sigma_w, sigma_b, input_cosine=0.25)
    generator = torch.Generator().manual_seed(11)
    rows = []
    for _ in range(NETS):
        # pairs of examples of mean square 1 and cosine 0.25, exactly
        x = torch.linalg.qr(torch.randn(WIDTH, 2 * PAIRS, generator=generator))[0].T * WIDTH**0.5
        x = torch.cat([x[:PAIRS], 0.25 * x[:PAIRS] + math.sqrt(1 - 0.25**2) * x[PAIRS:]])
        for _ in range(DEPTH):
            w = torch.randn(WIDTH, WIDTH, generator=generator) * (sigma_w / WIDTH**0.5)
            z = x @ w.T + torch.randn(WIDTH, generator=generator) * sigma_b
            x = f(z)
            cosines = [F.cosine_similarity(*v.view(2, PAIRS, WIDTH), dim=1).mean().item() for v in (z, x)]
            rows.append([z.square().mean().sqrt().item(), cosines[0], x.mean().item(), x.std().item(),
                         x.square().mean().sqrt().item(), cosines[1]])  # fmt: skip
    measured = torch.tensor(rows, dtype=torch.float64).view(NETS, DEPTH, 6)
    theirs = torch.tensor(
        [[p.pre_std, p.pre_correlation, p.mean, p.std, p.rms, p.cosine] for p in predicted],
        dtype=torch.float64,
    )
    error = measured.std(0) / NETS**0.5
    assert ((measured.mean(0) - theirs).abs() <= 5 * error + 2e-3).all(), (measured.mean(0) - theirs) / error
    assert (error < 0.03).all(), error.max()  # else the comparison says nothing


def test_prediction_of_unequal_layers_and_of_channel_statistics() -> None:
    layers = [
        theory.Layer(30, 1.0, 0.5, "tanh"),
        theory.Layer(100, 0.01),
        theory.Layer(50, 0.0, activation="sigmoid"),
    ]
    first, second, third = theory.predict(layers, input_rms=0.2, input_cosine=0.5)
    assert first.pre_std == pytest.approx(math.sqrt(30 * 0.04 + 0.25))
    assert first.sq_channel_mean + first.channel_var == pytest.approx(first.rms**2)
    assert second.rms == second.pre_std == pytest.approx(0.1 * first.rms)
    assert second.cosine == pytest.approx(first.cosine)
    assert (third.mean, third.std, third.cosine) == (0.5, 0.0, 1.0)
    with pytest.raises(InputError, match="layer 1: fan_in"):
        theory.predict([theory.Layer(0, 1.0)])
    with pytest.raises(InputError, match="input_cosine"):
        theory.predict(layers, input_cosine=2.0)
