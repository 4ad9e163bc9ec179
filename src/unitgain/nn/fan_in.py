"""How many weights one output of a layer sums over."""

from __future__ import annotations

from torch import Tensor, nn


def fan_in(layer: nn.Module, weight: Tensor) -> int:
    """Input channels (of one group) times kernel positions.

    A weight is (out, in / groups, *kernel); a transposed convolution's (in, out / groups, *kernel), and that of
    transformers' Conv1D (in, out).

    >>> conv = nn.Conv2d(8, 4, 3, groups=2); fan_in(conv, conv.weight)
    36
    >>> up = nn.ConvTranspose2d(8, 4, 3, groups=2); fan_in(up, up.weight)
    36
    """
    if getattr(layer, "transposed", False) or type(layer).__name__ == "Conv1D":
        return len(weight) // int(getattr(layer, "groups", 1)) * weight.shape[2:].numel()
    return weight.shape[1:].numel()
