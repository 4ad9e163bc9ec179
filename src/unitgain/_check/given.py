"""Whether the batches of a rehearsal are all the same or all of one class, and which of them holds NaN or infinity. For
rules UG113, UG202 and UG206."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .._batch import Batch, tensors_in
from ..record import BatchesFacts, BrokenFacts
from ..stats import is_plain

_FEWEST = 16  # labels of a batch
_MOST_EXAMPLES = 20


class GivenBatches:
    """Sees the batches of a rehearsal as they come. data: from which they come, where there is any."""

    def __init__(self, data: Iterable[Any] | None):
        self._several = data is not None and _length(data) != 1
        self._first: list[Tensor] | None = None
        self._same = True
        self._labels: set[float] | None = set()
        self._count = 0
        self._finite, self._broken = True, None

    def see(self, batch: Batch, loss: float | None, from_data: bool) -> None:
        """loss: on it; from_data: not the batch that is checked, which may be one of the data's too."""
        self._note_label(batch)
        if self._finite and loss is not None and not math.isfinite(loss):
            self._finite, self._broken = False, _broken(batch, self._count + 1 if from_data else 0)
        if not from_data:
            return
        self._count += 1
        if self._same:
            tensors = [*batch.inputs().values(), *tensors_in(batch.labels)]
            if self._first is None:
                self._first = [t.clone() for t in tensors]
            self._same = all(map(is_plain, tensors)) and _equal(self._first, tensors)

    def _note_label(self, batch: Batch) -> None:
        target = batch.labels
        if self._labels is None:
            return
        if (
            not isinstance(target, Tensor)
            or not is_plain(target)
            or target.numel() < _FEWEST
            or bool((target != target.flatten()[0]).any())
        ):
            self._labels = None
            return
        self._labels.add(float(target.flatten()[0]))

    def facts(self) -> BatchesFacts:
        if not self._several:
            return BatchesFacts(broken=self._broken)
        labels = self._labels or set()
        label = next((int(one) for one in labels if len(labels) == 1 and one.is_integer()), None)
        return BatchesFacts(self._count, self._same and bool(self._first), label, self._broken)


def _broken(batch: Batch, number: int) -> BrokenFacts | None:
    """NaN or infinity in a batch whose loss is not finite: what the loss can bear (targets that are missing on purpose)
    is not looked for. Minus infinity alone is a mask's."""
    named = {} if number == 0 else batch.inputs()  # the inputs of the batch that is checked are measured
    for name, tensor in (*named.items(), *(("targets", t) for t in tensors_in(batch.labels))):
        if not is_plain(tensor) or not tensor.is_floating_point() or not tensor.dim():
            continue
        bad = tensor.isnan() | (tensor == math.inf)
        if bad.any():
            examples = bad.flatten(1).any(1) if bad.dim() > 1 else bad
            first = examples.nonzero().flatten()[:_MOST_EXAMPLES].tolist()
            return BrokenFacts(number, name, float(bad.double().mean()), tuple(first))
    return None


def _length(data: Iterable[Any]) -> int | None:
    try:
        return len(data)  # type: ignore[arg-type]
    except TypeError:  # a stream, or a loader of one
        return None


def _equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other)
    )
