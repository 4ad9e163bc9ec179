"""Where a gradient was cut, in words."""

from __future__ import annotations

from collections.abc import Sequence

from ..record import CutFacts
from ._view import View

_SPELLED = {"no_grad": "torch.no_grad()", "data": ".data", "tensor": "torch.tensor()"}


def cut_of(view: View, names: Sequence[str]) -> CutFacts | None:
    """The cut behind which the first of these parameters lies."""
    return next((cut for cut in view.facts.gradients.cuts if names[0] in cut.hides), None)


def in_words(cut: CutFacts) -> str:
    """As in ".argmax() at train.py:12 in loss"."""
    function = _SPELLED.get(cut.function, f".{cut.function}()")
    return function + (f" at {cut.where}" if cut.where else "")
