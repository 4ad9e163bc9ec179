"""Activation functions: name, bounds, and where their derivative is (almost) zero.

`dead` intervals are where the magnitude of the derivative stays below 1e-3, expressed in output values so that
nothing but the output has to be looked at: gelu'(x) falls below 1e-3 at x = -3.8 where gelu(x) = -2.6e-4, its tanh
approximation at x = -3.7 (-2.3e-4); silu' and mish' at x = -9 (-1.1e-3; tests/graph checks each number against
autograd). A magnitude of tanh above 0.97 counts as saturated; for other bounded functions
the same share of the range (1.5% at either end) does.

A module of anyone's can say itself which elementwise function it is, with an attribute or property
`elementwise_function`. It is a name ("relu": what is known of that function holds; "snake": a function of which
nothing more is known) or a mapping, all keys but the name optional, numbers being outputs:

    {"name": "capped_relu", "bounds": (0.0, 2.0), "saturated": (None, 2.0), "dead": (0.0, 0.0)}

bounds     (low, high) that outputs never pass, None: unbounded on that side
saturated  (low, high): outputs at or below low, or at or above high, are in a flat tail
dead       (low, high): a unit whose every output lies in there passes no gradient on
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .._base import InputError
from ..stats import Range

_TAIL = 0.015  # share of the range: tanh's -1..1 gives 0.97


_NONE = Range()


@dataclass(frozen=True)
class Activation:
    """An elementwise function: its name, its bounds (None: unbounded on that side) and its flat parts."""

    name: str
    bounds: tuple[float | None, float | None] = (None, None)
    range: Range = _NONE


def _smooth(name: str, low: float, high: float, dead: float) -> Activation:
    """Bounded on both sides; `dead` is the distance from a bound below which the derivative is under 1e-3."""
    tail = _TAIL * (high - low)
    flat = Range((low + tail, high - tail), dead=(low + dead, high - dead), dead_tails=True)
    return Activation(name, (low, high), flat)


def _hard(name: str, low: float, high: float, *, both_ends: bool) -> Activation:
    """Clipped to low and high; both_ends False: the lower end is the off state of a rectifier, not saturation."""
    if both_ends:
        return Activation(
            name, (low, high), Range((low, high), at_bound=True, dead=(low, high), dead_tails=True)
        )
    return Activation(name, (low, high), Range((None, high), at_bound=True, dead=(low, low)))


def _rectifier(name: str, dead_from: float, dead_to: float, low: float | None = None) -> Activation:
    return Activation(name, (low, None), Range(dead=(dead_from, dead_to)))


def _elu(name: str, floor: float, dead: float = 1e-3) -> Activation:
    return Activation(name, (floor, None), Range(dead=(floor - abs(floor), floor + dead)))


_INF = float("inf")
_SELU_FLOOR = -1.0507009873554805 * 1.6732632423543772

ACTIVATIONS: Mapping[str, Activation] = {
    a.name: a
    for a in (
        _smooth("tanh", -1.0, 1.0, 5.0e-4),
        _smooth("sigmoid", 0.0, 1.0, 1.0e-3),
        _smooth("softsign", -1.0, 1.0, 3.16e-2),
        _hard("hardtanh", -1.0, 1.0, both_ends=True),
        _hard("hardsigmoid", 0.0, 1.0, both_ends=True),
        _hard("relu6", 0.0, 6.0, both_ends=False),
        _rectifier("relu", -_INF, 0.0, low=0.0),
        _rectifier("hardswish", 0.0, 0.0),
        _rectifier("gelu", -2.3e-4, 0.0),
        _rectifier("silu", -1.0e-3, 0.0),
        _rectifier("mish", -1.0e-3, 0.0),
        _rectifier("softplus", 0.0, 1.0e-3, low=0.0),
        _elu("elu", -1.0),
        _elu("celu", -1.0),
        _elu("selu", _SELU_FLOOR),
        Activation("leaky_relu"),
        Activation("prelu"),
        Activation("rrelu"),
        Activation("glu"),
        Activation("logsigmoid", (None, 0.0)),
        Activation("tanhshrink"),
        Activation("softshrink"),
        Activation("hardshrink"),
        Activation("threshold"),
    )
}

_MODULES: Mapping[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.LeakyReLU: "leaky_relu", nn.PReLU: "prelu", nn.RReLU: "rrelu",
    nn.ELU: "elu", nn.CELU: "celu", nn.SELU: "selu", nn.GELU: "gelu", nn.SiLU: "silu", nn.Mish: "mish",
    nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.Hardtanh: "hardtanh", nn.Hardsigmoid: "hardsigmoid",
    nn.Hardswish: "hardswish", nn.Softplus: "softplus", nn.Softsign: "softsign", nn.GLU: "glu",
    nn.LogSigmoid: "logsigmoid", nn.Tanhshrink: "tanhshrink", nn.Softshrink: "softshrink",
    nn.Hardshrink: "hardshrink", nn.Threshold: "threshold",
}  # fmt: skip

# What activation classes of other libraries are called ("NewGELUActivation", "Swish", "GELUTanh").
_NAME_PARTS = (
    ("gelu", "gelu"), ("swish", "silu"), ("silu", "silu"), ("mish", "mish"), ("leakyrelu", "leaky_relu"),
    ("prelu", "prelu"), ("relu6", "relu6"), ("selu", "selu"), ("celu", "celu"), ("elu", "elu"),
    ("tanh", "tanh"), ("sigmoid", "sigmoid"),
)  # fmt: skip


def of_module(module: nn.Module) -> Activation | None:
    """The activation function that a module is, with its own bounds; None if it is none that we know.

    Raises InputError if its `elementwise_function` is not what the head of this file says.
    """
    declared = getattr(module, "elementwise_function", None)
    if declared is not None:
        return _declared(declared, type(module).__name__)
    if isinstance(module, nn.ReLU6):  # a subclass of Hardtanh
        return ACTIVATIONS["relu6"]
    for cls, name in _MODULES.items():
        if isinstance(module, cls):
            return _with_arguments(name, module)
    if next(module.parameters(), None) is not None or next(module.children(), None) is not None:
        return None
    called = type(module).__name__.lower()
    if called.startswith("hard"):
        return ACTIVATIONS.get({"hardswish": "hardswish", "hardsigmoid": "hardsigmoid"}.get(called, ""))
    if called == "relu":
        return ACTIVATIONS["relu"]
    if "relu" in called and not called.startswith(("relu6", "leakyrelu", "prelu")):
        return None  # GeneralReLU, SquaredReLU and the like shift, leak or square
    for part, name in _NAME_PARTS:
        if part in called:
            return ACTIVATIONS[name]
    return None


def _declared(declared: Any, owner: str) -> Activation:
    if isinstance(declared, str):
        return ACTIVATIONS.get(declared) or Activation(declared)
    ranges: dict[str, tuple[float | None, float | None]] = {}
    good = isinstance(declared, Mapping) and isinstance(declared.get("name"), str)
    for key, pair in declared.items() if good else ():
        if key == "name" or pair is None:
            continue
        good &= key in ("bounds", "saturated", "dead") and isinstance(pair, Sequence) and len(pair) == 2
        good = good and all(isinstance(end, (int, float)) or (end is None and key != "dead") for end in pair)
        ranges[key] = tuple(pair) if good else (None, None)  # type: ignore[assignment]
    if not good:
        raise InputError(
            f"{owner}.elementwise_function is {declared!r}; right are a name, or a mapping with a name and, as pairs "
            "(low, high) of numbers, bounds, saturated and dead"
        )
    saturated = ranges.get("saturated", (None, None))
    flat = Range(saturated, at_bound=True, dead=ranges.get("dead"))  # type: ignore[arg-type]
    return Activation(declared["name"], ranges.get("bounds", (None, None)), flat)


def _with_arguments(name: str, module: nn.Module) -> Activation:
    if name == "hardtanh":
        low, high = float(module.min_val), float(module.max_val)  # type: ignore[arg-type]
        return _hard(name, low, high, both_ends=low < 0)
    if name == "elu":
        return _elu(name, -abs(float(module.alpha)))  # type: ignore[arg-type]
    if name == "celu":  # its slope is (value + alpha) / alpha
        alpha = abs(float(module.alpha))  # type: ignore[arg-type]
        return _elu(name, -alpha, 1e-3 * alpha)
    if name == "softplus":  # its slope is 1 - exp(-beta * value)
        return _rectifier(name, 0.0, 1e-3 / float(module.beta), low=0.0)  # type: ignore[arg-type]
    return ACTIVATIONS[name]


def _functions() -> dict[Callable[..., Any], str]:
    table: dict[Callable[..., Any], str] = {}
    for name in ACTIVATIONS:
        for owner in (F, torch, torch.Tensor):
            for spelling in (name, name + "_"):
                function = getattr(owner, spelling, None)
                if callable(function):
                    table[function] = name
    for function in (torch.special.expit,):
        table[function] = "sigmoid"
    return table


FUNCTIONS: Mapping[Callable[..., Any], str] = _functions()


def of_function(function: Callable[..., Any]) -> Activation | None:
    """The activation that a torch function computes (`torch.tanh`, `F.relu`, `Tensor.sigmoid_`)."""
    name = FUNCTIONS.get(function)
    return ACTIVATIONS[name] if name else None
