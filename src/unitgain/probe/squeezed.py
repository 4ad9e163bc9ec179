"""Whether probabilities go into cross entropy, which applies a softmax itself. For rule UG103 of a Probe.

A Probe sees no loss function, but what comes back: the gradient of a cross entropy with respect to what it is given, p,
is softmax(p) - 1 at the label and softmax(p) elsewhere, times a number for each row. If p are not negative and sum to
one, the model ends in a softmax already. A squared error of probabilities has p in the place of softmax(p): where the
two are too near each other to be told apart, as for two classes and an even guess, nothing is said.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MOST = 8  # batches that are looked at
_SUM = 1e-3  # what rows of probabilities may be off from one, by rounding
_CLOSE = 1e-3  # of a row's largest value: rounding of a gradient
_APART = 10.0  # times that: by so much the two differ in some row, or it is not known which it is


class Squeezed:
    """Counts batches; nothing waits for an accelerator before `again` is called."""

    def __init__(self) -> None:
        self._seen: list[Tensor] = []

    @property
    def wanted(self) -> bool:
        return len(self._seen) < _MOST

    def saw(self, output: Tensor, gradient: Tensor) -> None:
        """Both (N, C)."""
        if not self.wanted or output.dim() != 2 or output.shape[1] < 3 or gradient.shape != output.shape:
            return
        p, g = output.detach().float(), gradient.detach().float()
        probabilities = (p >= 0).all() & ((p.sum(1) - 1).abs() < _SUM).all()
        label = g.argmin(1, keepdim=True)
        size = -g.gather(1, label).clamp(max=-1e-30)
        of_entropy, of_error = (_pattern(values, label) for values in (p.softmax(1), p))
        fits = ((g / size - of_entropy).abs() < _CLOSE).all()
        told = ((of_entropy - of_error).abs() > _APART * _CLOSE).any()
        self._seen.append(probabilities & fits & told)

    def again(self) -> tuple[int, int]:
        """(batches that were looked at, those in which probabilities went into a cross entropy)."""
        return len(self._seen), sum(bool(flag) for flag in self._seen)


def _pattern(values: Tensor, label: Tensor) -> Tensor:
    """values - 1 at the label, over the size of that."""
    hit = values.scatter_add(1, label, -torch.ones_like(values[:, :1]))
    return hit / -hit.gather(1, label).clamp(max=-1e-30)
