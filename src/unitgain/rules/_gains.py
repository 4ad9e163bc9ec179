"""Gains of activation functions by name: theory.gain, written out, so that a record can be judged without torch.

A test computes each of them anew.
"""

from __future__ import annotations

from collections.abc import Mapping

from ._view import View
from ._words import listed, show

GAINS: Mapping[str, float] = {
    "identity": 1.0,
    "linear": 1.0,
    "relu": 1.414214,
    "leaky_relu": 1.414143,
    "relu6": 1.414214,
    "elu": 1.245198,
    "celu": 1.245198,
    "selu": 1.0,
    "gelu": 1.533530,
    "gelu_tanh": 1.533581,
    "silu": 1.676532,
    "swish": 1.676532,
    "mish": 1.486848,
    "tanh": 1.592537,
    "softsign": 2.337534,
    "softplus": 1.041867,
    "logsigmoid": 1.041867,
    "hardtanh": 1.392036,
    "hardswish": 1.736657,
    "tanhshrink": 2.338368,
    "softshrink": 1.544361,
    "hardshrink": 1.015796,
}
"""1 / rms(f(z)) of a unit Gaussian z: the factor that keeps the scale. Sigmoids are left out: they are gates."""


def initialization_for(view: View) -> str:
    """How to initialize for the functions that a network has, as a sentence without its full stop."""
    found = dict.fromkeys(
        m.function for m in view.activations if m.role == "activation" and m.function in GAINS
    )
    if not any(m.role == "activation" for m in view.activations):
        return (
            "No function lies between the layers: initialize with gain 1 (standard deviation 1/sqrt(fan_in), or "
            "orthogonal), and put an activation function between them"
        )
    if not found:
        return "Scale each layer until its output has unit variance (LSUV)"
    gains = listed([f"{show(GAINS[name])} for {name}" for name in found if name])
    return (
        f"Initialize for the activation function: standard deviation gain/sqrt(fan_in), with gain {gains}; or scale "
        "each layer until its output has unit variance (LSUV)"
    )
