"""What a remedy works on: a model with its batch and its loss, and the way back from whatever is done to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .._base import InputError
from .report import Change, rms
from .snapshot import Snapshot
from .structure import NormalizeInput


@dataclass(frozen=True)
class Input:
    """The batch as the model gets it, and how its input was normalized, if it was."""

    batch: Any
    shift: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None


@dataclass(frozen=True)
class State:
    """A subject as it was; restore() puts the model back bit for bit, and the batch."""

    subject: Subject
    snapshot: Snapshot
    input: Input

    def restore(self) -> None:
        self.snapshot.restore()
        self.subject.input = self.input


class Subject:
    """model, loss  as they are given to `check`
    input       the batch; a remedy that normalizes it replaces it as a whole
    classifies  whether the loss is cross entropy
    """

    def __init__(self, model: nn.Module, batch: Any, loss: Any, *, classifies: bool = False):
        self.model = model
        self.input = Input(batch)
        self.loss = loss
        self.classifies = classifies

    @property
    def batch(self) -> Any:
        return self.input.batch

    def state(self) -> State:
        return State(self, Snapshot(self.model), self.input)

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
