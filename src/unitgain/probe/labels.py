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
_ROUNDING = 1e-2  # of a row's magnitude: bfloat16's three digits


class Labels:
    """Counts sampled batches; nothing waits for an accelerator before `facts` is called."""

    def __init__(self) -> None:
        self._seen: list[Tensor] = []
        self._known: list[tuple[bool, int]] = []
        self._counts = torch.zeros(0)  # (C,) labels of each class

    def saw(self, gradient: Tensor) -> None:
        """gradient: of the output, (N, C)."""
        if gradient.dim() != 2 or gradient.shape[0] < FEWEST or gradient.shape[1] < 2:
            return
        rows = gradient.detach().float()
        label = rows.argmin(1)
        negative = (rows < 0).sum(1) == 1
        balanced = rows.sum(1).abs() <= _ROUNDING * rows.abs().sum(1)
        classifies = (negative & balanced).all()
        same = (label == label[0]).all()
        self._seen.append(torch.stack([classifies.long(), same.long(), label[0]]))
        if self._counts.shape[0] != rows.shape[1]:
            self._counts = rows.new_zeros(rows.shape[1])
        self._counts.index_add_(0, label, classifies.float().expand(len(label)))
        if len(self._seen) >= MOST_BATCHES:
            self._read()

    def _read(self) -> None:
        rows = [row.tolist() for row in self._seen]
        self._seen.clear()
        self._known = [*self._known, *((bool(same), label) for ok, same, label in rows if ok)][-MOST_BATCHES:]

    def facts(self) -> LabelFacts:
        self._read()
        if not self._known:
            return LabelFacts()
        of_one = [label for same, label in self._known if same]
        shares = self._counts[self._counts > 0].double() / self._counts.sum()
        guess = -float((shares * shares.log()).sum())
        return LabelFacts(len(self._known), len(of_one), len(set(of_one)), guess)
