"""From what the caller gives as an activation to a checked function of float64 arrays, and its derivative."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base import InputError, did_you_mean

Activation: TypeAlias = "str | Callable[[Tensor], Tensor] | nn.Module | Elementwise"

NAMES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x, "linear": lambda x: x,
    "relu": F.relu, "leaky_relu": F.leaky_relu, "relu6": F.relu6,
    "elu": F.elu, "celu": F.celu, "selu": F.selu,
    "gelu": F.gelu, "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu, "swish": F.silu, "mish": F.mish,
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "softsign": F.softsign,
    "softplus": F.softplus, "logsigmoid": F.logsigmoid,
    "hardtanh": F.hardtanh, "hardsigmoid": F.hardsigmoid, "hardswish": F.hardswish,
    "tanhshrink": F.tanhshrink, "softshrink": F.softshrink, "hardshrink": F.hardshrink,
}  # fmt: skip
"""Activations that may be given by name, with torch's default arguments."""

# Where a callable is tried out: irregular, both signs, wide enough to leave the middle of a bounded function.
_TRIAL = torch.linspace(-8.03, 7.97, 192, dtype=torch.float64)


class Elementwise:
    """An activation as a function of a float64 array, with its derivative by autograd.

    Values must be finite: a NaN or an infinity raises InputError and says where.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], name: str):
        self.name = name
        self._function = function

    def __call__(self, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            y = self._function(torch.from_numpy(x.copy()))  # a copy: the function may work in place
        return self._finite(x, y.double().numpy(), "value")

    def derivative(self, x: np.ndarray) -> np.ndarray:
        """f'(x) as backpropagation sees it: at a kink the side torch chooses, at a jump no delta."""
        leaf = torch.from_numpy(x.copy()).requires_grad_()
        with torch.enable_grad():
            y = self._function(leaf * 1.0)  # not the leaf itself, which must not change in place
            if y.requires_grad:
                (slope,) = torch.autograd.grad(y.double().sum(), leaf, allow_unused=True)
                if slope is not None:
                    return self._finite(x, slope.numpy(), "derivative")
        raise InputError(
            f"activation {self.name}: no gradient flows through it, and this quantity needs its derivative; "
            "write it with torch operations that autograd follows"
        )

    def _finite(self, x: np.ndarray, y: np.ndarray, what: str) -> np.ndarray:
        bad = ~np.isfinite(y)
        if bad.any():
            at = np.argmax(bad)
            raise InputError(
                f"activation {self.name}: its {what} at x = {x.flat[at]:.6g} is {y.flat[at]}; "
                "an activation must be finite for every real number"
            )
        return y


def resolve(activation: Activation) -> Elementwise:
    """The activation as a checked Elementwise.

    Raises InputError for an unknown name, for anything that fails on a tensor, changes its shape, mixes its
    elements (softmax, GLU, a norm) or gives another result the second time (dropout, RReLU in training mode).
    """
    if isinstance(activation, Elementwise):
        return activation
    if isinstance(activation, str):
        if activation not in NAMES:
            raise InputError(
                f"activation {activation!r} is unknown{did_you_mean(activation, NAMES, most=40)}"
            )
        return Elementwise(NAMES[activation], activation)
    if isinstance(activation, nn.Module):
        name = type(activation).__name__
        function: Callable[[Tensor], Tensor] = copy.deepcopy(activation).cpu().double().requires_grad_(False)
    elif callable(activation):
        name, function = getattr(activation, "__name__", type(activation).__name__), activation
    else:
        raise InputError(
            f"activation is {activation!r}; give a name such as 'relu', a function of a tensor or an nn.Module"
        )
    _check(function, name)
    return Elementwise(function, name)


def _check(function: Callable[[Tensor], Tensor], name: str) -> None:
    def run(x: Tensor) -> Tensor:
        try:
            y = function(x.clone())
        except Exception as error:
            raise InputError(
                f"activation {name}: it failed on a float64 tensor of shape {tuple(x.shape)} ({error}); "
                "an activation takes a tensor of any shape and computes each element from that element alone"
            ) from error
        if not isinstance(y, Tensor) or y.shape != x.shape or y.is_complex():
            got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            raise InputError(
                f"activation {name}: for a tensor of shape {tuple(x.shape)} it returned {got}; "
                "an elementwise function returns real numbers of the same shape"
            )
        return y.double()

    def same(a: Tensor, b: Tensor) -> bool:
        # kernels may differ in the last digit between the vectorized part of a tensor and its end
        return torch.allclose(a, b, rtol=1e-6, atol=1e-9, equal_nan=True)

    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        y = run(_TRIAL)
        drew = not torch.equal(
            before, torch.get_rng_state()
        )  # also where the random event did not change this result
        if drew or not torch.equal(y.nan_to_num(), run(_TRIAL).nan_to_num()):
            raise InputError(
                f"activation {name}: two calls on the same tensor differ, so it is random or keeps a state; "
                "for a module, call .eval() first"
            )
        part = slice(50, 102)
        if not same(run(_TRIAL[part]), y[part]) or not same(run(_TRIAL.flip(0)), y.flip(0)):
            raise InputError(
                f"activation {name}: an element's result depends on the other elements, so it is not elementwise "
                "(softmax, GLU and norms have no gain of this kind)"
            )


def evaluate(activation: Activation, x: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    """(name, values, derivative) of an activation at these inputs, a float64 array of any shape.

    Raises InputError for what is no elementwise function, and where no gradient flows through it.

    >>> name, y, slope = evaluate("relu", np.array([-1.0, 2.0]))
    >>> name, y.tolist(), slope.tolist()
    ('relu', [0.0, 2.0], [0.0, 1.0])
    """
    f = resolve(activation)
    x = np.asarray(x, dtype=np.float64)
    return f.name, f(x), f.derivative(x)
