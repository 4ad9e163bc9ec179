"""The model under repair, with the batch and the loss that it is judged by."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from ..errors import InputError
from ..remedies import Change, NormalizeInput
from ..remedies.report import rms
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
        self.classifies = False  # by cross entropy; known after the first check

    def read(self, report: Report) -> None:
        """Takes over what the first check found out about the loss."""
        self.classifies = (report.record.facts.get("loss") or {}).get("kind") == "cross_entropy"

    def untrained(self, report: Report) -> bool:
        """Whether nothing would be lost by drawing weights anew, as far as one can tell from outside."""
        for name, buffer in self.model.named_buffers():
            if name.endswith("num_batches_tracked") and bool(buffer > 0):
                return False
        facts = report.record.facts
        loss, classes = (facts.get("loss") or {}).get("value"), (facts.get("target") or {}).get("classes")
        if self.classifies and isinstance(loss, float) and isinstance(classes, (int, float)):
            return not (math.isfinite(loss) and classes >= 2 and loss < _GUESS * math.log(classes))
        return True

    def normalize_input(self) -> Change:
        """Gives the floating input of the batch mean 0 and standard deviation 1, by channel where it has channels.

        Raises InputError if the batch does not hold exactly one floating input.
        """
        place, tensor = _floating_input(self.batch)
        transform = NormalizeInput.of(tensor)
        normalized = transform(tensor)
        self.batch = _with_input(self.batch, place, normalized)
        self.shift, self.scale = _values(transform.mean), _values(transform.std)
        return Change("input", rms(tensor), rms(normalized), "mean 0 and standard deviation 1")


def _values(tensor: Tensor) -> tuple[float, ...]:
    return tuple(float(v) for v in tensor.flatten())


def _floating_input(batch: Any) -> tuple[Any, Tensor]:
    """(its place in the batch, the tensor)."""
    if isinstance(batch, Tensor):
        return None, batch
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and isinstance(batch[0], Tensor):
        if batch[0].is_floating_point():
            return 0, batch[0]
    elif not isinstance(batch, (tuple, list)) and hasattr(batch, "keys"):
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
