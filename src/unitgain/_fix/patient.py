"""The model under repair, with the batch and the loss that it is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .._base import InputError
from ..remedies import Change, NormalizeInput
from ..remedies.report import rms
from ..report import Report

# a loss below this part of a guess's is that of a model that has learned something; the rules take 0.7, but what is
# redrawn by mistake is lost
_GUESS = 0.9


@dataclass(frozen=True)
class Input:
    """The batch as the model gets it, and how its input was normalized, if it was."""

    batch: Any
    shift: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None


class Patient:
    """What a remedy works on; `input` is replaced as a whole, so that it can be put back."""

    def __init__(self, model: nn.Module, batch: Any, loss: Any):
        self.model = model
        self.input = Input(batch)
        self.loss = loss
        self.classifies = False  # by cross entropy; known after the first check

    @property
    def batch(self) -> Any:
        return self.input.batch

    def read(self, report: Report) -> None:
        """Takes over what the first check found out about the loss."""
        self.classifies = report.record.facts.loss.kind == "cross_entropy"

    def untrained(self, report: Report) -> bool:
        """Whether nothing would be lost by drawing weights anew, as far as one can tell from outside."""
        for name, buffer in self.model.named_buffers():
            if name.endswith("num_batches_tracked") and bool(buffer > 0):
                return False
        facts = report.record.facts
        loss = facts.loss.value
        return loss is None or not loss < _GUESS * facts.loss_of_a_constant

    def normalize_input(self) -> Change:
        """Gives the floating input of the batch mean 0 and standard deviation 1, by channel where it has channels.

        Raises InputError if the batch does not hold exactly one floating input.
        """
        place, tensor = _floating_input(self.batch)
        transform = NormalizeInput.of(tensor)
        normalized = transform(tensor)
        batch = _with_input(self.batch, place, normalized)
        self.input = Input(batch, _values(transform.mean), _values(transform.std))
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
