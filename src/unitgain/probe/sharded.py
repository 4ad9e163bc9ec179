"""Parameters that are cut up over ranks (DTensor: FSDP2, tensor parallelism), measured as one process would.

The values that a sample takes of the whole parameter are known from its shape alone. Each rank fills in those that it
holds, and zeros; the sum over the ranks is the sample. Of values that several ranks hold, one fills them in. So nothing
is gathered, and one message a rank (ranks.py) brings all of a step together.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .. import stats


def is_sharded(tensor: Any) -> bool:
    return type(tensor).__name__ == "DTensor"


def local(tensor: Any) -> Tensor:
    """What this rank holds of it."""
    return tensor.detach().to_local() if is_sharded(tensor) else tensor


def piece(tensor: Any, size: int) -> Tensor:
    """This rank's share of `stats.take_sample` of the whole: zeros where another rank has the values."""
    count, slots, places = _held(tuple(tensor.shape), tuple(tensor.placements), tensor.device_mesh, size)
    values = local(tensor).reshape(-1)
    found = values.new_zeros(count)
    found[slots.to(values.device)] = values[places.to(values.device)]
    return found


def squares(tensor: Any) -> tuple[Tensor, int]:
    """(This rank's share of the sum of squares, number of values of the whole)."""
    values = local(tensor)
    share = (
        values.double().square().sum()
        if _speaks(tensor.placements, tensor.device_mesh)
        else values.new_zeros(())
    )
    return share, math.prod(tensor.shape)


def can_place(tensor: Any) -> bool:
    """Whether it is known which of the whole's values this rank holds."""
    held = _axes(tuple(tensor.shape), tuple(tensor.placements), tensor.device_mesh)
    return held is not None and [len(axis) for axis in held] == list(local(tensor).shape)


@lru_cache(maxsize=4096)
def _held(
    shape: tuple[int, ...], placements: tuple[Any, ...], mesh: Any, size: int
) -> tuple[int, Tensor, Tensor]:
    """(values of the sample, which of them this rank fills in, where these lie in its own part)."""
    wanted = stats.places_of_sample(math.prod(shape), size)
    axes = _axes(shape, placements, mesh)
    assert axes is not None, "can_place has said so"
    place, mine, rest = torch.zeros_like(wanted), torch.ones_like(wanted, dtype=torch.bool), wanted
    step = 1
    for length, axis in zip(reversed(shape), reversed(axes)):
        at = torch.full((length,), -1)
        at[axis] = torch.arange(len(axis))
        here = at[rest % length]
        place, mine, rest, step = place + here * step, mine & (here >= 0), rest // length, step * len(axis)
    if not _speaks(placements, mesh):
        mine = torch.zeros_like(mine)
    return len(wanted), mine.nonzero().flatten(), place[mine]


def _axes(shape: tuple[int, ...], placements: tuple[Any, ...], mesh: Any) -> list[Tensor] | None:
    """Of each axis, which of the whole's positions this rank holds."""
    axes = [torch.arange(length) for length in shape]
    coordinate = mesh.get_coordinate()
    for dimension, placement in enumerate(placements):
        if placement.is_replicate():
            continue
        split, axis = getattr(placement, "_split_tensor", None), getattr(placement, "dim", None)
        if split is None or axis is None or coordinate is None:
            return None
        along = axes[axis].view([-1 if i == axis else 1 for i in range(len(shape))])
        parts, _ = split(along, mesh.size(dimension), with_padding=False, contiguous=True)
        axes[axis] = parts[coordinate[dimension]].flatten()
    return axes


def _speaks(placements: Any, mesh: Any) -> bool:
    """Whether this rank is the one that fills in what several hold."""
    coordinate = mesh.get_coordinate()
    return coordinate is not None and not any(
        at and placement.is_replicate() for at, placement in zip(coordinate, placements)
    )
