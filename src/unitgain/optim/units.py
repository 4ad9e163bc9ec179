"""Units: the parts of a parameter whose norms adaptive gradient clipping compares, and their norms.

A unit is what feeds one output: a row of a Linear weight, a filter of a convolution, a row of an embedding. Scalars,
vectors, and (gains="vector") whatever becomes a vector without its axes of size 1, such as a gain of shape
(O, 1, 1, 1), are one unit as a whole. gains="channel" makes every row of the latter a unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._base import InputError


@dataclass(frozen=True)
class Layout:
    """Where the units of a parameter lie.

    axis    of the outputs; None: the whole tensor is one unit
    groups  of a transposed convolution, whose weight is (inputs, outputs / groups, ...)
    """

    axis: int | None
    groups: int = 1

    def units(self, shape: torch.Size) -> int:
        return 1 if self.axis is None else int(shape[self.axis]) * self.groups

    def view(self, tensor: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """(a view of the tensor, axes to sum over): keepdim norms over these axes broadcast over the view."""
        if self.axis is None:
            return tensor, tuple(range(tensor.dim()))
        if self.groups > 1:
            tensor = tensor.unflatten(0, (self.groups, -1))  # (G, I / G, O / G, ...)
            return tensor, (1, *range(3, tensor.dim()))
        if self.axis == 0:
            if tensor.is_contiguous():
                return (tensor.view(tensor.shape[0], -1) if tensor.dim() > 2 else tensor), (1,)
            # each unit is one stretch of memory, also in channels_last
            order = [0, *sorted(range(1, tensor.dim()), key=lambda axis: -tensor.stride(axis))]
            dense = tensor.permute(order)
            if dense.is_contiguous():
                return dense.view(tensor.shape[0], -1), (1,)
        return tensor, tuple(axis for axis in range(tensor.dim()) if axis != self.axis)


def layout_of(parameter: Tensor, gains: str, axis: int = 0, groups: int = 1) -> Layout:
    long = sum(size > 1 for size in parameter.shape)
    if parameter.dim() <= 1 or (long <= 1 and gains == "vector"):
        return Layout(None)
    return Layout(axis, groups)


def norms(tensor: Tensor, layout: Layout) -> Tensor:
    """The norm of each unit, (units,), in float32 or wider."""
    view, axes = layout.view(tensor)
    dtype = _norm_dtype(tensor.dtype)
    found = torch.linalg.vector_norm(view, dim=axes, dtype=dtype)
    return found if found.dim() == 1 else found.reshape(-1)


def scale_(tensor: Tensor, layout: Layout, scales: Tensor, clipped: Tensor | None = None) -> None:
    """Multiplies each unit by its scale, in place. clipped: indices of the units to touch, if they are few."""
    view, axes = layout.view(tensor)
    if clipped is not None and axes == (1,) and view.dim() == 2:
        view.index_copy_(0, clipped, view.index_select(0, clipped).mul_(scales[clipped].unsqueeze(1)))
        return
    kept = [1 if axis in axes else size for axis, size in enumerate(view.shape)]
    view.mul_(scales.reshape(kept))


def _norm_dtype(dtype: torch.dtype) -> torch.dtype | None:
    """float16 and bfloat16 are summed in float32; None keeps the tensor's own precision."""
    if dtype in (torch.float16, torch.bfloat16):
        return torch.float32
    return torch.complex64 if dtype is torch.complex32 else None


# ---- sharded parameters ------------------------------------------------------------------------------------


def is_sharded(tensor: Tensor) -> bool:
    return type(tensor).__name__ == "DTensor"


def groups_to_sum_over(tensor: Any, layout: Layout) -> list[Any]:
    """The process groups over which a DTensor's units are cut, so that squared norms must be added up.

    Shards along the axis of the outputs leave units whole; whole-tensor units are cut by every shard. Raises
    InputError for placements that do not hold values (Partial), and for grouped transposed weights.
    """
    found = []
    for number, placement in enumerate(tensor.placements):
        if placement.is_replicate():
            continue
        axis = getattr(placement, "dim", None)
        if not placement.is_shard() and axis is None:
            raise InputError(f"agc_: a DTensor placed as {placement}; only shards and replicas have norms")
        if layout.groups > 1:
            raise InputError("agc_: a grouped transposed convolution cannot be clipped when it is sharded")
        if layout.axis is None or axis != layout.axis:
            found.append(tensor.device_mesh.get_group(number))
    return found


def all_reduce_norms(group: Any, pieces: list[Tensor]) -> list[Tensor]:
    """Norms of units cut over a process group, from each rank's part: one message for all of them."""
    import torch.distributed as dist

    flat = torch.cat([piece.square() for piece in pieces])
    dist.all_reduce(flat, group=group)
    return list(flat.sqrt_().split([len(piece) for piece in pieces]))
