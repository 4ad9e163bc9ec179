"""Where an axis of a tensor is after a call that moves, adds or takes away axes. For rule UG807."""

from __future__ import annotations

from typing import Any

from torch import Tensor

# what keeps shapes and axes
EACH_VALUE = {
    "add", "radd", "iadd", "sub", "rsub", "isub", "mul", "rmul", "imul", "div", "truediv", "idiv", "itruediv", "neg",
    "masked_fill", "where", "clamp", "float", "half", "bfloat16", "to", "contiguous", "clone", "relu", "gelu", "silu",
    "elu", "leaky_relu", "tanh", "sigmoid", "dropout", "nan_to_num", "type_as",
}  # fmt: skip


def axes_of_sum(args: Any, kwargs: Any, rank: int) -> set[int]:
    """Those that x.sum(...) or x.mean(...) runs over: args begins with x, of that rank."""
    dim = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
    if len(args) > 2 and all(type(d) is int for d in args[1:]):
        dim = args[1:]
    if type(dim) is int:
        return {dim % rank}
    return {d % rank for d in dim} if isinstance(dim, (list, tuple)) and dim else set(range(rank))


def moved(name: str, args: Any, kwargs: Any, before: Tensor, out: Tensor, axis: int) -> int | None:
    """Where `axis` of `before`, the first argument, is in `out`; None where it is gone, or that is not clear."""
    rank = before.dim()
    dims = [d for d in (args[1] if len(args) == 2 and isinstance(args[1], (list, tuple)) else args[1:])
            if type(d) is int]  # fmt: skip
    dims += [kwargs[k] for k in ("dim", "dim0", "dim1") if type(kwargs.get(k)) is int]
    if name in ("transpose", "swapaxes") and len(dims) == 2:
        one, two = (d % rank for d in dims)
        return {one: two, two: one}.get(axis, axis)
    if name == "get" and rank > 1 and out.shape == (*before.shape[:-2], before.shape[-1], before.shape[-2]):
        return {rank - 1: rank - 2, rank - 2: rank - 1}.get(axis, axis)  # .mT
    if name == "permute" and len(dims) == rank:
        return [d % rank for d in dims].index(axis)
    if name == "unsqueeze" and dims:
        return axis + (dims[0] % (rank + 1) <= axis)
    if name == "squeeze" and dims:
        gone = dims[0] % rank
        return axis if before.shape[gone] != 1 else None if gone == axis else axis - (gone < axis)
    if name in ("expand", "expand_as"):
        return axis + out.dim() - rank
    if name in ("unbind", "select") and (dims or name == "unbind"):
        gone = dims[0] % rank if dims else 0
        return None if gone == axis else axis - (gone < axis)
    if name in ("chunk", "split") and out.dim() == rank:
        return axis
    if name == "getitem" and len(args) > 1:
        return _indexed(args[1], rank, axis)
    return axis if name in EACH_VALUE and out.shape == before.shape else None


def _indexed(index: Any, rank: int, axis: int) -> int | None:
    """The same of x[index]."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(
        not (part is None or part is ... or type(part) is int or isinstance(part, slice)) for part in parts
    ):
        return None
    taken = sum(part is not None and part is not ... for part in parts)
    place = next((i for i, part in enumerate(parts) if part is ...), len(parts))
    parts[place : place + 1] = [slice(None)] * (rank - taken)
    old = new = 0
    for part in parts:
        if part is None:
            new += 1
        elif old == axis:
            return None if type(part) is int else new
        else:
            new += type(part) is not int
            old += 1
    return None
