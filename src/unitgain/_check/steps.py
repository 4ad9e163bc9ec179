"""Outputs by time step, and the gradient of a loss with respect to outputs: what tells which step is compared with
which."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._batch import TARGET_NAMES, Batch, Judged, find_logits, own_loss
from .._run import Run, random_states
from .asking import put_in


def by_time(tensor: Tensor, axis: int, steps: int, examples: int, least: int | None = None) -> Tensor | None:
    """(steps, examples, ...), where `axis` (0 or 1) is that of time in the input; None where it cannot be told.

    least  fewer steps of the output are taken for its time too, down to this number: models drop their last step
    """
    sizes = tuple(tensor.shape)
    for found in range(steps, (least or steps) - 1, -1):
        first, second = (found, examples) if axis == 0 else (examples, found)
        if len(sizes) == 3 and axis == 1 and sizes == (examples, found, found):
            return None  # as many classes as steps
        if len(sizes) > 1 and sizes[:2] == (first, second):
            return tensor.movedim(axis, 0)
        if len(sizes) > 2 and axis == 1 and sizes[0] == examples and sizes[-1] == found:
            return tensor.movedim(-1, 0)  # (examples, classes, time)
        if sizes and sizes[0] == first * second:
            return tensor.reshape(first, second, *sizes[1:]).movedim(axis, 0)
    return None


def given(batch: Batch) -> dict[str, Tensor]:
    """The inputs, without what the model takes as labels."""
    names = TARGET_NAMES if batch.passed is None else (*TARGET_NAMES, batch.passed)
    ends = tuple(f"input[{name}{end}" for name in names for end in ".]")
    return {n: x for n, x in batch.inputs().items() if not n.startswith(ends)}


@dataclass(frozen=True)
class Slope:
    """The gradient of a loss with respect to the outputs."""

    model: nn.Module
    done: Judged
    run: Run

    def __call__(self, batch: Batch) -> Tensor | None:
        """In evaluation mode, of a batch with these labels; None where it cannot be computed. `run` is rewound."""
        fresh = batch.clone()
        try:
            self.model.eval()
            with torch.enable_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outputs = self.model(*fresh.args, **fresh.kwargs)
                logits = find_logits(outputs)
                if logits is None or not logits.dim():
                    return None
                if self.done.function is None:
                    loss = own_loss(outputs, anywhere=True, target=fresh.labels)
                    return None if loss is None else _gradient(loss, logits)
                by_name = self.done.compared is self.done.logits
                return self._of_function(logits if by_name else outputs, logits, fresh.labels)
        except Exception:  # the caller's own code, in evaluation mode or on part of the batch
            return None
        finally:
            self.run.rewind(quick=True)

    def _of_function(self, outputs: Any, logits: Tensor, labels: Any) -> Tensor | None:
        assert self.done.function is not None
        leaf = logits.detach().requires_grad_()
        with random_states.kept():
            loss = self.done.function(put_in(outputs, logits, leaf), labels)
        return _gradient(loss, leaf)


def _gradient(loss: Tensor, outputs: Tensor) -> Tensor | None:
    (found,) = torch.autograd.grad(loss.reshape(()), [outputs], allow_unused=True)
    return found
