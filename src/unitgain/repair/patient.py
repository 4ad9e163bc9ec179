"""The model under repair, with the batch and the loss that it is judged by."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..report import Report

_GUESS = 0.9  # a loss below this part of ln(C) is not that of a guess: the model has learned something


class Patient:
    """What a remedy works on. `shift` and `scale` are set once the inputs have been normalized."""

    def __init__(self, model: nn.Module, batch: Any, loss: Any):
        self.model = model
        self.batch = batch
        self.loss = loss
        self.shift: tuple[float, ...] | None = None
        self.scale: tuple[float, ...] | None = None

    def untrained(self, report: Report) -> bool:
        """Whether nothing would be lost by drawing weights anew, as far as one can tell from outside."""
        for name, buffer in self.model.named_buffers():
            if name.endswith("num_batches_tracked") and bool(buffer > 0):
                return False
        facts = report.record.facts
        loss, classes = (facts.get("loss") or {}).get("value"), (facts.get("target") or {}).get("classes")
        kind = (facts.get("loss") or {}).get("kind")
        if kind == "cross_entropy" and isinstance(loss, float) and isinstance(classes, (int, float)):
            return not (math.isfinite(loss) and classes >= 2 and loss < _GUESS * math.log(classes))
        return True

    def normalize_input(self) -> tuple[Tensor, Tensor]:
        """Gives the floating input of the batch mean 0 and standard deviation 1; returns (shift, scale).

        Per channel for images (N, C, H, W) and the like, over everything for the rest.
        Raises InputError if the batch does not hold exactly one floating input.
        """
        place, tensor = _floating_input(self.batch)
        axes = [0, *range(2, tensor.dim())] if tensor.dim() >= 4 else list(range(tensor.dim()))
        std, mean = torch.std_mean(tensor.double(), dim=axes, keepdim=True, correction=0)
        std = torch.where(std > 1e-12, std, torch.ones_like(std))
        normalized = ((tensor - mean.to(tensor)) / std.to(tensor)).to(tensor.dtype)
        self.batch = _with_input(self.batch, place, normalized)
        self.shift, self.scale = _values(mean), _values(std)
        return mean, std


def _values(tensor: Tensor) -> tuple[float, ...]:
    return tuple(float(v) for v in tensor.flatten())


def _floating_input(batch: Any) -> tuple[Any, Tensor]:
    """(its place in the batch, the tensor)."""
    if isinstance(batch, Tensor):
        return None, batch
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and isinstance(batch[0], Tensor):
        if batch[0].is_floating_point():
            return 0, batch[0]
    elif hasattr(batch, "keys"):
        found = [k for k in batch.keys() if isinstance(batch[k], Tensor) and batch[k].is_floating_point()]  # noqa: SIM118
        if len(found) == 1:
            return found[0], batch[found[0]]
    raise InputError("batch: one floating-point input was expected, to be normalized")


def _with_input(batch: Any, place: Any, tensor: Tensor) -> Any:
    if place is None:
        return tensor
    if isinstance(batch, (tuple, list)):
        return (tensor, *batch[1:])
    return {**{key: batch[key] for key in batch.keys()}, place: tensor}  # noqa: SIM118
