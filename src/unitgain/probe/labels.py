"""Labels of a classifier, read off the gradient of its logits: are batches of one class only, and how good is a guess?

The gradient of a cross entropy with a softmax is p - 1 at the label's logit and p at all others, so that each row has a
single negative value, at its label, and sums to zero. A Probe need not see the loss function for that. Other gradients
look otherwise in some row, and are left out; so are batches whose rows a smoothed label makes negative elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..record import LabelFacts

FEWEST = 16  # labels of a batch: fewer are of one class by chance
MOST_BATCHES = 4096  # kept, newest first: 16 bytes each, on the gradient's device
_SMALL, _TOGETHER = 1 << 14, 16  # values of a gradient, and how many such wait for one another
_ROUNDING = 1e-2  # of a row's magnitude: bfloat16's three digits


class Labels:
    """Counts sampled batches; nothing waits for an accelerator before `facts` is called."""

    def __init__(self) -> None:
        self._seen: list[Tensor] = []
        self._waiting: list[Tensor] = []  # small ones, counted together
        self._known: list[tuple[bool, int]] = []
        self._counts = torch.zeros(0)  # (C,) labels of each class

    def saw(self, gradient: Tensor) -> None:
        """gradient: of the output, (N, C)."""
        if gradient.dim() != 2 or gradient.shape[0] < FEWEST or gradient.shape[1] < 2:
            return
        rows = gradient.detach()
        if rows.device.type != "cpu" or rows.numel() > _SMALL:
            self._count(rows[None])
            return
        if self._waiting and (rows.shape, rows.dtype) != (self._waiting[0].shape, self._waiting[0].dtype):
            self._count_waiting()
        self._waiting.append(rows.clone())
        if len(self._waiting) == _TOGETHER:
            self._count_waiting()

    def _count_waiting(self) -> None:
        if self._waiting:
            self._count(torch.stack(self._waiting))
            self._waiting.clear()

    def _count(self, gradients: Tensor) -> None:
        """gradients: of K batches, (K, N, C)."""
        rows = gradients.float()
        label = rows.argmin(2)  # (K, N)
        negative = (rows < 0).sum(2) == 1
        balanced = rows.sum(2).abs() <= _ROUNDING * rows.abs().sum(2)
        classifies = (negative & balanced).all(1)  # (K,)
        same = (label == label[:, :1]).all(1)
        self._seen.append(torch.stack([classifies.long(), same.long(), label[:, 0]], 1))
        if self._counts.shape[0] != rows.shape[2]:
            self._counts = rows.new_zeros(rows.shape[2])
        counted = classifies.float()[:, None].expand(label.shape)
        self._counts.index_add_(0, label.reshape(-1), counted.reshape(-1))
        if len(self._seen) >= MOST_BATCHES // _TOGETHER:
            self._read()

    def _read(self) -> None:
        rows = [row for seen in self._seen for row in seen.tolist()]
        self._seen.clear()
        self._known = [*self._known, *((bool(same), label) for ok, same, label in rows if ok)][-MOST_BATCHES:]

    def facts(self) -> LabelFacts:
        self._count_waiting()
        self._read()
        if not self._known:
            return LabelFacts()
        of_one = [label for same, label in self._known if same]
        shares = self._counts[self._counts > 0].double() / self._counts.sum()
        guess = -float((shares * shares.log()).sum())
        return LabelFacts(len(self._known), len(of_one), len(set(of_one)), guess)
