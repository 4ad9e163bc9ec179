"""GeneralReLU and gain-corrected activations."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unitgain as ug
from unitgain import InputError, theory

X = torch.linspace(-5, 5, 101, dtype=torch.float64)


def test_general_relu_is_leak_then_shift_then_bound() -> None:
    torch.testing.assert_close(ug.nn.GeneralReLU()(X), F.relu(X))
    torch.testing.assert_close(ug.nn.GeneralReLU(0.1)(X), F.leaky_relu(X, 0.1))
    torch.testing.assert_close(
        ug.nn.GeneralReLU(0.1, 0.4, 2.0)(X), (F.leaky_relu(X, 0.1) - 0.4).clamp(max=2.0)
    )
    assert "leak=0.1, sub=0.4, maxv=2.0" in repr(ug.nn.GeneralReLU(0.1, 0.4, 2.0))
    with pytest.raises(InputError, match="leak is nan"):
        ug.nn.GeneralReLU(math.nan)


@pytest.mark.parametrize("maxv", [None, 1.5])
def test_general_relu_with_theorys_sub_has_mean_zero(maxv: float | None) -> None:
    sub, gain = theory.zero_mean_relu(0.2, maxv)
    act = ug.nn.GeneralReLU(0.2, sub, maxv)
    assert abs(theory.mean_shift(act)) < 1e-11
    assert theory.gain(act) == pytest.approx(gain, rel=1e-12)


def test_activations_leave_their_input_alone() -> None:
    x = X.clone()
    for act in (ug.nn.GeneralReLU(0.1, 0.4, 2.0), ug.nn.GainCorrected(nn.Tanh())):
        act(x)
    assert torch.equal(x, X)


@pytest.mark.parametrize("name", ug.nn.GAMMA)
def test_gains_on_file_are_theorys(name: str) -> None:
    module = getattr(nn, name)()
    assert ug.nn.GAMMA[name] == pytest.approx(theory.centered_gain(module), rel=1e-12)
    corrected = ug.nn.GainCorrected(module)
    assert theory.moments(corrected).std == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(
    "activation",
    [
        nn.LeakyReLU(0.2),
        nn.GELU(approximate="tanh"),
        nn.ELU(alpha=2.0),
        nn.PReLU(),
        torch.tanh,
        nn.Hardtanh(),
    ],
)
def test_a_gain_that_is_not_on_file_is_asked_for_and_never_guessed(activation) -> None:
    with pytest.raises(InputError, match="centered_gain"):
        ug.nn.GainCorrected(activation)
    corrected = ug.nn.GainCorrected(activation, theory.centered_gain(activation))
    assert theory.moments(corrected).std == pytest.approx(1.0, rel=1e-12)


def test_an_in_place_activation_is_still_the_default_one() -> None:
    assert ug.nn.GainCorrected(nn.ReLU(inplace=True)).gain == ug.nn.GAMMA["ReLU"]
    assert ug.nn.GainCorrected(nn.LeakyReLU(inplace=True)).gain == ug.nn.GAMMA["LeakyReLU"]


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.SELU()])
def test_activations_that_save_their_output_can_go_backward(activation: nn.Module) -> None:
    x = X.clone().requires_grad_()
    corrected = ug.nn.GainCorrected(activation)
    corrected(x).sum().backward()
    y = X.clone().requires_grad_()
    copy.deepcopy(activation)(y).sum().backward()
    assert y.grad is not None
    torch.testing.assert_close(x.grad, corrected.gain * y.grad)


@pytest.mark.parametrize("gain", [0.0, math.inf, "other"])
def test_impossible_gains(gain) -> None:
    with pytest.raises(InputError, match="positive number"):
        ug.nn.GainCorrected(nn.ReLU(), gain)
