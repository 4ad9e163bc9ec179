"""What one layer's activation does to a Gaussian: moments, and the gains that undo what it does.

For z standard normal:

    gain           1 / sqrt(E f(z)^2)    keeps the mean square: the sigma_w of He et al. (arXiv 1502.01852) for any f
    centered_gain  1 / std f(z)          keeps the variance: the gamma of scaled weight standardization, whose
                                         weights remove the mean (Brock et al., arXiv 2101.08692)
    backward_gain  1 / sqrt(E f'(z)^2)   keeps the mean square of the gradient
    mean_shift     E f(z)                what weights that do not sum to zero pass on
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .._base import InputError
from .elementwise import Activation, resolve
from .quadrature import expectation


@dataclass(frozen=True)
class Moments:
    """Moments of f(x) for Gaussian x: mean, std (of the distribution), rms = sqrt(mean^2 + std^2)."""

    mean: float
    std: float
    rms: float


def moments(activation: Activation, std: float = 1.0, mean: float = 0.0) -> Moments:
    """Mean, std and rms of an activation's output for inputs that are Gaussian with this std and mean.

    Relative accuracy is about 1e-12, kinks included. Raises InputError for anything that is not elementwise,
    not finite, or random, and for functions that grow too fast to have a variance.

    >>> round(moments("relu").mean, 12), round(1 / math.sqrt(2 * math.pi), 12)
    (0.398942280401, 0.398942280401)
    >>> round(moments("tanh", std=3.0).rms, 6)
    0.86323
    """
    f = resolve(activation)
    check_scale("std", std)
    if not math.isfinite(mean):
        raise InputError(f"mean is {mean}; expected a finite number")

    if std == 0:
        value = float(f(np.array([mean]))[0])
        return Moments(value, 0.0, abs(value))
    first, _ = expectation(lambda x, z: np.stack([y := f(x), y * y]), std, mean)
    # the second pass is about the mean: E f^2 - (E f)^2 is inexact where the mean is large
    second, spread = expectation(lambda x, z: np.stack([f(x) ** 2, (f(x) - first) ** 2]), std, mean)
    return Moments(float(first), math.sqrt(max(spread, 0.0)), math.sqrt(max(second, 0.0)))


def gain(activation: Activation, std: float = 1.0) -> float:
    """std / sqrt(E f(std z)^2): the factor on the next layer's weights that keeps the mean square.

    Weights of std gain/sqrt(fan_in) after this activation give pre-activations of the same std again. For
    identity, ReLU and leaky ReLU it is what torch.nn.init.calculate_gain says; tanh, sigmoid and SELU differ there
    (see `constants`).

    >>> round(gain("relu"), 12), round(gain("tanh"), 7)
    (1.414213562373, 1.5925374)
    >>> import torch
    >>> round(gain(torch.nn.LeakyReLU(0.2)), 6), round(torch.nn.init.calculate_gain("leaky_relu", 0.2), 6)
    (1.38675, 1.38675)
    >>> round(gain(lambda x: x.clamp(-1, 1)), 6)
    1.392036
    """
    return _inverse(std, moments(activation, std).rms, activation, "zero for almost every input")


def centered_gain(activation: Activation, std: float = 1.0) -> float:
    """std / std(f(std z)): the factor that keeps the variance when the weights remove the mean (gamma).

    >>> round(centered_gain("relu"), 7), round(centered_gain("silu"), 7)
    (1.7128586, 1.7871872)
    """
    return _inverse(std, moments(activation, std).std, activation, "constant")


def mean_shift(activation: Activation, std: float = 1.0) -> float:
    """E f(std z): the mean that the activation gives to its output.

    >>> round(mean_shift("relu"), 6), abs(mean_shift("tanh")) < 1e-12
    (0.398942, True)
    """
    return moments(activation, std).mean


def backward_gain(activation: Activation, std: float = 1.0) -> float:
    """1 / sqrt(E f'(std z)^2): the factor that keeps the gradient's mean square on its way back.

    The derivative is what backpropagation sees: autograd's, without a delta at a jump. For ReLU it equals the
    forward gain, for most others it does not: no single gain keeps both directions.

    >>> round(backward_gain("relu"), 6), round(backward_gain("tanh"), 6)
    (1.414214, 1.467414)
    """
    return _inverse(1.0, math.sqrt(squared_slope(activation, std)), activation, "flat")


def squared_slope(activation: Activation, std: float = 1.0) -> float:
    """E f'(std z)^2."""
    f = resolve(activation)
    check_scale("std", std)
    (value,) = expectation(lambda x, z: f.derivative(x)[None] ** 2, std)
    return float(value)


def _inverse(std: float, value: float, activation: Activation, why: str) -> float:
    if std <= 0:
        raise InputError(f"std is {std}; a gain needs inputs that vary: expected a positive number")
    if value <= 1e-12 * std:  # below it, what quadrature leaves of a constant is rounding
        raise InputError(
            f"activation {resolve(activation).name}: it is {why}, so no gain can restore its scale"
        )
    return std / value


def check_scale(name: str, value: float) -> None:
    """Raises InputError, naming the argument, for a standard deviation or variance that is none."""
    if not (math.isfinite(value) and 0 <= value < 1e100):
        raise InputError(f"{name} is {value}; expected a finite number of at least 0")
