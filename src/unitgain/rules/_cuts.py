"""Where a gradient was cut, in words."""

from __future__ import annotations

from collections.abc import Sequence

from ..record import CutFacts
from ._view import View

_SPELLED = {"no_grad": "torch.no_grad()", "data": ".data", "tensor": "torch.tensor()"}
_CUT_ONLY = {"detach", "detach_", "data", "no_grad"}
_LEAVE_TORCH = {
    "item", "tolist", "numpy", "tensor", "as_tensor", "from_numpy", "asarray", "FloatTensor",
    "__float__", "__int__", "__array__", "__index__",
}  # fmt: skip


def cut_of(view: View, names: Sequence[str]) -> CutFacts | None:
    """The cut behind which the first of these parameters lies."""
    return next((cut for cut in view.facts.gradients.cuts if names[0] in cut.hides), None)


def in_words(cut: CutFacts) -> str:
    """As in ".argmax() at train.py:12 in loss"."""
    function = _SPELLED.get(cut.function, f".{cut.function}()")
    return function + (f" at {cut.where}" if cut.where else "")


def without(cut: CutFacts) -> str:
    """What to do about the cut: take it away, stay with tensors, or write something with a slope in its place."""
    if cut.function in _CUT_ONLY:
        return f"Take away {in_words(cut)}."
    if cut.function in _LEAVE_TORCH:
        return f"Compute with tensors throughout, without {in_words(cut)}."
    return (
        f"Put something with a slope in the place of {in_words(cut)}, probabilities in that of classes say."
    )
