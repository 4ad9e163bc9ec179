"""Gains of activation functions by name: theory.gain, written out, so that a record can be judged without torch.

A test computes each of them anew.
"""

from __future__ import annotations

from collections.abc import Mapping

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
