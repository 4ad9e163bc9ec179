"""GeneralReLU, and activations multiplied by the gain that keeps the variance at one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from .._base import InputError


class GeneralReLU(nn.Module):
    """min(leaky_relu(x, leak) - sub, maxv): a ReLU that may leak, be shifted down and be cut off.

    leak  slope for negative inputs; None or 0 is a plain ReLU
    sub   subtracted from the result, so that its mean can be 0: `ug.theory.zero_mean_relu(leak)` gives the exact
          shift and the gain to initialize the next weights with; None subtracts nothing
    maxv  upper bound of the result, after the shift; None for no bound

    Any shape in, the same out. Raises InputError for numbers that are not finite.

    >>> import torch
    >>> GeneralReLU(leak=0.1, sub=0.4, maxv=2.0)(torch.tensor([-1.0, 1.0, 5.0]))
    tensor([-0.5000,  0.6000,  2.0000])

    Source: J. Howard, "Practical Deep Learning for Coders" part 2, lesson 17 (fast.ai). Never in place, so that the
    input stays as it was measured and saved for the backward pass.
    """

    def __init__(self, leak: float | None = None, sub: float | None = None, maxv: float | None = None):
        super().__init__()
        for name, value in (("leak", leak), ("sub", sub), ("maxv", maxv)):
            if value is not None and not math.isfinite(value):
                raise InputError(f"GeneralReLU: {name} is {value}; expected a finite number or None")
        self.leak, self.sub, self.maxv = leak, sub, maxv

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(x, self.leak) if self.leak else F.relu(x)
        if self.sub:
            x = x - self.sub
        return x if self.maxv is None else x.clamp(max=self.maxv)

    @property
    def elementwise_function(self) -> dict[str, object]:
        """What a Probe needs: name, bounds, and which outputs have no derivative. The bounds are moved inwards by 2**-8
        of their value, since bfloat16 rounds them."""
        low = None if self.leak else -(self.sub or 0.0)
        high = self.maxv
        return {
            "name": "general_relu",
            "bounds": (low, high),
            "saturated": None if high is None else (None, high - abs(high) * 2**-8),
            "dead": None if low is None else (-math.inf, low + abs(low) * 2**-8),
        }

    def extra_repr(self) -> str:
        return f"leak={self.leak}, sub={self.sub}, maxv={self.maxv}"


GAMMA: Mapping[str, float] = {
    "ReLU": 1.7128585504496627,
    "LeakyReLU": 1.7048316271773365,
    "ReLU6": 1.7128585549723956,
    "ELU": 1.270843417850196,
    "CELU": 1.270843417850196,
    "SELU": 1.0,
    "GELU": 1.700926243363333,
    "SiLU": 1.7871872221004421,
    "Mish": 1.5920253810994462,
    "Hardswish": 1.8138714738131827,
    "Tanh": 1.5925374197228315,
    "Sigmoid": 4.801313372039962,
    "Softplus": 1.9191259801076563,
    "LogSigmoid": 1.9191259801076563,
    "Softsign": 2.3375333631085393,
    "Identity": 1.0,
}
"""1/std f(z) for z standard normal, of torch's activation modules with their default arguments.

Written as numbers, so that making a layer computes nothing: `ug.theory.centered_gain` gives the same ones by
quadrature (tested to 1e-12), and those of any other function. They are exact; published tables are some 0.05% above
them.
"""


def gamma_of(name: str) -> float:
    """The gain of an activation by its name in GAMMA, or torch.nn.functional's name for it.

    >>> gamma_of("leaky_relu") == gamma_of("LeakyReLU") == GAMMA["LeakyReLU"]
    True
    """
    known = {key.lower(): value for key, value in GAMMA.items()}
    found = known.get(name.replace("_", "").lower())
    if found is None:
        raise InputError(
            f"gamma {name!r}: the gain of this activation is not known; give the number "
            f"ug.theory.centered_gain(activation), or one of {', '.join(GAMMA)}"
        )
    return found


class GainCorrected(nn.Module):
    """gain * activation(x): output variance 1 for standard normal inputs.

    activation  a module or an elementwise function of a tensor
    gain        the factor; "auto" takes it from GAMMA, for torch's modules with default arguments. For others
                give it: `GainCorrected(act, gain=ug.theory.centered_gain(act))`

    Weights of std 1/sqrt(fan_in) that sum to zero per unit (scaled weight standardization) keep the variance at
    1 from layer to layer with it. Source: Brock et al. 2021 (arXiv 2101.08692), whose code multiplies by such a
    constant in the activation. Not in place: ReLU, tanh and sigmoid need their own output in the backward pass.

    >>> import torch
    >>> round(GainCorrected(nn.ReLU())(torch.randn(100_000, generator=torch.manual_seed(0))).std().item(), 2)
    1.0
    """

    def __init__(self, activation: nn.Module | Callable[[Tensor], Tensor], gain: float | str = "auto"):
        super().__init__()
        if not callable(activation):
            raise InputError(f"GainCorrected: activation is {activation!r}; give a module or a function")
        self.activation = activation
        if gain == "auto":
            gain = _known_gain(activation)
        if isinstance(gain, str) or not math.isfinite(gain) or gain <= 0:
            raise InputError(f"GainCorrected: gain is {gain!r}; give 'auto' or a positive number")
        self.gain = float(gain)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x) * self.gain

    def extra_repr(self) -> str:
        return f"gain={self.gain:.7g}"


def _known_gain(activation: nn.Module | Callable[[Tensor], Tensor]) -> float:
    name = getattr(activation, "__name__", type(activation).__name__)
    if isinstance(activation, nn.Module):
        name, cls = repr(activation), type(activation)
        # what a module prints about itself is its arguments: slopes, alphas, "approximate"
        known = cls.__name__ in GAMMA and cls is getattr(nn, cls.__name__, None)
        if known and _arguments(activation) == _arguments(cls()):
            return GAMMA[cls.__name__]
    raise InputError(
        f"GainCorrected: the gain of {name} is not known; give it as gain=ug.theory.centered_gain(activation)"
    )


def _arguments(module: nn.Module) -> str:
    return module.extra_repr().replace("inplace=True", "").strip(", ")
