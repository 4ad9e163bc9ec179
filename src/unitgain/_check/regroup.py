"""Batches of another size, made of those that a loader gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from .._base import InputError
from .._batch import Batch, axis_of_examples
from .job import Job


class regrouped:
    """The examples of `data` in batches of `size`; what does not fill one at the end is left out."""

    def __init__(self, data: Iterable[Any], job: Job, size: int):
        self.data, self.job, self.size = data, job, size

    def __iter__(self) -> Iterator[Batch]:
        if self.job.step is not None:
            raise InputError("vary: batch: a step of your own takes batches in a form that cannot be divided")
        waiting: list[Batch] = []
        for given in self.data:
            waiting.append(self.job.read(given))
            while (count := sum(batch.examples or 0 for batch in waiting)) >= self.size:
                whole = together(waiting)
                yield whole.first(self.size)
                waiting = [whole.select(range(self.size, count))] if count > self.size else []


def together(batches: list[Batch]) -> Batch:
    """One batch of the examples of several. What has no axis of examples comes from the first."""
    if len(batches) == 1:
        return batches[0]
    rows: list[list[Tensor]] = []
    for batch in batches:
        row: list[Tensor] = []
        batch.map(lambda tensor, row=row: (row.append(tensor), tensor)[1])
        rows.append(row)
    columns = iter(zip(*rows, strict=True))
    examples = batches[0].examples or 0

    def joined(tensor: Tensor) -> Tensor:
        parts = next(columns)
        axis = axis_of_examples(tensor, examples)
        if axis is None:
            return tensor
        try:
            return torch.cat(parts, axis)
        except RuntimeError as error:
            raise InputError(
                f"vary: batch: batches of different forms cannot be put together: {error}"
            ) from error

    return batches[0].map(joined)
