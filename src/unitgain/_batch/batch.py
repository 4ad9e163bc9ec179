"""The batch in all the shapes that people hold it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError


@dataclass(frozen=True)
class Batch:
    """What goes into the model (args, kwargs) and what its output is compared with (target, may be None)."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    target: Any = None

    def tensors(self) -> list[Tensor]:
        return [t for t in (*self.args, *self.kwargs.values()) if isinstance(t, Tensor)]

    def fresh(self) -> Batch:
        """Copies for one pass: a model may work in place, and gradients of inputs belong to the caller."""
        return Batch(_cloned(self.args), _cloned(self.kwargs), _cloned(self.target))

    @property
    def examples(self) -> int | None:
        """The batch size: the target's first axis, else the first input's."""
        for tensor in (self.target, *self.tensors()):
            if isinstance(tensor, Tensor) and tensor.dim():
                return int(tensor.shape[0])
        return None

    def describe(self) -> str:
        """Shapes and dtypes, for error messages: "(32, 3) int64"."""
        return ", ".join(f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in self.tensors())


def _cloned(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if type(value) in (list, tuple):
        return type(value)(_cloned(item) for item in value)
    if isinstance(value, dict):
        return {key: _cloned(item) for key, item in value.items()}
    return value


def read_batch(batch: Any) -> Batch:
    """A tensor, (inputs, target), (input, input, ..., target), or a mapping of keyword arguments.

    In (inputs, target) the inputs may again be a tuple of several or a mapping. Raises InputError for anything
    else, and for a batch without examples.
    """
    found = _read(batch)
    tensors = found.tensors()
    if not tensors:
        raise InputError(
            f"batch: found no tensor in a {type(batch).__name__}; give a tensor, an (inputs, targets) pair or a "
            "mapping of keyword arguments"
        )
    for tensor in (*tensors, found.target):
        if isinstance(tensor, Tensor) and tensor.numel() == 0:
            raise InputError(
                f"batch: a tensor of shape {tuple(tensor.shape)} is empty; give at least one example"
            )
    return found


def _read(batch: Any) -> Batch:
    if isinstance(batch, Tensor):
        return Batch(args=(batch,))
    if isinstance(batch, Mapping) or (hasattr(batch, "keys") and hasattr(batch, "__getitem__")):
        return Batch(kwargs={str(key): batch[key] for key in batch.keys()})  # noqa: SIM118 (HF's BatchEncoding)
    if isinstance(batch, (tuple, list)):
        if len(batch) == 1:
            return _read(batch[0])
        if len(batch) >= 2:
            *inputs, target = batch
            if not isinstance(target, Tensor) and not isinstance(target, (tuple, list, Mapping)):
                target = _as_tensor(target)
            if len(inputs) == 1 and not isinstance(inputs[0], Tensor):
                inner = inputs[0]
                if isinstance(inner, Mapping):
                    return Batch(kwargs=dict(inner), target=target)
                if isinstance(inner, (tuple, list)):
                    return Batch(args=tuple(inner), target=target)
            return Batch(args=tuple(inputs), target=target)
    raise InputError(
        f"batch: cannot use a {type(batch).__name__}; give a tensor, an (inputs, targets) pair, a tuple of several "
        "inputs and a target, or a mapping of keyword arguments (of a loader: next(iter(loader)); of an array: "
        "torch.from_numpy(array))"
    )


def _as_tensor(value: Any) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"batch: the target is a {type(value).__name__}, not a tensor ({error})") from error


def check_devices(batch: Batch, model: nn.Module) -> None:
    """Raises InputError when the model's parameters and the inputs lie on different devices."""
    parameter = next(model.parameters(), None)
    if parameter is None:
        return
    for tensor in (*batch.tensors(), batch.target):
        if isinstance(tensor, Tensor) and tensor.device != parameter.device and tensor.dim():
            raise InputError(
                f"batch: a tensor of shape {tuple(tensor.shape)} is on {tensor.device}, the model on "
                f"{parameter.device}; move one with .to({str(parameter.device)!r})"
            )
