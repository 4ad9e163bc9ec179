"""A state (nested dicts and lists of numbers, strings and tensors) as JSON plus named tensors, and back.

What JSON does not have is written as an object with one key that begins with "$": {"$tensor": "3"} is the fourth
tensor, {"$tuple": [...]} a tuple, {"$float": "nan"} a float, {"$dict": [[key, value], ...]} a mapping whose keys
are not strings. Floats keep every bit, since Python writes the shortest text that reads back as the same number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._base import InputError


def pack(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """(JSON value, {name: tensor on the CPU}). A tensor that occurs twice (tied weights) is stored once.

    Raises InputError, with the place, for what cannot be stored.

    >>> pack({"lr": 0.1, "betas": (0.9, math.inf), 3: torch.ones(2)})[0]["$dict"][1]
    ['betas', {'$tuple': [0.9, {'$float': 'inf'}]}]
    """
    tensors: dict[str, Tensor] = {}
    known: dict[Any, str] = {}

    def store(tensor: Tensor) -> Any:
        key = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if key in known and tensor.numel():
            return {"$tensor": known[key]}
        name = known[key] = str(len(tensors))
        tensors[name] = tensor.detach()
        return {"$tensor": name}

    def walk(value: Any, place: str) -> Any:
        if isinstance(value, (bool, int, str, type(None))) and type(value).__module__ == "builtins":
            return value
        if isinstance(value, np.generic):
            return walk(value.item(), place)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
        if isinstance(value, Tensor):
            if value.layout is not torch.strided or value.is_complex() or value.is_quantized:
                raise InputError(f"state{place}: a {value.layout} {value.dtype} tensor cannot be stored")
            return store(value)
        if isinstance(value, Counter):
            return {"$counter": [[walk(k, place), v] for k, v in value.items()]}
        if isinstance(value, Mapping):
            if all(isinstance(k, str) and not k.startswith("$") for k in value):
                return {k: walk(v, f"{place}.{k}") for k, v in value.items()}
            return {"$dict": [[walk(k, place), walk(v, f"{place}.{k}")] for k, v in value.items()]}
        if isinstance(value, tuple):
            return {"$tuple": [walk(v, f"{place}[{i}]") for i, v in enumerate(value)]}
        if isinstance(value, list):
            return [walk(v, f"{place}[{i}]") for i, v in enumerate(value)]
        if isinstance(value, (bytes, bytearray)):
            return {"$bytes": store(torch.frombuffer(bytearray(value) or bytearray(1), dtype=torch.uint8)),
                    "length": len(value)}  # fmt: skip
        if isinstance(value, torch.dtype):
            return {"$dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"$device": str(value)}
        raise InputError(
            f"state{place}: a {type(value).__name__} cannot be stored; states are made of numbers, strings, lists, "
            "dicts and tensors"
        )

    return walk(state, ""), _separate(tensors)


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors that own their memory, as safetensors requires."""
    separate: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = tensor.cpu().contiguous()
        views_more = plain.untyped_storage().nbytes() != plain.numel() * plain.element_size()
        separate[name] = plain.clone() if views_more else plain
    return separate


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The state that `pack` took apart. Raises KeyError, ValueError or TypeError for what it did not write."""
    if isinstance(value, list):
        return [unpack(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    if not tag.startswith("$"):
        return {k: unpack(v, tensors) for k, v in value.items()}
    inner = value[tag]
    if tag == "$tensor":
        return tensors[inner]
    if tag == "$float":
        return float(inner)
    if tag == "$tuple":
        return tuple(unpack(v, tensors) for v in inner)
    if tag == "$dict":
        return {unpack(k, tensors): unpack(v, tensors) for k, v in inner}
    if tag == "$counter":
        return Counter({unpack(k, tensors): v for k, v in inner})
    if tag == "$bytes":
        return bytes(unpack(inner, tensors).tolist())[: value["length"]]
    if tag == "$dtype":
        return getattr(torch, inner)
    if tag == "$device":
        return torch.device(inner)
    raise ValueError(f"unknown tag {tag}")
