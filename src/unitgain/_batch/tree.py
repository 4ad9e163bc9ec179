"""Nested containers of tensors: what they hold, and how to make each of them anew.

Containers are tuples (named ones too), lists, mappings and what behaves like one (Hugging Face's BatchEncoding and
ModelOutput), dataclasses, torch's PackedSequence, and plain objects with tensors among their attributes (a batch class
of one's own, a key-value cache). Everything else is a leaf.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

DEEPEST = 16  # levels of nesting; no batch of a person has more, and an object may hold itself
_OBJECT_DEPTH = 3  # levels below a plain object at which tensors are looked for
_NEVER = (
    type,
    nn.Module,
    torch.optim.Optimizer,
    torch.Generator,
    np.ndarray,
)  # no containers, whatever they hold


def is_mapping(value: Any) -> bool:
    """Whether it has keys and items: dict, UserDict, BatchEncoding, ModelOutput, ..."""
    if isinstance(value, Mapping):
        return True
    return (
        callable(getattr(value, "keys", None))
        and hasattr(value, "__getitem__")
        and not isinstance(value, _NEVER)
    )


def has_fields(value: Any) -> bool:
    """Whether it is a dataclass's instance, or a plain object with tensors among its attributes."""
    if isinstance(value, (Tensor, *_NEVER)):
        return False
    return dataclasses.is_dataclass(value) or _holds_tensors(value, _OBJECT_DEPTH)


def parts(value: Any) -> list[tuple[Any, Any]] | None:
    """(key, part) of everything in a container, in order; None for a leaf. Keys are indices, keys or field names."""
    if isinstance(value, (Tensor, str, bytes)) or value is None:
        return None
    if isinstance(value, PackedSequence):  # what else it has are lengths and an order
        return [(0, value.data)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value))  # type: ignore[attr-defined]
    if isinstance(value, (tuple, list)):
        return list(enumerate(value))
    if is_mapping(value):
        return [(key, value[key]) for key in value.keys()]  # noqa: SIM118 (a BatchEncoding iterates otherwise)
    if has_fields(value):
        return [(name, getattr(value, name)) for name in _field_names(value) if hasattr(value, name)]
    return None


def rebuilt(value: Any, new: list[Any]) -> Any:
    """A container of the same type with these parts in place of its own (see `parts`)."""
    if isinstance(value, PackedSequence):
        return value._replace(data=new[0])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return value._make(new)  # type: ignore[attr-defined]
    if isinstance(value, (tuple, list)):
        return _sequence(value, new)
    keys = [key for key, _ in parts(value) or ()]
    if type(value) is dict:
        return dict(zip(keys, new))
    if is_mapping(value):
        return _mapping(value, keys, new)
    fresh = copy.copy(value)
    for name, part in zip(keys, new):
        object.__setattr__(fresh, name, part)  # also where a dataclass is frozen
    return fresh


def map_tensors(
    value: Any,
    function: Callable[[Any], Any],
    leaf: Callable[[Any], Any] | None = None,
    whole: tuple[type, ...] = (Tensor,),
    depth: int = DEEPEST,
) -> Any:
    """The same nesting, every container of its own type and made anew, with every tensor replaced.

    leaf   likewise for what is neither a tensor nor a container; None leaves it as it is
    whole  types that the function takes: PackedSequence too, where not only its values are meant

    >>> map_tensors({"x": [torch.ones(2)], "n": 3}, lambda t: t.tolist())
    {'x': [[1.0, 1.0]], 'n': 3}
    """
    if isinstance(value, whole):
        return function(value)
    inner = parts(value) if depth else None
    if inner is None:
        return value if leaf is None else leaf(value)
    return rebuilt(value, [map_tensors(part, function, leaf, whole, depth - 1) for _, part in inner])


def named_tensors(value: Any, depth: int = DEEPEST) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """(the keys that lead to it, tensor) of every tensor, in order."""
    if isinstance(value, Tensor):
        yield (), value
    elif depth:
        for key, part in parts(value) or ():
            for path, tensor in named_tensors(part, depth - 1):
                yield (key, *path), tensor


def tensors_in(value: Any, depth: int = 4) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples, mappings and dataclasses, first come first. Plain objects are not looked
    into: this is asked of all that goes into and comes out of every module while a Probe measures."""
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item, depth - 1)
    elif depth and isinstance(values := getattr(value, "values", None), Callable):
        for item in values():
            yield from tensors_in(item, depth - 1)
    elif depth and dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name, None), depth - 1)


def named_inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of what goes into a model: the names that inputs have in a Record and in findings.

    Positional tensors are numbered: input, input[1], input[2]; those under a key, a field or a keyword are called by
    it: input[mask], input[boxes.0].

    >>> x = torch.ones(1)
    >>> [name for name, _ in named_inputs((x, [x, x], {"mask": x}), {"boxes": (x, x)})]
    ['input', 'input[1]', 'input[2]', 'input[mask]', 'input[boxes.0]', 'input[boxes.1]']
    """
    number = 0
    taken: set[str] = set()
    for path, tensor in (*((p[1:], t) for p, t in named_tensors(args)), *named_tensors(kwargs)):
        if any(isinstance(key, str) for key in path):
            name = f"input[{'.'.join(map(str, path))}]"
        else:
            name = f"input[{number}]" if number else "input"
            number += 1
        while name in taken:  # two positional mappings with the same keys
            name += "'"
        taken.add(name)
        yield name, tensor


def _sequence(value: Any, new: list[Any]) -> Any:
    if type(value) in (tuple, list):
        return type(value)(new)
    if isinstance(value, list):
        fresh = copy.copy(value)
        fresh[:] = new
        return fresh
    try:
        return type(value)(new)
    except TypeError:  # a tuple that is made in another way
        return tuple.__new__(type(value), new)


def _mapping(value: Any, keys: list[Any], new: list[Any]) -> Any:
    try:
        fresh = copy.copy(value)
        for key, part in zip(keys, new):
            fresh[key] = part
    except Exception:  # a mapping that cannot be copied or written to, like MappingProxyType
        return dict(zip(keys, new))
    return fresh


def _field_names(value: Any) -> list[str]:
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    return list(vars(value))


def _holds_tensors(value: Any, depth: int) -> bool:
    names = getattr(value, "__dict__", None)
    if not names or not isinstance(names, dict) or callable(value) or isinstance(value, _NEVER):
        return False
    return any(_has_tensor(part, depth) for part in names.values())


def _has_tensor(value: Any, depth: int) -> bool:
    if isinstance(value, Tensor):
        return True
    if not depth:
        return False
    if isinstance(value, (tuple, list)):
        return any(_has_tensor(item, depth - 1) for item in value)
    if isinstance(value, dict):
        return any(_has_tensor(item, depth - 1) for item in value.values())
    return _holds_tensors(value, depth - 1)
