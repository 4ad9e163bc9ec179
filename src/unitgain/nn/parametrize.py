"""Scaled weight standardization added to an existing layer, and removed again with the weights folded in."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .._base import InputError
from .activations import gamma_of
from .fan_in import fan_in
from .scaled_std import EpsMode, check_standardization, standardized

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class ScaledStandardization(nn.Module):
    """weight -> standardized weight; what scaled_std_ registers. Holds the gain, if there is one.

    scale  a constant; after `scale_as_buffer` a 0-dim buffer, so that a measured value is saved with the weights
    """

    scale: float | Tensor

    def __init__(self, scale: float, eps: float, eps_mode: str, groups: int, gain: Tensor | None):
        super().__init__()
        self.scale, self.eps, self.eps_mode, self.groups = scale, eps, eps_mode, groups
        self.gain = None if gain is None else nn.Parameter(gain)

    def forward(self, weight: Tensor) -> Tensor:
        gain = 1.0 if self.gain is None else self.gain
        return standardized(weight, gain, self.eps, self.eps_mode, self.groups, self.scale)

    def scale_as_buffer(self) -> None:
        """scale becomes a persistent 0-dim buffer."""
        if not isinstance(self.scale, Tensor):
            value = torch.tensor(self.scale, device=None if self.gain is None else self.gain.device)
            del self.scale
            self.register_buffer("scale", value)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """A weight that is assigned is the one to be standardized."""
        return weight

    def extra_repr(self) -> str:
        return f"scale={float(self.scale):.6g}, {self.eps_mode} eps={self.eps:g}"


def scaled_std_(
    layer: nn.Module,
    *,
    gamma: float | str = 1.0,
    eps: float | None = None,
    eps_mode: EpsMode = "clamp",
    gain: float | None = 1.0,
) -> nn.Module:
    """Standardizes the weight of a convolution (plain or transposed) or linear layer whenever it is used; in place.

    gamma, eps, eps_mode and gain as in ScaledStdConv2d. The weight becomes a torch parametrization: its own values
    stay as `parametrizations.weight.original`, the gain is `parametrizations.weight.0.gain`. Optimizers have to be
    made afterwards. Returns the layer.

    Raises InputError for other modules, for a layer that has it already, and where each output depends on one weight
    only.

    >>> layer = scaled_std_(nn.Linear(16, 4), gamma="relu")
    >>> layer.weight.norm(dim=1).round(decimals=3)
    tensor([1.7130, 1.7130, 1.7130, 1.7130], grad_fn=<RoundBackward1>)
    >>> type(remove_scaled_std_(layer).weight).__name__
    'Parameter'
    """
    kind = type(layer).__name__
    if not isinstance(layer, (*_CONVS, *_TRANSPOSED, nn.Linear)):
        raise InputError(
            f"scaled_std_: a {kind} has no weight with rows; expected a convolution or linear layer"
        )
    if _is_standardized(layer):
        raise InputError(
            f"scaled_std_: this {kind} is standardized already; remove_scaled_std_(layer) removes that"
        )
    weight: Any = layer.weight
    groups = layer.groups if isinstance(layer, _TRANSPOSED) else 0
    units = len(weight) if not groups else weight.shape[1] * groups
    eps = check_standardization(kind, fan_in(layer, weight), eps_mode, eps)
    scale = gamma_of(gamma) if isinstance(gamma, str) else float(gamma)
    if isinstance(layer, _TRANSPOSED):
        scale *= math.prod(layer.stride) ** 0.5
    shape = (units, *[1] * (weight.dim() - 1))
    gains = None if gain is None else torch.full(shape, float(gain), dtype=weight.dtype, device=weight.device)
    parametrize.register_parametrization(
        layer, "weight", ScaledStandardization(scale, eps, eps_mode, groups, gains)
    )
    return layer


def remove_scaled_std_(layer: nn.Module, fold: bool = True) -> nn.Module:
    """Removes the parametrization: the standardized weight becomes the weight, or with fold=False the original one.

    Raises InputError if the layer is not standardized. Returns the layer.
    """
    if not _is_standardized(layer):
        raise InputError(
            f"remove_scaled_std_: this {type(layer).__name__} is not standardized by scaled_std_"
        )
    return without_parametrization(layer, "weight", fold)


def without_parametrization(layer: nn.Module, name: str, fold: bool = True) -> nn.Module:
    """torch's `remove_parametrizations`, without harm to deep copies of the layer. Returns the layer.

    torch makes a class for each parametrized module, with a property that computes the weight. A deep copy has the same
    class, and removing deletes the property from it: whichever of the two is left would have no weight any more.
    """
    cls = type(layer)
    own = {key: value for key, value in vars(cls).items() if key not in ("__dict__", "__weakref__")}
    made: Any = type(cls.__name__, cls.__bases__, own)
    layer.__class__ = made
    return parametrize.remove_parametrizations(layer, name, leave_parametrized=fold)


def _is_standardized(layer: nn.Module) -> bool:
    if not parametrize.is_parametrized(layer, "weight"):
        return False
    stack: Any = layer.parametrizations
    return any(isinstance(step, ScaledStandardization) for step in stack.weight)
