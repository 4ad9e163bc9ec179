"""The shift that centres a leaky ReLU.

Source of the function: J. Howard, "Practical Deep Learning for Coders" part 2, lesson 17 (fast.ai), which takes
leak 0.1 and sub 0.4. The exact shift for that leak is 0.359, and (because a shifted output has a smaller mean
square) the gain that goes with it is larger than Kaiming's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from .._base import InputError
from .gains import gain, mean_shift
from .roots import root


class ZeroMeanReLU(NamedTuple):
    """sub: what to subtract; gain: for the next layer's weights, of which gain/sqrt(fan_in) is the std."""

    sub: float
    gain: float


def zero_mean_relu(leak: float = 0.0, maxv: float | None = None) -> ZeroMeanReLU:
    """The `sub` for which GeneralReLU(leak, sub, maxv) of a standard normal has mean 0, and its gain.

    GeneralReLU is min(leaky_relu(x, leak) - sub, maxv). Without maxv: sub = (1 - leak)/sqrt(2 pi), and the
    gain is 1/std(leaky_relu(z)), the same as its centred gain. With maxv the sub is found numerically.
    Raises InputError for a maxv of 0 or less, under which no mean can be 0.

    >>> sub, gain = zero_mean_relu(0.1)
    >>> round(sub, 6), round(gain, 6)
    (0.359048, 1.630637)
    """
    if not math.isfinite(leak):
        raise InputError(f"leak is {leak}; expected a finite number, such as 0.1")

    def function(sub: float):
        def general_relu(x: Tensor) -> Tensor:
            y = F.leaky_relu(x, leak) - sub
            return y if maxv is None else y.clamp(max=maxv)

        return general_relu

    sub = (1 - leak) / math.sqrt(2 * math.pi)
    if maxv is not None:
        if not maxv > 0:
            raise InputError(f"maxv is {maxv}; a mean of zero needs a positive one")
        low = (
            sub - 1.0
        )  # the mean falls as sub grows; at the unclipped sub clipping has left it at 0 or below
        while mean_shift(function(low)) <= 0:
            low -= 2 * (sub - low)
        sub = root(lambda s: mean_shift(function(s)), low, sub)
    return ZeroMeanReLU(sub, gain(function(sub)))
