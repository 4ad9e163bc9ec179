"""Padding by name, and the layers that pad as TensorFlow does.

    "symmetric"  ((stride - 1) + dilation * (kernel - 1)) // 2 on both sides of an axis, timm's default
    "same"       the least padding for ceil(size / stride) outputs; an odd one goes to the end of the axis
    "valid"      none

They differ: an even size, stride 2 and kernel 3 are padded (1, 1) symmetrically and (0, 1) by "same", which
shifts every output. "same" depends on the size of the input, per axis, and is worked out in the forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base import InputError

Padding = int | Sequence[int] | str


def same_padding(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Pads in the order of torch.nn.functional.pad: the last axis' start and end first.

    >>> same_padding((224, 7), (3, 3), (2, 2), (1, 1))
    [1, 1, 0, 1]
    """
    pads: list[Any] = []
    for axis in reversed(range(len(kernel))):  # by number, as the sizes of a traced tensor have no length
        s, reach = stride[axis], (kernel[axis] - 1) * dilation[axis]
        needed = reach - (sizes[axis] - 1) % s  # below 0 only for a stride longer than the kernel
        total = 0 if reach == 0 else needed if reach >= s - 1 else _at_least_zero(needed)
        pads += [total // 2, total - total // 2]
    return pads


def _at_least_zero(needed: Any) -> Any:
    """max(needed, 0) of a number, and of what stands for one where sizes are recorded."""
    if isinstance(needed, int):
        return max(needed, 0)
    if isinstance(needed, Tensor):  # torch.jit.trace
        return needed.clamp(min=0)
    return torch.sym_max(needed, 0)  # torch.export, torch.fx


def resolve_padding(
    layer: str, padding: Padding, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, ...], bool]:
    """(the constant padding per axis, whether "same" must be worked out from each input).

    Raises InputError for a name that is none of the three.
    """
    if not isinstance(padding, str):
        return ((padding,) * len(kernel) if isinstance(padding, int) else tuple(padding)), False
    if padding == "same" and any(s > 1 or d * (k - 1) % 2 for k, s, d in zip(kernel, stride, dilation)):
        return (0,) * len(kernel), True
    if padding in ("same", "symmetric"):
        return tuple((s - 1 + d * (k - 1)) // 2 for k, s, d in zip(kernel, stride, dilation)), False
    if padding == "valid":
        return (0,) * len(kernel), False
    raise InputError(f"{layer}: padding is {padding!r}; expected a number, 'symmetric', 'same' or 'valid'")


def set_padding(layer: nn.Module, padding: Padding) -> None:
    """Makes a torch convolution that was built without padding pad as this says; InputError as resolve_padding.

    `layer.same` says whether its forward pass must take `padded(layer, input)`.
    """
    conv: Any = layer
    conv.padding, conv.same = resolve_padding(
        type(layer).__name__, padding, conv.kernel_size, conv.stride, conv.dilation
    )
    conv._reversed_padding_repeated_twice = [p for p in reversed(conv.padding) for _ in range(2)]


def padded(layer: nn.Module, input: Tensor) -> Tensor:
    """The input of a convolution with "same" padding, padded for the input's size."""
    conv: Any = layer
    return F.pad(input, same_padding(_positions(input, conv), conv.kernel_size, conv.stride, conv.dilation))


def _positions(input: Tensor, conv: Any) -> list[int]:
    return [input.shape[2 + axis] for axis in range(len(conv.kernel_size))]


class Conv2dSame(nn.Conv2d):
    """A 2-D convolution with "same" padding for any stride: (B, C, H, W) -> (B, O, ceil(H/s), ceil(W/s)).

    >>> Conv2dSame(3, 8, 3, stride=2)(torch.zeros(1, 3, 6, 7)).shape
    torch.Size([1, 8, 3, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            0,
            dilation,
            groups,
            bias,
            device=device,
            dtype=dtype,
        )

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(padded(self, input))


class MaxPool2dSame(nn.Module):
    """Max-pooling with "same" padding; the padding is never the maximum.

    >>> MaxPool2dSame(3, 2)(-torch.ones(1, 1, 5, 6)).unique()
    tensor([-1.])
    """

    def __init__(self, kernel_size: int, stride: int):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = (self.kernel_size,) * 2, (self.stride,) * 2
        pads = same_padding((x.shape[2], x.shape[3]), kernel, stride, (1, 1))
        return F.max_pool2d(F.pad(x, pads, value=float("-inf")), kernel, stride)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}"
