"""What a normalizer-free network is made of: its variant, and how its parts are wired.

How the wirings differ:

                       timm                                     paper                       calibrated
    gamma              in every weight, the stem's too          in every activation         as paper
    padding            symmetric                                "same"                      as paper
    eps                additive 1e-5                            clamp 1e-4                  as paper
    channels           multiples of 8                           not rounded                 as paper
    end of a branch    gain of the last convolution, at first 0 scalar, at first 0          as paper
    NF-ResNet shortcut 2x2 mean, 1x1 convolution                strided 1x1 convolution     as paper
    stochastic depth   divided by 1 - rate; last block at rate  not divided; below rate     as paper
    input scales       constants                                constants                   buffers, measured
    GELU               with erf                                 jax's default, with tanh    as paper

timm's own DeepMind ports (`dm_nfnet_*`) put gamma into the activation, pad "same" and have the scalar, but keep
timm's eps. State-dict keys and shapes of the `timm` wiring are timm's; `paper` has the same keys where the
structure is the same. Activation constants are DeepMind's, also in timm, because weights were trained with them;
they are some 0.05% too high (`ug.theory.constants()`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from torch import nn

from .._base import InputError
from ..nn import EpsMode
from ._image import IMAGENET

ACTIVATIONS: Mapping[str, tuple[type[nn.Module], float]] = {
    "relu": (nn.ReLU, 1.7139588594436646),
    "gelu": (nn.GELU, 1.7015043497085571),
    "silu": (nn.SiLU, 1.7881293296813965),
    "elu": (nn.ELU, 1.2716004848480225),
    "leaky_relu": (nn.LeakyReLU, 1.70590341091156),
    "selu": (nn.SELU, 1.0008515119552612),
    "softplus": (nn.Softplus, 1.9203323125839233),
    "tanh": (nn.Tanh, 1.5939117670059204),
}
"""Activation and DeepMind's gamma; tests compare them with ug.theory.constants()."""

WiringName = Literal["timm", "paper", "calibrated"]
_Stem = Literal["7x7 pool", "3x3", "3x3 four"]


@dataclass(frozen=True)
class NormFreeConfig:
    """A variant.

    depths, channels     blocks and output channels of each stage, before `width` and rounding
    stem                 "7x7 pool": convolution and max-pool, stride 4; "3x3": one of stride 2; "3x3 four": four,
                         of strides 2, 1, 1, 2
    stem_channels        of each of the stem's convolutions
    bottleneck           channels inside a block over its output channels; over its input channels if `regnet`
    group_size           channels per group of the 3x3 convolutions; None for a single group
    attention            "se" (hidden channels: attention_ratio), "eca" or None
    regnet               block as in NF-RegNet: see bottleneck; first block not widened; attention inside
    pooled_shortcut      in `paper` wiring (timm's always pools)
    final_channels       of the 1x1 convolution before the head, before `width`; 0 for none
    deepmind             timm's wiring follows DeepMind's in gamma, padding and skip gain
    drop_rate            dropout before the classifier; stochastic_depth: the deepest block's rate, about
    train_size, test_size  image sides in pixels; crop, mean, std: how images are to be prepared
    """

    depths: tuple[int, ...]
    channels: tuple[int, ...]
    stem: _Stem
    stem_channels: tuple[int, ...]
    activation: str
    bottleneck: float
    group_size: int | None = None
    second_conv: bool = False
    attention: Literal["se", "eca"] | None = None
    attention_ratio: float = 0.5
    regnet: bool = False
    pooled_shortcut: bool = True
    final_channels: int = 0
    width: float = 1.0
    zero_head: bool = False
    deepmind: bool = False
    alpha: float = 0.2
    drop_rate: float = 0.0
    stochastic_depth: float = 0.0
    train_size: int = 224
    test_size: int = 224
    crop: float = 0.9
    test_crop: float | None = None
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET


@dataclass(frozen=True)
class Wiring:
    """One column of the table above."""

    gamma_in_activation: bool
    padding: Literal["symmetric", "same"]
    eps_mode: EpsMode
    eps: float
    divisor: int
    skip_gain: bool
    always_pool: bool
    rescale: bool
    measured: bool = False
    jax: bool = False


_TIMM = Wiring(False, "symmetric", "additive", 1e-5, 8, False, True, True)
_TIMM_DEEPMIND = Wiring(True, "same", "additive", 1e-5, 8, True, True, True)
_PAPER = Wiring(True, "same", "clamp", 1e-4, 1, True, False, False, jax=True)
_CALIBRATED = replace(_PAPER, measured=True)


def wiring_of(config: NormFreeConfig, name: str) -> Wiring:
    if name == "timm":
        return _TIMM_DEEPMIND if config.deepmind else _TIMM
    if name not in get_args(WiringName):
        raise InputError(f"wiring is {name!r}; expected one of {', '.join(get_args(WiringName))}")
    return _PAPER if name == "paper" else _CALIBRATED
