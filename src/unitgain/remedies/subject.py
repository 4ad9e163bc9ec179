"""What a remedy works on: a model with its batch and its loss, and the way back from whatever is done to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from .._base import InputError
from .._batch import Batch, map_tensors, opened, read_batch
from .._run import Snapshot
from .report import Change, rms
from .structure import NormalizeInput


@dataclass(frozen=True)
class Input:
    """The batch as the model gets it, and {input: its transform} of those that were normalized."""

    batch: Any
    transforms: Mapping[str, NormalizeInput] = field(default_factory=dict)

    @property
    def normalized(self) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
        """{input: (shift, scale)}"""
        return {name: (_values(t.mean), _values(t.std)) for name, t in self.transforms.items()}


@dataclass(frozen=True)
class State:
    """A subject as it was; restore() puts the model and its optimizers back bit for bit, and the batch."""

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
    optimizers  those of the caller's, which a remedy may change too
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Any,
        loss: Any,
        *,
        classifies: bool = False,
        optimizers: Iterable[Optimizer] = (),
    ):
        self.model = model
        self.optimizers = tuple(optimizers)
        self.input = Input(opened(batch, model))
        self.loss = loss
        self.classifies = classifies

    @property
    def batch(self) -> Any:
        return self.input.batch

    def state(self) -> State:
        return State(self, Snapshot(self.model, *self.optimizers), self.input)

    def as_input(self, batch: Batch) -> Batch:
        """A further batch, normalized as this one is."""
        floating = batch.floating()
        return batch.with_inputs(
            {name: t(floating[name]) for name, t in self.input.transforms.items() if name in floating}
        )

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
        self.input = Input(batch, {**self.input.transforms, name: transform})
        return Change(name, rms(tensor), rms(normalized), "mean 0 and standard deviation 1")


def _values(tensor: Tensor) -> tuple[float, ...]:
    return tuple(float(v) for v in tensor.flatten())
