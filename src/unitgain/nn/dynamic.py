"""Pointwise functions in the place of LayerNorm, and RMSNorm with a bias.

    DynamicTanh    weight * tanh(alpha x) + bias             "Transformers without Normalization" (arXiv 2503.10622)
    DynamicErf     weight * erf(alpha x + shift) + bias      its successor by the same group
    DynamicISRU    weight * u / sqrt(1 + u^2) + bias, u = alpha x    (arXiv 2503.21708)

They normalize nothing: alpha x has to have a std of some 0.3 to 0.7 for them to act as a LayerNorm does, so that the
published alpha of 0.5 needs a stream of std near 1. Keys are those of the authors' code (alpha, weight, bias, shift;
alpha of shape (1,)); state dicts of x-transformers (gamma, beta, pre_tanh_scale or alpha, s; 0-dim) load too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError

_OTHER_KEYS = {"gamma": "weight", "beta": "bias", "pre_tanh_scale": "alpha", "s": "shift"}


class _Dynamic(nn.Module):
    bias: Tensor | None
    shifted = False

    def __init__(self, channels: int, alpha: float = 0.5, bias: bool = True, channels_first: bool = False):
        super().__init__()
        if not isinstance(channels, int) or channels < 1:
            raise InputError(
                f"{type(self).__name__}: channels is {channels!r}; expected a whole number of at least 1"
            )
        self.channels, self.channels_first = channels, channels_first
        self.alpha = nn.Parameter(torch.full((1,), float(alpha)))
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if bias else None)
        if self.shifted:
            self.shift = nn.Parameter(torch.zeros(1))

    def squash(self, u: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        u = self.alpha * x
        y = self.squash(u + self.shift if self.shifted else u)
        y = (y.movedim(1, -1) if self.channels_first else y) * self.weight
        y = y if self.bias is None else y + self.bias
        return y.movedim(-1, 1) if self.channels_first else y

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for theirs, ours in _OTHER_KEYS.items():
            if prefix + theirs in state_dict and prefix + ours not in state_dict:
                state_dict[prefix + ours] = state_dict.pop(prefix + theirs)
        for name in ("alpha", "shift"):
            value = state_dict.get(prefix + name)
            if isinstance(value, Tensor) and value.dim() == 0:
                state_dict[prefix + name] = value.reshape(1)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        return f"{self.channels}, channels_first={self.channels_first}"


class DynamicTanh(_Dynamic):
    """weight * tanh(alpha x) + bias: (*, C) in and out, or (N, C, *) with channels_first.

    channels  C. alpha: where the one learnable number starts. bias: False for none (the authors' LLaMA)

    >>> layer = DynamicTanh(4, alpha=0.5)
    >>> torch.equal(layer(torch.ones(2, 4)), torch.tanh(torch.full((2, 4), 0.5)))
    True
    >>> sorted(layer.state_dict())
    ['alpha', 'bias', 'weight']
    """

    def squash(self, u: Tensor) -> Tensor:
        return torch.tanh(u)


class DynamicErf(_Dynamic):
    """weight * erf(alpha x + shift) + bias: as DynamicTanh, with one more learnable number, at first 0.

    >>> sorted(DynamicErf(4).state_dict())
    ['alpha', 'bias', 'shift', 'weight']
    """

    shifted = True

    def squash(self, u: Tensor) -> Tensor:
        return torch.erf(u)


class DynamicISRU(_Dynamic):
    """weight * u / sqrt(1 + u^2) + bias with u = alpha x: as DynamicTanh, the pointwise counterpart of RMSNorm."""

    def squash(self, u: Tensor) -> Tensor:
        return u * (1 + u.square()).rsqrt()


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight + bias over the last axis: (*, C) in and out.

    What a LayerNorm computes where its input has mean 0 already. torch's RMSNorm has no bias.

    >>> x = torch.randn(2, 8); x = x - x.mean(1, keepdim=True)
    >>> torch.allclose(RMSNorm(8)(x), nn.LayerNorm(8)(x), atol=1e-6)
    True
    """

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = True, bias: bool = True):
        super().__init__()
        self.channels, self.eps = channels, eps
        self.register_parameter("weight", nn.Parameter(torch.ones(channels)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if affine and bias else None)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.rms_norm(x, (self.channels,), self.weight, self.eps)  # type: ignore[arg-type]
        return y if self.bias is None else y + self.bias  # type: ignore[operator]

    def extra_repr(self) -> str:
        return f"{self.channels}, eps={self.eps:g}"
