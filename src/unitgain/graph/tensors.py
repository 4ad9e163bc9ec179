"""Finding the tensors in what modules take and return."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor


def tensors_in(value: Any, depth: int = 4) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples, mappings and dataclasses, first come first.

    >>> import torch
    >>> [t.numel() for t in tensors_in([torch.ones(1), {"more": (torch.ones(2), "text")}])]
    [1, 2]
    """
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item, depth - 1)
    elif depth and isinstance(values := getattr(value, "values", None), Callable):
        for item in values():
            yield from tensors_in(item, depth - 1)
    elif depth and dataclasses.is_dataclass(value) and not isinstance(value, type):
        for name in fields_of(value):
            yield from tensors_in(getattr(value, name, None), depth - 1)


def fields_of(value: Any) -> list[str]:
    """Names of a dataclass instance's fields."""
    return [field.name for field in dataclasses.fields(value)]


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """() for a nested tensor, whose rows differ in length."""
    return () if tensor.is_nested else tuple(tensor.shape)


def dtype_of(tensor: Tensor) -> str:
    """ "float32" """
    return str(tensor.dtype).removeprefix("torch.")
