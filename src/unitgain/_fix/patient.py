"""The model under repair, with the batch and the loss that it is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .._base import InputError
from .._batch import map_tensors, read_batch
from ..remedies import Change, NormalizeInput
from ..remedies.report import rms
from ..report import Report
from ..rules.flow import loss_of_a_guess

# a loss below this part of a guess's is that of a model that has learned something; the rules take 0.7, but what is
# redrawn by mistake is lost
_GUESS = 0.9


@dataclass(frozen=True)
class Input:
    """The batch as the model gets it, and {input: (shift, scale)} of those that were normalized."""

    batch: Any
    normalized: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)


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
        self.classifies = (report.record.facts.get("loss") or {}).get("kind") == "cross_entropy"

    def untrained(self, report: Report) -> bool:
        """Whether nothing would be lost by drawing weights anew, as far as one can tell from outside."""
        for name, buffer in self.model.named_buffers():
            if name.endswith("num_batches_tracked") and bool(buffer > 0):
                return False
        facts = report.record.facts
        loss = (facts.get("loss") or {}).get("value")
        return not (isinstance(loss, float) and loss < _GUESS * loss_of_a_guess(facts))

    def normalize_input(self, name: str | None) -> Change:
        """Gives an input of the batch mean 0 and standard deviation 1, by channel where it has channels. name: as the
        finding calls it; where the batch has none of that name, its only floating input.

        Raises InputError if there is no such input.
        """
        inputs = read_batch(self.batch, self.model).floating()
        if name not in inputs and len(inputs) == 1:
            name = next(iter(inputs))
        if name not in inputs:
            raise InputError(
                f"batch: it has no floating-point input called {name}; it has {', '.join(inputs) or 'none'}"
            )
        tensor = inputs[name]
        transform = NormalizeInput.of(tensor)
        normalized = transform(tensor)
        batch = map_tensors(self.batch, lambda t: normalized if t is tensor else t)
        done = {**self.input.normalized, name: (_values(transform.mean), _values(transform.std))}
        self.input = Input(batch, done)
        return Change(name, rms(tensor), rms(normalized), "mean 0 and standard deviation 1")


def _values(tensor: Tensor) -> tuple[float, ...]:
    return tuple(float(v) for v in tensor.flatten())
