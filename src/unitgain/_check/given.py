"""Whether the batches of a rehearsal are all the same, or all of one class. For rules UG113 and UG206."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .._batch import Batch, tensors_in
from ..record import BatchesFacts

_FEWEST = 16  # labels of a batch


class Given:
    """data: from which they come, where there is any."""

    def __init__(self, data: Iterable[Any] | None):
        self._several = data is not None and _length(data) != 1
        self._first: list[Tensor] | None = None
        self._same = True
        self._labels: set[float] | None = set()
        self._count = 0

    def see(self, batch: Batch, fresh: bool) -> None:
        """fresh: one of the data's, not the one that is checked."""
        self._note_label(batch)
        if not fresh:
            return
        self._count += 1
        if self._same:
            tensors = [*batch.inputs().values(), *tensors_in(batch.labels)]
            if self._first is None:
                self._first = [t.clone() for t in tensors]
            self._same = _equal(self._first, tensors)

    def _note_label(self, batch: Batch) -> None:
        target = batch.labels
        if self._labels is None:
            return
        if (
            not isinstance(target, Tensor)
            or target.numel() < _FEWEST
            or bool((target != target.flatten()[0]).any())
        ):
            self._labels = None
            return
        self._labels.add(float(target.flatten()[0]))

    def facts(self) -> BatchesFacts:
        label = next(iter(self._labels)) if self._labels is not None and len(self._labels) == 1 else None
        if not self._several:
            return BatchesFacts()
        return BatchesFacts(
            self._count, self._same and bool(self._first), None if label is None else int(label)
        )


def _length(data: Iterable[Any]) -> int | None:
    try:
        return len(data)  # type: ignore[arg-type]
    except TypeError:  # a stream, or a loader of one
        return None


def _equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other)
    )
