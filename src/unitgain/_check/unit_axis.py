"""The axis that a layer with a single unit made, followed through what moves axes. For rule UG112.

A softmax over that axis is one in every batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

_PRODUCTS = {"linear", "conv1d", "conv2d", "conv3d", "matmul", "mm", "addmm"}


def unit_axis(
    name: str, args: Any, kwargs: Any, out: Tensor, given: Sequence[int | None], weights: set[int]
) -> int | None:
    """Of what a call gives. given: such axes of the tensors that go in; weights: the ids of the model's parameters."""
    if name in _PRODUCTS:
        return _made_by_one_unit(name, args, kwargs, out, weights)
    axis = next((axis for axis in given if axis is not None), None)
    if axis is None or not args or not isinstance(args[0], Tensor):
        return None
    before, rest = args[0], list(args[1:])
    dims = [
        d for d in (rest[0] if rest and isinstance(rest[0], (tuple, list)) else rest) if isinstance(d, int)
    ]
    dims += [
        kwargs[key]
        for key in ("dim", "dim0", "dim1", "source", "destination")
        if isinstance(kwargs.get(key), int)
    ]
    if name in ("transpose", "swapaxes"):
        one, two = (d % before.dim() for d in dims)
        return {one: two, two: one}.get(axis, axis)
    if name in ("t", "get") and before.dim() == out.dim() == 2 and out.shape == before.shape[::-1]:
        return 1 - axis
    if name == "permute":
        return [d % before.dim() for d in dims].index(axis)
    if name == "movedim":
        order = [d for d in range(before.dim()) if d != dims[0] % before.dim()]
        order.insert(dims[1] % before.dim(), dims[0] % before.dim())
        return order.index(axis)
    if name == "unsqueeze":
        return axis + (dims[0] % (before.dim() + 1) <= axis)
    if name == "squeeze":
        if not dims or axis in (gone := [d % before.dim() for d in dims]):
            return None
        return axis - sum(d < axis and before.shape[d] == 1 for d in gone)
    if name in ("view", "reshape", "flatten", "unflatten") and out.shape != before.shape:
        return _through_reshape(before, out, axis)
    return axis if out.shape == before.shape else None


def _made_by_one_unit(name: str, args: Any, kwargs: Any, out: Tensor, weights: set[int]) -> int | None:
    weight = kwargs.get(
        "weight", args[-1] if name in ("matmul", "mm", "addmm") else args[1] if len(args) > 1 else None
    )
    if not isinstance(weight, Tensor) or not out.dim():
        return None
    if name.startswith("conv"):
        return out.dim() - weight.dim() + 1 if weight.shape[0] == 1 else None
    units = weight.shape[0] if name == "linear" else weight.shape[-1]
    ours = name == "linear" or id(weight) in weights
    return out.dim() - 1 if ours and weight.dim() == 2 and units == 1 else None


def _through_reshape(before: Tensor, out: Tensor, axis: int) -> int | None:
    """The same axis afterwards, if nothing but it can be meant."""
    if list(before.shape).count(1) > 1:
        return None  # which of them is left cannot be told
    ones = [d for d, size in enumerate(out.shape) if size == 1]
    return ones[0] if len(ones) == 1 else None
